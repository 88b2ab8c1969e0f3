//! What was written, as JSON in which nothing is to be seen that is nobody's business: [`SECRETS`] says
//! which keys hold secrets. What came from the environment is taken for one as well, unless its key is
//! [`HARMLESS`]: it is by way of the environment that secrets are kept out of files. Names of files are
//! shown; what is in them never is.

use std::fmt;

use serde_json::{Map, Value as Json};

use crate::model::options::{Data, Key, Value};

/// One step from a table or a list to what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step<'a> {
    Key(&'a str),
    Item(usize),
}

/// Where a value stands. As text, as in `pool.app.endpoints[1]`.
#[derive(Clone, Debug, Default)]
pub(super) struct Place<'a>(pub(super) Vec<Step<'a>>);

impl<'a> Place<'a> {
    pub(super) fn key(&self, key: &'a str) -> Self {
        self.to(Step::Key(key))
    }

    pub(super) fn item(&self, index: usize) -> Self {
        self.to(Step::Item(index))
    }

    fn to(&self, step: Step<'a>) -> Self {
        Self(self.0.iter().copied().chain([step]).collect())
    }

    /// The innermost keys, list items passed over; the innermost first.
    fn keys(&self) -> impl Iterator<Item = &'a str> + '_ {
        self.0.iter().rev().filter_map(|step| match step {
            Step::Key(key) => Some(*key),
            Step::Item(_) => None,
        })
    }

    /// Whether the innermost keys are those of `pattern`, as in `users.*`.
    fn ends_as(&self, pattern: &str) -> bool {
        let mut keys = self.keys();
        pattern.rsplit('.').all(|wanted| keys.next().is_some_and(|key| wanted == "*" || wanted == key))
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        for (index, step) in self.0.iter().enumerate() {
            match step {
                Step::Item(item) => write!(f, "[{item}]")?,
                Step::Key(key) => {
                    f.write_str(if index == 0 { "" } else { "." })?;
                    if key.chars().all(plain) { f.write_str(key)? } else { write!(f, "{key:?}")? }
                }
            }
        }
        Ok(())
    }
}

/// A table as it may be shown.
pub(super) fn shown_entries<'a>(place: &Place<'a>, entries: &'a [(Key, Value)]) -> Json {
    let shown = entries.iter().map(|(key, value)| (key.name.clone(), shown(&place.key(&key.name), value)));
    Json::Object(shown.collect::<Map<_, _>>())
}

/// A value as it may be shown.
pub(super) fn shown<'a>(place: &Place<'a>, value: &'a Value) -> Json {
    if is_secret(place, value) {
        return Json::from(MASK);
    }
    match &value.data {
        Data::String(text) => Json::from(text.as_str()),
        Data::Integer(number) => Json::from(*number),
        Data::Float(number) => Json::from(*number),
        Data::Boolean(flag) => Json::from(*flag),
        Data::Array(items) => {
            let shown = items.iter().enumerate().map(|(index, item)| shown(&place.item(index), item));
            Json::Array(shown.collect())
        }
        Data::Table(entries) => shown_entries(place, entries),
        Data::Broken => Json::Null,
    }
}

fn is_secret(place: &Place<'_>, value: &Value) -> bool {
    let Some(key) = place.keys().next() else { return false };
    if SECRETS.iter().any(|pattern| place.ends_as(pattern)) {
        return true;
    }
    let text = matches!(value.data, Data::String(_));
    let field = FIELDS.iter().any(|pattern| place.ends_as(pattern));
    (text && !names_a_file(key) && mentions(key, &WORDS))
        || (field && mentions(key, &FIELD_WORDS))
        || (value.expanded && !is_harmless(place, key))
}

fn mentions(key: &str, words: &[&str]) -> bool {
    let key = key.to_ascii_lowercase();
    words.iter().any(|word| key.contains(word))
}

fn names_a_file(key: &str) -> bool {
    key.ends_with("_file")
}

fn is_harmless(place: &Place<'_>, key: &str) -> bool {
    names_a_file(key)
        || HARMLESS.contains(&key)
        || place.keys().any(|section| HARMLESS_SECTIONS.contains(&section))
}

/// What stands in place of a secret.
const MASK: &str = "***";

/// Keys that hold secrets, by how their paths end; `*` is any key.
const SECRETS: [&str; 5] =
    ["basic_auth.users.*", "health.send", "health.send.*", "otlp.headers.*", "tls.psk"];

/// Words in the names of keys whose text is secret.
const WORDS: [&str; 5] = ["password", "passwd", "secret", "token", "credential"];

/// Where header fields and query parameters stand, with their values.
const FIELDS: [&str; 4] = ["headers.*", "query.*", "set.*", "add.*"];

/// Words in the names of those that identify someone.
const FIELD_WORDS: [&str; 7] = ["auth", "cookie", "key", "token", "secret", "password", "session"];

