//! `priority` of `[[route]]`: a word, or a header that says it.

use http::HeaderName;

use crate::model::options::{Data, OneOf, Options};
use crate::model::settings::{Priorities, Priority};

/// Reads `priority`.
pub(super) fn priorities(route: &Options<'_>) -> Priorities {
    let Some(given) = route.given("priority") else { return Priorities::default() };
    if !matches!(given.value().data, Data::Table(_)) {
        return Priorities { header: None, default: given.read().unwrap_or_default() };
    }
    let Some(options) = given.table() else { return Priorities::default() };
    let header = options.required("header").and_then(|given| given.read::<HeaderName>());
    let default = options.get_or("default", Priority::default());
    options.finish();
    Priorities { header: header.map(|name| name.as_str().to_owned()), default }
}

impl OneOf for Priority {
    const NOUN: &'static str = "priority";
    const WORDS: &'static [(&'static str, Self)] = &Self::NAMES;
}
