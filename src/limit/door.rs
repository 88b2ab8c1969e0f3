//! Who may connect to a listener, and how often: by address first, then by a rate for each client or for
//! all of them together. Knows no sockets, and is told what time it is.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::Refusal;
use super::bucket::{Bucket, Quota};
use super::keyed::Keyed;
use crate::model::clients::{Clients, key_of};

/// What is asked of those who come.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DoorRules {
    /// The only ones who may; anybody when unset.
    pub allow: Option<Clients>,
    /// Those who may not, whoever else may.
    pub deny: Option<Clients>,
    /// How often they may come; as often as they like when unset.
    pub rate: Option<DoorRate>,
}

/// How often somebody may come.
#[derive(Clone, Debug, PartialEq)]
pub struct DoorRate {
    /// The bucket that each takes a token from.
    pub quota: Quota,
    /// Clients to have a bucket for, each its own; `None` for one bucket that all take from.
    pub clients: Option<usize>,
}

/// The rules with what was counted. Shared by all workers.
#[derive(Debug)]
pub struct Door {
    rules: DoorRules,
    /// When the buckets' time begins.
    since: Instant,
    buckets: Buckets,
}

#[derive(Debug)]
enum Buckets {
    None,
    One(Quota, Bucket),
    Many(Quota, Keyed),
}

impl Door {
    /// A door that nobody has come through yet. `seed` is drawn by chance, so that clients cannot choose
    /// addresses whose buckets displace each other.
    #[must_use]
    pub fn new(rules: DoorRules, now: Instant, seed: u64) -> Self {
        let buckets = match &rules.rate {
            None => Buckets::None,
            Some(DoorRate { quota, clients: None }) => Buckets::One(*quota, Bucket::default()),
            Some(DoorRate { quota, clients: Some(most) }) => Buckets::Many(*quota, Keyed::new(*most, seed)),
        };
        Self { rules, since: now, buckets }
    }

    /// What it asks.
    #[must_use]
    pub fn rules(&self) -> &DoorRules {
        &self.rules
    }

    /// Lets `client`, who came at the time that `now` gives, through; `None` came over a Unix socket. `now`
    /// is asked for only if somebody counts.
    ///
    /// # Errors
    /// Why it is not let through.
    pub fn pass(&self, client: Option<IpAddr>, now: impl FnOnce() -> Instant) -> Result<(), Refusal> {
        let DoorRules { allow, deny, .. } = &self.rules;
        let denied = deny.as_ref().is_some_and(|deny| deny.contain(client));
        if denied || allow.as_ref().is_some_and(|allow| !allow.contain(client)) {
            return Err(Refusal::Address);
        }
        let nanos = || nanos(now().saturating_duration_since(self.since));
        let allowed = match &self.buckets {
            Buckets::None => true,
            Buckets::One(quota, bucket) => bucket.take(quota, nanos()).allowed,
            Buckets::Many(quota, table) => table.take(quota, &key_of(client), nanos()).standing.allowed,
        };
        if allowed { Ok(()) } else { Err(Refusal::Rate) }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::bucket::Rate;
    use crate::model::options::{Given, Options, Sink, Value};

    fn clients(networks: &[&str]) -> Option<Clients> {
        use crate::model::options::{Data, Key};
        let items = networks.iter().map(|text| Value::new(0..0, Data::String((*text).to_owned())));
        let list = Value::new(0..0, Data::Array(items.collect()));
        let entries = [(Key { name: "allow".to_owned(), span: 0..0 }, list)];
        let sink = Sink::default();
        let options = Options::root(&entries, &sink);
        let parsed = options.given("allow").and_then(|given: Given<'_>| Clients::parse(&given));
        options.finish();
        parsed
    }

    fn door(rules: DoorRules, now: Instant) -> Door {
        Door::new(rules, now, 7)
    }

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn whoever_is_denied_stays_out_even_if_allowed() {
        let now = crate::ambient::now();
        let rules =
            DoorRules { allow: clients(&["10.0.0.0/8"]), deny: clients(&["10.6.6.0/24"]), rate: None };
        let door = door(rules, now);
        assert_eq!(door.pass(ip("10.1.2.3"), || now), Ok(()));
        assert_eq!(door.pass(ip("::ffff:10.1.2.3"), || now), Ok(()));
        for out in [ip("10.6.6.1"), ip("192.0.2.1"), ip("fd00::1"), None] {
            assert_eq!(door.pass(out, || now), Err(Refusal::Address), "{out:?}");
        }
    }

    #[test]
    fn each_client_has_a_rate_of_its_own_or_all_have_one() {
        let now = crate::ambient::now();
        let quota = Quota::new("1/s".parse::<Rate>().unwrap(), 2);
        for (clients, second) in [(Some(100), Ok(())), (None, Err(Refusal::Rate))] {
            let door =
                door(DoorRules { rate: Some(DoorRate { quota, clients }), ..DoorRules::default() }, now);
            let one = ip("192.0.2.1");
            assert_eq!([door.pass(one, || now), door.pass(one, || now)], [Ok(()); 2]);
            assert_eq!(door.pass(one, || now), Err(Refusal::Rate));
            assert_eq!(door.pass(ip("192.0.2.2"), || now), second);
            assert_eq!(door.pass(one, || now + Duration::from_millis(1001)), Ok(()));
        }
    }

    #[test]
    fn who_is_kept_out_by_address_takes_no_token() {
        let now = crate::ambient::now();
        let quota = Quota::new("1/s".parse::<Rate>().unwrap(), 1);
        let rate = Some(DoorRate { quota, clients: None });
        let door = door(DoorRules { allow: clients(&["10.0.0.0/8"]), deny: None, rate }, now);
        assert_eq!(door.pass(ip("192.0.2.1"), || now), Err(Refusal::Address));
        assert_eq!(door.pass(ip("10.0.0.1"), || now), Ok(()));
    }
}
