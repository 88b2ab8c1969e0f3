//! `config/reference.toml` and the examples beside it say what is true: the reference names every
//! key that is read and shows every default, and each file works as it is.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so by a panic")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use forebay::config::plan::Origin;
use forebay::config::{self, Plan, Reading};
use forebay::health::detector;
use forebay::model::Fingerprint;
use forebay::route::filter;
use tempfile::TempDir;

const REFERENCE: &str = include_str!("../config/reference.toml");

/// Every choice between a short and a long form, taken the long way: what the reference writes
/// short, this makes the readers look for at length.
const AT_LENGTH: &str = r#"
    listener = [{ access_log = { sample = {}, syslog = {} }, certificates = [{}], protocol = "https" }]
    route = [{ headers = { x = {} }, query = { x = {} }, timeouts = { try = {} }, retry = {}, hedge = {}, priority = {} }]
    pool = { app = { endpoints = [{}], tls = {}, timeouts = { try = {} }, retry = {}, sticky = {}, outlier = {}, breaker = { latency = {} }, degradation = { ladder = [{ stale = {} }] }, limits = { adaptive = {}, admission = {} } } }
    pool.bytes.health = { kind = "tcp", send = {}, expect = {} }
    pool.web.health = { kind = "http", headers = { x = "" }, body = {} }
    pool.calls.health = { kind = "grpc" }
"#;

#[test]
fn the_reference_has_no_problems() {
    let folder = Folder::with_certificates();
    let reading = folder.read(REFERENCE);
    assert!(reading.report.is_empty(), "{}", reading.report);
}

#[test]
fn the_reference_names_every_key() {
    let folder = Folder::with_certificates();
    let mut named = BTreeSet::new();
    name_keys(&toml::Value::Table(REFERENCE.parse().unwrap()), "", &mut named);

    let mut known = folder.read(REFERENCE).known_keys;
    known.extend(folder.read(AT_LENGTH).known_keys);
    for kind in filter::KINDS {
        let text = format!("route = [{{ filters = [{{ {} = {{}} }}] }}]", kind.name);
        known.extend(folder.read(&text).known_keys);
        assert!(named.contains(&format!("route[].filters[].{}", kind.name)), "{} is not named", kind.name);
    }
    for kind in detector::KINDS {
        let text = format!("pool = {{ app = {{ outlier = {{ {} = {{}} }} }} }}", kind.name);
        known.extend(folder.read(&text).known_keys);
    }
    let missing: Vec<_> = known.iter().filter(|key| !named.iter().any(|name| matches(key, name))).collect();
    assert!(missing.is_empty(), "{missing:?} are read and not named");
}

#[test]
fn what_the_reference_shows_is_the_default() {
    let folder = Folder::with_certificates();
    let whole = folder.plan(REFERENCE);
    let mut defaults = 0;
    for (index, line) in REFERENCE.lines().enumerate().filter(|(_, line)| shows_default(line)) {
        let others = REFERENCE.lines().enumerate().filter(|(other, _)| *other != index).map(|(_, line)| line);
        let without = folder.plan(&others.collect::<Vec<_>>().join("\n"));
        assert_eq!(format!("{whole:?}"), format!("{without:?}"), "line {}: {line}", index + 1);
        defaults += 1;
    }
    assert!(defaults > 30, "{defaults} lines show a default");
}

#[test]
fn examples_work_as_they_are() {
    let folder = Folder::with_certificates();
    let mut count = 0;
    for entry in fs::read_dir("config/examples").unwrap() {
        let path = entry.unwrap().path();
        // Those of systemd are not ours to read.
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let reading = folder.read(&fs::read_to_string(&path).unwrap());
        assert!(reading.report.is_empty(), "{}: {}", path.display(), reading.report);
        count += 1;
    }
    assert!(count >= 4);
}

