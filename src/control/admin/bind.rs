//! The admin listener's socket, over IP or a Unix path: one, whatever the number of workers. It may be
//! one that another process passed on.

use std::io;

use crate::model::Address;
use crate::net::inherit::Inherited;
use crate::net::listen::{self, BoundSocket};
pub(super) use crate::net::stream::Socket as Stream;

/// A bound socket that belongs to no runtime yet.
#[derive(Debug)]
pub(super) struct Bound {
    address: Address,
    sockets: Vec<BoundSocket>,
}

/// A socket that accepts.
#[derive(Debug)]
pub(super) struct Listener(listen::Listener);

impl Bound {
    pub(super) fn new(address: &Address, inherited: &Inherited) -> io::Result<Self> {
        let listen::Bound { address, sockets } = inherited.take_or_bind(address, super::OWNER, 1)?;
        Ok(Self { address, sockets })
    }

    pub(super) fn local_addr(&self) -> &Address {
        &self.address
    }

    /// The socket once more, to pass on.
    pub(super) fn share(&self) -> io::Result<BoundSocket> {
        self.first()?.try_clone()
    }

    pub(super) fn listen(self) -> io::Result<Listener> {
        self.first()?.try_clone()?.listen().map(Listener)
    }

    fn first(&self) -> io::Result<&BoundSocket> {
        self.sockets.first().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Listener {
    pub(super) async fn accept(&self) -> io::Result<Stream> {
        self.0.accept().await.map(|(stream, _)| stream)
    }
}
