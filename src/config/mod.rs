//! From a file to a [`Plan`], or to every problem at once. Configuration has three lives: what was
//! written (a tree of values that know where they stand), what it means (the plan, valid by
//! construction and inert), and what runs (made elsewhere). This module owns the first two.

mod access_log;
mod admin;
mod attempt;
mod binds;
pub mod diff;
mod endpoint_list;
mod files;
mod health;
mod include;
mod listener;
mod lower;
mod matching;
mod metrics;
mod names;
mod origin;
mod overload;
mod parse;
pub mod plan;
mod pool;
pub mod problem;
mod process;
mod proxy_protocol;
mod quick;
mod route;
mod secret;
mod socket;
mod source;
#[cfg(test)]
mod tests;
mod tls;
mod tracing;
mod unread;

use std::collections::BTreeSet;
use std::io;
use std::path::{self, Path, PathBuf};
use std::sync::Arc;

use binds::Binds;
pub use endpoint_list::read_endpoints;
pub use files::FileRead;
use files::Files;
pub use plan::Plan;
use plan::{AdminPlan, Origin};
pub use problem::Report;
pub use quick::{Quick, quick};
pub use tls::Believed;

use crate::model::expand::Env;
use crate::model::options::{Given, Key, Options, Problem, Sink, Value};
use crate::model::{Address, Target};
use source::Source;

/// A source with what it means and what is to be said about it.
#[derive(Debug)]
pub struct Reading {
    /// What it means; `None` when there is an error.
    pub plan: Option<Plan>,
    /// Every error and every warning.
    pub report: Report,
    /// Every key that was looked for, as in `pool.*.endpoints[].weight`.
    pub known_keys: BTreeSet<String>,
    /// Every file that was read or looked for, whether or not there is a plan.
    pub files: Vec<PathBuf>,
    /// Every folder that was searched for files to include.
    pub folders: Vec<PathBuf>,
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

/// Reads `text`; see [`read_str`] for the warnings as well.
///
/// # Errors
/// When the text holds an error; the report has every problem.
pub fn from_str(name: &str, text: &str, env: Env<'_>, base_dir: &Path) -> Result<Plan, Report> {
    read_str(name, text, env, base_dir).into_plan()
}

/// The admin listener that the file at `path` means, for those who want to ask it: the default one without
/// a file, and `None` when it is turned off. Reads nothing else, and of what is faulty as much as makes
/// sense: what is wrong with a file says nothing about the process that was started with it.
#[must_use]
pub fn read_admin(path: &Path, env: Env<'_>) -> Option<AdminPlan> {
    let sink = Sink::default();
    let cx = Cx::new(&folder_of(path), &sink);
    let text = cx.files.read("", path).map(|bytes| utf8(bytes).0).unwrap_or_default();
    let mut source = Source::new("", text.as_str());
    let entries = parse::parse(&text, 0, env, &sink);
    let entries = include::follow(entries, Some(path), &mut source, env, &cx);
    admin::admin(Options::root(&entries, &sink).section("admin"), &mut Binds::default(), &cx)
}

/// Reads the file at `path` and those that it includes, relative paths in them being relative to its
/// folder.
#[must_use]
pub fn read(path: &Path, env: Env<'_>) -> Reading {
    read_from(Files::default(), path, env)
}

/// As [`read`], with `text` in the place of what is in the file.
#[must_use]
pub fn read_as(path: &Path, text: &str, env: Env<'_>) -> Reading {
    read_from(Files::with(path, text), path, env)
}

/// As [`read`], of a configuration as it was once: `texts` are those of [`Origin::texts`], by absolute
/// paths, so that the first is the file that it begins with. Other files, such as certificates, are as they
/// are now.
#[must_use]
pub fn read_kept(texts: &[(PathBuf, String)], env: Env<'_>) -> Reading {
    let first = texts.first().map(|(path, _)| path.clone()).unwrap_or_default();
    read_from(Files::as_kept(texts), &first, env)
}

fn read_from(files: Files, path: &Path, env: Env<'_>) -> Reading {
    let name = path.display().to_string();
    let sink = Sink::default();
    let cx = Cx { files, ..Cx::new(&folder_of(path), &sink) };
    let (text, fault) = match cx.files.read("", path) {
        Ok(bytes) => utf8(bytes),
        Err(error) => (String::new(), Some(cannot_open(path, &error))),
    };
    let mut source = Source::new(name, text.as_str());
    if let Some(problem) = fault {
        sink.report(problem);
        return finish(source, Vec::new(), None, cx.files, sink);
    }
    let entries = parse::parse(&text, 0, env, &sink);
    let entries = include::follow(entries, Some(path), &mut source, env, &cx);
    let plan = lower::lower(&entries, &cx);
    finish(source, entries, plan, cx.files, sink)
}

/// The folder of the file at `path`, from the root on, so that what is relative to it is the same socket or
/// certificate to whoever reads or sends the file.
fn folder_of(path: &Path) -> PathBuf {
    let whole = path::absolute(path).unwrap_or_else(|_| path.to_owned());
    whole.parent().map(Path::to_owned).unwrap_or_default()
}

/// Reads `text`, called `name` in problems, and the files that it includes, relative paths in them being
/// relative to `base_dir`.
#[must_use]
pub fn read_str(name: &str, text: &str, env: Env<'_>, base_dir: &Path) -> Reading {
    let sink = Sink::default();
    let cx = Cx::new(base_dir, &sink);
    let mut source = Source::new(name, text);
    let entries = parse::parse(text, 0, env, &sink);
    let entries = include::follow(entries, None, &mut source, env, &cx);
    let plan = lower::lower(&entries, &cx);
    finish(source, entries, plan, cx.files, sink)
}

/// Reads what is not written in a file.
fn read_entries(source: Source, entries: Vec<(Key, Value)>) -> Reading {
    let sink = Sink::default();
    let cx = Cx::new(Path::new(""), &sink);
    let plan = lower::lower(&entries, &cx);
    finish(source, entries, plan, cx.files, sink)
}

fn finish(
    source: Source,
    entries: Vec<(Key, Value)>,
    plan: Option<Plan>,
    files: Files,
    sink: Sink,
) -> Reading {
    let (reads, folders) = files.into_parts();
    let files = files::paths(&reads);
    let plan = plan.map(|plan| {
        let origin = Origin::new(entries, source.clone().into_texts(), reads, folders.clone());
        Plan { origin, ..plan }
    });
    let (problems, known_keys) = sink.into_parts();
    Reading { plan, report: Report::new(source, problems), known_keys, files, folders }
}

/// What every reader needs besides its own table.
struct Cx<'a> {
    base_dir: PathBuf,
    sink: &'a Sink,
    trust: tls::Trust,
    files: Files,
}