/// Whatever is done to a configuration, it is read or reported.
#[test]
fn no_text_makes_it_panic() {
    let folder = Folder::with_certificates();
    // A linear congruential generator (Knuth, MMIX) will do; a failure names its seed.
    let mut state = 1_u64;
    let mut draw = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below
    };
    let odd = b"\0\n\t\"'[]{}=,.#$\\-+0e\x7f\xc3\xff";
    for seed in 0..400 {
        let mut bytes = REFERENCE.as_bytes().to_vec();
        for _ in 0..=draw(4) {
            let at = draw(bytes.len());
            match draw(3) {
                0 => drop(bytes.drain(at..bytes.len().min(at + 1 + draw(40)))),
                1 => bytes.insert(at, odd[draw(odd.len())]),
                _ => bytes[at] = odd[draw(odd.len())],
            }
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let reading = folder.read(&text);
        let shown = reading.report.to_string();
        assert!(reading.plan.is_some() || reading.report.errors() > 0, "seed {seed}: {shown}");
    }
}

/// A folder with every file that the reference and the examples name.
struct Folder(TempDir);

impl Folder {
    fn with_certificates() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let files = [
            ("cert.pem", "key.pem", "localhost"),
            ("ca.pem", "ca.key", "ca.example.com"),
            ("internal-ca.pem", "internal-ca.key", "ca.internal"),
            ("client.pem", "client-key.pem", "client.example.com"),
            ("www.example.com.pem", "www.example.com.key", "www.example.com"),
            ("shop.example.com.pem", "shop.example.com.key", "shop.example.com"),
        ];
        for (cert, key, name) in files {
            let pair = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
            fs::write(folder.path().join(cert), pair.cert.pem()).unwrap();
            fs::write(folder.path().join(key), pair.signing_key.serialize_pem()).unwrap();
        }
        fs::create_dir(folder.path().join("conf.d")).unwrap();
        fs::write(folder.path().join("conf.d/empty.toml"), "# Nothing yet.\n").unwrap();
        for token in ["read.token", "write.token"] {
            fs::write(folder.path().join(token), "0123456789abcdef0123456789abcdef\n").unwrap();
        }
        Self(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn read(&self, text: &str) -> Reading {
        config::read_str("reference.toml", text, &|_| None, self.path())
    }

    /// What the text means, without what tells it from another text.
    fn plan(&self, text: &str) -> Plan {
        let mut plan = self.read(text).into_plan().unwrap_or_else(|report| panic!("{report}"));
        plan.origin = Origin::default();
        for listener in &mut plan.listeners {
            (listener.fingerprint, listener.tls_fingerprint) = <_>::default();
        }
        for otlp in plan.tracing.iter_mut().flat_map(|tracing| &mut tracing.otlp) {
            otlp.fingerprint = Fingerprint::default();
            otlp.tls.iter_mut().for_each(|(tls, _)| tls.fingerprint = Fingerprint::default());
        }
        plan.routes.iter_mut().for_each(|route| route.fingerprint = Fingerprint::default());
        for pool in &mut plan.pools {
            pool.fingerprint = Fingerprint::default();
            pool.tls.iter_mut().for_each(|tls| tls.fingerprint = Fingerprint::default());
        }
        plan
    }
}

fn shows_default(line: &str) -> bool {
    let key = line.split_once(" = ").map(|(key, _)| key);
    let bare = key.is_some_and(|key| key.chars().all(|c| c.is_ascii_lowercase() || c == '_'));
    bare && !line.contains("# required") && !line.contains("# example")
}

/// The path of every key in `value`, as in `pool.app.endpoints[].weight`.
fn name_keys(value: &toml::Value, path: &str, named: &mut BTreeSet<String>) {
    match value {
        toml::Value::Table(table) => {
            for (key, value) in table {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                named.insert(path.clone());
                name_keys(value, &path, named);
            }
        }
        toml::Value::Array(items) => {
            items.iter().for_each(|item| name_keys(item, &format!("{path}[]"), named))
        }
        _ => {}
    }
}

/// Whether `name` is what `pattern` says, `*` standing for one key.
fn matches(pattern: &str, name: &str) -> bool {
    let (mut pattern, mut name) = (pattern.split('.'), name.split('.'));
    loop {
        match (pattern.next(), name.next()) {
            (None, None) => return true,
            (Some(wanted), Some(found)) if wanted == found || wanted == "*" => {}
            _ => return false,
        }
    }
}
