//! What the service manager is told of this process's life, as systemd has it (`sd_notify(3)`,
//! `sd_watchdog_enabled(3)`): a few lines in a datagram. Does nothing where nobody asked for it. Does not
//! know when there is something to tell.

use std::convert::Infallible;
use std::env;
use std::ffi::OsStr;
use std::future::pending;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process;
use std::time::Duration;

use tokio::sync::watch;

use crate::control::Answering;

/// The process serves; with its number, because it may have taken the place of the one that the manager
/// started.
pub(crate) fn ready() {
    tell(&format!("READY=1\nMAINPID={}\nSTATUS=serving\n", process::id()));
}

/// The process drains, and ends then.
pub(crate) fn stopping() {
    tell("STOPPING=1\nSTATUS=draining\n");
}

/// Says again and again that the process is still there, as long as it is the one that serves.
pub(crate) async fn keep_alive(mut answering: watch::Receiver<Answering>) -> Infallible {
    let Some(interval) = interval() else { return pending().await };
    let mut ticks = tokio::time::interval(interval);
    while answering.wait_for(|answering| *answering >= Answering::Now).await.is_ok() {
        ticks.tick().await;
        if *answering.borrow() == Answering::NoMore {
            break;
        }
        tell("WATCHDOG=1\n");
    }
    pending().await
}

/// Twice as often as the manager wants to hear it; never when `None`.
fn interval() -> Option<Duration> {
    let wanted = env::var("WATCHDOG_USEC").ok()?.parse().ok()?;
    let mine = env::var("WATCHDOG_PID").map_or(true, |pid| pid.parse() == Ok(process::id()));
    (mine && wanted > 0).then(|| Duration::from_micros(wanted) / 2)
}

fn tell(lines: &str) {
    let Some(socket) = env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty()) else { return };
    if let Err(error) = send(&socket, lines) {
        tracing::warn!(%error, "the service manager was not told");
    }
}

/// A path, or `@` and a name that is no file's (unix(7), abstract).
fn send(socket: &OsStr, lines: &str) -> io::Result<()> {
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(socket)?,
    };
    let from = UnixDatagram::unbound()?;
    // A manager that does not read is no reason to stand still.
    from.set_nonblocking(true)?;
    from.send_to_addr(lines.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_reaches_a_path_and_a_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let name = format!("@forebay-test-{}", process::id());
        let abstract_name = SocketAddr::from_abstract_name(&name[1..]).unwrap();
        for (socket, address) in [
            (path.as_os_str(), SocketAddr::from_pathname(&path).unwrap()),
            (OsStr::new(&name), abstract_name),
        ] {
            let manager = UnixDatagram::bind_addr(&address).unwrap();
            send(socket, "READY=1\n").unwrap();
            let mut heard = [0; 64];
            let length = manager.recv(&mut heard).unwrap();
            assert_eq!(&heard[..length], b"READY=1\n");
        }
    }
}
