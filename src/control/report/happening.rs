//! What happened, as a report tells it: entries of the journal and reloads in one line of time, the same
//! thing again and again told once, and how long each endpoint was without traffic. Single checks and
//! trials are left to the journal. Pure.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use crate::control::health::journal::Entry;
use crate::health::State;
use crate::health::check::CheckResult;
use crate::health::journal::{Effect, What};

/// One thing that happened, maybe several times.
#[derive(Clone, Debug, PartialEq)]
pub struct Happening {
    /// When; for the first time.
    pub at: SystemTime,
    /// What kind of thing.
    pub kind: Kind,
    /// To whom.
    pub subject: Subject,
    /// What, and why.
    pub words: String,
    /// How many times, at least once.
    pub times: u32,
    /// When for the last time.
    pub until: SystemTime,
}

/// To whom something happened, in the order that they are listed in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// The process as a whole.
    Process,
    /// A pool.
    Pool(String),
    /// One endpoint of a pool.
    Endpoint(String, String),
}

/// Kinds of things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An endpoint gets no traffic, because it fails.
    Ejected,
    /// An endpoint gets less traffic, because it is slow.
    Degraded,
    /// An endpoint gets traffic again.
    Returned,
    /// Something was found, and nothing was done.
    Found,
    /// A breaker opened or closed.
    Breaker,
    /// A pool went to another rung.
    Rung,
    /// A pool has too few endpoints, or has enough again.
    Shortage,
    /// Someone ordered it.
    Order,
    /// An endpoint came or went.
    Member,
    /// The process was started.
    Start,
    /// The configuration was replaced.
    Reload,
    /// It should have been and was not.
    FailedReload,
}

/// How long an endpoint was without traffic.
#[derive(Clone, Debug, PartialEq)]
pub struct Outage {
    /// Its pool.
    pub pool: String,
    /// It.
    pub endpoint: String,
    /// How many times it went out, the time included in which it was out from the beginning.
    pub times: u32,
    /// For how long altogether.
    pub lasted: Duration,
    /// Its state, if it is out still.
    pub still: Option<State>,
    /// Why it was out for the last time.
    pub why: String,
}

impl Kind {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ejected => "ejected",
            Self::Degraded => "degraded",
            Self::Returned => "returned",
            Self::Found => "found",
            Self::Breaker => "breaker",
            Self::Rung => "rung",
            Self::Shortage => "shortage",
            Self::Order => "order",
            Self::Member => "member",
            Self::Start => "start",
            Self::Reload => "reload",
            Self::FailedReload => "failed reload",
        }
    }

    /// Of which kind an event is; `None` for the steps between two that are told.
    fn of(what: &What) -> Option<Self> {
        Some(match what {
            What::WentDown
            | What::TrialFailed { .. }
            | What::Detected { effect: Effect::Ejected { .. }, .. } => Self::Ejected,
            What::Detected { effect: Effect::Degraded, .. } => Self::Degraded,
            What::CameUp | What::Returned { .. } => Self::Returned,
            What::Detected { .. } | What::Disagreement | What::CorrelatedFailure { .. } => Self::Found,
            What::CorrelationOver => Self::Found,
            What::BreakerOpened { .. } | What::BreakerClosed { .. } => Self::Breaker,
            What::LadderDown { .. } | What::LadderUp { .. } => Self::Rung,
            What::FailedOpen { .. } | What::FailOpenOver | What::OpenedUnchecked { .. } => Self::Shortage,
            What::Ordered(_) | What::OrderOver(_) => Self::Order,
            What::Joined | What::Left => Self::Member,
            What::Checked { .. }
            | What::OnTrial
            | What::TrialPassed { .. }
            | What::Recovered
            | What::BreakerHalfOpened => return None,
        })
    }
}

impl Subject {
    fn of(entry: &Entry) -> Self {
        let pool = entry.pool.as_str().to_owned();
        match entry.endpoint.as_deref() {
            Some(endpoint) => Self::Endpoint(pool, endpoint.to_owned()),
            None => Self::Pool(pool),
        }
    }
}

impl Happening {
    /// Something that happened once.
    #[must_use]
    pub fn once(at: SystemTime, kind: Kind, subject: Subject, words: String) -> Self {
        Self { at, kind, subject, words, times: 1, until: at }
    }
}

