//! Takes finished spans from the workers' backlogs and has a collector take them, in batches, for as long as
//! it takes. While it does not, spans wait in the backlogs, and what does not fit there is lost and counted:
//! nobody ever waits for a collector.

use std::collections::VecDeque;
use std::future::pending;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::{sleep, sleep_until};

use super::answer::Outcome;
use super::line::Line;
use super::write::{Batch, Resource};
use crate::ambient;
use crate::config::plan::OtlpPlan;
use crate::control::running::Running;
use crate::limit::backoff;
use crate::observe::spans::{Fate, Spans};
use crate::trace::{Span, Value};

/// When everything has to be over; `None` while nothing ends.
pub(super) type End = Option<Instant>;

/// The export of all spans, by the settings in force.
pub(super) struct Export<'a> {
    running: &'a Running,
    spans: &'a Spans,
    changes: watch::Receiver<u64>,
    end: watch::Receiver<End>,
    /// To the collector in force, or to the last one that there was.
    line: Option<Line>,
    /// Whether there is one at present.
    wanted: bool,
    waiting: VecDeque<Span>,
    complaints: Complaints,
}

impl<'a> Export<'a> {
    /// Of what `running` has finished, until `end` says so.
    pub(super) fn new(running: &'a Running, end: watch::Receiver<End>) -> Self {
        Self {
            running,
            spans: running.registry().spans(),
            changes: running.changes(),
            end,
            line: None,
            wanted: false,
            waiting: VecDeque::new(),
            complaints: Complaints::default(),
        }
    }

    /// Exports until the end.
    pub(super) async fn run(&mut self) {
        loop {
            self.aim();
            if self.gather().await {
                self.send_batch().await;
            }
            if self.is_ending() {
                self.take(usize::MAX);
                if self.waiting.is_empty() {
                    return;
                }
            }
        }
    }

    /// Goes by the settings that are in force now.
    fn aim(&mut self) {
        self.changes.borrow_and_update();
        let (plan, _) = self.running.plan();
        let plan = plan.tracing.as_ref().and_then(|tracing| tracing.otlp.as_ref());
        if plan.is_none() {
            // What was finished for the last one is still sent there.
            self.take(usize::MAX);
        }
        self.wanted = plan.is_some();
        let Some(plan) = plan else { return };
        if self.line.as_ref().is_none_or(|line| line.plan() != plan) {
            self.line = Some(Line::new(plan.clone()));
        }
    }

    /// Waits until there are enough spans for a batch, the first has waited for long enough, or everything
    /// ends. Whether it is so: not when other settings came into force.
    async fn gather(&mut self) -> bool {
        let plan = self.line.as_ref().map(Line::plan);
        let (most, patience) = plan.map_or((1, Duration::ZERO), |plan| (plan.batch, plan.interval));
        let mut due = None;
        loop {
            self.take(most);
            let now = ambient::now();
            if due.is_none() && !self.waiting.is_empty() {
                due = Some(now + if self.wanted { patience } else { Duration::ZERO });
            }
            if self.waiting.len() >= most || due.is_some_and(|due| due <= now) || self.is_ending() {
                return true;
            }
            if !self.more(due).await {
                return false;
            }
        }
    }

    /// Takes what the workers have finished, unless as many as `most` wait already.
    fn take(&mut self, most: usize) {
        if self.wanted && self.waiting.len() < most {
            self.waiting.extend(self.spans.take());
        }
    }

    /// Waits for further spans, or until `due`. Whether nothing else happened.
    async fn more(&mut self, due: Option<Instant>) -> bool {
        let filled = async {
            match self.wanted {
                true => self.spans.filled().await,
                false => pending().await,
            }
            // Whoever adds the first span wakes this thread, which is not to happen for each.
            sleep(TOGETHER).await;
        };
        tokio::select! {
            () = filled => true,
            () = until(due) => true,
            // Their senders live for as long as what runs, and as the exporter.
            _ = self.changes.changed() => false,
            _ = self.end.changed() => false,
        }
    }

    /// Sends as many spans as belong in a batch, until they are taken, refused or given up.
    async fn send_batch(&mut self) {
        let Some(line) = &self.line else { return };
        let mut batch = Batch::default();
        while batch.spans() < line.plan().batch && !batch.is_big() {
            let Some(span) = self.waiting.pop_front() else { break };
            batch.add(&span);
        }
        let spans = batch.spans();
        if spans > 0 {
            let message = batch.finish(&resource(line.plan()));
            self.deliver(&message, spans).await;
        }
    }

