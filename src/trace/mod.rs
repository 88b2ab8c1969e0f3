//! Words of distributed tracing: which trace, which span of it, and what a span says. Pure: no clock, no
//! dice; who carries spans away is elsewhere.

use std::borrow::Cow;
use std::fmt;
use std::num::{NonZeroU64, NonZeroU128};
use std::sync::Arc;

use crate::model::Name;

pub mod b3;
mod context;
mod hex;
pub mod sensitive;
pub mod w3c;

pub use context::{Incoming, Outgoing, is_among, read, take_state, write};

/// A trace (W3C Trace Context §3.2.2.3): all that follows from one request, wherever it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceId(pub NonZeroU128);

/// A part of a trace that has a beginning and an end (W3C Trace Context §3.2.2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SpanId(pub NonZeroU64);

/// A span that is over, as it is exported.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// Its trace.
    pub trace: TraceId,
    /// Itself.
    pub id: SpanId,
    /// What it is a part of; `None` for the first of a trace.
    pub parent: Option<SpanId>,
    /// What systems that took part before say of the trace, as it came.
    pub state: Option<Arc<str>>,
    /// Whose side it tells of.
    pub kind: Kind,
    /// What happened, of few different texts, such as `GET orders`.
    pub name: Cow<'static, str>,
    /// When it began, in nanoseconds since 1970.
    pub start: u64,
    /// When it ended, in nanoseconds since 1970.
    pub end: u64,
    /// Whether it failed, and how.
    pub failed: Option<Cow<'static, str>>,
    /// What else there is to say, by the names of OpenTelemetry's semantic conventions.
    pub attributes: Vec<(&'static str, Value)>,
    /// Moments within it.
    pub events: Vec<Event>,
}

/// A moment within a span.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// What happened.
    pub name: Cow<'static, str>,
    /// When, in nanoseconds since 1970.
    pub at: u64,
    /// What else there is to say.
    pub attributes: Vec<(&'static str, Value)>,
}

/// Whose side a span tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Of who was asked.
    Server,
    /// Of who asks.
    Client,
    /// Of neither.
    Internal,
}

/// What an attribute says.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A text.
    Text(Cow<'static, str>),
    /// The name of something configured.
    Name(Name),
    /// A whole number.
    Int(i64),
    /// A number.
    Float(f64),
    /// Yes or no.
    Bool(bool),
}

impl TraceId {
    /// A new one, of two random numbers.
    #[must_use]
    pub fn of(high: u64, low: u64) -> Self {
        // One of 2^128 is zero, which is none.
        Self(NonZeroU128::new(u128::from(high) << 64 | u128::from(low)).unwrap_or(NonZeroU128::MIN))
    }

    /// The id as it is written.
    #[must_use]
    pub fn digits(self) -> [u8; 32] {
        hex::digits(self.0.get())
    }
}

impl SpanId {
    /// A new one, of a random number.
    #[must_use]
    pub fn of(draw: u64) -> Self {
        Self(NonZeroU64::new(draw).unwrap_or(NonZeroU64::MIN))
    }

    /// The id as it is written.
    #[must_use]
    pub fn digits(self) -> [u8; 16] {
        hex::digits(self.0.get().into())
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_written_in_full() {
        assert_eq!(TraceId(NonZeroU128::new(0xab).unwrap()).to_string(), "000000000000000000000000000000ab");
        assert_eq!(SpanId(NonZeroU64::MAX).to_string(), "ffffffffffffffff");
    }
}
