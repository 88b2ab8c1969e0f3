//! What clients notice when one of four origins misbehaves: every proxy with competent settings, the
//! same origins, the same steady load, one fault after another. The origins and the clients are those
//! of `tests/faults` and `tests/resilience`.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::thread::sleep;
use std::time::Duration;

use crate::Failure;
use crate::ground::{Ground, PROXY_CORE};
use crate::launch::{self, Running};
use crate::options::Options;
use crate::peers::{self, Proxy, free_port};

#[path = "../../tests/support/load.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod load;
#[path = "../../tests/support/moody.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod moody;

use load::Load;
use moody::{Mood, Moody};

/// Runs every fault against every proxy and tells what clients noticed as Markdown.
///
/// # Errors
/// Where a proxy does not start.
pub(crate) fn section(ground: &Ground, options: &Options) -> Result<String, Failure> {
    let mut text = format!(
        "{RATE} GET/s over four origins that take 5 ms; after {} s one of them changes, for {} s. Failed \
         requests in percent of those after the change, and in seconds from the first failure to the last; \
         p99 of the last {} s; a dash where every client was still waiting.\n\n| one of four |",
        HEALTHY.as_secs(),
        options.window().max(FAULTY).as_secs(),
        LAST.as_secs()
    );
    text += &options.proxies.iter().map(|proxy| format!(" {} |", proxy.name())).collect::<String>();
    text += "\n|---|";
    text += &"---|".repeat(options.proxies.len());
    for (words, fault) in FAULTS {
        text += &format!("\n| {words} |");
        for proxy in &options.proxies {
            let noticed = notice(ground, *proxy, *fault, options.window().max(FAULTY))
                .map_err(|failure| format!("{}, {words}: {failure}", proxy.name()))?;
            eprintln!("faults, {words}: {:7} {noticed}", proxy.name());
            text += &format!(" {noticed} |");
        }
    }
    Ok(text + "\n")
}

/// What becomes of one of the origins.
#[derive(Debug, Clone, Copy)]
enum Fault {
    /// It goes on in another mood.
    Mood(Mood),
    /// It ends.
    Killed,
}

const FAULTS: &[(&str, Fault)] = &[
    ("truncates bodies", Fault::Mood(Mood::Truncates)),
    ("resets bodies", Fault::Mood(Mood::Resets)),
    ("sends garbage", Fault::Mood(Mood::Garbage)),
    ("fails 30 % with 500", Fault::Mood(Mood::Fails(30))),
    ("answers 503, check passes", Fault::Mood(Mood::Refuses(100))),
    ("hangs, check passes", Fault::Mood(Mood::Hangs(100))),
    ("20 times slower", Fault::Mood(Mood::Slow)),
    ("is killed", Fault::Killed),
];

fn notice(ground: &Ground, proxy: Proxy, fault: Fault, faulty: Duration) -> Result<String, Failure> {
    let origins: Vec<_> = (0..4).map(|_| Moody::new()).collect();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
    let _process = start(ground, proxy, address, &origins)?;
    let load = Load::start(address, RATE);
    sleep(HEALTHY);
    let changed = load.elapsed();
    match (fault, origins.get(1)) {
        (Fault::Mood(mood), Some(origin)) => origin.set(mood),
        (Fault::Killed, Some(origin)) => origin.kill(),
        (_, None) => {}
    }
    sleep(faulty);
    let end = load.elapsed();
    let shots = load.stop();
    let after = shots.0.iter().filter(|shot| shot.at >= changed).count();
    let failed = shots.failed().len();
    let p99 = shots.p99(end.saturating_sub(LAST), end);
    let p99 = if p99.is_zero() { "–".to_owned() } else { format!("{:.0} ms", p99.as_secs_f64() * 1e3) };
    Ok(format!(
        "{:.1} %, {:.1} s; p99 {p99}",
        failed as f64 * 100.0 / after.max(1) as f64,
        shots.failing_for().as_secs_f64(),
    ))
}

fn start(ground: &Ground, proxy: Proxy, at: SocketAddr, origins: &[Moody]) -> Result<Running, Failure> {
    let (template, file) = match proxy {
        Proxy::Nginx => (include_str!("peers/faults.conf"), "faults.conf"),
        Proxy::Haproxy | Proxy::HaproxySplice => (include_str!("peers/faults.cfg"), "faults.cfg"),
        _ => (include_str!("peers/faults.toml"), "faults.toml"),
    };
    let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
    let mut text = template
        .replace("{{dir}}", &ground.dir().display().to_string())
        .replace("{{user}}", user)
        .replace("{{plain}}", &at.port().to_string())
        .replace("{{admin}}", &free_port()?.to_string());
    for (place, origin) in origins.iter().enumerate() {
        text = text.replace(&format!("{{{{{place}}}}}"), &origin.address().to_string());
    }
    let path = ground.dir().join(file);
    fs::write(&path, text)?;
    let mut command = launch::command(PROXY_CORE, peers::program(ground, proxy));
    match proxy {
        Proxy::Nginx => command.args(["-e", "stderr"]).arg("-p").arg(ground.dir()).arg("-c").arg(path),
        Proxy::Haproxy | Proxy::HaproxySplice => command.arg("-q").arg("-db").arg("-f").arg(path),
        _ => command.arg("run").arg("-c").arg(path).args(["--workers", "1"]),
    };
    let mut process = Running::start(&mut command, &ground.dir().join("faults.out"))?;
    process.wait_for_listener(at)?;
    Ok(process)
}

/// Requests a second.
const RATE: u32 = 200;
/// Before the fault.
const HEALTHY: Duration = Duration::from_secs(2);
/// With it, at least.
const FAULTY: Duration = Duration::from_secs(12);
/// The end of it, of which the p99 is told.
const LAST: Duration = Duration::from_secs(2);
