//! What judging endpoints costs a request: the defaults (peak EWMA, every detector) beside round-robin
//! without detection.

use crate::Failure;
use crate::beside::{self, Settings};
use crate::ground::Ground;
use crate::options::Options;

/// Measures both and tells the difference as Markdown.
///
/// # Errors
/// Where Forebay or the load fails.
pub(crate) fn section(ground: &Ground, options: &Options) -> Result<String, Failure> {
    beside::section("health", [PLAIN, DEFAULTS], ground, options)
}

const PLAIN: Settings = Settings {
    words: "`round_robin` and detection off",
    route: "",
    pool: "policy = \"round_robin\"\noutlier = \"off\"",
};
const DEFAULTS: Settings = Settings { words: "the defaults", route: "", pool: "" };
