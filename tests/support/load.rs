//! Clients that ask at a steady rate, whatever the answers, and note how each request went. The load
//! is open: a request is sent when it is due, on a connection that is free or on a new one, however
//! many others still wait; how long it took counts from when it was due.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use forebay::ambient;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// What a client sends.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ask {
    /// `POST` with a body, rather than `GET`.
    pub(crate) post: bool,
    /// Further fields, each with its line end.
    pub(crate) fields: &'static str,
}

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Shot {
    /// Its number, from 0, which it carries as `X-Number`.
    pub(crate) number: u64,
    /// What was asked.
    pub(crate) ask: Ask,
    /// When it was due, after the beginning of the load.
    pub(crate) at: Duration,
    /// When its client set to work, counted likewise.
    pub(crate) sent: Duration,
    /// From then to its end.
    pub(crate) took: Duration,
    /// The status, if there was one.
    pub(crate) status: Option<u16>,
    /// What the proxy said about it.
    pub(crate) proxy_status: String,
    /// Why it was no success, if it was none.
    pub(crate) failure: Option<String>,
}

/// A running load.
#[derive(Debug)]
pub(crate) struct Load {
    shared: Arc<Shared>,
    driver: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    address: SocketAddr,
    began: Instant,
    pause: Duration,
    ask: fn(u64) -> Ask,
    over: AtomicBool,
    links: Mutex<VecDeque<TcpStream>>,
    shots: Mutex<Vec<Shot>>,
}

/// An answer as far as it matters here.
#[derive(Debug, Default)]
struct Answer {
    status: u16,
    proxy_status: String,
    closes: bool,
}

/// What came of a load.
#[derive(Debug)]
pub(crate) struct Shots(pub(crate) Vec<Shot>);

impl Load {
    /// Sends so many `GET`s a second.
    pub(crate) fn start(address: SocketAddr, rate: u32) -> Self {
        Self::asking(address, rate, |_| Ask::default())
    }

    /// Sends so many requests a second, each as `ask` says for its number.
    pub(crate) fn asking(address: SocketAddr, rate: u32, ask: fn(u64) -> Ask) -> Self {
        let shared = Arc::new(Shared {
            address,
            began: ambient::now(),
            pause: Duration::from_secs(1) / rate,
            ask,
            over: AtomicBool::new(false),
            links: Mutex::default(),
            shots: Mutex::default(),
        });
        let driving = Arc::clone(&shared);
        let driver = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime starts").block_on(driving.drive());
        });
        Self { shared, driver }
    }

    /// Lets it go on for this long.
    pub(crate) fn run(&self, time: Duration) -> &Self {
        // Time has to pass: the load is what the proxy learns from.
        thread::sleep(time);
        self
    }

    /// When it began.
    pub(crate) fn began(&self) -> Instant {
        self.shared.began
    }

    /// How long it has been running.
    pub(crate) fn elapsed(&self) -> Duration {
        self.shared.began.elapsed()
    }

    /// Ends it and waits for the requests under way.
    pub(crate) fn stop(self) -> Shots {
        self.shared.over.store(true, Ordering::SeqCst);
        self.driver.join().expect("clients do not panic");
        let mut shots = std::mem::take(&mut *lock(&self.shared.shots));
        shots.sort_by_key(|shot| shot.number);
        Shots(shots)
    }
}

impl Shared {
    async fn drive(self: Arc<Self>) {
        let mut clients = JoinSet::new();
        for number in 0_u32.. {
            let at = self.pause * number;
            sleep(at.saturating_sub(self.began.elapsed())).await;
            if self.over.load(Ordering::SeqCst) {
                break;
            }
            clients.spawn(Arc::clone(&self).client(number.into(), at));
            while clients.try_join_next().is_some() {}
        }
        while let Some(ended) = clients.join_next().await {
            ended.expect("clients do not panic");
        }
    }

    async fn client(self: Arc<Self>, number: u64, at: Duration) {
        let (ask, sent) = ((self.ask)(number), self.began.elapsed());
        let answer = timeout(PATIENCE, self.exchange(number, ask)).await;
        let answer = answer.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let took = self.began.elapsed().saturating_sub(at);
        let (status, proxy_status, failure) = match answer {
            Ok(Answer { status: 200, .. }) => (Some(200), String::new(), None),
            Ok(Answer { status, proxy_status, .. }) => {
                let failure = format!("{status} {proxy_status}");
                (Some(status), proxy_status, Some(failure))
            }
            Err(error) => (None, String::new(), Some(error.to_string())),
        };
        lock(&self.shots).push(Shot { number, ask, at, sent, took, status, proxy_status, failure });
    }

