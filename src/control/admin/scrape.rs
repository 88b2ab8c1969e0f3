//! How the page of metrics is made when many ask for it: one at a time, on a thread that gives way to requests,
//! and once for all who wait together. Does not know what is in it.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use hyper::body::Bytes;

use crate::control::priority::give_way;

/// Those who ask, and the page that several of them get. One page is made at a time. A page takes memory while
/// somebody waits for it or is being sent it; the cap on the admin listener's connections bounds how many those
/// are.
#[derive(Debug, Default)]
pub(super) struct Scrapes {
    /// How many have asked so far, which numbers them.
    asked: AtomicU64,
    /// How many have no answer yet.
    within: AtomicU64,
    last: Mutex<Last>,
}

#[derive(Debug, Default)]
struct Last {
    /// Who has a number up to this asked before the page was begun.
    covers: u64,
    page: Bytes,
}

impl Scrapes {
    /// The page that `make` makes, or that was begun for somebody else after this was called. Blocks.
    ///
    /// # Panics
    /// When `make` does.
    pub(super) fn page(&self, make: impl Fn() -> Vec<u8> + Sync) -> Bytes {
        let within = Within::enter(&self.within);
        let own = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        // It ends before the lock does, or the last two could each leave the page to the other.
        let within = within;
        if own > last.covers {
            let covers = self.asked.load(Ordering::SeqCst);
            let page = Bytes::from(giving_way(&make));
            *last = Last { covers, page };
        }
        if within.alone() { std::mem::take(&mut last.page) } else { last.page.clone() }
    }
}

/// Somebody who has no answer yet.
struct Within<'a>(&'a AtomicU64);

impl<'a> Within<'a> {
    fn enter(count: &'a AtomicU64) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }

    fn alone(&self) -> bool {
        self.0.load(Ordering::SeqCst) == 1
    }
}

impl Drop for Within<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What `make` makes, on a thread of its own: the priority of one that others use afterwards could be lowered,
/// but not raised again.
fn giving_way(make: &(impl Fn() -> Vec<u8> + Sync)) -> Vec<u8> {
    thread::scope(|scope| {
        let making = thread::Builder::new().name("scrape".to_owned()).spawn_scoped(scope, || {
            give_way();
            make()
        });
        match making.map(thread::ScopedJoinHandle::join) {
            Ok(Ok(page)) => page,
            Ok(Err(panic)) => resume_unwind(panic),
            // Without a thread to be had, a page at any priority is better than none: it says why.
            Err(_) => make(),
        }
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::AtomicU8;

    use rustix::process::getpriority_process;

    use super::*;

    #[test]
    fn a_page_is_never_older_than_the_question() {
        let (scrapes, made, begun) = (Scrapes::default(), AtomicU64::new(0), AtomicU64::new(0));
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let before = begun.load(Ordering::SeqCst);
                        let page = scrapes.page(|| {
                            let number = begun.fetch_add(1, Ordering::SeqCst) + 1;
                            made.fetch_add(1, Ordering::SeqCst);
                            number.to_string().into_bytes()
                        });
                        let page: u64 = String::from_utf8_lossy(&page).parse().unwrap();
                        assert!(page > before, "page {page} after {before} had been begun");
                    }
                });
            }
        });
        assert!((1..=400).contains(&made.load(Ordering::SeqCst)));
        assert!(scrapes.last.lock().unwrap().page.is_empty(), "nobody waits for it any more");
    }

    #[test]
    fn those_who_wait_together_get_the_same_page() {
        let (scrapes, made, both) = (Scrapes::default(), AtomicU8::new(0), Barrier::new(2));
        thread::scope(|scope| {
            let first = scope.spawn(|| {
                scrapes.page(|| {
                    both.wait();
                    // The others have asked by then, and wait for the lock.
                    while scrapes.asked.load(Ordering::SeqCst) < 5 {
                        thread::yield_now();
                    }
                    made.fetch_add(1, Ordering::SeqCst);
                    vec![b'a']
                })
            });
            both.wait();
            let others: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        scrapes.page(|| {
                            made.fetch_add(1, Ordering::SeqCst);
                            vec![b'b']
                        })
                    })
                })
                .collect();
            assert_eq!(first.join().unwrap(), "a");
            assert!(others.into_iter().all(|other| other.join().unwrap() == "b"));
        });
        assert_eq!(made.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn pages_are_made_behind_requests() {
        let nice = || getpriority_process(None).unwrap();
        let before = nice();
        let page = Scrapes::default().page(|| nice().to_string().into_bytes());
        let made_at: i32 = String::from_utf8_lossy(&page).parse().unwrap();
        assert!(made_at >= 10, "{made_at}");
        assert_eq!(nice(), before, "who asked goes on as before");
    }

    #[test]
    fn a_panic_is_the_one_who_asked_s() {
        let scrapes = Scrapes::default();
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            scrapes.page(|| std::panic::resume_unwind(Box::new("a mistake")))
        }));
        assert!(ended.is_err());
        assert_eq!(scrapes.page(|| vec![b'c']), "c");
    }
}
