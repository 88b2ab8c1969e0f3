//! Which values fit which types, and what to say when they do not. One `impl` per type.

use std::fmt;
use std::net::IpAddr;
use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, StatusCode};
use ipnet::IpNet;

use super::{Data, Value, backticked, suggest};
use crate::model::units::{self, ByteSize, Share};
use crate::model::{Address, Name, Target};

/// A type that options can be read as.
pub trait FromValue: Sized {
    /// Takes `value` as a `Self`.
    ///
    /// # Errors
    /// When it is of another kind, out of range or malformed.
    fn from_value(value: &Value) -> Result<Self, Fault>;
}

/// A type with an order, whose values may be bounded.
pub trait Bounded: FromValue + PartialOrd {
    /// The value as it would be written.
    fn show(&self) -> String;
}

/// A closed set of words.
pub trait OneOf: Copy + 'static {
    /// What the words are, in the singular, as in `"log format"`.
    const NOUN: &'static str;
    /// Every word with its meaning.
    const WORDS: &'static [(&'static str, Self)];
}

/// Why a value does not fit; the reader adds the place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What is wrong: lower case, no full stop.
    pub text: String,
    /// What would be right.
    pub hint: Option<String>,
}

impl Fault {
    /// A fault without hint.
    pub fn new(text: impl fmt::Display) -> Self {
        Self { text: text.to_string(), hint: None }
    }

    /// The same with a hint.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// `value` is of the wrong kind; `wanted` as in `"a whole number"`.
    #[must_use]
    pub fn kind(wanted: &str, value: &Value) -> Self {
        Self::new(format_args!("expected {wanted}, found {}", value.kind()))
    }

    /// `word` is none of `known`; `noun` says what it should be.
    #[must_use]
    pub fn unknown(noun: &str, word: &str, known: &[&str]) -> Self {
        let hint = match suggest(word, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None if known.is_empty() => format!("there is no {noun} at all"),
            None => format!("known: {}", backticked(known)),
        };
        Self::new(format_args!("there is no {noun} `{word}`")).hint(hint)
    }
}

impl Value {
    /// The string; what was `wanted` is named when it is something else.
    ///
    /// # Errors
    /// When it is no string.
    pub fn text(&self, wanted: &str) -> Result<&str, Fault> {
        match &self.data {
            Data::String(text) => Ok(text),
            _ => Err(Fault::kind(wanted, self)),
        }
    }

    /// The whole number, also out of the environment.
    fn integer(&self) -> Result<i64, Fault> {
        match &self.data {
            Data::Integer(number) => Ok(*number),
            Data::String(text) if self.expanded => {
                text.trim().parse().map_err(|_| Fault::new(format_args!("{text:?} is not a whole number")))
            }
            Data::String(text) if text.parse::<i64>().is_ok() => {
                Err(Fault::kind("a whole number", self).hint("write it without quotes"))
            }
            _ => Err(Fault::kind("a whole number", self)),
        }
    }
}

impl<T: OneOf> FromValue for T {
    fn from_value(value: &Value) -> Result<Self, Fault> {
        let words: Vec<_> = T::WORDS.iter().map(|(word, _)| *word).collect();
        let Data::String(text) = &value.data else {
            let hint = format!("one of {}", backticked(&words));
            let article = if T::NOUN.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
            return Err(Fault::kind(&format!("{article} {}", T::NOUN), value).hint(hint));
        };
        let found = T::WORDS.iter().find(|(word, _)| word == text).map(|(_, meaning)| *meaning);
        found.ok_or_else(|| Fault::unknown(T::NOUN, text, &words))
    }
}

impl FromValue for bool {
    fn from_value(value: &Value) -> Result<Self, Fault> {
        match &value.data {
            Data::Boolean(flag) => Ok(*flag),
            Data::String(text) if value.expanded => {
                text.trim().parse().map_err(|_| Fault::new(format_args!("{text:?} is not `true` or `false`")))
            }
            _ => Err(Fault::kind("`true` or `false`", value)),
        }
    }
}

impl FromValue for String {
    fn from_value(value: &Value) -> Result<Self, Fault> {
        value.text("a string").map(str::to_owned)
    }
}

impl FromValue for Name {
    fn from_value(value: &Value) -> Result<Self, Fault> {
        Self::new(value.text("a name")?).map_err(Fault::new)
    }
}

impl FromValue for Address {
    fn from_value(value: &Value) -> Result<Self, Fault> {
        value.text("an address such as \"127.0.0.1:8080\"")?.parse().map_err(Fault::new)
    }
}

impl FromValue for Target {
    fn from_value(value: &Value) -> Result<Self, Fault> {
        value.text("an address such as \"127.0.0.1:8080\" or \"app:8080\"")?.parse().map_err(Fault::new)
    }
}

impl FromValue for IpAddr {
    fn from_value(value: &Value) -> Result<Self, Fault> {
        let text = value.text("an IP address such as \"10.0.0.5\"")?;
        text.parse().map_err(|_| Fault::new(format_args!("{text:?} is not an IP address")))
    }
}

