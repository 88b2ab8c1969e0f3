//! What large configurations cost, beside nginx: how long a start and a reload take, how much memory
//! they need, and what clients notice of reloads. A reload is over when a route answers what the new
//! file says.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::Failure;
use crate::cases::Case;
use crate::cpu;
use crate::ground::{Ground, PROXY_CORE};
use crate::launch::{self, Running};
use crate::load::{self, Pace};
use crate::options::Options;
use crate::peers::{Proxy, free_port, program};
use crate::statistics::median;

/// Measures every size with every proxy that reads it and tells it as Markdown.
///
/// # Errors
/// Where a proxy fails.
pub(crate) fn section(ground: &Ground, options: &Options) -> Result<String, Failure> {
    let mut text = format!(
        "One worker; start and reload are medians of {} and {RELOADS}, a reload from the signal to the first \
         answer by the new file; memory is resident, after the start and after the reloads.\n\n\
         | | | start, ms | reload, ms | MiB | after reloads |\n|---|---|---|---|---|---|\n",
        options.rounds()
    );
    for size in SIZES {
        for proxy in options.proxies.iter().copied().filter(|proxy| *proxy != Proxy::Haproxy) {
            let row = measure(ground, proxy, size, options.rounds())
                .map_err(|failure| format!("{}, {}: {failure}", proxy.name(), size.words))?;
            eprintln!("scale, {}: {:7} {row:?}", size.words, proxy.name());
            writeln!(
                text,
                "| {} | {} | {:.0} | **{:.1}** | {:.1} | {:.1} |",
                size.words,
                proxy.name(),
                row.start,
                row.reload,
                row.memory.0,
                row.memory.1
            )?;
        }
    }
    text += &noticed(ground, options)?;
    Ok(text)
}

/// How much there is of everything.
#[derive(Debug, Clone, Copy)]
struct Size {
    words: &'static str,
    routes: usize,
    pools: usize,
    /// In each pool.
    endpoints: usize,
}

const SIZES: [Size; 5] = [
    Size { words: "1 route", routes: 1, pools: 1, endpoints: 1 },
    Size { words: "1,000 routes", routes: 1_000, pools: 1, endpoints: 1 },
    Size { words: "10,000 routes", routes: 10_000, pools: 1, endpoints: 1 },
    Size { words: "1,000 pools of 10 endpoints", routes: 1_000, pools: 1_000, endpoints: 10 },
    Size { words: "10,000 endpoints in a pool", routes: 1, pools: 1, endpoints: 10_000 },
];

/// Milliseconds and MiB.
#[derive(Debug)]
struct Row {
    start: f64,
    reload: f64,
    memory: (f64, f64),
}

fn measure(ground: &Ground, proxy: Proxy, size: Size, rounds: u32) -> Result<Row, Failure> {
    let mut starts = Vec::new();
    for _ in 1..rounds {
        let began = Instant::now();
        let subject = Subject::start(ground, proxy, size)?;
        starts.push(began.elapsed().as_secs_f64() * 1e3);
        subject.running.stop(STOP)?;
    }
    let began = Instant::now();
    let subject = Subject::start(ground, proxy, size)?;
    starts.push(began.elapsed().as_secs_f64() * 1e3);
    let at_first = subject.memory()?;
    let mut reloads = Vec::new();
    for version in 1..=RELOADS {
        reloads.push(subject.reload(version)?.as_secs_f64() * 1e3);
    }
    // Workers of nginx that have nothing left to do are gone by then.
    sleep(Duration::from_secs(1));
    let memory = (at_first, subject.memory()?);
    let of = |values: &[f64]| median(values).unwrap_or(f64::NAN);
    Ok(Row { start: of(&starts), reload: of(&reloads), memory })
}

