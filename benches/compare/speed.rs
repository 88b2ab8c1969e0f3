//! The rounds of `speed`: every proxy started afresh, warmed up and measured in turn, in an order
//! that rotates from round to round, so that what the machine does meanwhile falls on all alike.

use std::fmt;
use std::time::Duration;

use crate::Failure;
use crate::cases::Case;
use crate::cpu;
use crate::ground::{Ground, PROXY_CORE};
use crate::load::{self, Counted};
use crate::options::{Options, Work};
use crate::peers::{Proxy, Serving, Start};
use crate::quiet::{self, DISTURBED, Watch};
use crate::report;

/// Who is measured, and at what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Contest<'a> {
    pub(crate) proxies: &'a [Proxy],
    pub(crate) work: Work,
}

/// What one proxy did in one window.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Reading {
    pub(crate) counted: Counted,
    /// CPU time of all the proxy's processes over the window.
    pub(crate) cpu: Duration,
    /// What else ran on the machine meanwhile, as a share of one core; of several slices, the most.
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

    /// Takes in another slice. Percentiles cannot be merged: of p99 the mean is kept, weighted by time.
    pub(crate) fn add(&mut self, slice: Self) {
        let (old, new) = (self.counted.time.as_secs_f64(), slice.counted.time.as_secs_f64());
        let p99 = self.counted.p99.as_secs_f64() * old + slice.counted.p99.as_secs_f64() * new;
        self.counted.p99 = Duration::from_secs_f64(p99 / (old + new));
        self.counted.time += slice.counted.time;
        self.counted.requests += slice.counted.requests;
        self.counted.errors += slice.counted.errors;
        self.cpu += slice.cpu;
        self.others = self.others.max(slice.others);
    }

    /// Milliseconds.
    pub(crate) fn p99(&self) -> f64 {
        self.counted.p99.as_secs_f64() * 1e3
    }
}

impl fmt::Display for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:8.2} us/request {:8.0} requests/s p99 {:7.2} ms, core {:3.0} %, others {:3.0} %, {} errors",
            self.cpu_per_request(),
            self.rate(),
            self.p99(),
            self.busy() * 100.0,
            self.others * 100.0,
            self.counted.errors,
        )
    }
}

/// All the rounds of one case.
#[derive(Debug)]
pub(crate) struct Series {
    pub(crate) case: Case,
    /// One list per round, in the order of [`Contest::proxies`].
    pub(crate) rounds: Vec<Vec<Reading>>,
    /// Rounds in which other work disturbed a proxy, and that were left out for it.
    pub(crate) left_out: usize,
}

impl Series {
    /// Leaves out the rounds that were disturbed, unless that leaves none.
    fn new(case: Case, rounds: Vec<Vec<Reading>>) -> Self {
        let all = rounds.len();
        let rounds = calm(rounds);
        Self { case, left_out: all - rounds.len(), rounds }
    }
}

/// The rounds that nothing disturbed; all of them, if something disturbed each.
pub(crate) fn calm<R: AsRef<[Reading]>>(rounds: Vec<R>) -> Vec<R> {
    let is_calm = |round: &R| round.as_ref().iter().all(|reading| reading.others < DISTURBED);
    let (calm, disturbed): (Vec<_>, Vec<_>) = rounds.into_iter().partition(is_calm);
    if calm.is_empty() { disturbed } else { calm }
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
            let contest = Contest { proxies: &options.proxies, work: Work::Requests(*dressing) };
            all.push(series(ground, options, contest, *case)?);
        }
        text += &report::speed_tables(dressing.title(), &options.proxies, &all);
    }
    Ok(text)
}

/// All rounds of one case.
///
/// # Errors
/// As [`section`].
pub(crate) fn series(
    ground: &Ground,
    options: &Options,
    contest: Contest<'_>,
    case: Case,
) -> Result<Series, Failure> {
    let mut rounds = Vec::new();
    for number in 0..options.rounds() as usize {
        let readings = round(ground, options, (contest, case), number)?;
        for (proxy, reading) in contest.proxies.iter().zip(&readings) {
            let label = format!("{} {:?}, round {}", case.name(), contest.work, number + 1);
            eprintln!("{label}: {:7} {reading}", proxy.name());
        }
        rounds.push(readings);
    }
    Ok(Series::new(case, rounds))
}

/// Starts every proxy afresh and gives each its window in slices, there and back again (A B C C B A),
/// so that a drift of the machine's speed meets all of them alike.
fn round(
    ground: &Ground,
    options: &Options,
    (contest, case): (Contest<'_>, Case),
    number: usize,
) -> Result<Vec<Reading>, Failure> {
    let mut ready = Vec::new();
    for proxy in contest.proxies {
        let start = Start { work: contest.work, workers: 1, cores: PROXY_CORE };
        let serving = Serving::start(ground, *proxy, start)?;
        load::run(ground, &case.shape(), serving.address(case.shape().door), WARM_UP)?;
        ready.push((*proxy, serving, Reading::default()));
    }
    let first = number % ready.len().max(1);
    let (slices, length) = slices(options.window());
    for slice in 0..slices {
        for turn in 0..ready.len() {
            let turn = if slice % 2 == 0 { turn } else { ready.len() - 1 - turn };
            let place = (first + turn) % ready.len();
            let Some((proxy, serving, total)) = ready.get_mut(place) else { continue };
            let reading = window(ground, serving, case, (length, options.patience()))
                .map_err(|failure| format!("{}, {}: {failure}", proxy.name(), case.name()))?;
            total.add(reading);
        }
    }
    Ok(ready.into_iter().map(|(_, _, total)| total).collect())
}

/// How many slices a window has, and how long each is: two seconds, or one for odd windows, so that
/// what connecting costs stays small beside it.
pub(crate) fn slices(window: Duration) -> (u64, Duration) {
    let length = if window.as_secs().is_multiple_of(2) { 2 } else { 1 };
    (window.as_secs() / length, Duration::from_secs(length))
}

/// Loads a proxy that is warm for one window, and again when others disturbed it.
///
/// # Errors
/// Where the proxy or the load fails.
pub(crate) fn window(
    ground: &Ground,
    serving: &Serving,
    case: Case,
    (length, patience): (Duration, Duration),
) -> Result<Reading, Failure> {
    let shape = case.shape();
    calmest(serving, patience, || load::run(ground, &shape, serving.address(shape.door), length))
}

/// What a proxy used while `load` ran, which is done again when others disturbed it.
///
/// # Errors
/// As [`window`].
pub(crate) fn calmest(
    serving: &Serving,
    patience: Duration,
    mut load: impl FnMut() -> Result<Counted, Failure>,
) -> Result<Reading, Failure> {
    let mut calmest: Option<Reading> = None;
    for _ in 0..ATTEMPTS {
        quiet::wait(patience)?;
        let watch = Watch::start(Some(serving.id()))?;
        let before = cpu::used(serving.id())?;
        let counted = load()?;
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
