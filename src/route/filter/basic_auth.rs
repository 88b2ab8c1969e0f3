//! `basic_auth`: a name and a password for everyone (RFC 7617). The credentials are forwarded, as
//! nginx, Caddy and Traefik do by default, unless `remove_header` is set.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;

use super::{Filter, FilterCx, Kind, Reply, Verdict};
use crate::model::RequestHead;
use crate::model::field::Known;
use crate::model::options::{Fault, Given, Options};

pub(super) const KIND: Kind = Kind {
    name: "basic_auth",
    summary: "asks for a name and a password",
    parse: |given| BasicAuth::parse(given).map(|auth| Box::new(auth) as Box<dyn Filter>),
};

struct BasicAuth {
    users: Vec<User>,
    /// The whole value of `WWW-Authenticate`.
    challenge: Box<[u8]>,
    remove_header: bool,
}

/// Both as digests, so that comparing them takes the same time whatever is presented.
struct User {
    name: Sha256,
    password: Sha256,
}

type Sha256 = [u8; SHA256_OUTPUT_LEN];

impl std::fmt::Debug for BasicAuth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Even the digest of a short password gives it away.
        f.debug_struct("BasicAuth").field("users", &self.users.len()).finish_non_exhaustive()
    }
}

impl Filter for BasicAuth {
    fn on_request(&self, head: &mut RequestHead, cx: &mut FilterCx<'_>) -> Verdict {
        if let Some(user) = self.admitted(head) {
            if cx.notes_user {
                cx.user = Some(user);
            }
            if self.remove_header {
                head.fields.remove_known(Known::Authorization);
            }
            return Verdict::Continue;
        }
        let mut reply = Reply::refusal(StatusCode::UNAUTHORIZED, "the credentials are missing or wrong");
        reply.fields.append(b"www-authenticate", &self.challenge);
        reply.into()
    }
}

impl BasicAuth {
    /// `{ realm = "restricted", users = { NAME = "PASSWORD" }, remove_header = false }`
    fn parse(given: &Given<'_>) -> Option<Self> {
        let options = given.table()?;
        let realm = realm(&options);
        let users = users(&options);
        let remove_header = options.get_or("remove_header", false);
        options.finish();
        let challenge = format!("Basic realm=\"{}\", charset=\"UTF-8\"", realm?);
        Some(Self { users: users?, challenge: challenge.into_bytes().into(), remove_header })
    }

    /// The user whose name and password the request has in one `Authorization`. Looks at every user, so that
    /// the time does not tell which names exist.
    fn admitted(&self, head: &RequestHead) -> Option<Vec<u8>> {
        let mut values = head.fields.get_all(Known::Authorization);
        let (Some(value), None) = (values.next(), values.next()) else { return None };
        let (shown, password) = presented(value)?;
        let name = sha256(&shown);
        let same = |a: &Sha256, b: &Sha256| verify_slices_are_equal(a, b).is_ok();
        let known = self
            .users
            .iter()
            .fold(false, |found, user| found | (same(&user.name, &name) & same(&user.password, &password)));
        known.then_some(shown)
    }
}

/// The name, and the digest of the password, out of `Basic BASE64(NAME:PASSWORD)`.
fn presented(value: &[u8]) -> Option<(Vec<u8>, Sha256)> {
    let (scheme, credentials) = value.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let mut decoded = STANDARD.decode(credentials.trim_ascii()).ok()?;
    let colon = memchr::memchr(b':', &decoded)?;
    let password = sha256(decoded.get(colon + 1..)?);
    decoded.truncate(colon);
    Some((decoded, password))
}

fn sha256(bytes: &[u8]) -> Sha256 {
    digest(&SHA256, bytes).as_ref().try_into().expect("SHA-256 gives 32 bytes")
}

/// The realm, ready to stand between quotes.
fn realm(options: &Options<'_>) -> Option<String> {
    let realm = options.get_or("realm", "restricted".to_owned());
    if realm.chars().any(|c| c.is_control()) {
        options.problem("realm", format!("{realm:?} cannot be a realm"), None);
        return None;
    }
    Some(realm.replace('\\', "\\\\").replace('"', "\\\""))
}

fn users(options: &Options<'_>) -> Option<Vec<User>> {
    let given = options.required("users")?;
    let mut users = Vec::new();
    for (key, password) in given.table()?.entries() {
        let text = password.read::<String>()?;
        match user(&key.name, &text) {
            Ok(user) => users.push(user),
            Err(fault) => password.fault(fault.text, fault.hint),
        }
    }
    if users.is_empty() {
        given.fault("there is no user", Some("write `users = { NAME = \"PASSWORD\" }`".into()));
    }
    Some(users)
}

