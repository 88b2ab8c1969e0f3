//! `failure_rate`: too great a share of an endpoint's requests fail, whatever the others do. Looks at
//! a window and at its last tenth, so that a long past in health does not cover up what fails now.

use std::time::{Duration, Instant};

use super::window::{Counts, Windows};
use super::words::{percent, time};
use super::{Detector, Evidence, Finding, Kind, Make, Mode, Seen, Severity};
use crate::model::options::Options;
use crate::model::units::Share;

pub(super) const KIND: Kind = Kind {
    name: "failure_rate",
    summary: "ejects an endpoint that fails too great a share of its requests",
    mode: Mode::Enforce,
    shorthand: None,
    read: |options| {
        let settings = Settings::read(options);
        Make::new(move || FailureRate { settings, windows: Windows::new(settings.window) })
    },
};

#[derive(Clone, Copy, Debug)]
struct Settings {
    /// The share of failures, 0 to 1, that is too great.
    share: f64,
    /// Fewer requests in a window say nothing.
    requests: u64,
    /// How far back it looks.
    window: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { share: 0.5, requests: 20, window: Duration::from_secs(10) }
    }
}

impl Settings {
    fn read(options: &Options<'_>) -> Self {
        let default = Self::default();
        Self {
            share: options.get("share").map_or(default.share, Share::fraction),
            requests: options.within("requests", 1..=1_000_000, default.requests),
            window: options.within("window", super::SHORTEST_WINDOW..=super::LONGEST_WINDOW, default.window),
        }
    }

    /// Fewer in the longest window are not looked at further.
    fn fewest_failures(&self) -> u64 {
        ((self.requests as f64 * self.share).floor() as u64).max(1)
    }

    /// What is evident from so many; `None` if all is well.
    fn judge(&self, counts: Counts, span: Duration) -> Option<Evidence> {
        let bad = counts.ended >= self.requests && counts.failed > 0 && counts.share() >= self.share;
        bad.then(|| Evidence {
            words: format!(
                "{} of {} requests in {} failed (threshold {} of at least {})",
                percent(counts.share()),
                counts.ended,
                time(span),
                percent(self.share),
                self.requests
            ),
            values: vec![
                ("failure_share", counts.share()),
                ("requests", counts.ended as f64),
                ("window_seconds", span.as_secs_f64()),
                ("threshold_share", self.share),
                ("threshold_requests", self.requests as f64),
            ],
        })
    }
}

#[derive(Debug)]
struct FailureRate {
    settings: Settings,
    windows: Windows,
}

impl Detector for FailureRate {
    fn judge(&mut self, seen: &[Seen<'_>], now: Instant) -> Vec<Finding> {
        self.windows.take(seen, now);
        let mut findings = Vec::new();
        let fewest = self.settings.fewest_failures();
        for seen in seen.iter().filter(|seen| self.windows.failed(seen.endpoint) >= fewest) {
            let evidence = [self.settings.window / 10, self.settings.window]
                .into_iter()
                .find_map(|span| self.settings.judge(self.windows.over(seen.endpoint, span, now), span));
            if let Some(evidence) = evidence {
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
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Story, sample};

    #[test]
    fn half_of_twenty_is_too_much() {
        let mut story = Story::of("failure_rate", &[]);
        for _ in 0..9 {
            assert_eq!(story.tick(&[sample(1, 1), sample(2, 0)]), []);
        }
        let findings = story.tick(&[sample(1, 1), sample(2, 0)]);
        assert_eq!(findings.len(), 1);
        assert_eq!(
            findings[0].evidence.words,
            "50 % of 20 requests in 10.0 s failed (threshold 50 % of at least 20)"
        );
    }

    #[test]
    fn ten_seconds_in_health_do_not_cover_up_a_second_of_failure() {
        let mut story = Story::of("failure_rate", &[]);
        for _ in 0..50 {
            assert_eq!(story.tick(&[sample(20, 0)]), []);
        }
        let ticks = (1..).find(|_| !story.tick(&[sample(0, 20)]).is_empty());
        assert!(ticks.is_some_and(|ticks| ticks <= 3), "{ticks:?}");
    }

    #[test]
    fn few_requests_say_nothing_and_neither_do_old_ones() {
        let mut story = Story::of("failure_rate", &[("requests", 40)]);
        assert_eq!(story.tick(&[sample(0, 39)]), []);
        for _ in 0..51 {
            assert_eq!(story.tick(&[sample(0, 0)]), []);
        }
        assert_eq!(story.tick(&[sample(0, 39)]), []);
        assert_eq!(story.tick(&[sample(0, 1)]).len(), 1);
        assert_eq!(story.tick(&[sample(0, 0)]).len(), 1, "as long as it is so");
        story.forget(0);
        assert_eq!(story.tick(&[sample(0, 30)]), []);
    }
}
