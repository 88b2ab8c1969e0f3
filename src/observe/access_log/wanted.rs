//! Which requests somebody who follows a log wants to see. Pure: the same questions are put to requests
//! that are over and to lines of a file.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use thiserror::Error;

use super::record::Record;

/// What is wanted. What is unset does not matter.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wanted {
    /// The status.
    pub status: Option<StatusRange>,
    /// The listener.
    pub listener: Option<String>,
    /// The route.
    pub route: Option<String>,
    /// The pool.
    pub pool: Option<String>,
    /// The endpoint that answered or failed last.
    pub endpoint: Option<String>,
    /// The client.
    pub client: Option<Client>,
    /// How long it took at least.
    pub slower_than: Option<Duration>,
}

/// What is asked of a request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts<'a> {
    /// The status.
    pub status: u16,
    /// The listener.
    pub listener: Option<&'a str>,
    /// The route, when one matched.
    pub route: Option<&'a str>,
    /// The pool, when the route led to one.
    pub pool: Option<&'a str>,
    /// The endpoint that answered or failed last.
    pub endpoint: Option<&'a str>,
    /// The client.
    pub client: Option<IpAddr>,
    /// How long it took, where that is known.
    pub duration: Option<Duration>,
}

/// Statuses from the first to the last, written `5xx`, `404` or `400-499`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusRange(u16, u16);

/// An address or a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client(IpNet);

/// Why a text is not what was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BadWanted {
    /// No statuses.
    #[error("{0:?} is no status, such as 404, 5xx or 400-499")]
    Status(String),
    /// No client.
    #[error("{0:?} is no address or network, such as 10.0.0.7 or 10.0.0.0/8")]
    Client(String),
}

impl Wanted {
    /// Whether a request is wanted.
    #[must_use]
    pub fn takes(&self, facts: &Facts<'_>) -> bool {
        let same = |wanted: &Option<String>, there: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| there == Some(wanted))
        };
        self.status.is_none_or(|range| range.has(facts.status))
            && same(&self.listener, facts.listener)
            && same(&self.route, facts.route)
            && same(&self.pool, facts.pool)
            && same(&self.endpoint, facts.endpoint)
            && self.client.is_none_or(|wanted| facts.client.is_some_and(|client| wanted.has(client)))
            && self.slower_than.is_none_or(|least| facts.duration.is_some_and(|took| took >= least))
    }
}

impl StatusRange {
    fn has(self, status: u16) -> bool {
        (self.0..=self.1).contains(&status)
    }
}

impl Client {
    fn has(self, client: IpAddr) -> bool {
        self.0.contains(&client)
    }
}

impl<'a> From<&Record<'a>> for Facts<'a> {
    fn from(record: &Record<'a>) -> Self {
        Self {
            status: record.status,
            listener: Some(record.listener),
            route: record.route,
            pool: record.pool,
            endpoint: record.endpoint,
            client: record.client,
            duration: Some(record.duration),
        }
    }
}

impl FromStr for StatusRange {
    type Err = BadWanted;

    fn from_str(text: &str) -> Result<Self, BadWanted> {
        let bad = || BadWanted::Status(text.to_owned());
        let number = |text: &str| {
            let number = text.parse::<u16>().ok().filter(|_| text.len() == 3)?;
            (100..=599).contains(&number).then_some(number)
        };
        if let Some(class) = text.strip_suffix("xx") {
            let class = class.parse::<u16>().ok().filter(|class| (1..=5).contains(class)).ok_or_else(bad)?;
            return Ok(Self(class * 100, class * 100 + 99));
        }
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = number(first).zip(number(last)).ok_or_else(bad)?;
        if first > last { Err(bad()) } else { Ok(Self(first, last)) }
    }
}

impl fmt::Display for StatusRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0, self.1)
    }
}

impl FromStr for Client {
    type Err = BadWanted;

    fn from_str(text: &str) -> Result<Self, BadWanted> {
        let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        network.map(Self).map_err(|_| BadWanted::Client(text.to_owned()))
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_read_and_shown() {
        for (text, range) in [("404", (404, 404)), ("5xx", (500, 599)), ("400-499", (400, 499))] {
            let read: StatusRange = text.parse().unwrap();
            assert_eq!((read.0, read.1), range);
            assert_eq!(read.to_string().parse(), Ok(read));
        }
        for text in ["", "xx", "6xx", "0xx", "40", "4044", "500-400", "4xx-5xx", "-404", "600"] {
            assert!(text.parse::<StatusRange>().is_err(), "{text}");
        }
    }

    #[test]
    fn every_question_has_to_be_answered_with_yes() {
        let client = "10.1.2.3".parse().ok();
        let facts = Facts {
            status: 502,
            listener: Some("web"),
            route: Some("api"),
            pool: Some("app"),
            endpoint: Some("a:1"),
            client,
            duration: Some(Duration::from_millis(20)),
        };
        let set = |set: fn(&mut Wanted)| {
            let mut wanted = Wanted::default();
            set(&mut wanted);
            wanted
        };
        for (wanted, takes) in [
            (Wanted::default(), true),
            (set(|w| w.status = "5xx".parse().ok()), true),
            (set(|w| w.status = "404".parse().ok()), false),
            (set(|w| w.listener = Some("edge".into())), false),
            (set(|w| w.route = Some("api".into())), true),
            (set(|w| w.pool = Some("api".into())), false),
            (set(|w| w.endpoint = Some("a:1".into())), true),
            (set(|w| w.client = "10.0.0.0/8".parse().ok()), true),
            (set(|w| w.client = "10.1.2.4".parse().ok()), false),
            (set(|w| w.slower_than = Some(Duration::from_millis(20))), true),
            (set(|w| w.slower_than = Some(Duration::from_millis(21))), false),
        ] {
            assert_eq!(wanted.takes(&facts), takes, "{wanted:?}");
        }
        assert!(!set(|w| w.route = Some("api".into())).takes(&Facts::default()));
        assert!("10.0.0.0/40".parse::<Client>().is_err());
    }
}
