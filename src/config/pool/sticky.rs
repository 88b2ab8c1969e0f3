//! `[pool.NAME.sticky]`: the cookie that keeps a session with its endpoint.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::model::cookie;
use crate::model::options::{Fault, FromValue, OneOf, Options, Value};
use crate::model::settings::{SameSite, Sticky};

/// Reads the cookie.
pub(super) fn sticky(options: Options<'_>) -> Sticky {
    let default = Sticky::default();
    let sticky = Sticky {
        cookie: options.get::<CookieName>("cookie").map_or(default.cookie, |name| name.0),
        max_age: options.given("max_age").and_then(|given| given.within(MAX_AGE)).or(default.max_age),
        path: options.get::<CookiePath>("path").map_or(default.path, |path| path.0),
        secure: options.get_or("secure", default.secure),
        http_only: options.get_or("http_only", default.http_only),
        same_site: options.get_or("same_site", default.same_site),
    };
    check(&options, &sticky);
    options.finish();
    sticky
}

/// Reports what browsers would refuse (RFC 6265bis §5.7).
fn check(options: &Options<'_>, sticky: &Sticky) {
    let secure = || Some("add `secure = true`, or take another value here".to_owned());
    if sticky.same_site == SameSite::None && !sticky.secure {
        let fault = "browsers refuse cookies for other sites that are not `secure`";
        options.problem("same_site", fault, secure());
    }
    let name = sticky.cookie.to_ascii_lowercase();
    if (name.starts_with("__secure-") || name.starts_with("__host-")) && !sticky.secure {
        options.problem("cookie", "browsers refuse a cookie of this name that is not `secure`", secure());
    } else if name.starts_with("__host-") && sticky.path != "/" {
        let hint = "leave `path` out, or take another name";
        options.problem(
            "cookie",
            "browsers refuse a cookie of this name for a part of the site",
            Some(hint.into()),
        );
    }
}

struct CookieName(String);

impl FromValue for CookieName {
    fn from_value(value: &Value) -> Result<Self, Fault> {
        let text = value.text("the name of a cookie")?;
        if cookie::is_name(text) {
            return Ok(Self(text.to_owned()));
        }
        Err(Fault::new(format_args!("{text:?} cannot be the name of a cookie"))
            .hint("letters, digits, `_` and `-` will do"))
    }
}

struct CookiePath(String);

impl FromValue for CookiePath {
    fn from_value(value: &Value) -> Result<Self, Fault> {
        let text = value.text("a path such as \"/\"")?;
        let plain = text.bytes().all(|byte| (0x21..=0x7E).contains(&byte) && byte != b';');
        if text.starts_with('/') && plain {
            return Ok(Self(text.to_owned()));
        }
        Err(Fault::new(format_args!("{text:?} cannot be the path of a cookie"))
            .hint("it begins with `/`; \"/\" is all of the site"))
    }
}

impl OneOf for SameSite {
    const NOUN: &'static str = "same-site rule";
    const WORDS: &'static [(&'static str, Self)] =
        &[("strict", Self::Strict), ("lax", Self::Lax), ("none", Self::None)];
}

/// Browsers keep no cookie for longer than 400 days (RFC 6265bis §5.5).
const MAX_AGE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(400 * 24 * 60 * 60);
