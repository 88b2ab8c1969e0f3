//! What is checked: endpoints that are asked the same, in the same way and rhythm, at the same
//! address are one target, of whose answers all of them are told.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls_pki_types::ServerName;

use super::ask::Question;
use crate::config::plan::CheckPlan;
use crate::control::health::{Health, Watch, Watched};
use crate::health::check::CheckResult;
use crate::health::probe::Check;
use crate::model::Address;
use crate::model::settings::{HeaderVersion, UpstreamSocket};
use crate::net::connect::Dial;
use crate::upstream::Pool;
use crate::wire::proxy_protocol::{v1, v2};

/// Something that is checked.
pub(super) struct Target {
    pub(super) question: Arc<Question>,
    was_checked: bool,
    subscribers: Vec<Subscriber>,
}

/// Who is told: an endpoint of a pool as it is at present.
struct Subscriber {
    watched: Arc<Watched>,
    pool: Arc<Pool>,
    endpoint: usize,
}

impl Target {
    /// Passes on what a check found; gives the pause before the next one, if there is to be one.
    pub(super) fn tell(&mut self, result: &CheckResult, draw: u64) -> Option<Duration> {
        for Subscriber { watched, pool, endpoint } in &self.subscribers {
            watched.on_check(pool, *endpoint, result);
        }
        let pause = self.pause()?;
        // First checks come close together, so that pools are soon known. From then on they are to
        // be spread over the interval.
        let was_checked = std::mem::replace(&mut self.was_checked, true);
        Some(if was_checked { pause } else { pause.mul_f64(draw as f64 / u64::MAX as f64) })
    }

    /// Whether anybody wants to know. That may have changed since the pause before it began.
    pub(super) fn is_wanted(&self) -> bool {
        self.pause().is_some()
    }

    /// The shortest pause that a subscriber wants.
    fn pause(&self) -> Option<Duration> {
        self.subscribers.iter().filter_map(|to| to.watched.next_check(to.endpoint)).min()
    }
}

/// Everything that is checked.
#[derive(Default)]
pub(super) struct Targets {
    /// By numbers, of which none is given twice.
    all: HashMap<u64, Target>,
    known: HashMap<Key, u64>,
    manners: Vec<Manner>,
    next: u64,
}

