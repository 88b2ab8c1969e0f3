//! `latency`: an endpoint is much slower than its siblings, in most of several intervals. First it
//! should get less, which relieves one that is only overloaded; if it is as slow then, nothing. Two
//! bounds and the count of intervals keep healthy noise out, and so does a bound on chance where an
//! interval has few requests.

use std::time::{Duration, Instant};

use super::chance;
use super::words::{percent, time};
use super::{Detector, Evidence, Finding, Kind, Make, Mode, Seen, Severity, renumbered};
use crate::health::Latencies;
use crate::model::options::Options;
use crate::model::units::Share;

pub(super) const KIND: Kind = Kind {
    name: "latency",
    summary: "degrades, then ejects an endpoint that is much slower than the others",
    mode: Mode::Enforce,
    shorthand: None,
    read: |options| {
        let settings = Settings::read(options);
        Make::new(move || Latency { settings, tracks: Vec::new(), interval_ends: None })
    },
};

#[derive(Clone, Copy, Debug)]
struct Settings {
    /// Which quantile of the times to the first byte is compared, 0 to 1.
    quantile: f64,
    /// How many times the others' median is slow.
    factor: u32,
    /// By how much more than the others' median it must be besides.
    floor: Duration,
    /// How long the times are gathered before they are compared.
    interval: Duration,
    /// Fewer times are gathered for longer.
    requests: u64,
    /// In how many intervals it must be slow,
    slow: u32,
    /// of so many; at most 32.
    of: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            quantile: 0.9,
            factor: 4,
            floor: Duration::from_millis(50),
            interval: Duration::from_secs(1),
            requests: 10,
            slow: 3,
            of: 5,
        }
    }
}

impl Settings {
    fn read(options: &Options<'_>) -> Self {
        let default = Self::default();
        let of = options.within("of", 1..=32, default.of);
        Self {
            quantile: options.get("quantile").map_or(default.quantile, Share::fraction),
            factor: options.within("factor", 1..=1000, default.factor),
            floor: options.within("floor", Duration::ZERO..=super::LONGEST_WINDOW, default.floor),
            interval: options.within("interval", SHORTEST_INTERVAL..=LONGEST_INTERVAL, default.interval),
            requests: options.within("requests", 1..=1_000_000, default.requests),
            slow: options.within("slow", 1..=of, default.slow.min(of)),
            of,
        }
    }

    /// Above what times are slow, when this is the others' median.
    fn threshold(&self, median: Duration) -> Duration {
        (median * self.factor).max(median + self.floor)
    }
}

#[derive(Debug)]
struct Latency {
    settings: Settings,
    tracks: Vec<Track>,
    interval_ends: Option<Instant>,
}

/// What is known of one endpoint.
#[derive(Clone, Debug, Default)]
struct Track {
    level: u32,
    serving: bool,
    /// Times that wait to be judged, and for how many intervals they have been gathered.
    open: Latencies,
    open_for: u32,
    /// The last that were enough to be judged, and how many intervals ago that was.
    block: Option<Block>,
    /// For each block that was judged, the latest in the lowest bit, whether it was slow.
    history: u32,
    /// Since it has been called slow.
    degraded: Option<Degraded>,
    finding: Option<(Severity, Evidence)>,
}

#[derive(Clone, Debug)]
struct Block {
    quantile: Duration,
    times: Latencies,
    age: u32,
}

#[derive(Clone, Debug, Default)]
struct Degraded {
    times: Latencies,
    intervals: u32,
    /// Whether it was ejected for being slow: when it is back, it is judged as soon as there is
    /// something to judge by, and it is not let go before.
    was_ejected: bool,
}

/// Others to compare with.
#[derive(Debug, Default)]
struct Peers {
    /// Their quantiles, in ascending order.
    quantiles: Vec<Duration>,
    /// Their times, together.
    times: Latencies,
}

