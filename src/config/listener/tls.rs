//! What a `tls` listener has of its own: where connections go by what their clients ask for.

use std::collections::HashMap;
use std::net::IpAddr;

use super::{Among, LIMIT, target};
use crate::config::plan::{TlsPlan, TlsTargetPlan};
use crate::config::{Cx, proxy_protocol};
use crate::model::options::{Given, Options, Problem};
use crate::model::settings::StreamTimeouts;
use crate::route::HostMatch;
use crate::route::sni::{Protocol, SniRule};

/// Reads it; `None` when it is unfit, which is reported.
pub(super) fn plan<'a>(options: &Options<'a>, among: &mut Among<'a, '_>, cx: &Cx<'_>) -> Option<TlsPlan> {
    let tables = options.tables("sni");
    let leads_nowhere = tables.is_empty() && !is_led(options);
    if leads_nowhere {
        let hint = "add `pool = \"NAME\"`, or `[[listener.sni]]` with `names` and `pool`";
        options.missing("sni", "the listener leads nowhere", Some(hint.into()));
    }
    let otherwise = led(options, among, cx);
    let mut rules = Rules::default();
    let sni: Vec<_> = tables.into_iter().map(|options| rules.read(options, among, cx)).collect();
    let timeouts = timeouts(options.section("timeouts"));
    Some(TlsPlan { sni: sni.into_iter().collect::<Option<_>>()?, otherwise, timeouts })
}

fn is_led(options: &Options<'_>) -> bool {
    ["pool", "split", "listener"].into_iter().any(|key| options.given(key).is_some())
}

/// `pool`, `split` or `listener`.
fn led<'a>(options: &Options<'a>, among: &mut Among<'a, '_>, cx: &Cx<'_>) -> Option<TlsTargetPlan> {
    let split = target::target(options, among.pools, cx);
    let Some(given) = options.given("listener") else { return split.map(TlsTargetPlan::Pools) };
    if split.is_some() {
        let hint = "leave one of them out";
        given.fault("`listener` and `pool` or `split` exclude each other", Some(hint.into()));
    }
    among.lead_to(given, cx).map(TlsTargetPlan::Listener)
}

/// The rules of a listener: which names they take, for whom, and where that is written.
#[derive(Default)]
struct Rules<'a>(HashMap<Option<HostMatch>, Vec<(Vec<Protocol>, Given<'a>)>>);

impl<'a> Rules<'a> {
    /// Reads the next.
    fn read(
        &mut self,
        options: Options<'a>,
        among: &mut Among<'a, '_>,
        cx: &Cx<'_>,
    ) -> Option<(SniRule, TlsTargetPlan)> {
        let alpn = options.list::<Protocol>("alpn").unwrap_or_default();
        let names: Vec<_> = options.items("names");
        match options.given("alpn") {
            Some(given) if names.is_empty() => self.take(None, &alpn, given),
            None if names.is_empty() => {
                let hint =
                    "add `names = [\"db.example.com\"]`; what fits nowhere goes to the listener's `pool`";
                options.missing("names", "there is neither a name nor a protocol", Some(hint.into()));
            }
            _ => {}
        }
        let names: Vec<_> = names.into_iter().map(|given| self.name(given, &alpn)).collect();
        if !is_led(&options) {
            let hint = "add `pool = \"NAME\"`, or `listener = \"NAME\"` to end TLS there";
            options.missing("pool", "this leads nowhere", Some(hint.into()));
        }
        let target = led(&options, among, cx);
        options.finish();
        Some((SniRule { names: names.into_iter().collect::<Option<_>>()?, alpn }, target?))
    }

    fn name(&mut self, given: Given<'a>, alpn: &[Protocol]) -> Option<HostMatch> {
        let name = given.read::<HostMatch>()?;
        if let HostMatch::Exact(host) = &name
            && host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok()
        {
            let hint = "connections without a name go to the listener's `pool`";
            given.fault("no client asks for an address by name", Some(hint.into()));
            return None;
        }
        self.take(Some(name.clone()), alpn, given);
        Some(name)
    }

    /// Takes `name`, or any; reported when nothing of it is left by rules before.
    fn take(&mut self, name: Option<HostMatch>, alpn: &[Protocol], given: Given<'a>) {
        let before = self.0.entry(name).or_default();
        let takes_all = |earlier: &[Protocol]| match alpn {
            [] => earlier.is_empty(),
            _ => alpn.iter().all(|protocol| earlier.contains(protocol)),
        };
        if let Some((_, there)) = before.iter().find(|(earlier, _)| takes_all(earlier)) {
            let fault = "no connection gets as far as this: an earlier entry takes the same";
            let problem = Problem::new(given.path(), Some(given.span()), fault);
            given.report(problem.see(Some(there.span()), "it is here"));
        }
        before.push((alpn.to_vec(), given));
    }
}

fn timeouts(options: Options<'_>) -> StreamTimeouts {
    let default = StreamTimeouts::default();
    let timeouts = StreamTimeouts {
        proxy_protocol: proxy_protocol::timeout(&options),
        client_hello: options.within("client_hello", LIMIT, default.client_hello),
        idle: options.within("idle", LIMIT, default.idle),
        max_duration: options.given("max_duration").and_then(|given| given.within(LIMIT)),
        ..default
    };
    options.finish();
    timeouts
}