impl<'a> Cx<'a> {
    fn new(base_dir: &Path, sink: &'a Sink) -> Self {
        let (trust, files) = (tls::Trust::default(), Files::default());
        Self { base_dir: base_dir.to_owned(), sink, trust, files }
    }

    /// A path of the file as one that can be opened.
    fn path(&self, written: &str) -> PathBuf {
        self.base_dir.join(written)
    }

    /// The file that `given` names, with its path; reported when it cannot be read.
    fn read(&self, given: &Given<'_>) -> Option<(PathBuf, Vec<u8>)> {
        let written = given.read::<String>()?;
        let path = self.path(&written);
        match self.files.read(given.path(), &path) {
            Ok(bytes) => Some((path, bytes)),
            Err(error) => {
                let fault = format!("cannot read {}: {error}", path.display());
                given.fault(fault, files::remedy(&error, Path::new(&written)));
                None
            }
        }
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
        match address {
            Address::Inet(_) => Some(address),
            Address::Unix(path) => self.short_enough(self.base_dir.join(path), given).map(Address::Unix),
            Address::Udp(address) => {
                let hint = format!("write \"{address}\"; a udp listener is known by its `protocol`");
                given.fault("an address is written without `udp:`", Some(hint));
                None
            }
        }
    }

    /// The path of a Unix socket that is no address to bind.
    fn socket_path(&self, given: &Given<'_>) -> Option<Arc<Path>> {
        let path = given.read::<String>()?;
        if path.is_empty() || path.starts_with("unix:") {
            given.fault(
                "this is the path of a file",
                Some("write it as in \"/run/forebay/upgrade.sock\"".into()),
            );
            return None;
        }
        self.short_enough(self.path(&path), given)
    }

    fn short_enough(&self, path: PathBuf, given: &Given<'_>) -> Option<Arc<Path>> {
        let length = path.as_os_str().len();
        if length > MAX_SOCKET_PATH {
            let fault = format!(
                "the path of a Unix socket has {MAX_SOCKET_PATH} bytes at most, this one has {length}"
            );
            given.fault(fault, Some("move the socket to a folder with a shorter name".into()));
            return None;
        }
        Some(path.into())
    }
}

/// The text, and what is wrong with it when it is none; then it is what can be shown of it.
fn utf8(bytes: Vec<u8>) -> (String, Option<Problem>) {
    String::from_utf8(bytes).map(|text| (text, None)).unwrap_or_else(|error| {
        let at = error.utf8_error().valid_up_to();
        let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
        let problem = Problem::new("", Some(at..at), "the file is not UTF-8");
        (text, Some(problem.hint("save it as UTF-8, without other encodings in between")))
    })
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
