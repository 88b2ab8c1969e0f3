//! One list of a pool's endpoints out of all sources: what the configuration names, what DNS and files
//! say, and what was changed by hand. Decides who wins where two name the same address; does not know how
//! sources come by what they say.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;

use super::changes::Change;
use super::{Asked, Changes, Question, Sighting};
use crate::model::{Address, Name};

/// What is to be known of an endpoint besides where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Its share of traffic relative to its siblings', 1 to 1000.
    pub weight: u32,
    /// The failover level, 0 first.
    pub level: u32,
    /// The zone it is in.
    pub zone: Option<Name>,
}

impl Default for Terms {
    fn default() -> Self {
        Self { weight: 1, level: 0, zone: None }
    }
}

/// Who names an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// The configuration, by its address.
    Configuration,
    /// DNS.
    Dns,
    /// A file that something else writes.
    File,
    /// The admin API.
    Api,
}

impl Origin {
    /// Every origin.
    pub const ALL: [Self; 4] = [Self::Configuration, Self::Dns, Self::File, Self::Api];

    /// The value of the label `source`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::Dns => "dns",
            Self::File => "file",
            Self::Api => "api",
        }
    }
}

/// Something that names endpoints.
#[derive(Clone, Debug, PartialEq)]
pub struct Slot {
    /// Who wrote it.
    pub origin: Origin,
    /// What holds for its endpoints unless the source says more.
    pub terms: Terms,
    /// What it names.
    pub whence: Whence,
}

/// Where the addresses of a [`Slot`] come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Whence {
    /// It is one.
    Address(Address),
    /// DNS has them.
    Asked {
        /// What is asked.
        question: Arc<Question>,
        /// The port, where the answer has none.
        port: u16,
        /// Whether the last good answer is given up once the answer is that there is nothing.
        drop_when_empty: bool,
    },
}

/// An endpoint that a pool has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where it is.
    pub address: Address,
    /// Its name, for TLS, when it was found by one.
    pub host: Option<Arc<str>>,
    /// What else is known of it.
    pub terms: Terms,
    /// Who named it first.
    pub origin: Origin,
}

/// What sources name, each address once, in the order of the sources and within one in an order of its
/// own that does not change with that of an answer. The first to name an address says what holds for it.
pub fn named<'a>(slots: &[Slot], asked: impl Fn(&Question) -> Option<&'a Asked>) -> Vec<Found> {
    let mut found: Vec<Found> = Vec::with_capacity(slots.len());
    for slot in slots {
        match &slot.whence {
            Whence::Address(address) => found.push(Found {
                address: address.clone(),
                host: None,
                terms: slot.terms.clone(),
                origin: slot.origin,
            }),
            Whence::Asked { question, port, drop_when_empty } => {
                let Some(asked) = asked(question) else { continue };
                if !(*drop_when_empty && asked.is_vacant()) {
                    found.extend(asked.seen().iter().map(|sighting| slot.found(sighting, *port)));
                }
            }
        }
    }
    let mut seen = HashSet::with_capacity(found.len());
    found.retain(|one| seen.insert(one.address.clone()));
    found
}

/// The same after what was changed by hand. What was added comes last.
#[must_use]
pub fn changed(mut found: Vec<Found>, changes: &Changes) -> Vec<Found> {
    if changes.is_empty() {
        return found;
    }
    found.retain_mut(|one| match changes.get(&one.address) {
        Some(Change::Removed) => false,
        Some(Change::Adjusted(patch)) => {
            patch.apply(&mut one.terms);
            true
        }
        Some(Change::Added(terms)) => {
            one.terms = terms.clone();
            true
        }
        None => true,
    });
    let known: HashSet<Address> = found.iter().map(|one| one.address.clone()).collect();
    let added = changes.iter().filter_map(|(address, change)| match change {
        Change::Added(terms) if !known.contains(address) => {
            Some(Found { address: address.clone(), host: None, terms: terms.clone(), origin: Origin::Api })
        }
        _ => None,
    });
    found.extend(added);
    found
}

