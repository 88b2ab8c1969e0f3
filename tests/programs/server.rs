//! A server of a test's own, on a port of loopback, and clients that are run to their end.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Proxy, eventually};

/// A running program. Dropping it ends it, and waits until it has ended.
pub(crate) struct Server {
    child: Child,
    address: SocketAddr,
    /// What ends it at once and with all of its children.
    end: Signal,
}

impl Server {
    /// Starts it and waits until it accepts connections at `address`. What it prints goes to a file in
    /// `folder`.
    #[track_caller]
    pub(crate) fn start(mut command: Command, address: SocketAddr, (folder, end): (&Path, Signal)) -> Self {
        let printed = folder.join("printed");
        let file = fs::File::create(&printed).unwrap();
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        let mut server = Self { child: command.spawn().unwrap(), address, end };
        eventually("the start of a server", || {
            let ended = server.child.try_wait().unwrap();
            assert!(ended.is_none(), "{ended:?}: {}", fs::read_to_string(&printed).unwrap_or_default());
            TcpStream::connect(address).is_ok()
        });
        server
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends it at once, with its connections.
    pub(crate) fn kill(mut self) {
        self.stop();
    }

    fn stop(&mut self) {
        // It may have ended already.
        let _ = kill_process(Pid::from_child(&self.child), self.end);
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A port that nothing listens on.
pub(crate) fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// What a client printed, when it ended well.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> String {
    let output = finish(command);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {:?} {said}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// How a client ended.
#[track_caller]
pub(crate) fn finish(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap()
}

/// A `tcp` listener called `db` in front of these endpoints, of which the first that works is used.
#[track_caller]
pub(crate) fn before(endpoints: &[SocketAddr]) -> Proxy {
    let endpoints: Vec<_> = endpoints.iter().map(|address| format!("\"{address}\"")).collect();
    Proxy::start(&format!(
        "[[listener]]\nname = \"db\"\nbind = \"127.0.0.1:0\"\nprotocol = \"tcp\"\npool = \"db\"\n\
         [pool.db]\npolicy = \"first\"\nendpoints = [{}]\n",
        endpoints.join(", ")
    ))
}
