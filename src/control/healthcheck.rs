//! Asks a running Forebay whether it is ready, for container health checks. Blocking and without a
//! runtime; knows of the admin listener no more than its address.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};
use thiserror::Error;

use crate::ambient;
use crate::model::Address;

/// Why a process is not healthy.
#[derive(Debug, Error)]
pub enum Unhealthy {
    /// Nobody listens, or not in time.
    #[error("no connection to {0}")]
    Connect(Address, #[source] io::Error),
    /// The connection failed, or the answer did not come in time.
    #[error("no answer from {0}")]
    Answer(Address, #[source] io::Error),
    /// What answered is not the admin listener.
    #[error("{0} does not answer in HTTP")]
    Foreign(Address),
    /// It says no.
    #[error("{address} answered {status}: {reason}")]
    NotReady {
        /// Who was asked.
        address: Address,
        /// The status.
        status: u16,
        /// The first line of the body.
        reason: String,
    },
}

/// Asks the admin listener at `address` for `/readyz`, within `timeout`. Where it listens on every
/// address, loopback is asked.
///
/// # Errors
/// When it does not answer 200 in time.
pub fn healthcheck(address: &Address, timeout: Duration) -> Result<(), Unhealthy> {
    let deadline = ambient::now() + timeout;
    let failed = |error| Unhealthy::Connect(address.clone(), error);
    let socket = connect(address, timeout).map_err(failed)?;
    let answer = ask(socket, deadline).map_err(|error| Unhealthy::Answer(address.clone(), error))?;
    let answer = String::from_utf8_lossy(&answer);
    match status(&answer) {
        Some(200) => Ok(()),
        Some(status) => {
            let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
            let reason = body.lines().next().unwrap_or_default().to_owned();
            Err(Unhealthy::NotReady { address: address.clone(), status, reason })
        }
        None => Err(Unhealthy::Foreign(address.clone())),
    }
}

fn connect(address: &Address, timeout: Duration) -> io::Result<Socket> {
    let (domain, to) = match address {
        Address::Inet(address) => (Domain::for_address(*address), SockAddr::from(reachable(*address))),
        Address::Unix(path) => (Domain::UNIX, SockAddr::unix(path)?),
    };
    let socket = Socket::new(domain, Type::STREAM, None)?;
    socket.connect_timeout(&to, timeout)?;
    Ok(socket)
}

/// Where to find what is bound to `address`.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        });
    }
    address
}

/// Sends the request and reads what comes until the connection ends or time is up.
fn ask(mut socket: Socket, deadline: Instant) -> io::Result<Vec<u8>> {
    let left = || match deadline.saturating_duration_since(ambient::now()) {
        Duration::ZERO => Err(io::Error::from(io::ErrorKind::TimedOut)),
        left => Ok(Some(left)),
    };
    socket.set_write_timeout(left()?)?;
    socket.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    let mut chunk = [0; 1024];
    while answer.len() < MAX_ANSWER {
        let read = left().and_then(|left| {
            socket.set_read_timeout(left)?;
            socket.read(&mut chunk)
        });
        match read {
            Ok(0) => break,
            Ok(n) => answer.extend_from_slice(chunk.get(..n).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // What has come may be all that is needed, however the connection ends.
            Err(_) if !answer.is_empty() => break,
            Err(error) => return Err(error),
        }
    }
    Ok(answer)
}

/// The status code of an answer (RFC 9112 §4).
fn status(answer: &str) -> Option<u16> {
    let (version, rest) = answer.lines().next()?.split_once(' ')?;
    version.strip_prefix("HTTP/1.")?;
    rest.get(..3)?.parse().ok()
}

/// How much of an answer is read, in bytes.
const MAX_ANSWER: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    /// An address where one connection is answered with `says`, whatever it asks.
    fn scripted(says: &'static [u8]) -> Address {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = Address::Inet(listener.local_addr().unwrap());
        thread::spawn(move || {
            let (mut client, _) = listener.accept().unwrap();
            let mut asked = [0; 1024];
            let n = client.read(&mut asked).unwrap();
            assert!(asked[..n].starts_with(b"GET /readyz HTTP/1.1\r\n"));
            client.write_all(says).unwrap();
        });
        address
    }

    #[test]
    fn only_200_is_healthy() {
        assert!(healthcheck(&scripted(b"HTTP/1.1 200 OK\r\n\r\nready\n"), PATIENCE).is_ok());
        let draining = scripted(b"HTTP/1.1 503 Service Unavailable\r\n\r\ndraining\n");
        let error = healthcheck(&draining, PATIENCE).unwrap_err();
        assert_eq!(error.to_string(), format!("{draining} answered 503: draining"));
        for foreign in [b"".as_slice(), b"SSH-2.0-x\r\n", b"HTTP/1.1", b"HTTP/1.1 2", b"HTTP/1.1 abc d\r\n"] {
            let error = healthcheck(&scripted(foreign), PATIENCE).unwrap_err();
            assert!(matches!(error, Unhealthy::Foreign(_)), "{error}");
        }
    }

    #[test]
    fn nobody_there_is_unhealthy() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = Address::Inet(listener.local_addr().unwrap());
        drop(listener);
        assert!(matches!(healthcheck(&address, PATIENCE), Err(Unhealthy::Connect(..))));
        let nowhere = "unix:/nonexistent/forebay.sock".parse().unwrap();
        assert!(matches!(healthcheck(&nowhere, PATIENCE), Err(Unhealthy::Connect(..))));
    }

    #[test]
    fn silence_is_unhealthy() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("admin.sock");
        let _silent = UnixListener::bind(&path).unwrap();
        let address = Address::Unix(path.into());
        let error = healthcheck(&address, Duration::from_millis(50)).unwrap_err();
        assert!(matches!(error, Unhealthy::Answer(..)), "{error}");
    }

    #[test]
    fn what_listens_everywhere_is_asked_on_loopback() {
        for (bound, asked) in
            [("0.0.0.0:9900", "127.0.0.1:9900"), ("[::]:9900", "[::1]:9900"), ("10.0.0.1:1", "10.0.0.1:1")]
        {
            assert_eq!(reachable(bound.parse().unwrap()), asked.parse().unwrap());
        }
    }
}