impl Detector for Latency {
    fn judge(&mut self, seen: &[Seen<'_>], now: Instant) -> Vec<Finding> {
        seen.iter().for_each(|seen| self.take(seen));
        let ends = *self.interval_ends.get_or_insert(now + self.settings.interval);
        if now >= ends {
            let next = ends + self.settings.interval;
            self.interval_ends = Some(if next > now { next } else { now + self.settings.interval });
            self.end_interval();
        }
        let held = self.tracks.iter().enumerate().filter_map(|(endpoint, track)| {
            let (severity, evidence) = track.finding.clone()?;
            Some(Finding { endpoint, severity, evidence })
        });
        held.collect()
    }

    fn forget(&mut self, endpoint: usize) {
        if let Some(track) = self.tracks.get_mut(endpoint) {
            track.begin_anew();
        }
    }

    fn renumber(&mut self, from: &[Option<usize>]) {
        renumbered(&mut self.tracks, from);
    }
}

impl Latency {
    fn take(&mut self, seen: &Seen<'_>) {
        if self.tracks.len() <= seen.endpoint {
            self.tracks.resize(seen.endpoint + 1, Track::default());
        }
        let Some(track) = self.tracks.get_mut(seen.endpoint) else { return };
        (track.level, track.serving) = (seen.level, seen.serving);
        track.open.merge(&seen.sample.latencies);
        if let Some(degraded) = &mut track.degraded {
            degraded.times.merge(&seen.sample.latencies);
        }
    }

    fn end_interval(&mut self) {
        let settings = self.settings;
        let mut levels: Vec<(u32, Peers)> = Vec::new();
        for track in &mut self.tracks {
            track.close(&settings);
            if let Some(block) = track.block.as_ref().filter(|_| track.serving) {
                let at = levels.iter().position(|(level, _)| *level == track.level).unwrap_or_else(|| {
                    levels.push((track.level, Peers::default()));
                    levels.len() - 1
                });
                if let Some((_, peers)) = levels.get_mut(at) {
                    peers.quantiles.push(block.quantile);
                    peers.times.merge(&block.times);
                }
            }
        }
        levels.iter_mut().for_each(|(_, peers)| peers.quantiles.sort_unstable());
        let nobody = Peers::default();
        for track in &mut self.tracks {
            let peers = levels.iter().find(|(level, _)| *level == track.level);
            track.judge(peers.map_or(&nobody, |(_, peers)| peers), &settings);
        }
    }
}

impl Track {
    fn begin_anew(&mut self) {
        let ejected = matches!(self.finding, Some((Severity::Eject, _)));
        let was_ejected = ejected || self.degraded.as_ref().is_some_and(|degraded| degraded.was_ejected);
        let degraded = was_ejected.then(|| Degraded { was_ejected, ..Degraded::default() });
        *self = Self { degraded, ..Self::default() };
    }

    /// An interval ended: what was gathered makes a block if it is enough.
    fn close(&mut self, settings: &Settings) {
        if let Some(block) = &mut self.block {
            block.age += 1;
        }
        if self.block.as_ref().is_some_and(|block| block.age > settings.of) {
            (self.block, self.history) = (None, 0);
        }
        self.open_for = if self.open.is_empty() { 0 } else { self.open_for + 1 };
        let count = self.open.count();
        if count >= settings.requests.max(1)
            && let Some(quantile) = self.open.quantile(settings.quantile)
        {
            let mut times = self.block.take().map(|block| block.times).unwrap_or_default();
            times.clear();
            std::mem::swap(&mut times, &mut self.open);
            self.block = Some(Block { quantile, times, age: 0 });
            self.open_for = 0;
        } else if self.open_for > settings.of {
            self.open = Latencies::default();
            self.open_for = 0;
        }
    }

    /// Judges what the interval brought.
    fn judge(&mut self, peers: &Peers, settings: &Settings) {
        if let Some(degraded) = &mut self.degraded {
            degraded.intervals += 1;
        }
        let fresh = self.block.as_ref().filter(|block| block.age == 0);
        let mine = self.block.as_ref().filter(|_| self.serving);
        if let Some(block) = fresh {
            let slow = Slow::judge(&block.times, mine, peers, settings);
            self.history = (self.history << 1) | u32::from(slow.is_some());
            let recent = self.history & (u32::MAX >> (32 - settings.of));
            if recent.count_ones() >= settings.slow && self.degraded.is_none() {
                self.degraded = Some(Degraded::default());
                self.finding = slow.map(|slow| (Severity::Degrade, slow.evidence(settings)));
            }
        }
        self.judge_degraded(peers, settings);
    }

