//! A line of an access log, in any of its formats: what is known of the request, and how it is shown at a
//! terminal.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::cli::table::brief;
use crate::observe::access_log::Facts;

/// What a line says.
pub(super) struct Line {
    fields: Value,
    /// It was written as JSON.
    is_json: bool,
}

impl Line {
    /// Reads a line; what is in none of the formats says nothing.
    pub(super) fn read(text: &str) -> Self {
        if let Some(fields) = serde_json::from_str(text).ok().filter(Value::is_object) {
            return Self { fields, is_json: true };
        }
        let first = text.split(' ').next().unwrap_or_default();
        let fields = if first.contains('=') { pairs(text) } else { combined(text).unwrap_or_default() };
        Self { fields: Value::Object(fields), is_json: false }
    }

    /// How many lines are missing here, if that is what it says.
    pub(super) fn lost(&self) -> Option<u64> {
        self.fields.get("lost")?.as_u64()
    }

    /// What can be asked of it.
    pub(super) fn facts(&self) -> Facts<'_> {
        Facts {
            status: self.number("status").map_or(0, |status| status as u16),
            listener: self.text("listener"),
            route: self.text("route"),
            pool: self.text("pool"),
            endpoint: self.text("endpoint"),
            client: self.text("client").and_then(|client| client.parse().ok()),
            duration: self
                .number("duration_seconds")
                .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
        }
    }

    /// The line as JSON.
    pub(super) fn json(&self, text: &str) -> String {
        if self.is_json { text.to_owned() } else { self.fields.to_string() }
    }

    /// The line for people. What was written for them is as it was.
    pub(super) fn pretty(&self, text: &str, colours: bool) -> String {
        let status = self.number("status").map_or(0, |status| status as u16);
        if !self.is_json {
            return coloured(&harmless(text), status, colours);
        }
        let word = |name: &str| self.text(name).unwrap_or("-");
        let time = self.text("time").and_then(|time| time.get(11..23)).unwrap_or("-");
        let took = brief(self.number("duration_seconds"));
        if let Some(result) = self.text("result") {
            let shown = format!("{took:>6}  {}", self.passed(result));
            return format!("{} {}", harmless(time), harmless(&shown));
        }
        let mut shown = format!(
            "{took:>6}  {} {} {}{}",
            word("client"),
            word("method"),
            self.text("host").unwrap_or_default(),
            word("target"),
        );
        // Writing to a string does not fail.
        if let Some(route) = self.text("route") {
            let _ = write!(shown, "  {route}");
        }
        if let Some(pool) = self.text("pool") {
            let _ = write!(shown, " > {pool}/{}", word("endpoint"));
        }
        if let Some(tries) = self.number("tries").filter(|tries| *tries > 1.0) {
            let _ = write!(shown, "  {tries} tries");
        }
        if let Some(error) = self.text("details").or_else(|| self.text("error")) {
            let _ = write!(shown, "  {error}");
        }
        if let Some(by) = self.text("closed_by") {
            let _ = write!(shown, " (broken off by {by})");
        }
        let (time, status) = (harmless(time), coloured(&format!("{status:03}"), status, colours));
        format!("{time} {status} {}", harmless(&shown))
    }

    /// A connection or flow that was passed on unread.
    fn passed(&self, result: &str) -> String {
        let word = |name: &str| self.text(name).unwrap_or("-");
        let count = |name: &str| self.number(name).unwrap_or_default();
        let mut shown = format!("{} {} {}", word("client"), word("protocol"), word("listener"));
        // Writing to a string does not fail.
        if let Some(sni) = self.text("sni") {
            let _ = write!(shown, " {sni}");
        }
        if let Some(pool) = self.text("pool") {
            let _ = write!(shown, " > {pool}/{}", word("endpoint"));
        }
        let _ = write!(shown, "  {result}, {} B in, {} B out", count("received_bytes"), count("sent_bytes"));
        shown
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.fields.get(name)?.as_str()
    }

    fn number(&self, name: &str) -> Option<f64> {
        let value = self.fields.get(name)?;
        value.as_f64().or_else(|| value.as_str()?.parse().ok())
    }
}

