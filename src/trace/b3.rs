//! The words of B3, which Zipkin and its kin speak (<https://github.com/openzipkin/b3-propagation>): all in
//! one field, or in one field for each part. What breaks the rules counts as absent.

use std::num::{NonZeroU64, NonZeroU128};

use super::hex::hex;
use super::{Incoming, SpanId, TraceId};
use crate::model::Fields;

/// What the field `b3` says: `trace-span`, `trace-span-decision`, `trace-span-decision-parent`, or a
/// decision alone.
#[must_use]
pub fn single(value: &[u8]) -> Option<Incoming> {
    let value = value.trim_ascii();
    if value.len() == 1 {
        let (sampled, debug) = decision(value)?;
        return Some(Incoming { ids: None, sampled, debug });
    }
    let mut parts = value.split(|byte| *byte == b'-');
    let ids = ids(parts.next()?, parts.next()?)?;
    let (sampled, debug) = parts.next().map_or(Some((None, false)), decision)?;
    if parts.next().is_some_and(|parent| parent.len() != 16 || id(parent).is_none()) || parts.next().is_some()
    {
        return None;
    }
    Some(Incoming { ids: Some(ids), sampled, debug })
}

/// What the fields `X-B3-…` say.
#[must_use]
pub fn multi(fields: &Fields) -> Option<Incoming> {
    let get = |name: &'static str| fields.get_named(name.as_bytes()).next().map(<[u8]>::trim_ascii);
    let debug = get(FLAGS) == Some(b"1");
    let sampled = match get(SAMPLED) {
        _ if debug => Some(true),
        Some(b"1" | b"true" | b"True") => Some(true),
        Some(b"0" | b"false" | b"False") => Some(false),
        Some(_) => return None,
        None => None,
    };
    let ids = match (get(TRACE), get(SPAN)) {
        (None, None) if sampled.is_none() => return None,
        (None, None) => None,
        (trace, span) => Some(ids(trace?, span?)?),
    };
    Some(Incoming { ids, sampled, debug })
}

/// The field `b3` of what `span` asks for.
#[must_use]
pub fn write_single((trace, span): (TraceId, SpanId), decision: Decision) -> [u8; SINGLE] {
    let mut value = [b'-'; SINGLE];
    value[..32].copy_from_slice(&trace.digits());
    value[33..49].copy_from_slice(&span.digits());
    value[SINGLE - 1] = decision.letter();
    value
}

/// The fields `X-B3-…` of what `span` asks for, in place of those that are there.
pub fn write_multi(fields: &mut Fields, (trace, span): (TraceId, SpanId), decision: Decision) {
    remove_multi(fields);
    fields.append(TRACE.as_bytes(), &trace.digits());
    fields.append(SPAN.as_bytes(), &span.digits());
    match decision {
        Decision::Debug => fields.append(FLAGS.as_bytes(), b"1"),
        other => fields.append(SAMPLED.as_bytes(), &[other.letter()]),
    }
}

/// Removes the fields `X-B3-…`.
pub fn remove_multi(fields: &mut Fields) {
    for name in [TRACE, SPAN, PARENT, SAMPLED, FLAGS] {
        fields.remove(name.as_bytes());
    }
}

/// What is decided of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is not kept.
    Deny,
    /// It is kept.
    Accept,
    /// It is kept whatever others think.
    Debug,
}

impl Decision {
    const fn letter(self) -> u8 {
        match self {
            Self::Deny => b'0',
            Self::Accept => b'1',
            Self::Debug => b'd',
        }
    }
}

fn decision(text: &[u8]) -> Option<(Option<bool>, bool)> {
    match text {
        b"0" => Some((Some(false), false)),
        b"1" => Some((Some(true), false)),
        b"d" => Some((Some(true), true)),
        _ => None,
    }
}

/// Ids of traces have 32 digits or, of old, 16.
fn ids(trace: &[u8], span: &[u8]) -> Option<(TraceId, SpanId)> {
    if !matches!(trace.len(), 16 | 32) || span.len() != 16 {
        return None;
    }
    let trace = NonZeroU128::new(hex(&trace.to_ascii_lowercase())?)?;
    Some((TraceId(trace), SpanId(id(span)?)))
}

fn id(text: &[u8]) -> Option<NonZeroU64> {
    NonZeroU64::new(hex(&text.to_ascii_lowercase())?)
}

