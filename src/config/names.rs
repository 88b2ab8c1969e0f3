//! Names given to things in the file, and looking them up: names taken twice, and names that
//! nothing has.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use crate::model::Name;
use crate::model::options::{Fault, Given, Problem, Sink};

/// The names of one sort of thing, each with the place of the thing in its list.
#[derive(Debug)]
pub(super) struct Names {
    /// What is named, in the singular, as in `"pool"`.
    noun: &'static str,
    taken: Vec<Taken>,
    /// Where in `taken` a name is.
    places: HashMap<Name, usize>,
}

#[derive(Debug)]
struct Taken {
    name: Name,
    index: usize,
    path: String,
    span: Range<usize>,
}

impl Names {
    pub(super) fn of(noun: &'static str) -> Self {
        Self { noun, taken: Vec::new(), places: HashMap::new() }
    }

    /// Takes `name`, which stands at `path` and `span`, for the thing at `index`. A name that is
    /// taken already is reported.
    pub(super) fn take(
        &mut self,
        name: &Name,
        index: usize,
        (path, span): (&str, Range<usize>),
        sink: &Sink,
    ) {
        if let Some(first) = self.named(name) {
            let fault = format!("there are two {}s `{name}`", self.noun);
            let problem = Problem::new(path, Some(span), fault);
            sink.report(problem.see(Some(first.span.clone()), "the first one is here"));
        } else {
            self.places.insert(name.clone(), self.taken.len());
            self.taken.push(Taken { name: name.clone(), index, path: path.to_owned(), span });
        }
    }

    /// The place of the thing that `given` names; reported when there is none.
    pub(super) fn find(&self, given: &Given<'_>, sink: &Sink) -> Option<usize> {
        self.find_named(&given.read::<String>()?, given.path(), given.span(), sink)
    }

    /// The place of the thing named `name`, as written at `path` and `span`; reported when there
    /// is none.
    pub(super) fn find_named(
        &self,
        name: &str,
        path: &str,
        span: Range<usize>,
        sink: &Sink,
    ) -> Option<usize> {
        let found = Name::new(name).ok().and_then(|name| self.named(&name));
        if found.is_none() && !sink.is_incomplete() {
            let known: Vec<_> = self.taken.iter().map(|taken| taken.name.as_str()).collect();
            let Fault { text, hint } = Fault::unknown(self.noun, name, &known);
            sink.report(Problem::new(path, Some(span), text).or_hint(hint));
        }
        found.map(|taken| taken.index)
    }

    fn named(&self, name: &Name) -> Option<&Taken> {
        self.places.get(name).and_then(|place| self.taken.get(*place))
    }

    /// Warns of what is not among `used`.
    pub(super) fn warn_of_unused(&self, used: &HashSet<usize>, sink: &Sink) {
        for taken in self.taken.iter().filter(|taken| !used.contains(&taken.index)) {
            let fault = format!("no route leads to the {} `{}`", self.noun, taken.name);
            sink.report(Problem::new(&taken.path, Some(taken.span.clone()), fault).warning());
        }
    }

    /// Warns of the thing at `index`, with a remedy.
    pub(super) fn warn_of(&self, index: usize, fault: &str, remedy: &str, sink: &Sink) {
        for taken in self.taken.iter().filter(|taken| taken.index == index) {
            let problem = Problem::new(&taken.path, Some(taken.span.clone()), fault);
            sink.report(problem.hint(remedy).warning());
        }
    }
}
