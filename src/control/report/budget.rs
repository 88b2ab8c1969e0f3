//! Availability against an objective, and how much of the error budget is used up. Formulas from
//! Google's SRE Workbook, chapter 5, "Alerting on SLOs": the budget is the share of requests that may
//! fail, 1 − objective; the burn rate is the share that failed over the budget. Pure arithmetic.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::model::units::Share;

/// The share of requests that is to be answered well, above 0 and below 1, in millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Objective(u32);

/// Requests of some time against an objective.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budget {
    /// What was aimed at.
    pub objective: Objective,
    /// Requests of the time.
    pub requests: u64,
    /// Those that failed, at most all of them.
    pub errors: u64,
    /// How long the time was.
    pub span: Duration,
}

impl Objective {
    /// The objective as a share of all requests.
    #[must_use]
    pub fn share(self) -> f64 {
        f64::from(self.0) / f64::from(WHOLE)
    }

    /// The share of requests that may fail, above 0.
    #[must_use]
    pub fn may_fail(self) -> f64 {
        f64::from(WHOLE - self.0) / f64::from(WHOLE)
    }
}

impl Default for Objective {
    /// 99.9 %.
    fn default() -> Self {
        Self(999_000)
    }
}

impl fmt::Display for Objective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{:.4}", self.share() * 100.0);
        write!(f, "{} %", text.trim_end_matches('0').trim_end_matches('.'))
    }
}

impl FromStr for Objective {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.strip_suffix('%').unwrap_or(text).trim_end();
        let share = format!("{number}%").parse::<Share>().ok();
        let millionths = share.map(|share| (share.fraction() * f64::from(WHOLE)).round() as u32);
        let fits = |millionths: &u32| (1..WHOLE).contains(millionths);
        millionths.filter(fits).map(Self).ok_or_else(|| {
            format!("{text:?} is no objective, such as \"99.9%\": above 0 and at most 99.9999 %")
        })
    }
}

impl Budget {
    /// The share of requests that was answered well; `None` where there were none.
    #[must_use]
    pub fn availability(&self) -> Option<f64> {
        let good = self.requests.saturating_sub(self.errors);
        (self.requests > 0).then(|| good as f64 / self.requests as f64)
    }

    /// How many of these requests might have failed.
    #[must_use]
    pub fn allowed(&self) -> f64 {
        self.requests as f64 * self.objective.may_fail()
    }

    /// How many times as fast as the objective allows errors came, which is also how many times the budget
    /// of these requests they used up; `None` where there were no requests.
    #[must_use]
    pub fn burn_rate(&self) -> Option<f64> {
        Some(self.errors as f64 / self.requests as f64 / self.objective.may_fail())
            .filter(|_| self.requests > 0)
    }

    /// Whether more failed than might have.
    #[must_use]
    pub fn is_spent(&self) -> bool {
        self.burn_rate().is_some_and(|rate| rate > 1.0)
    }

    /// The share of the budget of [`PERIOD`] that this time used up, if requests come evenly.
    #[must_use]
    pub fn of_period(&self) -> Option<f64> {
        Some(self.burn_rate()? * self.span.as_secs_f64() / PERIOD.as_secs_f64())
    }

    /// After which time the budget of [`PERIOD`] is gone at this pace; `None` where nothing failed.
    #[must_use]
    pub fn lasts(&self) -> Option<Duration> {
        let rate = self.burn_rate().filter(|rate| *rate > 0.0)?;
        Duration::try_from_secs_f64(PERIOD.as_secs_f64() / rate).ok()
    }
}

/// The time that objectives are usually agreed for.
pub const PERIOD: Duration = Duration::from_secs(30 * 86_400);

/// All of it, in millionths.
const WHOLE: u32 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(objective: &str, requests: u64, errors: u64) -> Budget {
        let span = Duration::from_secs(3600);
        Budget { objective: objective.parse().unwrap(), requests, errors, span }
    }

    fn near(a: Option<f64>, b: f64) -> bool {
        a.is_some_and(|a| (a - b).abs() < 1e-9 * b.abs().max(1e-3))
    }

    #[test]
    fn an_objective_is_a_share_that_leaves_something_over() {
        for (text, shown) in
            [("99.9%", "99.9 %"), ("99.95", "99.95 %"), ("50 %", "50 %"), ("99.999%", "99.999 %")]
        {
            assert_eq!(text.parse::<Objective>().unwrap().to_string(), shown);
        }
        for text in ["", "100%", "0", "-1", "x%", "99.99999%", "101", "1e2"] {
            assert!(text.parse::<Objective>().is_err(), "{text}");
        }
        assert_eq!(Objective::default(), "99.9%".parse().unwrap());
    }

    /// The workbook's own example: at a burn rate of 1 the budget lasts the period, at 14.4 an hour takes
    /// 2 % of that of 30 days.
    #[test]
    fn burn_rates_are_the_workbooks() {
        let even = budget("99.9%", 100_000, 100);
        assert!(near(even.burn_rate(), 1.0) && near(even.availability(), 0.999));
        assert!(!budget("99.9%", 100_000, 99).is_spent() && budget("99.9%", 100_000, 101).is_spent());
        let fast = budget("99.9%", 100_000, 1440);
        assert!(near(fast.burn_rate(), 14.4) && near(fast.of_period(), 0.02), "{fast:?}");
        assert!(near(fast.lasts().map(|lasts| lasts.as_secs_f64()), 50.0 * 3600.0));
        assert!(near(Some(fast.allowed()), 100.0));
    }

    #[test]
    fn without_requests_nothing_is_said_and_without_errors_it_lasts() {
        let none = budget("99.9%", 0, 0);
        assert_eq!((none.availability(), none.burn_rate(), none.lasts()), (None, None, None));
        let good = budget("99.9%", 10, 0);
        assert_eq!((good.availability(), good.burn_rate(), good.lasts()), (Some(1.0), Some(0.0), None));
        let all = budget("99.9%", 10, 10);
        assert_eq!(all.availability(), Some(0.0));
    }
}
