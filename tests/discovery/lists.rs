//! Pools whose endpoints stand in a file that something else writes.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use crate::support::*;
use crate::{config, endpoints, expect_endpoints};

fn proxy(folder: &TempDir, pool: &str) -> Proxy {
    Proxy::start_in(folder.path(), &config(pool))
}

/// Replaces a file as careful writers do.
fn put(folder: &TempDir, name: &str, text: &str) {
    let beside = folder.path().join("beside");
    fs::write(&beside, text).unwrap();
    fs::rename(beside, folder.path().join(name)).unwrap();
}

fn loads(proxy: &Proxy, result: &str) -> f64 {
    let labels = [("pool", "app"), ("result", result)];
    proxy.metrics().sum("forebay_discovery_file_loads_total", &labels)
}

#[test]
fn a_list_is_read_again_when_it_changes() {
    let folder = tempfile::tempdir().unwrap();
    let origins = ["a", "b"].map(answers);
    let [a, b] = origins.each_ref().map(|origin| origin.address().to_string());
    put(&folder, "list.toml", &format!("endpoints = [\"{a}\"]\n"));
    let proxy = proxy(&folder, "file.path = \"list.toml\"");
    assert_eq!(endpoints(&proxy), [a.as_str()]);
    put(&folder, "list.toml", &format!("endpoints = [\"{a}\", {{ address = \"{b}\", weight = 3 }}]\n"));
    expect_endpoints(&proxy, &[&a, &b]);
    put(&folder, "list.toml", &format!("endpoints = [\"{b}\"]\n"));
    expect_endpoints(&proxy, &[&b]);
    assert_eq!(proxy.get("/").text(), "b");
    put(&folder, "list.toml", "endpoints = []\n");
    expect_endpoints(&proxy, &[]);
    assert_eq!(proxy.get("/").status(), 503);
    assert_eq!((loads(&proxy, "loaded"), loads(&proxy, "failed")), (4.0, 0.0));
}

#[test]
fn a_bad_list_changes_nothing_and_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    put(&folder, "list.json", r#"["127.0.0.1:1", {"address": "127.0.0.1:2"}]"#);
    let proxy = proxy(&folder, "file.path = \"list.json\"");
    let whole = ["127.0.0.1:1", "127.0.0.1:2"];
    assert_eq!(endpoints(&proxy), whole);
    let bad = ["", "[", "{}", "[\"127.0.0.1\"]", "[{\"address\": \"127.0.0.1:3\", \"weight\": -1}]", "[1]"];
    for (text, failures) in bad.into_iter().zip(1..) {
        put(&folder, "list.json", text);
        eventually("it is counted", || loads(&proxy, "failed") == f64::from(failures));
        assert_eq!(endpoints(&proxy), whole, "{text}");
    }
    fs::remove_file(folder.path().join("list.json")).unwrap();
    eventually("that it is gone is counted", || loads(&proxy, "failed") == bad.len() as f64 + 1.0);
    assert_eq!(endpoints(&proxy), whole);
    let sources = proxy.ask_admin("/v1/pools/app/sources").text();
    assert!(sources.contains("\"failing\"") && sources.contains("No such file"), "{sources}");
    let status = proxy.ask_admin("/v1/status").text();
    assert!(status.contains("fails, and what it named last stays"), "{status}");
    put(&folder, "list.json", r#"{"endpoints": ["127.0.0.1:3"]}"#);
    expect_endpoints(&proxy, &["127.0.0.1:3"]);
}

#[test]
fn a_bad_list_survives_a_reload() {
    let folder = tempfile::tempdir().unwrap();
    put(&folder, "list.toml", "endpoints = [\"127.0.0.1:1\"]");
    let text = config("file.path = \"list.toml\"");
    let proxy = Proxy::start_in(folder.path(), &text);
    put(&folder, "list.toml", "endpoints = [");
    replace(&proxy, folder.path(), &text);
    assert_eq!(endpoints(&proxy), ["127.0.0.1:1"]);
}

#[test]
fn a_list_may_come_later_and_have_names() {
    let folder = tempfile::tempdir().unwrap();
    let origin = answers("here");
    let port = origin.address().port();
    let proxy = proxy(&folder, "file.path = \"list.toml\"");
    assert_eq!(endpoints(&proxy), [""; 0]);
    assert_eq!(proxy.get("/").status(), 503);
    put(&folder, "list.toml", &format!("endpoints = [\"localhost:{port}\"]"));
    eventually("the pool comes alive", || proxy.get("/").status() == 200);
    assert!(endpoints(&proxy).contains(&format!("127.0.0.1:{port}")));
}

/// Has this configuration run instead.
pub(crate) fn replace(proxy: &Proxy, folder: &Path, text: &str) {
    let plan = forebay::config::from_str("test.toml", text, &|_| None, folder).unwrap();
    proxy.server().running().replace(plan).unwrap();
}
