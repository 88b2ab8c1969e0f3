//! One JSON object a line, always with the same keys in the same order; what does not apply is
//! `null`. Bytes that are not UTF-8 become U+FFFD.

use std::io::Write as _;
use std::time::Duration;

use super::record::{Record, version};
use crate::observe::civil::Civil;

/// The moment as RFC 3339 has it, to the second and without a zone.
pub(super) fn stamp(seconds: u64, out: &mut Vec<u8>) {
    fill(out, format_args!("{}", Civil::from_unix(seconds)));
}

/// Appends one line. `stamp` is the record's time as [`stamp`] writes it, `millis` what is left.
pub(super) fn line(record: &Record<'_>, stamp: &[u8], millis: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"time\":\"");
    out.extend_from_slice(stamp);
    fill(out, format_args!(".{millis:03}Z\",\"client\":"));
    match record.client {
        Some(client) => fill(out, format_args!("\"{client}\"")),
        None => out.extend_from_slice(b"null"),
    }
    let method = (!record.method.is_empty()).then_some(record.method);
    text("user", record.user, out);
    text("method", method.map(str::as_bytes), out);
    text("target", method.and(Some(record.target)), out);
    text("version", method.and(Some(version(record.version).as_bytes())), out);
    text("host", record.host, out);
    text("referer", record.referer, out);
    text("user_agent", record.user_agent, out);
    text("request_id", record.request_id, out);
    let Record { status, sent, received, .. } = record;
    fill(out, format_args!(",\"status\":{status},\"sent_bytes\":{sent},\"received_bytes\":{received}"));
    seconds("duration_seconds", Some(record.duration), out);
    seconds("first_byte_seconds", record.first_byte, out);
    text("listener", Some(record.listener.as_bytes()), out);
    for (key, value) in [
        ("route", record.route),
        ("pool", record.pool),
        ("endpoint", record.endpoint),
        ("error", record.error),
        ("details", record.details),
        ("tls_version", record.tls_version),
        ("sni", record.sni),
    ] {
        text(key, value.map(str::as_bytes), out);
    }
    out.extend_from_slice(b"}\n");
}

/// Appends a duration, in seconds to the microsecond.
fn seconds(key: &str, value: Option<Duration>, out: &mut Vec<u8>) {
    match value {
        Some(took) => fill(out, format_args!(",\"{key}\":{}.{:06}", took.as_secs(), took.subsec_micros())),
        None => fill(out, format_args!(",\"{key}\":null")),
    }
}

fn text(key: &str, value: Option<&[u8]>, out: &mut Vec<u8>) {
    let Some(value) = value else { return fill(out, format_args!(",\"{key}\":null")) };
    out.extend_from_slice(b",\"");
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(b"\":\"");
    for chunk in value.utf8_chunks() {
        escape(chunk.valid().as_bytes(), out);
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
    out.push(b'"');
}

/// Appends UTF-8 with quotes, backslashes and control characters escaped (RFC 8259 §7).
fn escape(text: &[u8], out: &mut Vec<u8>) {
    for byte in text {
        match *byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            0..=0x1f | 0x7f => fill(out, format_args!("\\u{byte:04x}")),
            byte => out.push(byte),
        }
    }
}

fn fill(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a vector takes every write");
}
