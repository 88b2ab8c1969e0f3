//! `redirect`: sends the client elsewhere. To https it lets those through who are there already,
//! so that one route can serve both and none is sent round in circles.

use http::StatusCode;

use super::template::{Placeholder, Template};
use super::{Answers, Filter, FilterCx, Kind, Reply, Verdict};
use crate::model::field::Known;
use crate::model::options::{Fault, Given, Options};
use crate::model::{Fields, RequestHead};

pub(super) const KIND: Kind = Kind {
    name: "redirect",
    summary: "sends clients elsewhere, as to https",
    parse: |given| Redirect::parse(given).map(|redirect| Box::new(redirect) as Box<dyn Filter>),
};

#[derive(Debug)]
struct Redirect {
    to: Template,
    status: StatusCode,
    /// Whether only clients that came by plain http are sent.
    only_http: bool,
}

impl Filter for Redirect {
    fn on_request(&self, head: &mut RequestHead, cx: &mut FilterCx<'_>) -> Verdict {
        if self.only_http && cx.scheme == "https" {
            return Verdict::Continue;
        }
        if cx.host.is_empty() && self.to.uses(Placeholder::Host) {
            return Reply::refusal(StatusCode::BAD_REQUEST, "the request names no host").into();
        }
        let mut fields = Fields::default();
        fields.append_known(Known::Location, &self.to.render(head, cx));
        Reply { status: self.status, fields, body: bytes::Bytes::new(), details: None }.into()
    }

    fn answers(&self) -> Answers {
        if self.only_http { Answers::Sometimes } else { Answers::Always }
    }
}

impl Redirect {
    /// `"https"`, `{ scheme = "https", port = 8443 }` or `{ to = "https://new.example{path}{query}" }`,
    /// the latter two with `status`.
    fn parse(given: &Given<'_>) -> Option<Self> {
        if given.is_table() {
            return Self::of_table(given.table()?);
        }
        let word = given.read::<String>()?;
        if word == "https" {
            return Self::to_https(HTTPS_PORT);
        }
        let hint = format!("write \"https\", or `{{ to = {word:?} }}`");
        given.fault(format!("there is no redirect {word:?}"), Some(hint));
        None
    }

    fn of_table(options: Options<'_>) -> Option<Self> {
        let (to, scheme) = (options.given("to"), options.given("scheme"));
        let port = options.given("port").map(|given| given.within(1..=u16::MAX));
        let status = options.given("status").map(|given| status(&given));
        let redirect = match (to, scheme) {
            (Some(to), None) => {
                if port.is_some() {
                    options.problem("port", "`port` goes with `scheme`", Some("write it into `to`".into()));
                }
                destination(&to).map(|to| Self { to, status: StatusCode::FOUND, only_http: false })
            }
            (None, Some(scheme)) => match scheme.read::<String>()?.as_str() {
                "https" => Self::to_https(port.flatten().unwrap_or(HTTPS_PORT)),
                other => {
                    scheme.fault(
                        format!("there is no redirect to scheme {other:?}"),
                        Some("write \"https\"".into()),
                    );
                    None
                }
            },
            (Some(_), Some(scheme)) => {
                scheme.fault("`to` and `scheme` exclude each other", Some("leave one of them out".into()));
                None
            }
            (None, None) => {
                options.fault("the redirect leads nowhere", Some("add `to` or `scheme`".into()));
                None
            }
        };
        options.finish();
        match status {
            Some(status) => Some(Self { status: status?, ..redirect? }),
            None => redirect,
        }
    }

    /// To the same place by https. 308, for the method is to stay as well.
    fn to_https(port: u16) -> Option<Self> {
        let port = if port == HTTPS_PORT { String::new() } else { format!(":{port}") };
        let to = Template::parse(&format!("https://{{host}}{port}{{path}}{{query}}")).ok()?;
        Some(Self { to, status: StatusCode::PERMANENT_REDIRECT, only_http: true })
    }
}

fn status(given: &Given<'_>) -> Option<StatusCode> {
    let status = given.read::<StatusCode>()?;
    if matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Some(status);
    }
    given.fault(
        format!("{} is not the status of a redirect", status.as_u16()),
        Some("301 and 308 are for good, 302, 303 and 307 for now; 307 and 308 keep the method".into()),
    );
    None
}

fn destination(given: &Given<'_>) -> Option<Template> {
    let text = given.read::<String>()?;
    match checked(&text).and_then(|()| Template::parse(&text)) {
        Ok(to) => Some(to),
        Err(fault) => {
            given.fault(fault.text, fault.hint);
            None
        }
    }
}

