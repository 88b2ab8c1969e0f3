//! A question to DNS and what came of asking it: the last good answer, how it is going, and when to ask
//! again. Does not know who asks, nor what pools make of the answer.

use std::mem;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Sighting;

/// What is asked, and how.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Question {
    /// A DNS name, in lower case.
    pub host: Arc<str>,
    /// Which records.
    pub record: Record,
    /// Who is asked; the system's resolvers, and the file of hosts, when empty.
    pub servers: Arc<[SocketAddr]>,
    /// How long one attempt to get an answer takes at most.
    pub timeout: Duration,
    /// For how long an answer is believed.
    pub ttl: Ttl,
}

/// Which records are asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Record {
    /// A and AAAA.
    #[default]
    Address,
    /// SRV.
    Srv,
}

/// The bounds within which the time to live of records is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ttl {
    /// At least so long, even when records say 0.
    pub least: Duration,
    /// At most so long.
    pub most: Duration,
}

impl Default for Ttl {
    fn default() -> Self {
        Self { least: Duration::from_secs(1), most: Duration::from_secs(300) }
    }
}

/// For how long one attempt to get an answer is waited for, unless said otherwise.
pub const TIMEOUT: Duration = Duration::from_secs(2);

impl Question {
    /// The addresses of `host`, as the system would find them.
    #[must_use]
    pub fn of_system(host: &Arc<str>) -> Self {
        Self {
            host: Arc::clone(host),
            record: Record::Address,
            servers: [].into(),
            timeout: TIMEOUT,
            ttl: Ttl::default(),
        }
    }

    /// Whether an answer to the other is an answer to this one.
    #[must_use]
    pub fn means(&self, other: &Self) -> bool {
        self.host == other.host && self.record == other.record && self.servers == other.servers
    }
}

/// What came of asking once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There are such records.
    Answered {
        /// At least one, without doubles, in an order that only depends on what they are.
        seen: Vec<Sighting>,
        /// The least time that one of them lives.
        ttl: Duration,
        /// Of whom nothing was heard: what was known of them stays.
        silent: Silent,
    },
    /// There is no such name, or it has no such records.
    Empty,
    /// Nobody answered, or nobody knew.
    Failed,
}

/// The part of a question to which there was no answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Silent {
    /// None.
    #[default]
    Nobody,
    /// Addresses of this family.
    Family(Family),
    /// Addresses of these targets.
    Hosts(Vec<Arc<str>>),
}

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// A records.
    V4,
    /// AAAA records.
    V6,
}

/// How it is going with a question.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// It was not answered yet.
    #[default]
    Unasked,
    /// It was answered when it was last asked.
    Answered,
    /// The last answer was that there is nothing.
    Empty,
    /// There was none when it was last asked.
    Failing,
}

impl Condition {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unasked => "unasked",
            Self::Answered => "answered",
            Self::Empty => "empty",
            Self::Failing => "failing",
        }
    }
}

/// What is known of a question.
#[derive(Clone, Debug)]
pub struct Asked {
    seen: Vec<Sighting>,
    condition: Condition,
    vacant: bool,
    /// In a row.
    failures: u32,
    /// `None` while it is being asked.
    due: Option<Instant>,
}

/// What follows from an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct News {
    /// Whether the endpoints may be others now.
    pub changed: bool,
    /// Whether it goes otherwise than before.
    pub turned: bool,
}

impl Asked {
    /// Nothing yet: to be asked at once.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { seen: Vec::new(), condition: Condition::default(), vacant: false, failures: 0, due: Some(now) }
    }

    /// When to ask next; `None` while it is being asked.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// The last good answer; nothing before the first.
    #[must_use]
    pub fn seen(&self) -> &[Sighting] {
        &self.seen
    }

    /// How it is going.
    #[must_use]
    pub fn condition(&self) -> Condition {
        self.condition
    }

    /// It is being asked.
    pub fn begin(&mut self) {
        self.due = None;
    }

    /// Whoever asked it is no more, and nothing was heard.
    pub fn resume(&mut self, now: Instant) {
        self.due.get_or_insert(now);
    }

    /// Whether the last that was heard is that there is nothing.
    #[must_use]
    pub fn is_vacant(&self) -> bool {
        self.vacant
    }

    /// Takes what came of asking. A good answer replaces the one before it; after anything else that one
    /// stays, and the next attempt comes after a pause of one second, doubled each time up to 30, of
    /// which a part between the half and the whole is taken by a uniformly distributed `draw`.
    pub fn on_outcome(&mut self, outcome: Outcome, ttl: Ttl, now: Instant, draw: u64) -> News {
        let before = self.condition;
        let changed = match outcome {
            Outcome::Answered { seen, ttl: lives, silent } => {
                self.condition = Condition::Answered;
                self.failures = 0;
                self.due = Some(now + lives.clamp(ttl.least, ttl.most));
                self.take(seen, &silent)
            }
            Outcome::Empty => {
                self.condition = Condition::Empty;
                self.back_off(now, draw);
                !mem::replace(&mut self.vacant, true)
            }
            Outcome::Failed => {
                self.condition = Condition::Failing;
                self.back_off(now, draw);
                false
            }
        };
        News { changed, turned: before != self.condition }
    }

    /// Whether it is news that these are there, and those that were known of who is silent.
    fn take(&mut self, mut seen: Vec<Sighting>, silent: &Silent) -> bool {
        let stays = |known: &&Sighting| match silent {
            Silent::Nobody => false,
            Silent::Family(family) => *family == Family::of(known.address),
            Silent::Hosts(hosts) => hosts.contains(&known.host),
        };
        let kept: Vec<_> =
            self.seen.iter().filter(stays).filter(|known| !seen.contains(known)).cloned().collect();
        if !kept.is_empty() {
            seen.extend(kept);
            seen.sort();
        }
        let vacant = mem::replace(&mut self.vacant, false);
        let differs = self.seen != seen;
        self.seen = seen;
        vacant || differs
    }

    fn back_off(&mut self, now: Instant, draw: u64) {
        let doubled = FIRST_PAUSE.saturating_mul(1 << self.failures.min(MOST_DOUBLINGS));
        let whole = doubled.min(LONGEST_PAUSE);
        let part = draw as f64 / u64::MAX as f64;
        self.failures = self.failures.saturating_add(1);
        self.due = Some(now + whole.mul_f64(0.5 + part / 2.0));
    }
}

