//! Who may ask the admin listener for what: those who open a Unix socket as its file's permissions have
//! it, those who show what the configuration wants to see, and, where it wants nothing, those who are on
//! this machine and are no web page but our own. What was presented is never told to anybody.

use std::net::{Ipv4Addr, Ipv6Addr};

use http::header::{AUTHORIZATION, HOST, ORIGIN, WWW_AUTHENTICATE};
use http::{HeaderMap, StatusCode};
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::EndEntityCert;

use super::pages::Refusal;
use super::router::Access;
use crate::config::plan::{AdminPlan, Clients, Protection};
use crate::model::Address;

/// By which way a request came.
#[derive(Debug)]
pub(super) struct Caller {
    /// Where the listener is bound.
    pub(super) bound: Address,
    /// Whether it came by TLS.
    pub(super) secure: bool,
    /// What the client has shown of itself, the certificate first and those who signed it after it.
    pub(super) certificates: Vec<CertificateDer<'static>>,
    /// The time of day when it came.
    pub(super) came: UnixTime,
}

/// Whether a request with these fields may have `access`, as `plan` has it.
///
/// # Errors
/// When it may not; it says what to do about that.
pub(super) fn permitted(
    access: Access,
    fields: &HeaderMap,
    caller: &Caller,
    plan: &AdminPlan,
) -> Result<(), Refusal> {
    if access == Access::Write {
        no_foreign_page(fields, caller, plan)?;
    }
    if access == Access::Open || caller.bound.inet().is_none() {
        return Ok(());
    }
    let any = [&plan.read, &plan.write].into_iter().any(Protection::is_set);
    match access {
        Access::Read if plan.read.is_set() => admitted(&[&plan.read, &plan.write], fields, caller),
        Access::Write if plan.write.is_set() => admitted(&[&plan.write], fields, caller),
        Access::Write if any => {
            let hint = "add `[admin.write]` with a `token` of its own, or use a Unix socket";
            Err(refused("nobody may change anything over this listener", hint))
        }
        _ if !caller.bound.is_local() => Err(unprotected(access, &caller.bound)),
        _ => named_locally(access, fields),
    }
}

/// Whether who sent a request may give orders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Orders {
    /// As it stands.
    Taken,
    /// If it shows a token.
    WithToken,
    /// Not over this listener; why, and what to do about that.
    Refused(String),
}

/// Whether who sends these fields may give orders.
pub(super) fn orders(fields: &HeaderMap, caller: &Caller, plan: &AdminPlan) -> Orders {
    match permitted(Access::Write, fields, caller, plan) {
        Ok(()) => Orders::Taken,
        Err(refusal) if refusal.status == StatusCode::UNAUTHORIZED => Orders::WithToken,
        Err(refusal) => Orders::Refused(format!("{}: {}", refusal.error, refusal.hint)),
    }
}

/// Whether something is shown that one of these wants to see.
fn admitted(wanted: &[&Protection], fields: &HeaderMap, caller: &Caller) -> Result<(), Refusal> {
    let token = bearer(fields);
    let by_token = |own: &&Protection| {
        // None is left out, so that the time taken does not tell which of them it was.
        let tokens = own.tokens.iter();
        tokens.fold(false, |found, own| token.is_some_and(|token| own.is(token)) | found)
    };
    let certified = |own: &&Protection| own.clients.as_ref().is_some_and(|clients| knows(clients, caller));
    if wanted.iter().any(by_token) || wanted.iter().any(certified) {
        return Ok(());
    }
    let takes_tokens = wanted.iter().any(|own| !own.tokens.is_empty());
    if !takes_tokens {
        let hint = "show a client certificate of an authority in `client_ca`, with one of `client_names`";
        return Err(refused("a client certificate is needed here", hint));
    }
    let error = if token.is_some() { "that token is not good for this" } else { "a token is needed here" };
    let hint = "send `Authorization: Bearer TOKEN`; commands take `--token-file` or FOREBAY_ADMIN_TOKEN";
    Err(Refusal::new(StatusCode::UNAUTHORIZED, error, hint).with(WWW_AUTHENTICATE, "Bearer"))
}

