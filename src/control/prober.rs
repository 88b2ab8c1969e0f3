//! Carries out active checks: when one is due it is asked, and whoever has subscribed to it is told.
//! When the next one is due and what a verdict changes is decided in `health`.
//!
//! One task keeps the times of all; a check has a task and memory only while it is under way. When other
//! endpoints are to be checked, those that stay keep their time and the check that is under way.

mod ask;
mod call;
mod datagram;
mod target;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::future::pending;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::{JoinError, JoinSet};
use tokio::time::sleep_until;

use super::health::Health;
use crate::ambient;
use crate::observe::panics::{Panicked, Place, contain};
use ask::Answer;
use target::Targets;

/// Checks every endpoint that is to be checked. Never ends. To be called on a tokio runtime with I/O
/// and time.
pub(super) async fn run(health: Arc<Health>) {
    let mut changes = health.changes();
    let mut prober = Prober {
        targets: Targets::default(),
        due: BinaryHeap::new(),
        running: JoinSet::new(),
        complained: None,
    };
    prober.aim(&health, ambient::now());
    loop {
        prober.start_due(ambient::now());
        tokio::select! {
            () = until(prober.next_start()) => {}
            // Its sender lives as long as `health`.
            Ok(()) = changes.changed() => prober.aim(&health, ambient::now()),
            Some(done) = prober.running.join_next() => {
                prober.take(done);
                while let Some(done) = prober.running.try_join_next() {
                    prober.take(done);
                }
            }
        }
    }
}

struct Prober {
    targets: Targets,
    /// When each target that is not being asked is to be asked, by its number. Some may be gone.
    due: BinaryHeap<Reverse<(Instant, u64)>>,
    running: JoinSet<(u64, Result<Answer, Panicked>)>,
    /// When it was last logged that checks could not be carried out.
    complained: Option<Instant>,
}

impl Prober {
    /// Finds out anew what is to be checked.
    fn aim(&mut self, health: &Health, now: Instant) {
        for (number, after) in self.targets.aim(health) {
            self.due.push(Reverse((now + after, number)));
        }
        let targets = &self.targets;
        self.due.retain(|Reverse((_, number))| targets.get(*number).is_some());
    }

    fn start_due(&mut self, now: Instant) {
        while self.running.len() < MOST_AT_ONCE {
            let Some(number) = self.pop_due(now + TOGETHER) else { return };
            let Some(target) = self.targets.get(number) else { continue };
            if target.is_wanted() {
                let question = Arc::clone(&target.question);
                self.running.spawn(async move {
                    let answer = contain(Place::Control, pin!(ask::ask(&question))).await;
                    (number, answer)
                });
            } else {
                self.due.push(Reverse((now + RECONSIDERED, number)));
            }
        }
    }

    fn pop_due(&mut self, by: Instant) -> Option<u64> {
        let due = self.due.peek_mut()?;
        let Reverse((at, _)) = *due;
        (at <= by).then(|| PeekMut::pop(due)).map(|Reverse((_, number))| number)
    }

    /// When the next check can start; `None` while one has to end first.
    fn next_start(&self) -> Option<Instant> {
        let Reverse((at, _)) = self.due.peek()?;
        (self.running.len() < MOST_AT_ONCE).then_some(*at)
    }

    fn take(&mut self, done: Result<(u64, Result<Answer, Panicked>), JoinError>) {
        // Panics are contained, and checks are cancelled only when all of this is dropped.
        let Ok((number, answer)) = done else { return };
        let Some(target) = self.targets.get_mut(number) else { return };
        let now = ambient::now();
        let pause = match answer {
            Ok(Answer::Judged(result)) => target.tell(&result, ambient::draw()),
            Err(panic) => {
                tracing::error!(%panic, endpoint = target.question.authority, "a panic ended a check");
                None
            }
            Ok(Answer::Unable(error)) => {
                if self.complained.is_none_or(|at| now.saturating_duration_since(at) >= COMPLAINT_PAUSE) {
                    self.complained = Some(now);
                    tracing::warn!(%error, "endpoints could not be checked");
                }
                None
            }
        };
        self.due.push(Reverse((now + pause.unwrap_or(RECONSIDERED), number)));
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at.into()).await,
        None => pending().await,
    }
}

/// Checks that are due within this time start together: with many, the thread wakes up less often.
const TOGETHER: Duration = Duration::from_millis(10);
/// Checks under way at once; those past it wait until one has ended. At the usual limit of 1024
/// descriptors, half is left for traffic; at the usual timeout of 2 s, 256 endpoints that hang are
/// found out in each second.
const MOST_AT_ONCE: usize = 512;
/// After which time it is asked again whether an endpoint is to be checked.
const RECONSIDERED: Duration = Duration::from_secs(1);
/// How often it is logged that checks cannot be carried out.
const COMPLAINT_PAUSE: Duration = Duration::from_secs(10);
