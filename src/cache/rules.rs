//! Which responses may be kept and which of them may be used when no endpoint gives a better one
//! (RFC 9111 §3 and §4, RFC 5861 §4). Stricter than these where what is kept could show one user
//! what is meant for another. Knows nothing of where they are kept.
//!
//! `Expires` and `Date` are not read: without `max-age` a response counts as stale at once, which
//! only makes its time shorter.

use std::time::Duration;

use http::{Method, StatusCode};

use super::directives::{Directives, seconds};
use super::key::Variant;
use crate::model::field::Known;
use crate::model::{Fields, RequestHead, ResponseHead};

/// On which terms a response may be used later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The requests that it answers, besides their key.
    pub variant: Variant,
    /// How old it was when it came.
    pub initial_age: Duration,
    /// How long it is fresh, from when it was made.
    pub lifetime: Duration,
    /// How long it may be used after that; `None` if it may not be used stale.
    pub stale: Option<Duration>,
}

impl Terms {
    /// Reads the terms of `response` to `request`.
    ///
    /// # Errors
    /// Why it may not be kept.
    pub fn of(request: &RequestHead, response: &ResponseHead) -> Result<Self, Refusal> {
        if request.method != Method::GET {
            return Err(Refusal::Method);
        }
        if !is_good(response.status) || response.fields.get_named(b"content-range").next().is_some() {
            return Err(Refusal::Status);
        }
        let said = Directives::of(&response.fields);
        if said.no_store || Directives::of(&request.fields).no_store {
            return Err(Refusal::NoStore);
        }
        if said.private {
            return Err(Refusal::Private);
        }
        let names = varying(&response.fields)?;
        may_be_shared(request, response, &said, &names)?;
        let terms = Self {
            variant: Variant::of(names, &request.fields),
            initial_age: response.fields.get_named(b"age").next().and_then(seconds).unwrap_or_default(),
            lifetime: said.shared_max_age.or(said.max_age).unwrap_or_default(),
            stale: may_be_stale(&said).then(|| said.stale_if_error.unwrap_or(Duration::MAX)),
        };
        if said.no_cache || (terms.stale.is_none() && terms.lifetime <= terms.initial_age) {
            return Err(Refusal::Revalidate);
        }
        Ok(terms)
    }

    /// How old it is, `kept` after it came (RFC 9111 §4.2.3).
    #[must_use]
    pub fn age(&self, kept: Duration) -> Duration {
        self.initial_age.saturating_add(kept)
    }

    /// Whether it may be used `kept` after it came, to answer `request` in place of an error:
    /// while it is fresh; after that for as long as the response (`stale-if-error`), the request
    /// (`stale-if-error`) and the configuration (`max_stale`) allow, whichever ends first.
    #[must_use]
    pub fn allow(&self, request: &RequestHead, kept: Duration, max_stale: Duration) -> bool {
        let asked = Directives::of(&request.fields);
        if asked.no_cache || !matches!(request.method, Method::GET | Method::HEAD) {
            return false;
        }
        let age = self.age(kept);
        let limit = max_stale.min(asked.stale_if_error.unwrap_or(Duration::MAX));
        let for_stale = |stale: Duration| age.saturating_sub(self.lifetime) <= stale.min(limit);
        age < self.lifetime || self.stale.is_some_and(for_stale)
    }

    /// Seconds for which it stays fresh; less than zero when it is stale (RFC 9211 §2.4).
    #[must_use]
    pub fn ttl(&self, kept: Duration) -> i64 {
        let seconds = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        seconds(self.lifetime).saturating_sub(seconds(self.age(kept)))
    }
}

/// Why a response may not be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Only responses to `GET` are kept; they answer `HEAD` too.
    Method,
    /// The status is not one of success that may be kept without being told so, or it is a part.
    Status,
    /// Request or response forbids it.
    NoStore,
    /// It is meant for one user.
    Private,
    /// It answers somebody who has shown who they are, and does not say that it is for all.
    Credentials,
    /// It sets a cookie, which would be shared by all who get it, and does not say that it is for
    /// all. RFC 9111 §7.3 leaves this to the origin; origins forget it.
    SetCookie,
    /// It depends on more than a request shows, or on too much (`Vary`).
    Vary,
    /// It may never be used without asking again.
    Revalidate,
}

