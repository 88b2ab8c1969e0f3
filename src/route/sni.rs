//! Where a TLS connection goes that is not terminated first: by the name that the client asks for and the
//! protocols that it offers. Pure: sees these two and nothing else.
//!
//! Of two rules that take a connection, an exact name comes before a longer `*.wildcard`, that before a
//! shorter one, and that before a rule for any name; of rules for the same name one that asks for
//! protocols comes before one that does not, then the place in the file decides. As with routes,
//! `*.example.com` takes hosts at any depth below, and a rule whose protocols do not fit leaves the
//! connection to the next.

use std::cmp::Reverse;
use std::collections::HashMap;

use super::HostMatch;
use crate::model::options::{Fault, FromValue, Value};

/// Which connections a rule takes. What is empty takes all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SniRule {
    /// The names, any of which will do.
    pub names: Vec<HostMatch>,
    /// The protocols, any of which will do; the client's other offers do not matter.
    pub alpn: Vec<Protocol>,
}

/// An application protocol's id (RFC 7301 §6), 1 to 255 bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Protocol(Box<str>);

impl Protocol {
    /// As it goes over the wire.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl FromValue for Protocol {
    fn from_value(value: &Value) -> Result<Self, Fault> {
        let text = value.text("the id of a protocol such as \"h2\" or \"postgresql\"")?;
        match text.len() {
            1..=255 => Ok(Self(text.into())),
            len => Err(Fault::new(format_args!("the id of a protocol has 1 to 255 bytes, this has {len}"))),
        }
    }
}

/// The rules of one listener and what each leads to.
#[derive(Debug, PartialEq)]
pub struct SniTable<T> {
    targets: Vec<T>,
    exact: HashMap<Box<str>, Vec<Candidate>>,
    /// By what comes after `*.`.
    below: HashMap<Box<str>, Vec<Candidate>>,
    any: Vec<Candidate>,
}

/// What remains of a rule once the name is known to match.
#[derive(Debug, PartialEq)]
struct Candidate {
    alpn: Vec<Protocol>,
    target: usize,
}

impl<T> SniTable<T> {
    /// A table of rules with what each leads to, in the order of the file.
    #[must_use]
    pub fn new(rules: Vec<(SniRule, T)>) -> Self {
        let (mut exact, mut below) = (HashMap::<_, Vec<_>>::new(), HashMap::<_, Vec<_>>::new());
        let (mut any, mut targets) = (Vec::new(), Vec::new());
        for (target, (rule, leads_to)) in rules.into_iter().enumerate() {
            targets.push(leads_to);
            let candidate = || Candidate { alpn: rule.alpn.clone(), target };
            for name in &rule.names {
                match name {
                    HostMatch::Exact(name) => {
                        exact.entry(name.as_str().into()).or_default().push(candidate())
                    }
                    HostMatch::Below(suffix) => {
                        below.entry(suffix.as_str().into()).or_default().push(candidate());
                    }
                }
            }
            if rule.names.is_empty() {
                any.push(candidate());
            }
        }
        for alike in exact.values_mut().chain(below.values_mut()).chain([&mut any]) {
            // Stable: the order of the file among those that are as specific.
            alike.sort_by_key(|candidate| Reverse(!candidate.alpn.is_empty()));
        }
        Self { targets, exact, below, any }
    }

    /// What the rules lead to, in the order of the file.
    #[must_use]
    pub fn targets(&self) -> &[T] {
        &self.targets
    }

    /// What the most specific rule leads to that takes a connection for `name`, in lower case and without
    /// the dot of the root, whose client offers a protocol if `offers` says so of it.
    #[must_use]
    pub fn find(&self, name: Option<&str>, offers: impl Fn(&[u8]) -> bool) -> Option<&T> {
        let among = |alike: &Vec<Candidate>| {
            let fits = |protocol: &Protocol| offers(protocol.as_bytes());
            alike
                .iter()
                .find(|candidate| candidate.alpn.is_empty() || candidate.alpn.iter().any(fits))
                .map(|candidate| candidate.target)
        };
        let name = name.unwrap_or_default();
        let suffixes = || memchr::memchr_iter(b'.', name.as_bytes()).filter_map(|dot| name.get(dot + 1..));
        let target = self
            .exact
            .get(name)
            .and_then(among)
            .or_else(|| suffixes().filter_map(|suffix| self.below.get(suffix)).find_map(among))
            .or_else(|| among(&self.any))?;
        self.targets.get(target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(names: &[&str], alpn: &[&str]) -> SniRule {
        let alpn = alpn.iter().map(|id| Protocol((*id).into())).collect();
        SniRule { names: names.iter().map(|name| name.parse().unwrap()).collect(), alpn }
    }

    fn table() -> SniTable<&'static str> {
        SniTable::new(vec![
            (rule(&["*.example.com"], &[]), "below"),
            (rule(&["db.example.com"], &["postgresql"]), "postgresql"),
            (rule(&["db.example.com"], &[]), "db"),
            (rule(&["*.eu.example.com", "other.example"], &[]), "eu"),
            (rule(&[], &["acme-tls/1"]), "acme"),
            (rule(&["late.example.com"], &[]), "any of late"),
            (rule(&["late.example.com"], &["h2", "h3"]), "late h2"),
            (rule(&["only.example.com"], &["h2"]), "only h2"),
        ])
    }

    #[test]
    fn the_most_specific_rule_that_fits_is_taken() {
        let table = table();
        for (name, offered, expected) in [
            ("db.example.com", &[][..], Some("db")),
            ("db.example.com", &["h2", "postgresql"], Some("postgresql")),
            ("a.example.com", &[], Some("below")),
            ("a.b.example.com", &[], Some("below")),
            ("a.eu.example.com", &[], Some("eu")),
            ("eu.example.com", &[], Some("below")),
            ("example.com", &[], None),
            ("notexample.com", &[], None),
            ("other.example", &[], Some("eu")),
            ("late.example.com", &["h3"], Some("late h2")),
            ("late.example.com", &["h1"], Some("any of late")),
            ("only.example.com", &["h2"], Some("only h2")),
            ("only.example.com", &["h1"], Some("below")),
            ("example.com", &["acme-tls/1"], Some("acme")),
            ("db.example.com", &["acme-tls/1"], Some("db")),
        ] {
            let found = table.find(Some(name), |id| offered.iter().any(|offered| offered.as_bytes() == id));
            assert_eq!(found.copied(), expected, "{name} {offered:?}");
        }
    }

    #[test]
    fn without_a_name_only_rules_for_any_name_fit() {
        assert_eq!(table().find(None, |_| false), None);
        assert_eq!(table().find(None, |id| id == b"acme-tls/1"), Some(&"acme"));
        assert_eq!(table().find(None, |id| id == b"postgresql"), None);
    }
}
