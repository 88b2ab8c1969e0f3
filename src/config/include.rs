//! `include`: other files that belong to the configuration. Their tables are added to those of the file
//! that names them, as if they stood at its end. Knows nothing of what the tables mean.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::source::Source;
use super::{Cx, files, parse, utf8};
use crate::model::expand::Env;
use crate::model::options::{Data, Given, Key, Options, Problem, Sink, Value};

/// Adds what the files hold that `entries` include, and their texts to `source`. `main` is where the
/// entries themselves come from, if from a file.
pub(super) fn follow(
    mut entries: Vec<(Key, Value)>,
    main: Option<&Path>,
    source: &mut Source,
    env: Env<'_>,
    cx: &Cx<'_>,
) -> Vec<(Key, Value)> {
    let found = {
        let root = Options::root(&entries, cx.sink);
        let mut finder = Finder { cx, seen: main.map(real).into_iter().collect(), found: Vec::new() };
        root.items("include").iter().for_each(|given| finder.add(given));
        finder.found
    };
    for Included { path, bytes } in found {
        let (text, fault) = utf8(bytes);
        let start = source.add(path.display().to_string(), text.as_str());
        match fault {
            Some(problem) => {
                cx.sink.incomplete();
                let span = problem.span.map(|span| span.start + start..span.end + start);
                cx.sink.report(Problem { span, ..problem });
            }
            None => merge(&mut entries, parse::parse(&text, start, env, cx.sink), cx.sink),
        }
    }
    entries
}

struct Included {
    path: PathBuf,
    bytes: Vec<u8>,
}

/// Finds and reads the files.
struct Finder<'a> {
    cx: &'a Cx<'a>,
    /// Where they really are, so that none is read twice.
    seen: HashSet<PathBuf>,
    found: Vec<Included>,
}

impl Finder<'_> {
    fn add(&mut self, given: &Given<'_>) {
        let Some(written) = given.read::<String>() else { return self.cx.sink.incomplete() };
        let path = self.cx.path(&written);
        let pattern = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let folder = path.parent().map(Path::to_owned).unwrap_or_default();
        let written_folder = Path::new(&written).parent().map(|folder| folder.to_string_lossy().into_owned());
        if written_folder.is_some_and(|folder| is_pattern(&folder)) {
            let hint = "name each folder, as in `include = [\"a/*.toml\", \"b/*.toml\"]`";
            given.fault("`*` and `?` have a meaning in the last part of a path only", Some(hint.into()));
        } else if is_pattern(&pattern) {
            self.add_matches(given, &folder, &pattern);
        } else if self.seen.insert(real(&path)) {
            self.add_file(given, path);
        } else {
            let hint = "leave one of them out";
            given.fault(format!("{} is included twice", path.display()), Some(hint.into()));
        }
    }

    /// The files in `folder` whose names match. A pattern may take in what is there already, such as the
    /// file that it stands in.
    fn add_matches(&mut self, given: &Given<'_>, folder: &Path, pattern: &str) {
        let names = match self.cx.files.list(folder) {
            Ok(names) => names,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return self.unreadable(given, folder, &error),
        };
        let hidden = |name: &str| name.starts_with('.');
        let mut matches = 0;
        for name in names.iter().filter(|name| !hidden(name) && matches_pattern(pattern, name)) {
            let path = folder.join(name);
            if fs::metadata(&path).is_ok_and(|found| found.is_dir()) {
                continue;
            }
            matches += 1;
            if self.seen.insert(real(&path)) {
                self.add_file(given, path);
            }
        }
        if matches == 0 {
            let fault = format!("there is no file {}", folder.join(pattern).display());
            given.report(Problem::new(given.path(), Some(given.span()), fault).warning());
        }
    }

    fn add_file(&mut self, given: &Given<'_>, path: PathBuf) {
        match self.cx.files.read(given.path(), &path) {
            Ok(bytes) => self.found.push(Included { path, bytes }),
            Err(error) => self.unreadable(given, &path, &error),
        }
    }

    fn unreadable(&self, given: &Given<'_>, path: &Path, error: &io::Error) {
        let written = given.read::<String>().unwrap_or_default();
        let remedy = files::remedy(error, Path::new(&written));
        given.fault(format!("cannot read {}: {error}", path.display()), remedy);
        // What is named elsewhere may be in it.
        self.cx.sink.incomplete();
    }
}

