//! The store by properties over seeds: it holds its bound and returns what was put in.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::*;
use crate::model::mix::{STEP, mix};
use crate::model::ResponseHead;

const SECOND: Duration = Duration::from_secs(1);

/// A sequence of numbers that depends on its seed alone.
struct Draws(u64);

impl Draws {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        mix(self.0) % n
    }
}

static START: LazyLock<Instant> = LazyLock::new(crate::ambient::now);

fn request(path: u64, accept: u64) -> RequestHead {
    let mut head = RequestHead::default();
    head.set_authority(b"host");
    head.set_target(format!("/{path}").as_bytes());
    head.fields.append(b"accept", accept.to_string().as_bytes());
    head
}

fn stored(request: &RequestHead, fields: &[(&str, &str)], body: Vec<u8>, received: Instant) -> Stored {
    let mut response = ResponseHead::new(StatusCode::OK);
    fields.iter().for_each(|(name, value)| response.fields.append(name.as_bytes(), value.as_bytes()));
    let terms = Terms::of(request, &response).unwrap();
    Stored::new(StatusCode::OK, &response.fields, body.into(), (terms, received))
}

fn key(request: &RequestHead) -> Key {
    Key::of("http", "host", request)
}

fn bounds(memory: usize, max_body: usize) -> Bounds {
    Bounds { memory, max_body, max_stale: 600 * SECOND }
}

#[test]
fn the_bound_always_holds_and_what_is_found_is_what_was_kept() {
    for seed in 0..20 {
        let mut draws = Draws(seed);
        let memory = 20_000 + draws.below(400_000) as usize;
        let store = Store::new(bounds(memory, 4096), *START);
        // By path and variant: the last body that was kept.
        let mut kept: HashMap<(u64, u64), Vec<u8>> = HashMap::new();
        for step in 0..3000 {
            let (path, accept) = (draws.below(200), draws.below(3));
            let request = request(path, accept);
            let now = *START + (step / 10) * SECOND;
            match draws.below(8) {
                0..=4 => {
                    let body = vec![draws.below(256) as u8; draws.below(6000) as usize];
                    let entry = stored(&request, &[("vary", "accept"), ("x", "y")], body.clone(), now);
                    if store.insert(key(&request), entry) {
                        kept.insert((path, accept), body);
                    }
                }
                5..=6 => {
                    if let Some(found) = store.find(&key(&request), &request, now) {
                        assert_eq!(Some(&*found.body), kept.get(&(path, accept)).map(|b| &**b), "seed {seed}");
                    }
                }
                _ => {
                    store.forget(&key(&request));
                    kept.retain(|(p, _), _| *p != path);
                }
            }
            assert!(store.bytes() <= memory, "seed {seed}: {} of {memory}", store.bytes());
        }
        assert!(store.len() > 3, "seed {seed}");
        (0..200).for_each(|path| store.forget(&key(&request(path, 0))));
        assert_eq!((store.len(), store.bytes()), (0, 0), "seed {seed}");
    }
}

#[test]
fn what_was_not_used_for_longest_goes_first() {
    let store = Store::new(bounds(5 * 2000, 2000), *START);
    let mut put = |path| {
        let request = request(path, 0);
        assert!(store.insert(key(&request), stored(&request, &[], vec![0; 1000], *START)));
    };
    let has = |path| {
        let request = request(path, 0);
        store.find(&key(&request), &request, *START).is_some()
    };
    (0..4).for_each(&mut put);
    assert!(has(0));
    (4..7).for_each(&mut put);
    let found: Vec<u64> = (0..7).filter(|path| has(*path)).collect();
    assert_eq!(found, [0, 3, 4, 5, 6]);
}

#[test]
fn a_response_is_given_to_those_it_was_made_for() {
    let store = Store::new(bounds(100_000, 2000), *START);
    let (one, two) = (request(1, 1), request(1, 2));
    store.insert(key(&one), stored(&one, &[("vary", "Accept"), ("age", "5")], b"one".to_vec(), *START));
    assert!(store.find(&key(&two), &two, *START).is_none());
    store.insert(key(&two), stored(&two, &[("vary", "Accept")], b"two".to_vec(), *START));
    let found = store.find(&key(&one), &one, *START).unwrap();
    assert_eq!(&*found.body, b"one");
    let mut fields = Fields::default();
    found.write_fields(&mut fields);
    assert_eq!(fields.get_named(b"vary").next(), Some(&b"Accept"[..]));
    assert_eq!(fields.len(), 1);
    assert!(store.find(&key(&one), &one, *START + 595 * SECOND).is_some());
    assert!(store.find(&key(&one), &one, *START + 596 * SECOND).is_none());
}

#[test]
fn one_resource_is_kept_once_a_second() {
    let store = Store::new(bounds(100_000, 2000), *START);
    let request = request(1, 1);
    let entry = |at| stored(&request, &[], Vec::new(), at);
    let terms = entry(*START).terms;
    let due = |at| store.is_due(&key(&request), &terms, at);
    assert!(due(*START));
    store.insert(key(&request), entry(*START));
    assert!(!due(*START) && !due(*START + SECOND / 2) && due(*START + SECOND));
    store.insert(key(&request), entry(*START + SECOND));
    assert!(!due(*START + SECOND) && due(*START + 2 * SECOND));
}

#[test]
fn many_variants_of_one_resource_do_not_pile_up() {
    let store = Store::new(bounds(10_000_000, 2000), *START);
    for accept in 0..1000 {
        let request = request(1, accept);
        store.insert(key(&request), stored(&request, &[("vary", "accept")], Vec::new(), *START));
    }
    assert!(store.len() <= 16);
}

#[test]
fn what_is_too_large_is_not_kept() {
    let store = Store::new(bounds(3000, 2000), *START);
    let request = request(1, 1);
    assert!(!store.insert(key(&request), stored(&request, &[], vec![0; 2001], *START)));
    let large = "x".repeat(3000);
    assert!(!store.insert(key(&request), stored(&request, &[("x", &large)], Vec::new(), *START)));
    assert_eq!((store.len(), store.bytes()), (0, 0));
}
