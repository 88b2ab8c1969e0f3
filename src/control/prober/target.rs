//! What is checked: endpoints that are asked the same, in the same way and rhythm, at the same
//! address are one target, of whose answers all of them are told.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls_pki_types::ServerName;

use super::ask::Question;
use crate::config::plan::CheckPlan;
use crate::control::health::{Health, Watched};
use crate::health::check::CheckResult;
use crate::health::probe::Check;
use crate::model::Address;
use crate::net::connect::Dial;

/// Something that is checked.
pub(super) struct Target {
    pub(super) question: Arc<Question>,
    /// From the start of the process to the first check.
    pub(super) first: Duration,
    was_checked: bool,
    /// Who is told: a pool and an endpoint of it each.
    subscribers: Vec<(Arc<Watched>, usize)>,
}

impl Target {
    /// Passes on what a check found; gives the pause before the next one, if there is to be one.
    pub(super) fn tell(&mut self, result: &CheckResult, draw: u64) -> Option<Duration> {
        for (pool, endpoint) in &self.subscribers {
            pool.on_check(*endpoint, result);
        }
        let pauses = self.subscribers.iter().filter_map(|(pool, endpoint)| pool.next_check(*endpoint));
        let pause = pauses.min()?;
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
        let pauses = self.subscribers.iter().filter_map(|(pool, endpoint)| pool.next_check(*endpoint));
        pauses.min()
    }
}

/// Everything that is to be checked.
pub(super) fn all(health: &Health) -> Vec<Target> {
    let mut targets = Targets::default();
    for watched in health.watched().iter() {
        if let Some(check) = &watched.watch().check {
            targets.add(watched, check);
        }
    }
    targets.all
}

#[derive(Default)]
struct Targets {
    all: Vec<Target>,
    known: HashMap<Key, usize>,
    manners: Vec<Manner>,
}

/// What makes two checks one. The first is an index into [`Targets::manners`].
type Key = (usize, Address, Option<ServerName<'static>>);

/// How endpoints are asked, but for where.
struct Manner {
    /// What is asked, and how often.
    identity: String,
    /// The pool's TLS settings.
    pool_tls: Option<Arc<ClientConfig>>,
    /// The same as checks use them.
    tls: Option<Arc<ClientConfig>>,
}

impl Targets {
    fn add(&mut self, watched: &Arc<Watched>, check: &CheckPlan) {
        let endpoints = &watched.watch().pool.endpoints;
        let tls = endpoints.first().and_then(|endpoint| endpoint.dial.tls.as_ref()).filter(|_| check.tls);
        let (manner, tls) = self.manner(check, tls.map(|(config, _)| config));
        let count = u32::try_from(endpoints.len()).unwrap_or(u32::MAX).max(1);
        let apart = (check.rhythm.interval / count).min(FIRST_APART);
        for (index, endpoint) in (0..).zip(endpoints) {
            let address = asked_at(&endpoint.dial.address, check);
            let name = endpoint.dial.tls.as_ref().filter(|_| check.tls).map(|(_, name)| name.clone());
            let known = *self.known.entry((manner, address.clone(), name.clone())).or_insert(self.all.len());
            if known == self.all.len() {
                self.all.push(Target {
                    question: Arc::new(Question {
                        authority: authority(&address, name.as_ref()),
                        dial: Dial { address, tls: tls.clone().zip(name) },
                        check: check.check.clone(),
                        timeout: check.rhythm.timeout,
                    }),
                    first: Duration::MAX,
                    was_checked: false,
                    subscribers: Vec::with_capacity(1),
                });
            }
            if let Some(target) = self.all.get_mut(known) {
                target.first = target.first.min(apart.saturating_mul(index));
                target.subscribers.push((Arc::clone(watched), index as usize));
            }
        }
    }

    /// How `check` asks: its index, and its TLS settings.
    fn manner(
        &mut self,
        check: &CheckPlan,
        tls: Option<&Arc<ClientConfig>>,
    ) -> (usize, Option<Arc<ClientConfig>>) {
        let identity = format!("{} {:?}", check.identity, check.rhythm);
        let same = |manner: &Manner| {
            manner.identity == identity && manner.pool_tls.as_ref().map(Arc::as_ptr) == tls.map(Arc::as_ptr)
        };
        let index = self.manners.iter().position(same).unwrap_or(self.manners.len());
        if index == self.manners.len() {
            let own = tls.map(|config| Arc::new(for_checks(config, &check.check)));
            self.manners.push(Manner { identity, pool_tls: tls.cloned(), tls: own });
        }
        (index, self.manners.get(index).and_then(|manner| manner.tls.clone()))
    }
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
        (_, _, Address::Inet(address)) => address.to_string(),
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
