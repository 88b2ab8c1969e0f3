//! A stand-in for a collector of traces: a thread of this program that takes what is posted to it and says that
//! all is well, or takes it and never says anything. It does not look at what it gets.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;

/// What it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sink {
    /// Answers every request with 200, once it is whole.
    Takes,
    /// Accepts connections, reads nothing and never answers.
    Stalls,
}

/// Starts it on a thread of its own, which ends with the process.
///
/// # Errors
/// Where no port or thread is to be had.
pub(crate) fn start(sink: Sink) -> io::Result<SocketAddr> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
    let address = listener.local_addr()?;
    std::thread::Builder::new().name("collector".into()).spawn(move || {
        let set = LocalSet::new();
        set.spawn_local(accept(listener, sink));
        runtime.block_on(set);
    })?;
    Ok(address)
}

async fn accept(listener: TcpListener, sink: Sink) {
    let mut kept = Vec::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        match sink {
            // A proxy that is stopped resets its connections: nothing to tell.
            Sink::Takes => drop(tokio::task::spawn_local(async move { drop(serve(stream).await) })),
            Sink::Stalls => kept.push(stream),
        }
    }
}

async fn serve(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut bytes = Vec::with_capacity(1 << 16);
    while stream.read_buf(&mut bytes).await? > 0 {
        while let Some(length) = whole(&bytes) {
            bytes.drain(..length);
            stream.write_all(ANSWER).await?;
        }
    }
    Ok(())
}

/// The length of the request that `bytes` begin with, if it is whole.
fn whole(bytes: &[u8]) -> Option<usize> {
    let head = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(bytes.get(..head)?).to_ascii_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    let end = head + length.unwrap_or(0_usize);
    (bytes.len() >= end).then_some(end)
}

/// An empty `ExportTraceServiceResponse`: all was taken.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n";
