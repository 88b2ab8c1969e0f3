//! What active checks of a large pool cost: CPU time and memory of a proxy that has nothing else to
//! do, with checks and without. Every endpoint is an address of the loopback interface; one thread
//! answers for all of them and counts.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;

use crate::Failure;
use crate::cpu::{self, Memory};
use crate::ground::{Ground, PROXY_CORE};
use crate::launch::{self, Running};
use crate::options::Options;
use crate::peers::{Proxy, free_port, program};
use crate::statistics::median;

/// Measures every proxy that has active checks and tells it as Markdown.
///
/// # Errors
/// Where a proxy fails.
pub(crate) fn section(ground: &Ground, options: &Options) -> Result<String, Failure> {
    let origin = Origin::start()?;
    let window = options.window() * WINDOWS;
    let rounds = options.rounds().min(MOST_ROUNDS);
    let mut text = format!(
        "{ENDPOINTS} endpoints, each asked `GET /healthz` every {} s on a new connection, no other traffic; one \
         worker; medians of {rounds} rounds with windows of {} s.\n\n\
         | | checks/s | CPU, % of a core | without checks | µs per check | resident, MiB | without checks |\n\
         |---|---|---|---|---|---|---|\n",
        INTERVAL.as_secs(),
        window.as_secs(),
    );
    for proxy in options.proxies.iter().filter(|proxy| [Proxy::Forebay, Proxy::Haproxy].contains(proxy)) {
        let mut found = Vec::new();
        for _ in 0..rounds {
            let round = [false, true].map(|checks| {
                measure(ground, *proxy, &origin, checks, window)
                    .map_err(|failure| format!("{}: {failure}", proxy.name()))
            });
            let [idle, checking] = round;
            let (idle, checking) = (idle?, checking?);
            eprintln!("checks {:7}: {checking:?}, without {idle:?}", proxy.name());
            found.push((idle, checking));
        }
        let of = |figure: &dyn Fn(&(Reading, Reading)) -> f64| {
            median(&found.iter().map(figure).collect::<Vec<_>>()).unwrap_or(f64::NAN)
        };
        writeln!(
            text,
            "| {} | {:.0} | **{:.2}** | {:.2} | {:.1} | **{:.1}** | {:.1} |",
            proxy.name(),
            of(&|(_, checking)| checking.rate),
            of(&|(_, checking)| checking.share * 100.0),
            of(&|(idle, _)| idle.share * 100.0),
            of(&|(idle, checking)| (checking.share - idle.share) / checking.rate * 1e6),
            of(&|(_, checking)| checking.memory.resident as f64 / 1024.0),
            of(&|(idle, _)| idle.memory.resident as f64 / 1024.0),
        )?;
    }
    Ok(text)
}

#[derive(Debug, Clone, Copy)]
struct Reading {
    /// Checks in a second.
    rate: f64,
    /// CPU time over time.
    share: f64,
    memory: Memory,
}

fn measure(
    ground: &Ground,
    proxy: Proxy,
    origin: &Origin,
    checks: bool,
    window: Duration,
) -> Result<Reading, Failure> {
    let serving = start(ground, proxy, origin.port, checks)?;
    // Every endpoint has been asked once by then, and its second check is at its own time.
    sleep(INTERVAL * 3);
    let began = (Instant::now(), cpu::used(serving.id())?, origin.asked());
    sleep(window);
    let took = began.0.elapsed().as_secs_f64();
    let used = cpu::used(serving.id())?.saturating_sub(began.1);
    let asked = origin.asked() - began.2;
    let memory = cpu::memory(serving.id())?;
    Ok(Reading { rate: asked as f64 / took, share: used.as_secs_f64() / took, memory })
}