/// p99 at a steady rate, without reloads and with two a second.
fn noticed(ground: &Ground, options: &Options) -> Result<String, Failure> {
    let Some(size) = SIZES.get(1) else { return Ok(String::new()) };
    let shape = Case::H1.shape();
    let pace = Pace { connections: 32, streams: 1, http1: true, rate: RATE };
    let mut text = format!(
        "\nWhat clients notice of reloads of {}, two a second, at {RATE} requests/s over 32 connections (medians \
         of {} rounds of {} s; p50 / p99, µs):\n\n| | undisturbed | reloading |\n|---|---|---|\n",
        size.words,
        options.rounds(),
        options.window().as_secs()
    );
    for proxy in options.proxies.iter().copied().filter(|proxy| *proxy != Proxy::Haproxy) {
        let subject = Subject::start(ground, proxy, *size)?;
        let mut found = [Vec::new(), Vec::new()];
        for round in 0..options.rounds() {
            for (reloading, found) in [false, true].into_iter().zip(&mut found) {
                let window = options.window();
                let loaded = scope(|threads| {
                    let load = threads.spawn(|| {
                        load::paced(ground, &shape, subject.address, (pace, window))
                            .map_err(|e| e.to_string())
                    });
                    let mut version = 1_000 * (round + 1);
                    while reloading && !load.is_finished() {
                        version += 1;
                        subject.reload(version).map_err(|failure| failure.to_string())?;
                        sleep(Duration::from_millis(500));
                    }
                    load.join().map_err(|_| "the load panicked".to_owned())?
                });
                match loaded {
                    Ok(took) => found.push(took),
                    // h2load does not connect again: what closes its connections ends the load.
                    Err(words) if reloading => eprintln!("scale, {}: {words}", proxy.name()),
                    Err(words) => return Err(words.into()),
                }
            }
        }
        let shown = |found: &[(Duration, Duration)]| {
            let of = |pick: fn(&(Duration, Duration)) -> Duration| {
                let micros: Vec<_> = found.iter().map(|both| pick(both).as_secs_f64() * 1e6).collect();
                median(&micros).unwrap_or(f64::NAN)
            };
            if found.is_empty() {
                return "ends the load: its connections are closed".to_owned();
            }
            format!("{:.0} / {:.0}", of(|both| both.0), of(|both| both.1))
        };
        let [calm, reloading] = &found;
        writeln!(text, "| {} | {} | {} |", proxy.name(), shown(calm), shown(reloading))?;
    }
    Ok(text)
}

/// A proxy with a large configuration.
struct Subject {
    running: Running,
    proxy: Proxy,
    size: Size,
    file: PathBuf,
    address: SocketAddr,
    admin: u16,
    origin: SocketAddr,
}

impl Subject {
    /// Started, and answering by its last route.
    fn start(ground: &Ground, proxy: Proxy, size: Size) -> Result<Self, Failure> {
        let (address, admin) = (SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?)), free_port()?);
        let file = ground.dir().join(if proxy == Proxy::Forebay { "scale.toml" } else { "scale.conf" });
        let (origin, dir) = (ground.origin(), ground.dir());
        fs::write(&file, text(proxy, size, &Place { address, admin, origin, dir }, 0))?;
        let mut command = launch::command(PROXY_CORE, program(ground, proxy));
        match proxy {
            Proxy::Forebay => command.arg("run").arg("-c").arg(&file).args(["--workers", "1"]),
            _ => command.arg("-c").arg(&file).arg("-p").arg(dir),
        };
        let running = Running::start(&mut command, &dir.join("scale.out"))?;
        let subject = Self { running, proxy, size, file, address, admin, origin };
        subject.wait_for(0)?;
        Ok(subject)
    }

    /// How long it takes until the new file is in force.
    fn reload(&self, version: u32) -> Result<Duration, Failure> {
        let dir = self.file.parent().ok_or("a file has a folder")?;
        let place = Place { address: self.address, admin: self.admin, origin: self.origin, dir };
        fs::write(&self.file, text(self.proxy, self.size, &place, version))?;
        let pid = i32::try_from(self.running.id()).ok().and_then(Pid::from_raw).ok_or("no process id")?;
        let began = Instant::now();
        kill_process(pid, Signal::HUP)?;
        self.wait_for(version)?;
        Ok(began.elapsed())
    }

    fn wait_for(&self, version: u32) -> Result<(), Failure> {
        let deadline = Instant::now() + LIMIT;
        let wanted = format!("version {version}.");
        while Instant::now() < deadline {
            if self.ask().is_ok_and(|answer| answer.ends_with(&wanted)) {
                return Ok(());
            }
            sleep(Duration::from_micros(200));
        }
        Err(format!("{wanted:?} was not answered within {LIMIT:?}:\n{}", self.running.printed()).into())
    }

    fn ask(&self) -> std::io::Result<String> {
        let mut socket = TcpStream::connect(self.address)?;
        socket.set_read_timeout(Some(LIMIT))?;
        socket.write_all(b"GET / HTTP/1.1\r\nHost: version.example\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer)?;
        Ok(answer)
    }

    fn memory(&self) -> Result<f64, Failure> {
        Ok(cpu::memory(self.running.id())?.resident as f64 / 1024.0)
    }
}

