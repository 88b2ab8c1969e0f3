//! Requests as they end, for whoever follows: each of them has a log of his own, whose lines go to him. What
//! is configured of access logs does not matter here. While nobody follows, a request pays one load.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::sync::mpsc;

use super::backlog::Backlogs;
use super::line::Shape;
use super::sink::{Out, Sink};
use super::{AccessLog, Facts, Record, Wanted};
use crate::model::settings::LogFormat;
use crate::observe::metrics::LogLines;
use crate::observe::shard::Shard;

/// Where requests can be followed.
#[derive(Debug)]
pub struct Tap {
    workers: usize,
    /// How many follow, which is quicker to look at than who.
    count: AtomicUsize,
    followers: ArcSwap<Vec<Arc<Follower>>>,
}

/// Somebody who follows.
#[derive(Debug)]
struct Follower {
    wanted: Wanted,
    log: AccessLog,
}

/// Follows until it is dropped.
#[derive(Debug)]
pub struct Following {
    tap: Arc<Tap>,
    follower: Arc<Follower>,
}

impl Tap {
    /// Where the requests of so many workers can be followed.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        Self { workers, count: AtomicUsize::new(0), followers: ArcSwap::default() }
    }

    /// Whether anybody follows.
    #[inline]
    #[must_use]
    pub fn is_followed(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    /// Has requests that are `wanted` told to `follower` from now on, as JSON with all fields, a line each,
    /// some lines a piece. When they come faster than they are taken, `{"lost":N}` says how many are missing.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn follow(self: &Arc<Self>, wanted: Wanted, follower: mpsc::Sender<Bytes>) -> io::Result<Following> {
        let lines = Arc::<LogLines>::default();
        let sink = Sink::new(Out::Follower(follower, 0), Arc::clone(&lines));
        let shape = Shape::new(LogFormat::Json, None, None);
        let log = AccessLog::start(shape, None, Backlogs::new(self.workers, QUEUE), (sink, lines))?;
        let follower = Arc::new(Follower { wanted, log });
        self.followers.rcu(|before| {
            let mut followers = Vec::clone(before);
            followers.push(Arc::clone(&follower));
            followers
        });
        self.count.fetch_add(1, Ordering::Relaxed);
        Ok(Following { tap: Arc::clone(self), follower })
    }

    /// Tells those who follow of a request.
    #[cold]
    pub fn tell(&self, shard: Shard, record: &Record<'_>) {
        for follower in &**self.followers.load() {
            if follower.wanted.takes(&Facts::from(record)) {
                follower.log.write(shard, record);
            }
        }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.tap.count.fetch_sub(1, Ordering::Relaxed);
        self.tap.followers.rcu(|before| {
            let others = before.iter().filter(|follower| !Arc::ptr_eq(follower, &self.follower));
            others.map(Arc::clone).collect::<Vec<_>>()
        });
        self.follower.log.end();
    }
}

/// Lines of each worker that may wait for a follower.
const QUEUE: usize = 4096;

#[cfg(test)]
mod tests {
    use super::super::tests::record;
    use super::*;

    fn text(piece: Option<Bytes>) -> String {
        String::from_utf8(piece.expect("a piece").to_vec()).unwrap()
    }

    #[test]
    fn followers_hear_what_they_want_until_they_leave() {
        let tap = Arc::new(Tap::new(1));
        assert!(!tap.is_followed());
        let (all, mut all_told) = mpsc::channel(16);
        let (faulty, mut faulty_told) = mpsc::channel(16);
        let all = tap.follow(Wanted::default(), all).unwrap();
        let wanted = Wanted { status: "5xx".parse().ok(), ..Wanted::default() };
        let faulty = tap.follow(wanted, faulty).unwrap();
        assert!(tap.is_followed());
        let shard = Shard::worker(0);
        tap.tell(shard, &record());
        tap.tell(shard, &Record { status: 502, ..record() });
        assert!(text(faulty_told.blocking_recv()).contains("\"status\":502"));
        drop(faulty);
        assert_eq!(faulty_told.blocking_recv(), None);
        tap.tell(shard, &record());
        drop(all);
        let mut lines = 0;
        while let Some(piece) = all_told.blocking_recv() {
            lines += text(Some(piece)).lines().count();
        }
        assert_eq!(lines, 3);
        assert!(!tap.is_followed());
    }

    #[test]
    fn who_is_too_slow_is_told_how_much_is_missing() {
        let tap = Arc::new(Tap::new(1));
        let (sender, mut told) = mpsc::channel(1);
        let following = tap.follow(Wanted::default(), sender).unwrap();
        let sent = 10 * QUEUE;
        for _ in 0..sent {
            tap.tell(Shard::worker(0), &record());
        }
        drop(following);
        let (mut lines, mut lost) = (0, 0);
        while let Some(piece) = told.blocking_recv() {
            for line in text(Some(piece)).lines() {
                match serde_json::from_str::<serde_json::Value>(line).unwrap()["lost"].as_u64() {
                    Some(n) => lost += n,
                    None => lines += 1,
                }
            }
        }
        // What is lost after the last piece is told by nobody.
        assert!(
            lost > 0 && lines > QUEUE as u64 / 2 && lines + lost <= sent as u64,
            "{lines} and {lost} lost"
        );
    }
}
