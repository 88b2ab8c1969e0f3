//! Sets what is wanted of sockets, and opens those that connect to endpoints. An option that the kernel
//! refuses is named, with what it takes. Does not know whose sockets they are.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, SockRef, Socket as RawSocket, TcpKeepalive, Type};
use thiserror::Error;
use tokio::net::TcpSocket;

use crate::ambient;
use crate::model::settings::{KeepAlive, SocketOptions, Source, UpstreamSocket};

/// An option that was not to be had.
#[derive(Debug, Error)]
#[error("`socket.{option}` is not to be had{needs}")]
pub struct Refused {
    /// The key, such as `mark`.
    pub option: &'static str,
    /// What it takes, as an addition to the sentence; empty where nothing more is known.
    needs: &'static str,
    /// Why not.
    #[source]
    source: io::Error,
}

impl From<Refused> for io::Error {
    fn from(refused: Refused) -> Self {
        Self::new(refused.source.kind(), refused)
    }
}

/// What a socket carries, and of which family it is.
#[derive(Clone, Copy, Debug)]
pub struct Nature {
    /// Whether it is of IPv6.
    pub is_v6: bool,
    /// Whether it is of TCP.
    pub is_tcp: bool,
    /// Whether it was made just now, so that what is not wanted need not be undone.
    pub is_new: bool,
}

/// Sets `options` of a socket. Those of a listening socket are inherited by what it accepts.
///
/// # Errors
/// The first option that is refused.
pub fn set(socket: impl AsFd, nature: Nature, options: &SocketOptions) -> Result<(), Refused> {
    let socket = SockRef::from(&socket);
    if nature.is_tcp {
        set_tcp(&socket, nature.is_new, options).map_err(refused("keep_alive"))?;
    }
    // Only who is privileged may even set what is there.
    let mark = options.mark.unwrap_or(0);
    if socket.mark().map_err(refused("mark"))? != mark {
        socket.set_mark(mark).map_err(refused("mark"))?;
    }
    if options.dscp.is_some() || !nature.is_new {
        // The two lower bits are for ECN (RFC 3168 §5).
        let class = u32::from(options.dscp.unwrap_or(0)) << 2;
        let done = if nature.is_v6 { socket.set_tclass_v6(class) } else { socket.set_tos_v4(class) };
        done.map_err(refused("dscp"))?;
    }
    if options.transparent || !nature.is_new {
        set_transparent(&socket, nature.is_v6, options.transparent).map_err(refused("transparent"))?;
    }
    Ok(())
}

/// A socket to connect to `remote` with, on behalf of `client` if it is anybody's.
///
/// # Errors
/// The first option that is refused, or a source that is not this machine's.
pub fn stream_to(
    remote: SocketAddr,
    wanted: &UpstreamSocket,
    client: Option<IpAddr>,
) -> Result<TcpSocket, Refused> {
    let socket = if remote.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let socket = socket.map_err(refused("bind_source"))?;
    let nature = Nature { is_v6: remote.is_ipv6(), is_tcp: true, is_new: true };
    let source = wanted.source(remote.ip(), client, ambient::draw());
    prepare(&socket, nature, wanted, source)?;
    if wanted.fast_open {
        let done = setsockopt(&socket, sockopt::TcpFastOpenConnect, &true);
        done.map_err(|error| refused("fast_open")(error.into()))?;
    }
    Ok(socket)
}

/// A socket for datagrams to `remote`, to which it is not yet connected; it does not block.
///
/// # Errors
/// As [`stream_to`].
pub fn datagrams_to(
    remote: SocketAddr,
    wanted: &UpstreamSocket,
    client: Option<IpAddr>,
) -> Result<UdpSocket, Refused> {
    let socket = RawSocket::new(Domain::for_address(remote), Type::DGRAM, Some(Protocol::UDP));
    let socket = socket.map_err(refused("bind_source"))?;
    socket.set_nonblocking(true).map_err(refused("bind_source"))?;
    let nature = Nature { is_v6: remote.is_ipv6(), is_tcp: false, is_new: true };
    prepare(&socket, nature, wanted, wanted.source(remote.ip(), client, ambient::draw()))?;
    Ok(socket.into())
}

/// Finds out whether such sockets are to be had here, from each of their sources.
///
/// # Errors
/// As [`stream_to`].
pub fn try_out(wanted: &UpstreamSocket) -> Result<(), Refused> {
    let any = [IpAddr::from([0, 0, 0, 0])];
    let sources = if wanted.sources.is_empty() { any.as_slice() } else { &wanted.sources };
    for source in sources {
        let one = UpstreamSocket { sources: vec![*source], ..wanted.clone() };
        let socket = RawSocket::new(domain(*source), Type::STREAM, Some(Protocol::TCP));
        let socket = socket.map_err(refused("bind_source"))?;
        let nature = Nature { is_v6: source.is_ipv6(), is_tcp: true, is_new: true };
        prepare(&socket, nature, &one, Some(Source { address: *source, is_foreign: false }))?;
    }
    Ok(())
}

fn prepare(
    socket: impl AsFd,
    nature: Nature,
    wanted: &UpstreamSocket,
    source: Option<Source>,
) -> Result<(), Refused> {
    set(&socket, nature, &wanted.options)?;
    let Some(Source { address, is_foreign }) = source else { return Ok(()) };
    let option = if is_foreign { "transparent" } else { "bind_source" };
    // The port is chosen when it is known where to, so that it may serve for many endpoints at once.
    let late = setsockopt(&socket, sockopt::IpBindAddressNoPort, &true);
    late.map_err(|error| refused(option)(error.into()))?;
    SockRef::from(&socket).bind(&SocketAddr::new(address, 0).into()).map_err(refused(option))
}

fn domain(address: IpAddr) -> Domain {
    if address.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 }
}

fn set_tcp(socket: &SockRef<'_>, is_new: bool, options: &SocketOptions) -> io::Result<()> {
    socket.set_tcp_nodelay(options.no_delay)?;
    match options.keep_alive {
        Some(KeepAlive { idle, interval, count }) => {
            let every = TcpKeepalive::new().with_time(idle).with_interval(interval).with_retries(count);
            socket.set_tcp_keepalive(&every)?;
        }
        None if !is_new => socket.set_keepalive(false)?,
        None => {}
    }
    if options.user_timeout.is_some() || !is_new {
        socket.set_tcp_user_timeout(options.user_timeout)?;
    }
    Ok(())
}

fn set_transparent(socket: &SockRef<'_>, is_v6: bool, transparent: bool) -> io::Result<()> {
    if is_v6 { socket.set_ip_transparent_v6(transparent) } else { socket.set_ip_transparent_v4(transparent) }
}

fn refused(option: &'static str) -> impl FnOnce(io::Error) -> Refused {
    move |source| {
        let needs = match (option, source.kind()) {
            ("mark" | "transparent", io::ErrorKind::PermissionDenied) => ": it takes CAP_NET_ADMIN",
            ("bind_source", io::ErrorKind::AddrNotAvailable) => ": the address is not this machine's",
            _ => "",
        };
        Refused { option, needs, source }
    }
}