/// Where `path` really leads; itself when that cannot be told.
fn real(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?'])
}

/// Whether `name` is what `pattern` says: `*` stands for any characters, `?` for one.
fn matches_pattern(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut at, mut in_name) = (0, 0);
    // The last `*`, and how much of the name it has taken so far.
    let mut star = None;
    while let Some(c) = name.get(in_name) {
        match (pattern.get(at), star) {
            (Some('*'), _) => {
                star = Some((at, in_name));
                at += 1;
            }
            (Some(wanted), _) if *wanted == '?' || wanted == c => {
                at += 1;
                in_name += 1;
            }
            (_, Some((star_at, taken))) => {
                star = Some((star_at, taken + 1));
                (at, in_name) = (star_at + 1, taken + 1);
            }
            (_, None) => return false,
        }
    }
    pattern.iter().skip(at).all(|c| *c == '*')
}

/// Adds the entries of an included file. Listeners and routes are appended, pools are added, and
/// everything else may stand in one of the files.
fn merge(whole: &mut Vec<(Key, Value)>, part: Vec<(Key, Value)>, sink: &Sink) {
    for (key, value) in part {
        if key.name == "include" {
            let problem = Problem::new("include", Some(key.span), "an included file cannot include others");
            sink.report(problem.hint("name them in the file that the configuration begins with"));
            continue;
        }
        match whole.iter_mut().find(|(known, _)| known.name == key.name) {
            None => whole.push((key, value)),
            Some((_, there)) if APPENDED.contains(&key.name.as_str()) => append(there, value),
            Some((_, there)) if key.name == "pool" => add_tables(there, value, sink),
            Some((first, _)) => {
                let problem =
                    Problem::new(&key.name, Some(key.span), format!("`{}` is there twice", key.name));
                sink.report(problem.see(Some(first.span.clone()), "the first one is here").hint(ONCE));
            }
        }
    }
}

/// Makes a list of both.
fn append(there: &mut Value, value: Value) {
    let items = |value: Value| match value.data {
        Data::Array(items) => items,
        _ => vec![value],
    };
    let mut all = items(there.clone());
    all.extend(items(value));
    there.data = Data::Array(all);
}

fn add_tables(there: &mut Value, value: Value, sink: &Sink) {
    let (tables, more) = match (&mut there.data, value.data) {
        (Data::Table(tables), Data::Table(more)) => (tables, more),
        // Reported by the parser.
        (Data::Broken, _) | (_, Data::Broken) => return,
        (_, data) => {
            let other = Value::new(value.span.clone(), data);
            let fault = format!("expected a table, found {}", other.kind());
            return sink.report(Problem::new("pool", Some(value.span), fault));
        }
    };
    let known = tables.iter().map(|(key, _)| (key.name.clone(), key.span.clone()));
    let known: HashMap<_, _> = known.collect();
    for (key, value) in more {
        match known.get(&key.name) {
            None => tables.push((key, value)),
            Some(first) => {
                let path = format!("pool.{}", key.name);
                let problem = Problem::new(&path, Some(key.span), format!("`{path}` is there twice"));
                sink.report(problem.see(Some(first.clone()), "the first one is here"));
            }
        }
    }
}

/// Lists to which every file may add.
const APPENDED: [&str; 2] = ["listener", "route"];
const ONCE: &str = "only listeners, routes and pools may come from several files; leave one of them out";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_a_shell() {
        for (pattern, name, fits) in [
            ("*.toml", "a.toml", true),
            ("*.toml", ".toml", true),
            ("*.toml", "a.toml~", false),
            ("a?.toml", "ab.toml", true),
            ("a?.toml", "a.toml", false),
            ("?", "ä", true),
            ("*a*b", "xaxbxb", true),
            ("*a*b", "xbxa", false),
            ("**", "", true),
            ("", "", true),
            ("a*", "ba", false),
        ] {
            assert_eq!(matches_pattern(pattern, name), fits, "{pattern} {name}");
        }
    }
}
