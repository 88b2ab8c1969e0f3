//! What is read of a collector's answers, in the binary form of Protocol Buffers: how many spans it would not
//! have, why, and when to come again. Whatever is malformed, unknown or cut off says nothing; nothing here
//! can fail.

use std::time::Duration;

/// What a collector says that has taken spans, or some of them (`ExportTraceServiceResponse`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    /// Spans that it would not have.
    pub(super) rejected: u64,
    /// Why, or what else it has to say; empty when nothing.
    pub(super) message: String,
}

/// What a collector says that has taken nothing (`google.rpc.Status`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Status {
    /// Why; empty when it does not say.
    pub(super) message: String,
    /// When it may have room again (`google.rpc.RetryInfo`).
    pub(super) retry: Option<Duration>,
}

impl Taken {
    pub(super) fn read(answer: &[u8]) -> Self {
        let mut taken = Self::default();
        for partial in messages(answer, 1) {
            for (field, value) in Fields(partial) {
                match (field, value) {
                    // A negative number is no number of spans.
                    (1, Field::Number(count)) => taken.rejected = i64::try_from(count).map_or(0, |_| count),
                    (2, Field::Bytes(text)) => taken.message = shown(text),
                    _ => {}
                }
            }
        }
        taken
    }
}

impl Status {
    pub(super) fn read(answer: &[u8]) -> Self {
        let mut status = Self::default();
        for (field, value) in Fields(answer) {
            match (field, value) {
                (2, Field::Bytes(text)) => status.message = shown(text),
                (3, Field::Bytes(detail)) => status.retry = retry(detail).or(status.retry),
                _ => {}
            }
        }
        status
    }
}

/// The pause that an `Any` asks for, if it is a `RetryInfo`.
fn retry(any: &[u8]) -> Option<Duration> {
    messages(any, 1).find(|kind| kind.ends_with(b"google.rpc.RetryInfo"))?;
    let delay = messages(messages(any, 2).next()?, 1).next()?;
    let (mut seconds, mut nanos) = (0, 0);
    for (field, value) in Fields(delay) {
        match (field, value) {
            (1, Field::Number(number)) => seconds = i64::try_from(number).map_or(0, |_| number),
            (2, Field::Number(number)) => nanos = u32::try_from(number).unwrap_or_default(),
            _ => {}
        }
    }
    Some(Duration::from_secs(seconds).saturating_add(Duration::from_nanos(nanos.into())))
}

/// The beginning of a text of someone else's, for a log.
pub(super) fn shown(text: &[u8]) -> String {
    let start = text.get(..LONGEST_TEXT).unwrap_or(text);
    String::from_utf8_lossy(start).chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// All fields of this number that are messages, texts or bytes.
fn messages(message: &[u8], wanted: u64) -> impl Iterator<Item = &[u8]> {
    Fields(message).filter_map(move |(field, value)| match value {
        Field::Bytes(bytes) if field == wanted => Some(bytes),
        _ => None,
    })
}

/// The fields of a message, up to where it is malformed.
struct Fields<'a>(&'a [u8]);

#[derive(Debug, PartialEq)]
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Fixed,
}

impl<'a> Iterator for Fields<'a> {
    type Item = (u64, Field<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Field::Number(self.varint()?),
            1 => self.take(8).map(|_| Field::Fixed)?,
            2 => {
                let length = self.varint()?;
                Field::Bytes(self.take(usize::try_from(length).ok()?)?)
            }
            5 => self.take(4).map(|_| Field::Fixed)?,
            _ => return None,
        };
        Some((tag >> 3, value))
    }
}

impl<'a> Fields<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// Bits past the sixty-fourth are lost, as they are to others.
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..70).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7F).checked_shl(shift).unwrap_or_default();
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}

/// Of what a collector says, in bytes.
const LONGEST_TEXT: usize = 200;

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::trace::v1::{
        ExportTracePartialSuccess, ExportTraceServiceResponse,
    };
    use prost::Message as _;

    use super::*;
    use crate::model::mix::mix;

    #[derive(Clone, PartialEq, prost::Message)]
    struct WireStatus {
        #[prost(int32, tag = "1")]
        code: i32,
        #[prost(string, tag = "2")]
        message: String,
        #[prost(message, repeated, tag = "3")]
        details: Vec<WireAny>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    struct WireAny {
        #[prost(string, tag = "1")]
        type_url: String,
        #[prost(bytes = "vec", tag = "2")]
        value: Vec<u8>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    struct WireRetryInfo {
        #[prost(message, optional, tag = "1")]
        delay: Option<WireDuration>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    struct WireDuration {
        #[prost(int64, tag = "1")]
        seconds: i64,
        #[prost(int32, tag = "2")]
        nanos: i32,
    }

    fn answer(rejected_spans: i64, message: &str) -> Vec<u8> {
        let error_message = message.to_owned();
        let partial_success = Some(ExportTracePartialSuccess { rejected_spans, error_message });
        ExportTraceServiceResponse { partial_success }.encode_to_vec()
    }

    fn status(seconds: i64) -> Vec<u8> {
        let delay = Some(WireDuration { seconds, nanos: 500_000_000 });
        let other = WireAny { type_url: "type.googleapis.com/google.rpc.Help".into(), value: vec![1, 2, 3] };
        let info = WireAny {
            type_url: "type.googleapis.com/google.rpc.RetryInfo".into(),
            value: WireRetryInfo { delay }.encode_to_vec(),
        };
        WireStatus { code: 8, message: "too much".into(), details: vec![other.clone(), info, other] }
            .encode_to_vec()
    }

    #[test]
    fn what_a_collector_would_not_have_is_read() {
        assert_eq!(Taken::read(&[]), Taken::default());
        assert_eq!(Taken::read(&answer(3, "why\nnot")), Taken { rejected: 3, message: "why not".into() });
        assert_eq!(Taken::read(&answer(-1, "")).rejected, 0);
        let status = Status::read(&status(2));
        assert_eq!(status, Status { message: "too much".into(), retry: Some(Duration::from_millis(2500)) });
        assert_eq!(Status::read(&self::status(-2)).retry, Some(Duration::from_millis(500)));
    }

    #[test]
    fn whatever_is_cut_off_or_damaged_is_read_as_far_as_it_makes_sense() {
        for whole in [answer(5, "because"), status(9)] {
            for length in 0..whole.len() {
                let _ = (Taken::read(&whole[..length]), Status::read(&whole[..length]));
            }
            for seed in 0..2000 {
                let mut damaged = whole.clone();
                let at = mix(seed) as usize % damaged.len();
                damaged[at] = mix(seed + 10_000) as u8;
                let _ = (Taken::read(&damaged), Status::read(&damaged));
            }
        }
        assert_eq!(Fields(&[0xFF; 20]).next(), None);
        assert_eq!(Taken::read(&answer(1, &"ü".repeat(500))).message.chars().count(), 100);
    }
}
