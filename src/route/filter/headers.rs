//! `request_headers` and `response_headers`: fields removed, then set, then added. Fields that
//! frame a message or speak to one hop only are not theirs to change.

use http::{HeaderName, HeaderValue};

use super::template::Template;
use super::{Filter, FilterCx, Kind, Verdict};
use crate::model::field::Known;
use crate::model::options::{Fault, Given, Options};
use crate::model::{Fields, RequestHead, ResponseHead};

pub(super) const REQUEST: Kind = Kind {
    name: "request_headers",
    summary: "sets, adds and removes header fields of requests",
    parse: |given| Changes::parse(given, value).map(|changes| Box::new(changes) as Box<dyn Filter>),
};

pub(super) const RESPONSE: Kind = Kind {
    name: "response_headers",
    summary: "sets, adds and removes header fields of responses",
    parse: |given| Changes::parse(given, fixed).map(|changes| Box::new(changes) as Box<dyn Filter>),
};

/// Changes to make, with values of type `V`.
#[derive(Debug)]
struct Changes<V> {
    remove: Vec<Box<[u8]>>,
    set: Vec<(Box<[u8]>, V)>,
    add: Vec<(Box<[u8]>, V)>,
}

impl Filter for Changes<Template> {
    fn on_request(&self, head: &mut RequestHead, cx: &mut FilterCx<'_>) -> Verdict {
        for name in &self.remove {
            head.fields.remove(name);
        }
        for (name, value) in &self.set {
            with_value(value, head, cx, |fields, value| fields.set(name, value));
        }
        for (name, value) in &self.add {
            with_value(value, head, cx, |fields, value| fields.append(name, value));
        }
        Verdict::Continue
    }
}

impl Filter for Changes<Box<[u8]>> {
    fn on_response(&self, head: &mut ResponseHead) {
        for name in &self.remove {
            head.fields.remove(name);
        }
        for (name, value) in &self.set {
            head.fields.set(name, value);
        }
        for (name, value) in &self.add {
            head.fields.append(name, value);
        }
    }
}

/// Values without placeholders are copied once, straight into the head.
fn with_value(
    template: &Template,
    head: &mut RequestHead,
    cx: &FilterCx<'_>,
    put: impl FnOnce(&mut Fields, &[u8]),
) {
    match template {
        Template::Fixed(value) => put(&mut head.fields, value),
        Template::Parts(_) => {
            let value = template.render(head, cx);
            put(&mut head.fields, &value);
        }
    }
}

impl<V> Changes<V> {
    /// `{ set = { NAME = "VALUE" }, add = { NAME = "VALUE" }, remove = ["NAME"] }`
    fn parse(given: &Given<'_>, value: fn(&str) -> Result<V, Fault>) -> Option<Self> {
        let options = given.table()?;
        let changes = Self {
            remove: options.items("remove").iter().filter_map(removal).collect(),
            set: fields(&options, "set", value),
            add: fields(&options, "add", value),
        };
        if changes.remove.is_empty() && changes.set.is_empty() && changes.add.is_empty() {
            given.fault("nothing is changed", Some("write `set = { NAME = \"VALUE\" }`".into()));
        }
        options.finish();
        Some(changes)
    }
}

/// The fields of one table; those that are unfit are reported and left out.
pub(super) fn fields<V>(
    options: &Options<'_>,
    key: &'static str,
    value: fn(&str) -> Result<V, Fault>,
) -> Vec<(Box<[u8]>, V)> {
    let Some(table) = options.table(key) else { return Vec::new() };
    let read = |(key, given): (&crate::model::options::Key, Given<'_>)| {
        let text = given.read::<String>()?;
        match changeable(&key.name).and_then(|name| Ok((name, value(&text)?))) {
            Ok(field) => Some(field),
            Err(fault) => {
                given.fault(fault.text, fault.hint);
                None
            }
        }
    };
    table.entries().filter_map(read).collect()
}

fn removal(given: &Given<'_>) -> Option<Box<[u8]>> {
    let name = given.read::<String>()?;
    changeable(&name).map_err(|fault| given.fault(fault.text, fault.hint)).ok()
}

