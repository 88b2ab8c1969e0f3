//! The process's own log: `tracing` events to standard error, as text or JSON. Which of them is a
//! filter's matter, from the configuration or from the environment, and for a while from elsewhere.

use std::io::{self, IsTerminal as _};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use thiserror::Error;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{LevelFilter, ParseError};
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};

use crate::model::settings::LogFormat;

/// The environment variable that overrides the configured filter.
pub const VARIABLE: &str = "FOREBAY_LOG";

/// Why there is no log.
#[derive(Debug, Error)]
pub enum LogError {
    /// The filter in the environment is wrong.
    #[error("{VARIABLE} is no log filter")]
    Variable(#[source] BadFilter),
    /// The filter that was configured is wrong.
    #[error("the log level is no log filter")]
    Level(#[source] BadFilter),
    /// Something else has taken the place.
    #[error("a log is set up already")]
    Twice(#[source] TryInitError),
}

/// Why a string is no log filter.
#[derive(Debug, Error)]
pub enum BadFilter {
    /// A bare word that is no level. `tracing` would take it for the name of a module and silence
    /// everything else.
    #[error("{0:?} is none of `error`, `warn`, `info`, `debug`, `trace`, `off`, nor `module=level`")]
    Level(String),
    /// It cannot be read.
    #[error("{text:?} cannot be read")]
    Syntax {
        /// What was given.
        text: String,
        /// What is wrong with it.
        source: ParseError,
    },
}

/// Which lines there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Level {
    /// The filter in force.
    pub current: String,
    /// The one that comes back when a change is over.
    pub usual: String,
}

/// Sets up the log for the whole process. `level` is used when [`VARIABLE`] is unset or empty; see
/// [`filter`] for what both may be.
///
/// # Errors
/// When the filter in force is wrong, or a log was set up before.
pub fn init(level: &str, format: LogFormat) -> Result<(), LogError> {
    let variable = std::env::var(VARIABLE).ok().filter(|text| !text.is_empty());
    let filter = in_force(variable.as_deref(), level)?;
    let usual = filter.to_string();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let (done, put): (_, Put) = match format {
        LogFormat::Text => {
            let builder = builder.with_ansi(io::stderr().is_terminal()).with_filter_reloading();
            let handle = builder.reload_handle();
            (builder.finish().try_init(), Box::new(move |filter| handle.reload(filter).is_ok()))
        }
        LogFormat::Json => {
            let builder = builder.json().flatten_event(true).with_filter_reloading();
            let handle = builder.reload_handle();
            (builder.finish().try_init(), Box::new(move |filter| handle.reload(filter).is_ok()))
        }
    };
    done.map_err(LogError::Twice)?;
    let level = Level { current: usual.clone(), usual };
    // Whoever has set up the log is the only one to come here.
    let _ = IN_FORCE.set(InForce { put, by_variable: variable.is_some(), level: Mutex::new(level) });
    Ok(())
}

/// The level in force, when this process has set up its log.
#[must_use]
pub fn level() -> Option<Level> {
    IN_FORCE.get().map(|log| log.level().clone())
}

/// Replaces the filter in force until [`reset`]; whether there is a log to do so.
///
/// # Errors
/// When `text` is no filter.
pub fn set(text: &str) -> Result<bool, BadFilter> {
    let filter = filter(text)?;
    let Some(log) = IN_FORCE.get() else { return Ok(false) };
    let (mut level, current) = (log.level(), filter.to_string());
    if (log.put)(filter) {
        level.current = current;
    }
    Ok(true)
}

/// Has another filter be the usual one, at once unless one of [`set`] is in force. [`VARIABLE`] comes first
/// as ever.
///
/// # Errors
/// When `text` is no filter.
pub fn set_usual(text: &str) -> Result<(), BadFilter> {
    let filter = filter(text)?;
    let Some(log) = IN_FORCE.get().filter(|log| !log.by_variable) else { return Ok(()) };
    let (mut level, usual) = (log.level(), filter.to_string());
    if level.current != level.usual {
        level.usual = usual;
    } else if (log.put)(filter) {
        *level = Level { current: usual.clone(), usual };
    }
    Ok(())
}

/// Has the usual filter come back; whether that changed anything.
pub fn reset() -> bool {
    let Some(level) = level() else { return false };
    level.current != level.usual && set(&level.usual).is_ok()
}

/// Takes another filter.
type Put = Box<dyn Fn(EnvFilter) -> bool + Send + Sync>;

/// The log that was set up.
struct InForce {
    put: Put,
    /// Whether the environment says which filter is the usual one.
    by_variable: bool,
    level: Mutex<Level>,
}

impl InForce {
    fn level(&self) -> MutexGuard<'_, Level> {
        self.level.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// There is one log for the whole process.
static IN_FORCE: OnceLock<InForce> = OnceLock::new();

fn in_force(variable: Option<&str>, level: &str) -> Result<EnvFilter, LogError> {
    match variable {
        Some(text) => filter(text).map_err(LogError::Variable),
        None => filter(level).map_err(LogError::Level),
    }
}

/// Reads a filter: a level, or a list such as `info,forebay::upstream=debug`.
///
/// # Errors
/// When it is not one.
pub fn filter(text: &str) -> Result<EnvFilter, BadFilter> {
    let parts: Vec<&str> = text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
    let word = |part: &str| part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if let Some(part) = parts.iter().find(|part| word(part) && part.parse::<LevelFilter>().is_err()) {
        return Err(BadFilter::Level((*part).to_owned()));
    }
    let syntax = |source| BadFilter::Syntax { text: text.to_owned(), source };
    EnvFilter::builder().parse(parts.join(",")).map_err(syntax)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_that_mean_something() {
        for text in ["info", "WARN", "off", "info,forebay::upstream=debug", "forebay=trace, h2=off", ""] {
            assert!(filter(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn what_is_no_filter_is_quoted() {
        for text in ["inof", "info,debgu", "forebay=loud", "=", "forebay=info=debug"] {
            let error = filter(text).unwrap_err();
            let quoted = text.split(',').next_back().unwrap();
            assert!(error.to_string().contains(quoted), "{error}");
        }
    }

    #[test]
    fn the_environment_overrides() {
        assert!(matches!(in_force(None, "inof"), Err(LogError::Level(_))));
        assert!(matches!(in_force(Some("inof"), "info"), Err(LogError::Variable(_))));
        assert_eq!(in_force(Some("debug"), "inof").unwrap().to_string(), "debug");
    }

    #[test]
    fn there_is_one_log() {
        let _first = init("off", LogFormat::Json);
        assert!(matches!(init("off", LogFormat::Text), Err(LogError::Twice(_))));
        assert!(set("inof").is_err());
        assert_eq!(set("forebay=debug").ok(), Some(true));
        assert_eq!(
            level().map(|level| (level.current, level.usual)).unwrap(),
            ("forebay=debug".into(), "off".into())
        );
        assert!(set_usual("inof").is_err());
        set_usual("warn").unwrap();
        let now = || level().map(|level| (level.current, level.usual)).unwrap();
        assert_eq!(now(), ("forebay=debug".into(), "warn".into()), "until it is over");
        assert!(reset() && !reset());
        assert_eq!(now(), ("warn".into(), "warn".into()));
        set_usual("off").unwrap();
        assert_eq!(now(), ("off".into(), "off".into()));
    }
}
