//! Programs that tests run against the proxy where they are installed.

use std::path::PathBuf;
use std::process::Command;

/// A program that is there.
#[derive(Debug, Clone)]
pub(crate) struct Peer(PathBuf);

impl Peer {
    /// A command of it.
    pub(crate) fn command(&self) -> Command {
        Command::new(&self.0)
    }
}

/// The program called `name`; `None`, with the reason printed, when it is not installed, and a
/// failed test when `FOREBAY_REQUIRE_PEERS` is set.
#[track_caller]
#[expect(clippy::print_stderr, reason = "says why the test checked nothing")]
pub(crate) fn peer(name: &str) -> Option<Peer> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    let dirs = std::env::split_paths(&path).chain(more).chain(postgresql());
    let found = dirs.map(|dir| dir.join(name)).find(|p| p.is_file());
    if found.is_none() {
        assert!(std::env::var_os("FOREBAY_REQUIRE_PEERS").is_none(), "{name} is required and not installed");
        eprintln!("skipped: {name} is not installed");
    }
    found.map(Peer)
}

/// Where Debian keeps PostgreSQL's server: a folder for each version, out of everybody's PATH.
fn postgresql() -> impl Iterator<Item = PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    versions.map_while(Result::ok).map(|version| version.path().join("bin"))
}