    /// Judges one that was found slow before by what it did since, however little that is as long as
    /// chance is ruled out: with a tenth of its share it will not have much.
    fn judge_degraded(&mut self, peers: &Peers, settings: &Settings) {
        let is_due = |degraded: &&mut Degraded| degraded.was_ejected || degraded.intervals >= settings.slow;
        let Some(degraded) = self.degraded.as_mut().filter(is_due) else { return };
        let mine = self.block.as_ref().filter(|_| self.serving);
        let count = degraded.times.count();
        let slow = Slow::judge(&degraded.times, mine, peers, settings);
        match slow.filter(|_| count >= FEWEST) {
            Some(slow) => {
                self.finding = Some((Severity::Eject, slow.evidence(settings)));
                *degraded = Degraded::default();
            }
            None if count >= settings.requests
                || (degraded.intervals >= 2 * settings.of && !degraded.was_ejected) =>
            {
                (self.degraded, self.finding, self.history) = (None, None, 0);
            }
            None => {}
        }
    }
}

/// What makes times slow.
#[derive(Debug)]
struct Slow {
    quantile: Duration,
    requests: u64,
    others: usize,
    median: Duration,
    threshold: Duration,
    surprise: f64,
}

impl Slow {
    /// Whether `times` are slow; `mine` is what `peers` know of the same endpoint.
    fn judge(times: &Latencies, mine: Option<&Block>, peers: &Peers, settings: &Settings) -> Option<Self> {
        let quantile = times.quantile(settings.quantile)?;
        let median = peers.median_without(mine.map(|block| block.quantile))?;
        let threshold = settings.threshold(median);
        if quantile <= threshold {
            return None;
        }
        let of_others = |all: u64, mine: Option<u64>| all.saturating_sub(mine.unwrap_or_default());
        let above = of_others(peers.times.above(threshold), mine.map(|block| block.times.above(threshold)));
        let all = of_others(peers.times.count(), mine.map(|block| block.times.count()));
        let requests = times.count();
        let surprise = chance::surprise(times.above(threshold), requests, chance::rate(above, all));
        let others = peers.quantiles.len() - usize::from(mine.is_some());
        let slow = Self { quantile, requests, others, median, threshold, surprise };
        (surprise >= SURPRISE).then_some(slow)
    }

    fn evidence(&self, settings: &Settings) -> Evidence {
        Evidence {
            words: format!(
                "{} of {} requests took up to {}; the median of {} others is {}, the threshold {} \
                 ({} times that and {} more, in {} of {} intervals of {})",
                percent(settings.quantile),
                self.requests,
                time(self.quantile),
                self.others,
                time(self.median),
                time(self.threshold),
                settings.factor,
                time(settings.floor),
                settings.slow,
                settings.of,
                time(settings.interval)
            ),
            values: vec![
                ("quantile_seconds", self.quantile.as_secs_f64()),
                ("quantile_share", settings.quantile),
                ("requests", self.requests as f64),
                ("others", self.others as f64),
                ("others_median_seconds", self.median.as_secs_f64()),
                ("threshold_seconds", self.threshold.as_secs_f64()),
                ("chance_share", (-self.surprise).exp()),
                ("threshold_chance_share", (-SURPRISE).exp()),
            ],
        }
    }
}

impl Peers {
    /// The median of the quantiles when one of this length is left out; the mean of the two in the
    /// middle. `None` if nobody is left.
    fn median_without(&self, mine: Option<Duration>) -> Option<Duration> {
        let at = mine.map(|mine| self.quantiles.partition_point(|quantile| *quantile < mine));
        let number = self.quantiles.len() - usize::from(at.is_some());
        let get = |place: usize| {
            let place = if at.is_some_and(|at| place >= at) { place + 1 } else { place };
            self.quantiles.get(place).copied()
        };
        let (lower, upper) = (get(number.checked_sub(1)? / 2)?, get(number / 2)?);
        Some((lower + upper) / 2)
    }
}

/// The natural logarithm of how unlikely chance must be in each interval: one in a thousand, which
/// only few requests fall short of.
const SURPRISE: f64 = 6.9;
/// The fewest requests by which an endpoint that gets less is judged.
const FEWEST: u64 = 3;
const SHORTEST_INTERVAL: Duration = Duration::from_millis(200);
const LONGEST_INTERVAL: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
