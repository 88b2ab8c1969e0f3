//! What a scrape of metrics costs where there are 10,000 endpoints: how long it takes, how much it brings, the CPU
//! time and memory for it, and whether clients notice that there is one every second.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use rustix::process::setpriority_process;

use crate::Failure;
use crate::cases::Case;
use crate::checks::Origin;
use crate::cpu;
use crate::ground::{Ground, PROXY_CORE};
use crate::launch::{self, Running};
use crate::load::{self, Pace};
use crate::options::Options;
use crate::peers::{Proxy, free_port, program};
use crate::quiet;
use crate::speed::WARM_UP;
use crate::statistics::median;

/// Measures everybody who has such metrics and tells it as Markdown.
///
/// # Errors
/// Where a proxy fails.
pub(crate) fn section(ground: &Ground, options: &Options) -> Result<String, Failure> {
    let origin = Origin::start()?;
    let took_part = |kind: &&Kind| options.proxies.contains(&kind.proxy);
    let subjects: Vec<_> = KINDS.iter().filter(took_part).map(|kind| (kind, ground, &origin)).collect();
    let mut text = format!(
        "{ENDPOINTS} endpoints in one pool, each asked {} times before; one worker, on the core where the page is \
         made too. The first figures are medians of {SCRAPES} scrapes without traffic, from asking to the last byte; \
         memory is resident, before them and after. Then p50 / p99 in ms at {RATE} requests/s to another pool over {} \
         connections, left alone and scraped once a second: medians of {} interleaved rounds of {} s.\n\n\
         | | samples | MiB | ms | CPU, ms | memory, MiB | after | left alone | scraped |\n\
         |---|---|---|---|---|---|---|---|---|\n",
        TURNS,
        PACE.connections,
        options.rounds(),
        options.window().as_secs(),
    );
    for (kind, ground, origin) in subjects {
        let row =
            measure(ground, options, kind, origin).map_err(|failure| format!("{}: {failure}", kind.words))?;
        eprintln!("scrape, {}: {row:?}", kind.words);
        let [alone, scraped] = row.noticed;
        writeln!(
            text,
            "| {} | {} | {:.1} | **{:.0}** | {:.0} | {:.0} | {:.0} | {:.2} / {:.2} | {:.2} / **{:.2}** |",
            kind.words,
            row.samples,
            row.size,
            row.took,
            row.cpu,
            row.memory.0,
            row.memory.1,
            alone.0,
            alone.1,
            scraped.0,
            scraped.1
        )?;
    }
    Ok(text)
}

/// A proxy, and how it shows its endpoints.
#[derive(Debug)]
struct Kind {
    words: &'static str,
    proxy: Proxy,
    /// Lines of Forebay's configuration.
    lines: &'static str,
}

const KINDS: [Kind; 3] = [
    Kind { words: "Forebay, most endpoints as `other` (the default)", proxy: Proxy::Forebay, lines: "" },
    Kind {
        words: "Forebay, every endpoint by itself",
        proxy: Proxy::Forebay,
        lines: "[metrics]\nmax_series = 1000000\n",
    },
    Kind { words: "HAProxy", proxy: Proxy::Haproxy, lines: "" },
];

/// MiB, milliseconds, and pairs of them.
#[derive(Debug)]
struct Row {
    samples: usize,
    size: f64,
    took: f64,
    cpu: f64,
    memory: (f64, f64),
    /// p50 and p99, left alone and scraped.
    noticed: [(f64, f64); 2],
}

fn measure(ground: &Ground, options: &Options, kind: &Kind, origin: &Origin) -> Result<Row, Failure> {
    let subject = Subject::start(ground, kind, origin.port())?;
    subject.ask_every_endpoint()?;
    let resident = || cpu::memory(subject.running.id()).map(|memory| memory.resident as f64 / 1024.0);
    let (before, used) = (resident()?, cpu::used(subject.running.id())?);
    let (mut page, mut took) = (String::new(), Vec::new());
    for _ in 0..SCRAPES {
        let began = Instant::now();
        page = scrape(subject.metrics)?;
        took.push(began.elapsed().as_secs_f64() * 1e3);
    }
    let used = cpu::used(subject.running.id())?.saturating_sub(used);
    let memory = (before, resident()?);
    eprintln!("scrape, {}: {took:.0?} ms, {used:?} of CPU for all", kind.words);
    let samples = page.lines().filter(|line| line.contains(' ') && !line.starts_with('#')).count();
    Ok(Row {
        samples,
        size: page.len() as f64 / f64::from(1 << 20),
        took: median(&took).unwrap_or(f64::NAN),
        cpu: used.as_secs_f64() * 1e3 / f64::from(SCRAPES),
        memory,
        noticed: noticed(ground, options, &subject)?,
    })
}

/// How long requests take, left alone and scraped once a second, in turns.
fn noticed(ground: &Ground, options: &Options, subject: &Subject) -> Result<[(f64, f64); 2], Failure> {
    let shape = Case::H1.shape();
    load::paced(ground, &shape, subject.address, (PACE, WARM_UP))?;
    let mut found = [Vec::new(), Vec::new()];
    for _ in 0..options.rounds() {
        for (scraped, found) in [false, true].into_iter().zip(&mut found) {
            quiet::wait(options.patience())?;
            let over = AtomicBool::new(false);
            let took = scope(|threads| {
                let reader = scraped.then(|| threads.spawn(|| scrape_every_second(subject.metrics, &over)));
                let took = load::paced(ground, &shape, subject.address, (PACE, options.window()));
                over.store(true, Ordering::Relaxed);
                match reader.map(|reader| reader.join().map_err(|_| "the scraping panicked")) {
                    None | Some(Ok(Ok(()))) => took,
                    Some(Ok(Err(words))) => Err(words.into()),
                    Some(Err(words)) => Err(words.into()),
                }
            })?;
            found.push(took);
        }
    }
    let of = |found: &[(Duration, Duration)], pick: fn(&(Duration, Duration)) -> Duration| {
        let millis: Vec<_> = found.iter().map(|both| pick(both).as_secs_f64() * 1e3).collect();
        median(&millis).unwrap_or(f64::NAN)
    };
    Ok(found.map(|found| (of(&found, |both| both.0), of(&found, |both| both.1))))
}

