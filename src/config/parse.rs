//! From TOML to a tree of spanned values, with the environment's variables in their places. Knows
//! the syntax and nothing of what the keys mean.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeArray, DeInteger, DeTable, DeValue};

use crate::model::expand::{BadExpansion, Env, expand};
use crate::model::options::{Data, Key, Problem, Sink, Value};

/// Reads `text`, whose first byte has the offset `start`; what is malformed is reported and reads as
/// broken. The entries of every table are in the order of the source.
pub(super) fn parse(text: &str, start: usize, env: Env<'_>, sink: &Sink) -> Vec<(Key, Value)> {
    let (root, mut errors) = DeTable::parse_recoverable(text);
    errors.sort_by_key(start_of);
    let faulty = errors.iter().filter_map(toml::de::Error::span).collect();
    if !errors.is_empty() {
        sink.incomplete();
    }
    // One slip often makes several errors in a row; the first of a line is the telling one.
    errors.dedup_by_key(|error| text.get(..start_of(error)).map(|before| before.matches('\n').count()));
    for error in &errors {
        let problem = syntax_problem(text, error);
        sink.report(Problem { span: problem.span.map(|span| shifted(span, start)), ..problem });
    }
    Tree { env, sink, start, faulty }.entries("", root.get_ref())
}

fn start_of(error: &toml::de::Error) -> usize {
    error.span().map_or(0, |span| span.start)
}

fn shifted(span: Range<usize>, by: usize) -> Range<usize> {
    span.start + by..span.end + by
}

fn syntax_problem(text: &str, error: &toml::de::Error) -> Problem {
    let span = error.span();
    let found = span.clone().and_then(|span| text.get(span)).unwrap_or_default().trim();
    let message = error.message().trim_end_matches(", expected nothing");
    match message.strip_suffix(", expected literal string") {
        Some(_) if found.is_empty() => Problem::new("", span, "the value is missing"),
        Some(unquoted) => Problem::new("", span, unquoted).hint(format!("write {found:?}")),
        None => {
            let hint =
                bare_word(text, start_of(error)).map(|word| format!("a string needs quotes: {word:?}"));
            Problem::new("", span, message).or_hint(hint)
        }
    }
}

/// The value around `at` when it begins as a number and does not end as one, like an address
/// without quotes.
fn bare_word(text: &str, at: usize) -> Option<&str> {
    let (before, after) = text.split_at_checked(at)?;
    let start = before.rfind(['=', ',', '[', '\n']).map_or(0, |before| before + 1);
    let end = after.find([',', ']', '}', '#', '\n']).map_or(text.len(), |length| at + length);
    let word = text.get(start..end)?.trim();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | ':' | '/' | '-' | '_' | '%');
    let numeric = word.starts_with(|c: char| c.is_ascii_digit()) && word.chars().all(plain);
    (numeric && start < at).then_some(word)
}

struct Tree<'a> {
    env: Env<'a>,
    sink: &'a Sink,
    /// The offset of the text's first byte.
    start: usize,
    /// Where syntax errors are, within the text.
    faulty: Vec<Range<usize>>,
}

impl Tree<'_> {
    fn entries(&self, path: &str, table: &DeTable<'_>) -> Vec<(Key, Value)> {
        let entry = |(key, value): (&Spanned<_>, _)| {
            let name = String::from(AsRef::<str>::as_ref(key.get_ref()));
            let key = Key { name, span: shifted(key.span(), self.start) };
            let path = if path.is_empty() { key.name.clone() } else { format!("{path}.{}", key.name) };
            let value = self.value(&path, value);
            (key, value)
        };
        let mut entries: Vec<_> = table.iter().map(entry).collect();
        entries.sort_by_key(|(key, _)| key.span.start);
        entries
    }

    fn items(&self, path: &str, array: &DeArray<'_>) -> Vec<Value> {
        array.iter().enumerate().map(|(index, item)| self.value(&format!("{path}[{index}]"), item)).collect()
    }

    fn value(&self, path: &str, value: &Spanned<DeValue<'_>>) -> Value {
        let span = value.span();
        let faulty = self.faulty.iter().any(|fault| fault.start <= span.end && span.start <= fault.end);
        let span = shifted(span, self.start);
        if faulty {
            return Value::new(span, Data::Broken);
        }
        let data = match value.get_ref() {
            DeValue::String(text) => return self.string(path, span, text),
            DeValue::Integer(number) => match whole(number) {
                Some(number) => Data::Integer(number),
                None => self.broken(path, &span, "this number is too large", None),
            },
            DeValue::Float(number) => Data::Float(number.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Boolean(flag) => Data::Boolean(*flag),
            DeValue::Datetime(_) => self.broken(
                path,
                &span,
                "no key takes a date or a time of day",
                Some("write it in quotes".into()),
            ),
            DeValue::Array(array) => Data::Array(self.items(path, array)),
            DeValue::Table(table) => Data::Table(self.entries(path, table)),
        };
        Value::new(span, data)
    }

    fn string(&self, path: &str, span: Range<usize>, text: &str) -> Value {
        match expand(text, self.env) {
            Ok(None) => Value::new(span, Data::String(text.to_owned())),
            Ok(Some(text)) => Value { span, data: Data::String(text), expanded: true },
            Err(error) => {
                let hint = match &error {
                    BadExpansion::Unset(name) => {
                        format!("set it, or give a default as in `${{{name}:-default}}`")
                    }
                    BadExpansion::Open | BadExpansion::Name(_) => {
                        "write `${NAME}` or `${NAME:-default}`, and `$${` for the characters themselves"
                            .into()
                    }
                };
                let data = self.broken(path, &span, &error.to_string(), Some(hint));
                Value::new(span, data)
            }
        }
    }

    fn broken(&self, path: &str, span: &Range<usize>, fault: &str, hint: Option<String>) -> Data {
        self.sink.report(Problem::new(path, Some(span.clone()), fault).or_hint(hint));
        Data::Broken
    }
}

fn whole(number: &DeInteger<'_>) -> Option<i64> {
    i64::from_str_radix(number.as_str(), number.radix()).ok()
}
