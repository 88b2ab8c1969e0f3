//! Asks a running Forebay whether it is ready, for container health checks.

use std::time::Duration;

use thiserror::Error;

use super::client::{AskError, Destination, Question, send};
use crate::model::Address;

/// Why a process is not healthy.
#[derive(Debug, Error)]
pub enum Unhealthy {
    /// It does not answer.
    #[error(transparent)]
    Ask(#[from] AskError),
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

/// Asks the admin listener for `/readyz`, within `timeout`.
///
/// # Errors
/// When it does not answer 200 in time.
pub fn healthcheck(of: &Destination, timeout: Duration) -> Result<(), Unhealthy> {
    let answer = send(of, &Question { method: "GET", target: "/readyz", json: "" }, timeout)?;
    if answer.status == 200 {
        return Ok(());
    }
    let reason = answer.body.lines().next().unwrap_or_default().to_owned();
    Err(Unhealthy::NotReady { address: of.address.clone(), status: answer.status, reason })
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    fn ask(address: &Address, timeout: Duration) -> Result<(), Unhealthy> {
        healthcheck(&address.clone().into(), timeout)
    }

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
        assert!(ask(&scripted(b"HTTP/1.1 200 OK\r\n\r\nready\n"), PATIENCE).is_ok());
        let draining = scripted(b"HTTP/1.1 503 Service Unavailable\r\n\r\ndraining\n");
        let error = ask(&draining, PATIENCE).unwrap_err();
        assert_eq!(error.to_string(), format!("{draining} answered 503: draining"));
        for foreign in [b"".as_slice(), b"SSH-2.0-x\r\n", b"HTTP/1.1", b"HTTP/1.1 2", b"HTTP/1.1 abc d\r\n"] {
            let error = ask(&scripted(foreign), PATIENCE).unwrap_err();
            assert!(matches!(error, Unhealthy::Ask(AskError::Foreign(_))), "{error}");
        }
    }

    #[test]
    fn nobody_there_is_unhealthy() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = Address::Inet(listener.local_addr().unwrap());
        drop(listener);
        assert!(matches!(ask(&address, PATIENCE), Err(Unhealthy::Ask(AskError::Connect(..)))));
        let nowhere = "unix:/nonexistent/forebay.sock".parse().unwrap();
        assert!(matches!(ask(&nowhere, PATIENCE), Err(Unhealthy::Ask(AskError::Connect(..)))));
    }

    #[test]
    fn silence_is_unhealthy() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("admin.sock");
        let _silent = UnixListener::bind(&path).unwrap();
        let address = Address::Unix(path.into());
        let error = ask(&address, Duration::from_millis(50)).unwrap_err();
        assert!(matches!(error, Unhealthy::Ask(AskError::Answer(..))), "{error}");
    }
}
