//! Who may connect to a listener and how often: `allow`, `deny` and `new_connections`.

use std::ops::RangeInclusive;

use crate::limit::bucket::{MAX_BURST, Quota, Rate};
use crate::limit::door::{DoorRate, DoorRules};
use crate::model::clients::Clients;
use crate::model::options::{OneOf, Options};

/// Reads what is asked of those who connect.
pub(super) fn rules(options: &Options<'_>) -> DoorRules {
    DoorRules {
        allow: options.given("allow").and_then(|given| Clients::parse(&given)),
        deny: options.given("deny").and_then(|given| Clients::parse(&given)),
        rate: options.given("new_connections").and_then(|given| rate(given.table()?)),
    }
}

/// `{ rate = "100/s", burst = 200, per = "client", max_clients = 100000 }`
fn rate(options: Options<'_>) -> Option<DoorRate> {
    let rate = options.require::<Rate>("rate");
    let burst = match options.given("burst") {
        Some(given) => given.within(1..=MAX_BURST),
        None => rate.map(Rate::usual_burst),
    };
    let per = options.get_or("per", Per::Client);
    let most = options.within("max_clients", CLIENTS, DEFAULT_CLIENTS);
    options.finish();
    let quota = Quota::new(rate?, burst?);
    Some(DoorRate { quota, clients: (per == Per::Client).then_some(most) })
}

/// Who shares a rate.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Per {
    Client,
    Listener,
}

impl OneOf for Per {
    const NOUN: &'static str = "way to count";
    const WORDS: &'static [(&'static str, Self)] = &[("client", Self::Client), ("listener", Self::Listener)];
}

const CLIENTS: RangeInclusive<usize> = 8..=10_000_000;
/// 1.6 MB.
const DEFAULT_CLIENTS: usize = 100_000;
