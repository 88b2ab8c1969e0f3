//! The examples of rules and alerts by themselves: promtool reads them, and every alert is shown to be raised by
//! what it is for, and by nothing else.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use crate::support::peer;

#[test]
fn promtool_reads_every_example() {
    let Some(promtool) = peer("promtool") else { return };
    for (kind, files) in [
        ("rules", ["prometheus-rules.yml", "prometheus-alerts.yml"].as_slice()),
        ("config", &["prometheus.yml"]),
    ] {
        run(promtool.command().current_dir("config/examples").args(["check", kind]).args(files));
    }
}

#[test]
fn alerts_are_raised_by_what_they_are_for() {
    let Some(promtool) = peer("promtool") else { return };
    run(promtool.command().current_dir("tests/prometheus").args(["test", "rules", "alerts.yml"]));
}

#[test]
fn every_alert_has_a_case_that_raises_it_and_one_that_does_not() {
    let alerts = fs::read_to_string("config/examples/prometheus-alerts.yml").unwrap();
    let alerts: BTreeSet<_> = after(&alerts, "- alert: ").collect();
    let cases = fs::read_to_string("tests/prometheus/alerts.yml").unwrap();
    let (mut raised, mut quiet) = (BTreeSet::new(), BTreeSet::new());
    let mut lines = cases.lines();
    while let Some(line) = lines.next() {
        if let Some((_, alert)) = line.split_once("- alertname: ") {
            let expected = lines.find(|line| line.contains("exp_alerts:")).unwrap();
            if expected.ends_with("[]") {
                quiet.insert(alert)
            } else {
                raised.insert(alert)
            };
        }
    }
    assert_eq!(alerts, raised);
    assert_eq!(alerts, quiet);
}

/// What stands after `mark`, line by line.
fn after<'a>(text: &'a str, mark: &str) -> impl Iterator<Item = &'a str> {
    text.lines().filter_map(move |line| line.split_once(mark).map(|(_, rest)| rest.trim()))
}

#[track_caller]
fn run(command: &mut Command) {
    let output = command.output().unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
}
