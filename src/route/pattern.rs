//! Regular expressions as routes use them: over bytes, and always for the whole of what is
//! matched. Which bytes these are is not known here.

use thiserror::Error;

use crate::model::options::{Fault, FromValue, Value};

/// A regular expression that matches a path or a value as a whole. It sees bytes: `.` is any byte,
/// and classes such as `\w` are ASCII's, unless the expression says `(?u)`.
///
/// Matching never backtracks; its time is linear in the input. Its scratch memory is made by the
/// first uses and kept.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: Box<str>,
    whole: regex::bytes::Regex,
}

/// Why a string is no [`Pattern`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{text:?} is not a regular expression: {reason}")]
pub struct BadPattern {
    text: String,
    reason: String,
}

impl Pattern {
    /// Takes `text` in the syntax of the `regex` crate.
    ///
    /// # Errors
    /// When it is malformed, or would take more than 10 MiB.
    pub fn new(text: &str) -> Result<Self, BadPattern> {
        // By itself first: `a)|(b` must not become well-formed by what is put around it.
        let whole = compile(text).and_then(|_| compile(&format!(r"\A(?:{text})\z")));
        let bad = |error: regex::Error| BadPattern { text: text.to_owned(), reason: reason(&error) };
        Ok(Self { text: text.into(), whole: whole.map_err(bad)? })
    }

    /// The expression as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it matches all of `bytes`.
    #[must_use]
    pub fn matches(&self, bytes: &[u8]) -> bool {
        self.whole.is_match(bytes)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

impl FromValue for Pattern {
    fn from_value(value: &Value) -> Result<Self, Fault> {
        Self::new(value.text("a regular expression")?).map_err(Fault::new)
    }
}

fn compile(text: &str) -> Result<regex::bytes::Regex, regex::Error> {
    regex::bytes::RegexBuilder::new(text).unicode(false).dot_matches_new_line(true).build()
}

/// The last line of a syntax error says what is wrong; those before it draw the expression.
fn reason(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    last.strip_prefix("error: ").unwrap_or(last).trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_it_must_match() {
        for (pattern, bytes, matches) in [
            ("a|ab", &b"ab"[..], true),
            ("a|ab", b"abc", false),
            ("b", b"ab", false),
            (r"/users/\d+", b"/users/42", true),
            (r"/users/\d+", b"/users/42/edit", false),
            (r"/.*\.png", b"/a\xff\n.png", true),
            ("", b"", true),
            ("", b"a", false),
            ("(?i)/ab", b"/AB", true),
        ] {
            assert_eq!(Pattern::new(pattern).unwrap().matches(bytes), matches, "{pattern} {bytes:?}");
        }
    }

    #[test]
    fn what_is_malformed_is_named() {
        let fault = |text: &str| Pattern::new(text).unwrap_err().to_string();
        assert_eq!(fault("a("), r#""a(" is not a regular expression: unclosed group"#);
        assert_eq!(fault("a)|(b"), r#""a)|(b" is not a regular expression: unopened group"#);
        assert!(fault(r"\w{9999}{99}").contains("exceeds size limit"));
    }
}