/// Text without what would move the cursor or worse: clients write much of it.
fn harmless(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn coloured(text: &str, status: u16, colours: bool) -> String {
    let colour = match status {
        _ if !colours => return text.to_owned(),
        500.. => RED,
        400.. => YELLOW,
        100.. => GREEN,
        _ => return text.to_owned(),
    };
    format!("\x1b[{colour}m{text}\x1b[0m")
}

/// `key=value` pairs; values may be quoted, with backslashes before what would end them.
fn pairs(text: &str) -> Map<String, Value> {
    let mut fields = Map::new();
    let mut rest = text;
    while let Some((key, after)) = rest.split_once('=') {
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted_to_end(quoted),
            None => {
                let (value, after) = after.split_once(' ').unwrap_or((after, ""));
                (value.to_owned(), after)
            }
        };
        let value = if value == "-" { Value::Null } else { Value::String(value) };
        fields.insert(key.trim_start().to_owned(), value);
        rest = after;
    }
    fields
}

/// Apache's combined format, as far as it says what others say, too.
fn combined(text: &str) -> Option<Map<String, Value>> {
    let (client, _) = text.split_once(' ')?;
    let (_, rest) = text.split_once("] \"")?;
    let (request, rest) = quoted_to_end(rest);
    let status = rest.trim_start().split(' ').next()?;
    status.parse::<u16>().ok()?;
    let mut words = request.split(' ');
    let named = [
        ("client", Some(client)),
        ("status", Some(status)),
        ("method", words.next()),
        ("target", words.next()),
    ];
    let field =
        |(name, value): (&str, Option<&str>)| Some((name.to_owned(), Value::String(value?.to_owned())));
    Some(named.into_iter().filter_map(field).collect())
}

/// What stands up to the closing quote, and what follows it.
fn quoted_to_end(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, text.get(at + 1..).unwrap_or_default()),
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    (value, "")
}

const RED: u8 = 31;
const GREEN: u8 = 32;
const YELLOW: u8 = 33;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_formats_are_read() {
        for text in [
            r#"{"client":"10.0.0.7","status":404,"target":"/a b"}"#,
            r#"client=10.0.0.7 status=404 target="/a b" route=-"#,
            r#"10.0.0.7 - - [10/Oct/2000:20:55:36 +0000] "GET /a\x20b HTTP/1.1" 404 - "-" "-""#,
        ] {
            let line = Line::read(text);
            let facts = line.facts();
            assert_eq!((facts.status, facts.route), (404, None), "{text}");
            assert_eq!(facts.client, "10.0.0.7".parse().ok());
            assert!(line.text("target").unwrap().starts_with("/a"));
        }
        for text in ["", "nonsense", "{", "a \" b", "=", "[]", "1 2 3] \"x"] {
            assert_eq!(Line::read(text).facts().status, 0, "{text}");
        }
    }

    #[test]
    fn a_line_is_read_at_a_glance() {
        let text = r#"{"time":"2026-01-31T12:00:00.123Z","client":"10.0.0.7","method":"GET","target":"/x","host":"a.example",
            "status":504,"duration_seconds":0.25,"route":"api","pool":"app","endpoint":"a:1","tries":2,
            "details":"it was late","closed_by":"forebay"}"#;
        let line = Line::read(text);
        let plain = "12:00:00.123 504  250ms  10.0.0.7 GET a.example/x  api > app/a:1  2 tries  it was late \
                     (broken off by forebay)";
        assert_eq!(line.pretty(text, false), plain);
        assert_eq!(line.pretty(text, true), plain.replace("504", "\x1b[31m504\x1b[0m"));
        let empty = Line::read("{}");
        assert_eq!(empty.pretty("{}", false), "- 000      -  - - -");
    }

    #[test]
    fn what_clients_write_moves_no_cursor() {
        let text = "{\"status\":200,\"target\":\"/\\u001b[2J\"}";
        assert!(!Line::read(text).pretty(text, false).contains('\x1b'));
        assert!(!Line::read(text).pretty(text, true).contains("\x1b[2J"));
        assert!(!Line::read("\x1b[2J").pretty("\x1b[2J", true).contains('\x1b'));
    }
}
