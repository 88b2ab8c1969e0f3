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
    let found = std::env::split_paths(&path).chain(more).map(|dir| dir.join(name)).find(|p| p.is_file());
    if found.is_none() {
        assert!(std::env::var_os("FOREBAY_REQUIRE_PEERS").is_none(), "{name} is required and not installed");
        eprintln!("skipped: {name} is not installed");
    }
    found.map(Peer)
}