/// Until it is over. Errors are in words, because those of other threads are.
fn scrape_every_second(metrics: SocketAddr, over: &AtomicBool) -> Result<(), String> {
    // Prometheus would have another machine to read on.
    setpriority_process(None, NICE).map_err(|error| error.to_string())?;
    while !over.load(Ordering::Relaxed) {
        let began = Instant::now();
        scrape(metrics).map_err(|failure| failure.to_string())?;
        sleep(Duration::from_secs(1).saturating_sub(began.elapsed()));
    }
    Ok(())
}

/// The page of metrics.
fn scrape(metrics: SocketAddr) -> Result<String, Failure> {
    let mut socket = TcpStream::connect(metrics)?;
    socket.set_read_timeout(Some(LIMIT))?;
    socket.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut page = String::new();
    socket.read_to_string(&mut page)?;
    if page.starts_with("HTTP/1.1 200") { Ok(page) } else { Err(format!("no metrics: {page:.200}").into()) }
}

/// A proxy in front of one pool of very many endpoints, and of one for the load.
struct Subject {
    running: Running,
    address: SocketAddr,
    metrics: SocketAddr,
}

impl Subject {
    fn start(ground: &Ground, kind: &Kind, many: u16) -> Result<Self, Failure> {
        let port = || Ok::<_, Failure>(SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?)));
        let (address, metrics) = (port()?, port()?);
        let (text, file) = match kind.proxy {
            Proxy::Forebay => (forebay(address, metrics, many, ground.origin(), kind.lines), "scrape.toml"),
            _ => (haproxy(address, metrics, many, ground.origin()), "scrape.cfg"),
        };
        let path = ground.dir().join(file);
        fs::write(&path, text)?;
        let mut command = launch::command(PROXY_CORE, program(ground, kind.proxy));
        match kind.proxy {
            Proxy::Forebay => command.arg("run").arg("-c").arg(path).args(["--workers", "1"]),
            _ => command.arg("-q").arg("-db").arg("-f").arg(path),
        };
        let mut running = Running::start(&mut command, &ground.dir().join("scrape.out"))?;
        running.wait_for_listener(address)?;
        Ok(Self { running, address, metrics })
    }

    /// So that there is something to show of each.
    fn ask_every_endpoint(&self) -> Result<(), Failure> {
        let mut client = BufReader::new(TcpStream::connect(self.address)?);
        client.get_ref().set_read_timeout(Some(LIMIT))?;
        client.get_ref().set_nodelay(true)?;
        for _ in 0..ENDPOINTS * TURNS {
            client.get_ref().write_all(b"GET /many HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
            let (mut line, mut length) = (String::new(), 0);
            while line != "\r\n" {
                line.clear();
                if client.read_line(&mut line)? == 0 {
                    return Err("the proxy closed a kept connection".into());
                }
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse()?;
                }
            }
            client.read_exact(&mut vec![0; length])?;
        }
        Ok(())
    }
}

fn endpoints(port: u16) -> impl Iterator<Item = String> {
    let first = u32::from(Ipv4Addr::new(127, 1, 0, 0));
    (0..ENDPOINTS).map(move |index| format!("{}:{port}", Ipv4Addr::from(first + index)))
}

fn forebay(address: SocketAddr, metrics: SocketAddr, many: u16, origin: SocketAddr, lines: &str) -> String {
    let endpoints: Vec<_> = endpoints(many).map(|endpoint| format!("\"{endpoint}\"")).collect();
    format!(
        "[admin]\nbind = \"{metrics}\"\n{lines}[[listener]]\nname = \"edge\"\nbind = \"{address}\"\n\
         [[route]]\nname = \"many\"\npath_prefix = \"/many\"\npool = \"many\"\n\
         [[route]]\nname = \"rest\"\npool = \"app\"\n[pool.app]\nendpoints = \"{origin}\"\n\
         [pool.many]\npolicy = \"round_robin\"\nslow_start = \"0s\"\nendpoints = [{}]\n",
        endpoints.join(", ")
    )
}

fn haproxy(address: SocketAddr, metrics: SocketAddr, many: u16, origin: SocketAddr) -> String {
    let mut text = format!(
        "global\n nbthread 1\n no strict-limits\ndefaults\n mode http\n timeout connect 2s\n timeout client 60s\n \
         timeout server 60s\nfrontend edge\n bind {address}\n use_backend many if {{ path_beg /many }}\n \
         default_backend app\nfrontend metrics\n bind {metrics}\n http-request use-service prometheus-exporter\n\
         backend app\n server s {origin}\nbackend many\n"
    );
    for (number, endpoint) in endpoints(many).enumerate() {
        text += &format!(" server s{number} {endpoint}\n");
    }
    text
}

const ENDPOINTS: u32 = 10_000;
/// How often each is asked before it is looked.
const TURNS: u32 = 2;
/// Without traffic.
const SCRAPES: u32 = 10;
/// Requests a second while it is looked what clients notice.
const RATE: u32 = 4_000;
const PACE: Pace = Pace { connections: 32, streams: 1, http1: true, rate: RATE };
/// Of the thread that reads pages, as nice(2) has it.
const NICE: i32 = 19;
/// How long a scrape may take.
const LIMIT: Duration = Duration::from_secs(30);
