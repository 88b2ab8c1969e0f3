//! What holds for every filter in [`KINDS`], and the means by which the filters' own tests are run:
//! options as in a file, one request, and what became of it.

use super::*;
use crate::model::options::{Data, Key, Options, Sink, Value};

#[test]
fn names_are_unique_and_described() {
    for kind in KINDS {
        assert_eq!(KINDS.iter().filter(|other| other.name == kind.name).count(), 1, "{}", kind.name);
        assert!(!kind.summary.is_empty() && !kind.summary.ends_with('.'), "{}", kind.name);
    }
}

#[test]
fn no_filter_takes_what_makes_no_sense() {
    for kind in KINDS {
        for value in ["-1", "1.5", "true", r#""a b""#, "[[]]", "{ no_such_key = 1 }"] {
            let found = faults(&format!("{} = {value}", kind.name));
            assert!(!found.is_empty(), "{} took {value}", kind.name);
        }
    }
}

/// A request to run through filters.
#[derive(Clone, Debug)]
pub(super) struct Case<'a> {
    pub(super) target: &'a [u8],
    pub(super) fields: &'a [(&'a str, &'a str)],
    pub(super) client: Option<IpAddr>,
    pub(super) scheme: &'a str,
    pub(super) host: &'a str,
    pub(super) body_length: Option<u64>,
    pub(super) max_body: Option<u64>,
}

impl Default for Case<'_> {
    fn default() -> Self {
        Self {
            target: b"/a/b?c=d",
            fields: &[],
            client: Some(IpAddr::from([192, 0, 2, 7])),
            scheme: "http",
            host: "app.example",
            body_length: None,
            max_body: None,
        }
    }
}

/// What became of a request.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) status: Option<u16>,
    pub(super) reply_fields: Vec<String>,
    pub(super) body: String,
    pub(super) fields: Vec<String>,
    pub(super) target: String,
    pub(super) authority: Option<String>,
    pub(super) max_body: Option<u64>,
}

impl<'a> Case<'a> {
    pub(super) fn head(&self) -> RequestHead {
        let mut head = RequestHead::default();
        head.set_target(self.target);
        for (name, value) in self.fields {
            head.fields.append(name.as_bytes(), value.as_bytes());
        }
        head
    }

    pub(super) fn cx(&self) -> FilterCx<'a> {
        FilterCx {
            now: crate::ambient::now(),
            client: self.client,
            scheme: self.scheme,
            host: self.host,
            body_length: self.body_length,
            max_body: self.max_body,
            added: Fields::default(),
            notes_user: true,
            user: None,
        }
    }

    /// Runs the request through the filters of `options`, which have no faults.
    pub(super) fn run(&self, options: &str) -> Done {
        let (mut head, mut cx) = (self.head(), self.cx());
        let reply = parsed(options).iter().find_map(|filter| match filter.on_request(&mut head, &mut cx) {
            Verdict::Continue => None,
            Verdict::Respond(reply) => Some(reply),
        });
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Done {
            status: reply.as_ref().map(|reply| reply.status.as_u16()),
            reply_fields: reply.as_ref().map(|reply| shown(&reply.fields)).unwrap_or_default(),
            body: reply.map(|reply| text(&reply.body)).unwrap_or_default(),
            fields: shown(&head.fields),
            target: text(head.target()),
            authority: head.authority().map(text),
            max_body: cx.max_body,
        }
    }

    /// The status of the answer, when a filter gives one.
    pub(super) fn status(&self, options: &str) -> Option<u16> {
        self.run(options).status
    }
}

/// The fields of a response after the filters of `options`.
pub(super) fn respond(options: &str, fields: &[(&str, &str)]) -> Vec<String> {
    let mut head = ResponseHead::new(StatusCode::OK);
    for (name, value) in fields {
        head.fields.append(name.as_bytes(), value.as_bytes());
    }
    parsed(options).iter().for_each(|filter| filter.on_response(&mut head));
    shown(&head.fields)
}

/// The filters of a table in which every key is a kind.
pub(super) fn parsed(options: &str) -> Filters {
    let (filters, faults) = read(options);
    assert!(faults.is_empty(), "{options}: {faults:?}");
    filters
}

/// What is wrong with the options, as `path: fault`.
pub(super) fn faults(options: &str) -> Vec<String> {
    read(options).1
}

fn read(options: &str) -> (Filters, Vec<String>) {
    let document: toml::Table = toml::from_str(options).unwrap();
    let entries = entries(document);
    let sink = Sink::default();
    let root = Options::root(&entries, &sink);
    let parse = |kind: &Kind| root.given(kind.name).and_then(|given| (kind.parse)(&given));
    let filters = KINDS.iter().filter_map(parse).collect();
    root.finish();
    let problems = sink.into_parts().0;
    (filters, problems.into_iter().map(|problem| format!("{}: {}", problem.path, problem.fault)).collect())
}

fn entries(table: toml::Table) -> Vec<(Key, Value)> {
    table.into_iter().map(|(name, value)| (Key { name, span: 0..0 }, spanned(value))).collect()
}

fn spanned(value: toml::Value) -> Value {
    let data = match value {
        toml::Value::String(text) => Data::String(text),
        toml::Value::Integer(number) => Data::Integer(number),
        toml::Value::Float(number) => Data::Float(number),
        toml::Value::Boolean(flag) => Data::Boolean(flag),
        toml::Value::Array(items) => Data::Array(items.into_iter().map(spanned).collect()),
        toml::Value::Table(table) => Data::Table(entries(table)),
        toml::Value::Datetime(_) => Data::Broken,
    };
    Value::new(0..0, data)
}

fn shown(fields: &Fields) -> Vec<String> {
    let text = String::from_utf8_lossy;
    fields.iter().map(|(_, name, value)| format!("{}: {}", text(name), text(value))).collect()
}