impl FromValue for IpNet {
    fn from_value(value: &Value) -> Result<Self, Fault> {
        let text = value.text("a network such as \"10.0.0.0/8\"")?;
        if let Ok(address) = text.parse() {
            return Ok(Self::new_assert(address, if matches!(address, IpAddr::V4(_)) { 32 } else { 128 }));
        }
        let net: Self = text.parse().map_err(|_| {
            Fault::new(format_args!("{text:?} is not a network"))
                .hint("write it as \"10.0.0.0/8\" or \"fd00::/8\"")
        })?;
        if net.trunc() == net {
            return Ok(net);
        }
        Err(Fault::new(format_args!("{text} has bits beyond its prefix")).hint(format!(
            "write \"{}\", or \"{}\" for the one address",
            net.trunc(),
            net.addr()
        )))
    }
}

impl FromValue for Duration {
    fn from_value(value: &Value) -> Result<Self, Fault> {
        if let Data::Integer(number) = value.data {
            return Err(
                Fault::new("a duration needs a unit").hint(format!("write \"{number}s\" or \"{number}ms\""))
            );
        }
        units::duration(value.text("a duration such as \"5s\"")?).map_err(Fault::new)
    }
}

impl FromValue for ByteSize {
    fn from_value(value: &Value) -> Result<Self, Fault> {
        if let Data::Integer(number) = value.data {
            let bytes = Self(number.unsigned_abs());
            return Err(
                Fault::new("a size needs a unit").hint(format!("write \"{bytes}\" for so many bytes"))
            );
        }
        value.text("a size such as \"64KiB\"")?.parse().map_err(Fault::new)
    }
}

impl FromValue for Share {
    fn from_value(value: &Value) -> Result<Self, Fault> {
        value.text("a share such as \"20%\"")?.parse().map_err(Fault::new)
    }
}

impl FromValue for StatusCode {
    fn from_value(value: &Value) -> Result<Self, Fault> {
        let number = value.integer()?;
        let fitting = u16::try_from(number).ok().filter(|code| (100..=599).contains(code));
        fitting
            .and_then(|code| Self::from_u16(code).ok())
            .ok_or_else(|| Fault::new(format_args!("{number} is not a status (100 to 599)")))
    }
}

impl FromValue for Method {
    fn from_value(value: &Value) -> Result<Self, Fault> {
        let text = value.text("a method such as \"GET\"")?;
        let upper = text.to_ascii_uppercase();
        let method = Self::from_bytes(text.as_bytes())
            .map_err(|_| Fault::new(format_args!("{text:?} is not a method")))?;
        if text != upper && METHODS.contains(&upper.as_str()) {
            return Err(Fault::new(format_args!("{text:?} is not a method: methods tell case apart"))
                .hint(format!("write \"{upper}\"")));
        }
        Ok(method)
    }
}

impl FromValue for HeaderName {
    fn from_value(value: &Value) -> Result<Self, Fault> {
        let text = value.text("the name of a header field")?;
        Self::from_bytes(text.as_bytes())
            .map_err(|_| Fault::new(format_args!("{text:?} cannot be the name of a header field")))
    }
}

impl FromValue for HeaderValue {
    fn from_value(value: &Value) -> Result<Self, Fault> {
        let text = value.text("the value of a header field")?;
        Self::from_bytes(text.as_bytes())
            .map_err(|_| Fault::new(format_args!("{text:?} cannot be the value of a header field")))
    }
}

/// Whole numbers: each type with its range, which is all that can be wrong with one.
macro_rules! whole_numbers {
    ($($number:ty),+) => {$(
        impl FromValue for $number {
            fn from_value(value: &Value) -> Result<Self, Fault> {
                let number = value.integer()?;
                Self::try_from(number).map_err(|_| match number {
                    ..0 => Fault::new(format_args!("{number} is negative")),
                    _ => Fault::new(format_args!("{number} is greater than {}", Self::MAX)),
                })
            }
        }

        impl Bounded for $number {
            fn show(&self) -> String {
                self.to_string()
            }
        }
    )+};
}

whole_numbers!(u16, u32, u64, usize);

macro_rules! positive_numbers {
    ($($number:ty: $plain:ty),+) => {$(
        impl FromValue for $number {
            fn from_value(value: &Value) -> Result<Self, Fault> {
                let number = <$plain>::from_value(value)?;
                Self::new(number).ok_or_else(|| Fault::new("this must be at least 1"))
            }
        }
    )+};
}

positive_numbers!(NonZeroU32: u32, NonZeroU64: u64, NonZeroUsize: usize);

impl Bounded for Duration {
    fn show(&self) -> String {
        units::show(*self)
    }
}

impl Bounded for ByteSize {
    fn show(&self) -> String {
        self.to_string()
    }
}

const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT"];