fn start(ground: &Ground, proxy: Proxy, origin: u16, checks: bool) -> Result<Running, Failure> {
    let (port, admin) = (free_port()?, free_port()?);
    let (text, file) = match proxy {
        Proxy::Forebay => (forebay(port, admin, origin, checks), "checks.toml"),
        _ => (haproxy(port, origin, checks), "checks.cfg"),
    };
    let path = ground.dir().join(file);
    fs::write(&path, text)?;
    let mut command = launch::command(PROXY_CORE, program(ground, proxy));
    match proxy {
        Proxy::Forebay => command.arg("run").arg("-c").arg(path).args(["--workers", "1"]),
        _ => command.arg("-q").arg("-db").arg("-f").arg(path),
    };
    let mut serving = Running::start(&mut command, &ground.dir().join("checks.out"))?;
    serving.wait_for_listener((Ipv4Addr::LOCALHOST, port).into())?;
    Ok(serving)
}

/// Its defaults, but for what is compared.
fn forebay(port: u16, admin: u16, origin: u16, checks: bool) -> String {
    let mut text = format!(
        "[admin]\nbind = \"127.0.0.1:{admin}\"\n[[listener]]\nname = \"edge\"\nbind = \"127.0.0.1:{port}\"\n\
         [[route]]\npool = \"app\"\n[pool.app]\nendpoints = [\n"
    );
    for host in hosts() {
        text += &format!("\"{host}:{origin}\",\n");
    }
    text += "]\n";
    if checks {
        let interval = INTERVAL.as_secs();
        text +=
            &format!("[pool.app.health]\nkind = \"http\"\npath = \"/healthz\"\ninterval = \"{interval}s\"\n");
    }
    text
}

fn haproxy(port: u16, origin: u16, checks: bool) -> String {
    let mut text = format!(
        "global\n nbthread 1\n no strict-limits\ndefaults\n mode http\n timeout connect 2s\n timeout client 60s\n \
         timeout server 60s\nfrontend edge\n bind 127.0.0.1:{port}\n default_backend app\nbackend app\n"
    );
    if checks {
        let interval = INTERVAL.as_secs();
        text += " option httpchk\n http-check send meth GET uri /healthz ver HTTP/1.1 hdr Host app hdr Connection close\n";
        text += &format!(" default-server check inter {interval}s fall 3 rise 2\n");
    }
    for (number, host) in hosts().enumerate() {
        text += &format!(" server s{number} {host}:{origin}\n");
    }
    text
}

fn hosts() -> impl Iterator<Item = Ipv4Addr> {
    let first = u32::from(Ipv4Addr::new(127, 1, 0, 0));
    (0..ENDPOINTS).map(move |index| Ipv4Addr::from(first + index))
}

/// What answers at all of these addresses.
pub(crate) struct Origin {
    port: u16,
    asked: Arc<AtomicU64>,
}

impl Origin {
    /// Starts it on a thread of its own, which ends with the process.
    ///
    /// # Errors
    /// Where no port or thread is to be had.
    pub(crate) fn start() -> Result<Self, Failure> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        // The loopback interface only, whatever the address says.
        socket.bind_device(Some(b"lo"))?;
        socket.set_nonblocking(true)?;
        socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)).into())?;
        socket.listen(4096)?;
        let port = socket.local_addr()?.as_socket().ok_or("a socket without a port")?.port();
        let asked = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&asked);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        std::thread::Builder::new().name("checked".into()).spawn(move || -> io::Result<()> {
            let set = LocalSet::new();
            set.block_on(&runtime, async move {
                let listener = TcpListener::from_std(socket.into())?;
                loop {
                    if let Ok((stream, _)) = listener.accept().await {
                        tokio::task::spawn_local(answer(stream, Arc::clone(&counter)));
                    }
                }
            })
        })?;
        Ok(Self { port, asked })
    }

    /// The port, of every address of the loopback interface.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Checks so far.
    fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }
}

/// Answers one request and closes, as it is asked to.
async fn answer(mut stream: TcpStream, asked: Arc<AtomicU64>) {
    let mut head = Vec::with_capacity(1024);
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_buf(&mut head).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
    asked.fetch_add(1, Ordering::Relaxed);
    // Whoever has left by now has no need of it.
    drop(stream.write_all(ANSWER).await);
}

const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n";
const ENDPOINTS: u32 = 5_000;
const INTERVAL: Duration = Duration::from_secs(5);
/// Windows of other measurements that this one is long: several intervals.
const WINDOWS: u32 = 5;
/// A minute each.
const MOST_ROUNDS: u32 = 3;
