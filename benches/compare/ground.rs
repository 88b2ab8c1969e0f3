//! What every measurement stands on: a directory of its own, a certificate, the origin, and this
//! program's own place, on the load's core.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};
use tempfile::TempDir;

use crate::Failure;
use crate::options::Options;
use crate::{datagrams, origin};

/// Removed, with what is in it, when dropped.
#[derive(Debug)]
pub(crate) struct Ground {
    dir: TempDir,
    origin: SocketAddr,
    echo: SocketAddr,
    forebay: PathBuf,
    files: u64,
}

/// The core of the proxies, as `taskset -c` reads it.
pub(crate) const PROXY_CORE: &str = "0";
/// The core of load generators and origin, as `taskset -c` reads it.
pub(crate) const LOAD_CORE: &str = "1";

impl Ground {
    /// # Errors
    /// Where the machine has one core only, or files cannot be written below `target`.
    pub(crate) fn lay(options: &Options) -> Result<Self, Failure> {
        let mut load_core = CpuSet::new();
        load_core.set(1);
        sched_setaffinity(None, &load_core)
            .map_err(|error| format!("needs two cores, one for the proxy and one for the load: {error}"))?;
        let dir = tempfile::Builder::new().prefix("compare-").tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        write_certificate(dir.path())?;
        let origin = origin::start()?;
        let echo = datagrams::start_echo()?;
        let forebay = options.forebay.clone();
        Ok(Self { dir, origin, echo, forebay, files: raise_files() })
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn origin(&self) -> SocketAddr {
        self.origin
    }

    /// Sends every datagram back.
    pub(crate) fn echo(&self) -> SocketAddr {
        self.echo
    }

    pub(crate) fn forebay(&self) -> &Path {
        &self.forebay
    }

    /// Descriptors that this process and each child may have open.
    pub(crate) fn files(&self) -> u64 {
        self.files
    }
}

/// A self-signed ECDSA P-256 certificate, in the files that each proxy wants.
fn write_certificate(dir: &Path) -> Result<(), Failure> {
    let made = rcgen::generate_simple_self_signed(["bench.example".to_owned(), "127.0.0.1".to_owned()])?;
    let (cert, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    fs::write(dir.join("cert.pem"), &cert)?;
    fs::write(dir.join("key.pem"), &key)?;
    fs::write(dir.join("both.pem"), cert + &key)?;
    Ok(())
}

/// Raises the soft limit to the hard one, which children inherit.
fn raise_files() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: maximum, maximum };
    let granted = if setrlimit(Resource::Nofile, raised).is_ok() { maximum } else { current };
    granted.unwrap_or(MANY_FILES).min(MANY_FILES)
}

/// Enough for every measurement here; "no limit" is read as this many.
const MANY_FILES: u64 = 65_536;
