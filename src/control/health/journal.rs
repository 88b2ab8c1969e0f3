//! The journal: what happened to pools and endpoints, in order and bounded. Does not know how things
//! came to happen, nor who will read of it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::SystemTime;

use serde_json::{Value, json};

use crate::health::State;
use crate::health::journal::Event;
use crate::model::Name;
use crate::observe::civil;
use crate::trace::TraceId;

/// What happened, the oldest first. It holds [`CAPACITY`] entries over all pools; the oldest go
/// first, and how many went is counted.
#[derive(Debug)]
pub struct Journal {
    entries: VecDeque<Arc<Entry>>,
    capacity: usize,
    forgotten: u64,
}

/// One thing that happened.
#[derive(Clone, Debug)]
pub struct Entry {
    /// When.
    pub at: SystemTime,
    /// To which pool.
    pub pool: Name,
    /// To which of its endpoints, as it is shown; `None` for what concerns the pool as a whole.
    pub endpoint: Option<Arc<str>>,
    /// What.
    pub event: Event,
    /// Its number, from 0, over all pools since the process began.
    pub number: u64,
    /// Of what came of requests: the trace in which the endpoint last failed one, of those that are kept.
    pub trace: Option<TraceId>,
}

impl Default for Journal {
    fn default() -> Self {
        Self::new(CAPACITY)
    }
}

impl Journal {
    /// A journal of at most `capacity` entries.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { entries: VecDeque::new(), capacity, forgotten: 0 }
    }

    /// Takes an entry, which is the newest.
    pub fn push(&mut self, entry: Arc<Entry>) {
        if self.entries.len() >= self.capacity {
            self.entries.pop_front();
            self.forgotten += 1;
        }
        self.entries.push_back(entry);
    }

    /// The entries, the oldest first.
    pub fn entries(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.entries.iter()
    }

    /// What concerns an endpoint: what happened to it, and to its pool as a whole.
    #[must_use]
    pub fn of(&self, pool: &Name, endpoint: &str) -> Vec<Arc<Entry>> {
        let own = |entry: &&Arc<Entry>| {
            entry.pool == *pool && entry.endpoint.as_deref().is_none_or(|own| own == endpoint)
        };
        self.entries.iter().filter(own).cloned().collect()
    }

    /// The number of the entry that comes next.
    #[must_use]
    pub fn next_number(&self) -> u64 {
        self.forgotten + self.entries.len() as u64
    }

    /// How many entries there is no room for any more.
    #[must_use]
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }
}

impl Entry {
    /// The state of the endpoint after it.
    #[must_use]
    pub fn state(&self) -> Option<State> {
        self.event.state
    }

    /// What happened, in words.
    #[must_use]
    pub fn words(&self) -> String {
        self.event.words()
    }

    /// The entry as an object: `number`, `at`, `pool`, `endpoint`, `trace_id` if there is one, and what the
    /// event has (see [`Event::to_json`]).
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut object = self.event.to_json();
        if let Value::Object(fields) = &mut object {
            fields.insert("number".to_owned(), json!(self.number));
            if let Some(trace) = self.trace {
                fields.insert("trace_id".to_owned(), json!(trace.to_string()));
            }
            fields.insert("at".to_owned(), json!(civil::rfc3339(self.at)));
            fields.insert("pool".to_owned(), json!(self.pool.as_str()));
            fields.insert("endpoint".to_owned(), json!(self.endpoint.as_deref()));
        }
        object
    }
}

/// Entries that are kept: days of a quiet life, minutes of a bad one. About 5 MB at most.
pub const CAPACITY: usize = 10_000;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::health::journal::What;

    fn entry(second: u64, pool: &str, endpoint: Option<&str>) -> Arc<Entry> {
        Arc::new(Entry {
            at: SystemTime::UNIX_EPOCH + Duration::from_secs(second),
            pool: Name::new(pool).unwrap(),
            endpoint: endpoint.map(Arc::from),
            event: Event {
                endpoint: endpoint.map(|_| 0),
                what: if endpoint.is_some() { What::WentDown } else { What::FailOpenOver },
                state: endpoint.map(|_| State::Down),
            },
            number: second,
            trace: None,
        })
    }

    #[test]
    fn the_oldest_goes_when_it_is_full() {
        let mut journal = Journal::new(3);
        (0..5).for_each(|second| journal.push(entry(second, "app", Some("a:1"))));
        let seconds: Vec<_> = journal.entries().map(|entry| civil::unix(entry.at).0).collect();
        assert_eq!((seconds, journal.forgotten(), journal.next_number()), (vec![2, 3, 4], 2, 5));
    }

    #[test]
    fn an_endpoint_hears_of_its_pool_and_not_of_others() {
        let mut journal = Journal::default();
        for (second, pool, endpoint) in
            [(0, "app", Some("a:1")), (1, "app", Some("a:2")), (2, "app", None), (3, "api", None)]
        {
            journal.push(entry(second, pool, endpoint));
        }
        let of = journal.of(&Name::new("app").unwrap(), "a:1");
        let seconds: Vec<_> = of.iter().map(|entry| civil::unix(entry.at).0).collect();
        assert_eq!(seconds, [0, 2]);
    }

    #[test]
    fn an_entry_says_when_where_and_what() {
        let json = entry(1, "app", Some("a:1")).to_json();
        assert_eq!(json["at"], "1970-01-01T00:00:01.000Z");
        assert_eq!((&json["pool"], &json["endpoint"]), (&json!("app"), &json!("a:1")));
        assert_eq!(json["state"], "down");
        assert!(json["words"].as_str().is_some_and(|words| !words.is_empty()), "{json}");
        assert_eq!(entry(1, "app", None).to_json()["endpoint"], Value::Null);
    }
}
