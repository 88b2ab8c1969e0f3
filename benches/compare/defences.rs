//! What it costs a request that there is something for bad times: the defaults beside the same with
//! retries off, and beside the same with everything on that is off by default.

use crate::Failure;
use crate::beside::{self, Settings};
use crate::ground::Ground;
use crate::options::Options;

/// Measures both pairs and tells the differences as Markdown.
///
/// # Errors
/// Where Forebay or the load fails.
pub(crate) fn section(ground: &Ground, options: &Options) -> Result<String, Failure> {
    let defaults = beside::section("defences", [BARE, DEFAULTS], ground, options)?;
    let everything = beside::section("all defences", [DEFAULTS, EVERYTHING], ground, options)?;
    Ok(format!("{defaults}\nWith all that is off by default:\n\n{everything}"))
}

const BARE: Settings = Settings { words: "no retries", route: "", pool: "retry = { tries = 0 }" };
const DEFAULTS: Settings = Settings { words: "the defaults", route: "", pool: "" };
const EVERYTHING: Settings = Settings {
    words: "a rate limit, priorities, a deadline, a learned timeout, hedging, limits of endpoints, adaptive \
            concurrency, admission control, a breaker and a ladder",
    route: "filters = [{ rate_limit = { rate = \"1000000/s\", burst = 1000000, by = \"client\" } }]\n\
            priority = { header = \"x-priority\", default = \"normal\" }\n\
            deadline_header = \"x-timeout\"\n\
            timeouts = { try = { factor = 3, floor = \"100ms\" } }\n\
            hedge = { after = \"95%\", extra = \"5%\" }",
    pool: "limits = { endpoint_in_flight = 1000, endpoint_connections = 1000, adaptive = \"enforce\", admission = \"enforce\" }\n\
           breaker = { scope = \"pool\", share = \"50%\" }\n\
           degradation = { ladder = [{ respond = { status = 503 } }] }",
};
