//! `plan`: what a configuration file would change of a running Forebay.

use std::fs;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::running::Running;
use super::{DEFAULT_CONFIG, Failure, complain};
use crate::control::client::Question;
use crate::model::{Address, json};

/// `forebay plan`.
#[derive(Debug, Args)]
pub struct Plan {
    /// Which file, and which running Forebay.
    #[command(flatten)]
    pub sent: Sent,
    /// Print it as JSON
    #[arg(long)]
    pub json: bool,
}

/// A configuration file, and the running Forebay that it is meant for.
#[derive(Debug, Args)]
pub struct Sent {
    /// The configuration file
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    pub config: PathBuf,
    /// The admin listener to ask [default: the one that the file names]
    #[arg(long, value_name = "ADDRESS")]
    pub admin: Option<Address>,
    /// A file with the token to show there [default: FOREBAY_ADMIN_TOKEN, or the configured one]
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Use TLS, and believe who shows a certificate in this file, or one signed by it [default: as configured]
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
}

impl Sent {
    /// The running Forebay.
    #[must_use]
    pub fn running(&self) -> Running {
        Running {
            config: self.config.clone(),
            admin: self.admin.clone(),
            token_file: self.token_file.clone(),
            ca: self.ca.clone(),
        }
    }

    /// What is sent: the file's text and where it stands.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn body(&self) -> Result<Value, Failure> {
        let failed = |source| Failure::File { file: self.config.display().to_string(), source };
        let text = fs::read_to_string(&self.config).map_err(failed)?;
        let path = std::path::absolute(&self.config).map_err(failed)?;
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        Ok(json!({ "config": text, "base": path.parent().unwrap_or(Path::new("/")), "name": name }))
    }
}

/// Prints what the file would change; 1 when it has problems.
///
/// # Errors
/// When the file cannot be read, nobody answers, or it is not told.
pub fn plan(args: &Plan) -> Result<ExitCode, Failure> {
    let (running, body) = (args.sent.running(), args.sent.body()?.to_string());
    let question = Question { method: "POST", target: "/v1/plan", json: &body };
    let (_, told) = running.send(&question, PATIENCE)?;
    let code = match json::text(&told, "result") {
        Some("valid") => ExitCode::SUCCESS,
        Some("failed") => ExitCode::FAILURE,
        _ => return Err(running.refused(&told)),
    };
    if args.json {
        writeln!(io::stdout(), "{told}").map_err(Failure::Output)?;
        return Ok(code);
    }
    complain(json::text(&told, "problems").or(json::text(&told, "warnings")).unwrap_or_default());
    io::stdout().write_all(painted(&told).as_bytes()).map_err(Failure::Output)?;
    Ok(code)
}

/// The text of an answer, in colours where standard output shows them and its reader wants them.
pub(super) fn painted(told: &Value) -> &str {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let field = if io::stdout().is_terminal() && !unwanted { "coloured" } else { "text" };
    json::text(told, field).unwrap_or_default()
}

/// What `plan --help` ends with.
pub(super) const HELP: &str = "\
The running Forebay reads the text in its own environment, with the files of its own machine.
Nothing is changed.
Exit codes: 0 the file is valid, whether or not it changes anything, 1 it has problems.";

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);
