//! Sockets for datagrams: those that listeners receive on, and those that lead to endpoints. What one
//! side sends in a row is taken in one call, and kept together where the kernel can (GRO), so that it
//! goes on in one call as well (GSO). Does not know what is a flow.

#[cfg(test)]
mod tests;

use std::array;
use std::cell::Cell;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr, UdpSocket as StdUdpSocket};

use nix::sys::socket::{setsockopt, sockopt};
use quinn_udp::{BATCH_SIZE, EcnCodepoint, RecvMeta, Transmit, UdpSocketState};
use rustix::net::SendFlags;
use rustix::net::sockopt::{
    Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, set_ip_mtu_discover, set_ipv6_mtu_discover,
};
use socket2::{Domain, Protocol, SockRef, Socket as RawSocket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::options;
use crate::model::settings::UpstreamSocket;

/// A listener's socket.
#[derive(Debug)]
pub struct Intake {
    socket: UdpSocket,
    state: UdpSocketState,
    local: SocketAddr,
}

/// A socket that is connected to an endpoint.
#[derive(Debug)]
pub struct Outlet {
    socket: UdpSocket,
    to: SocketAddr,
    coalesces: Cell<bool>,
}

/// Datagrams that came together from one side: all of one size, save the last, which may be shorter.
#[derive(Clone, Copy, Debug)]
pub struct Parcel<'a> {
    bytes: &'a [u8],
    size: usize,
    ecn: Option<EcnCodepoint>,
}

/// A parcel that came.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// Who sent it.
    pub from: SocketAddr,
    /// Which of our addresses it was sent to, where the socket is bound to all of them.
    pub local: Option<IpAddr>,
    /// What came.
    pub parcel: Parcel<'a>,
}

/// Memory for what comes in one call. One of them is enough for all sockets of a thread.
#[derive(Debug)]
pub struct Inbox {
    bytes: Box<[u8]>,
    metas: [RecvMeta; BATCH_SIZE],
}

impl Intake {
    /// Makes `socket` part of the current runtime.
    ///
    /// # Errors
    /// When the runtime cannot register it, or an option cannot be set.
    pub fn new(socket: StdUdpSocket) -> io::Result<Self> {
        let local = socket.local_addr()?;
        let state = UdpSocketState::new((&socket).into())?;
        // That was made for QUIC, which wants to know of what is too large. Others rely on fragments.
        let_fragment(&socket, local)?;
        // As much as the system allows: what comes while others are served waits here.
        let _ = SockRef::from(&socket).set_recv_buffer_size(RECEIVE_BUFFER);
        Ok(Self { socket: UdpSocket::from_std(socket)?, state, local })
    }

    /// Ready when something may have come.
    ///
    /// # Errors
    /// When the runtime ends.
    pub async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
    }

    /// Where a client sent to: `ip` if that is known of what came, or else what the socket is bound to.
    #[must_use]
    pub fn local(&self, ip: Option<IpAddr>) -> SocketAddr {
        SocketAddr::new(ip.unwrap_or(self.local.ip()), self.local.port())
    }

    /// Takes what came.
    ///
    /// # Errors
    /// `WouldBlock` when nothing did; others are those of `recvmmsg(2)`.
    pub fn receive<'a>(&self, inbox: &'a mut Inbox) -> io::Result<impl Iterator<Item = Received<'a>>> {
        let count = take(&self.socket, &self.state, inbox, BATCH_SIZE)?;
        Ok(inbox.received(count, self.local.ip().is_unspecified()))
    }

    /// Sends a parcel to a client, from the address `local` if there is one.
    ///
    /// # Errors
    /// `WouldBlock` when there is no room for it; others are those of `sendmsg(2)`. What was sent by then
    /// is sent.
    pub fn send(&self, to: SocketAddr, local: Option<IpAddr>, parcel: Parcel<'_>) -> io::Result<()> {
        self.transmit(&self.socket, (to, local), parcel, |bytes| {
            rustix::net::sendto(&self.socket, bytes, SendFlags::DONTWAIT, &to)
        })
    }

    /// One call for the whole parcel if there is a way, or else one for each datagram: by `plain` if
    /// nothing has to be said of it that goes beside the bytes.
    fn transmit(
        &self,
        socket: &UdpSocket,
        (to, local): (SocketAddr, Option<IpAddr>),
        parcel: Parcel<'_>,
        plain: impl Fn(&[u8]) -> rustix::io::Result<usize>,
    ) -> io::Result<()> {
        let transmit = |contents, segment_size| {
            let transmit =
                Transmit { destination: to, ecn: parcel.ecn, contents, segment_size, src_ip: local };
            self.state.try_send(socket.into(), &transmit)
        };
        if parcel.count() > 1 && self.state.max_gso_segments() > 1 {
            match transmit(parcel.bytes, Some(parcel.size)) {
                // A datagram that does not fit the network passes in fragments, if it goes alone.
                Err(error) if !is_of_peer(&error) => {}
                done => return done,
            }
        }
        parcel.each().try_for_each(|one| match (parcel.ecn, local) {
            (None, None) => plain(one.bytes).map(drop).map_err(io::Error::from),
            _ => transmit(one.bytes, None),
        })
    }
}