    async fn exchange(&self, number: u64, ask: Ask) -> io::Result<Answer> {
        let mut tcp = match self.free() {
            Some(tcp) => tcp,
            None => TcpStream::connect(self.address).await?,
        };
        tcp.set_nodelay(true)?;
        tcp.write_all(ask.text(number).as_bytes()).await?;
        let answer = read_answer(&mut tcp).await?;
        if !answer.closes {
            lock(&self.links).push_back(tcp);
        }
        Ok(answer)
    }

    /// A connection that is free, and that nobody has closed since.
    fn free(&self) -> Option<TcpStream> {
        let mut links = lock(&self.links);
        loop {
            let tcp = links.pop_back()?;
            let quiet = tcp.try_read(&mut [0; 1]).is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock);
            if quiet {
                return Some(tcp);
            }
        }
    }
}

impl Ask {
    fn text(self, number: u64) -> String {
        let Self { post, fields } = self;
        let head = format!("Host: test\r\nX-Number: {number}\r\n{fields}");
        if post {
            let body = format!("number={number}");
            format!("POST /work HTTP/1.1\r\n{head}Content-Length: {}\r\n\r\n{body}", body.len())
        } else {
            format!("GET /work HTTP/1.1\r\n{head}\r\n")
        }
    }
}

impl Shots {
    /// The requests that failed.
    pub(crate) fn failed(&self) -> Vec<&Shot> {
        self.0.iter().filter(|shot| shot.failure.is_some()).collect()
    }

    /// Those that were due within `from..to`.
    pub(crate) fn within(&self, from: Duration, to: Duration) -> Self {
        Self(self.0.iter().filter(|shot| (from..to).contains(&shot.at)).cloned().collect())
    }

    /// Those for which this holds.
    pub(crate) fn that(&self, holds: impl Fn(&Shot) -> bool) -> Self {
        Self(self.0.iter().filter(|shot| holds(shot)).cloned().collect())
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
        self.within(from, to).permille(990)
    }

    /// The median of the 99th percentiles of the seconds in `from..to`: one of them may be disturbed.
    pub(crate) fn steady_p99(&self, from: Duration, to: Duration) -> Duration {
        let second = Duration::from_secs(1);
        let seconds = (0_u32..).map(|n| from + second * n).take_while(|begin| *begin + second <= to);
        let mut p99s: Vec<_> = seconds.map(|begin| self.p99(begin, begin + second)).collect();
        p99s.sort_unstable();
        p99s.get(p99s.len().saturating_sub(1) / 2).copied().unwrap_or_default()
    }

    /// How long so many of a thousand took at most.
    pub(crate) fn permille(&self, share: usize) -> Duration {
        let mut took: Vec<_> = self.0.iter().map(|shot| shot.took).collect();
        took.sort_unstable();
        took.get(took.len() * share / 1000).copied().unwrap_or_default()
    }
}

/// Reads an answer whose length is announced, or that ends with its head.
async fn read_answer(tcp: &mut TcpStream) -> io::Result<Answer> {
    let mut bytes = Vec::new();
    loop {
        if let Some((answer, length)) = parsed(&bytes)
            && bytes.len() >= length
        {
            return Ok(answer);
        }
        if tcp.read_buf(&mut bytes).await? == 0 {
            return Err(io::Error::other(format!("ended after {}", String::from_utf8_lossy(&bytes))));
        }
    }
}

/// The head, if it is whole, and how long head and body are.
fn parsed(bytes: &[u8]) -> Option<(Answer, usize)> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(bytes.get(..end)?).into_owned();
    let mut answer = Answer { status: head.split(' ').nth(1)?.parse().ok()?, ..Answer::default() };
    let mut length = 0;
    for (name, value) in head.lines().filter_map(|line| line.split_once(": ")) {
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().ok()?,
            "proxy-status" => value.clone_into(&mut answer.proxy_status),
            "connection" => answer.closes = value.eq_ignore_ascii_case("close"),
            _ => {}
        }
    }
    Some((answer, end + length))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(3);