impl Slot {
    fn found(&self, sighting: &Sighting, port: u16) -> Found {
        let address = SocketAddr::new(sighting.address, sighting.port.unwrap_or(port));
        Found {
            address: Address::Inet(address),
            host: Some(Arc::clone(&sighting.host)),
            terms: Terms {
                weight: sighting.weight.unwrap_or(self.terms.weight),
                level: self.terms.level + sighting.level,
                zone: self.terms.zone.clone(),
            },
            origin: self.origin,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::discover::{Outcome, Patch, Ttl};

    fn at(text: &str) -> Address {
        text.parse().unwrap()
    }

    fn literal(text: &str, weight: u32) -> Slot {
        let terms = Terms { weight, ..Terms::default() };
        Slot { origin: Origin::Configuration, terms, whence: Whence::Address(at(text)) }
    }

    fn asked(addresses: &[&str]) -> (Slot, Asked) {
        let host = "app".into();
        let now = crate::ambient::now();
        let mut asked = Asked::new(now);
        let seen = addresses.iter().map(|address| Sighting::of(&host, address.parse().unwrap())).collect();
        let answer = Outcome::Answered { seen, ttl: Duration::ZERO, silent: Default::default() };
        asked.on_outcome(answer, Ttl::default(), now, 0);
        let question = Arc::new(Question::of_system(&host));
        let whence = Whence::Asked { question, port: 80, drop_when_empty: true };
        (Slot { origin: Origin::Dns, terms: Terms { weight: 2, level: 1, zone: None }, whence }, asked)
    }

    fn shown(found: &[Found]) -> Vec<String> {
        let show = |one: &Found| {
            format!("{} w{} l{} {}", one.address, one.terms.weight, one.terms.level, one.origin.name())
        };
        found.iter().map(show).collect()
    }

    #[test]
    fn the_first_source_of_an_address_says_what_holds_for_it() {
        let (slot, asked) = asked(&["10.0.0.1", "10.0.0.2"]);
        let slots = [literal("10.0.0.2:80", 9), slot, literal("10.0.0.3:80", 1)];
        let found = named(&slots, |_| Some(&asked));
        let expected =
            ["10.0.0.2:80 w9 l0 configuration", "10.0.0.1:80 w2 l1 dns", "10.0.0.3:80 w1 l0 configuration"];
        assert_eq!(shown(&found), expected);
        assert_eq!(found[1].host.as_deref(), Some("app"));
        assert_eq!(named(&slots, |_| None).len(), 2);
    }

    #[test]
    fn nothing_is_dropped_unless_it_is_so_wanted() {
        let (mut slot, mut asked) = asked(&["10.0.0.1"]);
        let now = crate::ambient::now();
        asked.on_outcome(Outcome::Empty, Ttl::default(), now, 0);
        assert_eq!(named(&[slot.clone()], |_| Some(&asked)), []);
        if let Whence::Asked { drop_when_empty, .. } = &mut slot.whence {
            *drop_when_empty = false;
        }
        assert_eq!(named(&[slot], |_| Some(&asked)).len(), 1);
    }

    #[test]
    fn changes_by_hand_come_last_and_win() {
        let slots = ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"].map(|text| literal(text, 1));
        let found = named(&slots, |_| None);
        let weighs = |weight| Patch { weight: Some(weight), ..Patch::default() };
        let mut changes = Changes::default();
        assert_eq!(changed(found.clone(), &changes), found);
        changes.remove(&at("10.0.0.1:80"), true).unwrap();
        changes.adjust(&at("10.0.0.2:80"), weighs(5), true).unwrap();
        changes.add(at("10.0.0.9:80"), weighs(3), false).unwrap();
        let expected =
            ["10.0.0.2:80 w5 l0 configuration", "10.0.0.3:80 w1 l0 configuration", "10.0.0.9:80 w3 l0 api"];
        assert_eq!(shown(&changed(found, &changes)), expected);
        // Another source names it, too, later on.
        let later = named(&[literal("10.0.0.9:80", 1)], |_| None);
        assert_eq!(shown(&changed(later, &changes)), ["10.0.0.9:80 w3 l0 configuration"]);
    }
}
