//! Every expression of the dashboard, the rules and the alerts is one that Prometheus answers, about metrics that
//! Forebay has.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use regex::Regex;
use serde_json::Value;

use crate::server::{Prometheus, until};
use crate::support::{Process, answers};

#[test]
fn dashboard_and_rules_ask_for_what_there_is() {
    let origins = [answers("a"), answers("b"), answers("c")];
    let folder = tempfile::tempdir().unwrap();
    let addresses = origins.each_ref().map(|origin| origin.address().to_string());
    let proxy = with_everything(&addresses, folder.path());
    let Some(prometheus) = Prometheus::scraping(proxy.admin()) else { return };
    let mut client = proxy.connect();
    for path in ["/", "/ring"].repeat(60) {
        client.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
        client.response();
    }
    let (recorded, mut expressions) = rules(&prometheus);
    expressions.extend(dashboard());
    assert!(expressions.len() > 100, "{}", expressions.len());
    let asked_for: BTreeSet<String> = expressions.iter().flat_map(|expression| names(expression)).collect();
    until("all that is asked for is there", || {
        let known = prometheus.api("/api/v1/label/__name__/values")?;
        let known: BTreeSet<_> = known.as_array().unwrap().iter().filter_map(Value::as_str).collect();
        let missing: Vec<_> =
            asked_for.iter().chain(&recorded).filter(|name| !known.contains(name.as_str())).collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("{missing:?}")) }
    });
    for expression in &expressions {
        let answer = prometheus.ask(expression);
        assert!(answer.is_ok(), "{expression}: {answer:?}");
    }
}

/// Metrics with a sample in this configuration are all that there are: every feature that has some is on.
fn with_everything([a, b, c]: &[String; 3], folder: &Path) -> Process {
    let list = folder.join("list.toml");
    fs::write(&list, format!("endpoints = [\"{c}\"]\n")).unwrap();
    let (list, log) = (list.display(), folder.join("access.log"));
    let log = log.display();
    Process::run(&format!(
        "workers = 2\n[overload]\nmemory = \"64GiB\"\n\
         [[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\naccess_log = {{ format = \"json\", path = \"{log}\" }}\n\
         [[route]]\nname = \"all\"\npool = \"app\"\nfilters = [{{ rate_limit = {{ rate = \"1000/s\" }} }}]\n\
         hedge = {{ after = \"90%\", extra = \"5%\" }}\n\
         [[route]]\nname = \"ring\"\npath = \"/ring\"\npool = \"other\"\n\
         [[listener]]\nname = \"db\"\nbind = \"127.0.0.1:0\"\nprotocol = \"tcp\"\npool = \"app\"\n\
         [[listener]]\nname = \"dns\"\nbind = \"127.0.0.1:0\"\nprotocol = \"udp\"\npool = \"app\"\n\
         [pool.app]\nendpoints = [\"{a}\", \"{b}\"]\n\
         health = {{ kind = \"http\", interval = \"100ms\" }}\n\
         limits.adaptive = \"enforce\"\nlimits.admission = \"enforce\"\n\
         breaker = {{ scope = \"pool\" }}\nautoscaling = {{ min = 1, max = 9 }}\n\
         [[pool.app.degradation.ladder]]\nstale = {{ memory = \"4MiB\" }}\n\
         [[pool.app.degradation.ladder]]\nrespond = {{ status = 503 }}\n\
         [pool.other]\nbreaker = {{ scope = \"endpoint\" }}\nfile = {{ path = \"{list}\" }}\n"
    ))
}

/// The names that are recorded, and all expressions, each of which was evaluated without complaint.
fn rules(prometheus: &Prometheus) -> (Vec<String>, Vec<String>) {
    let rules = until("every rule was evaluated", || {
        let groups = prometheus.api("/api/v1/rules")?;
        let groups = groups["groups"].as_array().ok_or("no groups")?;
        let rules: Vec<Value> =
            groups.iter().filter_map(|group| group["rules"].as_array()).flatten().cloned().collect();
        match rules.iter().find(|rule| rule["health"] != "ok") {
            Some(rule) => Err(rule.to_string()),
            None if rules.is_empty() => Err("no rules".to_owned()),
            None => Ok(rules),
        }
    });
    let recorded = rules.iter().filter(|rule| rule["type"] == "recording");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    (
        recorded.map(|rule| text(&rule["name"])).collect(),
        rules.iter().map(|rule| text(&rule["query"])).collect(),
    )
}

/// What the dashboard asks, with its variables at "All".
fn dashboard() -> Vec<String> {
    let text = fs::read_to_string("config/examples/grafana-dashboard.json").unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let mut found = Vec::new();
    collect(&dashboard, &mut found);
    let ids: Vec<_> =
        dashboard["panels"].as_array().unwrap().iter().map(|panel| panel["id"].to_string()).collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "a panel's id is its own");
    let variable = Regex::new(r"\$(job|instance|pool|route)\b").unwrap();
    let filled = |expression: &String| {
        let expression = expression.replace("$__rate_interval", "1m");
        let expression = variable.replace_all(&expression, ".*").into_owned();
        assert!(!expression.contains('$'), "{expression}");
        expression
    };
    found.iter().map(filled).collect()
}

/// Every expression below a value: of panels and annotations, and the series that variables take labels of.
fn collect(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(text) if name == "expr" => found.push(text.clone()),
                    Value::String(text) if name == "query" => {
                        let series =
                            text.strip_prefix("label_values(").and_then(|rest| rest.rsplit_once(','));
                        found.extend(series.map(|(series, _)| series.to_owned()));
                    }
                    _ => collect(value, found),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| collect(value, found)),
        _ => {}
    }
}

/// The metrics that an expression names.
fn names(expression: &str) -> Vec<String> {
    let labels = Regex::new(r"\{[^}]*\}|\[[^\]]*\]|\b(by|without|on|ignoring) *\([^)]*\)").unwrap();
    let bare = labels.replace_all(expression, " ").into_owned();
    let name = Regex::new(r"[a-zA-Z_][a-zA-Z0-9_:]*").unwrap();
    let metrics = name.find_iter(&bare).map(|found| found.as_str());
    let ours = |name: &&str| {
        name.contains("forebay_")
            || name.starts_with("process_")
            || name.starts_with("scrape_")
            || *name == "up"
    };
    metrics.filter(ours).map(str::to_owned).collect()
}
