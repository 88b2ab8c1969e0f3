//! The admin listener's sockets, over IP or a Unix path: one each, whatever the number of workers. They
//! may be such that another process passed on.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::task::{Context, Poll};

use crate::model::Address;
use crate::net::inherit::Inherited;
use crate::net::listen::{self, BoundSocket};
use crate::net::stream::Socket;

/// A bound socket that belongs to no runtime yet.
#[derive(Debug)]
pub(super) struct Bound {
    asked: Address,
    address: Address,
    sockets: Vec<BoundSocket>,
}

/// A socket that accepts.
#[derive(Debug)]
pub(super) struct Listener(listen::Listener);

impl Bound {
    /// Takes the socket that was inherited for `asked`, or binds one: the file of a Unix socket with these
    /// permissions.
    pub(super) fn new(asked: &Address, mode: Option<u32>, inherited: &Inherited) -> io::Result<Self> {
        let listen::Bound { address, sockets } = inherited.take_or_bind(asked, super::OWNER, 1)?;
        if let (Address::Unix(path), Some(mode)) = (asked, mode) {
            fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        }
        Ok(Self { asked: asked.clone(), address, sockets })
    }

    /// As it was asked for, and as it was bound.
    pub(super) fn addresses(&self) -> (&Address, &Address) {
        (&self.asked, &self.address)
    }

    /// The socket once more, to pass on.
    pub(super) fn share(&self) -> io::Result<BoundSocket> {
        self.first()?.try_clone()
    }

    /// Accepts, which takes no further descriptor: it may be that there is none. From the one that is shared,
    /// as nobody accepts from others that were passed on.
    pub(super) fn listen(self) -> io::Result<Listener> {
        let socket = self.sockets.into_iter().next().ok_or(io::ErrorKind::NotFound)?;
        socket.listen().map(Listener)
    }

    fn first(&self) -> io::Result<&BoundSocket> {
        self.sockets.first().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Listener {
    pub(super) fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Socket>> {
        self.0.poll_accept(cx).map_ok(|(socket, _)| socket)
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;
    use std::os::fd::AsFd as _;

    use super::*;
    use crate::net::inherit::Given;

    #[tokio::test]
    async fn of_several_that_were_passed_on_one_is_left_and_is_shared() {
        let passed = listen::bind(&"127.0.0.1:0".parse().unwrap(), 4).unwrap();
        let (asked, inherited) = (passed.address, Inherited::default());
        for socket in passed.sockets {
            let socket = socket.as_fd().try_clone_to_owned().unwrap();
            let given = Given { asked: asked.clone(), owner: "web".to_owned(), socket, kept: false };
            inherited.add(given).unwrap();
        }
        let bound = Bound::new(&asked, None, &inherited).unwrap();
        let shared = bound.share().unwrap();
        let listener = bound.listen().unwrap();
        let clients: Vec<_> = (0..16).map(|_| TcpStream::connect(asked.inet().unwrap()).unwrap()).collect();
        drop(listener);
        let BoundSocket::Tcp(shared, _) = shared else { panic!("is TCP") };
        assert_eq!(std::iter::from_fn(|| shared.accept().ok()).count(), clients.len());
    }
}