/// What the journal's `entries`, the oldest first, have from `from` on. What happens to one subject several
/// times, with nothing else in between, is told once; that endpoints join or leave happens to their pool.
pub(super) fn happenings<'a>(entries: impl Iterator<Item = &'a Entry>, from: SystemTime) -> Vec<Happening> {
    let mut told: Vec<Happening> = Vec::new();
    let mut last: BTreeMap<Subject, (&'static str, usize)> = BTreeMap::new();
    let mut findings = Findings::default();
    for entry in entries {
        let own = Subject::of(entry);
        let words = findings.words(entry, &own);
        let Some(kind) = Kind::of(&entry.event.what).filter(|_| entry.at >= from) else { continue };
        let (subject, words) = match (kind, own) {
            // They come and go by the dozen.
            (Kind::Member, Subject::Endpoint(pool, name)) => (Subject::Pool(pool), format!("{name} {words}")),
            (_, own) => (own, words),
        };
        let name = entry.event.what.name();
        let again = last.get(&subject).filter(|(before, _)| *before == name);
        if let Some(before) = again.and_then(|(_, place)| told.get_mut(*place)) {
            before.times += 1;
            before.until = entry.at;
            continue;
        }
        last.insert(subject.clone(), (name, told.len()));
        told.push(Happening::once(entry.at, kind, subject, words));
    }
    told
}

/// What checks of each endpoint found last, where they failed.
#[derive(Default)]
struct Findings<'a>(BTreeMap<Subject, &'a str>);

impl<'a> Findings<'a> {
    /// What happened in words, with what the last check found where checks found an endpoint down.
    fn words(&mut self, entry: &'a Entry, subject: &Subject) -> String {
        match &entry.event.what {
            What::Checked { result: CheckResult { failure: Some(failure), .. }, .. } => {
                self.0.insert(subject.clone(), failure);
            }
            What::WentDown => {
                if let Some(failure) = self.0.get(subject) {
                    return format!("{}: {failure}", entry.words());
                }
            }
            _ => {}
        }
        entry.words()
    }
}

/// Which endpoints were without traffic between `from` and `to`, those that are so still first and the longest
/// before others, by the journal's `entries`, the oldest first. What happened before `from` says how they were
/// then.
pub(super) fn outages<'a>(
    entries: impl Iterator<Item = &'a Entry>,
    (from, to): (SystemTime, SystemTime),
) -> Vec<Outage> {
    let mut courses: BTreeMap<Subject, Course> = BTreeMap::new();
    let mut findings = Findings::default();
    for entry in entries.filter(|entry| entry.endpoint.is_some() && entry.at <= to) {
        let subject = Subject::of(entry);
        let why = findings.words(entry, &subject);
        courses.entry(subject).or_default().on(entry, why, from);
    }
    let over = |(subject, course): (Subject, Course)| match subject {
        Subject::Endpoint(pool, endpoint) => {
            course.end(to.max(from)).map(|own| Outage { pool, endpoint, ..own })
        }
        Subject::Process | Subject::Pool(_) => None,
    };
    let mut outages: Vec<_> = courses.into_iter().filter_map(over).collect();
    outages.sort_by_key(|outage| std::cmp::Reverse((outage.still.is_some(), outage.lasted)));
    outages
}

/// How it went with an endpoint so far.
#[derive(Debug, Default)]
struct Course {
    /// Since when it is out, if it is, and in which state.
    out: Option<(SystemTime, State)>,
    times: u32,
    lasted: Duration,
    why: String,
}

impl Course {
    fn on(&mut self, entry: &Entry, why: String, from: SystemTime) {
        let at = entry.at.max(from);
        match entry.state().filter(|state| is_out(*state)) {
            Some(state) if self.out.is_none() => {
                self.out = Some((at, state));
                self.times += 1;
                self.why = why;
            }
            Some(state) => self.out = self.out.map(|(since, _)| (since, state)),
            None => self.back(at, from),
        }
    }

    fn back(&mut self, at: SystemTime, from: SystemTime) {
        let Some((since, _)) = self.out.take() else { return };
        if at <= from {
            // All of it was before the time that is told of.
            *self = Self::default();
            return;
        }
        self.lasted += at.duration_since(since).unwrap_or_default();
    }

    /// What is told of it at the end; the names are for others to know.
    fn end(mut self, to: SystemTime) -> Option<Outage> {
        let still = self.out.map(|(_, state)| state);
        if let Some((since, _)) = self.out.take() {
            self.lasted += to.duration_since(since).unwrap_or_default();
        }
        let Self { times, lasted, why, .. } = self;
        let (pool, endpoint) = (String::new(), String::new());
        (times > 0).then_some(Outage { pool, endpoint, times, lasted, still, why })
    }
}

