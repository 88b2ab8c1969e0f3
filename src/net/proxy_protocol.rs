//! Reads a PROXY protocol header off a socket: exactly its bytes and not one more, so that whatever comes
//! next, TLS or anything else, finds the socket as if there had been none. Does not know who may send one.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::net::{RecvFlags, recv};
use thiserror::Error;
use tokio::io::Interest;
use tokio::time::timeout;

use super::stream::Socket;
use crate::wire::proxy_protocol::{self, Beginning, Header, Malformed, v1, v2};

/// Why there is no header, or why it cannot be gone on without one.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The connection was closed before its first byte, as by one who only looks whether somebody listens.
    #[error("the connection was closed before it began")]
    Silent,
    /// The connection was closed within the header.
    #[error("the connection was closed within the PROXY protocol header")]
    Cut,
    /// It was not all there in time.
    #[error("no PROXY protocol header within {0:?} (timeouts.proxy_protocol)")]
    Timeout(Duration),
    /// It is none, or malformed.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The socket failed.
    #[error("cannot read the PROXY protocol header")]
    Io(#[from] io::Error),
}

/// Reads the header that `socket` begins with. `None` when it begins with something else, of which
/// nothing is read.
///
/// # Errors
/// When there is no whole header within `limit`, or it cannot be understood.
pub async fn read(socket: &Socket, limit: Duration) -> Result<Option<Header>, ReadError> {
    // Boxed, because it is over before the connection is anything else.
    let reading = Box::pin(read_unbounded(socket));
    timeout(limit, reading).await.unwrap_or(Err(ReadError::Timeout(limit)))
}

async fn read_unbounded(socket: &Socket) -> Result<Option<Header>, ReadError> {
    let mut first = [0; FIRST];
    let mut known = 0;
    loop {
        known = peek(socket, &mut first, known).await?;
        match proxy_protocol::beginning(first.get(..known).unwrap_or_default()) {
            Beginning::V1 => return read_v1(socket).await.map(Some),
            Beginning::V2 => return read_v2(socket).await.map(Some),
            Beginning::Other => return Ok(None),
            Beginning::Undecided => {}
        }
    }
}

/// Takes what has come up to the end of the line, which is all of it until there is one.
async fn read_v1(socket: &Socket) -> Result<Header, ReadError> {
    let mut line = Vec::with_capacity(v1::MAX);
    let mut piece = [0; v1::MAX];
    loop {
        let room = piece.get_mut(..v1::MAX.saturating_sub(line.len())).unwrap_or_default();
        let come = peek(socket, room, 0).await.map_err(cut)?;
        let come = room.get_mut(..come).unwrap_or_default();
        let end = memchr::memchr(b'\n', come).map_or(come.len(), |end| end + 1);
        let part = come.get_mut(..end).unwrap_or_default();
        take(socket, part).await?;
        line.extend_from_slice(part);
        if let Some((header, _)) = v1::parse(&line)? {
            return Ok(header);
        }
    }
}

async fn read_v2(socket: &Socket) -> Result<Header, ReadError> {
    let mut bytes = vec![0; v2::FIXED];
    take(socket, &mut bytes).await?;
    let rest = v2::rest(&bytes)?.unwrap_or_default();
    bytes.resize(v2::FIXED + rest, 0);
    take(socket, bytes.get_mut(v2::FIXED..).unwrap_or_default()).await?;
    let (header, _) = v2::parse(&bytes)?.ok_or(Malformed::TooLong)?;
    Ok(header)
}