/// The token of a request (RFC 6750 §2.1).
fn bearer(fields: &HeaderMap) -> Option<&str> {
    let (scheme, token) = fields.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// Whether the caller has shown a certificate that is good here.
fn knows(clients: &Clients, caller: &Caller) -> bool {
    let Some((certificate, rest)) = caller.certificates.split_first() else { return false };
    let good = clients.verifier.verify_client_cert(certificate, rest, caller.came).is_ok();
    let own_name = |own: &str| clients.names.iter().any(|name| name.eq_ignore_ascii_case(own));
    let named = || EndEntityCert::try_from(certificate).is_ok_and(|own| own.valid_dns_names().any(own_name));
    good && (clients.names.is_empty() || named())
}

/// A page in a browser on this machine can send requests to loopback, too; and a browser shows
/// certificates by itself. Browsers mark what pages send with `Origin` or `Sec-Fetch-Site`.
fn no_foreign_page(fields: &HeaderMap, caller: &Caller, plan: &AdminPlan) -> Result<(), Refusal> {
    let foreign_site = fields
        .get_all("sec-fetch-site")
        .iter()
        .any(|site| !matches!(site.as_bytes(), b"none" | b"same-origin"));
    let foreign_origin = fields.contains_key(ORIGIN) && !is_own_page(fields, caller, plan);
    if foreign_origin || foreign_site {
        let hint = "use the dashboard, `forebay endpoint`, or curl without `Origin` and `Sec-Fetch-Site`";
        return Err(refused("orders are not taken from web pages of others", hint));
    }
    Ok(())
}

/// Whether `Origin` is what this very listener was asked under, by a name that nobody can have made up:
/// one that its certificate vouches for, an IP address, or `localhost`. Where a token has to be shown, any
/// name will do, because a page of somebody else knows none.
fn is_own_page(fields: &HeaderMap, caller: &Caller, plan: &AdminPlan) -> bool {
    let mut hosts = fields.get_all(HOST).iter();
    let mut origins = fields.get_all(ORIGIN).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    let (Some(origin), None) = (origins.next(), origins.next()) else { return false };
    let (Ok(host), Ok(origin)) = (host.to_str(), origin.to_str()) else { return false };
    let scheme = if caller.secure { "https://" } else { "http://" };
    let same = origin.strip_prefix(scheme).is_some_and(|own| own.eq_ignore_ascii_case(host));
    let shows_a_token = caller.bound.inet().is_some() && plan.write.is_set();
    same && (caller.secure || shows_a_token || is_local_name(host))
}

/// A page that reaches loopback by a name of its own (DNS rebinding) gives that name as `Host`. Browsers
/// always send one; who sends none is none.
fn named_locally(access: Access, fields: &HeaderMap) -> Result<(), Refusal> {
    let named = |host: &http::HeaderValue| host.to_str().is_ok_and(is_local_name);
    let mut hosts = fields.get_all(HOST).iter().peekable();
    let nameless = hosts.peek().is_none();
    if hosts.all(named) && (access == Access::Read || !nameless) {
        return Ok(());
    }
    let error = "nothing is answered under a name other than localhost or an IP address";
    Err(refused(error, "send `Host: localhost`, or add `[admin.read]` with a `token`"))
}

/// What the configuration does not let through; it may have changed since the address was bound.
fn unprotected(access: Access, bound: &Address) -> Refusal {
    let (what, key) = match access {
        Access::Write => ("orders are not taken", "write"),
        Access::Open | Access::Read => ("nothing is shown", "read"),
    };
    let hint = format!(
        "add `[admin.{key}]` with a `token`, or set `bind` of `[admin]` to 127.0.0.1 or to a Unix socket"
    );
    let error = format!("{what} on {bound}, which others can reach");
    Refusal::new(StatusCode::FORBIDDEN, error, hint)
}

fn refused(error: &'static str, hint: &'static str) -> Refusal {
    Refusal::new(StatusCode::FORBIDDEN, error, hint)
}

/// Whether a `Host` is an IP address or `localhost`, with or without a port.
fn is_local_name(host: &str) -> bool {
    if let Some(rest) = host.strip_prefix('[') {
        let v6 = |text: &str| text.parse::<Ipv6Addr>().is_ok();
        return rest.split_once(']').is_some_and(|(ip, rest)| v6(ip) && is_port(rest));
    }
    let (name, port) = host.split_at(host.find(':').unwrap_or(host.len()));
    let known = name.eq_ignore_ascii_case("localhost") || name.parse::<Ipv4Addr>().is_ok();
    known && is_port(port)
}

/// Whether what follows a host is nothing, or `:` and a port.
fn is_port(text: &str) -> bool {
    text.is_empty() || text.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn caller(bound: &str) -> Caller {
        let came = UnixTime::since_unix_epoch(std::time::Duration::from_secs(1_000_000_000));
        Caller { bound: bound.parse().unwrap(), secure: false, certificates: Vec::new(), came }
    }

    #[test]
    fn orders_come_from_this_machine_and_from_no_web_page() {
        for (bound, pairs, taken) in [
            ("127.0.0.1:9900", &[("host", "localhost")][..], true),
            ("127.0.0.1:9900", &[("host", "LOCALHOST:9900")], true),
            ("127.0.0.1:9900", &[("host", "127.0.0.1:9900")], true),
            ("127.0.0.1:9900", &[("host", "localhost"), ("sec-fetch-site", "none")], true),
            ("[::1]:9900", &[("host", "[::1]:9900")], true),
            ("[::ffff:127.0.0.1]:9900", &[("host", "localhost")], true),
            ("unix:/s", &[("host", "anything")], true),
            ("unix:/s", &[], true),
            ("127.0.0.1:9900", &[], false),
            ("127.0.0.1:9900", &[("host", "attacker.example")], false),
            ("127.0.0.1:9900", &[("host", "localhost.attacker.example")], false),
            ("127.0.0.1:9900", &[("host", "localhost:80:80")], false),
            ("127.0.0.1:9900", &[("host", "localhost"), ("host", "attacker.example")], false),
            ("127.0.0.1:9900", &[("host", "localhost"), ("origin", "null")], false),
            ("127.0.0.1:9900", &[("host", "localhost"), ("origin", "http://localhost:9900")], false),
            ("127.0.0.1:9900", &[("host", "localhost:9900"), ("origin", "http://localhost:9900")], true),
            ("[::1]:9900", &[("host", "[::1]:9900"), ("origin", "http://[::1]:9900")], true),
            ("127.0.0.1:9900", &[("host", "localhost:9900"), ("origin", "https://localhost:9900")], false),
            ("127.0.0.1:9900", &[("host", "localhost:9900"), ("origin", "http://localhost:8080")], false),
            ("127.0.0.1:9900", &[("host", "a.example"), ("origin", "http://a.example")], false),
            ("unix:/s", &[("host", "a.example"), ("origin", "http://a.example")], false),
            ("unix:/s", &[("host", "localhost"), ("origin", "http://localhost")], true),
            (
                "127.0.0.1:9900",
                &[("host", "localhost"), ("origin", "http://localhost"), ("sec-fetch-site", "same-site")],
                false,
            ),
            ("127.0.0.1:9900", &[("host", "localhost"), ("sec-fetch-site", "cross-site")], false),
            ("127.0.0.1:9900", &[("host", "localhost"), ("sec-fetch-site", "same-site")], false),
            ("unix:/s", &[("origin", "http://attacker.example")], false),
            ("0.0.0.0:9900", &[("host", "localhost")], false),
            ("[::]:9900", &[("host", "localhost")], false),
            ("10.0.0.1:9900", &[("host", "10.0.0.1:9900")], false),
        ] {
            let mut map = HeaderMap::new();
            for (name, value) in pairs {
                map.append(*name, HeaderValue::from_static(value));
            }
            let caller = caller(bound);
            let answer = permitted(Access::Write, &map, &caller, &AdminPlan::default());
            assert_eq!(answer.is_ok(), taken, "{bound} {pairs:?}");
            assert!(answer.err().is_none_or(|refusal| refusal.status == StatusCode::FORBIDDEN));
        }
    }

    /// What `[admin]` with these lines means.
    fn plan(lines: &str) -> AdminPlan {
        let text = format!(
            "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n[[route]]\npool = \"app\"\n\
             [pool.app]\nendpoints = [\"127.0.0.1:9\"]\n[admin]\n{lines}\n"
        );
        let plan = crate::config::from_str("t.toml", &text, &|_| None, std::path::Path::new("."));
        plan.unwrap().admin.unwrap()
    }

    #[test]
    fn each_right_has_its_token() {
        let both = "bind = \"0.0.0.0:9900\"\nread.token = \"reads-reads-reads\"\nwrite.token = \"writes-writes-writes\"";
        let one = "bind = \"127.0.0.1:9900\"\nread.token = \"reads-reads-reads\"";
        let (none, reads, writes) = ("", "Bearer reads-reads-reads", "bearer writes-writes-writes");
        for (lines, bound, authorization, access, status) in [
            (both, "0.0.0.0:9900", none, Access::Open, 200),
            (both, "0.0.0.0:9900", none, Access::Read, 401),
            (both, "0.0.0.0:9900", reads, Access::Read, 200),
            (both, "0.0.0.0:9900", writes, Access::Read, 200),
            (both, "0.0.0.0:9900", none, Access::Write, 401),
            (both, "0.0.0.0:9900", reads, Access::Write, 401),
            (both, "0.0.0.0:9900", writes, Access::Write, 200),
            (both, "0.0.0.0:9900", "Basic writes-writes-writes", Access::Write, 401),
            (both, "0.0.0.0:9900", "Bearer", Access::Read, 401),
            (both, "unix:/s", none, Access::Write, 200),
            (one, "127.0.0.1:9900", none, Access::Read, 401),
            (one, "127.0.0.1:9900", reads, Access::Read, 200),
            (one, "127.0.0.1:9900", reads, Access::Write, 403),
            ("", "0.0.0.0:9900", none, Access::Read, 403),
            ("", "0.0.0.0:9900", none, Access::Open, 200),
        ] {
            let mut map = HeaderMap::new();
            map.insert("host", HeaderValue::from_static("forebay.example"));
            map.insert("authorization", HeaderValue::from_static(authorization));
            let answer = permitted(access, &map, &caller(bound), &plan(lines));
            let found = answer.map_or_else(|refusal| refusal.status.as_u16(), |()| 200);
            assert_eq!(found, status, "{lines} {bound} {authorization} {access:?}");
        }
    }

    #[test]
    fn under_a_made_up_name_a_page_needs_a_token_or_a_certificate() {
        let (host, http, https) = ("forebay.example", "http://forebay.example", "https://forebay.example");
        let token = "write.token = \"writes-writes-writes\"";
        for (lines, secure, origin, own) in [
            ("", false, http, false),
            ("", true, https, true),
            ("", true, http, false),
            (token, false, http, true),
            (token, false, https, false),
            (token, false, "http://other.example", false),
        ] {
            let mut map = HeaderMap::new();
            map.insert("host", HeaderValue::from_static(host));
            map.insert("origin", HeaderValue::from_static(origin));
            let caller = Caller { secure, ..caller("127.0.0.1:9900") };
            assert_eq!(is_own_page(&map, &caller, &plan(lines)), own, "{lines} {secure} {origin}");
        }
    }

    #[test]
    fn names_of_others_are_not_answered_to() {
        for (host, answered) in
            [("localhost", true), ("10.0.0.1:9900", true), ("attacker.example", false), ("", false)]
        {
            let mut map = HeaderMap::new();
            map.insert("host", HeaderValue::from_static(host));
            let answer = permitted(Access::Read, &map, &caller("127.0.0.1:9900"), &AdminPlan::default());
            assert_eq!(answer.is_ok(), answered, "{host}");
        }
    }
}
