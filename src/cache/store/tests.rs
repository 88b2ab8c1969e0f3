//! The store by properties over seeds: it holds its bound and returns what was put in.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::*;
use crate::cache::{Begun, Pending};
use crate::model::ResponseHead;
use crate::model::mix::{STEP, mix};

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
    let mut head = Vec::new();
    response.fields.write_lines(&mut head);
    Stored { status: StatusCode::OK, head: head.into(), body: body.into(), received, terms }
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
                        assert_eq!(
                            Some(&*found.body),
                            kept.get(&(path, accept)).map(|b| &**b),
                            "seed {seed}"
                        );
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
    let store = Store::new(bounds(5 * 2000 * 4 / 3, 2000), *START);
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

/// Begins to keep a response to `request`.
fn begin(store: &Arc<Store>, request: &RequestHead, length: Option<u64>, now: Instant) -> Option<Pending> {
    let terms = Terms::of(request, &ResponseHead::new(StatusCode::OK)).unwrap();
    let fields = Fields::default();
    let begun = Begun { key: key(request), status: StatusCode::OK, fields: &fields, terms, length };
    Pending::begin(store, begun, now)
}

#[test]
fn one_resource_is_kept_once_a_second() {
    let store = Arc::new(Store::new(bounds(100_000, 2000), *START));
    let request = request(1, 1);
    let is_due = |at| begin(&store, &request, None, at).is_some();
    assert!(is_due(*START));
    assert!(!is_due(*START) && !is_due(*START + SECOND / 2) && is_due(*START + SECOND));
    assert!(!is_due(*START + SECOND) && is_due(*START + 2 * SECOND));
}

#[test]
fn a_response_is_kept_when_it_is_whole() {
    let store = Arc::new(Store::new(bounds(8000, 2000), *START));
    let request = request(1, 1);
    let kept = || store.find(&key(&request), &request, *START).map(|found| found.body.clone());
    let mut pending = begin(&store, &request, Some(6), *START).unwrap();
    assert!(pending.take(b"abc"));
    drop(pending);
    assert_eq!(kept(), None);
    let mut pending = begin(&store, &request, None, *START + SECOND).unwrap();
    assert!(pending.take(b"abc") && pending.take(b"def") && !pending.take(&[0; 1995]));
    assert!(begin(&store, &super::tests::request(2, 1), None, *START).is_none(), "no room beside it");
    pending.complete();
    assert_eq!(kept().as_deref(), Some(&b"abcdef"[..]));
    assert!(begin(&store, &super::tests::request(3, 1), Some(2000), *START).is_some());
    assert!(begin(&store, &super::tests::request(4, 1), Some(2001), *START).is_none());
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
