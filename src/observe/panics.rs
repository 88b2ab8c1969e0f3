//! What becomes of a panic: it ends the task, call or job that it happened in, is counted by where
//! that was, and is told once, with its message, by who knows what ended. Knows nothing of what runs.
//!
//! A panic is a mistake in this program. It must not take along what has no part in it.

use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::future::poll_fn;
use std::panic::{self, AssertUnwindSafe};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio::time::sleep;

/// Where a panic happened, as metrics show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A client's connection, with the request on it if it speaks HTTP/1.
    Connection,
    /// One request of HTTP/2.
    Request,
    /// A connection of HTTP/2 to an endpoint.
    Upstream,
    /// The control thread: checks, health, the admin listener.
    Control,
    /// What a worker does for all of its connections.
    Worker,
    /// The writing of an access log.
    AccessLog,
}

/// A panic that was contained.
#[derive(Debug)]
pub struct Panicked {
    message: String,
    /// File, line and column; only known after [`tell_once`].
    location: Option<String>,
}

/// Runs `job`, and catches its panic. What `job` shares with others has to be sound half-way through a
/// change: locks are taken in spite of poison, and what has to be given back is given back by `Drop`.
///
/// # Errors
/// When it panicked. It is counted then, and the caller logs it.
pub fn catching<T>(place: Place, job: impl FnOnce() -> T) -> Result<T, Panicked> {
    let outer = STATE.replace(State::Contained);
    let outcome = panic::catch_unwind(AssertUnwindSafe(job));
    let noted = match STATE.replace(outer) {
        State::Noted => NOTED.take(),
        _ => None,
    };
    match outcome {
        Ok(value) => {
            // As when a task is dropped: the runtime has caught it further in.
            if let Some(panic) = noted {
                tracing::error!(%panic, "a panic was caught");
            }
            Ok(value)
        }
        Err(payload) => {
            if let Some(count) = COUNTS.get(place as usize) {
                count.fetch_add(1, Ordering::Relaxed);
            }
            Err(noted.unwrap_or_else(|| Panicked { message: message(&*payload), location: None }))
        }
    }
}

/// Completes with `future`, or when it panics. By then everything that `future` held is dropped. Costs no
/// memory, and two writes to memory of the thread for each time that it is polled.
///
/// It borrows the future because moving it in would have the caller's future hold it twice.
pub fn contain<F: Future>(
    place: Place,
    mut future: Pin<&mut F>,
) -> impl Future<Output = Result<F::Output, Panicked>> {
    poll_fn(move |cx| match catching(place, || future.as_mut().poll(cx)) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
        Err(panic) => Poll::Ready(Err(panic)),
    })
}

/// Runs `job` until it ends by itself: when it panics, that is logged, and it begins again after a pause
/// of a second. To be called on a tokio runtime with time.
pub async fn again(place: Place, what: &'static str, mut job: impl AsyncFnMut()) {
    loop {
        match contain(place, pin!(job())).await {
            Ok(()) => return,
            Err(panic) => tracing::error!(%panic, what, "a panic was contained, beginning again"),
        }
        sleep(PAUSE).await;
    }
}

/// Keeps the process's panic hook from printing what will be logged with more about it, and notes for
/// the log where the panic was. All other panics go to the hook that there was. To be called once, by the
/// owner of the process.
pub fn tell_once() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        match STATE.get() {
            State::Contained => {
                let location = info.location().map(ToString::to_string);
                NOTED.set(Some(Panicked { message: message(info.payload()), location }));
                STATE.set(State::Noted);
                return;
            }
            // A second one before the first was caught, most likely while unwinding: the process is
            // about to abort, and this is the last chance to say why.
            State::Noted => {
                if let Some(panic) = NOTED.take() {
                    tracing::error!(%panic, "a panic met another");
                }
            }
            State::Open => {}
        }
        before(info);
    }));
}

/// How many panics of this process were contained, by where they were.
pub fn counts() -> impl Iterator<Item = (Place, u64)> {
    let counted = |place: Place| COUNTS.get(place as usize).map_or(0, |count| count.load(Ordering::Relaxed));
    Place::ALL.into_iter().map(move |place| (place, counted(place)))
}

impl Place {
    /// Every place.
    pub const ALL: [Self; 6] =
        [Self::Connection, Self::Request, Self::Upstream, Self::Control, Self::Worker, Self::AccessLog];

