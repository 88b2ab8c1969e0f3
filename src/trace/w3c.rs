//! The words of W3C Trace Context, level 1 (<https://www.w3.org/TR/trace-context-1/>): `traceparent` says
//! which span asks, `tracestate` what systems on the way want to know again. What breaks the rules counts
//! as absent.

use std::num::{NonZeroU64, NonZeroU128};

use super::hex::hex;
use super::{Incoming, SpanId, TraceId};

/// What `traceparent` says (§3.2); `None` when it is invalid. Versions to come are read as far as this one
/// goes (§3.2.4).
#[must_use]
pub fn parent(value: &[u8]) -> Option<Incoming> {
    let (version, rest) = (value.get(..2)?, value.get(2..)?);
    let version: u8 = hex(version)?;
    let (fields, more) = (rest.get(..LENGTH - 2)?, rest.get(LENGTH - 2..)?);
    let is_whole = match version {
        0 => more.is_empty(),
        0xFF => false,
        _ => more.first().is_none_or(|next| *next == b'-'),
    };
    if !is_whole {
        return None;
    }
    let mut fields = fields.split(|byte| *byte == b'-').skip(1);
    let trace = fields.next().filter(|text| text.len() == 32).and_then(hex)?;
    let span = fields.next().filter(|text| text.len() == 16).and_then(hex)?;
    let flags: u8 = fields.next().filter(|text| text.len() == 2).and_then(hex)?;
    if fields.next().is_some() || rest.first() != Some(&b'-') {
        return None;
    }
    let ids = (TraceId(NonZeroU128::new(trace)?), SpanId(NonZeroU64::new(span)?));
    Some(Incoming { ids: Some(ids), sampled: Some(flags & SAMPLED != 0), debug: false })
}

/// `traceparent` of what `span` asks for.
#[must_use]
pub fn write_parent((trace, span): (TraceId, SpanId), sampled: bool) -> [u8; LENGTH] {
    let mut value = *b"00-00000000000000000000000000000000-0000000000000000-00";
    value[3..35].copy_from_slice(&trace.digits());
    value[36..52].copy_from_slice(&span.digits());
    if sampled {
        value[LENGTH - 1] = b'1';
    }
    value
}

/// `tracestate` (§3.3) out of all of its lines, as it is to be passed on. `None` when there is nothing to
/// pass on: no line, nothing in them, or something that does not belong there.
///
/// Of more than 512 characters those entries go first that are longer than 128, and then the last ones
/// (§3.3.1.5).
#[must_use]
pub fn state<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Option<String> {
    let mut members = Vec::new();
    for member in lines.flat_map(|line| line.split(|byte| *byte == b',')) {
        let member = member.trim_ascii();
        if member.is_empty() {
            continue;
        }
        if members.len() == MEMBERS || !is_member(member) {
            return None;
        }
        members.push(member);
    }
    let length = |members: &[&[u8]]| members.iter().map(|m| m.len() + 1).sum::<usize>().saturating_sub(1);
    if length(&members) > STATE {
        members.retain(|member| member.len() <= LARGE_MEMBER);
    }
    while length(&members) > STATE {
        members.pop();
    }
    let joined = members.join(&b","[..]);
    String::from_utf8(joined).ok().filter(|state| !state.is_empty())
}

/// `key=value` (§3.3.1.3).
fn is_member(member: &[u8]) -> bool {
    let Some(equals) = memchr::memchr(b'=', member) else { return false };
    let (key, value) =
        (member.get(..equals).unwrap_or_default(), member.get(equals + 1..).unwrap_or_default());
    let begins = key.first().is_some_and(|first| first.is_ascii_lowercase() || first.is_ascii_digit());
    let in_key = |byte: &u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-' | b'*' | b'/' | b'@')
    };
    let in_value = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b',' | b'=');
    begins
        && key.len() <= LONGEST_PART
        && key.iter().all(in_key)
        && (1..=LONGEST_PART).contains(&value.len())
        && value.iter().all(in_value)
}

