//! Who may give orders over the admin listener: those who are on this machine and are not a web page.
//! There are no passwords here; who can open the socket may do what it offers.

use std::net::{Ipv4Addr, Ipv6Addr};

use http::header::{HOST, ORIGIN};
use http::{HeaderMap, StatusCode};

use super::pages::Refusal;
use crate::model::Address;

/// Whether a request with these fields, at a listener that is bound there, may change something.
///
/// A page in a browser on this machine can send requests to loopback, too. Browsers mark these with
/// `Origin` or `Sec-Fetch-Site`; and one that reaches loopback by a name of its own (DNS rebinding)
/// gives that name as `Host`.
pub(super) fn permitted(fields: &HeaderMap, bound: &Address) -> Result<(), Refusal> {
    if !is_private(bound) {
        let error = format!("orders are not taken on {bound}, which others can reach");
        let hint = "set `bind` of `[admin]` to 127.0.0.1 or to a Unix socket";
        return Err(Refusal::new(StatusCode::FORBIDDEN, error, hint));
    }
    let foreign_site = fields
        .get_all("sec-fetch-site")
        .iter()
        .any(|site| !matches!(site.as_bytes(), b"none" | b"same-origin"));
    if fields.contains_key(ORIGIN) || foreign_site {
        let hint = "use `forebay endpoint` or curl, without `Origin` and `Sec-Fetch-Site`";
        return Err(Refusal::new(StatusCode::FORBIDDEN, "orders are not taken from web pages", hint));
    }
    let named = |host: &http::HeaderValue| host.to_str().is_ok_and(is_local_name);
    let hosts = fields.get_all(HOST);
    let local = hosts.iter().next().is_some() && hosts.iter().all(named);
    if matches!(bound, Address::Inet(_)) && !local {
        let error = "orders are not taken under a name other than localhost or an IP address";
        return Err(Refusal::new(StatusCode::FORBIDDEN, error, "send `Host: localhost`"));
    }
    Ok(())
}

fn is_private(bound: &Address) -> bool {
    match bound {
        Address::Inet(address) => address.ip().to_canonical().is_loopback(),
        Address::Unix(_) => true,
    }
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
            let answer = permitted(&map, &bound.parse().unwrap());
            assert_eq!(answer.is_ok(), taken, "{bound} {pairs:?}");
            assert!(answer.err().is_none_or(|refusal| refusal.status == StatusCode::FORBIDDEN));
        }
    }
}
