//! `allow` and `deny`: who may come, by address. Whether the address can be believed has been
//! decided before.

use http::StatusCode;

use super::{Filter, FilterCx, Kind, Reply, Verdict};
use crate::model::RequestHead;
use crate::model::clients::Clients;

pub(super) const ALLOW: Kind = Kind {
    name: "allow",
    summary: "lets only these networks in; 403 for all others",
    parse: |given| Some(Box::new(Access { clients: Clients::parse(given)?, listed_may: true })),
};

pub(super) const DENY: Kind = Kind {
    name: "deny",
    summary: "keeps these networks out with 403",
    parse: |given| Some(Box::new(Access { clients: Clients::parse(given)?, listed_may: false })),
};

#[derive(Debug)]
struct Access {
    clients: Clients,
    /// Whether those listed may come, or all others.
    listed_may: bool,
}

impl Filter for Access {
    fn on_request(&self, _head: &mut RequestHead, cx: &mut FilterCx<'_>) -> Verdict {
        if self.clients.contain(cx.client) == self.listed_may {
            return Verdict::Continue;
        }
        Reply::refusal(StatusCode::FORBIDDEN, "the address of the client is not allowed here").into()
    }
}

#[cfg(test)]
mod tests {
    use crate::route::filter::tests::{Case, faults};

    #[test]
    fn clients_come_in_or_not_by_address() {
        for (client, listed) in [
            (Some("10.1.2.3"), true),
            (Some("11.1.2.3"), false),
            (Some("::ffff:10.1.2.3"), true),
            (Some("192.0.2.1"), true),
            (Some("192.0.2.2"), false),
            (Some("fd00::1"), true),
            (Some("fe80::1"), false),
            (None, false),
        ] {
            let status = |kind| {
                let options = format!(r#"{kind} = ["10.0.0.0/8", "192.0.2.1", "fd00::/8"]"#);
                Case { client: client.map(|ip| ip.parse().unwrap()), ..Case::default() }.status(&options)
            };
            assert_eq!(status("allow"), if listed { None } else { Some(403) }, "{client:?}");
            assert_eq!(status("deny"), if listed { Some(403) } else { None }, "{client:?}");
        }
        let over_unix = Case { client: None, ..Case::default() };
        assert_eq!(over_unix.status(r#"allow = "unix""#), None);
        assert_eq!(over_unix.status(r#"deny = "unix""#), Some(403));
    }

    #[test]
    fn what_is_no_network_is_named() {
        assert_eq!(faults("allow = []"), ["allow: the list is empty"]);
        assert_eq!(faults(r#"deny = ["10.0.0.0/8", "ten"]"#), [r#"deny[1]: "ten" is not a network"#]);
    }
}
