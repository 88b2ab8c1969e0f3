//! Five thousand connections at once through one worker: all of them carry something, all of them end
//! when their server does, and nothing is left of them.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::oneshot;

use crate::support::{DEADLINE, Metrics, Process, within};

/// Sends back what it gets, on one thread for all connections.
struct Echo {
    address: SocketAddr,
    open: Arc<AtomicUsize>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    fn start() -> Self {
        let open = Arc::new(AtomicUsize::new(0));
        let (stop, stopped) = oneshot::channel();
        let (tell, told) = mpsc::sync_channel(1);
        let counted = Arc::clone(&open);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                tell.send(listener.local_addr().unwrap()).unwrap();
                tokio::select! {
                    () = accept(listener, counted) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { address: told.recv().unwrap(), open, stop: Some(stop), thread: Some(thread) }
    }

    fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    /// Ends it with all of its connections.
    fn kill(&mut self) {
        self.stop.take();
        self.thread.take().map(JoinHandle::join);
    }
}

#[expect(clippy::disallowed_methods, reason = "a task of the origin's own runtime")]
async fn accept(listener: tokio::net::TcpListener, open: Arc<AtomicUsize>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let open = Arc::clone(&open);
        open.fetch_add(1, Ordering::SeqCst);
        tokio::spawn(async move {
            let mut bytes = [0; 1024];
            while let Ok(read @ 1..) = stream.read(&mut bytes).await {
                if stream.write_all(bytes.get(..read).unwrap_or_default()).await.is_err() {
                    break;
                }
            }
            open.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

/// Connections that do nothing of themselves.
struct Crowd(Vec<TcpStream>);

impl Crowd {
    fn open(address: SocketAddr, count: usize) -> Self {
        let connect = |_| {
            let stream = TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(DEADLINE)).unwrap();
            stream
        };
        Self((0..count).map(connect).collect())
    }

    /// Sends something else on each, and then takes it back from each.
    #[track_caller]
    fn echo(&mut self, round: usize) {
        let word = |number: usize| format!("{round:06} {number:08}");
        for (number, stream) in self.0.iter_mut().enumerate() {
            stream.write_all(word(number).as_bytes()).unwrap();
        }
        for (number, stream) in self.0.iter_mut().enumerate() {
            let mut got = [0; 15];
            stream.read_exact(&mut got).unwrap();
            assert_eq!(String::from_utf8_lossy(&got), word(number));
        }
    }

    /// Waits until each has ended.
    #[track_caller]
    fn expect_end(mut self) {
        for stream in &mut self.0 {
            let ended = stream.read(&mut [0; 16]);
            let late = |kind| matches!(kind, std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut);
            assert!(!ended.as_ref().is_err_and(|error| late(error.kind())), "one did not end");
            assert!(matches!(ended, Ok(0) | Err(_)), "bytes instead of an end");
        }
    }
}

#[test]
fn five_thousand_connections_whose_server_dies() {
    let Some(count) = allowed() else { return };
    let mut echo = Echo::start();
    let process = Process::run(&format!(
        "workers = 1\n[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\nprotocol = \"tcp\"\npool = \"app\"\n\
         [pool.app]\nendpoints = [\"{}\"]\nlimits = {{ in_flight = 10000 }}\n",
        echo.address
    ));
    let listener = process.address("web");
    let metrics = || Metrics::parse(&process.ask_admin("/metrics").text());
    let mut before = 0;
    // Twice, so that what is left of the first shows.
    for round in 0..2 {
        let mut crowd = Crowd::open(listener, count);
        crowd.echo(1);
        assert_eq!(echo.open(), count);
        assert_eq!(metrics().sum("forebay_tcp_open", &[("listener", "web")]), count as f64);
        crowd.echo(2);
        if round == 0 {
            drop(crowd);
        } else {
            echo.kill();
            crowd.expect_end();
        }
        let over = ((round + 1) * count) as f64;
        within(LONG, "the end of all connections", || {
            let now = metrics();
            let of = [("listener", "web")];
            let left = now.sum("forebay_tcp_open", &of) + now.sum("forebay_connections_active", &of);
            // One that was killed counts no more.
            let echoed = round > 0 || echo.open() == 0;
            left == 0.0 && echoed && now.sum("forebay_tcp_connections_total", &of) == over
        });
        let now = metrics();
        assert_eq!(now.sum("forebay_panics_total", &[]), 0.0);
        let descriptors = process.descriptors();
        assert!(round == 0 || descriptors <= before + 8, "{descriptors}, {before} before");
        before = descriptors;
    }
}

/// As many connections as there may be, with one descriptor at each side of them in this process and two
/// in the proxy's.
#[expect(clippy::print_stderr, reason = "says why the test checked less")]
fn allowed() -> Option<usize> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // Children inherit it.
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).ok()?;
    let room = maximum.map_or(CONNECTIONS, |most| usize::try_from(most).unwrap_or(usize::MAX) / 2 - 200);
    if room < CONNECTIONS {
        eprintln!("{room} connections instead of {CONNECTIONS}: too few descriptors");
    }
    Some(room.min(CONNECTIONS))
}

const CONNECTIONS: usize = 5000;
/// For thousands of connections on a slow machine.
const LONG: Duration = Duration::from_secs(60);
