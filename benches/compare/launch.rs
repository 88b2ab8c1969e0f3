//! Child processes that cannot outlive this one: each is in a group of its own, is ended when its
//! guard is dropped, and gets SIGTERM from the kernel should this program die without dropping it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::Failure;

/// A command whose process gets SIGTERM when this program ends, pinned to `cores` (a list as
/// `taskset -c` reads it).
pub(crate) fn command(cores: &str, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "--", "taskset", "-c", cores]).arg(program);
    command.stdin(Stdio::null()).process_group(0);
    command
}

/// A process that is ended when this is dropped.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    output: PathBuf,
}

impl Running {
    /// Starts it with both its outputs going to the file `output`.
    ///
    /// # Errors
    /// Where the file or the process cannot be made.
    pub(crate) fn start(command: &mut Command, output: &Path) -> Result<Self, Failure> {
        let file = File::create(output)?;
        let child = command.stdout(file.try_clone()?).stderr(file).spawn()?;
        Ok(Self { child, output: output.into() })
    }

    /// The process id, which `setpriv` and `taskset` hand on to the program.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed so far.
    pub(crate) fn printed(&self) -> String {
        fs::read(&self.output).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Waits until it accepts connections at `address`.
    ///
    /// # Errors
    /// With its output, when it ends first or takes more than ten seconds.
    pub(crate) fn wait_for_listener(&mut self, address: SocketAddr) -> Result<(), Failure> {
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return Err(format!("a proxy ended at its start ({status}):\n{}", self.printed()).into());
            }
            if TcpStream::connect(address).is_ok() {
                return Ok(());
            }
            sleep(Duration::from_millis(10));
        }
        Err(format!("a proxy did not listen on {address} within 10 s:\n{}", self.printed()).into())
    }

    /// Waits for its end and gives what it printed.
    ///
    /// # Errors
    /// With its output, when it fails or takes longer than `limit`.
    pub(crate) fn finish(mut self, limit: Duration) -> Result<String, Failure> {
        match self.wait(limit) {
            Some(status) if status.success() => Ok(self.printed()),
            Some(status) => Err(format!("a child failed ({status}):\n{}", self.printed()).into()),
            None => Err(format!("a child did not end within {limit:?}:\n{}", self.printed()).into()),
        }
    }

    /// Asks it to end, and waits until it has.
    ///
    /// # Errors
    /// When it takes longer than `limit`.
    pub(crate) fn stop(mut self, limit: Duration) -> Result<(), Failure> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).ok_or("no process id")?;
        kill_process(pid, Signal::TERM)?;
        self.wait(limit).map(|_| ()).ok_or_else(|| format!("a child did not end within {limit:?}").into())
    }

    fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) if Instant::now() < deadline => sleep(Duration::from_millis(5)),
                Ok(None) | Err(_) => return None,
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) else { return };
        // The first process alone is told: nginx's master stops its workers itself.
        let _ = kill_process(pid, Signal::TERM);
        if self.wait(Duration::from_secs(3)).is_none() {
            let _ = kill_process_group(pid, Signal::KILL);
            drop(self.child.wait());
        }
    }
}
