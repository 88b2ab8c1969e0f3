//! `rate_limit`: how often requests may come: all of a route's together, each client's, or those with
//! the same value of a header field. Who comes too soon gets 429 and is told when to come again. Each
//! limit of a route is asked in its turn; a request that one refuses was counted by those before it.
//! Knows no clock: the context says when a request came.

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use http::header::HOST;
use http::{HeaderName, StatusCode};

use super::{Filter, FilterCx, Kind, Reply, Verdict};
use crate::limit::bucket::{Bucket, MAX_BURST, Quota, Rate, Standing};
use crate::limit::keyed::Keyed;
use crate::model::clients::key_of;
use crate::model::options::{Fault, FromValue, Given, OneOf, Options, Value};
use crate::model::{Fields, Name, RequestHead};

pub(super) const KIND: Kind = Kind {
    name: "rate_limit",
    summary: "refuses with 429 what comes too often",
    parse: |given| RateLimit::parse(given).map(|limit| Box::new(limit) as Box<dyn Filter>),
};

/// One rate limit of a route. Lets everything pass until it is begun.
#[derive(Debug)]
pub struct RateLimit {
    name: Name,
    quota: Quota,
    by: By,
    /// Keys to have room for.
    max_keys: usize,
    mode: Mode,
    /// The value of `RateLimit-Policy`.
    policy: String,
    state: OnceLock<Arc<State>>,
}

/// What is done about requests that come too often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// They are refused.
    Enforce,
    /// They are counted. Clients see nothing of it.
    Observe,
}

/// What a rate limit counts.
#[derive(Debug, Default)]
pub struct RateCounts {
    limited: [AtomicU64; Mode::ALL.len()],
    forgotten: AtomicU64,
}

/// Whose requests share a bucket.
#[derive(Debug, PartialEq)]
enum By {
    Client,
    Route,
    /// By the first value of this field, whose name is in lower case.
    Header(HeaderName),
}

#[derive(Debug)]
struct State {
    /// When the buckets' time begins.
    since: Instant,
    buckets: Buckets,
    counts: Arc<RateCounts>,
}

#[derive(Debug)]
enum Buckets {
    One(Bucket),
    Many(Keyed),
}

impl Filter for RateLimit {
    fn on_request(&self, head: &mut RequestHead, cx: &mut FilterCx<'_>) -> Verdict {
        let Some(state) = self.state.get() else { return Verdict::Continue };
        let standing = self.take(state, &head.fields, cx);
        if !standing.allowed {
            state.counts.add(self.mode);
        }
        if self.mode == Mode::Observe {
            return Verdict::Continue;
        }
        cx.added.append(b"ratelimit-policy", self.policy.as_bytes());
        cx.added.append(b"ratelimit", self.left(&standing).as_bytes());
        if standing.allowed { Verdict::Continue } else { self.refusal(&standing).into() }
    }

    fn rate_limit(&self) -> Option<&RateLimit> {
        Some(self)
    }
}

impl RateLimit {
    /// Its name, which no other limit of the route has.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Limits from `now` on, with nothing counted yet. The `seed` is drawn by chance, so that clients
    /// cannot choose keys that displace each other.
    pub fn begin(&self, now: Instant, seed: u64, counts: Arc<RateCounts>) {
        let buckets = match self.by {
            By::Route => Buckets::One(Bucket::default()),
            By::Client | By::Header(_) => Buckets::Many(Keyed::new(self.max_keys, seed)),
        };
        // Who has begun goes on with what was counted.
        let _ = self.state.set(Arc::new(State { since: now, buckets, counts }));
    }

