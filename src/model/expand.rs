//! `${NAME}` and `${NAME:-default}` in strings. Pure: the environment is a function that the
//! caller passes in.

use thiserror::Error;

/// What a variable is set to; `None` when it is not set.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Why a string cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BadExpansion {
    /// The variable is not set and has no default.
    #[error("the environment variable `{0}` is not set")]
    Unset(String),
    /// `${` without `}`.
    #[error("`${{` is not closed by `}}`")]
    Open,
    /// What stands between the braces is no name.
    #[error("{0:?} is not the name of an environment variable")]
    Name(String),
}

/// Replaces every variable in `text`; `None` when there is none and `text` stands as it is.
/// `$${` stands for `${` itself; any other `$` stands for itself. A variable set to nothing counts
/// as not set where it has a default.
///
/// # Errors
/// When a variable is not set and has no default, or a `${` is malformed.
pub fn expand(text: &str, env: Env<'_>) -> Result<Option<String>, BadExpansion> {
    if !text.contains("${") {
        return Ok(None);
    }
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        if let Some(kept) = before.strip_suffix('$') {
            out.push_str(kept);
            out.push_str("${");
            rest = after;
            continue;
        }
        out.push_str(before);
        let (inside, after) = after.split_once('}').ok_or(BadExpansion::Open)?;
        out.push_str(&value_of(inside, env)?);
        rest = after;
    }
    out.push_str(rest);
    Ok(Some(out))
}

fn value_of(inside: &str, env: Env<'_>) -> Result<String, BadExpansion> {
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(word) {
        return Err(BadExpansion::Name(name.to_owned()));
    }
    let set = env(name).filter(|value| default.is_none() || !value.is_empty());
    set.or_else(|| default.map(str::to_owned)).ok_or_else(|| BadExpansion::Unset(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(text: &str) -> Result<Option<String>, BadExpansion> {
        expand(text, &|name| match name {
            "HOST" => Some("app".into()),
            "EMPTY" => Some(String::new()),
            _ => None,
        })
    }

    #[test]
    fn variables_are_replaced() {
        for (text, wanted) in [
            ("${HOST}:${PORT:-80}", "app:80"),
            ("a${HOST}b", "aappb"),
            ("${EMPTY}", ""),
            ("${EMPTY:-x}", "x"),
            ("${NO:-}", ""),
            ("${NO:-a:-b}", "a:-b"),
            ("$${HOST}", "${HOST}"),
            ("$$${HOST}", "$${HOST}"),
            ("$1 ${HOST} $", "$1 app $"),
        ] {
            assert_eq!(expanded(text), Ok(Some(wanted.into())), "{text}");
        }
        assert_eq!(expanded("costs $5"), Ok(None));
    }

    #[test]
    fn faults_name_the_variable() {
        assert_eq!(expanded("${NO}"), Err(BadExpansion::Unset("NO".into())));
        assert_eq!(expanded("${HOST"), Err(BadExpansion::Open));
        assert_eq!(expanded("${a b}"), Err(BadExpansion::Name("a b".into())));
        assert_eq!(expanded("${}"), Err(BadExpansion::Name(String::new())));
    }
}