/// `password` is the password, or `sha256:` and its digest in hexadecimal.
fn user(name: &str, password: &str) -> Result<User, Fault> {
    if name.is_empty() || name.contains(':') || name.chars().any(char::is_control) {
        return Err(Fault::new(format_args!("{name:?} cannot be the name of a user"))
            .hint("it is not empty and has no `:`"));
    }
    let password = match password.strip_prefix("sha256:") {
        Some(digest) => unhexed(digest).ok_or_else(|| {
            Fault::new("`sha256:` is followed by 64 hexadecimal digits")
                .hint("they are what `printf %s PASSWORD | sha256sum` prints")
        })?,
        None if password.is_empty() => return Err(Fault::new("the password is empty")),
        None => sha256(password.as_bytes()),
    };
    Ok(User { name: sha256(name.as_bytes()), password })
}

fn unhexed(text: &str) -> Option<Sha256> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let byte = |pair: &[u8]| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    };
    let bytes: Option<Vec<u8>> = text.as_bytes().chunks(2).map(byte).collect();
    bytes?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::filter::tests::{Case, faults, parsed};

    /// `sesame` in the clear, and `open:sesame` by its digest.
    const OPTIONS: &str = r#"basic_auth = { realm = 'a "b" \c', users = {
        alice = "sesame",
        bob = "sha256:6059085b284f75bb5891257419b3e3e16df20c7fd88c85b40fd3af2ef9b6ddee" } }"#;

    fn basic(credentials: &str) -> String {
        format!("Basic {}", STANDARD.encode(credentials))
    }

    #[test]
    fn users_with_their_passwords_pass() {
        for (value, passes) in [
            (basic("alice:sesame"), true),
            (basic("bob:open:sesame"), true),
            (basic("alice:sesame").replace("Basic", "bAsIc"), true),
            (basic("alice:sesam"), false),
            (basic("alice:open:sesame"), false),
            (basic("Alice:sesame"), false),
            (basic("alice"), false),
            (basic(":"), false),
            (basic("carol:sesame"), false),
            ("Bearer x".into(), false),
            ("Basic".into(), false),
            ("Basic !!!".into(), false),
            (String::new(), false),
        ] {
            let case = Case { fields: &[("Authorization", &value)], ..Case::default() };
            let done = case.run(OPTIONS);
            assert_eq!(done.status, if passes { None } else { Some(401) }, "{value}");
            assert_eq!(done.fields, [format!("Authorization: {value}")]);
        }
    }

    #[test]
    fn a_refusal_says_how_to_ask() {
        let done = Case::default().run(OPTIONS);
        assert_eq!(done.status, Some(401));
        let challenge = r#"www-authenticate: Basic realm="a \"b\" \\c", charset="UTF-8""#;
        assert!(done.reply_fields.contains(&challenge.to_owned()), "{:?}", done.reply_fields);
    }

    #[test]
    fn two_sets_of_credentials_are_none() {
        let good = basic("alice:sesame");
        let case = Case { fields: &[("Authorization", &good), ("authorization", &good)], ..Case::default() };
        assert_eq!(case.status(OPTIONS), Some(401));
    }

    #[test]
    fn who_came_in_is_noted_where_that_is_asked_for() {
        let name = |credentials: &str, notes_user| {
            let value = basic(credentials);
            let case = Case { fields: &[("Authorization", &value)], ..Case::default() };
            let (mut head, mut cx) = (case.head(), FilterCx { notes_user, ..case.cx() });
            let _ = parsed(OPTIONS)[0].on_request(&mut head, &mut cx);
            cx.user
        };
        assert_eq!(name("alice:sesame", true).as_deref(), Some(&b"alice"[..]));
        assert_eq!(name("alice:sesam", true), None);
        assert_eq!(name("alice:sesame", false), None);
    }

    #[test]
    fn credentials_go_no_further_when_told_so() {
        let good = basic("a:b");
        let case = Case { fields: &[("Authorization", &good)], ..Case::default() };
        let done = case.run(r#"basic_auth = { users = { a = "b" }, remove_header = true }"#);
        assert_eq!((done.status, done.fields), (None, vec![]));
    }

    #[test]
    fn passwords_are_not_shown() {
        let shown = format!("{:?}", parsed(OPTIONS));
        assert!(!shown.contains("sesame") && shown.contains("users: 2"), "{shown}");
    }

    #[test]
    fn what_is_no_user_is_named() {
        for (options, fault) in [
            ("{}", "basic_auth.users: `users` is missing"),
            ("{ users = {} }", "basic_auth.users: there is no user"),
            (
                r#"{ users = { a = "b", "c:d" = "e" } }"#,
                r#"basic_auth.users."c:d": "c:d" cannot be the name of a user"#,
            ),
            (
                r#"{ users = { x = "y", a = "sha256:12" } }"#,
                "basic_auth.users.a: `sha256:` is followed by 64 hexadecimal digits",
            ),
            (r#"{ users = { x = "y", a = "" } }"#, "basic_auth.users.a: the password is empty"),
            (r#"{ users = { x = "y" }, realm = "a\nb" }"#, r#"basic_auth.realm: "a\nb" cannot be a realm"#),
        ] {
            assert_eq!(faults(&format!("basic_auth = {options}")), [fault]);
        }
    }
}
