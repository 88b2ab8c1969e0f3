//! What clients and origins notice when something fails under 500 requests a second, of which a
//! quarter are `POST`s that nobody may process twice: the figures that Forebay promises, each against
//! what a healthy phase of the same run, or the number of requests, says. `--nocapture` shows them.

#![expect(clippy::indexing_slicing, reason = "a test that indexes wrongly fails, as it should")]
#![expect(clippy::print_stderr, reason = "figures for whoever runs it with --nocapture")]

#[path = "../support/mod.rs"]
mod support;

#[expect(dead_code, reason = "each test binary uses a part of this")]
#[path = "../support/load.rs"]
mod load;
#[expect(dead_code, reason = "each test binary uses a part of this")]
#[path = "../support/moody.rs"]
mod moody;

mod capacity;
mod deadline;
mod one_of_four;
mod retries;

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use load::{Ask, Load, Shots};
use moody::{Ability, Moody};
use support::{Plain, Proxy};

/// Requests a second, from clients that do not wait for each other.
const RATE: u32 = 500;
const SECOND: Duration = Duration::from_secs(1);
/// What a healthy origin takes: long enough that a busy machine adds little to it.
const SERVICE: Duration = Duration::from_millis(40);

/// One after another: each has the machine to itself, as far as that goes.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Four origins, and Forebay before them.
struct Scene {
    origins: Vec<Moody>,
    proxy: Proxy,
}

impl Scene {
    /// With these lines of the route and of the pool.
    #[track_caller]
    fn new(route: &str, pool: &str) -> Self {
        Self::of(4, Ability { service: SERVICE, ..Ability::default() }, route, pool)
    }

    /// With so many origins, of this ability.
    #[track_caller]
    fn of(count: usize, ability: Ability, route: &str, pool: &str) -> Self {
        let origins: Vec<_> = (0..count).map(|_| Moody::able(ability)).collect();
        let addresses: Vec<_> = origins.iter().map(Moody::address).collect();
        let proxy = Plain { route, pool, ..Plain::default() }.to(&addresses);
        Self { origins, proxy }
    }

    /// Begins to ask.
    #[track_caller]
    fn load(&self) -> Load {
        Load::asking(self.proxy.address("web"), RATE, mixed)
    }

    /// How often each request was begun by an origin, by its number.
    fn times_taken(&self) -> HashMap<u64, u32> {
        let mut times = HashMap::new();
        for taken in self.origins.iter().flat_map(Moody::taken) {
            *times.entry(taken.number).or_default() += 1;
        }
        times
    }

    /// The most requests that all origins together worked on at once.
    fn most_at_once(&self) -> i32 {
        let taken = self.origins.iter().flat_map(Moody::taken);
        // Where one ends as another begins, it ends first.
        let mut changes: Vec<_> = taken.flat_map(|taken| [(taken.at, 1), (taken.done, -1)]).collect();
        changes.sort_unstable();
        let counts = changes.iter().scan(0, |count, (_, change)| {
            *count += change;
            Some(*count)
        });
        counts.max().unwrap_or_default()
    }

    /// `POST`s that origins have begun to process more than once.
    fn duplicated(&self, shots: &Shots) -> Vec<u64> {
        let times = self.times_taken();
        let posts = shots.0.iter().filter(|shot| shot.ask.post).map(|shot| shot.number);
        posts.filter(|number| times.get(number).is_some_and(|times| *times > 1)).collect()
    }
}

/// Three `GET`s, then a `POST`.
fn mixed(number: u64) -> Ask {
    Ask { post: number % 4 == 3, ..Ask::default() }
}

/// The share of `of` in percent.
fn percent(part: usize, of: usize) -> f64 {
    part as f64 * 100.0 / of.max(1) as f64
}
