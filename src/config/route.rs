//! `[[route]]`: which requests, what is done to them, and where they go.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::names::Names;
use super::plan::{Action, PoolId, RoutePlan};
use super::{Cx, matching};
use crate::model::Name;
use crate::model::options::{Given, Key, Options};
use crate::model::settings::RouteTimeouts;
use crate::route::filter::Filters;

/// Reads every `[[route]]`.
pub(super) fn routes(root: &Options<'_>, listeners: &Names, pools: &Names, cx: &Cx<'_>) -> Vec<RoutePlan> {
    let reader = Reader { names: Names::of("route"), listeners, pools, cx };
    let tables = root.tables("route");
    if tables.is_empty() {
        root.missing("route", "there is no route", Some("add `[[route]]` with `pool = \"NAME\"`".into()));
    }
    reader.all(tables)
}

struct Reader<'a> {
    names: Names,
    listeners: &'a Names,
    pools: &'a Names,
    cx: &'a Cx<'a>,
}

impl Reader<'_> {
    fn all(mut self, tables: Vec<Options<'_>>) -> Vec<RoutePlan> {
        let mut plans = Vec::new();
        for (index, options) in tables.into_iter().enumerate() {
            plans.extend(self.route(options, index));
        }
        plans
    }

    fn route(&mut self, options: Options<'_>, index: usize) -> Option<RoutePlan> {
        let name = self.name(&options, index);
        let listeners = self.listeners(&options);
        let rule = matching::rule(&options);
        let (filters, answers) = (Filters::new(), false);
        let action = self.action(&options, answers);
        let timeouts = timeouts(options.section("timeouts"));
        options.finish();
        Some(RoutePlan { name: name?, listeners: listeners?, rule, filters, action: action?, timeouts })
    }

    fn name(&mut self, options: &Options<'_>, index: usize) -> Option<Name> {
        let given = options.given("name");
        let name = match &given {
            Some(given) => given.read::<Name>()?,
            None => Name::new(&format!("route-{}", index + 1)).ok()?,
        };
        let span = given.map(|given| given.span()).or(options.span())?;
        self.names.take(&name, index, (options.path(), span), self.cx.sink);
        Some(name)
    }

    /// The named listeners, or all.
    fn listeners(&self, options: &Options<'_>) -> Option<Vec<usize>> {
        let Some(given) = options.given("listener") else {
            return Some(self.listeners.all());
        };
        let items = given.items();
        if items.is_empty() {
            given.fault(
                "a route without listeners never matches",
                Some("leave `listener` out for all".into()),
            );
        }
        let found: Vec<_> = items.iter().map(|item| self.listeners.find(item, self.cx.sink)).collect();
        found.into_iter().collect()
    }

    fn action(&self, options: &Options<'_>, answers: bool) -> Option<Action> {
        let (pool, split) = (options.given("pool"), options.given("split"));
        match (pool, split, answers) {
            (Some(_), Some(split), _) => {
                split.fault("`pool` and `split` exclude each other", Some("leave one of them out".into()));
                None
            }
            (Some(given), None, false) => {
                self.pools.find(&given, self.cx.sink).map(|pool| Action::Forward(vec![(PoolId(pool), 1)]))
            }
            (None, Some(given), false) => self.split(&given),
            (None, None, true) => Some(Action::Answer),
            (Some(given), None, true) | (None, Some(given), true) => {
                let fault = "nothing reaches this pool: a filter of the route answers every request";
                given.fault(fault, Some("leave out the pool or the filter".into()));
                None
            }
            (None, None, false) => {
                let hint = "add `pool = \"NAME\"`, `split`, or a filter that answers, such as `redirect`";
                options.missing("pool", "the route leads nowhere", Some(hint.into()));
                None
            }
        }
    }

    /// `{ blue = 90, green = 10 }`
    fn split(&self, given: &Given<'_>) -> Option<Action> {
        let part = |(key, weight): (&Key, Given<'_>)| {
            let pool = self.pools.find_named(&key.name, weight.path(), key.span.clone(), self.cx.sink);
            let weight = weight.within(SPLIT);
            Some((PoolId(pool?), weight?))
        };
        let split: Vec<_> = given.table()?.entries().map(part).collect();
        if split.is_empty() {
            given.fault("a split needs a pool", Some("write `split = { blue = 90, green = 10 }`".into()));
            return None;
        }
        split.into_iter().collect::<Option<_>>().map(Action::Forward)
    }
}

fn timeouts(options: Options<'_>) -> RouteTimeouts {
    let limit = |key| options.given(key).and_then(|given| given.within(LIMIT));
    let timeouts =
        RouteTimeouts { request: limit("request"), connect: limit("connect"), idle: limit("idle") };
    options.finish();
    timeouts
}

const LIMIT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(24 * 60 * 60);
/// Keeps the sum of any sensible number of weights within 32 bits.
const SPLIT: RangeInclusive<u32> = 1..=1_000_000;
