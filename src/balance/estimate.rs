//! How an endpoint's time to the first byte is estimated: by an exponentially weighted average that
//! follows a rise with the second slow response and a fall slowly, with a decay of 10 s (after the
//! peak EWMA of Finagle). What nobody refreshes fades too, when it is read, so that an endpoint that was slow is
//! tried again. Failures count apart, as a share of the latest requests: they say nothing about time.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::lots::REFRESH;
use super::{Gauge, Pick};

/// Takes note that a response began after `took`.
pub fn observe(gauge: &Gauge, took: Duration, now: Instant) {
    let took = took.as_secs_f64();
    let next = match gauge.estimated(now) {
        None => took,
        Some((before, age)) => {
            let is_slower = took > before;
            let slower = gauge.replace_slower(if is_slower { took } else { 0.0 });
            let faded = before * fade(age);
            if is_slower && gauge.failing(now).is_none() {
                // To what both of the latest two took at least: one alone may be chance. Who failed a
                // moment ago, as while it starts, is believed at once that it is slow.
                before.max(slower.min(took))
            } else if took < faded {
                // Averaged with what would be read now, so that an endpoint that is tried again once
                // its estimate has faded to that of the others is not put off by how slow it was.
                faded * fade(age) + took * (1.0 - fade(age))
            } else {
                took
            }
        }
    };
    gauge.set_estimate(Duration::from_secs_f64(next), now);
}

/// Takes note that an exchange succeeded to its last byte.
pub fn succeed(gauge: &Gauge) {
    gauge.scale_failing(1.0 - OUTCOME);
}

/// Takes note of a failure, so that an endpoint that fails fast does not look quick. One failure among
/// successes costs nothing, as it happens to all; from the second in a row on the endpoint is avoided.
pub fn penalise(gauge: &Gauge, now: Instant) {
    let before = gauge.failing(now).map_or(0.0, |(share, age)| share * left(age));
    gauge.set_failing(before + (1.0 - before) * OUTCOME, now);
}

/// What the next request to an endpoint has to reckon with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outlook {
    /// How long it takes to the first byte, in seconds, made longer by failures.
    pub(super) time: f64,
    /// The share of the latest requests that failed, 0 to 1; 0 for few, and the less the longer ago.
    pub(super) failing: f64,
}

/// The outlook of an endpoint, where `typical` is the time of what is not measured, in seconds.
/// Requests that wait for longer than the estimate say more than it does.
pub(super) fn outlook(gauge: &Gauge, typical: f64, now: Instant) -> Outlook {
    let measured = faded(gauge, now).unwrap_or(typical);
    let time = measured.max(gauge.waited_for(now)) + GRAIN;
    match gauge.failing(now) {
        Some((share, age)) if share >= SUSPECT => {
            let failing = share * fade(age);
            Outlook { time: time.max(typical + GRAIN) * (1.0 + PENALTY * failing), failing }
        }
        _ => Outlook { time, failing: 0.0 },
    }
}

/// The median of what is measured in a pool.
#[derive(Default)]
pub(super) struct Typical {
    seconds: Cell<f64>,
    due: Cell<Option<Instant>>,
    measured: RefCell<Vec<f64>>,
}

impl Typical {
    /// The median among `pick.usable`, in seconds, as of a tenth of a second ago at most; an arbitrary
    /// time when nothing is measured.
    pub(super) fn of(&self, gauges: &[Arc<Gauge>], pick: &Pick<'_>) -> f64 {
        if self.due.get().is_none_or(|due| pick.now >= due) {
            self.due.set(Some(pick.now + REFRESH));
            let mut measured = self.measured.borrow_mut();
            measured.clear();
            let usable = pick.usable.iter().filter_map(|index| gauges.get(*index as usize));
            measured.extend(usable.filter_map(|gauge| faded(gauge, pick.now)));
            let middle = measured.len() / 2;
            self.seconds.set(if measured.is_empty() {
                UNKNOWN
            } else {
                *measured.select_nth_unstable_by(middle, f64::total_cmp).1
            });
        }
        self.seconds.get()
    }
}

/// The estimate as it has faded since it was written, in seconds; `None` when there is none, or
/// nothing is left of it.
fn faded(gauge: &Gauge, now: Instant) -> Option<f64> {
    let (estimate, age) = gauge.estimated(now)?;
    let kept = fade(age);
    (kept > 0.0).then_some(estimate * kept)
}

/// What is left after `age` seconds: (1 - age / 4 d)^4, which begins as exp(-age / d) does but costs
/// next to nothing and reaches zero, after 40 s.
fn fade(age: f64) -> f64 {
    let left = left(age);
    (left * left) * (left * left)
}

fn left(age: f64) -> f64 {
    (1.0 - age / (4.0 * DECAY)).max(0.0)
}

/// The time in which a past peak is forgotten for the most part, in seconds.
const DECAY: f64 = 10.0;
/// What the latest outcome counts in the share of failures.
const OUTCOME: f64 = 0.25;
/// The share of failures from which on an endpoint is avoided: two in a row are above it, and two with
/// a success between them are not.
const SUSPECT: f64 = 0.4;
/// How many times longer an endpoint is taken to need when all of its requests fail.
const PENALTY: f64 = 30.0;
/// What is added to every time, in seconds: below it, differences are chance rather than the
/// endpoint's doing.
const GRAIN: f64 = 0.001;
/// The time, in seconds, of an endpoint in a pool of which none is measured. Only a failure or a long
/// wait makes a difference to it.
const UNKNOWN: f64 = 0.001;
