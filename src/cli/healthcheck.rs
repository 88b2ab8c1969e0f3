//! `healthcheck`: finds out where the admin listener is and has it asked. Does not care whether the
//! configuration has become invalid since the process started: that says nothing about the process.

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use super::{Failure, Healthcheck, variable};
use crate::config::{self, plan::AdminPlan};
use crate::control::healthcheck::healthcheck;
use crate::model::{Address, expand};

/// Asks whether Forebay is ready.
///
/// # Errors
/// When it is not, or nobody answers in time.
pub fn ask(args: &Healthcheck) -> Result<ExitCode, Failure> {
    let address = match &args.admin {
        Some(address) => address.clone(),
        None => admin_of(&args.config)?,
    };
    healthcheck(&address, PATIENCE)?;
    Ok(ExitCode::SUCCESS)
}

/// Where the file says that the admin listener is. A file that no longer makes sense is searched
/// for its `admin.bind` only.
fn admin_of(file: &Path) -> Result<Address, Failure> {
    match config::load(file, &variable) {
        Ok(plan) => plan.admin.map(|admin| admin.bind).ok_or(Failure::NoAdmin),
        Err(_) => Ok(fs::read_to_string(file).ok().and_then(|text| bind_in(&text)).unwrap_or_else(usual)),
    }
}

fn bind_in(text: &str) -> Option<Address> {
    let table: toml::Table = text.parse().ok()?;
    let written = table.get("admin")?.get("bind")?.as_str()?;
    let expanded = expand::expand(written, &variable).ok()?;
    expanded.as_deref().unwrap_or(written).parse().ok()
}

/// Where the admin listener is unless a file says otherwise.
fn usual() -> Address {
    AdminPlan::default().bind
}

/// How long the whole question may take.
const PATIENCE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_file_still_names_its_admin_listener() {
        let broken = "wrokers = 1\n[admin]\nbind = \"127.0.0.1:1\"\n";
        assert_eq!(bind_in(broken), Some("127.0.0.1:1".parse().unwrap()));
        assert_eq!(bind_in("[admin\n"), None);
    }
}
