//! What a route matches, from the keys of `[[route]]`: hosts, a path, methods, header fields and
//! query parameters.

use http::HeaderName;

use crate::model::options::{Data, Given, Key, Options, Sink};
use crate::route::path::{Normalised, normalise};
use crate::route::{FieldMatch, PathMatch, Pattern, Rule, ValueMatch};

/// Reads which requests a route takes; `None` when some of it is unfit, for what is left would
/// match more than was meant.
pub(super) fn rule(options: &Options<'_>, sink: &Sink) -> Option<Rule> {
    let errors = sink.errors();
    let rule = Rule {
        hosts: any_of(options, "host").iter().filter_map(Given::read).collect(),
        path: path(options),
        methods: any_of(options, "method").iter().filter_map(Given::read).collect(),
        headers: fields(options, "headers", header_name),
        query: fields(options, "query", |key, _| Some(key.name.clone())),
    };
    (sink.errors() == errors).then_some(rule)
}

/// The items of a key of which any will do; an empty list is a problem, for none would.
fn any_of<'a>(options: &Options<'a>, key: &'static str) -> Vec<Given<'a>> {
    let Some(given) = options.given(key) else { return Vec::new() };
    let items = given.items();
    if items.is_empty() {
        given.fault("the route never matches: none would do", Some(format!("leave `{key}` out for all")));
    }
    items
}

/// One of three keys, or every path.
fn path(options: &Options<'_>) -> PathMatch {
    let exact = options.given("path");
    let prefix = options.given("path_prefix");
    let regex = options.given("path_regex");
    let several: Vec<_> = [&exact, &prefix, &regex].into_iter().flatten().skip(1).collect();
    for given in several {
        let fault = "a route has one of `path`, `path_prefix` and `path_regex`";
        given.fault(fault, Some("leave it out, or make another route".into()));
    }
    let exact = exact.and_then(|given| plain_path(&given)).map(PathMatch::Exact);
    let prefix = prefix.and_then(|given| plain_path(&given)).map(PathMatch::Prefix);
    let regex = regex.and_then(|given| given.read::<Pattern>()).map(PathMatch::Regex);
    exact.or(prefix).or(regex).unwrap_or_default()
}

/// A path that requests can have when routes see them.
fn plain_path(given: &Given<'_>) -> Option<String> {
    let path: String = given.read()?;
    let (fault, hint) = if !path.starts_with('/') {
        (format!("{path:?} is not a path"), Some(format!("write {:?}", format!("/{path}"))))
    } else if path.contains('?') {
        (
            "a path has no `?`".to_owned(),
            Some("match query parameters as in `query = { debug = true }`".to_owned()),
        )
    } else {
        match normalise(path.as_bytes()) {
            Normalised::Unchanged => return Some(path),
            Normalised::Rewritten(plain) => {
                let plain = String::from_utf8_lossy(&plain).into_owned();
                (
                    "no request has this path: `.` and `..` are resolved first".into(),
                    Some(format!("write {plain:?}")),
                )
            }
            Normalised::Refused => (format!("no request has the path {path:?}"), None),
        }
    };
    given.fault(fault, hint);
    None
}

/// `{ NAME = "value", NAME = true, NAME = { regex = "v.*" } }`
fn fields(
    options: &Options<'_>,
    key: &'static str,
    name: fn(&Key, &Given<'_>) -> Option<String>,
) -> Vec<FieldMatch> {
    let Some(table) = options.table(key) else { return Vec::new() };
    let field = |(key, given): (&Key, Given<'_>)| {
        let (name, value) = (name(key, &given), value(&given));
        Some(FieldMatch { name: name?, value: value? })
    };
    table.entries().filter_map(field).collect()
}

fn header_name(key: &Key, given: &Given<'_>) -> Option<String> {
    if HeaderName::from_bytes(key.name.as_bytes()).is_err() {
        given.fault(format!("{:?} cannot be the name of a header field", key.name), None);
        return None;
    }
    if key.name.eq_ignore_ascii_case("host") {
        given.fault("hosts are matched by a key of their own", Some("write `host = \"example.com\"`".into()));
        return None;
    }
    Some(key.name.clone())
}

fn value(given: &Given<'_>) -> Option<ValueMatch> {
    match &given.value().data {
        Data::String(text) => Some(ValueMatch::Exact(text.clone())),
        Data::Boolean(true) => Some(ValueMatch::Present),
        Data::Table(_) => {
            let options = given.table()?;
            let pattern = options.require::<Pattern>("regex");
            options.finish();
            pattern.map(ValueMatch::Regex)
        }
        Data::Broken => None,
        _ => {
            let hint = "write a string, `true` for any value, or `{ regex = \"v.*\" }`";
            given.fault(format!("{} is nothing to match", given.value().kind()), Some(hint.into()));
            None
        }
    }
}
