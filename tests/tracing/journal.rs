//! Spans and the journal lead to each other.

use forebay::trace::{Kind, Span};
use serde_json::Value;

use crate::support::{Origin, Proxy, answers, answers_raw, eventually};
use crate::{ALL, holding, says};

fn journal(proxy: &Proxy) -> Vec<Value> {
    let page: Value = serde_json::from_slice(&proxy.ask_admin("/v1/journal").body).unwrap();
    page.get("entries").and_then(Value::as_array).unwrap().clone()
}

#[test]
fn an_ejection_names_a_trace_and_the_next_try_names_the_ejection() {
    let bad = answers_raw("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n");
    let (one, two) = (answers("a"), answers("b"));
    let addresses = [&bad, &one, &two].map(|origin: &Origin| format!("\"{}\"", origin.address()));
    let toml = format!(
        "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n[[route]]\npool = \"app\"\n\
         [pool.app]\npolicy = \"round_robin\"\nendpoints = [{}]\nretry.tries = 0\n\
         [pool.app.outlier]\nbase_ejection = \"1s\"\nmax_ejection = \"1s\"\n",
        addresses.join(", ")
    );
    let proxy = holding(ALL, |tables| Proxy::start(&format!("{toml}{tables}")));
    let mut spans: Vec<Span> = Vec::new();
    eventually("a try after an ejection", || {
        proxy.get("/");
        spans.extend(proxy.server().registry().spans().take());
        spans.iter().any(|span| !says(span, "forebay.journal.number").is_empty())
    });
    let late = spans.iter().find(|span| !says(span, "forebay.journal.number").is_empty()).unwrap();
    assert_eq!((late.kind, says(late, "forebay.endpoint")), (Kind::Client, bad.address().to_string()));
    let entries = journal(&proxy);
    let number: u64 = says(late, "forebay.journal.number").parse().unwrap();
    let named = entries.iter().find(|entry| entry.get("number").and_then(Value::as_u64) == Some(number));
    let named = named.and_then(|entry| entry.get("endpoint")).and_then(Value::as_str);
    assert_eq!(named, Some(&*bad.address().to_string()));
    let trace = entries.iter().find_map(|entry| entry.get("trace_id")).expect("a trace that failed");
    let trace = trace.as_str().unwrap();
    let kept = |span: &&Span| span.trace.to_string() == trace && span.kind == Kind::Client;
    assert!(spans.iter().filter(kept).any(|span| says(span, "error.type") == "503"));
}