/// Whether an endpoint in this state gets no traffic, or one request at a time, though it did before.
fn is_out(state: State) -> bool {
    matches!(state, State::Disabled | State::Draining | State::Down | State::Ejected | State::OnTrial)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::health::detector::Evidence;
    use crate::health::journal::Event;
    use crate::model::Name;

    fn at(second: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(second)
    }

    fn entry(second: u64, endpoint: &str, what: What, state: Option<State>) -> Entry {
        let event = Event { endpoint: Some(0), what, state };
        let (pool, endpoint) = (Name::new("app").unwrap(), Some(Arc::from(endpoint)));
        Entry { at: at(second), pool, endpoint, event, number: second, trace: None }
    }

    fn failed(second: u64) -> Entry {
        let lasts = Duration::from_secs(5);
        let what = What::TrialFailed { ejected_for: lasts, times: 2 };
        entry(second, "a", what, Some(State::Ejected))
    }

    fn back(second: u64, endpoint: &str) -> Entry {
        let what = What::Returned { slow_start: Duration::ZERO };
        entry(second, endpoint, what, Some(State::Up))
    }

    fn checked(second: u64, endpoint: &str) -> Entry {
        let result = CheckResult { failure: Some("no route".to_owned()), took: Duration::ZERO };
        entry(second, endpoint, What::Checked { result, row: 3, needed: 3 }, Some(State::Up))
    }

    fn down(second: u64, endpoint: &str) -> Entry {
        entry(second, endpoint, What::WentDown, Some(State::Down))
    }

    #[test]
    fn the_same_again_is_told_once_and_what_is_old_is_not() {
        let on_trial = |second| entry(second, "a", What::OnTrial, Some(State::OnTrial));
        let entries = [
            failed(1),
            failed(10),
            on_trial(15),
            back(15, "b"),
            failed(16),
            on_trial(21),
            failed(22),
            back(30, "a"),
            failed(40),
        ];
        let told = happenings(entries.iter(), at(5));
        let told: Vec<_> = told.iter().map(|h| (h.kind.name(), h.at, h.times, h.until)).collect();
        assert_eq!(
            told,
            [
                ("ejected", at(10), 3, at(22)),
                ("returned", at(15), 1, at(15)),
                ("returned", at(30), 1, at(30)),
                ("ejected", at(40), 1, at(40)),
            ]
        );
    }

    #[test]
    fn who_gets_less_is_not_said_to_be_out() {
        let evidence = Evidence { words: "it is slow".to_owned(), values: Vec::new() };
        let what = What::Detected { detector: "latency", evidence, effect: Effect::Degraded };
        let entries = [entry(10, "a", what, Some(State::Degraded)), failed(11)];
        let told = happenings(entries.iter(), at(5));
        let told: Vec<_> = told.iter().map(|h| (h.kind.name(), h.times)).collect();
        assert_eq!(told, [("degraded", 1), ("ejected", 1)]);
    }

    #[test]
    fn who_is_down_is_so_for_what_the_last_check_found() {
        let entries = [checked(1, "a"), down(10, "a"), down(11, "b")];
        let told = happenings(entries.iter(), at(5));
        let words: Vec<_> = told.iter().map(|h| h.words.as_str()).collect();
        let plain = "down: too many checks in a row failed";
        assert_eq!(words, [format!("{plain}: no route").as_str(), plain]);
    }

    #[test]
    fn outages_last_from_the_first_state_without_traffic_to_the_first_with_it() {
        let on_trial = |second| entry(second, "a", What::OnTrial, Some(State::OnTrial));
        let entries = [
            // Over before the time that is told of.
            failed(1),
            back(3, "a"),
            // Out from the beginning.
            down(4, "b"),
            failed(20),
            on_trial(25),
            failed(26),
            back(30, "b"),
            back(31, "a"),
            checked(99, "b"),
            down(100, "b"),
            down(101, "c"),
            entry(105, "c", What::Left, None),
        ];
        let told = outages(entries.iter(), (at(10), at(130)));
        let told: Vec<_> =
            told.iter().map(|o| (o.endpoint.as_str(), o.times, o.lasted.as_secs(), o.still)).collect();
        assert_eq!(told, [("b", 2, 50, Some(State::Down)), ("a", 1, 11, None), ("c", 1, 4, None)]);
        assert!(outages(entries.iter().take(2), (at(10), at(130))).is_empty());
    }
}
