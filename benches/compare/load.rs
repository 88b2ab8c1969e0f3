//! Runs a load generator once and reads what it counted. It knows `wrk` and `h2load`, and nothing
//! of proxies.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use crate::Failure;
use crate::cases::{Generator, Shape};
use crate::ground::{Ground, LOAD_CORE};
use crate::launch::{self, Running};
use crate::peers::Door;
use crate::statistics::percentile_99;

/// What the load generator saw in one window.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counted {
    /// Answered in full with a status of 2xx.
    pub(crate) requests: u64,
    pub(crate) time: Duration,
    /// 99 % of requests took no longer.
    pub(crate) p99: Duration,
    /// Failed in any way: no connection, a reset, a timeout, another status.
    pub(crate) errors: u64,
}

/// Loads a listener for `window` and waits for the end.
///
/// # Errors
/// Where the generator fails, or prints what cannot be read.
pub(crate) fn run(
    ground: &Ground,
    shape: &Shape,
    listener: SocketAddr,
    window: Duration,
) -> Result<Counted, Failure> {
    let scheme = if shape.door == Door::Tls { "https" } else { "http" };
    let url = format!("{scheme}://{listener}{}", shape.path);
    match shape.generator {
        Generator::Wrk { connections, close } => wrk(ground, &url, window, (connections, close)),
        Generator::H2load { connections, streams } => h2load(ground, &url, window, (connections, streams)),
    }
}

/// A load at a steady rate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    pub(crate) connections: u32,
    pub(crate) streams: u32,
    /// Whether HTTP/1.1 is spoken rather than HTTP/2.
    pub(crate) http1: bool,
    /// Requests a second over all connections.
    pub(crate) rate: u32,
}

/// Loads a listener at a steady rate for a window; gives the median and the 99th percentile of how
/// long requests took.
///
/// # Errors
/// As [`run`], and where the rate was not kept up.
pub(crate) fn paced(
    ground: &Ground,
    shape: &Shape,
    listener: SocketAddr,
    (pace, window): (Pace, Duration),
) -> Result<(Duration, Duration), Failure> {
    let scheme = if shape.door == Door::Tls { "https" } else { "http" };
    let url = format!("{scheme}://{listener}{}", shape.path);
    let mut command = launch::command(LOAD_CORE, "h2load");
    if pace.http1 {
        command.arg("--h1");
    }
    command.arg("-t1").arg(format!("-c{}", pace.connections)).arg(format!("-m{}", pace.streams));
    command.arg(format!("--rps={}", f64::from(pace.rate) / f64::from(pace.connections)));
    let (mut took, printed) = logged(ground, command, &url, window)?;
    let p99 = percentile_99(&mut took).ok_or_else(|| format!("h2load saw no response:\n{printed}"))?;
    let p50 = took.get(took.len() / 2).copied().unwrap_or_default();
    let reached = took.len() as f64 / window.as_secs_f64();
    if reached < 0.9 * f64::from(pace.rate) {
        return Err(format!("{reached:.0} of {} requests/s were answered", pace.rate).into());
    }
    Ok((Duration::from_micros(p50), Duration::from_micros(p99)))
}

/// Runs h2load for a window; gives how long each request took, in microseconds, and what it printed.
fn logged(
    ground: &Ground,
    mut command: Command,
    url: &str,
    window: Duration,
) -> Result<(Vec<u64>, String), Failure> {
    let log = ground.dir().join("h2load.log");
    if log.exists() {
        fs::remove_file(&log)?;
    }
    command.arg(format!("-D{}", window.as_secs())).arg(format!("--log-file={}", log.display())).arg(url);
    let running = Running::start(&mut command, &ground.dir().join("h2load.out"))?;
    let printed = running.finish(window + GRACE)?;
    // One line per request: when it started, its status, and how long it took, in microseconds.
    let lines = fs::read_to_string(&log)?;
    let took = lines.lines().filter_map(|line| line.rsplit('\t').next()?.parse().ok()).collect();
    Ok((took, printed))
}

fn wrk(
    ground: &Ground,
    url: &str,
    window: Duration,
    (connections, close): (u32, bool),
) -> Result<Counted, Failure> {
    let script = ground.dir().join("wrk.lua");
    fs::write(&script, include_str!("wrk.lua"))?;
    let mut command = launch::command(LOAD_CORE, "wrk");
    command.args(["-t1", "--timeout", "5s"]).arg(format!("-c{connections}"));
    command.arg(format!("-d{}s", window.as_secs())).arg("-s").arg(script);
    if close {
        command.args(["-H", "Connection: close"]);
    }
    let running = Running::start(command.arg(url), &ground.dir().join("wrk.out"))?;
    let printed = running.finish(window + GRACE)?;
    let numbers = printed.lines().find_map(|line| line.strip_prefix("counted "));
    let numbers: Vec<u64> =
        numbers.unwrap_or_default().split(' ').filter_map(|field| field.parse().ok()).collect();
    let [requests, time, p99, errors @ ..] = numbers.as_slice() else {
        return Err(format!("wrk printed no counts:\n{printed}").into());
    };
    let failed_status = errors.get(3).copied().unwrap_or(0);
    Ok(Counted {
        requests: requests.saturating_sub(failed_status),
        time: Duration::from_micros(*time),
        p99: Duration::from_micros(*p99),
        errors: errors.iter().sum(),
    })
}

fn h2load(
    ground: &Ground,
    url: &str,
    window: Duration,
    (connections, streams): (u32, u32),
) -> Result<Counted, Failure> {
    let mut command = launch::command(LOAD_CORE, "h2load");
    command.arg("-t1").arg(format!("-c{connections}")).arg(format!("-m{streams}"));
    let (mut took, printed) = logged(ground, command, url, window)?;
    let p99 = percentile_99(&mut took).ok_or_else(|| format!("h2load saw no response:\n{printed}"))?;
    let summary = printed.lines().find_map(|line| line.strip_prefix("requests: ")).unwrap_or_default();
    let counted = |what: &str| {
        summary.split(", ").find_map(|part| part.strip_suffix(what)?.trim().parse::<u64>().ok()).unwrap_or(0)
    };
    Ok(Counted {
        requests: counted("succeeded"),
        time: window,
        p99: Duration::from_micros(p99),
        errors: counted("failed") + counted("errored") + counted("timeout"),
    })
}

/// What a generator may take to start and stop, on top of its window.
const GRACE: Duration = Duration::from_secs(15);
