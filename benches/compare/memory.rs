//! What an idle connection costs a proxy in memory: resident size before and after thousands of
//! connections have each carried one request, over their number. Socket buffers are the kernel's
//! and are not counted.

use std::thread::sleep;
use std::time::Duration;

use crate::Failure;
use crate::cases::Case;
use crate::connections::{self, Idle};
use crate::cpu;
use crate::ground::{Ground, PROXY_CORE};
use crate::load;
use crate::options::{Dressing, Options, Work};
use crate::peers::{Door, Proxy, Serving, Start};
use crate::speed::WARM_UP;
use crate::statistics::median;

/// Measures every proxy without and with TLS and tells it as Markdown.
///
/// # Errors
/// Where a proxy fails, or too few descriptors are allowed for the connections.
pub(crate) fn section(ground: &Ground, options: &Options) -> Result<String, Failure> {
    let count = options.connections();
    let room = usize::try_from(ground.files())?;
    if count * 5 / 4 > room {
        return Err(format!("{count} connections need more than the {room} descriptors allowed").into());
    }
    let rounds = options.rounds().min(MOST_ROUNDS);
    let mut text = format!(
        "{count} connections, each after one request; medians of {rounds} rounds. KiB per connection by which \
         the proxy's memory grew: resident, and of it anonymous (heap and stacks).\n\n\
         | | before, MiB | HTTP/1.1: resident | anonymous | over TLS: resident | anonymous |\n\
         |---|---|---|---|---|---|\n"
    );
    for proxy in &options.proxies {
        let mut growths = Vec::new();
        for _ in 0..rounds {
            let plain = growth(ground, *proxy, (ADDED, Door::Plain), count)
                .map_err(|failure| format!("{}: {failure}", proxy.name()))?;
            let tls = growth(ground, *proxy, (ADDED, Door::Tls), count)
                .map_err(|failure| format!("{} over TLS: {failure}", proxy.name()))?;
            eprintln!("memory {:7}: {plain:?}, TLS {tls:?}", proxy.name());
            growths.push((plain, tls));
        }
        let of = |figure: &dyn Fn(&(Growth, Growth)) -> f64| {
            median(&growths.iter().map(figure).collect::<Vec<_>>()).unwrap_or(f64::NAN)
        };
        text += &format!(
            "| {} | {:.1} | **{:.2}** | {:.2} | **{:.2}** | {:.2} |\n",
            proxy.name(),
            of(&|(plain, _)| plain.before / 1024.0),
            of(&|(plain, _)| plain.resident),
            of(&|(plain, _)| plain.anonymous),
            of(&|(_, tls)| tls.resident),
            of(&|(_, tls)| tls.anonymous),
        );
    }
    Ok(text)
}

/// In KiB; per connection except for `before`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Growth {
    pub(crate) before: f64,
    pub(crate) resident: f64,
    pub(crate) anonymous: f64,
}

/// By how much a proxy grows with `count` idle connections, each after one request.
///
/// # Errors
/// Where the proxy fails.
pub(crate) fn growth(
    ground: &Ground,
    proxy: Proxy,
    (work, door): (Work, Door),
    count: usize,
) -> Result<Growth, Failure> {
    let start = Start { work, workers: 1, cores: PROXY_CORE };
    let serving = Serving::start(ground, proxy, start)?;
    let tls = connections::tls(ground.dir())?;
    let case = if door == Door::Tls { Case::TlsH1 } else { Case::H1 };
    // What is allocated once, on first use, is not the connections' doing.
    load::run(ground, &case.shape(), serving.address(door), WARM_UP)?;
    sleep(SETTLE);
    let before = cpu::memory(serving.id())?;
    let mut idle = Idle::open(serving.address(door), count, (door == Door::Tls).then_some(&tls))?;
    sleep(SETTLE);
    let after = cpu::memory(serving.id())?;
    idle.ask_again(100)?;
    let each = |after: u64, before: u64| after.saturating_sub(before) as f64 / count as f64;
    Ok(Growth {
        before: before.resident as f64,
        resident: each(after.resident, before.resident),
        anonymous: each(after.anonymous, before.anonymous),
    })
}

const ADDED: Work = Work::Requests(Dressing::Added);
/// For closed connections to be freed and allocators to give back what they will.
const SETTLE: Duration = Duration::from_secs(1);
/// Memory varies less than time.
const MOST_ROUNDS: u32 = 3;
