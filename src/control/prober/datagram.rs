//! A check over datagrams: one is sent from a port of its own, and the first that comes back is judged.
//! That a port is closed is told by ICMP, which the kernel gives as an error of the socket.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::ask::{Failed, Progress, failed, words};
use crate::health::probe::{Datagram, Judgement};
use crate::model::Address;
use crate::model::settings::UpstreamSocket;
use crate::net::connect::Dial;
use crate::net::options;

/// Sends the datagram, behind `preface`, and has the answer judged.
pub(super) async fn carry_out(
    dial: &Dial,
    preface: &[u8],
    datagram: &Datagram,
    progress: &mut Progress,
) -> Result<(), Failed> {
    let (Address::Inet(address) | Address::Udp(address)) = &dial.address else {
        return Err(Failed::Endpoint("a Unix socket takes no datagrams".to_owned()));
    };
    let socket = connected(*address, dial.socket.as_deref()).await;
    let socket = socket.map_err(|error| failed("before anything was asked", error))?;
    progress.connected = true;
    socket.send(&[preface, datagram.payload()].concat()).await.map_err(answered_by_icmp)?;
    let judgement = loop {
        // An error alone does not make a socket readable.
        let ready = socket.ready(Interest::READABLE | Interest::ERROR).await.map_err(answered_by_icmp)?;
        if ready.is_error() {
            let error = || Err(socket.take_error()?.unwrap_or(io::ErrorKind::WouldBlock.into()));
            unless_nothing(socket.try_io(Interest::ERROR, error))?;
        }
        if ready.is_readable() {
            // Room is taken only once there is something to read.
            let mut answer = vec![0; LARGEST];
            if let Some(len) = unless_nothing(socket.try_recv(&mut answer))? {
                break datagram.judge(answer.get(..len).unwrap_or_default());
            }
        }
    };
    match judgement {
        Judgement::Fail(why) => Err(Failed::Endpoint(why)),
        Judgement::Pass | Judgement::More => Ok(()),
    }
}

/// What there was; `None` where it was announced and there was nothing.
fn unless_nothing(found: io::Result<usize>) -> Result<Option<usize>, Failed> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(answered_by_icmp(error)),
    }
}

/// A socket that hears of this address only, errors included.
async fn connected(address: SocketAddr, wanted: Option<&UpstreamSocket>) -> io::Result<UdpSocket> {
    if let Some(wanted) = wanted {
        let socket = UdpSocket::from_std(options::datagrams_to(address, wanted, None)?)?;
        socket.connect(address).await?;
        return Ok(socket);
    }
    let any = match address {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(address).await?;
    Ok(socket)
}

fn answered_by_icmp(error: io::Error) -> Failed {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            Failed::Endpoint(format!("{}: nobody listens on the port (ICMP)", words(&error)))
        }
        _ => failed("before an answer", error),
    }
}

/// The largest datagram, in bytes (RFC 768).
const LARGEST: usize = 64 * 1024;
