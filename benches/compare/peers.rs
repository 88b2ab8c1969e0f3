//! The proxies that are compared: how each is configured to do the same work, started on given
//! cores, and shown to do that work before it is measured. Their configurations are the files
//! beside this one, with ports and paths filled in here.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use clap::ValueEnum;

use crate::Failure;
use crate::cases::{CLOSING, ECHO, SMALL};
use crate::ground::Ground;
use crate::launch::{self, Running};
use crate::options::{Dressing, Work};

/// A proxy that takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Proxy {
    /// The one built here
    Forebay,
    /// Debian's nginx
    Nginx,
    /// Debian's HAProxy
    Haproxy,
    /// The same with `option splice-response`, which moves bodies without copying them
    HaproxySplice,
}

impl Proxy {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Forebay => "Forebay",
            Self::Nginx => "nginx",
            Self::Haproxy => "HAProxy",
            Self::HaproxySplice => "HAProxy splicing",
        }
    }
}

/// A listener that every proxy has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    /// HTTP/1.1 without TLS.
    Plain,
    /// HTTP/1.1 and HTTP/2 by ALPN, over TLS.
    Tls,
    /// HTTP/2 by prior knowledge, without TLS.
    H2c,
}

/// How a proxy is to be started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Start<'a> {
    pub(crate) work: Work,
    /// Threads, or processes in nginx's case.
    pub(crate) workers: u32,
    /// A list as `taskset -c` reads it.
    pub(crate) cores: &'a str,
}

/// What is different in a proxy's configuration.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Edited<'a> {
    /// What its files are called.
    pub(crate) name: &'a str,
    /// Words that are there once, and what stands in their place.
    pub(crate) edits: &'a [(&'a str, String)],
}

/// A proxy that runs, until this is dropped.
#[derive(Debug)]
pub(crate) struct Serving {
    process: Running,
    ports: Ports,
}

impl Serving {
    /// Starts a proxy and waits until it listens and has been seen to forward as it should.
    ///
    /// # Errors
    /// Where it does not start, or does not add (or leave out) the fields that it should.
    pub(crate) fn start(ground: &Ground, proxy: Proxy, start: Start<'_>) -> Result<Self, Failure> {
        Self::start_edited(ground, proxy, start, Edited { name: proxy.name(), edits: &[] })
    }

    /// The same, with other words in its configuration.
    ///
    /// # Errors
    /// As [`Self::start`], and where the words to replace are not there.
    pub(crate) fn start_edited(
        ground: &Ground,
        proxy: Proxy,
        start: Start<'_>,
        edited: Edited<'_>,
    ) -> Result<Self, Failure> {
        let ports = Ports::find()?;
        let mut command = configure(ground, proxy, (start, ports), edited)?;
        let output = ground.dir().join(format!("{}.out", edited.name));
        let mut process = Running::start(&mut command, &output)?;
        process.wait_for_listener(ports.address(Door::Plain))?;
        let serving = Self { process, ports };
        serving.verify(start.work).map_err(|failure| {
            format!(
                "{} does not do the work compared: {failure}\n{}",
                proxy.name(),
                serving.process.printed()
            )
        })?;
        Ok(serving)
    }

    /// The first of its processes.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn address(&self, door: Door) -> SocketAddr {
        self.ports.address(door)
    }

    /// Forebay's page of metrics.
    ///
    /// # Errors
    /// Where it does not answer.
    pub(crate) fn metrics(&self) -> Result<String, Failure> {
        let page = ask((Ipv4Addr::LOCALHOST, self.ports.admin).into(), "localhost", "/metrics")?;
        if page.starts_with("http/1.1 200") {
            Ok(page)
        } else {
            Err(format!("no metrics: {page:.200}").into())
        }
    }

    fn verify(&self, work: Work) -> Result<(), Failure> {
        let address = self.address(Door::Plain);
        // Where nobody reads the request, only the origin can end the connection.
        let path = if work == Work::Streams { CLOSING } else { SMALL };
        let small = get(address, path)?;
        if !small.starts_with("http/1.1 200") || !small.ends_with(&"x".repeat(100)) {
            return Err(format!("a small response that is wrong: {small}").into());
        }
        let Work::Requests(dressing) = work else { return Ok(()) };
        let seen = get(address, ECHO)?;
        let (_, request) = seen.split_once("\r\n\r\n").unwrap_or_default();
        for field in ADDED {
            if request.contains(&format!("\r\n{field}:")) != (dressing == Dressing::Added) {
                return Err(format!("`{field}` is added or missing in\n{request}").into());
            }
        }
        if small.contains("\r\nvia:") != (dressing == Dressing::Added) {
            return Err(format!("`via` is added or missing in\n{small}").into());
        }
        Ok(())
    }
}

/// Request fields that `Dressing::Added` stands for, in lower case.
const ADDED: [&str; 5] = ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-request-id", "via"];

/// One response to a GET, in lower case.
fn get(address: SocketAddr, path: &str) -> Result<String, Failure> {
    ask(address, "bench.example", path)
}

fn ask(address: SocketAddr, host: &str, path: &str) -> Result<String, Failure> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
    let mut response = String::new();
    stream.read_to_string(&mut response)?;
    Ok(response.to_ascii_lowercase())
}

