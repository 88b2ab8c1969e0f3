//! What is wrong with what was written: the place, the fault and what would be right. Knows no
//! file and no terminal; showing a problem under its line is `config`'s job.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::ops::Range;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Whether it keeps the configuration from being used.
    pub severity: Severity,
    /// The key's path, as in `pool.app.endpoints[1].weight`; empty for the source as a whole.
    pub path: String,
    /// Bytes of the source; `None` when it is about something that is not there.
    pub span: Option<Range<usize>>,
    /// What is wrong: lower case, no full stop.
    pub fault: String,
    /// What would be right.
    pub hint: Option<String>,
    /// Another place that has to do with it.
    pub related: Option<Related>,
}

/// A second place, such as the first of two things with one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Related {
    /// Bytes of the source.
    pub span: Range<usize>,
    /// What stands there.
    pub note: String,
}

/// How grave a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The configuration is usable, but probably not meant so.
    Warning,
    /// The configuration is not usable.
    Error,
}

impl Problem {
    /// An error without hint.
    #[must_use]
    pub fn new(path: &str, span: Option<Range<usize>>, fault: impl Into<String>) -> Self {
        let (path, fault) = (path.to_owned(), fault.into());
        Self { severity: Severity::Error, path, span, fault, hint: None, related: None }
    }

    /// The same as a warning.
    #[must_use]
    pub fn warning(self) -> Self {
        Self { severity: Severity::Warning, ..self }
    }

    /// The same with a hint.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// The same with a hint, when there is one.
    #[must_use]
    pub fn or_hint(self, hint: Option<String>) -> Self {
        Self { hint: hint.or(self.hint), ..self }
    }

    /// The same with a second place, when it is known.
    #[must_use]
    pub fn see(self, span: Option<Range<usize>>, note: impl Into<String>) -> Self {
        let related = span.map(|span| Related { span, note: note.into() });
        Self { related: related.or(self.related), ..self }
    }
}

/// Where readers put problems, and which keys they know.
#[derive(Debug, Default)]
pub struct Sink {
    problems: RefCell<Vec<Problem>>,
    errors: Cell<usize>,
    known: RefCell<BTreeSet<String>>,
    incomplete: Cell<bool>,
}

impl Sink {
    /// Takes a problem.
    pub fn report(&self, problem: Problem) {
        self.errors.set(self.errors.get() + usize::from(problem.severity == Severity::Error));
        self.problems.borrow_mut().push(problem);
    }

    /// Takes note that some of the source could not be read, so that what is absent is no problem
    /// of its own.
    pub fn incomplete(&self) {
        self.incomplete.set(true);
    }

    /// Whether some of the source could not be read.
    #[must_use]
    pub fn is_incomplete(&self) -> bool {
        self.incomplete.get()
    }

    /// How many errors there are so far.
    #[must_use]
    pub fn errors(&self) -> usize {
        self.errors.get()
    }

    /// Takes note of a key that a reader asked for, as in `pool.*.endpoints[].weight`.
    pub(super) fn know(&self, pattern: &str) {
        let mut known = self.known.borrow_mut();
        if !known.contains(pattern) {
            known.insert(pattern.to_owned());
        }
    }

    /// The problems, in the order of the source, and the patterns of all keys asked for.
    #[must_use]
    pub fn into_parts(self) -> (Vec<Problem>, BTreeSet<String>) {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|problem| problem.span.as_ref().map_or(0, |span| span.start));
        (problems, self.known.into_inner())
    }
}

/// The candidate that `word` is probably meant to be: one that differs in spelling only, or has
/// `word` as one of its parts.
pub fn suggest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |text: &str| text.to_ascii_lowercase().replace('-', "_");
    let word = plain(word);
    let part = |known: &str| known.split('_').any(|p| p == word) || word.split('_').any(|p| p == known);
    let distance = |candidate: &&'a str| {
        let known = plain(candidate);
        let typos = strsim::damerau_levenshtein(&word, &known);
        let bearable = known.len().max(word.len()).div_euclid(3).max(1);
        (typos <= bearable).then_some(typos).or_else(|| part(&known).then_some(bearable + 1))
    };
    let near = candidates.into_iter().filter_map(|known| Some((distance(&known)?, known)));
    near.min_by_key(|(distance, _)| *distance).map(|(_, known)| known)
}
