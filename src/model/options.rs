//! What was written, as a tree of values that know where they stand, and the typed reading of it.
//! Reading never stops at the first fault: each goes into a [`Sink`] and the reader moves on.
//! Knows neither the syntax of the file nor what its keys mean.

mod from_value;
mod problem;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::ops::{Range, RangeInclusive};

pub use from_value::{Bounded, Fault, FromValue, OneOf};
pub use problem::{Problem, Related, Severity, Sink, suggest};

use super::Fingerprint;

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// Bytes of the source.
    pub span: Range<usize>,
    /// What stands there.
    pub data: Data,
    /// Whether it is a string with something of the environment in it. Such a string may stand for
    /// a number or a boolean, for there is no other way to write these as `${NAME}`.
    pub expanded: bool,
}

/// What a value is.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// A string, `${NAME}` already replaced.
    String(String),
    /// A whole number.
    Integer(i64),
    /// Any other number.
    Float(f64),
    /// `true` or `false`.
    Boolean(bool),
    /// A list.
    Array(Vec<Value>),
    /// A table, in the order of the source.
    Table(Vec<(Key, Value)>),
    /// Something that is already reported; reads as absent, without a further problem.
    Broken,
}

/// A key and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// The key, unquoted.
    pub name: String,
    /// Bytes of the source.
    pub span: Range<usize>,
}

impl Value {
    /// A value as written, with nothing of the environment in it.
    #[must_use]
    pub fn new(span: Range<usize>, data: Data) -> Self {
        Self { span, data, expanded: false }
    }

    /// The kind of value, as named in faults.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match &self.data {
            Data::String(_) => "a string",
            Data::Integer(_) => "a whole number",
            Data::Float(_) => "a number with a fraction",
            Data::Boolean(_) => "a boolean",
            Data::Array(_) => "a list",
            Data::Table(_) => "a table",
            Data::Broken => "something unreadable",
        }
    }
}

/// One table while it is read. Each key that is asked for is known from then on; what nobody asked
/// for is a problem when the reader calls [`Self::finish`].
#[derive(Debug)]
#[must_use = "unknown keys are found by `finish`"]
pub struct Options<'a> {
    entries: &'a [(Key, Value)],
    place: Place<'a>,
    asked: RefCell<Vec<&'static str>>,
}

/// One value while it is read: the value, its path, and where its problems go.
#[derive(Clone, Debug)]
pub struct Given<'a> {
    value: &'a Value,
    place: Place<'a>,
}

#[derive(Clone, Debug)]
struct Place<'a> {
    /// As in `pool.app.endpoints[1].weight`.
    path: String,
    /// The same with free keys and indexes left open: `pool.*.endpoints[].weight`.
    pattern: String,
    span: Option<Range<usize>>,
    sink: &'a Sink,
}

impl<'a> Options<'a> {
    /// The outermost table.
    pub fn root(entries: &'a [(Key, Value)], sink: &'a Sink) -> Self {
        let place = Place { path: String::new(), pattern: String::new(), span: None, sink };
        Self::at(entries, place)
    }

    fn at(entries: &'a [(Key, Value)], place: Place<'a>) -> Self {
        Self { entries, place, asked: RefCell::default() }
    }

