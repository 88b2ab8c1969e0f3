//! Why a command failed, in words for the person at the terminal: what, why, and what to do about
//! it. Knows nothing of requests; their errors never end the program.

use std::borrow::Cow;
use std::error::Error;
use std::fmt::Write;
use std::io;
use std::process::ExitCode;

use thiserror::Error;

use crate::control::client::AskError;
use crate::control::health::recording::BadLine;
use crate::control::healthcheck::Unhealthy;
use crate::model::Address;
use crate::observe::log::LogError;
use crate::server::StartError;
use crate::server::handover::HandoverError;
use crate::{config, demo};

/// Why a command failed.
#[derive(Debug, Error)]
pub enum Failure {
    /// The configuration has problems; the report names each of them.
    #[error("{0}")]
    Config(config::Report),
    /// The arguments are words, but make no plan; the report points into them.
    #[error("{0}")]
    Arguments(config::Report),
    /// The log cannot be set up.
    #[error("cannot set up the log")]
    Log(#[from] LogError),
    /// The server did not start.
    #[error("cannot start")]
    Start(#[from] StartError),
    /// The demo did not start or did not get to its end.
    #[error("the demo failed")]
    Demo(#[from] demo::Error),
    /// The configuration turns the admin listener off, so that there is nobody to ask.
    #[error("the configuration has no admin listener to ask")]
    NoAdmin,
    /// Without it, nobody can be asked to make way.
    #[error("the configuration has no upgrade socket")]
    NoUpgradeSocket,
    /// No process took the place of the one that runs.
    #[error("the process was not replaced")]
    Upgrade(#[from] HandoverError),
    /// The process that was asked is not ready, or is not there.
    #[error("not ready")]
    Unhealthy(#[from] Unhealthy),
    /// The admin listener does not answer.
    #[error("nobody to ask")]
    Ask(#[from] AskError),
    /// The admin listener says no.
    #[error("{address} refused: {error}")]
    Refused {
        /// Who was asked.
        address: Address,
        /// What is wrong.
        error: String,
        /// What to do about it; may be empty.
        hint: String,
    },
    /// What answered is not an admin listener, or another version's, or was cut short.
    #[error("{address} gave an answer that makes no sense (status {status})")]
    Garbled {
        /// Who was asked.
        address: Address,
        /// The status of the answer.
        status: u16,
    },
    /// There is no such endpoint.
    #[error("there is no endpoint {endpoint}")]
    NoEndpoint {
        /// As named on the command line.
        endpoint: String,
        /// Those that there are.
        known: String,
    },
    /// Several pools have the endpoint.
    #[error("several pools have an endpoint {endpoint}: {pools}")]
    Ambiguous {
        /// As named on the command line.
        endpoint: String,
        /// The pools.
        pools: String,
    },
    /// A file that was named on the command line cannot be read.
    #[error("cannot read {file}")]
    File {
        /// The file.
        file: String,
        /// Why not.
        source: io::Error,
    },
    /// A recording cannot be opened.
    #[error("cannot read {file}")]
    Journal {
        /// The file.
        file: String,
        /// Why not.
        source: io::Error,
    },
    /// A file is no recording.
    #[error("{file} is no journal")]
    Recording {
        /// The file.
        file: String,
        /// The line at fault.
        source: BadLine,
    },
    /// None of the recorded pools is configured.
    #[error("the configuration has none of the recorded pools")]
    NothingToSimulate,
    /// Standard output cannot be written.
    #[error("cannot write to standard output")]
    Output(#[source] io::Error),
}

impl Failure {
    /// What is written to standard error: the failure, its causes, and the remedy when one is
    /// known. Ends with a newline.
    #[must_use]
    pub fn report(&self) -> String {
        if let Self::Config(report) | Self::Arguments(report) = self {
            return super::shown(report);
        }
        let mut text = format!("error: {self}");
        let mut cause = self.source();
        while let Some(error) = cause {
            // Writing to a string does not fail.
            let _ = write!(text, ": {error}");
            cause = error.source();
        }
        if let Some(remedy) = self.remedy() {
            let _ = write!(text, "\n  help: {remedy}");
        }
        text.push('\n');
        text
    }

    /// What the shell is told: 2 when the arguments are at fault, as `clap` has it; 1 otherwise.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Arguments(_) => ExitCode::from(2),
            _ => ExitCode::FAILURE,
        }
    }

    /// What can be done about it, when that is known.
    fn remedy(&self) -> Option<Cow<'_, str>> {
        let remedy = match self {
            Self::NoAdmin => "add `[admin]` with `bind = \"127.0.0.1:9900\"`, or name one with `--admin`",
            Self::Unhealthy(Unhealthy::Ask(_)) | Self::Ask(_) => {
                "is `forebay run` running? Name its configuration file with `-c`, or its admin listener with `--admin`"
            }
            Self::NoUpgradeSocket => {
                "add `[upgrade]` with `socket = \"/run/forebay/upgrade.sock\"`, and restart once"
            }
            Self::Upgrade(HandoverError::Gone) => {
                "is `forebay run` running, with the same `[upgrade] socket`? Its log says more"
            }
            Self::Start(error) if in_use(error) => {
                "another process listens there: stop it, or bind elsewhere"
            }
            Self::Log(_) => {
                "a level is `error`, `warn`, `info`, `debug` or `trace`, or a filter such as `forebay=debug`"
            }
            Self::Refused { hint, .. } => {
                return Some(hint.into()).filter(|hint: &Cow<'_, str>| !hint.is_empty());
            }
            Self::Garbled { .. } => "is that its admin listener, and of the same version?",
            Self::NoEndpoint { known, .. } => return Some(format!("there is {known}").into()),
            Self::Ambiguous { endpoint, .. } => {
                return Some(format!("say which with `--pool POOL`, or as `POOL/{endpoint}`").into());
            }
            Self::Journal { .. } | Self::Recording { .. } => {
                "`curl -s http://127.0.0.1:9900/v1/recording > journal` makes one, at the admin listener's address"
            }
            Self::NothingToSimulate => "pools are matched by name: call them as they were called then",
            Self::Unhealthy(_)
            | Self::Start(_)
            | Self::Upgrade(_)
            | Self::File { .. }
            | Self::Config(_)
            | Self::Arguments(_)
            | Self::Demo(_)
            | Self::Output(_) => return None,
        };
        Some(remedy.into())
    }
}

/// Whether an address was taken somewhere down the causes of `error`.
fn in_use(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::AddrInUse) {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_has_the_cause_and_the_remedy() {
        let at = "127.0.0.1:9900".parse().expect("an address");
        let refused = AskError::Connect(at, io::Error::other("connection refused"));
        assert_eq!(
            Failure::from(Unhealthy::from(refused)).report(),
            "error: not ready: no connection to 127.0.0.1:9900: connection refused\n  \
             help: is `forebay run` running? Name its configuration file with `-c`, or its admin listener with `--admin`\n"
        );
    }

    #[test]
    fn every_report_ends_its_line() {
        for failure in [Failure::NoAdmin, Failure::Output(io::Error::other("x"))] {
            assert!(failure.report().ends_with('\n'));
        }
    }
}
