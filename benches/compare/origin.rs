//! The origin behind every proxy: a thread of this program that answers as cheaply as it can, so
//! that the core it shares with the load generator is not what limits the proxy. It knows four
//! paths, keeps its connections for good but after one of them, and reads no request bodies.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;

use crate::cases::{CLOSING, ECHO, MEBIBYTE};

/// Starts the origin on a thread of its own, which ends with the process. It listens on the same port
/// of 127.0.0.1 to 127.0.0.4.
///
/// # Errors
/// Where no port or thread is to be had.
pub(crate) fn start() -> io::Result<SocketAddr> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
    let address = listener.local_addr()?;
    let mut listeners = vec![listener];
    for host in 2..=ADDRESSES {
        let address = (Ipv4Addr::new(127, 0, 0, host), address.port());
        listeners.push(runtime.block_on(TcpListener::bind(address))?);
    }
    std::thread::Builder::new().name("origin".into()).spawn(move || {
        let (set, answers) = (LocalSet::new(), Rc::new(Answers::new()));
        for listener in listeners {
            set.spawn_local(accept(listener, Rc::clone(&answers)));
        }
        runtime.block_on(set);
    })?;
    Ok(address)
}

async fn accept(listener: TcpListener, answers: Rc<Answers>) {
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            let answers = Rc::clone(&answers);
            tokio::task::spawn_local(async move {
                // A proxy that is stopped resets its connections: nothing to tell.
                drop(serve(stream, &answers).await);
            });
        }
    }
}

async fn serve(mut stream: TcpStream, answers: &Answers) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut head = Vec::with_capacity(4096);
    while stream.read_buf(&mut head).await? > 0 {
        if !head.ends_with(b"\r\n\r\n") {
            if head.len() > MAX_HEAD {
                return Ok(());
            }
            continue;
        }
        if asks_for(&head, MEBIBYTE) {
            stream.write_all(&answers.big).await?;
        } else if asks_for(&head, ECHO) {
            stream.write_all(&response_head(head.len())).await?;
            stream.write_all(&head).await?;
        } else if asks_for(&head, CLOSING) {
            return stream.write_all(&answers.last).await;
        } else {
            stream.write_all(&answers.small).await?;
        }
        head.clear();
    }
    Ok(())
}

fn asks_for(head: &[u8], path: &str) -> bool {
    head.strip_prefix(b"GET ").is_some_and(|rest| rest.starts_with(path.as_bytes()))
}

/// What is sent, made once.
struct Answers {
    small: Vec<u8>,
    /// As `small`, before the connection is closed.
    last: Vec<u8>,
    big: Vec<u8>,
}

impl Answers {
    fn new() -> Self {
        let small = response(100);
        let last = String::from_utf8_lossy(&small).replacen("\r\n\r\n", "\r\nConnection: close\r\n\r\n", 1);
        Self { small, last: last.into_bytes(), big: response(BIG_BODY) }
    }
}

fn response(length: usize) -> Vec<u8> {
    let mut response = response_head(length);
    response.resize(response.len() + length, b'x');
    response
}

/// A head with the fields that most origins send.
fn response_head(length: usize) -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\nServer: origin\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n\
         Content-Type: text/plain\r\nContent-Length: {length}\r\nCache-Control: no-cache\r\n\r\n"
    )
    .into_bytes()
}

/// Bytes.
const BIG_BODY: usize = 1 << 20;
/// Bytes; a request past it is dropped with its connection.
const MAX_HEAD: usize = 64 * 1024;

/// Addresses that it listens on.
const ADDRESSES: u8 = 4;
