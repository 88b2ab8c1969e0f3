//! One pool and its clients: an event queue over virtual time. What is decided is decided by the
//! crate; what carries it out here stands in for `upstream` and `control`, step by step.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use forebay::balance::{Availability, Bands, Choice, FailOpen, Gauge, Member, Pick, Policy, Setup, estimate};
use forebay::health::check::CheckResult;
use forebay::health::journal::Event as Change;
use forebay::health::pool::HealthSettings;
use forebay::health::{Failure, PoolHealth, Sample, Standing, Trial};
use forebay::observe::Shard;
use forebay::observe::tally::{Tally, TallyReader};

use crate::endpoint::{Answer, MEDIAN, Mood};
use crate::lots::Lots;

/// What is simulated.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) endpoints: usize,
    /// Requests per second.
    pub(crate) rate: f64,
    pub(crate) lasts: Duration,
    pub(crate) policy: Choice,
    pub(crate) health: HealthSettings,
    /// How an endpoint is at a time.
    pub(crate) mood: fn(usize, Duration) -> Mood,
    pub(crate) seed: u64,
}

/// What happened, as the clients and the journal saw it.
#[derive(Debug, Default)]
pub(crate) struct Story {
    pub(crate) requests: Vec<Served>,
    /// Changes of state, with their times.
    pub(crate) changes: Vec<(Duration, Change)>,
}

/// A request, as its client saw it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Served {
    pub(crate) ended: Duration,
    pub(crate) took: Duration,
    /// The endpoint that was asked last; `None` if nobody was.
    pub(crate) endpoint: Option<usize>,
    pub(crate) failed: bool,
    pub(crate) tries: usize,
}

impl Served {
    /// When it came.
    pub(crate) fn came(&self) -> Duration {
        self.ended - self.took
    }
}

pub(crate) fn run(plan: Plan) -> Story {
    let mut world = World::new(plan);
    while let Some(Reverse((at, _, event))) = world.queue.pop() {
        if at > world.plan.lasts {
            break;
        }
        world.now = at;
        world.on(event);
    }
    world.story
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrives,
    Answered(u64),
    Ends(u64),
    LosesPatience(u64),
    Tick,
    Alarm,
    CheckBegins(usize),
    CheckEnds(usize),
}

struct Endpoint {
    tally: Tally,
    reader: TallyReader,
    on_trial_since: Option<Instant>,
}

/// One attempt of a request.
struct Attempt {
    arrived: Duration,
    began: Duration,
    endpoint: usize,
    on_trial: bool,
    answer: Answer,
    waits: bool,
    tried: Vec<usize>,
}

struct World {
    plan: Plan,
    now: Duration,
    start: Instant,
    lots: Lots,
    queue: BinaryHeap<Reverse<(Duration, u64, Event)>>,
    number: u64,
    gauges: Vec<Arc<Gauge>>,
    endpoints: Vec<Endpoint>,
    attempts: BTreeMap<u64, Attempt>,
    health: PoolHealth,
    applied: Option<u64>,
    bands: Bands,
    trials: Vec<usize>,
    policies: Vec<Box<dyn Policy>>,
    alarm: Option<Duration>,
    checks: Vec<Option<CheckResult>>,
    story: Story,
}

impl World {
    fn new(plan: Plan) -> Self {
        #[expect(clippy::disallowed_methods, reason = "some time to count from; all else is relative to it")]
        let start = Instant::now();
        let of = plan.endpoints;
        let endpoint =
            || Endpoint { tally: Tally::new(1), reader: TallyReader::default(), on_trial_since: None };
        let mut world = Self {
            now: Duration::ZERO,
            start,
            lots: Lots::new(plan.seed),
            queue: BinaryHeap::new(),
            number: 0,
            gauges: (0..of).map(|_| Arc::new(Gauge::new(1, start))).collect(),
            endpoints: (0..of).map(|_| endpoint()).collect(),
            attempts: BTreeMap::new(),
            health: PoolHealth::new(plan.health.clone(), &vec![0; of], start),
            applied: None,
            bands: Bands::all(of as u32),
            trials: Vec::new(),
            policies: Vec::new(),
            alarm: None,
            checks: vec![None; of],
            story: Story::default(),
            plan,
        };
        world.at(Duration::ZERO, Event::Arrives);
        world.at(Duration::ZERO, Event::Tick);
        if world.plan.health.checks.is_some() {
            (0..of).for_each(|endpoint| world.after(MEDIAN * endpoint as u32, Event::CheckBegins(endpoint)));
        }
        world.apply();
        world
    }