    async fn deliver(&mut self, message: &Bytes, spans: usize) {
        let began = ambient::now();
        let mut tries = 0;
        loop {
            match self.attempt(message).await {
                Outcome::Taken(taken) => {
                    let rejected = usize::try_from(taken.rejected).unwrap_or(usize::MAX).min(spans);
                    self.spans.account(Fate::Exported, spans - rejected);
                    self.spans.account(Fate::Rejected, rejected);
                    self.complaints.on_taken(rejected, &taken.message);
                    return;
                }
                Outcome::Refused(why) => {
                    self.spans.account(Fate::Rejected, spans);
                    self.complaints.on_refused(&why);
                    return;
                }
                Outcome::Later { why, after } => {
                    self.complaints.on_failed(&why);
                    self.spans.fail();
                    let now = ambient::now();
                    if self.is_ending() {
                        return self.give_up(spans);
                    }
                    if now.saturating_duration_since(began) >= PATIENCE || !self.wanted {
                        return self.spans.account(Fate::Failed, spans);
                    }
                    let pause = backoff::pause(PAUSE, LONGEST_PAUSE, tries, ambient::draw());
                    self.pause(LEAST_PAUSE + after.unwrap_or(pause).min(LONGEST_PAUSE)).await;
                    tries += 1;
                    self.aim();
                }
            }
        }
    }

    /// One try, which does not last beyond the end.
    async fn attempt(&mut self, message: &Bytes) -> Outcome {
        let Some(line) = &mut self.line else { return Outcome::unanswered("there is no collector") };
        let over = async {
            match self.end.wait_for(Option::is_some).await.map(|end| *end) {
                Ok(end) => until(end).await,
                Err(_) => pending().await,
            }
        };
        tokio::select! {
            biased;
            outcome = line.send(message) => outcome,
            () = over => Outcome::unanswered("the process ends"),
        }
    }

    /// Until it is time for the next try, which is at once when other settings come into force or the end.
    async fn pause(&mut self, pause: Duration) {
        tokio::select! {
            () = sleep(pause) => {}
            _ = self.changes.changed() => {}
            _ = self.end.changed() => {}
        }
    }

    /// At the end: with what is under way, what waits has failed as well.
    fn give_up(&mut self, spans: usize) {
        self.waiting.extend(self.spans.take());
        self.spans.account(Fate::Failed, spans + self.waiting.len());
        self.waiting.clear();
    }

    fn is_ending(&self) -> bool {
        self.end.borrow().is_some()
    }
}

impl Drop for Export<'_> {
    fn drop(&mut self) {
        // Some are left only where a panic ended it.
        self.spans.account(Fate::Failed, self.waiting.len());
    }
}

/// What the collector is told of this process.
fn resource(plan: &OtlpPlan) -> Resource {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let own = [
        ("service.version", Value::Text(env!("CARGO_PKG_VERSION").into())),
        ("host.name", Value::Text(host.trim().to_owned().into())),
        ("process.pid", Value::Int(std::process::id().into())),
    ];
    let written = plan.resource.iter().map(|(key, value)| (key.as_str(), Value::Text(value.clone().into())));
    let own = own.into_iter().filter(|(key, value)| {
        *value != Value::Text("".into()) && !plan.resource.iter().any(|(known, _)| known == key)
    });
    Resource::new(written.chain(own))
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at.into()).await,
        None => pending().await,
    }
}

/// What was last logged of trouble with the collector, so that each kind of it is told of now and then only.
#[derive(Default)]
struct Complaints {
    failing: Option<Instant>,
    refused: Option<Instant>,
}

impl Complaints {
    fn on_taken(&mut self, rejected: usize, message: &str) {
        if self.failing.take().is_some() {
            tracing::info!("the collector takes spans again");
        }
        if rejected > 0 && is_time(&mut self.refused) {
            tracing::warn!(rejected, message, "the collector did not take all spans");
        }
    }

    fn on_refused(&mut self, why: &str) {
        if is_time(&mut self.refused) {
            tracing::warn!(why, "the collector refused spans");
        }
    }

    fn on_failed(&mut self, why: &str) {
        if is_time(&mut self.failing) {
            tracing::warn!(why, "the collector cannot be reached, spans wait");
        }
    }
}

fn is_time(last: &mut Option<Instant>) -> bool {
    let now = ambient::now();
    let due = last.is_none_or(|last| now.saturating_duration_since(last) >= COMPLAINT_PAUSE);
    if due {
        *last = Some(now);
    }
    due
}

/// Spans that come within this time are taken together. Room for many times as many as a worker can finish
/// meanwhile is in its backlog.
const TOGETHER: Duration = Duration::from_millis(20);
/// For how long a batch is tried again; newer spans say more than one that is older.
const PATIENCE: Duration = Duration::from_secs(5 * 60);
/// The pause before a try is [`LEAST_PAUSE`] and a random part of this, which doubles with each.
const PAUSE: Duration = Duration::from_millis(500);
const LEAST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How often the same trouble is logged.
const COMPLAINT_PAUSE: Duration = Duration::from_secs(60);
