//! `respond`: the same answer to everyone.

use bytes::Bytes;
use http::StatusCode;

use super::headers::{fields, fixed};
use super::{Answers, Filter, FilterCx, Kind, PLAIN_TEXT, Reply, Verdict};
use crate::model::options::Given;
use crate::model::{Fields, RequestHead};

pub(super) const KIND: Kind = Kind {
    name: "respond",
    summary: "answers with a fixed response",
    parse: |given| Respond::parse(given).map(|respond| Box::new(respond) as Box<dyn Filter>),
};

#[derive(Debug)]
struct Respond(Reply);

impl Filter for Respond {
    fn on_request(&self, _head: &mut RequestHead, _cx: &mut FilterCx<'_>) -> Verdict {
        self.0.clone().into()
    }

    fn answers(&self) -> Answers {
        Answers::Always
    }
}

impl Respond {
    /// `{ status = 200, body = "", content_type = "text/plain; charset=utf-8", headers = {} }`
    fn parse(given: &Given<'_>) -> Option<Self> {
        fixed_reply(given, StatusCode::OK).map(Self)
    }
}

/// Reads an answer that is the same for everyone; `status` is that of one that has none. `None` when it
/// is no table, which is reported.
#[must_use]
pub fn fixed_reply(given: &Given<'_>, status: StatusCode) -> Option<Reply> {
    let options = given.table()?;
    let status = options.get_or("status", status);
    let body = options.get_or("body", String::new());
    let content_type = options.get::<String>("content_type");
    let mut all = Fields::default();
    for (name, value) in fields(&options, "headers", fixed) {
        all.append(&name, &value);
    }
    if status.is_informational() {
        options.problem("status", format!("{} is not a final status", status.as_u16()), None);
    }
    let bodiless = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if bodiless && !body.is_empty() {
        options.problem("body", format!("a {} has no body", status.as_u16()), None);
    }
    match content_type.as_deref().map(fixed) {
        Some(Ok(value)) => all.set(CONTENT_TYPE, &value),
        Some(Err(fault)) => options.problem("content_type", fault.text, fault.hint),
        None if !body.is_empty() && all.get_named(CONTENT_TYPE).next().is_none() => {
            all.append(CONTENT_TYPE, PLAIN_TEXT);
        }
        None => {}
    }
    options.finish();
    Some(Reply { status, fields: all, body: Bytes::from(body), details: None })
}

const CONTENT_TYPE: &[u8] = b"content-type";

#[cfg(test)]
mod tests {
    use crate::route::filter::Answers;
    use crate::route::filter::tests::{Case, faults, parsed};

    #[test]
    fn everyone_gets_the_same() {
        for (options, status, fields, body) in [
            ("{}", 200, &[][..], ""),
            (r#"{ body = "ok" }"#, 200, &["content-type: text/plain; charset=utf-8"], "ok"),
            ("{ status = 204, headers = { X-A = \"1\" } }", 204, &["X-A: 1"], ""),
            (
                r#"{ status = 503, body = "{}", content_type = "application/json" }"#,
                503,
                &["content-type: application/json"],
                "{}",
            ),
            (
                r#"{ body = "<p>", headers = { Content-Type = "text/html" } }"#,
                200,
                &["Content-Type: text/html"],
                "<p>",
            ),
        ] {
            let options = format!("respond = {options}");
            let done = Case::default().run(&options);
            assert_eq!((done.status, done.body.as_str()), (Some(status), body), "{options}");
            assert_eq!(done.reply_fields, fields, "{options}");
            assert_eq!(parsed(&options)[0].answers(), Answers::Always);
        }
    }

    #[test]
    fn what_is_no_response_is_named() {
        for (options, fault) in [
            ("{ status = 100 }", "respond.status: 100 is not a final status"),
            (r#"{ status = 204, body = "a" }"#, "respond.body: a 204 has no body"),
            (
                r#"{ headers = { Content-Length = "1" } }"#,
                "respond.headers.Content-Length: `Content-Length` cannot be changed",
            ),
            (
                r#"{ content_type = "a\nb" }"#,
                r#"respond.content_type: "a\nb" cannot be the value of a header field"#,
            ),
        ] {
            assert_eq!(faults(&format!("respond = {options}")), [fault]);
        }
    }
}
