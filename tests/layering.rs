//! Holds the source to its layers: who may name whom, which words the pure layers may not
//! mention, how long a file may grow. Reads text, not types: it sees `crate::` and `super::`
//! paths and identifiers, outside comments and outside tests.

use std::fs;
use std::path::{Path, PathBuf};

/// A module at the top of `src/`, with what it may name of `crate::` besides itself and what it
/// may not mention at all.
struct Layer {
    module: &'static str,
    uses: &'static [&'static str],
    never: &'static [&'static str],
}

const WORDS: &[&str] = &["model"];
const JUDGEMENT: &[&str] =
    &["model", "balance", "health", "limit", "cache", "discover", "flow", "route", "trace"];
const MACHINERY: &[&str] = &[
    "model", "wire", "balance", "health", "limit", "cache", "discover", "flow", "route", "trace", "ambient",
    "net", "observe",
];
const DATA: &[&str] = &[
    "model", "wire", "balance", "health", "limit", "cache", "flow", "route", "trace", "ambient", "net",
    "observe", "upstream",
];
const CONTROL: &[&str] = &[
    "model", "wire", "balance", "health", "limit", "cache", "discover", "flow", "route", "trace", "ambient",
    "net", "observe", "upstream", "config",
];
const EVERYTHING: &[&str] = &["*"];

/// What makes code impure: input and output, tasks, the clock, chance.
const IMPURE: &[&str] = &[
    "tokio",
    "hyper",
    "hyper_util",
    "h2",
    "async",
    "await",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "std::fs",
    "fs::read",
    "std::env",
    "env::var",
    "Instant::now",
    "SystemTime::now",
    "SystemTime",
    "fastrand",
    "spawn",
    "sleep",
];
const NO_RUNTIME: &[&str] = &["tokio", "hyper", "hyper_util", "h2", "async", "await"];
/// The clock is read in `ambient` and nowhere else.
const NO_CLOCK: &[&str] = &["Instant::now", "SystemTime::now"];

const LAYERS: &[Layer] = &[
    Layer { module: "model", uses: WORDS, never: IMPURE },
    Layer { module: "wire", uses: WORDS, never: IMPURE },
    Layer { module: "balance", uses: WORDS, never: IMPURE },
    Layer { module: "health", uses: &["model", "wire", "balance"], never: IMPURE },
    Layer { module: "limit", uses: WORDS, never: IMPURE },
    Layer { module: "cache", uses: &["model", "wire"], never: IMPURE },
    Layer { module: "discover", uses: WORDS, never: IMPURE },
    Layer { module: "flow", uses: &["model", "health"], never: IMPURE },
    Layer { module: "route", uses: &["model", "limit"], never: IMPURE },
    Layer { module: "trace", uses: WORDS, never: IMPURE },
    Layer { module: "config", uses: JUDGEMENT, never: NO_RUNTIME },
    Layer { module: "ambient", uses: MACHINERY, never: &[] },
    Layer { module: "net", uses: MACHINERY, never: NO_CLOCK },
    Layer { module: "observe", uses: MACHINERY, never: NO_CLOCK },
    Layer { module: "upstream", uses: MACHINERY, never: NO_CLOCK },
    Layer { module: "proxy", uses: DATA, never: NO_CLOCK },
    Layer { module: "control", uses: CONTROL, never: NO_CLOCK },
    Layer { module: "server", uses: EVERYTHING, never: NO_CLOCK },
    Layer { module: "worker", uses: EVERYTHING, never: NO_CLOCK },
    Layer { module: "demo", uses: EVERYTHING, never: NO_CLOCK },
    Layer { module: "cli", uses: EVERYTHING, never: NO_CLOCK },
    Layer { module: "main", uses: EVERYTHING, never: NO_CLOCK },
    Layer { module: "lib", uses: EVERYTHING, never: NO_CLOCK },
];

/// Lines that a file may have before its tests.
const LONGEST_FILE: usize = 500;

