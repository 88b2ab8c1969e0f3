//! What goes on, told as it happens, as server-sent events: samples, journal entries, reloads, and pools and
//! endpoints as far as they are not as they were told last. Keeps nothing that outlives its reader.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use hyper::body::Bytes;
use serde_json::{Value, json};
use tokio::time;

use super::lasting::{HEARTBEAT, Telling};
use super::router::{Answer, Handler::Waiting, Row};
use super::{AdminState, endpoints, pools};
use crate::ambient;
use crate::control::health::PoolReading;
use crate::control::health::journal::Journal;
use crate::observe::civil;
use crate::observe::panics::{Place, catching};

/// The rows about what goes on.
pub(super) const ROWS: &[Row] = &[Row::get(
    "/v1/events",
    "what goes on, as it happens (server-sent events)",
    Waiting(|_, state| Box::pin(events(state))),
)];

async fn events(state: Arc<AdminState>) -> Answer {
    let told = Arc::clone(&state);
    state.lasting.page("text/event-stream", |telling| tell(told, telling))
}

/// Tells what is new in rounds until nobody listens.
async fn tell(state: Arc<AdminState>, telling: Telling) {
    let mut samples = state.running.history().changes();
    let mut told = Told::since(&state);
    let (mut spoke, mut due) = (ambient::now(), ambient::now());
    loop {
        // Who has not taken the last round yet hears once of all that came since.
        if telling.reserve_many(telling.max_capacity()).await.is_err() {
            return;
        }
        let began = ambient::now();
        let (of, with_pools) = (Arc::clone(&state), began >= due);
        let round = move || catching(Place::Control, || told.round(&of, with_pools)).map(|text| (told, text));
        let mut text = match tokio::task::spawn_blocking(round).await {
            Ok(Ok((own, text))) => {
                told = own;
                text
            }
            Ok(Err(panic)) => return tracing::error!(%panic, "a panic ended a stream of events"),
            Err(_) => return,
        };
        if text.is_empty() && began.duration_since(spoke) + ROUND >= HEARTBEAT {
            text.push_str(":\n\n");
        }
        if !text.is_empty() {
            spoke = began;
            if telling.send(Bytes::from(text)).await.is_err() {
                return;
            }
        }
        if with_pools {
            due = ambient::now() + pause(began);
        }
        // With the next sample, or at most a round later.
        let _ = time::timeout(ROUND, samples.changed()).await;
    }
}

/// How long pools are not looked at again after a round that began then, so that looking at thousands of
/// endpoints takes a small share of a core.
fn pause(began: Instant) -> Duration {
    (ambient::now().duration_since(began) * LEISURE).min(HEARTBEAT / 2)
}

/// What a reader has been told.
#[derive(Debug, Default)]
struct Told {
    /// How often pools were looked at.
    rounds: u64,
    /// When the last sample ended.
    sampled: Option<SystemTime>,
    /// The number of the journal's entry that comes next.
    next_entry: u64,
    /// Configurations, and whether they were taken back.
    generations: BTreeSet<(u64, bool)>,
    /// Seconds and nanoseconds of the last reload that failed.
    failed: Option<(u64, u32)>,
    /// A digest of each pool.
    pools: BTreeMap<String, u64>,
    endpoints: BTreeMap<(String, String), ToldEndpoint>,
}

/// What a reader has been told of an endpoint.
#[derive(Clone, Copy, Debug)]
struct ToldEndpoint {
    /// A digest of how it is.
    standing: u64,
    /// A digest of all that is shown of it.
    whole: u64,
    /// In which round.
    round: u64,
}

impl Told {
    /// A reader that knows what happened until now, but not how things are.
    fn since(state: &AdminState) -> Self {
        let next_entry = state.running.health().record().with_journal(Journal::next_number);
        let mut told = Self { next_entry, ..Self::default() };
        told.reloads(state, &mut String::new());
        told
    }

    /// What is new, as events.
    fn round(&mut self, state: &AdminState, with_pools: bool) -> String {
        let mut text = String::new();
        self.sample(state, &mut text);
        self.journal(state, &mut text);
        self.reloads(state, &mut text);
        if with_pools {
            self.pools(&state.running.health().readings(), &mut text);
        }
        text
    }

    fn sample(&mut self, state: &AdminState, text: &mut String) {
        let newest = state.running.history().newest();
        let Some(newest) = newest.filter(|newest| self.sampled != Some(newest.at)) else { return };
        self.sampled = Some(newest.at);
        event(text, "sample", &newest.to_json());
    }

    fn journal(&mut self, state: &AdminState, text: &mut String) {
        let (next, new) = state.running.health().record().with_journal(|journal| {
            let next = journal.next_number();
            let first = self.next_entry.max(next.saturating_sub(MOST_ENTRIES));
            let new = journal.entries().filter(|entry| entry.number >= first);
            (next, new.map(Arc::clone).collect::<Vec<_>>())
        });
        self.next_entry = next;
        new.iter().for_each(|entry| event(text, "journal", &entry.to_json()));
    }