/// Whether what `request` carries leaves `fields`, of a stored response, unchanged for the client:
/// the answer is 304 then (RFC 9110 §13.1.2, by the weak comparison).
#[must_use]
pub fn is_not_modified(request: &Fields, fields: &Fields) -> bool {
    let Some(ours) = fields.get_named(b"etag").next() else { return false };
    let opaque = |tag: &[u8]| tag.strip_prefix(b"W/").unwrap_or(tag).to_vec();
    let ours = opaque(ours.trim_ascii());
    let mut theirs = request.get_named(b"if-none-match").flat_map(|field| field.split(|&byte| byte == b','));
    theirs.any(|tag| tag.trim_ascii() == b"*" || opaque(tag.trim_ascii()) == ours)
}

/// Whether a response with this status is worth keeping for bad times: a success or a lasting
/// redirect. All may be kept unless something forbids it (RFC 9110 §15.1). `404` and `410` may be
/// too, but are no better an answer than the error that they would stand in for.
fn is_good(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 300 | 301 | 308)
}

/// RFC 9111 §3.5, and likewise for cookies, which it leaves out.
fn may_be_shared(
    request: &RequestHead,
    response: &ResponseHead,
    said: &Directives,
    varying: &[&[u8]],
) -> Result<(), Refusal> {
    if said.public {
        return Ok(());
    }
    let shared = said.shared_max_age.is_some();
    if request.fields.has(Known::Authorization) && !shared && !said.must_revalidate {
        return Err(Refusal::Credentials);
    }
    let by_cookie = varying.iter().any(|name| name.eq_ignore_ascii_case(b"cookie"));
    if request.fields.has(Known::Cookie) && !shared && !by_cookie {
        return Err(Refusal::Credentials);
    }
    match response.fields.get_named(b"set-cookie").next() {
        Some(_) => Err(Refusal::SetCookie),
        None => Ok(()),
    }
}

/// Whether nothing forbids to use it stale (RFC 9111 §4.2.4).
fn may_be_stale(said: &Directives) -> bool {
    !said.must_revalidate && !said.no_cache && said.shared_max_age.is_none()
}

/// The names in `Vary`.
fn varying(fields: &Fields) -> Result<Vec<&[u8]>, Refusal> {
    let lists = fields.get_named(b"vary").flat_map(|list| list.split(|&byte| byte == b','));
    let names: Vec<_> = lists.map(<[u8]>::trim_ascii).filter(|name| !name.is_empty()).collect();
    if names.len() > MAX_VARYING || names.contains(&&b"*"[..]) { Err(Refusal::Vary) } else { Ok(names) }
}

