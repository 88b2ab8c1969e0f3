//! What a datagram costs that is passed on: over a few flows, over thousands, of the size that QUIC
//! sends, and in flows of one question and its answer; beside nginx's `stream`. HAProxy passes on no
//! datagrams.

mod echo;
mod flows;

use std::time::Duration;

use crate::Failure;
use crate::ground::{Ground, PROXY_CORE};
use crate::options::{Options, Work};
use crate::peers::{Door, Proxy, Serving, Start};
use crate::speed::{self, Reading, WARM_UP};
use crate::statistics::median;

pub(crate) use echo::start_echo;
use flows::{Flows, Told};

/// One kind of load. Each flow sends `burst` datagrams at once and waits for their answers; so many
/// flows do so at a time, in turn.
#[derive(Debug, Clone, Copy)]
struct Load {
    /// In words, for the report.
    words: &'static str,
    /// Client sockets; `None` for a new one each time.
    flows: Option<usize>,
    at_once: usize,
    burst: usize,
    /// Bytes of a datagram.
    size: usize,
    door: Door,
}

/// Never more are under way than a receive buffer of the default size surely holds.
const LOADS: [Load; 4] = [
    Load {
        words: "16 flows of 100-byte datagrams, 8 in flight in each",
        flows: Some(16),
        at_once: 16,
        burst: 8,
        size: 100,
        door: Door::Plain,
    },
    Load {
        words: "10,000 flows of 100-byte datagrams, 4 at a time in each",
        flows: Some(10_000),
        at_once: 32,
        burst: 4,
        size: 100,
        door: Door::Plain,
    },
    Load {
        words: "16 flows of 1,200-byte datagrams, 4 in flight in each",
        flows: Some(16),
        at_once: 16,
        burst: 4,
        size: 1200,
        door: Door::Plain,
    },
    Load {
        words: "a new flow for each question of 60 bytes and its answer",
        flows: None,
        at_once: 64,
        burst: 1,
        size: 60,
        door: Door::H2c,
    },
];

/// Measures every proxy that passes on datagrams, and tells it as Markdown.
///
/// # Errors
/// Where a proxy fails or does not answer.
pub(crate) fn section(ground: &Ground, options: &Options) -> Result<String, Failure> {
    let able = |proxy: &&Proxy| matches!(proxy, Proxy::Forebay | Proxy::Nginx);
    let proxies: Vec<Proxy> = options.proxies.iter().filter(able).copied().collect();
    let names: Vec<&str> = proxies.iter().map(|proxy| proxy.name()).collect();
    let mut text = format!(
        "{} rounds, windows of {} s; medians over rounds of CPU in µs per datagram passed on (a question and its \
         answer are two) and, after the slash, of datagrams per second of CPU time.\n\n\
         | load | {} | Forebay's CPU over nginx's | lost | out of order |\n|---|{}---|---|---|\n",
        options.rounds(),
        options.window().as_secs(),
        names.join(" | "),
        "---|".repeat(names.len()),
    );
    for load in &LOADS {
        text += &row(ground, options, &proxies, load)?;
    }
    Ok(text)
}

fn row(ground: &Ground, options: &Options, proxies: &[Proxy], load: &Load) -> Result<String, Failure> {
    let mut rounds = Vec::new();
    let mut told = Told::default();
    for number in 0..options.rounds() as usize {
        let (readings, more) = round(ground, options, proxies, load)?;
        for (proxy, reading) in proxies.iter().zip(&readings) {
            eprintln!("udp, {}, round {}: {:7} {reading}", load.words, number + 1, proxy.name());
        }
        rounds.push(readings);
        told.lost += more.lost;
        told.reordered += more.reordered;
    }
    let rounds = speed::calm(rounds);
    let mut cells = vec![load.words.to_owned()];
    let mut medians = Vec::new();
    for place in 0..proxies.len() {
        let own = rounds.iter().filter_map(|round| round.get(place)).map(Reading::cpu_per_request);
        let middle = median(&own.collect::<Vec<_>>()).unwrap_or(f64::NAN);
        cells.push(format!("{middle:.2} / {:.0}", 1e6 / middle));
        medians.push(middle);
    }
    cells.push(match medians.as_slice() {
        [ours, theirs] => format!("**{:.2}**", ours / theirs),
        _ => "–".into(),
    });
    cells.push(told.lost.to_string());
    cells.push(told.reordered.to_string());
    Ok(format!("| {} |\n", cells.join(" | ")))
}

/// Every proxy in turn, there and back again.
fn round(
    ground: &Ground,
    options: &Options,
    proxies: &[Proxy],
    load: &Load,
) -> Result<(Vec<Reading>, Told), Failure> {
    let mut flows = Flows::open(load)?;
    let mut ready = Vec::new();
    for proxy in proxies {
        let start = Start { work: Work::Streams, workers: 1, cores: PROXY_CORE };
        let serving = Serving::start(ground, *proxy, start)?;
        let address = serving.address(load.door);
        flows.reach(address).map_err(|failure| format!("{}: {failure}", proxy.name()))?;
        flows.each_once(address)?;
        flows.run(address, WARM_UP)?;
        ready.push((serving, Reading::default()));
    }
    flows.told = Told::default();
    let (slices, length) = speed::slices(options.window());
    for slice in 0..slices {
        for turn in 0..ready.len() {
            let place = if slice % 2 == 0 { turn } else { ready.len() - 1 - turn };
            let Some((serving, total)) = ready.get_mut(place) else { continue };
            let address = serving.address(load.door);
            let patience: Duration = options.patience();
            total.add(speed::calmest(serving, patience, || flows.run(address, length))?);
        }
    }
    Ok((ready.into_iter().map(|(_, total)| total).collect(), flows.told))
}