/// The host must be the configuration's choice or the request's own: a path put behind a single
/// `/`, or nothing, would make `//elsewhere.example` a host.
fn checked(text: &str) -> Result<(), Fault> {
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Fault::new(format_args!("{text:?} is not a URL"))
            .hint("spaces and characters beyond ASCII are percent-encoded"));
    }
    let after_scheme = ["http://", "https://", "{scheme}://"].iter().find_map(|s| text.strip_prefix(s));
    let fixed = |c: char| c != '/' && c != '{' && c != '\\';
    let sound = match after_scheme {
        Some(rest) => rest.starts_with("{host}") || rest.starts_with(|c| fixed(c) && c != '?'),
        None => text == "/" || text.strip_prefix('/').is_some_and(|rest| rest.starts_with(fixed)),
    };
    if sound {
        return Ok(());
    }
    Err(Fault::new(format_args!("{text:?} does not say where to"))
        .hint("it begins with `http://` or `https://` and a host, or with `/` and a name"))
}

const HTTPS_PORT: u16 = 443;

#[cfg(test)]
mod tests {
    use crate::route::filter::Answers;
    use crate::route::filter::tests::{Case, faults, parsed};

    fn sent(case: Case<'_>, options: &str) -> (Option<u16>, Vec<String>) {
        let done = case.run(options);
        (done.status, done.reply_fields)
    }

    #[test]
    fn clients_are_sent_to_https_and_not_in_circles() {
        for (options, location) in [
            (r#"redirect = "https""#, "https://app.example/a/b?c=d"),
            (r#"redirect = { scheme = "https" }"#, "https://app.example/a/b?c=d"),
            (r#"redirect = { scheme = "https", port = 443 }"#, "https://app.example/a/b?c=d"),
            (r#"redirect = { scheme = "https", port = 8443 }"#, "https://app.example:8443/a/b?c=d"),
        ] {
            assert_eq!(sent(Case::default(), options), (Some(308), vec![format!("location: {location}")]));
            assert_eq!(Case { scheme: "https", ..Case::default() }.status(options), None);
            assert_eq!(parsed(options)[0].answers(), Answers::Sometimes);
        }
        let nameless = Case { host: "", ..Case::default() };
        assert_eq!(nameless.status(r#"redirect = "https""#), Some(400));
    }

    #[test]
    fn clients_are_sent_elsewhere() {
        for (options, status, location) in [
            (r#"{ to = "https://new.example{path}{query}" }"#, 302, "https://new.example/a/b?c=d"),
            (r#"{ to = "{scheme}://www.{host}/", status = 301 }"#, 301, "http://www.app.example/"),
            (r#"{ to = "/new{path}", status = 307 }"#, 307, "/new/a/b"),
            (r#"{ to = "/" }"#, 302, "/"),
        ] {
            let options = format!("redirect = {options}");
            assert_eq!(
                sent(Case::default(), &options),
                (Some(status), vec![format!("location: {location}")])
            );
            assert_eq!(parsed(&options)[0].answers(), Answers::Always);
        }
        let nameless = Case { host: "", ..Case::default() };
        assert_eq!(nameless.status(r#"redirect = { to = "https://new.example{path}" }"#), Some(302));
    }

    #[test]
    fn a_path_is_never_taken_for_a_host() {
        let case = Case { target: b"*", ..Case::default() };
        let (_, location) = sent(case, r#"redirect = { to = "https://new.example{path}" }"#);
        assert_eq!(location, ["location: https://new.example/"]);
        for open in [
            "{path}",
            "/{path}",
            "//{host}",
            "",
            "new.example",
            "https://",
            "https://{path}",
            "ftp://a",
            "/\\\\a",
        ] {
            let found = faults(&format!(r#"redirect = {{ to = "{open}" }}"#));
            assert!(found.len() == 1 && found[0].ends_with("does not say where to"), "{open}: {found:?}");
        }
    }

    #[test]
    fn what_is_no_redirect_is_named() {
        for (options, fault) in [
            (r#""http""#, r#"redirect: there is no redirect "http""#),
            ("{}", "redirect: the redirect leads nowhere"),
            (r#"{ to = "/a", scheme = "https" }"#, "redirect.scheme: `to` and `scheme` exclude each other"),
            (r#"{ to = "/a", port = 1 }"#, "redirect.port: `port` goes with `scheme`"),
            (r#"{ to = "/a", status = 200 }"#, "redirect.status: 200 is not the status of a redirect"),
            (r#"{ to = "/a b" }"#, r#"redirect.to: "/a b" is not a URL"#),
            (r#"{ to = "/a\r\nb" }"#, r#"redirect.to: "/a\r\nb" is not a URL"#),
            (r#"{ scheme = "http" }"#, r#"redirect.scheme: there is no redirect to scheme "http""#),
        ] {
            assert_eq!(faults(&format!("redirect = {options}")), [fault]);
        }
    }
}
