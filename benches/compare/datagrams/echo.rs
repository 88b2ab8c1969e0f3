//! The origin of datagrams: a thread of this program that sends each back to where it came from, in
//! the order in which they came.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

/// Starts it; it ends with the process.
///
/// # Errors
/// Where no port or thread is to be had.
pub(crate) fn start_echo() -> io::Result<SocketAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = socket.local_addr()?;
    std::thread::Builder::new().name("echo".into()).spawn(move || {
        let mut datagram = [0; 2048];
        loop {
            // A proxy that is stopped leaves an error of its closed sockets here: nothing to tell.
            let Ok((length, from)) = socket.recv_from(&mut datagram) else { continue };
            drop(socket.send_to(datagram.get(..length).unwrap_or_default(), from));
        }
    })?;
    Ok(address)
}
