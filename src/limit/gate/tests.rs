//! What must hold of gates and lines whatever threads do, and what they do in order.

use std::sync::atomic::AtomicBool;
use std::task::Wake;
use std::thread;
use std::time::Duration;

use super::*;
use crate::limit::Room;
use crate::model::mix::{STEP, mix};

const LONG: Duration = Duration::from_secs(600);

#[expect(clippy::disallowed_methods, reason = "threads that race need a clock that runs")]
fn clock() -> Instant {
    Instant::now()
}

fn later() -> Instant {
    clock() + LONG
}

/// Whether a place in the line is still one.
fn poll(waiting: &mut Waiting<'_>) -> Poll<Turn> {
    waiting.poll(&Context::from_waker(Waker::noop()))
}

#[test]
fn as_many_enter_as_may_and_the_next_waits_for_one_to_leave() {
    let gate = Gate::new(2, 5, clock);
    assert!(gate.try_enter() && gate.try_enter() && !gate.try_enter());
    let mut waiting = gate.join(Priority::Normal, later()).expect("room to wait");
    assert_eq!((poll(&mut waiting), gate.in_flight(), gate.waiting()), (Poll::Pending, 2, 1));
    gate.leave();
    assert!(!gate.try_enter(), "the room is taken");
    assert_eq!((poll(&mut waiting), gate.in_flight(), gate.waiting()), (Poll::Ready(Turn::Granted), 2, 0));
}

#[test]
fn nobody_overtakes_who_waits() {
    let gate = Gate::new(1, 5, clock);
    assert!(gate.try_enter());
    let _waiting = gate.join(Priority::Low, later());
    gate.set_limit(1);
    gate.word.fetch_sub(INSIDE, Ordering::AcqRel);
    assert!(!gate.try_enter(), "there is room, but for somebody else");
}

#[test]
fn who_comes_to_wait_when_there_is_room_goes_in() {
    let gate = Gate::new(1, 5, clock);
    let mut waiting = gate.join(Priority::Normal, later()).expect("room to wait");
    assert_eq!((poll(&mut waiting), gate.in_flight()), (Poll::Ready(Turn::Granted), 1));
}

#[test]
fn a_line_that_is_made_shorter_keeps_whom_it_has() {
    let (gate, line) = (Gate::new(1, 3, clock), Room::new(3, clock));
    assert!(gate.try_enter());
    let mut waiting: Vec<_> = (0..3).filter_map(|_| gate.join(Priority::Normal, later())).collect();
    let in_line: Vec<_> = (0..3).filter_map(|_| line.join(Priority::Normal, later(), 0)).collect();
    gate.set_waiting(1);
    line.set_waiting(1);
    assert_eq!((gate.waiting(), line.waiting(), in_line.len()), (3, 3, 3));
    assert!(gate.join(Priority::Normal, later()).is_none());
    assert!(line.join(Priority::Normal, later(), 0).is_none());
    gate.set_limit(4);
    assert!(waiting.iter_mut().all(|place| poll(place) == Poll::Ready(Turn::Granted)));
    drop(in_line);
    assert!(
        gate.join(Priority::Normal, later()).is_some() && line.join(Priority::Normal, later(), 0).is_some()
    );
}

#[test]
fn a_limit_that_grows_lets_in_and_one_that_falls_throws_nobody_out() {
    let gate = Gate::new(1, 5, clock);
    assert!(gate.try_enter());
    let mut places: Vec<_> = (0..3).filter_map(|_| gate.join(Priority::Normal, later())).collect();
    gate.set_limit(3);
    let let_in = places.iter_mut().filter_map(|place| poll(place).is_ready().then_some(())).count();
    assert_eq!((let_in, gate.in_flight(), gate.waiting()), (2, 3, 1));
    gate.set_limit(0);
    assert_eq!((gate.limit(), gate.in_flight()), (1, 3));
    gate.leave();
    gate.leave();
    assert_eq!((gate.in_flight(), gate.waiting()), (1, 1));
    gate.leave();
    assert_eq!((gate.in_flight(), gate.waiting()), (1, 0));
}

#[test]
fn who_gives_up_frees_its_place_and_passes_on_what_it_was_given() {
    let gate = Gate::new(1, 2, clock);
    assert!(gate.try_enter());
    let first = gate.join(Priority::Normal, later());
    let second = gate.join(Priority::Normal, later());
    assert!(gate.join(Priority::Normal, later()).is_none());
    drop(second);
    let mut third = gate.join(Priority::Normal, later()).expect("a place was freed");
    gate.leave();
    // The first was let in, and never heard of it.
    drop(first);
    assert_eq!(poll(&mut third), Poll::Ready(Turn::Granted));
    gate.leave();
    assert_eq!((gate.in_flight(), gate.waiting()), (0, 0));
}