/// Names in `Vary` past which a response depends on so much that nobody else would get it.
const MAX_VARYING: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn fields(text: &str) -> Fields {
        let mut fields = Fields::default();
        for line in text.split('|').filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(": ").unwrap();
            fields.append(name.as_bytes(), value.as_bytes());
        }
        fields
    }

    fn asking(text: &str) -> RequestHead {
        let mut head = RequestHead::default();
        head.fields = fields(text);
        head
    }

    fn terms(request: &str, response: &str) -> Result<Terms, Refusal> {
        let request = asking(request);
        let mut head = ResponseHead::new(StatusCode::OK);
        head.fields = fields(response);
        Terms::of(&request, &head)
    }

    #[test]
    fn what_may_be_kept() {
        let cases = [
            ("", "", Ok(())),
            ("", "cache-control: no-store", Err(Refusal::NoStore)),
            ("cache-control: no-store", "", Err(Refusal::NoStore)),
            ("cache-control: no-cache", "", Ok(())),
            ("", "cache-control: private", Err(Refusal::Private)),
            ("", "cache-control: private, public", Err(Refusal::Private)),
            ("", "cache-control: no-cache", Err(Refusal::Revalidate)),
            ("", "cache-control: no-cache, max-age=60", Err(Refusal::Revalidate)),
            ("", "cache-control: must-revalidate", Err(Refusal::Revalidate)),
            ("", "cache-control: must-revalidate, max-age=60", Ok(())),
            ("", "cache-control: must-revalidate, max-age=60|age: 60", Err(Refusal::Revalidate)),
            ("", "cache-control: proxy-revalidate", Err(Refusal::Revalidate)),
            ("", "cache-control: s-maxage=0", Err(Refusal::Revalidate)),
            ("", "cache-control: s-maxage=9", Ok(())),
            ("authorization: x", "", Err(Refusal::Credentials)),
            ("authorization: x", "cache-control: max-age=60", Err(Refusal::Credentials)),
            ("authorization: x", "cache-control: public", Ok(())),
            ("authorization: x", "cache-control: s-maxage=60", Ok(())),
            ("authorization: x", "cache-control: must-revalidate, max-age=60", Ok(())),
            ("cookie: a=b", "", Err(Refusal::Credentials)),
            ("cookie: a=b", "cache-control: public", Ok(())),
            ("cookie: a=b", "vary: Accept, Cookie", Ok(())),
            ("", "set-cookie: a=b", Err(Refusal::SetCookie)),
            ("", "set-cookie: a=b|cache-control: public", Ok(())),
            ("", "vary: accept, accept-encoding", Ok(())),
            ("", "vary: accept|vary: *", Err(Refusal::Vary)),
            ("", "content-range: bytes 0-1/2", Err(Refusal::Status)),
        ];
        for (request, response, expected) in cases {
            assert_eq!(terms(request, response).map(|_| ()), expected, "{request} / {response}");
        }
    }

    #[test]
    fn only_success_is_kept_and_only_of_get() {
        let mut request = RequestHead::default();
        let kept = |status: u16, request: &RequestHead| {
            Terms::of(request, &ResponseHead::new(StatusCode::from_u16(status).unwrap())).is_ok()
        };
        let good: Vec<u16> = (100..600).filter(|status| kept(*status, &request)).collect();
        assert_eq!(good, [200, 203, 204, 300, 301, 308]);
        for method in [Method::HEAD, Method::POST, Method::OPTIONS] {
            request.method = method;
            assert!(!kept(200, &request));
        }
    }

    #[test]
    fn how_long_it_may_be_used() {
        let cases = [
            // Request, response, the last second at which it may be used, with a limit of 100 s.
            ("", "", Some(100)),
            ("", "age: 30", Some(70)),
            ("", "cache-control: max-age=50", Some(150)),
            ("", "cache-control: max-age=50|age: 30", Some(120)),
            ("", "cache-control: max-age=50, stale-if-error=7", Some(57)),
            ("", "cache-control: stale-if-error=1000", Some(100)),
            ("cache-control: stale-if-error=3", "cache-control: max-age=50, stale-if-error=7", Some(53)),
            ("cache-control: max-age=0", "", Some(100)),
            ("", "cache-control: max-age=50, must-revalidate", Some(49)),
            ("", "cache-control: s-maxage=20, max-age=50", Some(19)),
        ];
        for (request, response, last) in cases {
            let terms = terms("", response).unwrap();
            let mut head = asking(request);
            let allows = |head: &RequestHead, s: u32| terms.allow(head, s * SECOND, 100 * SECOND);
            let found = (0..2000).rev().find(|s| allows(&head, *s));
            assert_eq!(found, last, "{request} / {response}");
            assert!((0..=last.unwrap()).all(|s| allows(&head, s)), "{request} / {response}");
            head.method = Method::HEAD;
            assert!(allows(&head, 0));
            head.method = Method::POST;
            assert!(!allows(&head, 0));
            head = asking("cache-control: no-cache");
            assert!(!allows(&head, 0));
        }
    }

    #[test]
    fn time_to_live_falls_below_zero() {
        let terms = terms("", "cache-control: max-age=50|age: 30").unwrap();
        assert_eq!((terms.ttl(Duration::ZERO), terms.ttl(25 * SECOND)), (20, -5));
        assert_eq!(terms.age(5 * SECOND), 35 * SECOND);
    }

    #[test]
    fn tags_are_compared_weakly() {
        let ours = fields("etag: W/\"a\"");
        for (asked, same) in [
            ("", false),
            ("if-none-match: \"a\"", true),
            ("if-none-match: \"b\", W/\"a\"", true),
            ("if-none-match: *", true),
            ("if-none-match: \"b\"", false),
        ] {
            assert_eq!(is_not_modified(&fields(asked), &ours), same, "{asked}");
        }
        assert!(!is_not_modified(&fields("if-none-match: *"), &fields("")));
    }
}
