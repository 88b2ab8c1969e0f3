//! The ladder of degradation of one pool at work: feeds it with what became of requests, puts the rung
//! that it decides on into force, and asks for trials where there is little traffic. Decides nothing
//! itself.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::Watch;
use crate::health::journal::{Event, Fallen, What};
use crate::health::{Failure, Sample};
use crate::limit::ladder::{Cause, Change, Ladder, Tries};
use crate::upstream::Pool;
use crate::upstream::fallbacks::{Due, Fallbacks};

/// The ladder of one pool.
#[derive(Debug)]
pub(super) struct PoolLadder {
    ladder: Ladder,
    /// What had become of requests at the last look, by rung.
    before: Vec<Tries>,
    /// When a trial was last seen, or the pool was left.
    tried: Instant,
}

impl PoolLadder {
    /// The ladder of a pool, if it has one.
    pub(super) fn new(watch: &Watch, now: Instant) -> Option<Self> {
        let settings = watch.ladder.clone()?;
        let tries = watch.pool.settings.fallbacks.as_ref()?.tries();
        let ladder = Ladder::new(settings, tries.len().saturating_sub(1));
        Some(Self { ladder, before: tries, tried: now })
    }

    /// The ladder of a pool that has changed, from the one `before` and the one now. It goes on where it is
    /// set as before; otherwise requests begin with the pool itself again.
    pub(super) fn adopt(
        known: Option<Self>,
        (before, watch): (&Watch, &Watch),
        now: Instant,
    ) -> Option<Self> {
        let fallbacks = watch.pool.settings.fallbacks.as_ref();
        let kept = known.zip(fallbacks).filter(|(known, fallbacks)| {
            before.ladder == watch.ladder && known.before.len() == fallbacks.tries().len()
        });
        let ladder = match kept {
            Some((known, fallbacks)) => Some(known.counting_on(fallbacks)),
            None => Self::new(watch, now),
        };
        let rung = ladder.as_ref().map_or(0, |ladder| ladder.ladder.rung());
        watch.pool.guard.rung.store(u8::try_from(rung).unwrap_or(u8::MAX), Ordering::Relaxed);
        if let Some(fallbacks) = fallbacks {
            fallbacks.metrics.set_rung(rung);
        }
        ladder
    }

    /// Goes on to count, or begins anew where the counts themselves did.
    fn counting_on(self, fallbacks: &Fallbacks) -> Self {
        let tries = fallbacks.tries();
        let mut pairs = tries.iter().zip(&self.before);
        let go_on = pairs.all(|(now, before)| now.passed >= before.passed && now.failed >= before.failed);
        if go_on { self } else { Self { before: tries, ..self } }
    }

    /// Takes what happened until `now`; `available` is whether any endpoint of the pool may be used.
    pub(super) fn on_tick(
        &mut self,
        pool: &Pool,
        samples: &[Sample],
        available: bool,
        now: Instant,
    ) -> Option<Event> {
        let fallbacks = pool.settings.fallbacks.as_ref()?;
        let mut tries = self.read(fallbacks);
        if let Some(own) = tries.first_mut() {
            if own.passed + own.failed > 0 {
                self.tried = now;
            }
            if self.ladder.rung() == 0 {
                own.passed = own.passed.max(answered(samples));
            }
        }
        let change = self.ladder.on_tick(&tries, available, now);
        if change.is_some() {
            self.tried = now;
        }
        fallbacks.set_due(self.due(now));
        if let Some(store) = fallbacks.store() {
            fallbacks.metrics.set_kept(store.bytes());
        }
        let Change { from, to, cause } = change?;
        pool.guard.rung.store(u8::try_from(to).unwrap_or(u8::MAX), Ordering::Relaxed);
        fallbacks.metrics.set_rung(to);
        let (from, to) = (fallbacks.metrics.name(from).to_owned(), fallbacks.metrics.name(to).to_owned());
        let what = match cause {
            Cause::Failures { share, requests } => {
                What::LadderDown { from, to, fallen: Fallen::Failures { share, requests } }
            }
            Cause::Unavailable => What::LadderDown { from, to, fallen: Fallen::Unavailable },
            Cause::Trials { passed, lasted } => What::LadderUp { from, to, trials: passed, lasted },
        };
        Some(Event { endpoint: None, what, state: None })
    }

    /// What became of requests since the last look.
    fn read(&mut self, fallbacks: &Fallbacks) -> Vec<Tries> {
        let tries = fallbacks.tries();
        let before = std::mem::replace(&mut self.before, tries);
        let since = |(now, before): (&Tries, Tries)| Tries {
            passed: now.passed.saturating_sub(before.passed),
            failed: now.failed.saturating_sub(before.failed),
        };
        self.before.iter().zip(before).map(since).collect()
    }

    fn due(&self, now: Instant) -> Due {
        match now.saturating_duration_since(self.tried) {
            _ if self.ladder.rung() == 0 => Due::No,
            waited if waited >= TRIAL_BY_ANYTHING => Due::Any,
            waited if waited >= TRIAL => Due::Repeatable,
            _ => Due::No,
        }
    }
}

/// Requests that the pool itself answered, however long their responses still take. An attempt that
/// failed is none: the request may have had its answer from another endpoint.
fn answered(samples: &[Sample]) -> u64 {
    let of = |sample: &Sample| {
        let ended = sample.successes + sample.failed_by(Failure::ServerError);
        ended.max(sample.latencies.count().saturating_sub(sample.failed_by(Failure::Gateway)))
    };
    samples.iter().map(of).sum()
}

/// How long it takes without a trial until the next request is one.
const TRIAL: Duration = Duration::from_secs(1);
/// The same, where the request cannot go elsewhere.
const TRIAL_BY_ANYTHING: Duration = Duration::from_secs(5);