/// Keys whose values may come from the environment and be shown none the less: where, how many, how long.
const HARMLESS: [&str; 51] = [
    "access_log",
    "address",
    "backup",
    "bind",
    "ca",
    "cert",
    "client_ca",
    "client_cert",
    "client_key",
    "client_names",
    "cookie",
    "debounce",
    "enabled",
    "endpoint",
    "endpoints",
    "facility",
    "fail_open",
    "fields",
    "format",
    "forwarded",
    "hash_key",
    "host",
    "include",
    "key",
    "level",
    "listener",
    "method",
    "name",
    "names",
    "path",
    "path_prefix",
    "path_regex",
    "policy",
    "pool",
    "port",
    "priority",
    "protocol",
    "record",
    "sample",
    "server_name",
    "servers",
    "slow_start",
    "socket",
    "state_dir",
    "syslog",
    "trusted_proxies",
    "watch",
    "weight",
    "workers",
    "x_forwarded",
    "zone",
];

/// Tables of numbers, sizes and times, and of what tells processes apart.
const HARMLESS_SECTIONS: [&str; 10] =
    ["drain", "overload", "timeouts", "limits", "retry", "breaker", "outlier", "hedge", "split", "resource"];

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::read_str;

    fn shown_of(text: &str) -> Json {
        let env = |name: &str| Some(if name == "PORT" { "80" } else { "hunter2" }.to_owned());
        let text = text.to_owned()
            + "\n[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:${PORT}\"\n[[route]]\nname = \"all\"\n\
               pool = \"app\"\nheaders = { x-api-key = \"k1\", x-plain = \"p1\" }\n\
               filters = [{ basic_auth = { users = { alice = \"pw1\" } } }, \
               { request_headers = { set = { authorization = \"Bearer b1\", x-a = \"${SECRET}\", x-b = \"b\" } } }]\n\
               [pool.app]\nendpoints = [\"${HOST}:1\"]\nlimits = { wait = \"1s\" }\n\
               health = { kind = \"tcp\", send = \"AUTH s1\" }\n[pool.tokens]\nendpoints = \"c:1\"\n";
        let reading = read_str("test.toml", &text, &env, Path::new(""));
        let plan = reading.plan.unwrap_or_else(|| panic!("{}", reading.report));
        plan.origin.shown()
    }

    #[test]
    fn secrets_are_not_shown() {
        let shown = shown_of("");
        let text = shown.to_string();
        for secret in ["k1", "pw1", "b1", "s1"] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
        let route = &shown["route"][0];
        assert_eq!(route["filters"][0]["basic_auth"]["users"]["alice"], MASK);
        assert_eq!(route["headers"], serde_json::json!({ "x-api-key": MASK, "x-plain": "p1" }));
        let set = &route["filters"][1]["request_headers"]["set"];
        assert_eq!(set, &serde_json::json!({ "authorization": MASK, "x-a": MASK, "x-b": "b" }));
    }

    #[test]
    fn what_is_harmless_is_shown_as_it_is() {
        let shown = shown_of("zone = \"${ZONE}\"\ndrain.timeout = \"${PORT}s\"");
        assert_eq!(shown["listener"][0]["bind"], "127.0.0.1:80");
        assert_eq!(shown["pool"]["app"]["endpoints"][0], "hunter2:1");
        assert_eq!(shown["pool"]["app"]["limits"]["wait"], "1s");
        assert_eq!(shown["pool"]["tokens"]["endpoints"], "c:1", "a name is no secret");
        assert_eq!((&shown["zone"], &shown["drain"]["timeout"]), (&"hunter2".into(), &"80s".into()));
    }

    #[test]
    fn secrets_are_known_by_their_place() {
        let text = Value::new(0..0, Data::String("x".into()));
        let from_environment = Value { expanded: true, ..text.clone() };
        let place = |keys: &[&'static str]| Place(keys.iter().map(|key| Step::Key(key)).collect());
        for (keys, value, secret) in [
            (&["admin", "read", "token"][..], &text, true),
            (&["admin", "read", "token_file"], &from_environment, false),
            (&["admin", "read", "client_names"], &text, false),
            (&["pool", "app", "sticky", "cookie"], &text, false),
            (&["pool", "app", "sticky", "cookie"], &from_environment, false),
            (&["anything", "new"], &text, false),
            (&["anything", "new"], &from_environment, true),
            (&["anything", "client_secret"], &text, true),
            (&["route", "split", "token"], &Value::new(0..0, Data::Integer(1)), false),
            (&["health", "headers", "Proxy-Authorization"], &text, true),
            (&["tracing", "otlp", "headers", "x-team"], &text, true),
            (&["tracing", "otlp", "endpoint"], &from_environment, false),
            (&["tracing", "otlp", "resource", "host.id"], &from_environment, false),
        ] {
            assert_eq!(is_secret(&place(keys), value), secret, "{keys:?}");
        }
    }

    #[test]
    fn places_read_as_paths() {
        let place = Place::default().key("pool").key("a.b").key("endpoints").item(1).key("weight");
        assert_eq!(place.to_string(), "pool.\"a.b\".endpoints[1].weight");
    }
}