    /// Tells the table from one in which something else is written.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of_entries(self.entries)
    }

    /// The same of some of its keys.
    #[must_use]
    pub fn fingerprint_of(&self, keys: &[&str]) -> Fingerprint {
        let some = self.entries.iter().filter(|(key, _)| keys.contains(&key.name.as_str()));
        Fingerprint::of_entries(&some.cloned().collect::<Vec<_>>())
    }

    /// The value of `key`, unread.
    pub fn given(&self, key: &'static str) -> Option<Given<'a>> {
        let place = self.place.key(key, key);
        self.place.sink.know(&place.pattern);
        let mut asked = self.asked.borrow_mut();
        if !asked.contains(&key) {
            asked.push(key);
        }
        let (_, value) = self.entries.iter().find(|(k, _)| k.name == key)?;
        Some(Given { value, place: place.spanning(value) })
    }

    /// The value of `key`; `None` when it is absent, or unfit and then reported.
    pub fn get<T: FromValue>(&self, key: &'static str) -> Option<T> {
        self.given(key)?.read()
    }

    /// The value of `key`, or `default` when it is absent or unfit.
    pub fn get_or<T: FromValue>(&self, key: &'static str, default: T) -> T {
        self.get(key).unwrap_or(default)
    }

    /// The value of `key`, within `range`, or `default`.
    pub fn within<T: Bounded>(&self, key: &'static str, range: RangeInclusive<T>, default: T) -> T {
        self.given(key).and_then(|given| given.within(range)).unwrap_or(default)
    }

    /// The value of `key`, whose absence is a problem.
    pub fn require<T: FromValue>(&self, key: &'static str) -> Option<T> {
        self.required(key)?.read()
    }

    /// The value of `key`, unread, whose absence is a problem.
    pub fn required(&self, key: &'static str) -> Option<Given<'a>> {
        let given = self.given(key);
        if given.is_none() {
            self.missing(key, format!("`{key}` is missing"), None);
        }
        given
    }

    /// Reports a fault of `key` that is due to its absence, unless the source is known to be
    /// incomplete: then the key may be there and unreadable.
    pub fn missing(&self, key: &'static str, fault: impl Into<String>, hint: Option<String>) {
        if !self.place.sink.is_incomplete() {
            self.problem(key, fault, hint);
        }
    }

    /// The values of `key`, which is one value or a list; `None` when it is absent. Unfit values
    /// are reported and left out.
    pub fn list<T: FromValue>(&self, key: &'static str) -> Option<Vec<T>> {
        Some(self.given(key)?.list())
    }

    /// The items of `key`, unread, which is one value or a list; none when it is absent.
    pub fn items(&self, key: &'static str) -> Vec<Given<'a>> {
        self.given(key).map(|given| given.items()).unwrap_or_default()
    }

    /// The table `key`; `None` when it is absent, or no table and then reported.
    pub fn table(&self, key: &'static str) -> Option<Self> {
        self.given(key)?.table()
    }

    /// The table `key`, or an empty one in its place.
    pub fn section(&self, key: &'static str) -> Self {
        self.table(key).unwrap_or_else(|| Self::at(&[], self.place.key(key, key)))
    }

    /// The tables of `key`, which is a list of tables or one table.
    pub fn tables(&self, key: &'static str) -> Vec<Self> {
        self.items(key).iter().filter_map(Given::table).collect()
    }

    /// Every entry of a table with free keys.
    pub fn entries(&self) -> impl Iterator<Item = (&'a Key, Given<'a>)> + use<'a> {
        self.place.sink.know(&self.place.key("*", "*").pattern);
        let place = self.place.clone();
        self.entries
            .iter()
            .map(move |(key, value)| (key, Given { value, place: place.key(&key.name, "*").spanning(value) }))
    }

    /// The only entry of a table whose key says of what kind its value is; reported when there is
    /// none or more than one.
    pub fn sole(&self) -> Option<(&'a Key, Given<'a>)> {
        let [(key, value)] = self.entries else {
            self.fault(format!("expected a table with one key, found {} keys", self.entries.len()), None);
            return None;
        };
        Some((key, Given { value, place: self.place.key(&key.name, &key.name).spanning(value) }))
    }

    /// Reports a fault of `key`: where its value stands, or the table in its absence.
    pub fn problem(&self, key: &'static str, fault: impl Into<String>, hint: Option<String>) {
        let place = self.place.key(key, key);
        let span = self.entries.iter().find(|(k, _)| k.name == key).map(|(_, value)| value.span.clone());
        place.report(Problem::new(&place.path, span.or(self.place.span.clone()), fault).or_hint(hint));
    }

    /// Reports a fault of the table itself.
    pub fn fault(&self, fault: impl Into<String>, hint: Option<String>) {
        self.place.report(Problem::new(&self.place.path, self.place.span.clone(), fault).or_hint(hint));
    }

    /// Reports `key`, which belongs elsewhere, where it is given; it is none of the keys here.
    pub fn misplaced(&self, key: &'static str, fault: impl Into<String>, hint: &str) {
        if let Some((own, _)) = self.entries.iter().find(|(own, _)| own.name == key) {
            let place = self.place.key(key, key);
            place.report(Problem::new(&place.path, Some(own.span.clone()), fault).or_hint(Some(hint.into())));
            self.asked.borrow_mut().push(key);
        }
    }

    /// Reports a problem as it is.
    pub fn report(&self, problem: Problem) {
        self.place.report(problem);
    }

    /// Where the table stands.
    pub fn span(&self) -> Option<Range<usize>> {
        self.place.span.clone()
    }

    /// The path of the table, as in `pool.app`.
    pub fn path(&self) -> &str {
        &self.place.path
    }

    /// Reports every key that nobody asked for.
    pub fn finish(self) {
        let asked = self.asked.into_inner();
        for (key, _) in self.entries.iter().filter(|(key, _)| !asked.contains(&key.name.as_str())) {
            let hint = match suggest(&key.name, asked.iter().copied()) {
                Some(known) => Some(format!("did you mean `{known}`?")),
                None if asked.is_empty() => None,
                None => Some(format!("the keys here are {}", backticked(&asked))),
            };
            let place = self.place.key(&key.name, &key.name);
            let fault = format!("unknown key `{}`", key.name);
            place.report(Problem::new(&place.path, Some(key.span.clone()), fault).or_hint(hint));
        }
    }
}

impl<'a> Given<'a> {
    /// The value as a `T`; `None` when it is unfit and reported.
    #[must_use]
    pub fn read<T: FromValue>(&self) -> Option<T> {
        if self.value.data == Data::Broken {
            return None;
        }
        match T::from_value(self.value) {
            Ok(value) => Some(value),
            Err(fault) => {
                self.fault(fault.text, fault.hint);
                None
            }
        }
    }

    /// The value as a `T` within `range`; `None` when it is unfit and reported.
    #[must_use]
    pub fn within<T: Bounded>(&self, range: RangeInclusive<T>) -> Option<T> {
        let value = self.read::<T>()?;
        if range.contains(&value) {
            return Some(value);
        }
        let (least, most) = (range.start().show(), range.end().show());
        self.fault(format!("{} is not from {least} to {most}", value.show()), None);
        None
    }

    /// The values of one value or a list; unfit ones are reported and left out.
    #[must_use]
    pub fn list<T: FromValue>(&self) -> Vec<T> {
        self.items().iter().filter_map(Given::read).collect()
    }

    /// The items of a list; of any other value, itself.
    #[must_use]
    pub fn items(&self) -> Vec<Self> {
        let Data::Array(items) = &self.value.data else {
            return vec![self.clone()];
        };
        let item = |(index, value)| Given { value, place: self.place.index(index).spanning(value) };
        items.iter().enumerate().map(item).collect()
    }

    /// The value as a table; `None` when it is none and reported.
    #[must_use]
    pub fn table(&self) -> Option<Options<'a>> {
        match &self.value.data {
            Data::Table(entries) => Some(Options::at(entries, self.place.clone())),
            Data::Broken => None,
            _ => {
                self.fault(format!("expected a table, found {}", self.value.kind()), None);
                None
            }
        }
    }

    /// These entries, read as a table that stands in this value's place.
    pub fn options_of<'b>(&'b self, entries: &'b [(Key, Value)]) -> Options<'b> {
        Options::at(entries, self.place.clone())
    }

    /// The value itself, for readers that accept several kinds.
    #[must_use]
    pub fn value(&self) -> &'a Value {
        self.value
    }

    /// Whether the value is a table.
    #[must_use]
    pub fn is_table(&self) -> bool {
        matches!(self.value.data, Data::Table(_))
    }

    /// Reports a fault of this value.
    pub fn fault(&self, fault: impl Into<String>, hint: Option<String>) {
        self.place.report(Problem::new(&self.place.path, self.place.span.clone(), fault).or_hint(hint));
    }

    /// Reports a problem as it is.
    pub fn report(&self, problem: Problem) {
        self.place.report(problem);
    }

    /// Where the value stands.
    #[must_use]
    pub fn span(&self) -> Range<usize> {
        self.value.span.clone()
    }

    /// The path of the value, as in `pool.app.endpoints[1]`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.place.path
    }
}

impl Place<'_> {
    fn key(&self, name: &str, pattern: &str) -> Self {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '*');
        let name = if name.chars().all(plain) { name.to_owned() } else { format!("{name:?}") };
        let dot = if self.path.is_empty() { "" } else { "." };
        Self {
            path: format!("{}{dot}{name}", self.path),
            pattern: format!("{}{dot}{pattern}", self.pattern),
            ..self.clone()
        }
    }

    fn index(&self, index: usize) -> Self {
        let path = format!("{}[{index}]", self.path);
        Self { path, pattern: format!("{}[]", self.pattern), ..self.clone() }
    }

    fn spanning(self, value: &Value) -> Self {
        Self { span: Some(value.span.clone()), ..self }
    }

    fn report(&self, problem: Problem) {
        self.sink.report(problem);
    }
}

/// `a`, `b` and `c`, each in backticks.
pub(crate) fn backticked(names: &[&str]) -> String {
    let quoted: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
        None => String::new(),
    }
}
