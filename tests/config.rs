//! Faulty configurations and what is said about them. Each `tests/config/NAME.toml` has its report
//! in `NAME.expected`; `BLESS=1 cargo test --test config` writes what is said now, to be reviewed.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by a panic")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use forebay::config;
use tempfile::TempDir;

const FOLDER: &str = "tests/config";

/// What the golden files include.
const INCLUDED: [(&str, &str); 6] = [
    ("good/a.toml", "[[route]]\npool = \"app\"\npath = \"/a\"\n"),
    ("bad/a.toml", "# A pool.\n[pool.app]\nendpoints = \"127.0.0.1:9002\"\n"),
    ("bad/b.toml", "[log]\nlevel = \"debug\"\n\n[[route]]\npol = \"app\"\n"),
    (
        "bad/c.toml",
        "include = \"d.toml\"\npool = 3\n[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:8081\"\n",
    ),
    ("bad/.hidden.toml", "nonsense\n"),
    ("half.toml", "[[route]]\npool = \"a\n"),
];

/// The environment of the golden files.
fn env(name: &str) -> Option<String> {
    match name {
        "HOST" => Some("127.0.0.1".to_owned()),
        "WORD" => Some("many".to_owned()),
        _ => None,
    }
}

/// Certificates and keys, good and bad, in a folder of their own.
struct PemFiles(TempDir);

impl PemFiles {
    fn make() -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        for (name, names) in
            [("a", vec!["a.example".to_owned()]), ("b", vec!["b.example".to_owned()]), ("nameless", vec![])]
        {
            let pair = rcgen::generate_simple_self_signed(names).unwrap();
            files.write(&format!("{name}.pem"), &pair.cert.pem());
            files.write(&format!("{name}.key"), &pair.signing_key.serialize_pem());
        }
        files.write("empty.pem", "");
        files.write("broken.pem", "-----BEGIN CERTIFICATE-----\nMIIB\n");
        files.write("garbage.pem", "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n");
        files.write("garbage.key", "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n");
        files.write(
            "encrypted.key",
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n",
        );
        for (name, text) in INCLUDED {
            files.write(name, text);
        }
        fs::write(files.0.path().join("latin.toml"), b"# caf\xe9\n").unwrap();
        files
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// What is said of the configuration at `path`, as if it stood in this folder.
    fn report(&self, path: &Path) -> String {
        let name = path.file_name().unwrap().to_string_lossy();
        let text = fs::read_to_string(path).unwrap();
        let said = config::read_str(&name, &text, &env, self.0.path()).report.to_string();
        said.replace(&self.0.path().display().to_string(), "FOLDER")
    }
}

fn with_extension(extension: &str) -> BTreeSet<PathBuf> {
    let all = fs::read_dir(FOLDER).unwrap().map(|entry| entry.unwrap().path());
    all.filter(|path| path.extension().is_some_and(|found| found == extension)).collect()
}

#[test]
fn reports_are_as_expected() {
    let files = PemFiles::make();
    let bless = std::env::var_os("BLESS").is_some();
    let mut wrong = Vec::new();
    for path in with_extension("toml") {
        let said = files.report(&path);
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
