//! How a pool chooses among its endpoints: the policy and what it hashes, and what happens when too
//! few endpoints are available.

use std::ops::RangeInclusive;

use http::HeaderName;

use crate::balance::{self, Choice, FailOpen, HashKey};
use crate::model::cookie;
use crate::model::options::{Data, Fault, FromValue, OneOf, Options, Value, backticked};
use crate::model::units::Share;

/// How an endpoint is chosen.
pub(super) struct Balance {
    pub(super) policy: Choice,
    pub(super) hash_key: HashKey,
    pub(super) factor: Option<f64>,
}

/// Reads the policy and what belongs to it.
pub(super) fn balance(options: &Options<'_>) -> Balance {
    let given = options.given("policy");
    let policy = given.as_ref().map_or(Some(Choice::default()), |given| given.read());
    let hash_key = options.get_or("hash_key", HashKey::default());
    let factor = options.get::<Factor>("balance_factor").map(|factor| factor.0);
    // A policy that cannot be read may have been meant to hash.
    let policy = policy.inspect(|policy| {
        if !policy.hashes() {
            refuse(options, "hash_key", *policy);
            refuse(options, "balance_factor", *policy);
        }
    });
    Balance { policy: policy.unwrap_or_default(), hash_key, factor }
}

/// Reports a key that only policies that hash know.
fn refuse(options: &Options<'_>, key: &'static str, policy: Choice) {
    if options.given(key).is_some() {
        let hashing: Vec<_> = balance::KINDS.iter().filter(|k| k.hashes).map(|k| k.name).collect();
        let hint = format!("leave it out, or take a policy that hashes: {}", backticked(&hashing));
        let fault = format!("`{key}` means nothing to the policy `{}`, which does not hash", policy.name());
        options.problem(key, fault, Some(hint));
    }
}

/// Reads what to do when too few endpoints are available.
pub(super) fn fail_open(options: &Options<'_>) -> FailOpen {
    let default = FailOpen::default();
    let action =
        options.get_or("fail_open", if default.try_all { Desperate::TryAll } else { Desperate::Fail });
    FailOpen {
        below: options.get::<Share>("fail_open_below").map_or(default.below, Share::fraction),
        try_all: action == Desperate::TryAll,
    }
}

/// What is done when too few endpoints are available.
#[derive(Clone, Copy, PartialEq)]
enum Desperate {
    TryAll,
    Fail,
}

impl OneOf for Desperate {
    const NOUN: &'static str = "fail-open mode";
    const WORDS: &'static [(&'static str, Self)] = &[("try_all", Self::TryAll), ("fail", Self::Fail)];
}

impl FromValue for Choice {
    fn from_value(value: &Value) -> Result<Self, Fault> {
        let text = value.text("the name of a policy")?;
        let known: Vec<_> = balance::KINDS.iter().map(|kind| kind.name).collect();
        Self::named(text).ok_or_else(|| Fault::unknown("policy", text, &known))
    }
}

impl FromValue for HashKey {
    fn from_value(value: &Value) -> Result<Self, Fault> {
        let text = value.text("what to hash, such as \"client\" or \"header:x-user\"")?;
        let Some((from, name)) = text.split_once(':') else {
            return match text {
                "client" => Ok(Self::Client),
                "source" => Ok(Self::Source),
                "path" => Ok(Self::Path),
                "header" | "cookie" | "query" => {
                    Err(Fault::new(format_args!("`{text}` needs a name"))
                        .hint(format!("write \"{text}:NAME\"")))
                }
                _ => Err(Fault::unknown("hash key", text, &HASH_KEYS)),
            };
        };
        let fits = match from {
            "header" => HeaderName::from_bytes(name.as_bytes()).is_ok(),
            "cookie" => cookie::is_name(name),
            "query" => !name.is_empty() && !name.contains(['&', '=', '#', ' ']),
            _ => return Err(Fault::unknown("hash key", text, &HASH_KEYS)),
        };
        match from {
            _ if !fits => Err(Fault::new(format_args!("{name:?} cannot be the name of a {}", noun(from)))),
            "header" => Ok(Self::Header(name.to_ascii_lowercase())),
            "cookie" => Ok(Self::Cookie(name.to_owned())),
            _ => Ok(Self::Query(name.to_owned())),
        }
    }
}

fn noun(from: &str) -> &'static str {
    match from {
        "header" => "header field",
        "cookie" => "cookie",
        _ => "query parameter",
    }
}

/// A multiple of an endpoint's fair share.
pub(super) struct Factor(pub(super) f64);

impl FromValue for Factor {
    fn from_value(value: &Value) -> Result<Self, Fault> {
        let wanted = "a multiple of the fair share such as \"125%\" or 1.25";
        let factor = match &value.data {
            Data::Integer(number) => *number as f64,
            Data::Float(number) => *number,
            Data::String(text) => match text.strip_suffix('%') {
                Some(number) => {
                    percent(number).ok_or_else(|| Fault::new(format_args!("{text:?} is not {wanted}")))?
                }
                None if value.expanded => {
                    text.trim().parse().map_err(|_| Fault::new(format_args!("{text:?} is not {wanted}")))?
                }
                None => {
                    let fault = Fault::new(format_args!("{text:?} is not {wanted}"));
                    return Err(fault.hint("write percentages in quotes, and plain numbers without"));
                }
            },
            _ => return Err(Fault::kind(wanted, value)),
        };
        if !FACTOR.contains(&factor) {
            let (least, most) = (FACTOR.start() * 100.0, FACTOR.end() * 100.0);
            let fault = format!("{}% is not from {least}% to {most}%", factor * 100.0);
            return Err(
                Fault::new(fault).hint("100% is the fair share itself, 125% leaves a quarter more room")
            );
        }
        Ok(Self(factor))
    }
}

fn percent(number: &str) -> Option<f64> {
    let plain = number.chars().all(|c| c.is_ascii_digit() || c == '.');
    number.parse::<f64>().ok().filter(|_| plain).map(|percent| percent / 100.0)
}

const HASH_KEYS: [&str; 6] = ["client", "source", "path", "header:NAME", "cookie:NAME", "query:NAME"];
const FACTOR: RangeInclusive<f64> = 1.0..=100.0;
