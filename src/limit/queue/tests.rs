//! What must hold of the queue whatever happens, and the order in which it serves.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::*;
use crate::model::mix::mix;

#[expect(clippy::disallowed_methods, reason = "any time will do to start from")]
static START: LazyLock<Instant> = LazyLock::new(Instant::now);
const MS: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(60);

fn join(queue: &mut Queue<u32>, item: u32, priority: Priority, now: Instant) -> Joined<u32> {
    queue.join(item, priority, now, now + LONG)
}

fn drain(queue: &mut Queue<u32>, now: Instant) -> Vec<u32> {
    std::iter::from_fn(|| queue.next(now)).collect()
}

#[test]
fn who_comes_first_is_served_first_while_the_queue_drains() {
    let mut queue = Queue::new(10);
    for item in 0..4 {
        let _ = join(&mut queue, item, Priority::Normal, *START + MS * item);
    }
    assert_eq!(drain(&mut queue, *START + MS * 99), [0, 1, 2, 3]);
}

#[test]
fn who_comes_last_is_served_first_under_overload_until_the_queue_was_empty() {
    let mut queue = Queue::new(10);
    for item in 0..4 {
        let _ = join(&mut queue, item, Priority::Normal, *START + MS * item);
    }
    let later = *START + MS * 100;
    assert_eq!(drain(&mut queue, later), [3, 2, 1, 0]);
    for item in 4..6 {
        let _ = join(&mut queue, item, Priority::Normal, later);
    }
    assert_eq!(drain(&mut queue, later), [4, 5]);
}

#[test]
fn a_class_that_drains_keeps_its_order_while_a_lower_one_is_overloaded() {
    let mut queue = Queue::new(10);
    for (item, priority, at) in
        [(1, Priority::Low, 0), (2, Priority::Low, 1), (3, Priority::High, 150), (4, Priority::High, 151)]
    {
        let _ = join(&mut queue, item, priority, *START + MS * at);
    }
    assert_eq!(drain(&mut queue, *START + MS * 160), [3, 4, 2, 1]);
}

#[test]
fn a_full_queue_displaces_who_would_be_last_of_the_lowest_class() {
    let full = || {
        let mut queue = Queue::new(3);
        for (item, priority) in [(1, Priority::Low), (2, Priority::Low), (3, Priority::Normal)] {
            let _ = join(&mut queue, item, priority, *START);
        }
        queue
    };
    for (after, last) in [(10, 2), (200, 1)] {
        let (mut queue, now) = (full(), *START + MS * after);
        assert_eq!(join(&mut queue, 9, Priority::Low, now), Joined::Full);
        let joined = join(&mut queue, 9, Priority::High, now);
        assert!(matches!(joined, Joined::InPlaceOf(_, item) if item == last), "{joined:?} after {after} ms");
        assert_eq!(queue.len(), 3);
    }
    let mut queue = full();
    for expected in [Some(2), Some(1), Some(3), None] {
        let displaced = match join(&mut queue, 9, Priority::High, *START) {
            Joined::InPlaceOf(_, item) => Some(item),
            _ => None,
        };
        assert_eq!(displaced, expected);
    }
}

#[test]
fn a_turn_that_came_to_nothing_gives_the_place_back() {
    let mut queue = Queue::new(3);
    let Joined::Waits(first) = join(&mut queue, 1, Priority::Normal, *START) else { panic!("no room") };
    let _ = join(&mut queue, 2, Priority::Normal, *START);
    assert_eq!(queue.next(*START), Some(1));
    queue.rejoin(1, first, *START, *START + LONG);
    assert_eq!(drain(&mut queue, *START), [1, 2]);
}

#[test]
fn nobody_waits_where_nobody_may() {
    for priority in [Priority::Low, Priority::High] {
        assert_eq!(join(&mut Queue::new(0), 1, priority, *START), Joined::Full);
    }
}

/// A waiter as the test knows it.
struct Known {
    ticket: Ticket,
    until: Instant,
}

#[test]
fn no_waiter_is_lost_doubled_late_or_passed_over() {
    for seed in 0..200_u64 {
        let mut state = seed;
        let mut lot = move |n: u64| {
            state = state.wrapping_add(crate::model::mix::STEP);
            mix(state) % n
        };
        let bound = lot(12) as usize;
        let mut queue = Queue::new(bound);
        let mut known: HashMap<u32, Known> = HashMap::new();
        let mut now = *START;
        for item in 0..500_u32 {
            now += MS * lot(30) as u32;
            match lot(5) {
                0..=2 => {
                    let until = now + MS * lot(200) as u32;
                    let priority = [Priority::Low, Priority::Normal, Priority::High][lot(3) as usize];
                    let ticket = match queue.join(item, priority, now, until) {
                        Joined::Full => continue,
                        Joined::Waits(ticket) => ticket,
                        Joined::InPlaceOf(ticket, other) => {
                            let other = known.remove(&other).expect("somebody known is displaced");
                            assert!(other.ticket.priority < priority, "seed {seed}");
                            ticket
                        }
                    };
                    assert!(known.insert(item, Known { ticket, until }).is_none(), "seed {seed}");
                }
                3 => {
                    let next = queue.next(now).map(|item| known.remove(&item).expect("known"));
                    let waits = known.values().filter(|known| known.until > now);
                    let highest = waits.map(|known| known.ticket.priority).max();
                    match next {
                        Some(next) => {
                            assert!(next.until > now, "past its time, seed {seed}");
                            assert!(highest.is_none_or(|p| p <= next.ticket.priority), "seed {seed}");
                        }
                        None => assert_eq!(highest, None, "seed {seed}"),
                    }
                }
                _ => {
                    let Some(item) = known.keys().min().copied() else { continue };
                    let leaver = known.remove(&item).expect("known");
                    let left = queue.leave(leaver.ticket);
                    assert!(left == Some(item) || leaver.until <= now, "seed {seed}");
                    assert_eq!(queue.leave(leaver.ticket), None, "seed {seed}");
                }
            }
            assert!(queue.len() <= bound && queue.len() <= known.len(), "seed {seed}");
            assert!(known.values().filter(|known| known.until > now).count() <= queue.len(), "seed {seed}");
        }
    }
}
