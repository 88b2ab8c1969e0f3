//! Names of things in the configuration: listeners, routes and pools. A name is cheap to clone and
//! is safe as a metric label and in a log line, because its alphabet is closed.

use std::fmt;
use std::sync::Arc;

use thiserror::Error;

/// The name of a listener, a route or a pool: 1 to 64 of `A-Z a-z 0-9 _ - .`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

/// Why a string is no [`Name`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BadName {
    /// The string is empty or longer than [`Name::MAX_LEN`].
    #[error("a name has 1 to 64 characters, this one has {0}")]
    Length(usize),
    /// The string has a character outside the alphabet.
    #[error("a name is made of letters, digits, `_`, `-` and `.`, not {0:?}")]
    Character(char),
}

impl Name {
    /// The greatest length of a name, in characters.
    pub const MAX_LEN: usize = 64;

    /// Takes `text` as a name.
    ///
    /// # Errors
    /// When `text` is empty, too long, or has a character outside the alphabet.
    pub fn new(text: &str) -> Result<Self, BadName> {
        if text.is_empty() || text.len() > Self::MAX_LEN {
            return Err(BadName::Length(text.chars().count()));
        }
        let foreign = |c: &char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
        match text.chars().find(foreign) {
            Some(c) => Err(BadName::Character(c)),
            None => Ok(Self(text.into())),
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_short_and_plain() {
        assert_eq!(Name::new("app-1.eu_west").unwrap().as_str(), "app-1.eu_west");
        assert_eq!(Name::new(""), Err(BadName::Length(0)));
        assert_eq!(Name::new(&"x".repeat(65)), Err(BadName::Length(65)));
        assert_eq!(Name::new("a b"), Err(BadName::Character(' ')));
        assert_eq!(Name::new("ü"), Err(BadName::Character('ü')));
    }
}
