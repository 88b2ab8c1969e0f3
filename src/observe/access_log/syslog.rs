//! The way to a syslog. It is connected to when there is something to send, by the thread that sends;
//! where that fails, lines are lost until it is tried again.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs as _, UdpSocket};
use std::os::fd::AsFd as _;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use super::line::decimal;
use crate::ambient;
use crate::model::settings::SyslogPeer;
use crate::model::{Address, Target};

/// The way to a syslog.
#[derive(Debug)]
pub(super) struct SyslogLink {
    to: SyslogPeer,
    link: Option<Link>,
    /// Not to be tried before.
    again: Option<Instant>,
    /// Messages with their framing, on their way into a stream.
    frames: Vec<u8>,
}

#[derive(Debug)]
enum Link {
    Udp(UdpSocket),
    Datagrams(UnixDatagram),
    /// Each message ends with a line feed, as syslogs of this machine take them.
    Local(UnixStream),
    Tcp(TcpStream),
}

impl SyslogLink {
    /// The way to the syslog at `to`, not taken yet.
    pub(super) fn new(to: SyslogPeer) -> Self {
        Self { to, link: None, again: None, frames: Vec::new() }
    }

    /// What it is called.
    pub(super) fn shown(&self) -> String {
        match &self.to {
            SyslogPeer::Unix(path) => format!("unix:{}", path.display()),
            SyslogPeer::Udp(target) => format!("udp://{target}"),
            SyslogPeer::Tcp(target) => format!("tcp://{target}"),
        }
    }

    /// Sends each line of `text` as a message. Returns how many were, and why not all.
    pub(super) fn write(&mut self, text: &[u8]) -> (usize, Option<io::Error>) {
        let known = self.link.take().filter(|link| !link.has_ended());
        let mut link = match known.map_or_else(|| self.connect(), Ok) {
            Ok(link) => link,
            Err(error) => return (0, Some(error)),
        };
        let (sent, error) = self.send(&mut link, text);
        match &error {
            None => self.link = Some(link),
            // Who was not there yet may be there for the next datagram.
            Some(_) if matches!(link, Link::Udp(_)) => self.link = Some(link),
            // A stream may end in the middle of a message, and a socket may be another one's by now.
            Some(_) => self.again = Some(ambient::now() + PAUSE),
        }
        (sent, error)
    }

    fn connect(&mut self) -> io::Result<Link> {
        if self.again.is_some_and(|again| ambient::now() < again) {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let link = match &self.to {
            SyslogPeer::Unix(path) => local(path),
            SyslogPeer::Udp(target) => udp(target).map(Link::Udp),
            SyslogPeer::Tcp(target) => tcp(target).map(Link::Tcp),
        };
        if link.is_err() {
            self.again = Some(ambient::now() + PAUSE);
        }
        link
    }

    fn send(&mut self, link: &mut Link, text: &[u8]) -> (usize, Option<io::Error>) {
        let lines = text.split_inclusive(|byte| *byte == b'\n');
        match link {
            Link::Udp(socket) => one_by_one(lines.map(without_feed), |line| socket.send(line)),
            Link::Datagrams(socket) => one_by_one(lines.map(without_feed), |line| socket.send(line)),
            Link::Local(stream) => together(stream, text, lines.count()),
            Link::Tcp(stream) => {
                self.frames.clear();
                let mut count = 0;
                for line in lines.map(without_feed) {
                    decimal(line.len() as u64, &mut self.frames);
                    self.frames.push(b' ');
                    self.frames.extend_from_slice(line);
                    count += 1;
                }
                together(stream, &self.frames, count)
            }
        }
    }
}

impl Link {
    /// Whether the other end of a stream is gone, such as a syslog that was restarted: the first write after
    /// that succeeds all the same, and its lines would be lost without being counted.
    fn has_ended(&self) -> bool {
        let stream = match self {
            Self::Udp(_) | Self::Datagrams(_) => return false,
            Self::Local(stream) => stream.as_fd(),
            Self::Tcp(stream) => stream.as_fd(),
        };
        let read = recv(stream, &mut [0], RecvFlags::PEEK | RecvFlags::DONTWAIT);
        !matches!(read, Ok((_, 1..)) | Err(Errno::AGAIN | Errno::INTR))
    }
}

fn without_feed(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\n").unwrap_or(line)
}

/// Sends each line by itself. One that is too long for a datagram is lost alone; so is one that nobody was
/// there for.
fn one_by_one<'a>(
    lines: impl Iterator<Item = &'a [u8]>,
    mut send: impl FnMut(&[u8]) -> io::Result<usize>,
) -> (usize, Option<io::Error>) {
    let (mut sent, mut failed) = (0, None);
    for line in lines {
        match send(line) {
            Ok(_) => sent += 1,
            Err(error) => {
                let alone = error.kind() == io::ErrorKind::ConnectionRefused
                    || Errno::from_io_error(&error) == Some(Errno::MSGSIZE);
                failed = Some(error);
                if !alone {
                    break;
                }
            }
        }
    }
    (sent, failed)
}

/// Sends all or, as far as anybody knows, nothing.
fn together(stream: &mut impl io::Write, text: &[u8], count: usize) -> (usize, Option<io::Error>) {
    match stream.write_all(text) {
        Ok(()) => (count, None),
        Err(error) => (0, Some(error)),
    }
}

/// A syslog of this machine takes datagrams, or else a stream.
fn local(path: &Path) -> io::Result<Link> {
    let socket = UnixDatagram::unbound()?;
    match socket.connect(path) {
        Ok(()) => {
            socket.set_write_timeout(Some(PATIENCE))?;
            Ok(Link::Datagrams(socket))
        }
        Err(error) if Errno::from_io_error(&error) == Some(Errno::PROTOTYPE) => {
            let stream = UnixStream::connect(path)?;
            stream.set_write_timeout(Some(PATIENCE))?;
            Ok(Link::Local(stream))
        }
        Err(error) => Err(error),
    }
}

fn udp(target: &Target) -> io::Result<UdpSocket> {
    first_of(target, |address| {
        let own: SocketAddr = match address {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(own)?;
        socket.connect(address)?;
        Ok(socket)
    })
}

fn tcp(target: &Target) -> io::Result<TcpStream> {
    first_of(target, |address| {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(stream)
    })
}

/// What `connect` makes of the first of the target's addresses with which it can.
fn first_of<T>(target: &Target, connect: impl Fn(SocketAddr) -> io::Result<T>) -> io::Result<T> {
    let addresses: Vec<SocketAddr> = match target {
        Target::Address(Address::Inet(address) | Address::Udp(address)) => vec![*address],
        Target::Address(Address::Unix(_)) => Vec::new(),
        Target::Host { name, port } => (&**name, *port).to_socket_addrs()?.collect(),
    };
    let mut failed = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses.into_iter().take(ADDRESSES) {
        match connect(address) {
            Ok(made) => return Ok(made),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// How long it is not tried again after it failed.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a connection, or somebody who takes nothing, is waited for.
const PATIENCE: Duration = Duration::from_secs(1);
/// Addresses of one host that are tried.
const ADDRESSES: usize = 4;
