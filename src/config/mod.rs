//! From a file to a [`Plan`], or to every problem at once. Configuration has three lives: what was
//! written (a tree of values that know where they stand), what it means (the plan, valid by
//! construction and inert), and what runs (made elsewhere). This module owns the first two.

mod admin;
mod attempt;
mod binds;
mod health;
mod listener;
mod lower;
mod matching;
mod names;
mod overload;
mod parse;
pub mod plan;
mod pool;
pub mod problem;
mod process;
mod quick;
mod route;
#[cfg(test)]
mod tests;
mod tls;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use plan::Origin;
pub use plan::Plan;
pub use problem::Report;
pub use quick::{Quick, quick};

use crate::model::expand::Env;
use crate::model::options::{Given, Key, Problem, Sink, Value};
use crate::model::{Address, Fingerprint, Target};
use problem::Source;

/// A source with what it means and what is to be said about it.
#[derive(Debug)]
pub struct Reading {
    /// What it means; `None` when there is an error.
    pub plan: Option<Plan>,
    /// Every error and every warning.
    pub report: Report,
    /// Every key that was looked for, as in `pool.*.endpoints[].weight`.
    pub known_keys: BTreeSet<String>,
}

impl Reading {
    /// The plan, or what keeps it from being made. Warnings of a good configuration are lost.
    ///
    /// # Errors
    /// When there is an error among the problems.
    pub fn into_plan(self) -> Result<Plan, Report> {
        self.plan.ok_or(self.report)
    }
}

/// Reads the file at `path`; see [`read`] for the warnings as well.
///
/// # Errors
/// When the file cannot be read or holds an error; the report has every problem.
pub fn load(path: &Path, env: Env<'_>) -> Result<Plan, Report> {
    read(path, env).into_plan()
}

/// Reads `text`; see [`read_str`] for the warnings as well.
///
/// # Errors
/// When the text holds an error; the report has every problem.
pub fn from_str(name: &str, text: &str, env: Env<'_>, base_dir: &Path) -> Result<Plan, Report> {
    read_str(name, text, env, base_dir).into_plan()
}

/// Reads the file at `path`, relative paths in it being relative to its folder.
#[must_use]
pub fn read(path: &Path, env: Env<'_>) -> Reading {
    let name = path.display().to_string();
    let base_dir = path.parent().map(Path::to_owned).unwrap_or_default();
    match fs::read(path) {
        Err(error) => unreadable(name, String::new(), cannot_open(path, &error)),
        Ok(bytes) => match String::from_utf8(bytes) {
            Ok(text) => read_str(&name, &text, env, &base_dir),
            Err(error) => {
                let at = error.utf8_error().valid_up_to();
                let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
                let problem = Problem::new("", Some(at..at), "the file is not UTF-8");
                unreadable(name, text, problem.hint("save it as UTF-8, without other encodings in between"))
            }
        },
    }
}

/// Reads `text`, called `name` in problems, relative paths in it being relative to `base_dir`.
#[must_use]
pub fn read_str(name: &str, text: &str, env: Env<'_>, base_dir: &Path) -> Reading {
    let source = Source { name: name.to_owned(), text: text.to_owned() };
    read_tree(source, base_dir, |sink| parse::parse(text, env, sink))
}

fn read_tree(source: Source, base_dir: &Path, parse: impl FnOnce(&Sink) -> Vec<(Key, Value)>) -> Reading {
    let sink = Sink::default();
    let entries = parse(&sink);
    let cx = Cx { base_dir: base_dir.to_owned(), sink: &sink, trust: tls::Trust::default() };
    let mut plan = lower::lower(&entries, &cx);
    if let Some(plan) = &mut plan {
        plan.origin = Origin {
            fingerprint: Fingerprint::of_entries(&entries),
            texts: vec![(source.name.clone().into(), source.text.clone())],
            files: vec![source.name.clone().into()],
            written: entries,
        };
    }
    let (problems, known_keys) = sink.into_parts();
    Reading { plan, report: Report::new(source, problems), known_keys }
}

/// What every reader needs besides its own table.
struct Cx<'a> {
    base_dir: PathBuf,
    sink: &'a Sink,
    trust: tls::Trust,
}

impl Cx<'_> {
    /// A path of the file as one that can be opened.
    fn path(&self, written: &str) -> PathBuf {
        self.base_dir.join(written)
    }

    /// An address to bind, the path of a Unix socket as one that can be opened.
    fn address(&self, given: &Given<'_>) -> Option<Address> {
        self.rooted(given.read()?, given)
    }

    /// The address of an endpoint, likewise.
    fn target(&self, given: &Given<'_>) -> Option<Target> {
        let target = given.read()?;
        let port = match &target {
            Target::Address(address) => address.inet().map(|address| address.port()),
            Target::Host { port, .. } => Some(*port),
        };
        if port == Some(0) {
            given.fault("port 0 is no port to connect to", None);
            return None;
        }
        match target {
            Target::Address(address) => self.rooted(address, given).map(Target::Address),
            host @ Target::Host { .. } => Some(host),
        }
    }

    fn rooted(&self, address: Address, given: &Given<'_>) -> Option<Address> {
        let Address::Unix(path) = address else { return Some(address) };
        let path = self.base_dir.join(path);
        let length = path.as_os_str().len();
        if length > MAX_SOCKET_PATH {
            let fault = format!(
                "the path of a Unix socket has {MAX_SOCKET_PATH} bytes at most, this one has {length}"
            );
            given.fault(fault, Some("move the socket to a folder with a shorter name".into()));
            return None;
        }
        Some(Address::Unix(path.into()))
    }
}

fn unreadable(name: String, text: String, problem: Problem) -> Reading {
    let report = Report::new(Source { name, text }, vec![problem]);
    Reading { plan: None, report, known_keys: BTreeSet::new() }
}

fn cannot_open(path: &Path, error: &io::Error) -> Problem {
    let problem = Problem::new("", None, format!("cannot read {}: {error}", path.display()));
    match error.kind() {
        io::ErrorKind::NotFound => problem.hint(
            "name a file with `--config FILE`, or do without one: `forebay proxy --from ADDRESS --to ADDRESS`",
        ),
        io::ErrorKind::PermissionDenied => problem.hint("let the user that runs forebay read it"),
        _ => problem,
    }
}

/// What `sockaddr_un` has room for, the NUL at the end not counted (unix(7)).
const MAX_SOCKET_PATH: usize = 107;
