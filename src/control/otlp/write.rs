//! Spans as OTLP has them, in the binary form of Protocol Buffers: `ExportTraceServiceRequest` and what is in
//! it, from the published schema (opentelemetry-proto, `trace/v1/trace.proto`; the numbers are its field
//! numbers). Written by hand, because the messages are few, and the crate that has them brings the whole of
//! OpenTelemetry's SDK along. Does not know whom they go to.

use bytes::Bytes;

use crate::trace::{Event, Kind, Span, Value};

/// Spans that are sent together, as they go over the wire but for what is said once of all of them.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// `ScopeSpans.spans`, one after the other.
    written: Vec<u8>,
    spans: usize,
    /// What is within the one that is being written.
    scratch: Scratch,
}

/// Room for one message of each depth.
#[derive(Debug, Default)]
struct Scratch {
    span: Vec<u8>,
    part: Vec<u8>,
    attribute: Vec<u8>,
}

impl Batch {
    /// Adds a span.
    pub(super) fn add(&mut self, span: &Span) {
        let Scratch { span: body, part, attribute } = &mut self.scratch;
        body.clear();
        bytes(1, &span.trace.0.get().to_be_bytes(), body);
        bytes(2, &span.id.0.get().to_be_bytes(), body);
        bytes(3, span.state.as_deref().unwrap_or_default().as_bytes(), body);
        if let Some(parent) = span.parent {
            bytes(4, &parent.0.get().to_be_bytes(), body);
        }
        bytes(5, span.name.as_bytes(), body);
        number(6, kind(span.kind), body);
        fixed(7, span.start, body);
        fixed(8, span.end, body);
        attributes(9, &span.attributes, attribute, body);
        for event in &span.events {
            write_event(event, attribute, part);
            nested(11, part, body);
        }
        if let Some(why) = &span.failed {
            part.clear();
            bytes(2, why.as_bytes(), part);
            number(3, STATUS_ERROR, part);
            nested(15, part, body);
        }
        nested(2, body, &mut self.written);
        self.spans += 1;
    }

    /// How many there are.
    pub(super) fn spans(&self) -> usize {
        self.spans
    }

    /// Whether another one may be too much for a collector to take at once.
    pub(super) fn is_big(&self) -> bool {
        self.written.len() >= BIG
    }

    /// The request, with `resource` as whose spans these are.
    pub(super) fn finish(self, resource: &Resource) -> Bytes {
        let mut scope = Vec::new();
        bytes(1, env!("CARGO_PKG_NAME").as_bytes(), &mut scope);
        bytes(2, env!("CARGO_PKG_VERSION").as_bytes(), &mut scope);
        let mut scope_spans = Vec::with_capacity(self.written.len() + HEADERS);
        nested(1, &scope, &mut scope_spans);
        scope_spans.extend_from_slice(&self.written);
        let mut resource_spans = Vec::with_capacity(scope_spans.len() + resource.0.len() + HEADERS);
        nested(1, &resource.0, &mut resource_spans);
        nested(2, &scope_spans, &mut resource_spans);
        let mut request = Vec::with_capacity(resource_spans.len() + HEADERS);
        nested(1, &resource_spans, &mut request);
        request.into()
    }
}

/// Whose spans these are, as it goes over the wire.
#[derive(Debug)]
pub(super) struct Resource(Vec<u8>);

impl Resource {
    /// With these attributes.
    pub(super) fn new<'a>(said: impl IntoIterator<Item = (&'a str, Value)>) -> Self {
        let (mut written, mut attribute) = (Vec::new(), Vec::new());
        for (name, value) in said {
            write_attribute(name, &value, &mut attribute);
            nested(1, &attribute, &mut written);
        }
        Self(written)
    }
}

fn write_event(event: &Event, attribute: &mut Vec<u8>, out: &mut Vec<u8>) {
    out.clear();
    fixed(1, event.at, out);
    bytes(2, event.name.as_bytes(), out);
    attributes(3, &event.attributes, attribute, out);
}