impl Outlet {
    /// A socket that is connected to `to`, as it is `wanted`, on behalf of `client`. Nothing is sent.
    ///
    /// # Errors
    /// When there are no descriptors or ports left, no way there, or an option is refused.
    pub fn connect(to: SocketAddr, wanted: Option<&UpstreamSocket>, client: IpAddr) -> io::Result<Self> {
        let socket = match wanted {
            Some(wanted) => options::datagrams_to(to, wanted, Some(client))?,
            None => {
                let socket = RawSocket::new(Domain::for_address(to), Type::DGRAM, Some(Protocol::UDP))?;
                socket.set_nonblocking(true)?;
                socket.into()
            }
        };
        SockRef::from(&socket).connect(&to.into())?;
        Ok(Self { socket: UdpSocket::from_std(socket)?, to, coalesces: Cell::new(false) })
    }

    /// Has the kernel keep together what comes in a row. For a flow of some length: it costs a call.
    pub fn coalesce(&self) {
        if !self.coalesces.replace(true) {
            // Where the kernel cannot, datagrams come one by one, which is no error. The others let what
            // is marked as congested on its way be known to the client.
            let _ = setsockopt(&self.socket, sockopt::UdpGroSegment, &true);
            let socket = SockRef::from(&self.socket);
            let _ = if self.to.is_ipv4() {
                socket.set_recv_tos_v4(true)
            } else {
                socket.set_recv_tclass_v6(true)
            };
        }
    }

    /// Ready when something may have come.
    ///
    /// # Errors
    /// When the runtime ends.
    pub async fn readable(&self) -> io::Result<()> {
        // What ICMP brings is not there to be read, but is an error of the socket.
        self.socket.ready(Interest::READABLE.add(Interest::ERROR)).await.map(drop)
    }

    /// Takes what came. `by` is a listener's socket, any one.
    ///
    /// # Errors
    /// `WouldBlock` when nothing did; `ConnectionRefused` when the endpoint told so by ICMP; others are
    /// those of `recvmmsg(2)`.
    pub fn receive<'a>(
        &self,
        by: &Intake,
        inbox: &'a mut Inbox,
    ) -> io::Result<impl Iterator<Item = Received<'a>>> {
        let most = if self.coalesces.get() { BATCH_SIZE } else { FEW };
        let count = take(&self.socket, &by.state, inbox, most)?;
        Ok(inbox.received(count, false))
    }

    /// Sends a parcel to the endpoint. `by` is a listener's socket, any one.
    ///
    /// # Errors
    /// `WouldBlock` when there is no room for it; `ConnectionRefused` when the endpoint told so by ICMP of
    /// what was sent before; others are those of `sendmsg(2)`.
    pub fn send(&self, by: &Intake, parcel: Parcel<'_>) -> io::Result<()> {
        by.transmit(&self.socket, (self.to, None), parcel, |bytes| {
            rustix::net::send(&self.socket, bytes, SendFlags::DONTWAIT)
        })
    }

    /// As [`Self::send`], with what is in `before` at the front of each datagram. That is there
    /// afterwards, too.
    ///
    /// # Errors
    /// As there.
    pub fn send_after(&self, by: &Intake, before: &mut Vec<u8>, parcel: Parcel<'_>) -> io::Result<()> {
        let len = before.len();
        parcel.each().try_for_each(|one| {
            before.extend_from_slice(one.bytes);
            let sent = self.send(by, Parcel { ecn: one.ecn, ..Parcel::one(before) });
            before.truncate(len);
            sent
        })
    }
}