#[test]
fn who_is_past_its_time_is_not_let_in() {
    let gate = Gate::new(1, 5, clock);
    assert!(gate.try_enter());
    let mut late = gate.join(Priority::High, clock()).expect("room to wait");
    let mut waiting = gate.join(Priority::Low, later()).expect("room to wait");
    gate.leave();
    assert_eq!((poll(&mut late), poll(&mut waiting)), (Poll::Pending, Poll::Ready(Turn::Granted)));
}

#[test]
fn a_higher_class_displaces_and_says_so() {
    let gate = Gate::new(1, 1, clock);
    assert!(gate.try_enter());
    let mut low = gate.join(Priority::Low, later()).expect("room to wait");
    assert!(gate.join(Priority::Low, later()).is_none());
    let high = gate.join(Priority::High, later());
    assert_eq!(poll(&mut low), Poll::Ready(Turn::Displaced));
    drop((low, high));
    assert_eq!((gate.in_flight(), gate.waiting()), (1, 0));
}

/// Wakes a thread.
struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits until `poll` is ready; a wake-up that is lost fails the test.
fn wait(what: &str, mut poll: impl FnMut(&Context<'_>) -> Poll<Turn>) -> Turn {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let started = clock();
    loop {
        if let Poll::Ready(turn) = poll(&Context::from_waker(&waker)) {
            return turn;
        }
        thread::park_timeout(STUCK);
        assert!(started.elapsed() < STUCK, "{what}: a wake-up was lost");
    }
}

const STUCK: Duration = Duration::from_secs(20);

#[test]
fn threads_never_exceed_the_limit_and_none_is_forgotten() {
    for limit in [1, 3] {
        let gate = Gate::new(limit, 64, clock);
        let inside = AtomicU32::new(0);
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let threads: Vec<_> = (0..6_u64)
                .map(|seed| {
                    let (gate, inside) = (&gate, &inside);
                    scope.spawn(move || {
                        for round in 0..3000_u64 {
                            pass(gate, mix((seed * 10_000 + round).wrapping_mul(STEP)), limit, inside);
                        }
                    })
                })
                .collect();
            let lowering = scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    gate.set_limit(1);
                    thread::yield_now();
                    gate.set_limit(limit);
                    thread::yield_now();
                }
            });
            threads.into_iter().for_each(|thread| thread.join().expect("no thread fails"));
            done.store(true, Ordering::Relaxed);
            lowering.join().expect("no thread fails");
        });
        assert_eq!((gate.in_flight(), gate.waiting()), (0, 0));
    }
}

/// Goes through the gate, or gives up on the way.
fn pass(gate: &Gate, lot: u64, limit: u32, inside: &AtomicU32) {
    if !gate.try_enter() {
        let priority = [Priority::Low, Priority::Normal, Priority::High][(lot % 3) as usize];
        let mut waiting = gate.join(priority, later()).expect("room to wait for all threads");
        if lot.is_multiple_of(5) {
            thread::yield_now();
            drop(waiting);
            return;
        }
        assert_eq!(wait("gate", |cx| waiting.poll(cx)), Turn::Granted);
    }
    assert!(inside.fetch_add(1, Ordering::SeqCst) < limit, "more inside than may be");
    if lot.is_multiple_of(7) {
        thread::yield_now();
    }
    inside.fetch_sub(1, Ordering::SeqCst);
    gate.leave();
}

#[test]
fn threads_that_wait_for_room_find_it() {
    let room = Room::new(64, clock);
    let free = AtomicU32::new(2);
    thread::scope(|scope| {
        for seed in 0..6_u64 {
            let (room, free) = (&room, &free);
            scope.spawn(move || {
                for round in 0..3000_u64 {
                    use_room(room, free, mix((seed * 10_000 + round).wrapping_mul(STEP)));
                }
            });
        }
    });
    assert_eq!((room.waiting(), free.load(Ordering::SeqCst)), (0, 2));
}

/// Takes room and gives it back, or gives up on the way.
fn use_room(room: &Room, free: &AtomicU32, lot: u64) {
    let take = || free.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok();
    if !take() {
        let mut line = room.join(Priority::Normal, later(), 0).expect("room to wait for all threads");
        loop {
            assert_eq!(wait("room", |cx| line.poll(cx)), Turn::Granted);
            if lot.is_multiple_of(5) {
                return;
            }
            if take() {
                break;
            }
        }
    }
    if lot.is_multiple_of(7) {
        thread::yield_now();
    }
    free.fetch_add(1, Ordering::SeqCst);
    room.made();
}