/// Characters of `b3` as it is written.
pub const SINGLE: usize = 32 + 1 + 16 + 1 + 1;
const TRACE: &str = "x-b3-traceid";
const SPAN: &str = "x-b3-spanid";
const PARENT: &str = "x-b3-parentspanid";
const SAMPLED: &str = "x-b3-sampled";
const FLAGS: &str = "x-b3-flags";

#[cfg(test)]
mod tests {
    use super::*;

    const IDS: &str = "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1";

    fn fields(pairs: &[(&str, &str)]) -> Fields {
        let mut fields = Fields::default();
        pairs.iter().for_each(|(name, value)| fields.append(name.as_bytes(), value.as_bytes()));
        fields
    }

    #[test]
    fn one_field_says_all() {
        for (text, sampled, debug) in [
            (IDS.to_owned(), None, false),
            (format!("{IDS}-1"), Some(true), false),
            (format!("{IDS}-0"), Some(false), false),
            (format!("{IDS}-d-05e3ac9a4f6e3b90"), Some(true), true),
            ("a3ce929d0e0e4736-E457B5A2E4D86BD1-1".to_owned(), Some(true), false),
        ] {
            let read = single(text.as_bytes()).expect(&text);
            assert!(read.ids.is_some(), "{text}");
            assert_eq!((read.sampled, read.debug), (sampled, debug), "{text}");
        }
        assert_eq!(single(b"0"), Some(Incoming { ids: None, sampled: Some(false), debug: false }));
        assert_eq!(single(b"d"), Some(Incoming { ids: None, sampled: Some(true), debug: true }));
    }

    #[test]
    fn everything_else_is_absent() {
        for text in [
            "",
            "2",
            "-",
            "80f198ee56343ba864fe8b2a57d3eff7",
            "80f198ee56343ba864fe8b2a57d3eff-e457b5a2e4d86bd1-1",
            "00000000000000000000000000000000-e457b5a2e4d86bd1-1",
            "80f198ee56343ba864fe8b2a57d3eff7-0000000000000000-1",
            "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-",
            "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-2",
            "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1-",
            "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1-05e3ac9a4f6e3b90-x",
            "80f198ee56343ba864fe8b2a57d3efg7-e457b5a2e4d86bd1-1",
        ] {
            assert_eq!(single(text.as_bytes()), None, "{text:?}");
        }
        let ids = [("X-B3-TraceId", "80f198ee56343ba864fe8b2a57d3eff7"), ("X-B3-SpanId", "e457b5a2e4d86bd1")];
        for wrong in [
            &[][..],
            &ids[..1],
            &ids[1..],
            &[("x-b3-flags", "0")],
            &[ids[0], ids[1], ("x-b3-sampled", "maybe")],
            &[ids[0], ("x-b3-spanid", "1")],
        ] {
            assert_eq!(multi(&fields(wrong)), None, "{wrong:?}");
        }
    }

    #[test]
    fn several_fields_say_it_too() {
        for decided in [Decision::Deny, Decision::Accept, Decision::Debug] {
            let ids = single(IDS.as_bytes()).unwrap().ids.unwrap();
            let mut fields = fields(&[("x-b3-parentspanid", "1"), ("X-B3-Sampled", "x"), ("a", "b")]);
            write_multi(&mut fields, ids, decided);
            let read = multi(&fields).unwrap();
            assert_eq!(Some(read), single(&write_single(ids, decided)));
            assert_eq!((read.ids, read.sampled), (Some(ids), Some(decided != Decision::Deny)));
            assert_eq!(fields.len(), 4);
        }
        assert_eq!(multi(&fields(&[("x-b3-sampled", "0")])).unwrap().sampled, Some(false));
    }

    #[test]
    fn whatever_comes_is_read_without_harm() {
        for seed in 0..20_000 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut bytes = format!("{IDS}-1-05e3ac9a4f6e3b90").into_bytes();
            let place = rng.usize(..bytes.len());
            match rng.u8(..3) {
                0 => bytes[place] = rng.u8(..),
                1 => bytes.truncate(place),
                _ => drop(bytes.remove(place)),
            }
            if let Some(ids) = single(&bytes).and_then(|read| read.ids) {
                assert_eq!(
                    single(&write_single(ids, Decision::Accept)).unwrap().ids,
                    Some(ids),
                    "seed {seed}"
                );
            }
        }
    }
}
