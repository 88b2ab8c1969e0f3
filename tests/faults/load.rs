//! Clients that ask at a steady rate, whatever the answers, and note how each request went.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use forebay::ambient;

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Shot {
    /// When it was due, after the beginning of the load.
    pub(crate) at: Duration,
    /// From then to its end.
    pub(crate) took: Duration,
    /// Why it was no success, if it was none.
    pub(crate) failure: Option<String>,
}

/// A running load.
#[derive(Debug)]
pub(crate) struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    address: SocketAddr,
    began: Instant,
    pause: Duration,
    next: AtomicUsize,
    over: AtomicBool,
    shots: Mutex<Vec<Shot>>,
}

/// What came of a load.
#[derive(Debug)]
pub(crate) struct Shots(pub(crate) Vec<Shot>);

impl Load {
    /// Asks so many times a second.
    pub(crate) fn start(address: SocketAddr, rate: u32) -> Self {
        let shared = Arc::new(Shared {
            address,
            began: ambient::now(),
            pause: Duration::from_secs(1) / rate,
            next: AtomicUsize::new(0),
            over: AtomicBool::new(false),
            shots: Mutex::default(),
        });
        let client = |_| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.client())
        };
        let clients = (0..CLIENTS).map(client).collect();
        Self { shared, clients }
    }

    /// Lets it go on for this long.
    pub(crate) fn run(&self, time: Duration) -> &Self {
        // Time has to pass: the load is what the proxy learns from.
        thread::sleep(time);
        self
    }

    /// How long it has been running.
    pub(crate) fn elapsed(&self) -> Duration {
        self.shared.began.elapsed()
    }

    /// Ends it and waits for the requests under way.
    pub(crate) fn stop(self) -> Shots {
        self.shared.over.store(true, Ordering::SeqCst);
        for client in self.clients {
            client.join().expect("clients do not panic");
        }
        let mut shots =
            std::mem::take(&mut *self.shared.shots.lock().unwrap_or_else(PoisonError::into_inner));
        shots.sort_by_key(|shot| shot.at);
        Shots(shots)
    }
}

impl Shared {
    fn client(&self) {
        let mut link = None;
        while !self.over.load(Ordering::SeqCst) {
            let number = u32::try_from(self.next.fetch_add(1, Ordering::SeqCst)).expect("few enough");
            let at = self.pause * number;
            thread::sleep(at.saturating_sub(self.began.elapsed()));
            let asked = self.ask(&mut link);
            let took = self.began.elapsed().saturating_sub(at);
            if asked.is_err() {
                link = None;
            }
            let failure = asked.err().map(|error| error.to_string());
            self.shots.lock().unwrap_or_else(PoisonError::into_inner).push(Shot { at, took, failure });
        }
    }

    fn ask(&self, link: &mut Option<TcpStream>) -> io::Result<()> {
        let mut tcp = match link.take() {
            Some(tcp) => tcp,
            None => TcpStream::connect(self.address)?,
        };
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(PATIENCE))?;
        tcp.write_all(b"GET /work HTTP/1.1\r\nHost: test\r\n\r\n")?;
        let mut answer = Vec::new();
        loop {
            let mut piece = [0; 4096];
            let n = tcp.read(&mut piece)?;
            if n == 0 {
                return Err(io::Error::other(format!("ended after {}", String::from_utf8_lossy(&answer))));
            }
            answer.extend_from_slice(piece.get(..n).unwrap_or_default());
            if answer.starts_with(b"HTTP/1.1 200") && answer.ends_with(b"\r\n\r\n0123456789") {
                *link = Some(tcp);
                return Ok(());
            }
            if !answer.starts_with(b"HTTP/1.1 200") && answer.windows(4).any(|end| end == b"\r\n\r\n") {
                return Err(io::Error::other(String::from_utf8_lossy(&answer).into_owned()));
            }
        }
    }
}

impl Shots {
    /// The requests that failed.
    pub(crate) fn failed(&self) -> Vec<&Shot> {
        self.0.iter().filter(|shot| shot.failure.is_some()).collect()
    }

    /// From the first failure to the end of the last one.
    pub(crate) fn failing_for(&self) -> Duration {
        let failed = self.failed();
        let Some(first) = failed.iter().map(|shot| shot.at + shot.took).min() else { return Duration::ZERO };
        let last = failed.iter().map(|shot| shot.at + shot.took).max().unwrap_or(first);
        last - first
    }

    /// The 99th percentile of those due within `from..to`.
    pub(crate) fn p99(&self, from: Duration, to: Duration) -> Duration {
        let mut took: Vec<_> = self.0.iter().filter(|s| (from..to).contains(&s.at)).map(|s| s.took).collect();
        took.sort_unstable();
        took.get(took.len() * 99 / 100).copied().unwrap_or_default()
    }
}

const CLIENTS: usize = 48;
/// How long a client waits for bytes.
const PATIENCE: Duration = Duration::from_secs(3);
