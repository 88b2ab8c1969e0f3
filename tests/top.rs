//! The commands that present a running Forebay, as processes of their own: what they print without a
//! terminal, as JSON, and what a log level does that comes and goes.

mod support;

use std::process::{Command, Output};

use support::*;

/// A running Forebay with one pool of a good endpoint and a dead one.
struct Running {
    process: Process,
    origin: Origin,
}

impl Running {
    fn start() -> Self {
        let origin = answers("hello");
        let text = format!(
            "workers = 1\n[log]\nlevel = \"info\"\n[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n\
             [[route]]\npool = \"app\"\n[pool.app]\nendpoints = [\"{}\", \"127.0.0.1:9\"]\n\
             [admin]\nbind = \"127.0.0.1:0\"\n",
            origin.address()
        );
        Self { process: Process::run(&text), origin }
    }

    /// Runs a command against it.
    fn ask(&self, args: &[&str]) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
        command.args(args).args(["--admin", &self.process.admin().to_string()]);
        let Output { status, stdout, stderr } = command.output().expect("it runs");
        assert!(status.success(), "{args:?}: {}", String::from_utf8_lossy(&stderr));
        String::from_utf8(stdout).expect("UTF-8")
    }
}

#[test]
fn top_prints_plain_lines_without_a_terminal() {
    let running = Running::start();
    let text = running.ask(&["top", "--once", "--interval", "100ms"]);
    let address = running.origin.address().to_string();
    for part in ["generation 1", "requests/s", "POOL / ENDPOINT", "app ", &address, "127.0.0.1:9 "] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
    assert!(!text.contains('\u{1b}'), "no escapes: {text:?}");
}

#[test]
fn status_pools_and_endpoints_print_tables_and_json() {
    let running = Running::start();
    let status = running.ask(&["status"]);
    assert!(status.contains("is ready") && status.contains("web ") && status.contains("2/2"), "{status}");
    assert!(running.ask(&["pools"]).contains("app   peak_ewma  2/2"));
    assert!(running.ask(&["endpoints"]).contains("127.0.0.1:9 "));
    let _idle = running.process.connect();
    eventually("the connection shows", || running.ask(&["connections"]).contains("web       127.0.0.1:"));
    for (command, field) in [
        ("connections", "connections"),
        ("status", "warnings"),
        ("pools", "pools"),
        ("endpoints", "endpoints"),
    ] {
        let json: serde_json::Value = serde_json::from_str(&running.ask(&[command, "--json"])).expect("JSON");
        assert!(json[field].is_array(), "{command}: {json}");
    }
}

#[test]
fn a_log_level_comes_and_goes() {
    let running = Running::start();
    assert_eq!(running.ask(&["log-level"]), "info\n");
    let changed = running.ask(&["log-level", "forebay=debug", "--for", "500ms"]);
    assert!(changed.starts_with("forebay=debug until ") && changed.ends_with(", then info\n"), "{changed}");
    eventually("the usual level is back", || running.ask(&["log-level"]) == "info\n");
    running.ask(&["log-level", "debug"]);
    assert!(running.ask(&["status"]).contains("warning: the log level is \"debug\" and not \"info\""));
    // The usual one is no change that has to end.
    assert_eq!(running.ask(&["log-level", "info"]), "info\n");
}

#[test]
fn a_reload_changes_the_usual_log_level() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let write = |level: &str| {
        let text = format!(
            "workers = 1\n[log]\nlevel = \"{level}\"\n[reload]\nwatch = false\n[admin]\nbind = \"127.0.0.1:0\"\n\
             [[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n\
             [[route]]\nfilters = [{{ respond = {{ status = 200 }} }}]\n"
        );
        std::fs::write(folder.path().join("f.toml"), text).expect("it takes a file");
    };
    write("info");
    let mut process = Process::spawn(folder.path(), &["run", "-c", "f.toml"]);
    process.wait_until_up();
    let running = Running { process, origin: answers("hello") };
    write("warn");
    let told = running.ask(&["reload"]);
    assert!(!told.contains("restart"), "{told}");
    assert_eq!(running.ask(&["log-level"]), "warn\n");
    running.ask(&["log-level", "debug"]);
    write("error");
    running.ask(&["reload"]);
    let level = running.ask(&["log-level"]);
    assert!(level.starts_with("debug until ") && level.ends_with(", then error\n"), "{level}");
}
