//! Chosen fields as `key=value`, a space between them; `-` is what does not apply. What is not plain is
//! quoted, so that nothing a client sends makes a field or ends a line.

use std::io::Write as _;

use super::combined::escape;
use super::line::{When, decimal, seconds};
use super::record::{Record, Value};
use crate::model::settings::LogField;

/// Appends one line.
pub(super) fn line(record: &Record<'_>, fields: &[LogField], when: When<'_>, out: &mut Vec<u8>) {
    let mut first = true;
    for field in fields {
        if !std::mem::take(&mut first) {
            out.push(b' ');
        }
        out.extend_from_slice(field.name().as_bytes());
        out.push(b'=');
        match record.value(*field) {
            Value::Nothing => out.push(b'-'),
            Value::Time => when.rfc3339(out),
            Value::Client(client) => fill(out, format_args!("{client}")),
            Value::Trace(trace) => fill(out, format_args!("{trace}")),
            Value::Text(value) => text(value, out),
            Value::Number(number) => decimal(number, out),
            Value::Seconds(took) => seconds(took, out),
        }
    }
    out.push(b'\n');
}

fn fill(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a vector takes every write");
}

fn text(value: &[u8], out: &mut Vec<u8>) {
    let plain = |byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\' | b'=');
    if !value.is_empty() && value != b"-" && value.iter().all(plain) {
        return out.extend_from_slice(value);
    }
    out.push(b'"');
    escape(value, 0, out);
    out.push(b'"');
}