    /// Whether it has begun, or goes on from another.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.state.get().is_some()
    }

    /// Goes on with what `before` has counted, unless other requests share a bucket here or are let through
    /// at another rate. What is done about those that come too often may be another thing.
    pub fn go_on_from(&self, before: &Self) {
        let alike = self.quota == before.quota && self.by == before.by && self.max_keys == before.max_keys;
        if let (true, Some(state)) = (alike && self.name == before.name, before.state.get()) {
            let _ = self.state.set(Arc::clone(state));
        }
    }

    /// `{ rate = "100/s", burst = 200, by = "client", name = "per-client", max_keys = 100000, mode = "enforce" }`
    fn parse(given: &Given<'_>) -> Option<Self> {
        let options = given.table()?;
        let rate = options.require::<Rate>("rate");
        let burst = match options.given("burst") {
            Some(given) => given.within(1..=MAX_BURST),
            None => rate.map(Rate::usual_burst),
        };
        let by = options.given("by").map_or(Some(By::Client), |given| given.read());
        let name = name(&options, by.as_ref());
        let max_keys = options.within("max_keys", KEYS, DEFAULT_KEYS);
        let mode = options.get_or("mode", Mode::Enforce);
        options.finish();
        let (rate, name) = (rate?, name?);
        let policy = format!("\"{name}\";q={};w={}", rate.count(), rate.per().seconds());
        let quota = Quota::new(rate, burst?);
        Some(Self { name, quota, by: by?, max_keys, mode, policy, state: OnceLock::new() })
    }

    /// Takes a token from the bucket that the request falls to.
    fn take(&self, state: &State, fields: &Fields, cx: &FilterCx<'_>) -> Standing {
        let now = nanos(cx.now.saturating_duration_since(state.since));
        let table = match &state.buckets {
            Buckets::One(bucket) => return bucket.take(&self.quota, now),
            Buckets::Many(table) => table,
        };
        let taken = match &self.by {
            By::Header(name) => {
                let value = fields.get_named(name.as_str().as_bytes()).next();
                table.take(&self.quota, value.unwrap_or_default(), now)
            }
            By::Client | By::Route => table.take(&self.quota, &key_of(cx.client), now),
        };
        if taken.forgot {
            state.counts.forgotten.fetch_add(1, Ordering::Relaxed);
        }
        taken.standing
    }

    /// The value of `RateLimit`: requests that may come at once, and the seconds until as many may as
    /// ever (draft-ietf-httpapi-ratelimit-headers).
    fn left(&self, standing: &Standing) -> String {
        format!("\"{}\";r={};t={}", self.name, standing.remaining, seconds(standing.full))
    }

    fn refusal(&self, standing: &Standing) -> Reply {
        let details = format!("the rate limit {} of the route is exceeded", self.name);
        let mut reply = Reply::refusal(StatusCode::TOO_MANY_REQUESTS, details);
        reply.fields.append(b"retry-after", seconds(standing.next).to_string().as_bytes());
        reply
    }
}

impl Mode {
    /// Every mode.
    pub const ALL: [Self; 2] = [Self::Enforce, Self::Observe];

    /// The word for it, in the configuration and in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Observe => "observe",
        }
    }
}

impl RateCounts {
    /// Requests that were refused, or would have been.
    #[must_use]
    pub fn limited(&self, mode: Mode) -> u64 {
        self.limited.get(mode as usize).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// Keys whose bucket was not full when it was given to another key.
    #[must_use]
    pub fn forgotten(&self) -> u64 {
        self.forgotten.load(Ordering::Relaxed)
    }

    fn add(&self, mode: Mode) {
        if let Some(count) = self.limited.get(mode as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The name that is given, or what the limit goes by.
fn name(options: &Options<'_>, by: Option<&By>) -> Option<Name> {
    if let Some(given) = options.given("name") {
        return given.read();
    }
    let usual = Name::new(match by? {
        By::Client => "client",
        By::Route => "route",
        By::Header(field) => field.as_str(),
    });
    if usual.is_err() {
        let hint = "names are made of up to 64 letters, digits, `_`, `-` and `.`";
        options.fault("the limit needs a `name`, for that of the field is none", Some(hint.into()));
    }
    usual.ok()
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Whole seconds, rounded up.
fn seconds(nanos: u64) -> u64 {
    nanos.div_ceil(1_000_000_000)
}

impl OneOf for Mode {
    const NOUN: &'static str = "mode";
    const WORDS: &'static [(&'static str, Self)] =
        &[(Self::Enforce.name(), Self::Enforce), (Self::Observe.name(), Self::Observe)];
}

impl FromValue for Rate {
    fn from_value(value: &Value) -> Result<Self, Fault> {
        value.text("a rate, such as \"100/s\"")?.parse().map_err(Fault::new)
    }
}

impl FromValue for By {
    fn from_value(value: &Value) -> Result<Self, Fault> {
        const HINT: &str = "write \"client\", \"route\" or \"header:NAME\"";
        let text = value.text("what to limit by").map_err(|fault| fault.hint(HINT))?;
        match (text, text.strip_prefix("header:")) {
            ("client", _) => Ok(Self::Client),
            ("route", _) => Ok(Self::Route),
            (_, Some(name)) => match HeaderName::from_bytes(name.as_bytes()) {
                Ok(HOST) => {
                    Err(Fault::new("`Host` is not among the fields").hint("make a route for each host"))
                }
                Ok(name) => Ok(Self::Header(name)),
                Err(_) => Err(Fault::new(format_args!("{name:?} is not the name of a header field"))),
            },
            _ => Err(Fault::new(format_args!("requests are not limited by {text:?}")).hint(HINT)),
        }
    }
}

const KEYS: RangeInclusive<usize> = 8..=10_000_000;
/// 1.6 MB.
const DEFAULT_KEYS: usize = 100_000;

#[cfg(test)]
mod tests;
