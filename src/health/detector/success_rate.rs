//! `success_rate`: an endpoint fails more of its requests than its siblings do. Compares with the
//! others' median and by their median absolute deviation, which one bad endpoint of three or a third
//! of a large pool do not move, asks for a gap that matters, and rules chance out. Looks at several
//! windows, so that much is found soon and little at last.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::chance::{self, Usual};
use super::window::{Counts, Windows};
use super::words::{percent, time};
use super::{Detector, Evidence, Finding, Kind, Make, Mode, Seen, Severity};
use crate::model::options::Options;
use crate::model::units::Share;

pub(super) const KIND: Kind = Kind {
    name: "success_rate",
    summary: "ejects an endpoint that fails a greater share of its requests than the others do",
    mode: Mode::Enforce,
    shorthand: None,
    read: |options| {
        let settings = Settings::read(options);
        Make::new(move || SuccessRate::new(settings))
    },
};

#[derive(Clone, Copy, Debug)]
struct Settings {
    /// By how much its share of failures, 0 to 1, must exceed the others' median.
    gap: f64,
    /// By how many robust standard deviations.
    deviations: u32,
    /// Fewer requests in a window say nothing.
    requests: u64,
    /// How far back the longest window reaches.
    window: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { gap: 0.1, deviations: 3, requests: 10, window: Duration::from_secs(10) }
    }
}

impl Settings {
    fn read(options: &Options<'_>) -> Self {
        let default = Self::default();
        Self {
            gap: options.get("gap").map_or(default.gap, Share::fraction),
            deviations: options.within("deviations", 1..=100, default.deviations),
            requests: options.within("requests", 1..=1_000_000, default.requests),
            window: options.within("window", super::SHORTEST_WINDOW..=super::LONGEST_WINDOW, default.window),
        }
    }

    /// The windows, shortest first.
    fn spans(&self) -> [Duration; 3] {
        [self.window / 10, self.window * 3 / 10, self.window]
    }

    /// Whether so many say enough.
    fn fits(&self, counts: Counts, doubt: Doubt) -> bool {
        counts.ended >= self.requests.min(doubt.requests) && counts.share() >= self.gap
    }

    /// What is evident from so many and the others'; `None` if all is well.
    fn judge(&self, counts: Counts, others: &Others, span: Duration, doubt: Doubt) -> Option<Evidence> {
        let Usual { median, deviation } = others.usual;
        let threshold = self.gap.max(f64::from(self.deviations) * deviation);
        let rate = others.counts.upper_share().max(others.longest_rate).max(NOISE);
        let surprise = chance::surprise(counts.failed, counts.ended, rate);
        let is_outlier = counts.share() - median >= threshold && surprise >= doubt.surprise;
        is_outlier.then(|| Evidence {
            words: format!(
                "{} of {} requests in {} failed; the median of {} others is {} (MAD {}), \
                 the threshold {:.0} points above it",
                percent(counts.share()),
                counts.ended,
                time(span),
                others.number,
                percent(median),
                percent(deviation),
                threshold * 100.0
            ),
            values: vec![
                ("failure_share", counts.share()),
                ("requests", counts.ended as f64),
                ("window_seconds", span.as_secs_f64()),
                ("others", others.number as f64),
                ("others_median_share", median),
                ("others_deviation_share", deviation),
                ("others_failure_share", others.counts.share()),
                ("threshold_gap_share", threshold),
                ("chance_share", (-surprise).exp()),
                ("threshold_chance_share", (-doubt.surprise).exp()),
            ],
        })
    }
}

/// What an endpoint is compared with, in one window.
#[derive(Clone, Copy, Debug)]
struct Others {
    usual: Usual,
    /// Of those together that are not outliers themselves.
    counts: Counts,
    /// The rate of failures that they speak for in the longest window, where they have had the most
    /// requests.
    longest_rate: f64,
    /// How many they are.
    number: usize,
}

/// How much is given to the doubt.
#[derive(Clone, Copy, Debug)]
struct Doubt {
    /// Fewer requests say nothing.
    requests: u64,
    /// How unlikely chance must be, as `chance::surprise` has it.
    surprise: f64,
}

impl Doubt {
    /// Whether so few failures are beyond suspicion, whatever they are compared with.
    fn covers(self, failures: u64) -> bool {
        chance::surprise(failures, failures, NOISE) < self.surprise
    }
}

#[derive(Debug)]
struct SuccessRate {
    settings: Settings,
    windows: Windows,
    /// Those that were found before, and have not shown since that they are well.
    found: BTreeSet<usize>,
}

impl SuccessRate {
    fn new(settings: Settings) -> Self {
        Self { settings, windows: Windows::new(settings.window), found: BTreeSet::new() }
    }