fn attributes(field: u32, all: &[(&'static str, Value)], attribute: &mut Vec<u8>, out: &mut Vec<u8>) {
    for (name, value) in all {
        write_attribute(name, value, attribute);
        nested(field, attribute, out);
    }
}

/// `KeyValue`, with its `AnyValue`.
fn write_attribute(name: &str, value: &Value, out: &mut Vec<u8>) {
    out.clear();
    bytes(1, name.as_bytes(), out);
    match value {
        Value::Text(text) => nested_text(text, out),
        Value::Name(name) => nested_text(name.as_str(), out),
        Value::Bool(flag) => {
            tag(2, LENGTH, out);
            out.extend_from_slice(&[2, 2 << 3, u8::from(*flag)]);
        }
        Value::Int(whole) => {
            tag(2, LENGTH, out);
            let start = out.len();
            out.push(0);
            tag(3, VARINT, out);
            // Two's complement, whatever the sign: `int64` is not `sint64`.
            varint(u64::from_ne_bytes(whole.to_ne_bytes()), out);
            // A number has ten bytes at most, so that its length has one.
            let length = u8::try_from(out.len() - start - 1).unwrap_or(u8::MAX);
            out.iter_mut().skip(start).take(1).for_each(|place| *place = length);
        }
        Value::Float(real) => {
            tag(2, LENGTH, out);
            out.push(9);
            fixed(4, real.to_bits(), out);
        }
    }
}

/// An `AnyValue` that is a text.
fn nested_text(text: &str, out: &mut Vec<u8>) {
    tag(2, LENGTH, out);
    varint((1 + varint_length(text.len() as u64) + text.len()) as u64, out);
    tag(1, LENGTH, out);
    varint(text.len() as u64, out);
    out.extend_from_slice(text.as_bytes());
}

fn kind(kind: Kind) -> u64 {
    match kind {
        Kind::Internal => 1,
        Kind::Server => 2,
        Kind::Client => 3,
    }
}

/// A field of bytes or text; left out when there is nothing in it, as proto3 has it.
fn bytes(field: u32, value: &[u8], out: &mut Vec<u8>) {
    if !value.is_empty() {
        nested(field, value, out);
    }
}

/// A message within another.
fn nested(field: u32, message: &[u8], out: &mut Vec<u8>) {
    tag(field, LENGTH, out);
    varint(message.len() as u64, out);
    out.extend_from_slice(message);
}

fn number(field: u32, value: u64, out: &mut Vec<u8>) {
    tag(field, VARINT, out);
    varint(value, out);
}

fn fixed(field: u32, value: u64, out: &mut Vec<u8>) {
    tag(field, FIXED64, out);
    out.extend_from_slice(&value.to_le_bytes());
}

fn tag(field: u32, kind: u32, out: &mut Vec<u8>) {
    varint(u64::from(field << 3 | kind), out);
}

/// Seven bits to a byte, the least first (Protocol Buffers, "Encoding").
fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push((value & 0x7F) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn varint_length(value: u64) -> usize {
    (u64::BITS - (value | 1).leading_zeros()).div_ceil(7) as usize
}

/// How values are written (Protocol Buffers, "Encoding").
const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const LENGTH: u32 = 2;
/// `Status.STATUS_CODE_ERROR`.
const STATUS_ERROR: u64 = 2;
/// In bytes. Collectors take messages of 4 MiB by default, as gRPC does; one span is far smaller than the
/// difference.
const BIG: usize = 3 * 1024 * 1024;
/// More than the names and lengths around a message have, in bytes.
const HEADERS: usize = 64;

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::num::{NonZeroU64, NonZeroU128};

    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::common::v1::{AnyValue, any_value};
    use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
    use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
    use prost::Message as _;

    use super::*;
    use crate::model::Name;
    use crate::model::mix::mix;
    use crate::trace::{SpanId, TraceId};

    fn span() -> Span {
        Span {
            trace: TraceId(NonZeroU128::new(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10).unwrap()),
            id: SpanId(NonZeroU64::new(0x1112_1314_1516_1718).unwrap()),
            parent: SpanId(NonZeroU64::MAX).into(),
            state: Some("a=1,b=2".into()),
            kind: Kind::Client,
            name: "GET".into(),
            start: 1_700_000_000_000_000_001,
            end: 1_700_000_000_000_000_002,
            failed: Some("502".into()),
            attributes: vec![
                ("text", Value::Text(Cow::Borrowed("ü"))),
                ("name", Value::Name(Name::new("app").unwrap())),
                ("least", Value::Int(i64::MIN)),
                ("most", Value::Int(i64::MAX)),
                ("float", Value::Float(-0.5)),
                ("yes", Value::Bool(true)),
                ("no", Value::Bool(false)),
                ("empty", Value::Text(Cow::Borrowed(""))),
            ],
            events: vec![Event { name: "retried".into(), at: 5, attributes: vec![("n", Value::Int(0))] }],
        }
    }

    fn decoded(spans: &[Span]) -> ExportTraceServiceRequest {
        let mut batch = Batch::default();
        spans.iter().for_each(|span| batch.add(span));
        assert_eq!(batch.spans(), spans.len());
        let resource = Resource::new([("service.name", Value::Text("edge".into()))]);
        ExportTraceServiceRequest::decode(batch.finish(&resource)).unwrap()
    }

    fn value(value: Option<AnyValue>) -> any_value::Value {
        value.and_then(|value| value.value).unwrap()
    }

    #[test]
    fn a_span_is_read_as_it_was_written() {
        let mut request = decoded(&[span(), Span { parent: None, state: None, failed: None, ..span() }]);
        let mut resource_spans = request.resource_spans.remove(0);
        assert!(request.resource_spans.is_empty());
        let said = resource_spans.resource.unwrap().attributes.remove(0);
        assert_eq!((said.key.as_str(), value(said.value)), ("service.name", text("edge")));
        let scope_spans = resource_spans.scope_spans.remove(0);
        assert_eq!(scope_spans.scope.unwrap().name, "forebay");
        let [first, second] = scope_spans.spans.try_into().unwrap();
        assert_eq!(first.trace_id, (1..=16).collect::<Vec<u8>>());
        assert_eq!(first.span_id, (0x11..=0x18).collect::<Vec<u8>>());
        assert_eq!((first.parent_span_id, second.parent_span_id), (vec![255; 8], Vec::new()));
        assert_eq!((first.trace_state.as_str(), second.trace_state.as_str()), ("a=1,b=2", ""));
        assert_eq!((first.kind, first.name.as_str()), (SpanKind::Client as i32, "GET"));
        assert_eq!(
            (first.start_time_unix_nano, first.end_time_unix_nano),
            (1_700_000_000_000_000_001, 1_700_000_000_000_000_002)
        );
        let status = first.status.unwrap();
        assert_eq!((status.code, status.message.as_str()), (StatusCode::Error as i32, "502"));
        assert_eq!(second.status, None);
        let event = &first.events[0];
        assert_eq!((event.name.as_str(), event.time_unix_nano, event.attributes.len()), ("retried", 5, 1));
    }

    #[test]
    fn every_kind_of_attribute_is_read_as_it_was_written() {
        use any_value::Value as Wire;
        let mut request = decoded(&[span()]);
        let span = request.resource_spans.remove(0).scope_spans.remove(0).spans.remove(0);
        let said = span.attributes.into_iter().map(|pair| (pair.key, value(pair.value)));
        let expected = [
            ("text", text("ü")),
            ("name", text("app")),
            ("least", Wire::IntValue(i64::MIN)),
            ("most", Wire::IntValue(i64::MAX)),
            ("float", Wire::DoubleValue(-0.5)),
            ("yes", Wire::BoolValue(true)),
            ("no", Wire::BoolValue(false)),
            ("empty", text("")),
        ];
        assert_eq!(said.collect::<Vec<_>>(), expected.map(|(key, value)| (key.to_owned(), value)).to_vec());
    }

    #[test]
    fn lengths_and_numbers_of_all_sizes_are_read_as_they_were_written() {
        let texts = [0, 1, 125, 126, 127, 128, 129, 16_381, 16_384, 3_000_000];
        let numbers = (0..63).flat_map(|bit| [1_i64 << bit, (1 << bit) - 1, -(1 << bit)]);
        let numbers: Vec<_> = numbers.chain((0..100).map(|seed| mix(seed) as i64)).collect();
        let mut attributes: Vec<_> =
            texts.iter().map(|length| ("t", Value::Text("x".repeat(*length).into()))).collect();
        attributes.extend(numbers.iter().map(|number| ("n", Value::Int(*number))));
        let mut request = decoded(&[Span { attributes, ..span() }]);
        let span = request.resource_spans.remove(0).scope_spans.remove(0).spans.remove(0);
        let mut said = span.attributes.into_iter().map(|pair| value(pair.value));
        for length in texts {
            assert_eq!(said.next(), Some(text(&"x".repeat(length))));
        }
        for number in numbers {
            assert_eq!(said.next(), Some(any_value::Value::IntValue(number)));
        }
    }

    #[test]
    fn a_batch_is_big_before_it_is_too_big() {
        let mut batch = Batch::default();
        while !batch.is_big() {
            batch.add(&span());
        }
        let length = batch.finish(&Resource::new([])).len();
        assert!((3 << 20..4 << 20).contains(&length), "{length}");
    }

    fn text(text: &str) -> any_value::Value {
        any_value::Value::StringValue(text.to_owned())
    }
}