struct Place<'a> {
    address: SocketAddr,
    admin: u16,
    origin: SocketAddr,
    dir: &'a Path,
}

/// The configuration in which one route answers with this version.
fn text(proxy: Proxy, size: Size, place: &Place<'_>, version: u32) -> String {
    match proxy {
        Proxy::Forebay => forebay(size, place, version),
        _ => nginx(size, place, version),
    }
}

/// Endpoints, as so many addresses of the loopback interface; the first is the origin.
fn endpoints(size: Size, origin: SocketAddr) -> impl Iterator<Item = String> {
    (0..size.endpoints).map(move |number| {
        let host = Ipv4Addr::from(u32::from(Ipv4Addr::LOCALHOST) + number as u32);
        format!("{host}:{}", origin.port())
    })
}

fn forebay(size: Size, place: &Place<'_>, version: u32) -> String {
    let mut text = format!(
        "[admin]\nbind = \"127.0.0.1:{}\"\n[reload]\nwatch = false\n[[listener]]\nname = \"edge\"\nbind = \"{}\"\n\
         [[route]]\nname = \"version\"\nhost = \"version.example\"\n\
         filters = [{{ respond = {{ status = 200, body = \"version {version}.\" }} }}]\n",
        place.admin, place.address
    );
    for route in 0..size.routes {
        let (host, pool) = (route / 10, route % size.pools);
        let only = if size.routes == 1 { String::new() } else { format!("host = \"host-{host}.example\"\n") };
        text += &format!(
            "[[route]]\nname = \"r{route}\"\n{only}path_prefix = \"/service-{route}\"\npool = \"p{pool}\"\n"
        );
    }
    text += "[[route]]\nname = \"rest\"\npool = \"p0\"\n";
    for pool in 0..size.pools {
        text += &format!("[pool.p{pool}]\nendpoints = [");
        endpoints(size, place.origin).for_each(|endpoint| text += &format!("\"{endpoint}\", "));
        text += "]\n";
    }
    text
}

fn nginx(size: Size, place: &Place<'_>, version: u32) -> String {
    let dir = place.dir.display();
    let mut text = format!(
        "daemon off;\nmaster_process on;\nworker_processes 1;\npid {dir}/scale.pid;\nerror_log stderr error;\n\
         events {{ worker_connections 4096; }}\nhttp {{\naccess_log off;\nserver_names_hash_max_size 65536;\n\
         client_body_temp_path {dir}/b;\nproxy_temp_path {dir}/p;\nfastcgi_temp_path {dir}/f;\nuwsgi_temp_path {dir}/u;\n\
         scgi_temp_path {dir}/s;\nproxy_http_version 1.1;\nproxy_set_header Connection \"\";\n"
    );
    for pool in 0..size.pools {
        text += &format!("upstream p{pool} {{ zone p{pool} {}m; keepalive 32;\n", size.endpoints / 500 + 1);
        endpoints(size, place.origin).for_each(|endpoint| text += &format!("server {endpoint};\n"));
        text += "}\n";
    }
    let listen = place.address;
    text += &format!(
        "server {{ listen {listen}; server_name version.example; location / {{ return 200 \"version {version}.\"; }} }}\n"
    );
    for host in 0..size.routes.div_ceil(10) {
        text += &format!("server {{ listen {listen}; server_name host-{host}.example;\n");
        for route in (host * 10..size.routes).take(10) {
            text += &format!("location /service-{route} {{ proxy_pass http://p{}; }}\n", route % size.pools);
        }
        text += "}\n";
    }
    text + &format!(
        "server {{ listen {listen} default_server; location / {{ proxy_pass http://p0; }} }}\n}}\n"
    )
}

/// Of each size.
const RELOADS: u32 = 20;
/// Requests a second while it is looked what clients notice.
const RATE: u32 = 4_000;
/// How long a start or a reload may take.
const LIMIT: Duration = Duration::from_secs(30);
/// How long an end may take.
const STOP: Duration = Duration::from_secs(40);