    /// One that was found and comes back has less of the benefit of the doubt, until it has had
    /// many requests.
    fn doubt(&mut self, endpoint: usize, now: Instant) -> Doubt {
        if !self.found.contains(&endpoint) {
            return USUAL;
        }
        if self.windows.over(endpoint, self.settings.window, now).ended < PROOF {
            return BACK;
        }
        self.found.remove(&endpoint);
        USUAL
    }

    fn evidence(&mut self, seen: &Seen<'_>, peers: &mut Vec<Peers>, now: Instant) -> Option<Evidence> {
        let doubt = self.doubt(seen.endpoint, now);
        if doubt.covers(self.windows.failed(seen.endpoint)) {
            return None;
        }
        let spans = self.settings.spans().map(|span| (span, self.windows.over(seen.endpoint, span, now)));
        if !spans.iter().any(|(_, counts)| self.settings.fits(*counts, doubt)) {
            return None;
        }
        let at = peers.iter().position(|peers| peers.level == seen.level).unwrap_or_else(|| {
            peers.push(Peers::new(&self.windows, &self.settings, seen.level, now));
            peers.len() - 1
        });
        let peers = peers.get_mut(at)?;
        let longest = peers.others(spans.len() - 1, seen.endpoint, self.settings.gap)?;
        let longest_rate = chance::rate(longest.counts.failed, longest.counts.ended);
        (0..).zip(spans).find_map(|(place, (span, counts))| {
            let others = peers.others(place, seen.endpoint, self.settings.gap)?;
            let others = Others { longest_rate, ..others };
            self.settings.fits(counts, doubt).then(|| self.settings.judge(counts, &others, span, doubt))?
        })
    }
}

impl Detector for SuccessRate {
    fn judge(&mut self, seen: &[Seen<'_>], now: Instant) -> Vec<Finding> {
        self.windows.take(seen, now);
        let mut peers = Vec::new();
        let mut findings = Vec::new();
        for seen in seen {
            if let Some(evidence) = self.evidence(seen, &mut peers, now) {
                self.found.insert(seen.endpoint);
                findings.push(Finding { endpoint: seen.endpoint, severity: Severity::Eject, evidence });
            }
        }
        findings
    }

    fn forget(&mut self, endpoint: usize) {
        self.windows.forget(endpoint);
    }

    fn renumber(&mut self, from: &[Option<usize>]) {
        self.windows.renumber(from);
        let found = |(at, from): (usize, &Option<usize>)| from.filter(|f| self.found.contains(f)).map(|_| at);
        self.found = from.iter().enumerate().filter_map(found).collect();
    }
}

/// A level's endpoints, for the time of one look.
#[derive(Debug)]
struct Peers {
    level: u32,
    /// For each window, those with enough requests.
    windows: [Vec<(usize, Counts)>; 3],
    /// For each window, what many have in common: one more or less makes no difference.
    many: [Option<Others>; 3],
}

impl Peers {
    fn new(windows: &Windows, settings: &Settings, level: u32, now: Instant) -> Self {
        let enough = |(_, counts): &(usize, Counts)| counts.ended >= settings.requests;
        let windows = settings.spans().map(|span| windows.level(level, span, now).filter(enough).collect());
        Self { level, windows, many: [None; 3] }
    }

    /// All but `except`, in one window; `None` if there are none.
    fn others(&mut self, place: usize, except: usize, gap: f64) -> Option<Others> {
        let all = self.windows.get(place)?;
        if all.len() <= MANY {
            return Others::of(all.iter().filter(|(endpoint, _)| *endpoint != except), gap);
        }
        let many = self.many.get_mut(place)?;
        if many.is_none() {
            *many = Others::of(all.iter(), gap);
        }
        *many
    }
}

impl Others {
    fn of<'a>(others: impl Iterator<Item = &'a (usize, Counts)> + Clone, gap: f64) -> Option<Self> {
        let mut shares: Vec<_> = others.clone().map(|(_, counts)| counts.share()).collect();
        let number = shares.len();
        let usual = Usual::of(&mut shares)?;
        let sound = others.filter(|(_, counts)| counts.share() < usual.median + gap);
        let counts = sound.fold(Counts::default(), |sum, (_, counts)| Counts {
            failed: sum.failed + counts.failed,
            ended: sum.ended + counts.ended,
        });
        Some(Self { usual, counts, longest_rate: 0.0, number })
    }
}

/// Chance must be as unlikely as one in ten million, because every endpoint is looked at several
/// times a second for years.
const USUAL: Doubt = Doubt { requests: u64::MAX, surprise: 16.1 };
/// One in a thousand.
const BACK: Doubt = Doubt { requests: 4, surprise: 6.9 };
/// After how many requests an endpoint that was found has shown that it is well.
const PROOF: u64 = 200;
/// A share of failures that may be anyone's.
const NOISE: f64 = 0.01;
/// From so many endpoints on, each is compared with all, itself included, which is done once.
const MANY: usize = 64;

#[cfg(test)]
mod tests;
