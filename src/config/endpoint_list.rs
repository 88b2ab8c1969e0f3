//! A list of endpoints in a file of its own, which something else writes: in TOML as in the pool, or in
//! JSON. All of it is read or nothing.

use std::path::Path;

use super::plan::EndpointPlan;
use super::pool::endpoints;
use super::source::Source;
use super::{Cx, Report, parse};
use crate::model::options::{Data, Key, Options, Problem, Sink, Value};
use crate::model::{Address, Target};

/// Reads the list `text` of the file at `path`: JSON if the name ends so, else TOML. Unix sockets are only
/// taken with `sockets`.
///
/// # Errors
/// When it is malformed; the report has every problem.
pub fn read_endpoints(path: &Path, text: &str, sockets: bool) -> Result<Vec<EndpointPlan>, Report> {
    let sink = Sink::default();
    let is_json = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
    let entries = if is_json { json_entries(text, &sink) } else { parse::parse(text, 0, &|_| None, &sink) };
    let base_dir = path.parent().map(Path::to_owned).unwrap_or_default();
    let cx = Cx::new(&base_dir, &sink);
    let options = Options::root(&entries, &sink);
    let given = options.required("endpoints");
    let list = given.as_ref().map(|given| endpoints::list(given, &cx)).unwrap_or_default();
    options.finish();
    let socket = list.iter().find(|one| matches!(one.target, Target::Address(Address::Unix(_))));
    if let (false, Some(one)) = (sockets, socket) {
        let fault = format!("there is no name to expect in the certificate of {}", one.target);
        sink.report(Problem::new("endpoints", None, fault).hint("the pool needs `tls.server_name` for that"));
    }
    let failed = sink.errors() > 0;
    let (mut problems, _) = sink.into_parts();
    if !failed {
        return Ok(list);
    }
    if is_json {
        problems.iter_mut().for_each(name_place);
    }
    let name = path.display().to_string();
    Err(Report::new(Source::new(name, text), problems))
}

/// The list, or a table that holds it as `endpoints`.
fn json_entries(text: &str, sink: &Sink) -> Vec<(Key, Value)> {
    let data = match serde_json::from_str::<serde_json::Value>(text) {
        Ok(value) if value.is_array() || value.is_object() => data(value),
        Ok(_) => {
            sink.incomplete();
            sink.report(Problem::new("", None, "expected a list"));
            return Vec::new();
        }
        Err(error) => {
            sink.incomplete();
            sink.report(Problem::new("", None, error.to_string()));
            return Vec::new();
        }
    };
    match data {
        Data::Table(entries) => entries,
        list => vec![(key("endpoints".to_owned()), Value::new(0..0, list))],
    }
}

fn data(value: serde_json::Value) -> Data {
    use serde_json::Value as Json;
    match value {
        Json::String(text) => Data::String(text),
        Json::Number(number) => match number.as_i64() {
            Some(number) => Data::Integer(number),
            None => Data::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::Bool(flag) => Data::Boolean(flag),
        Json::Array(items) => {
            Data::Array(items.into_iter().map(|item| Value::new(0..0, data(item))).collect())
        }
        // What is absent and what is null mean the same to those who write JSON.
        Json::Object(entries) => {
            let given = entries.into_iter().filter(|(_, value)| !value.is_null());
            Data::Table(given.map(|(name, value)| (key(name), Value::new(0..0, data(value)))).collect())
        }
        Json::Null => Data::Array(Vec::new()),
    }
}

fn key(name: String) -> Key {
    Key { name, span: 0..0 }
}

/// Says in words where a problem is, for JSON is read without places.
fn name_place(problem: &mut Problem) {
    problem.span = None;
    problem.related = None;
    if !problem.path.is_empty() {
        problem.fault = format!("{}: {}", problem.path, problem.fault);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, text: &str) -> Result<Vec<String>, String> {
        let shown = |plan: &EndpointPlan| format!("{} {} {}", plan.target, plan.weight, plan.level);
        match read_endpoints(Path::new(name), text, false) {
            Ok(list) => Ok(list.iter().map(shown).collect()),
            Err(report) => Err(report.to_string()),
        }
    }

    #[test]
    fn toml_and_json_say_the_same() {
        let expected = ["127.0.0.1:1 1 0", "app:2 7 0", "127.0.0.1:3 1 1"].map(str::to_owned);
        let toml = r#"endpoints = ["127.0.0.1:1", { address = "app:2", weight = 7 }, { address = "127.0.0.1:3", backup = true }]"#;
        assert_eq!(read("list.toml", toml).unwrap(), expected);
        let json = r#"["127.0.0.1:1", {"address": "app:2", "weight": 7, "zone": null}, {"address": "127.0.0.1:3", "backup": true}]"#;
        assert_eq!(read("list.json", json).unwrap(), expected);
        assert_eq!(read("list.json", &format!("{{\"endpoints\": {json}}}")).unwrap(), expected);
        assert_eq!(read("list.toml", "endpoints = []").unwrap(), [""; 0]);
        assert_eq!(read("list.json", "[]").unwrap(), [""; 0]);
    }

    #[test]
    fn what_is_wrong_has_a_place() {
        let error = read("list.toml", "endpoints = [\"127.0.0.1\"]").unwrap_err();
        assert!(error.contains("list.toml:1:14"), "{error}");
        let error = read("list.json", "[{\"address\": \"127.0.0.1:1\", \"weight\": 0}]").unwrap_err();
        assert!(error.contains("endpoints[0].weight: 0 is not from 1 to 1000"), "{error}");
        let error = read("list.json", "[{\"address\":").unwrap_err();
        assert!(error.contains("line 1 column 12"), "{error}");
        for half_written in ["", "endpoints = [", "other = 1"] {
            assert!(read("list.toml", half_written).is_err(), "{half_written:?}");
        }
        assert!(read("list.json", "null").unwrap_err().contains("expected a list"));
        let error = read("list.toml", "endpoints = [\"unix:/s\"]").unwrap_err();
        assert!(error.contains("tls.server_name"), "{error}");
    }
}