    fn at(&mut self, at: Duration, event: Event) {
        self.number += 1;
        self.queue.push(Reverse((at, self.number, event)));
    }

    fn after(&mut self, pause: Duration, event: Event) {
        self.at(self.now + pause, event);
    }

    fn instant(&self) -> Instant {
        self.start + self.now
    }

    fn on(&mut self, event: Event) {
        match event {
            Event::Arrives => {
                let pause = self.lots.pause(self.plan.rate);
                self.after(pause, Event::Arrives);
                self.attempt(self.now, Vec::new());
            }
            Event::Answered(attempt) => self.answered(attempt),
            Event::Ends(attempt) => self.ends(attempt),
            Event::LosesPatience(attempt) => {
                if let Some(attempt) = self.attempts.get_mut(&attempt).filter(|attempt| attempt.waits) {
                    attempt.answer.failure = Some(Failure::Timeout);
                    attempt.answer.head = None;
                } else {
                    return;
                }
                self.ends(attempt);
            }
            Event::Tick => {
                self.tick();
                self.after(TICK, Event::Tick);
            }
            Event::Alarm => self.tick(),
            Event::CheckBegins(endpoint) => self.check_begins(endpoint),
            Event::CheckEnds(endpoint) => self.check_ends(endpoint),
        }
    }
}

/// What `upstream::LocalPool` and `Lease` do.
impl World {
    fn attempt(&mut self, arrived: Duration, tried: Vec<usize>) {
        let Some((endpoint, on_trial)) = self.choose(&tried) else {
            let served =
                Served { ended: self.now, took: self.now - arrived, endpoint: None, failed: true, tries: 0 };
            self.story.requests.push(served);
            return;
        };
        let answer = (self.plan.mood)(endpoint, self.now).answer(&mut self.lots);
        self.number += 1;
        let id = self.number;
        self.gauges[endpoint].begin(self.instant());
        if let Some(head) = answer.head {
            self.after(head, Event::Answered(id));
        }
        self.after(answer.end, Event::Ends(id));
        if on_trial {
            self.after(self.trial_patience(), Event::LosesPatience(id));
        }
        let attempt = Attempt { arrived, began: self.now, endpoint, on_trial, answer, waits: true, tried };
        self.attempts.insert(id, attempt);
    }

    fn choose(&mut self, tried: &[usize]) -> Option<(usize, bool)> {
        if tried.is_empty()
            && let Some(index) =
                self.trials.iter().find(|index| self.endpoints[**index].tally.take_trial(true))
        {
            return Some((*index, true));
        }
        let (draw, now) = (self.lots.draw(), self.instant());
        let first = self.bands.choose(draw)?;
        let others = (0..self.bands.list.len()).filter(|place| *place != first);
        let index = std::iter::once(first).chain(others).find_map(|place| {
            let usable: Vec<u32> = self.bands.list[place]
                .usable
                .iter()
                .copied()
                .filter(|index| !tried.contains(&(*index as usize)))
                .collect();
            self.policies[place].pick(&self.gauges, &Pick { usable: &usable, key: draw, draw, now })
        })?;
        Some((index, false))
    }

    fn trial_patience(&self) -> Duration {
        let estimates = self.gauges.iter().filter_map(|gauge| gauge.estimate());
        let slowest = estimates.map(|(estimate, _)| estimate).max().unwrap_or_default();
        (slowest * 4).max(Duration::from_secs(1))
    }

    fn answered(&mut self, id: u64) {
        let now = self.instant();
        let Some(attempt) = self.attempts.get_mut(&id) else { return };
        attempt.waits = false;
        let gauge = &self.gauges[attempt.endpoint];
        gauge.waited(self.start + attempt.began);
        if attempt.answer.failure != Some(Failure::Gateway) {
            let took = self.now - attempt.began;
            estimate::observe(gauge, took, now);
            self.endpoints[attempt.endpoint].tally.answered(Shard::worker(0), took);
        }
    }

    fn ends(&mut self, id: u64) {
        let now = self.instant();
        let Some(attempt) = self.attempts.remove(&id) else { return };
        let (gauge, tally) = (&self.gauges[attempt.endpoint], &self.endpoints[attempt.endpoint].tally);
        match attempt.answer.failure {
            None => {
                tally.succeeded(Shard::worker(0));
                estimate::succeed(gauge);
            }
            Some(failure) => {
                tally.failed(Shard::worker(0), failure);
                estimate::penalise(gauge, now);
            }
        }
        if attempt.waits {
            gauge.waited(self.start + attempt.began);
        }
        gauge.end();
        if attempt.on_trial {
            let failed = attempt.answer.failure.is_some();
            tally.end_trial(Some(if failed { Trial::Failed } else { Trial::Passed }));
        }
        if attempt.answer.failure.is_some() || attempt.on_trial {
            self.raise_alarm();
        }
        self.tell_client(attempt);
    }

