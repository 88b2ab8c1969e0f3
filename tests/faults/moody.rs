//! An origin that behaves as its mood says, and whose mood can be changed while it runs. It answers
//! `/healthz` well as long as it is alive, whatever its mood: the shallow check of many services.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// How an origin behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    /// Answers after [`SERVICE`].
    Well,
    /// Takes 20 times as long.
    Slow,
    /// Sends half of each body, then closes.
    Truncates,
    /// Sends half of each body, then resets.
    Resets,
    /// Sends what is no HTTP.
    Garbage,
    /// Fails this share of requests, in percent, with 500.
    Fails(u8),
    /// Answers everything with 503.
    Refuses,
    /// Takes requests and says nothing.
    Hangs,
    /// Begins a body and stalls.
    Stalls,
}

/// How long a healthy origin takes.
pub(crate) const SERVICE: Duration = Duration::from_millis(5);

/// A running origin. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Moody {
    shared: Arc<Shared>,
    address: SocketAddr,
}

#[derive(Debug)]
struct Shared {
    mood: Mutex<Mood>,
    alive: AtomicBool,
    requests: AtomicU64,
    streams: Mutex<Vec<TcpStream>>,
}

impl Moody {
    /// An origin that is well, on a free port.
    pub(crate) fn new() -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").expect("there is a free port"))
    }

    fn on(listener: TcpListener) -> Self {
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared {
            mood: Mutex::new(Mood::Well),
            alive: AtomicBool::new(true),
            requests: AtomicU64::new(0),
            streams: Mutex::default(),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if !accepting.alive.load(Ordering::SeqCst) {
                    return;
                }
                accepting.streams().extend(stream.try_clone());
                let shared = Arc::clone(&accepting);
                thread::spawn(move || {
                    // Whoever leaves or is cut off ends the conversation.
                    let _ = shared.converse(&stream);
                    let own = stream.peer_addr().ok();
                    shared.streams().retain(|other| other.peer_addr().ok() != own);
                });
            }
        });
        Self { shared, address }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn set(&self, mood: Mood) {
        *self.shared.mood.lock().unwrap_or_else(PoisonError::into_inner) = mood;
    }

    /// Requests so far, those for `/healthz` left out.
    pub(crate) fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// Ends at once: its port refuses, its connections are cut.
    pub(crate) fn kill(&self) {
        if !self.shared.alive.swap(false, Ordering::SeqCst) {
            return;
        }
        // Wakes the thread that accepts, which then closes the socket.
        let _ = TcpStream::connect(self.address);
        for stream in self.shared.streams().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Begins again on the same port, after [`Self::kill`].
    pub(crate) fn revive(&mut self) {
        let listener = (0..500).find_map(|_| {
            TcpListener::bind(self.address).ok().or_else(|| {
                thread::sleep(Duration::from_millis(2));
                None
            })
        });
        *self = Self::on(listener.expect("its port is still free"));
    }
}

impl Drop for Moody {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Shared {
    fn streams(&self) -> std::sync::MutexGuard<'_, Vec<TcpStream>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn converse(&self, mut stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        let mut buffer = Vec::new();
        loop {
            while !buffer.ends_with(b"\r\n\r\n") {
                let mut piece = [0; 4096];
                let n = stream.read(&mut piece)?;
                if n == 0 {
                    return Ok(());
                }
                buffer.extend_from_slice(piece.get(..n).unwrap_or_default());
            }
            let check = buffer.starts_with(b"GET /healthz");
            buffer.clear();
            if check {
                stream.write_all(OK.as_bytes())?;
                continue;
            }
            let number = self.requests.fetch_add(1, Ordering::SeqCst);
            let mood = *self.mood.lock().unwrap_or_else(PoisonError::into_inner);
            if !self.answer(stream, mood, number)? {
                return Ok(());
            }
        }
    }

    /// Answers one request; whether the connection goes on.
    fn answer(&self, mut stream: &TcpStream, mood: Mood, number: u64) -> io::Result<bool> {
        thread::sleep(if mood == Mood::Slow { SERVICE * 20 } else { SERVICE });
        let (text, goes_on) = match mood {
            Mood::Well | Mood::Slow => (OK, true),
            Mood::Truncates | Mood::Resets => (HALF, false),
            Mood::Garbage => ("SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", false),
            // A multiplier that spreads the failures without a pattern that matters.
            Mood::Fails(share) if number.wrapping_mul(61) % 100 < u64::from(share) => (FAILED, true),
            Mood::Fails(_) => (OK, true),
            Mood::Refuses => (REFUSED, true),
            Mood::Hangs => ("", true),
            Mood::Stalls => (HALF, true),
        };
        stream.write_all(text.as_bytes())?;
        if mood == Mood::Resets {
            self.streams().retain(|other| other.peer_addr().ok() != stream.peer_addr().ok());
            socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO))?;
        }
        if matches!(mood, Mood::Hangs | Mood::Stalls) {
            let _ = stream.read(&mut [0; 1])?;
            return Ok(false);
        }
        Ok(goes_on)
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789";
const HALF: &str = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234";
const FAILED: &str = "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n";
const REFUSED: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";