impl Family {
    fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// Before a question is asked again that was not answered.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest that it is waited.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// After which the pause is the longest in any case.
const MOST_DOUBLINGS: u32 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Ttl = Ttl { least: Duration::from_secs(1), most: Duration::from_secs(300) };

    /// A question in a world where time is what the test says.
    struct Story {
        asked: Asked,
        now: Instant,
    }

    impl Story {
        fn new() -> Self {
            let now = crate::ambient::now();
            Self { asked: Asked::new(now), now }
        }

        /// Goes on to when it is to be asked, and asks; what was news, and after how long it is asked again.
        fn hear(&mut self, outcome: Outcome, draw: u64) -> (News, Duration) {
            self.now = self.asked.due().expect("it is not being asked");
            self.asked.begin();
            assert_eq!(self.asked.due(), None);
            let news = self.asked.on_outcome(outcome, TTL, self.now, draw);
            (news, self.asked.due().unwrap() - self.now)
        }

        fn seen(&self) -> Vec<String> {
            self.asked.seen().iter().map(|sighting| sighting.address.to_string()).collect()
        }
    }

    fn answer(addresses: &[&str], ttl: u64, silent: Silent) -> Outcome {
        let host = "app".into();
        let seen = addresses.iter().map(|address| Sighting::of(&host, address.parse().unwrap())).collect();
        Outcome::Answered { seen, ttl: Duration::from_secs(ttl), silent }
    }

    const CHANGED: News = News { changed: true, turned: false };
    const TURNED: News = News { changed: false, turned: true };
    const BOTH: News = News { changed: true, turned: true };
    const NEITHER: News = News { changed: false, turned: false };

    #[test]
    fn an_answer_lives_as_long_as_it_says_within_bounds() {
        let mut story = Story::new();
        for (ttl, lives, news) in [(30, 30, BOTH), (0, 1, NEITHER), (86_400, 300, NEITHER)] {
            assert_eq!(
                story.hear(answer(&["10.0.0.1"], ttl, Silent::Nobody), 0),
                (news, Duration::from_secs(lives))
            );
        }
        assert_eq!(story.hear(answer(&["10.0.0.2", "10.0.0.3"], 5, Silent::Nobody), 0).0, CHANGED);
        assert_eq!(story.seen(), ["10.0.0.2", "10.0.0.3"]);
    }

    #[test]
    fn what_is_known_outlives_every_failure() {
        let mut story = Story::new();
        story.hear(answer(&["10.0.0.1"], 30, Silent::Nobody), 0);
        let pauses: Vec<u64> = (0..7).map(|_| story.hear(Outcome::Failed, u64::MAX).1.as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(story.hear(Outcome::Failed, 0), (NEITHER, Duration::from_secs(15)));
        assert_eq!(
            (story.seen(), story.asked.condition()),
            (vec!["10.0.0.1".to_owned()], Condition::Failing)
        );
        assert_eq!(story.hear(answer(&["10.0.0.1"], 30, Silent::Nobody), 0).0, TURNED);
        assert_eq!(story.hear(Outcome::Failed, u64::MAX).1, Duration::from_secs(1));
    }

    #[test]
    fn that_there_is_nothing_is_news_once() {
        let mut story = Story::new();
        story.hear(answer(&["10.0.0.1"], 30, Silent::Nobody), 0);
        assert_eq!(story.hear(Outcome::Empty, 0).0, BOTH);
        assert_eq!(story.hear(Outcome::Empty, 0).0, NEITHER);
        assert_eq!(story.hear(Outcome::Failed, 0).0, TURNED);
        assert!(story.asked.is_vacant());
        assert_eq!(story.seen(), ["10.0.0.1"]);
        assert_eq!(story.hear(answer(&["10.0.0.1"], 30, Silent::Nobody), 0).0, BOTH);
        assert!(!story.asked.is_vacant());
    }

    #[test]
    fn a_family_that_is_silent_keeps_what_was_known_of_it() {
        let mut story = Story::new();
        story.hear(answer(&["10.0.0.1", "::1"], 30, Silent::Nobody), 0);
        assert_eq!(story.hear(answer(&["10.0.0.1"], 30, Silent::Family(Family::V6)), 0).0, NEITHER);
        assert_eq!(story.hear(answer(&["10.0.0.2"], 30, Silent::Family(Family::V6)), 0).0, CHANGED);
        assert_eq!(story.seen(), ["10.0.0.2", "::1"]);
        story.hear(answer(&["10.0.0.2"], 30, Silent::Nobody), 0);
        assert_eq!(story.seen(), ["10.0.0.2"]);
    }

    #[test]
    fn a_question_that_was_lost_is_asked_again() {
        let mut story = Story::new();
        story.asked.begin();
        story.asked.resume(story.now);
        assert_eq!(story.asked.due(), Some(story.now));
    }
}