    /// Answers, unless the request is sent once more: nothing was processed, or it was a trial.
    fn tell_client(&mut self, mut attempt: Attempt) {
        let failed = attempt.answer.failure.is_some();
        let again = attempt.on_trial || attempt.answer.failure == Some(Failure::Connect);
        attempt.tried.push(attempt.endpoint);
        if failed && again && attempt.tried.len() < 2 {
            self.attempt(attempt.arrived, attempt.tried);
            return;
        }
        self.story.requests.push(Served {
            ended: self.now,
            took: self.now - attempt.arrived,
            endpoint: Some(attempt.endpoint),
            failed,
            tries: attempt.tried.len(),
        });
    }
}

/// What `control::health` and the prober do.
impl World {
    fn raise_alarm(&mut self) {
        if self.alarm.is_none_or(|alarm| alarm < self.now) {
            let soonest = self.alarm.map_or(self.now, |alarm| alarm + ALARM_PAUSE).max(self.now);
            self.alarm = Some(soonest);
            self.at(soonest, Event::Alarm);
        }
    }

    fn tick(&mut self) {
        let now = self.instant();
        let samples: Vec<Sample> = self
            .endpoints
            .iter_mut()
            .zip(&self.gauges)
            .map(|(endpoint, gauge)| {
                let waiting = gauge.waiting(now);
                let sample = endpoint.reader.read(&endpoint.tally);
                Sample { waiting: waiting.requests, waiting_age: waiting.age, ..sample }
            })
            .collect();
        let draw = self.lots.draw();
        let mut log = Vec::new();
        self.health.on_tick(&samples, now, draw, &mut log);
        self.changed(log);
    }

    fn check_begins(&mut self, endpoint: usize) {
        let (failure, took) = (self.plan.mood)(endpoint, self.now).check();
        self.checks[endpoint] = Some(CheckResult { failure, took });
        self.after(took, Event::CheckEnds(endpoint));
    }

    fn check_ends(&mut self, endpoint: usize) {
        let now = self.instant();
        let mut log = Vec::new();
        if let Some(result) = self.checks[endpoint].take() {
            self.health.on_check(endpoint, &result, now, &mut log);
        }
        let draw = self.lots.draw();
        if let Some(pause) = self.health.next_check(endpoint, draw) {
            self.after(pause, Event::CheckBegins(endpoint));
        }
        self.changed(log);
    }

    fn changed(&mut self, log: Vec<Change>) {
        let now = self.now;
        self.story.changes.extend(log.into_iter().map(|change| (now, change)));
        if self.applied != Some(self.health.version()) || !self.trials.is_empty() {
            self.apply();
        }
    }

    fn apply(&mut self) {
        self.applied = Some(self.health.version());
        let now = self.instant();
        self.trials.clear();
        let mut members = Vec::new();
        for (index, standing) in self.health.standings().iter().enumerate() {
            self.gauges[index].set_factor(standing.factor);
            let endpoint = &mut self.endpoints[index];
            if standing.on_trial {
                let since = *endpoint.on_trial_since.get_or_insert(now);
                endpoint.tally.open_trial(now - since >= TRIAL_BY_ANYTHING);
                self.trials.push(index);
            } else if endpoint.on_trial_since.take().is_some() {
                endpoint.tally.close_trial();
            }
            let availability = match standing {
                Standing { excluded: true, .. } => Availability::Excluded,
                Standing { available: true, .. } => Availability::Available,
                _ => Availability::Unavailable,
            };
            members.push((Member { level: 0, near: true, weight: 1 }, availability));
        }
        self.bands = Bands::of(&members, FailOpen::default());
        let identities: Vec<u64> = (0..self.plan.endpoints as u64).collect();
        while self.policies.len() < self.bands.list.len().max(1) {
            let setup = Setup { identities: &identities, balance_factor: None };
            self.policies.push(self.plan.policy.build(&setup));
        }
    }
}

/// As in `control::health`.
const TICK: Duration = Duration::from_millis(200);
const ALARM_PAUSE: Duration = Duration::from_millis(20);
const TRIAL_BY_ANYTHING: Duration = Duration::from_secs(5);
