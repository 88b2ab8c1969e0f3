//! `rewrite_host`: another host for endpoints to see. The port goes with it. Which host a route is
//! found by is decided before.

use super::{Filter, FilterCx, Kind, Verdict};
use crate::model::RequestHead;
use crate::model::options::Given;
use crate::route::HostMatch;

pub(super) const KIND: Kind = Kind {
    name: "rewrite_host",
    summary: "sends another Host to endpoints",
    parse: |given| RewriteHost::parse(given).map(|rewrite| Box::new(rewrite) as Box<dyn Filter>),
};

#[derive(Debug)]
struct RewriteHost {
    authority: Box<[u8]>,
}

impl Filter for RewriteHost {
    fn on_request(&self, head: &mut RequestHead, _cx: &mut FilterCx<'_>) -> Verdict {
        head.set_authority(&self.authority);
        Verdict::Continue
    }
}

impl RewriteHost {
    /// `"app.internal"` or `"app.internal:8080"`
    fn parse(given: &Given<'_>) -> Option<Self> {
        let text = given.read::<String>()?;
        let host = match text.rsplit_once(':') {
            Some((host, port)) if port.parse::<u16>().is_ok() => host,
            _ => &text,
        };
        if matches!(host.parse(), Ok(HostMatch::Exact(_))) {
            return Some(Self { authority: text.as_bytes().into() });
        }
        given.fault(
            format!("{text:?} is not a host"),
            Some("write it as \"app.internal\" or \"app.internal:8080\"".into()),
        );
        None
    }
}

#[cfg(test)]
mod tests {
    use crate::route::filter::tests::{Case, faults};

    #[test]
    fn another_host_is_sent() {
        for host in ["app.internal", "App.internal:8080", "10.0.0.1", "[::1]:80", "[::1]"] {
            let done = Case::default().run(&format!("rewrite_host = {host:?}"));
            assert_eq!(done.authority.as_deref(), Some(host));
        }
    }

    #[test]
    fn a_host_is_one_host() {
        for bad in ["", "*.example", "a b", "http://a", "a:99999", "a/b", "a\r\nb", ":80", "::1"] {
            let wanted = format!("rewrite_host: {bad:?} is not a host");
            assert_eq!(faults(&format!("rewrite_host = {bad:?}")), [wanted]);
        }
    }
}
