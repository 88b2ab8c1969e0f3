//! What a connection costs that is passed on unread: small answers, large ones, connections that are
//! new each time, and idle ones in memory; beside nginx's `stream` and HAProxy's `mode tcp`.

use crate::Failure;
use crate::cases::Case;
use crate::ground::Ground;
use crate::memory::{self, Growth};
use crate::options::{Options, Work};
use crate::peers::{Door, Proxy};
use crate::report;
use crate::speed::{self, Contest};
use crate::statistics::median;

/// Measures every proxy and tells it as Markdown.
///
/// # Errors
/// Where a proxy or the load fails.
pub(crate) fn section(ground: &Ground, options: &Options) -> Result<String, Failure> {
    let mut text = report::speed_preface(options);
    let mut all = Vec::new();
    for case in Case::LAYER4 {
        let contest = Contest { proxies: &options.proxies, work: Work::Streams };
        all.push(speed::series(ground, options, contest, case)?);
    }
    text += &report::speed_tables("Connections", &options.proxies, &all);
    if options.proxies.contains(&Proxy::Haproxy) {
        let contest = Contest { proxies: &SPLICING, work: Work::Streams };
        let all = [speed::series(ground, options, contest, Case::StreamMebibyte)?];
        text += &report::speed_tables("Beside HAProxy with `option splice-auto`", &SPLICING, &all);
    }
    Ok(text + &idle(ground, options)?)
}

/// The memory of idle connections.
fn idle(ground: &Ground, options: &Options) -> Result<String, Failure> {
    // Each takes two descriptors of the proxy and two of this program.
    let room = usize::try_from(ground.files())? * 2 / 5;
    let count = options.connections().min(room);
    let rounds = options.rounds().min(MOST_ROUNDS);
    let mut text = format!(
        "\n### Idle connections\n\n{count} connections, each after one request; medians of {rounds} rounds. KiB \
         per connection by which the proxy's memory grew (the aim is below {MOST_KIB}).\n\n\
         | | before, MiB | resident | anonymous |\n|---|---|---|---|\n"
    );
    for proxy in &options.proxies {
        let mut growths = Vec::new();
        for _ in 0..rounds {
            let growth = memory::growth(ground, *proxy, (Work::Streams, Door::Plain), count)
                .map_err(|failure| format!("{}: {failure}", proxy.name()))?;
            eprintln!("idle {:7}: {growth:?}", proxy.name());
            growths.push(growth);
        }
        let of = |figure: fn(&Growth) -> f64| {
            median(&growths.iter().map(figure).collect::<Vec<_>>()).unwrap_or(f64::NAN)
        };
        text += &format!(
            "| {} | {:.1} | **{:.2}** | {:.2} |\n",
            proxy.name(),
            of(|growth| growth.before / 1024.0),
            of(|growth| growth.resident),
            of(|growth| growth.anonymous),
        );
    }
    Ok(text)
}

const SPLICING: [Proxy; 2] = [Proxy::Forebay, Proxy::HaproxySplice];
/// Memory varies less than time.
const MOST_ROUNDS: u32 = 3;
/// Of one idle connection.
const MOST_KIB: u32 = 4;