impl<'a> Parcel<'a> {
    /// One datagram.
    #[must_use]
    pub const fn one(bytes: &'a [u8]) -> Self {
        Self { bytes, size: bytes.len(), ecn: None }
    }

    /// How many datagrams it has; at least one.
    #[must_use]
    pub fn count(&self) -> u32 {
        let count = self.bytes.len().div_ceil(self.size.max(1)).max(1);
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// The payload of all of them together.
    #[must_use]
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Its datagrams, each by itself.
    pub fn each(self) -> impl Iterator<Item = Self> {
        let (mut left, mut first) = (self.bytes, true);
        std::iter::from_fn(move || {
            if left.is_empty() && !first {
                return None;
            }
            first = false;
            let (bytes, rest) = left.split_at_checked(self.size).unwrap_or((left, &[]));
            left = rest;
            Some(Self { bytes, size: bytes.len(), ecn: self.ecn })
        })
    }
}

impl Default for Inbox {
    fn default() -> Self {
        // Only what is written to is there in memory.
        Self {
            bytes: vec![0; BATCH_SIZE * PLACE].into_boxed_slice(),
            metas: array::from_fn(|_| RecvMeta::default()),
        }
    }
}

impl Inbox {
    fn received(&self, count: usize, everywhere: bool) -> impl Iterator<Item = Received<'_>> {
        let places = self.bytes.chunks_exact(PLACE).zip(&self.metas).take(count);
        places.map(move |(place, meta)| Received {
            from: meta.addr,
            local: meta.dst_ip.filter(|_| everywhere),
            parcel: Parcel {
                bytes: place.get(..meta.len).unwrap_or(place),
                size: meta.stride,
                ecn: meta.ecn,
            },
        })
    }
}

/// Whether an error is what the other side or the lack of room says, so that a second try is none.
fn is_of_peer(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionRefused)
}

fn take(socket: &UdpSocket, state: &UdpSocketState, inbox: &mut Inbox, most: usize) -> io::Result<usize> {
    let Inbox { bytes, metas } = inbox;
    let mut places = bytes.chunks_exact_mut(PLACE);
    let mut places: [_; BATCH_SIZE] = array::from_fn(|_| IoSliceMut::new(places.next().unwrap_or_default()));
    let places = places.get_mut(..most).unwrap_or_default();
    let count = Cell::new(0);
    let mut receive = || {
        count.set(state.recv(socket.into(), places, metas)?);
        // There is no more, which need not be asked for: whatever comes from now on is told anew.
        if count.get() < most { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
    };
    let mut tried = socket.try_io(Interest::READABLE, &mut receive);
    if count.get() == 0 && is_empty(&tried) {
        tried = socket.try_io(Interest::ERROR, receive);
    }
    if count.get() == 0 { tried.map(|()| 0) } else { Ok(count.get()) }
}

fn is_empty(tried: &io::Result<()>) -> bool {
    tried.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

fn let_fragment(socket: &StdUdpSocket, local: SocketAddr) -> io::Result<()> {
    set_ip_mtu_discover(socket, Ipv4PathMtuDiscovery::WANT)?;
    if local.is_ipv6() {
        set_ipv6_mtu_discover(socket, Ipv6PathMtuDiscovery::WANT)?;
        setsockopt(socket, sockopt::Ipv6DontFrag, &false)?;
    }
    Ok(())
}

/// Room for all that the kernel keeps together, and a little more, so that the beginnings of two places
/// do not fall on the same lines of a processor's cache.
const PLACE: usize = 65_536 + 64;
/// How much is asked for at a time of an endpoint that has not sent much: as a rule there is one.
const FEW: usize = 4;
/// Bytes that may wait to be received; the kernel lowers it to `net.core.rmem_max`.
const RECEIVE_BUFFER: usize = 4 << 20;
