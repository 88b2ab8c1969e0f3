//! Faulty configurations and what is said about them. Each `tests/config/NAME.toml` has its report
//! in `NAME.expected`; `BLESS=1 cargo test --test config` writes what is said now, to be reviewed.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use forebay::config;

const FOLDER: &str = "tests/config";

/// The environment of the golden files.
fn env(name: &str) -> Option<String> {
    match name {
        "HOST" => Some("127.0.0.1".to_owned()),
        "WORD" => Some("many".to_owned()),
        _ => None,
    }
}

fn with_extension(extension: &str) -> BTreeSet<PathBuf> {
    let all = fs::read_dir(FOLDER).unwrap().map(|entry| entry.unwrap().path());
    all.filter(|path| path.extension().is_some_and(|found| found == extension)).collect()
}

#[test]
fn reports_are_as_expected() {
    let bless = std::env::var_os("BLESS").is_some();
    let mut wrong = Vec::new();
    for path in with_extension("toml") {
        let said = config::read(&path, &env).report.to_string();
        let expected = path.with_extension("expected");
        if bless {
            fs::write(&expected, &said).unwrap();
        } else if fs::read_to_string(&expected).unwrap_or_default() != said {
            wrong.push(format!("--- {}\n{said}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "said now, and not expected:\n{}", wrong.join("\n"));
}

#[test]
fn every_expectation_has_its_file() {
    for path in with_extension("expected") {
        assert!(path.with_extension("toml").exists(), "{}", path.display());
    }
}

#[test]
fn the_first_configuration_works_as_it_is() {
    let reading = config::read(Path::new("config/forebay.toml"), &|_| None);
    assert!(reading.report.is_empty(), "{}", reading.report);
    let plan = reading.plan.unwrap();
    assert_eq!(plan.listeners.len(), 1);
    assert_eq!(plan.pools[0].endpoints.len(), 2);
}