#[test]
fn every_module_stays_in_its_layer() {
    let mut faults = Vec::new();
    for source in sources() {
        let Some(layer) = LAYERS.iter().find(|layer| layer.module == source.module) else {
            faults.push(format!("{}: `{}` has no row in LAYERS", source.shown(), source.module));
            continue;
        };
        faults.extend(source.breaches(layer));
    }
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn no_file_is_too_long() {
    let long = |s: &Source| s.code.lines().count() > LONGEST_FILE;
    let faults: Vec<_> = sources().into_iter().filter(long).map(|s| s.shown()).collect();
    assert!(faults.is_empty(), "over {LONGEST_FILE} lines without tests: {}", faults.join(", "));
}

#[test]
fn every_file_says_what_it_is() {
    let silent = |s: &Source| !s.text.starts_with("//!");
    let faults: Vec<_> = sources().into_iter().filter(silent).map(|s| s.shown()).collect();
    assert!(faults.is_empty(), "without a head comment: {}", faults.join(", "));
}

#[test]
fn no_file_is_named_for_a_heap() {
    let heap = |s: &Source| {
        s.path
            .file_stem()
            .is_some_and(|stem| ["utils", "util", "common", "types", "helpers"].iter().any(|n| stem == *n))
    };
    let faults: Vec<_> = sources().into_iter().filter(heap).map(|s| s.shown()).collect();
    assert!(faults.is_empty(), "name these for what they hold: {}", faults.join(", "));
}

struct Source {
    path: PathBuf,
    module: String,
    /// How many modules deep the file's own module is: 1 for `src/a.rs` and `src/a/mod.rs`.
    depth: usize,
    text: String,
    /// The text without comments and without what follows the first `#[cfg(test)]` module.
    code: String,
}

impl Source {
    fn read(root: &Path, path: PathBuf) -> Self {
        let text = fs::read_to_string(&path).expect("sources are readable");
        let inside = path.strip_prefix(root).expect("sources are below src").with_extension("");
        let mut parts: Vec<String> = inside.iter().map(|part| part.to_string_lossy().into_owned()).collect();
        let module = parts.first().cloned().expect("a file has a name");
        if parts.last().is_some_and(|last| last == "mod") {
            parts.pop();
        }
        let depth = if matches!(&*module, "lib" | "main") { 0 } else { parts.len() };
        let code = without_comments(before_tests(&text));
        Self { path, module, depth, text, code }
    }

    fn shown(&self) -> String {
        let from_root = self.path.iter().skip_while(|part| *part != "src").collect::<PathBuf>();
        from_root.display().to_string()
    }

    fn breaches(&self, layer: &Layer) -> Vec<String> {
        let mut faults = Vec::new();
        for (number, line, text) in self.numbered() {
            for word in layer.never.iter().filter(|word| mentions(line, word)) {
                faults.push(format!("{}:{number}: `{}` may not mention `{word}`", self.shown(), self.module));
            }
            if climbs(line) >= self.depth && self.depth > 0 {
                faults.push(format!(
                    "{}:{number}: write `crate::` where `super::` leaves the module",
                    self.shown()
                ));
            }
            let allowed = |name: &String| {
                name == layer.module || layer.uses.iter().any(|used| used == name || *used == "*")
            };
            for name in crate_paths(text).into_iter().filter(|name| !allowed(name)) {
                faults.push(format!("{}:{number}: `{}` may not use `{name}`", self.shown(), self.module));
            }
        }
        faults
    }

    /// Each line with its number and the code from its start on, for paths that span lines.
    fn numbered(&self) -> impl Iterator<Item = (usize, &str, &str)> {
        let mut offset = 0;
        self.code.split_inclusive('\n').enumerate().map(move |(i, line)| {
            let rest = &self.code[offset..];
            offset += line.len();
            (i + 1, line, rest)
        })
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root.clone()];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("src is readable") {
            let path = entry.expect("src is readable").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") && !is_test_file(&path) {
                found.push(Source::read(&root, path));
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// `tests.rs`, and whatever lies in a folder named `tests`.
fn is_test_file(path: &Path) -> bool {
    path.iter().any(|part| part == "tests.rs" || part == "tests")
}

/// House order puts tests last, so that everything before the first test module is code.
fn before_tests(text: &str) -> &str {
    let test_module =
        |at: &usize| text[*at..].lines().nth(1).is_some_and(|next| next.trim().starts_with("mod "));
    let end = text.match_indices("#[cfg(test)]").map(|(at, _)| at).find(test_module);
    &text[..end.unwrap_or(text.len())]
}

/// Blanks line comments and keeps the lines, so that numbers stay right.
fn without_comments(text: &str) -> String {
    let code = |line: &str| match line.find("//") {
        Some(at) if !line[..at].ends_with(':') => line[..at].to_owned(),
        _ => line.to_owned(),
    };
    text.lines().map(|line| code(line) + "\n").collect()
}

/// Whether `word` stands in `line` as an identifier or a path of its own.
fn mentions(line: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_' || c == '"';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back().is_some_and(part);
        let after = line[at + word.len()..].chars().next().is_some_and(part);
        !before && !after
    })
}

/// The longest run of `super::` on the line.
fn climbs(line: &str) -> usize {
    let mut longest = 0;
    let mut rest = line;
    while let Some(at) = rest.find("super::") {
        rest = &rest[at..];
        let mut run = 0;
        while let Some(next) = rest.strip_prefix("super::") {
            run += 1;
            rest = next;
        }
        longest = longest.max(run);
    }
    longest
}

/// The modules that the `crate::` paths starting on the first line of `text` lead into.
fn crate_paths(text: &str) -> Vec<String> {
    let first = text.split_inclusive('\n').next().unwrap_or_default();
    let mut found = Vec::new();
    for (at, path) in first.match_indices("crate::") {
        let visibility = first[..at].ends_with("pub(in ");
        let after = &text[at + path.len()..];
        match after.strip_prefix('{') {
            Some(group) => found.extend(heads(group)),
            None if !visibility => found.extend(heads(after).into_iter().take(1)),
            None => {}
        }
    }
    found
}

/// The first identifier of each member of a brace group whose opening brace has been taken.
fn heads(group: &str) -> Vec<String> {
    let mut members = vec![String::new()];
    let mut depth = 0usize;
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ';' => break,
            ',' if depth == 0 => members.push(String::new()),
            _ => {}
        }
        if let Some(member) = members.last_mut().filter(|_| depth == 0 && c != ',') {
            member.push(c);
        }
    }
    let head =
        |m: &String| m.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    members.iter().map(head).filter(|name| name.starts_with(|c: char| c.is_lowercase())).collect()
}

#[test]
fn the_scanner_sees_what_it_should() {
    assert_eq!(
        crate_paths("use crate::{balance, model::{Name, head::Span},\n route};\nuse x;"),
        ["balance", "model", "route"]
    );
    assert_eq!(
        crate_paths("    let x = crate::config::load(y, crate::ambient::now());"),
        ["config", "ambient"]
    );
    assert_eq!(crate_paths("use other;\nuse crate::late;"), Vec::<String>::new());
    assert!(mentions("    tokio::spawn(x)", "tokio") && !mentions("tokio_rustls::x", "tokio"));
    assert!(mentions("let t = Instant::now();", "Instant::now") && !mentions("\"async\"", "async"));
    assert_eq!((climbs("use super::super::x; use super::y"), climbs("use y")), (2, 0));
    let code = "fn a() {}\n#[cfg(test)]\nfn b() {}\n#[cfg(test)]\nmod tests {\n tokio::x }\n";
    assert!(before_tests(code).ends_with("fn b() {}\n"));
    assert_eq!(without_comments("a // b\n//! c\n\"http://d\"\n"), "a \n\n\"http://d\"\n");
}
