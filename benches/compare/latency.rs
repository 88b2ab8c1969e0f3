//! How long requests take while every proxy carries the same load, one that leaves it room. At its
//! limit a proxy's p99 tells how the load generator queues; at equal rate it tells what clients feel.

use std::time::Duration;

use crate::Failure;
use crate::cases::Case;
use crate::ground::{Ground, PROXY_CORE};
use crate::load::{self, Pace};
use crate::options::{Dressing, Options, Work};
use crate::peers::{Serving, Start};
use crate::quiet;
use crate::speed::WARM_UP;
use crate::statistics::median;

/// Median and 99th percentile, in milliseconds.
type Reading = (f64, f64);

/// The loads, in requests a second: between a quarter and a half of what the proxies can carry.
const PACES: [(Case, Pace); 4] = [
    (Case::H1, Pace { connections: 64, streams: 1, http1: true, rate: 15_000 }),
    (Case::TlsH1, Pace { connections: 64, streams: 1, http1: true, rate: 10_000 }),
    (Case::H2Tls, Pace { connections: 8, streams: 8, http1: false, rate: 12_000 }),
    (Case::H1Mebibyte, Pace { connections: 16, streams: 1, http1: true, rate: 320 }),
];

/// Measures every proxy under each load and tells it as Markdown.
///
/// # Errors
/// Where a proxy or the load fails.
pub(crate) fn section(ground: &Ground, options: &Options) -> Result<String, Failure> {
    let mut text = format!(
        "{} rounds, windows of {} s, Forebay's defaults; medians over rounds of p50 / p99 in ms.\n\n| load |",
        options.rounds(),
        options.window().as_secs()
    );
    for proxy in &options.proxies {
        text += &format!(" {} |", proxy.name());
    }
    text += &format!(
        " p99: Forebay's over the better peer's |\n|---|{}---|\n",
        "---|".repeat(options.proxies.len())
    );
    for (case, pace) in PACES {
        text += &row(ground, options, case, pace)?;
    }
    Ok(text)
}

fn row(ground: &Ground, options: &Options, case: Case, pace: Pace) -> Result<String, Failure> {
    let mut all: Vec<Vec<Reading>> = options.proxies.iter().map(|_| Vec::new()).collect();
    for round in 0..options.rounds() as usize {
        for turn in 0..options.proxies.len() {
            let place = (turn + round) % options.proxies.len();
            let (Some(proxy), Some(readings)) = (options.proxies.get(place), all.get_mut(place)) else {
                continue;
            };
            let start = Start { work: Work::Requests(Dressing::Added), workers: 1, cores: PROXY_CORE };
            let serving = Serving::start(ground, *proxy, start)?;
            let listener = serving.address(case.shape().door);
            load::paced(ground, &case.shape(), listener, (pace, WARM_UP))?;
            quiet::wait(options.patience())?;
            let (p50, p99) = load::paced(ground, &case.shape(), listener, (pace, options.window()))?;
            eprintln!(
                "latency {} round {}: {:7} p50 {p50:?} p99 {p99:?}",
                case.name(),
                round + 1,
                proxy.name()
            );
            readings.push((milliseconds(p50), milliseconds(p99)));
        }
    }
    let medians: Vec<Reading> = all.iter().map(|readings| middle(readings)).collect();
    let mut text = format!("| `{}` at {} requests/s |", case.name(), pace.rate);
    for (p50, p99) in &medians {
        text += &format!(" {p50:.2} / {p99:.2} |");
    }
    let ours = medians.first().map_or(f64::NAN, |(_, p99)| *p99);
    let best = medians.iter().skip(1).map(|(_, p99)| *p99).fold(f64::INFINITY, f64::min);
    Ok(text + &format!(" **{:.2}** |\n", ours / best))
}

fn middle(readings: &[Reading]) -> Reading {
    let of = |figure: &dyn Fn(&Reading) -> f64| {
        median(&readings.iter().map(figure).collect::<Vec<_>>()).unwrap_or(f64::NAN)
    };
    (of(&|(p50, _)| *p50), of(&|(_, p99)| *p99))
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
