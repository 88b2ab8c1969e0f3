//! The combined format, as Apache's `%h %l %u %t "%r" %>s %b "%{Referer}i" "%{User-agent}i"`. One
//! line per record whatever the client sent: nothing in it can end a line or a quoted field.

use std::io::Write as _;

use super::record::{Record, version};
use crate::observe::civil::Civil;

/// The moment as the format has it, without the brackets.
pub(super) fn stamp(seconds: u64, out: &mut Vec<u8>) {
    let at = Civil::from_unix(seconds);
    let Civil { year, day, hour, minute, second, .. } = at;
    let month = at.month_name();
    fill(out, format_args!("{day:02}/{month}/{year:04}:{hour:02}:{minute:02}:{second:02} +0000"));
}

/// Appends one line. `stamp` is the record's time as [`stamp`] writes it.
pub(super) fn line(record: &Record<'_>, stamp: &[u8], out: &mut Vec<u8>) {
    match record.client {
        Some(client) => fill(out, format_args!("{client} - ")),
        None => out.extend_from_slice(b"- - "),
    }
    match record.user {
        Some(b"") => out.extend_from_slice(b"\"\""),
        Some(user) => escape(user, b' ', out),
        None => out.push(b'-'),
    }
    out.extend_from_slice(b" [");
    out.extend_from_slice(stamp);
    out.extend_from_slice(b"] \"");
    if record.method.is_empty() {
        out.push(b'-');
    } else {
        escape(record.method.as_bytes(), 0, out);
        out.push(b' ');
        escape(record.target, 0, out);
        out.push(b' ');
        out.extend_from_slice(version(record.version).as_bytes());
    }
    match record.sent {
        0 => fill(out, format_args!("\" {:03} -", record.status)),
        sent => fill(out, format_args!("\" {:03} {sent}", record.status)),
    }
    for field in [record.referer, record.user_agent] {
        out.extend_from_slice(b" \"");
        escape(field.unwrap_or(b"-"), 0, out);
        out.push(b'"');
    }
    out.push(b'\n');
}

/// Appends `text` with everything but printable ASCII escaped: quotes and backslashes by a
/// backslash, what has a letter in C by that (as Apache does), other bytes (and `also`) as `\xhh`.
pub(super) fn escape(text: &[u8], also: u8, out: &mut Vec<u8>) {
    for byte in text {
        match *byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x0b => out.extend_from_slice(b"\\v"),
            0x08 => out.extend_from_slice(b"\\b"),
            b' '..=b'~' if *byte != also => out.push(*byte),
            _ => fill(out, format_args!("\\x{byte:02x}")),
        }
    }
}

fn fill(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a vector takes every write");
}
