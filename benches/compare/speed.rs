//! The rounds of `speed`: every proxy in turn, started afresh, warmed up and measured, in an order
//! that rotates from round to round, so that what the machine does meanwhile falls on all alike.

use std::time::Duration;

use crate::Failure;
use crate::cases::Case;
use crate::cpu;
use crate::ground::{Ground, PROXY_CORE};
use crate::load::{self, Counted};
use crate::options::{Dressing, Options};
use crate::peers::{Proxy, Serving, Start};
use crate::quiet::{self, DISTURBED, Watch};
use crate::report;

/// What one proxy did in one window.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading {
    pub(crate) counted: Counted,
    /// CPU time of all the proxy's processes over the window.
    pub(crate) cpu: Duration,
    /// What else ran on the machine meanwhile, as a share of one core.
    pub(crate) others: f64,
}

impl Reading {
    /// Microseconds.
    pub(crate) fn cpu_per_request(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.counted.requests.max(1) as f64
    }

    pub(crate) fn rate(&self) -> f64 {
        self.counted.requests as f64 / self.counted.time.as_secs_f64()
    }

    /// How much of a core the proxy used.
    pub(crate) fn busy(&self) -> f64 {
        self.cpu.as_secs_f64() / self.counted.time.as_secs_f64()
    }

    /// Milliseconds.
    pub(crate) fn p99(&self) -> f64 {
        self.counted.p99.as_secs_f64() * 1e3
    }
}

/// All the rounds of one case.
#[derive(Debug)]
pub(crate) struct Series {
    pub(crate) case: Case,
    /// One list per round, in the order of [`Options::proxies`].
    pub(crate) rounds: Vec<Vec<Reading>>,
}

/// Measures every case asked for and tells it as Markdown.
///
/// # Errors
/// Where a proxy or a load generator fails.
pub(crate) fn section(ground: &Ground, options: &Options) -> Result<String, Failure> {
    let mut text = report::speed_preface(options);
    for dressing in options.dressings() {
        let mut all = Vec::new();
        for case in &options.cases {
            all.push(series(ground, options, *case, *dressing)?);
        }
        text += &report::speed_tables(&options.proxies, *dressing, &all);
    }
    Ok(text)
}

fn series(ground: &Ground, options: &Options, case: Case, dressing: Dressing) -> Result<Series, Failure> {
    let mut rounds = Vec::new();
    for round in 0..options.rounds() as usize {
        let mut readings: Vec<(usize, Reading)> = Vec::new();
        for turn in 0..options.proxies.len() {
            let place = (round + turn) % options.proxies.len();
            let Some(proxy) = options.proxies.get(place) else { continue };
            let reading = reading(ground, options, *proxy, (case, dressing))
                .map_err(|failure| format!("{}, {}: {failure}", proxy.name(), case.name()))?;
            eprintln!(
                "{:8} {dressing:?} round {}: {:7} {:8.2} us/request {:8.0} requests/s p99 {:7.2} ms, core {:3.0} %, others {:3.0} %, {} errors",
                case.name(),
                round + 1,
                proxy.name(),
                reading.cpu_per_request(),
                reading.rate(),
                reading.p99(),
                reading.busy() * 100.0,
                reading.others * 100.0,
                reading.counted.errors,
            );
            readings.push((place, reading));
        }
        readings.sort_by_key(|(place, _)| *place);
        rounds.push(readings.into_iter().map(|(_, reading)| reading).collect());
    }
    Ok(Series { case, rounds })
}

fn reading(
    ground: &Ground,
    options: &Options,
    proxy: Proxy,
    load: (Case, Dressing),
) -> Result<Reading, Failure> {
    let (case, dressing) = load;
    let serving = Serving::start(ground, proxy, Start { dressing, workers: 1, cores: PROXY_CORE })?;
    load::run(ground, &case.shape(), serving.address(case.shape().door), WARM_UP)?;
    window(ground, options, &serving, case)
}

/// Loads a proxy that is warm for one window, and again when others disturbed it.
///
/// # Errors
/// Where the proxy or the load fails.
pub(crate) fn window(
    ground: &Ground,
    options: &Options,
    serving: &Serving,
    case: Case,
) -> Result<Reading, Failure> {
    let mut calmest: Option<Reading> = None;
    for _ in 0..ATTEMPTS {
        quiet::wait(options.patience())?;
        let watch = Watch::start(Some(serving.id()))?;
        let before = cpu::used(serving.id())?;
        let counted = load::run(ground, &case.shape(), serving.address(case.shape().door), options.window())?;
        let cpu = cpu::used(serving.id())?.saturating_sub(before);
        let reading = Reading { counted, cpu, others: watch.others(Some(serving.id()))? };
        if calmest.is_none_or(|calmest| reading.others < calmest.others) {
            calmest = Some(reading);
        }
        if reading.others < DISTURBED {
            break;
        }
    }
    calmest.ok_or_else(|| "no window was measured".into())
}

/// Windows tried until one is not disturbed.
const ATTEMPTS: u32 = 3;

/// Fills caches, pools and branch predictors before each window.
pub(crate) const WARM_UP: Duration = Duration::from_secs(1);