/// Characters of `traceparent` in the only version there is.
pub const LENGTH: usize = 55;
/// The flag that says that the caller may have kept its span (§3.2.2.5.1).
const SAMPLED: u8 = 1;
/// Entries of `tracestate` (§3.3.1.1).
const MEMBERS: usize = 32;
/// Characters of `tracestate` that are passed on (§3.3.1.5).
const STATE: usize = 512;
/// Characters past which an entry goes first where there are too many.
const LARGE_MEMBER: usize = 128;
/// Characters of a key or a value (§3.3.1.3).
const LONGEST_PART: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn what_is_written_is_read() {
        let read = parent(VALID.as_bytes()).unwrap();
        let ids = read.ids.unwrap();
        assert_eq!(ids.0.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(ids.1.to_string(), "00f067aa0ba902b7");
        assert_eq!(read.sampled, Some(true));
        assert_eq!(write_parent(ids, true), VALID.as_bytes());
        assert_eq!(parent(&write_parent(ids, false)).unwrap().sampled, Some(false));
    }

    #[test]
    fn versions_to_come_are_read_as_far_as_they_are_known() {
        for (text, sampled) in [
            ("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", true),
            ("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-the-future-will-be-like", true),
            ("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-fe-", false),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03", true),
        ] {
            assert_eq!(parent(text.as_bytes()).and_then(|read| read.sampled), Some(sampled), "{text}");
        }
    }

    #[test]
    fn everything_else_is_absent() {
        for text in [
            "",
            "00",
            "00-",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.x",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0x",
            "0x-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e47360-0f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-600f067aa0ba902b7-01",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b-7-01",
        ] {
            assert_eq!(parent(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn one_wrong_byte_is_never_read_as_something_else_than_a_valid_one() {
        for seed in 0..20_000 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut bytes = VALID.as_bytes().to_vec();
            for _ in 0..rng.usize(1..4) {
                let place = rng.usize(..bytes.len());
                match rng.u8(..3) {
                    0 => bytes[place] = rng.u8(..),
                    1 => bytes.insert(place, rng.u8(b' '..b'~')),
                    _ => drop(bytes.remove(place)),
                }
            }
            let Some(read) = parent(&bytes) else { continue };
            let again = write_parent(read.ids.unwrap(), read.sampled.unwrap());
            assert_eq!(again[3..52], bytes[3..52], "seed {seed}");
        }
    }

    fn joined(lines: &[&str]) -> Option<String> {
        state(lines.iter().map(|line| line.as_bytes()))
    }

    #[test]
    fn states_are_joined_and_cleaned() {
        assert_eq!(joined(&["a=1,b=2", "c@d=x y"]).as_deref(), Some("a=1,b=2,c@d=x y"));
        assert_eq!(joined(&[" a=1 ,, ,b=2\t"]).as_deref(), Some("a=1,b=2"));
        for wrong in
            [&[][..], &[""], &["a"], &["a="], &["A=1"], &["=1"], &["a=1=2"], &["a=\u{e9}"], &["-a=1"]]
        {
            assert_eq!(joined(wrong), None, "{wrong:?}");
        }
        let many = |n: usize| (0..n).map(|i| format!("k{i}=1")).collect::<Vec<_>>().join(",");
        assert!(joined(&[&many(32)]).is_some());
        assert_eq!(joined(&[&many(33)]), None);
    }

    #[test]
    fn too_long_a_state_loses_what_is_large_and_then_the_last() {
        let large = format!("large={}", "x".repeat(200));
        let small = |i: usize| format!("k{i}={}", "y".repeat(97));
        let state = joined(&[&small(0), &large, &small(1), &small(2), &small(3)]).unwrap();
        assert_eq!(state, [small(0), small(1), small(2), small(3)].join(","));
        let six = (0..6).map(small).collect::<Vec<_>>().join(",");
        assert_eq!(joined(&[&six]).unwrap().len(), 5 * 100 + 4);
    }
}
