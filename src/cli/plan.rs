//! `plan`: what a configuration file would change of a running Forebay.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::running::{Access, Admin};
use super::{DEFAULT_CONFIG, Failure, complain, print, takes_colours};
use crate::model::json;

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
    /// How to ask.
    #[command(flatten)]
    pub access: Access,
}

impl Sent {
    /// Finds the admin listener.
    ///
    /// # Errors
    /// When the configuration turns it off, or a file cannot be read.
    pub fn admin(&self) -> Result<Admin, Failure> {
        self.access.admin(&self.config)
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
    let (admin, body) = (args.sent.admin()?, args.sent.body()?.to_string());
    let told = admin.have_read("/v1/plan", &body)?;
    let code = match json::text(&told, "result") {
        Some("valid") => ExitCode::SUCCESS,
        Some("failed") => ExitCode::FAILURE,
        _ => return Err(admin.refused(&told)),
    };
    if args.json {
        print(&format!("{told}\n"))?;
        return Ok(code);
    }
    complain(json::text(&told, "problems").or(json::text(&told, "warnings")).unwrap_or_default());
    print(painted(&told))?;
    Ok(code)
}

/// The text of an answer, in colours where standard output shows them and its reader wants them.
pub(super) fn painted(told: &Value) -> &str {
    let field = if takes_colours(&io::stdout()) { "coloured" } else { "text" };
    json::text(told, field).unwrap_or_default()
}

/// What `plan --help` ends with.
pub(super) const HELP: &str = "\
The running Forebay reads the text in its own environment, with the files of its own machine.
Nothing is changed.
Exit codes: 0 the file is valid, whether or not it changes anything, 1 it has problems.";