/// Waits until more than `known` bytes have come and copies as many as `into` has room for; they stay to
/// be read. How many those are.
async fn peek(socket: &Socket, into: &mut [u8], known: usize) -> Result<usize, ReadError> {
    loop {
        let closed = ready(socket).await?;
        let peeked = try_recv(socket, into, RecvFlags::PEEK, |come| come > known || closed);
        match peeked {
            Ok(come) if come > known => return Ok(come),
            Ok(0) => return Err(ReadError::Silent),
            Ok(_) => return Err(ReadError::Cut),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Reads all of `into`.
async fn take(socket: &Socket, into: &mut [u8]) -> Result<(), ReadError> {
    let mut filled = 0;
    while let Some(room) = into.get_mut(filled..).filter(|room| !room.is_empty()) {
        ready(socket).await?;
        match try_recv(socket, room, RecvFlags::empty(), |_| true) {
            Ok(0) => return Err(ReadError::Cut),
            Ok(come) => filled += come,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Waits until there is something to read; whether that is all there will be.
async fn ready(socket: &Socket) -> io::Result<bool> {
    let ready = match socket {
        Socket::Tcp(socket) => socket.ready(Interest::READABLE).await?,
        Socket::Unix(socket) => socket.ready(Interest::READABLE).await?,
    };
    Ok(ready.is_read_closed())
}

/// Receives once. What is not `enough` counts as nothing, so that more is waited for.
fn try_recv(
    socket: &Socket,
    into: &mut [u8],
    flags: RecvFlags,
    enough: impl Fn(usize) -> bool,
) -> io::Result<usize> {
    match socket {
        Socket::Tcp(tcp) => tcp.try_io(Interest::READABLE, || receive(tcp, into, flags, enough)),
        Socket::Unix(unix) => unix.try_io(Interest::READABLE, || receive(unix, into, flags, enough)),
    }
}

fn receive(
    socket: impl AsFd,
    into: &mut [u8],
    flags: RecvFlags,
    enough: impl Fn(usize) -> bool,
) -> io::Result<usize> {
    let (come, _) = recv(socket, into, flags)?;
    // None at all is the end.
    if come == 0 || enough(come) { Ok(come) } else { Err(io::ErrorKind::WouldBlock.into()) }
}

/// Within a header, an end is one too early.
fn cut(error: ReadError) -> ReadError {
    if matches!(error, ReadError::Silent) { ReadError::Cut } else { error }
}

/// Bytes that tell of any connection whether it begins with a header.
const FIRST: usize = v2::SIGNATURE.len();

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream, UnixStream};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);
    const LINE: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.1 1234 443\r\n";

    fn binary() -> Vec<u8> {
        let mut header = Header::between(([192, 0, 2, 7], 1234).into(), ([198, 51, 100, 1], 443).into());
        header.told.authority = Some("shop.example".into());
        let mut out = Vec::new();
        let style = v2::Style { transport: v2::Transport::Stream, checksum: true };
        v2::encode(&header, style, &mut out);
        out
    }

    async fn pair() -> (TcpStream, Socket) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        client.set_nodelay(true).unwrap();
        (client, Socket::Tcp(listener.accept().await.unwrap().0))
    }

    #[tokio::test]
    async fn nothing_behind_the_header_is_read() {
        for header in [LINE.to_vec(), binary()] {
            let (mut client, mut socket) = pair().await;
            client.write_all(&[&header[..], b"\nhello"].concat()).await.unwrap();
            let read = read(&socket, LIMIT).await.unwrap().unwrap();
            assert_eq!(read.ends.unwrap().source, ([192, 0, 2, 7], 1234).into());
            let mut rest = [0; 6];
            socket.read_exact(&mut rest).await.unwrap();
            assert_eq!(&rest, b"\nhello");
        }
    }

    #[tokio::test]
    async fn a_header_may_come_byte_by_byte() {
        for header in [LINE.to_vec(), binary()] {
            let (client, socket) = UnixStream::pair().unwrap();
            let (mut client, mut socket) = (client, Socket::Unix(socket));
            let bytes = [&header[..], b"x"].concat();
            let sending = async {
                for byte in bytes {
                    client.write_all(&[byte]).await.unwrap();
                    for _ in 0..3 {
                        tokio::task::yield_now().await;
                    }
                }
            };
            let (read, ()) = tokio::join!(read(&socket, LIMIT), sending);
            assert!(read.unwrap().unwrap().ends.is_some());
            assert_eq!(socket.read_u8().await.unwrap(), b'x');
        }
    }

    #[tokio::test]
    async fn what_is_no_header_stays_to_be_read() {
        let (mut client, mut socket) = pair().await;
        client.write_all(b"P").await.unwrap();
        let sending = async {
            tokio::task::yield_now().await;
            client.write_all(b"OST").await.unwrap();
        };
        let (read, ()) = tokio::join!(read(&socket, LIMIT), sending);
        assert_eq!(read.unwrap(), None);
        let mut whole = [0; 4];
        socket.read_exact(&mut whole).await.unwrap();
        assert_eq!(&whole, b"POST");
    }

    #[tokio::test]
    async fn an_end_within_the_header_is_an_error() {
        for header in [LINE.to_vec(), binary()] {
            for cut in [1, 5, 12, 20, header.len() - 1] {
                let (mut client, socket) = pair().await;
                client.write_all(&header[..cut]).await.unwrap();
                drop(client);
                let read = read(&socket, LIMIT).await;
                assert!(matches!(read, Err(ReadError::Cut)), "{cut}: {read:?}");
            }
        }
        let (client, socket) = pair().await;
        drop(client);
        assert!(matches!(read(&socket, LIMIT).await, Err(ReadError::Silent)));
    }

    #[tokio::test]
    async fn who_is_slow_is_not_waited_for() {
        for cut in [0, 3, 10] {
            let (mut client, socket) = pair().await;
            client.write_all(&LINE[..cut]).await.unwrap();
            let limit = Duration::from_millis(20);
            assert!(matches!(read(&socket, limit).await, Err(ReadError::Timeout(_))), "{cut}");
        }
    }

    #[tokio::test]
    async fn a_line_without_end_is_given_up() {
        let (mut client, socket) = pair().await;
        client.write_all(&[&b"PROXY UNKNOWN "[..], &[b'x'; 200]].concat()).await.unwrap();
        let read = read(&socket, LIMIT).await;
        assert!(matches!(read, Err(ReadError::Malformed(Malformed::TooLong))), "{read:?}");
    }
}