/// What makes two checks one. The first is the number of a [`Manner`].
type Key = (u64, Address, Option<ServerName<'static>>, Option<Arc<UpstreamSocket>>);

/// How endpoints are asked, but for where.
struct Manner {
    number: u64,
    /// What is asked, and how often.
    identity: String,
    /// The pool's TLS settings.
    pool_tls: Option<Arc<ClientConfig>>,
    /// The same as checks use them.
    tls: Option<Arc<ClientConfig>>,
}

impl Targets {
    /// The target with this number, if it is still to be checked.
    pub(super) fn get(&self, number: u64) -> Option<&Target> {
        self.all.get(&number)
    }

    /// The same, to be changed.
    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut Target> {
        self.all.get_mut(&number)
    }

    /// Finds out what is to be checked from now on. Gives the numbers of those that are new, each with
    /// the time to its first check.
    pub(super) fn aim(&mut self, health: &Health) -> Vec<(u64, Duration)> {
        let first = self.next;
        self.all.values_mut().for_each(|target| target.subscribers.clear());
        let mut new = HashMap::new();
        for watched in health.watched().iter() {
            let watch = watched.watch();
            if let Some(check) = &watch.check {
                let mut own = self.add(watched, &watch, check);
                own.retain(|number| *number >= first);
                let count = u32::try_from(own.len()).unwrap_or(u32::MAX).max(1);
                let apart = (check.rhythm.interval / count).min(FIRST_APART);
                for (place, number) in (0..).zip(own) {
                    let after: &mut Duration = new.entry(number).or_insert(Duration::MAX);
                    *after = (*after).min(apart.saturating_mul(place));
                }
            }
        }
        self.all.retain(|_, target| !target.subscribers.is_empty());
        let all = &self.all;
        self.known.retain(|_, number| all.contains_key(number));
        let used: HashSet<_> = self.known.keys().map(|(manner, ..)| *manner).collect();
        self.manners.retain(|manner| used.contains(&manner.number));
        new.into_iter().collect()
    }

    /// The target of each endpoint of a pool, some of which may be one.
    fn add(&mut self, watched: &Arc<Watched>, watch: &Watch, check: &CheckPlan) -> Vec<u64> {
        let endpoints = &watch.pool.endpoints;
        let tls = endpoints.first().and_then(|endpoint| endpoint.dial.tls.as_ref()).filter(|_| check.tls);
        let socket = endpoints.first().and_then(|endpoint| endpoint.dial.socket.as_ref());
        let socket = socket.map(|socket| Arc::new(socket.of_checks()));
        let (manner, tls) = self.manner(check, tls.map(|(config, _)| config));
        let mut numbers = Vec::with_capacity(endpoints.len());
        for (index, endpoint) in endpoints.iter().enumerate() {
            let address = asked_at(&endpoint.dial.address, check);
            let name = endpoint.dial.tls.as_ref().filter(|_| check.tls).map(|(_, name)| name.clone());
            let key = (manner, address.clone(), name.clone(), socket.clone());
            let number = *self.known.entry(key).or_insert(self.next);
            let target = self.all.entry(number).or_insert_with(|| {
                self.next += 1;
                let question = Question {
                    authority: authority(&address, name.as_ref()),
                    dial: Dial { address, tls: tls.clone().zip(name), socket: socket.clone() },
                    preface: preface(check.header),
                    check: check.check.clone(),
                    timeout: check.rhythm.timeout,
                };
                Target {
                    question: Arc::new(question),
                    was_checked: false,
                    subscribers: Vec::with_capacity(1),
                }
            });
            target.subscribers.push(Subscriber {
                watched: Arc::clone(watched),
                pool: Arc::clone(&watch.pool),
                endpoint: index,
            });
            numbers.push(number);
        }
        numbers
    }

    /// How `check` asks: the number of the manner, and its TLS settings.
    fn manner(
        &mut self,
        check: &CheckPlan,
        tls: Option<&Arc<ClientConfig>>,
    ) -> (u64, Option<Arc<ClientConfig>>) {
        let identity = format!("{} {:?}", check.identity, check.rhythm);
        let same = |manner: &Manner| {
            manner.identity == identity && manner.pool_tls.as_ref().map(Arc::as_ptr) == tls.map(Arc::as_ptr)
        };
        if let Some(known) = self.manners.iter().find(|manner| same(manner)) {
            return (known.number, known.tls.clone());
        }
        let own = tls.map(|config| Arc::new(for_checks(config, &check.check)));
        let number = self.manners.last().map_or(0, |last| last.number + 1);
        self.manners.push(Manner { number, identity, pool_tls: tls.cloned(), tls: own.clone() });
        (number, own)
    }
}

/// A check is nobody's but ours.
fn preface(header: Option<HeaderVersion>) -> Vec<u8> {
    let mut out = Vec::new();
    match header {
        Some(HeaderVersion::V1) => v1::encode(None, &mut out),
        Some(HeaderVersion::V2) => v2::encode_local(&mut out),
        None => {}
    }
    out
}

fn asked_at(own: &Address, check: &CheckPlan) -> Address {
    match (&check.address, check.port, own) {
        (Some(address), _, _) => address.clone(),
        (None, Some(port), Address::Inet(own)) => Address::Inet(SocketAddr::new(own.ip(), port)),
        _ => own.clone(),
    }
}

/// The endpoint as a `Host` field has it: by the name in its certificate, if it has one.
fn authority(address: &Address, name: Option<&ServerName<'static>>) -> String {
    let port = address.inet().map(|address| address.port()).filter(|port| *port != HTTPS);
    match (name, port, address) {
        (Some(ServerName::DnsName(name)), Some(port), _) => format!("{}:{port}", name.as_ref()),
        (Some(ServerName::DnsName(name)), None, _) => name.as_ref().to_owned(),
        (_, _, Address::Inet(address) | Address::Udp(address)) => address.to_string(),
        (_, _, Address::Unix(_)) => "localhost".to_owned(),
    }
}

/// The pool's TLS settings, with the protocol that the check speaks. Sessions are not resumed, so that
/// every check sees the certificate.
fn for_checks(pool: &ClientConfig, check: &Check) -> ClientConfig {
    let mut config = pool.clone();
    config.resumption = Resumption::disabled();
    let alpn = match check {
        Check::Bytes(probe) => probe.alpn(),
        Check::Call(_) => Some(&b"h2"[..]),
        Check::Datagram(_) => None,
    };
    if let Some(protocol) = alpn {
        config.alpn_protocols = vec![protocol.to_vec()];
    }
    config
}

/// The longest time between the first checks of two endpoints of a pool: short enough for small pools
/// to be known at once, long enough not to ask large ones all at the same time.
const FIRST_APART: Duration = Duration::from_millis(20);
const HTTPS: u16 = 443;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_called_by_its_name() {
        let inet = |text: &str| Address::Inet(text.parse().unwrap());
        let name = |text: &str| ServerName::try_from(text.to_owned()).unwrap();
        for (address, name, called) in [
            (inet("10.0.0.1:80"), None, "10.0.0.1:80"),
            (inet("[::1]:80"), None, "[::1]:80"),
            (inet("10.0.0.1:443"), Some(name("app.example")), "app.example"),
            (inet("10.0.0.1:8443"), Some(name("app.example")), "app.example:8443"),
            (inet("10.0.0.1:443"), Some(name("10.0.0.1")), "10.0.0.1:443"),
            (Address::Unix(std::path::Path::new("/s").into()), None, "localhost"),
        ] {
            assert_eq!(authority(&address, name.as_ref()), called);
        }
    }
}
