//! One JSON object a line, with the same keys in the same order in each; what does not apply is
//! `null`. Bytes that are not UTF-8 become U+FFFD.

use std::io::Write as _;

use super::line::{When, decimal, seconds};
use super::record::{Record, Value};
use crate::model::settings::LogField;

/// Appends one line.
pub(super) fn line(record: &Record<'_>, fields: &[LogField], when: When<'_>, out: &mut Vec<u8>) {
    let mut before: &[u8] = b"{\"";
    for field in fields {
        out.extend_from_slice(before);
        before = b",\"";
        out.extend_from_slice(field.name().as_bytes());
        out.extend_from_slice(b"\":");
        match record.value(*field) {
            Value::Nothing => out.extend_from_slice(b"null"),
            Value::Time => {
                out.push(b'"');
                when.rfc3339(out);
                out.push(b'"');
            }
            Value::Client(client) => fill(out, format_args!("\"{client}\"")),
            Value::Trace(trace) => fill(out, format_args!("\"{trace}\"")),
            Value::Text(value) => text(value, out),
            Value::Number(number) => decimal(number, out),
            Value::Seconds(took) => seconds(took, out),
        }
    }
    out.extend_from_slice(b"}\n");
}

fn text(value: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for chunk in value.utf8_chunks() {
        escape(chunk.valid().as_bytes(), out);
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
    out.push(b'"');
}

/// Appends UTF-8 with quotes, backslashes and control characters escaped (RFC 8259 §7), and those of C1 too,
/// which terminals obey.
fn escape(text: &[u8], out: &mut Vec<u8>) {
    let special = |byte: &u8| matches!(*byte, b'"' | b'\\' | 0..=0x1f | 0x7f | C1);
    let mut rest = text;
    while let Some(at) = rest.iter().position(special) {
        let Some((plain, [byte, after @ ..])) = rest.split_at_checked(at) else { break };
        out.extend_from_slice(plain);
        rest = after;
        match (byte, after) {
            (b'"', _) => out.extend_from_slice(b"\\\""),
            (b'\\', _) => out.extend_from_slice(b"\\\\"),
            (&C1, [control @ 0x80..=0x9f, after @ ..]) => {
                fill(out, format_args!("\\u{control:04x}"));
                rest = after;
            }
            (&C1, _) => out.push(C1),
            (byte, _) => fill(out, format_args!("\\u{byte:04x}")),
        }
    }
    out.extend_from_slice(rest);
}

fn fill(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a vector takes every write");
}

/// What control characters past ASCII begin with, and others too.
const C1: u8 = 0xc2;