/// The name of a field that filters may change.
fn changeable(name: &str) -> Result<Box<[u8]>, Fault> {
    if HeaderName::from_bytes(name.as_bytes()).is_err() {
        return Err(Fault::new(format_args!("{name:?} cannot be the name of a header field")));
    }
    let why = match Known::of(name.as_bytes()) {
        Known::Host => "to send another host, use `rewrite_host`",
        Known::ContentLength | Known::TransferEncoding | Known::Trailer | Known::Expect => {
            "how messages are framed and announced follows from what is sent"
        }
        known if known.is_hop_by_hop() => "it concerns one connection only, and is written for each",
        _ => return Ok(name.as_bytes().into()),
    };
    Err(Fault::new(format_args!("`{name}` cannot be changed")).hint(why))
}

/// A value with placeholders.
fn value(text: &str) -> Result<Template, Fault> {
    checked(text).and_then(Template::parse)
}

/// A value without placeholders.
pub(super) fn fixed(text: &str) -> Result<Box<[u8]>, Fault> {
    match value(text)? {
        Template::Fixed(value) => Ok(value),
        Template::Parts(_) => Err(Fault::new("placeholders do not work in responses")
            .hint("they stand for parts of a request; write `{{` for a brace itself")),
    }
}

fn checked(text: &str) -> Result<&str, Fault> {
    match HeaderValue::from_bytes(text.as_bytes()) {
        Ok(_) if text.trim_matches([' ', '\t']) == text => Ok(text),
        Ok(_) => Err(Fault::new("a header field does not begin or end with a space")),
        Err(_) => Err(Fault::new(format_args!("{text:?} cannot be the value of a header field"))),
    }
}

#[cfg(test)]
mod tests {
    use crate::route::filter::tests::{Case, faults, respond};

    #[test]
    fn requests_are_changed_in_a_fixed_order() {
        let options = r#"request_headers = {
            remove = ["Cookie", "X-B"],
            set = { X-A = "{host}", X-B = "2" },
            add = { x-c = "{client_ip}{{}" } }"#;
        let case =
            Case { fields: &[("x-a", "0"), ("cookie", "c"), ("X-C", "1"), ("x-b", "1")], ..Case::default() };
        let done = case.run(options);
        assert_eq!(done.status, None);
        assert_eq!(done.fields, ["X-C: 1", "X-A: app.example", "X-B: 2", "x-c: 192.0.2.7{}"]);
    }

    #[test]
    fn responses_are_changed_too() {
        let options = r#"response_headers = {
            remove = "server",
            set = { Strict-Transport-Security = "max-age=1" },
            add = { Vary = "a" } }"#;
        let fields = respond(options, &[("Server", "x"), ("vary", "b")]);
        assert_eq!(fields, ["vary: b", "Strict-Transport-Security: max-age=1", "Vary: a"]);
    }

    #[test]
    fn what_cannot_be_changed_is_named() {
        for (options, fault) in [
            (
                r#"request_headers = { set = { Host = "a" } }"#,
                "request_headers.set.Host: `Host` cannot be changed",
            ),
            (r#"request_headers = { add = { Te = "a" } }"#, "request_headers.add.Te: `Te` cannot be changed"),
            (
                r#"response_headers = { remove = ["content-length"] }"#,
                "response_headers.remove[0]: `content-length` cannot be changed",
            ),
            (
                r#"response_headers = { set = { a = "b\r\nc" } }"#,
                r#"response_headers.set.a: "b\r\nc" cannot be the value of a header field"#,
            ),
            (
                r#"response_headers = { set = { "a b" = "" } }"#,
                r#"response_headers.set."a b": "a b" cannot be the name of a header field"#,
            ),
            (
                r#"response_headers = { set = { a = "{host}" } }"#,
                "response_headers.set.a: placeholders do not work in responses",
            ),
            (
                r#"request_headers = { set = { a = " b" } }"#,
                "request_headers.set.a: a header field does not begin or end with a space",
            ),
            ("request_headers = { sets = {} }", "request_headers.sets: unknown key `sets`"),
        ] {
            assert!(faults(options).iter().any(|found| found == fault), "{options}: {:?}", faults(options));
        }
        assert_eq!(faults("request_headers = {}"), ["request_headers: nothing is changed"]);
    }
}