    fn reloads(&mut self, state: &AdminState, text: &mut String) {
        let Some(reload) = &state.reload else { return };
        for generation in reload.history().all() {
            if self.generations.insert((generation.number, generation.taken_back.is_some())) {
                event(text, "reload", &generation.to_json());
            }
        }
        while self.generations.len() > MOST_GENERATIONS {
            self.generations.pop_first();
        }
        let status = reload.status();
        let failed = status.last.as_ref().filter(|last| !last.outcome.is_good());
        let at = failed.map(|last| civil::unix(last.at));
        if at.is_some() && at != self.failed {
            event(text, "reload", status.to_json().get("last_reload").unwrap_or(&Value::Null));
        }
        self.failed = at;
    }

    /// How pools and endpoints are, as far as it is not as it was told.
    fn pools(&mut self, readings: &[PoolReading], text: &mut String) {
        self.rounds += 1;
        let whole = self.rounds == 1;
        let named =
            readings.iter().map(|reading| (reading.pool.settings.name.as_str(), pools::shown(reading)));
        let (mut there, mut changed) = (BTreeMap::new(), Vec::new());
        for (name, shown) in named {
            let digest = digest(&shown);
            if self.pools.get(name) != Some(&digest) {
                changed.push(shown);
            }
            there.insert(name.to_owned(), digest);
        }
        let left = self.pools.keys().any(|name| !there.contains_key(name));
        self.pools = there;
        let (endpoints, gone) = self.endpoints(readings);
        if whole || left || !(changed.is_empty() && endpoints.is_empty() && gone.is_empty()) {
            let names: Vec<_> = readings.iter().map(|reading| reading.pool.settings.name.as_str()).collect();
            let told = json!({
                "names": names, "pools": changed, "endpoints": endpoints, "gone": gone, "whole": whole,
            });
            event(text, "pools", &told);
        }
    }

    /// The endpoints that are told anew, and those that are no more.
    fn endpoints(&mut self, readings: &[PoolReading]) -> (Vec<Value>, Vec<Value>) {
        let total: usize = readings.iter().map(|reading| reading.endpoints.len()).sum();
        // How they are is told at once; how much they have done, the later the more there are of them.
        let leisure = (total / ENDPOINTS_A_ROUND) as u64;
        let (mut there, mut changed) = (BTreeMap::new(), Vec::new());
        for own in readings.iter().flat_map(|reading| &reading.endpoints) {
            let key = (own.pool.settings.name.as_str().to_owned(), own.endpoint.name.clone());
            let before = self.endpoints.remove(&key);
            let shown = endpoints::shown(own);
            let (standing, whole) = (digest_of(&shown, STANDING), digest(&shown));
            let due = before.is_none_or(|before| {
                let late = before.round + leisure < self.rounds;
                before.standing != standing || (before.whole != whole && late)
            });
            let told = ToldEndpoint { standing, whole, round: self.rounds };
            there.insert(key, before.filter(|_| !due).unwrap_or(told));
            if due {
                changed.push(shown);
            }
        }
        let gone =
            self.endpoints.keys().map(|(pool, endpoint)| json!({ "pool": pool, "endpoint": endpoint }));
        let gone = gone.collect();
        self.endpoints = there;
        (changed, gone)
    }
}

/// An event, as the server-sent events of the HTML standard (§9.2) are written.
fn event(text: &mut String, name: &str, data: &Value) {
    // Writing to a string does not fail, and JSON has no line breaks in it.
    let _ = write!(text, "event: {name}\ndata: {data}\n\n");
}

fn digest(value: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.to_string().hash(&mut hasher);
    hasher.finish()
}

fn digest_of(value: &Value, members: &[&str]) -> u64 {
    let mut hasher = DefaultHasher::new();
    members.iter().for_each(|member| value.get(member).map(Value::to_string).hash(&mut hasher));
    hasher.finish()
}

/// What tells how an endpoint is, of all that is shown of it.
const STANDING: &[&str] = &[
    "state",
    "since",
    "available",
    "weight",
    "factor",
    "breaker",
    "ejections",
    "disagreement",
    "last_event",
];

/// From one round to the next, at most.
const ROUND: Duration = Duration::from_secs(1);

/// How many times as long as a round with pools takes the next one of these waits at least.
const LEISURE: u32 = 20;

/// Entries of the journal that are told in a round; of more, the newest.
const MOST_ENTRIES: u64 = 200;

/// Configurations that are remembered as told: more than are kept.
const MOST_GENERATIONS: usize = 64;

/// Endpoints whose counts are told in a round, about.
const ENDPOINTS_A_ROUND: usize = 100;