/// Writes the proxy's configuration and gives the command that runs it.
fn configure(
    ground: &Ground,
    proxy: Proxy,
    (start, ports): (Start<'_>, Ports),
    edited: Edited<'_>,
) -> Result<Command, Failure> {
    let (template, end) = template(proxy, start.work);
    let path = ground.dir().join(format!("{}.{end}", edited.name));
    let mut text = fill(template, proxy, ground, (start, ports));
    for (from, to) in edited.edits {
        if text.matches(from).count() != 1 {
            return Err(format!("{from:?} is not once in the configuration of {}", proxy.name()).into());
        }
        text = text.replace(from, to);
    }
    fs::write(&path, text)?;
    let mut command = launch::command(start.cores, program(ground, proxy));
    match proxy {
        Proxy::Forebay => {
            command.arg("run").arg("-c").arg(path).args(["--workers", &start.workers.to_string()])
        }
        Proxy::Nginx => command.args(["-e", "stderr"]).arg("-p").arg(ground.dir()).arg("-c").arg(path),
        Proxy::Haproxy | Proxy::HaproxySplice => command.arg("-q").arg("-db").arg("-f").arg(path),
    };
    Ok(command)
}

/// A configuration and what its file's name ends with.
fn template(proxy: Proxy, work: Work) -> (&'static str, &'static str) {
    match (proxy, work) {
        (Proxy::Forebay, Work::Requests(_)) => (include_str!("peers/forebay.toml"), "toml"),
        (Proxy::Forebay, Work::Streams) => (include_str!("peers/layer4.toml"), "toml"),
        (Proxy::Nginx, Work::Requests(_)) => (include_str!("peers/nginx.conf"), "conf"),
        (Proxy::Nginx, Work::Streams) => (include_str!("peers/layer4.conf"), "conf"),
        (Proxy::Haproxy | Proxy::HaproxySplice, Work::Requests(_)) => {
            (include_str!("peers/haproxy.cfg"), "cfg")
        }
        (Proxy::Haproxy | Proxy::HaproxySplice, Work::Streams) => (include_str!("peers/layer4.cfg"), "cfg"),
    }
}

/// What is run for a proxy.
pub(crate) fn program(ground: &Ground, proxy: Proxy) -> &Path {
    match proxy {
        Proxy::Forebay => ground.forebay(),
        // Debian keeps them out of other users' PATH.
        Proxy::Nginx => Path::new("/usr/sbin/nginx"),
        Proxy::Haproxy | Proxy::HaproxySplice => Path::new("/usr/sbin/haproxy"),
    }
}

fn fill(template: &str, proxy: Proxy, ground: &Ground, (start, ports): (Start<'_>, Ports)) -> String {
    let dropped = match start.work {
        Work::Requests(Dressing::Added) => "#bare",
        Work::Requests(Dressing::Bare) | Work::Streams => "#added",
    };
    let splices = proxy == Proxy::HaproxySplice;
    let kept = |line: &&str| !line.ends_with(dropped) && (splices || !line.ends_with("#splice"));
    let kept: Vec<&str> = template.lines().filter(kept).collect();
    // nginx would otherwise change to a user who may not write where we may.
    let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
    let values = [
        ("{{dir}}", ground.dir().display().to_string()),
        ("{{origin}}", ground.origin().to_string()),
        ("{{echo}}", ground.echo().to_string()),
        ("{{user}}", user.to_owned()),
        ("{{workers}}", start.workers.to_string()),
        ("{{files}}", ground.files().to_string()),
        ("{{connections}}", (ground.files() / 4 * 3).to_string()),
        ("{{plain}}", ports.plain.to_string()),
        ("{{tls}}", ports.tls.to_string()),
        ("{{h2c}}", ports.h2c.to_string()),
        ("{{admin}}", ports.admin.to_string()),
    ];
    values.iter().fold(kept.join("\n") + "\n", |text, (key, value)| text.replace(key, value))
}

/// Where a proxy listens.
#[derive(Debug, Clone, Copy)]
struct Ports {
    plain: u16,
    tls: u16,
    h2c: u16,
    admin: u16,
}

impl Ports {
    /// Four ports that nothing listens on.
    fn find() -> Result<Self, Failure> {
        Ok(Self { plain: free_port()?, tls: free_port()?, h2c: free_port()?, admin: free_port()? })
    }

    fn address(self, door: Door) -> SocketAddr {
        let port = match door {
            Door::Plain => self.plain,
            Door::Tls => self.tls,
            Door::H2c => self.h2c,
        };
        (Ipv4Addr::LOCALHOST, port).into()
    }
}

/// A port that nothing listens on and that was not given before, below those that the kernel gives to
/// clients: a port in that range could be a load generator's a moment later.
///
/// # Errors
/// Where there is none left.
pub(crate) fn free_port() -> Result<u16, Failure> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = 20_000 + u16::try_from(std::process::id() % 8_000).unwrap_or(0);
    loop {
        let port = start + NEXT.fetch_add(1, Ordering::Relaxed);
        if port >= 32_000 {
            return Err("no free ports from 20000 to 32000".into());
        }
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
}