    /// The value of the label `where`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Request => "request",
            Self::Upstream => "upstream",
            Self::Control => "control",
            Self::Worker => "worker",
            Self::AccessLog => "access_log",
        }
    }
}

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.location {
            Some(location) => write!(f, "{} ({location})", self.message),
            None => f.write_str(&self.message),
        }
    }
}

/// What `panic!` was given, which is text unless somebody went out of his way.
fn message(payload: &(dyn Any + Send)) -> String {
    let literal = payload.downcast_ref::<&str>().copied();
    let text = literal.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without words").to_owned()
}

/// What this thread is in the midst of.
#[derive(Clone, Copy, Debug)]
enum State {
    /// Nothing that is contained.
    Open,
    /// Something that is.
    Contained,
    /// The same, and it has panicked.
    Noted,
}

thread_local! {
    static STATE: Cell<State> = const { Cell::new(State::Open) };
    static NOTED: Cell<Option<Panicked>> = const { Cell::new(None) };
}

/// By [`Place`]. Of the whole process, as the hook is.
static COUNTS: [AtomicU64; Place::ALL.len()] = [const { AtomicU64::new(0) }; Place::ALL.len()];

/// Before what panicked begins again.
const PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::future::pending;
    use std::rc::Rc;
    use std::sync::Mutex;

    use tokio::task::yield_now;
    use tokio::time::timeout;

    use super::*;

    fn count(place: Place) -> u64 {
        counts().find(|(own, _)| *own == place).map(|(_, count)| count).unwrap()
    }

    /// Panics in its second poll, with `held` and a borrow of `cell` in hand.
    #[expect(clippy::await_holding_refcell_ref, reason = "the borrow is what is to be given back")]
    async fn fails(held: Rc<()>, cell: &RefCell<u32>) {
        let mut value = cell.borrow_mut();
        *value += 1;
        yield_now().await;
        assert!(Rc::strong_count(&held) == 0, "held by {}", Rc::strong_count(&held));
        pending().await
    }

    #[tokio::test]
    async fn what_panics_lets_go_of_everything() {
        let (held, cell, before) = (Rc::new(()), RefCell::new(0), count(Place::Request));
        let mut task = pin!(fails(Rc::clone(&held), &cell));
        let panic = contain(Place::Request, task.as_mut()).await.unwrap_err();
        assert!(panic.to_string().starts_with("held by 2"), "{panic}");
        assert_eq!((Rc::strong_count(&held), *cell.borrow()), (1, 1));
        assert_eq!(count(Place::Request), before + 1);
        assert!(matches!(STATE.get(), State::Open));
    }

    #[tokio::test]
    async fn what_does_not_panic_is_left_alone() {
        let work = async {
            yield_now().await;
            7
        };
        assert_eq!(contain(Place::Upstream, pin!(work)).await.unwrap(), 7);
        assert_eq!(count(Place::Upstream), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_job_begins_again_until_it_ends() {
        let mut lives = 0;
        let job = again(Place::Worker, "test", async || {
            lives += 1;
            yield_now().await;
            assert!(lives == 3, "life {lives}");
        });
        timeout(2 * PAUSE + PAUSE / 2, job).await.unwrap();
        assert_eq!(lives, 3);
    }

    /// The hook is the process's, so that this one test stands for it.
    #[test]
    fn a_contained_panic_is_told_by_who_contains_it() {
        static PRINTED: Mutex<Vec<String>> = Mutex::new(Vec::new());
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            PRINTED.lock().unwrap().push(info.to_string());
            usual(info);
        }));
        tell_once();
        let panic = catching(Place::Control, || panic!("of mine")).unwrap_err();
        assert!(panic.to_string().starts_with("of mine (src/observe/panics.rs:"), "{panic}");
        let caught_within = || panic::catch_unwind(|| panic!("within")).is_err();
        assert!(catching(Place::Control, caught_within).unwrap());
        assert!(panic::catch_unwind(|| panic!("of nobody's")).is_err());
        let printed = PRINTED.lock().unwrap().clone();
        let told = |words: &str| printed.iter().any(|line| line.contains(words));
        assert!(told("of nobody's") && !told("of mine") && !told("within"), "{printed:?}");
    }
}
