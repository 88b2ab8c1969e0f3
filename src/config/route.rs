//! `[[route]]`: which requests, what is done to them, and where they go.

mod priority;

use std::ops::{Range, RangeInclusive};
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

use super::listener::Listeners;
use super::names::Names;
use super::plan::{Action, PoolId, RoutePlan, ServicePlan};
use super::pool::retry;
use super::{Cx, attempt, matching};
use crate::model::Name;
use crate::model::options::{Fault, Given, Key, Options, Problem};
use crate::model::settings::RouteTimeouts;
use crate::route::Earlier;
use crate::route::filter::{Answers, Filter, Filters, KINDS};

/// Reads every `[[route]]`.
pub(super) fn routes(
    root: &Options<'_>,
    listeners: &Listeners,
    pools: &Names,
    cx: &Cx<'_>,
) -> Vec<RoutePlan> {
    let reader = Reader { names: Names::of("route"), listeners, pools, cx };
    let tables = root.tables("route");
    if tables.is_empty() && !listeners.are_without_routes() {
        root.missing("route", "there is no route", Some("add `[[route]]` with `pool = \"NAME\"`".into()));
    }
    reader.all(tables)
}

struct Reader<'a> {
    names: Names,
    listeners: &'a Listeners,
    pools: &'a Names,
    cx: &'a Cx<'a>,
}

impl Reader<'_> {
    fn all(mut self, tables: Vec<Options<'_>>) -> Vec<RoutePlan> {
        let mut plans: Vec<(RoutePlan, Option<Range<usize>>)> = Vec::new();
        let mut rules = Earlier::default();
        for (index, options) in tables.into_iter().enumerate() {
            let (path, span) = (options.path().to_owned(), options.span());
            let Some(plan) = self.route(options, index) else { continue };
            let mut candidates =
                rules.candidates(&plan.rule).into_iter().filter_map(|place| plans.get(place));
            if let Some((first, there)) = candidates.find(|(earlier, _)| shadows(earlier, &plan)) {
                let fault = format!("no request gets as far as this route: `{}` takes them all", first.name);
                let problem = Problem::new(&path, span.clone(), fault);
                self.cx.sink.report(problem.see(there.clone(), "it is here").hint(SHADOW_HINT));
            }
            rules.add(&plan.rule);
            plans.push((plan, span));
        }
        plans.into_iter().map(|(plan, _)| plan).collect()
    }

    fn route(&mut self, options: Options<'_>, index: usize) -> Option<RoutePlan> {
        let mark = self.cx.files.mark();
        let name = self.name(&options, index);
        let listeners = self.listeners(&options);
        let rule = matching::rule(&options, self.cx.sink);
        let filters = filters(&options);
        let action = self.action(&options, answers(filters.as_ref()));
        let timeouts = timeouts(options.section("timeouts"));
        let retry = retry::of_route(options.section("retry"));
        let hedge = options.table("hedge").map(attempt::hedge);
        let priorities = priority::priorities(&options);
        let deadline_header =
            options.get::<HeaderName>("deadline_header").map(|name| name.as_str().to_owned());
        let fingerprint = self.cx.files.cover(options.fingerprint(), mark);
        options.finish();
        Some(RoutePlan {
            name: name?,
            fingerprint,
            listeners: listeners?,
            rule: rule?,
            filters: Arc::new(filters?),
            action: action?,
            timeouts,
            retry,
            hedge,
            priorities,
            deadline_header,
        })
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
            return self.all_listeners(options);
        };
        let items = given.items();
        if items.is_empty() {
            given.fault(
                "a route without listeners never matches",
                Some("leave `listener` out for all".into()),
            );
        }
        let found: Vec<_> = items.iter().map(|item| self.listener(item)).collect();
        found.into_iter().collect::<Option<Vec<_>>>().filter(|found| !found.is_empty())
    }

    /// Those that take routes; reported when there is none.
    fn all_listeners(&self, options: &Options<'_>) -> Option<Vec<usize>> {
        let all: Vec<_> = self.listeners.with_routes().collect();
        if all.is_empty() && !self.cx.sink.is_incomplete() && self.cx.sink.errors() == 0 {
            let fault = "there is no http or https listener for the route";
            let problem = Problem::new(options.path(), options.span(), fault);
            self.cx.sink.report(problem.hint("tcp, tls and udp listeners name their `pool` themselves"));
        }
        Some(all)
    }

    fn listener(&self, given: &Given<'_>) -> Option<usize> {
        let index = self.listeners.names.find(given, self.cx.sink)?;
        if self.listeners.plans.get(index).is_some_and(|plan| plan.service != ServicePlan::Http) {
            let hint = "tcp, tls and udp listeners name their `pool` themselves";
            given.fault("only http and https listeners have routes", Some(hint.into()));
            return None;
        }
        Some(index)
    }

    fn action(&self, options: &Options<'_>, answers: Answers) -> Option<Action> {
        let (pool, split) = (options.given("pool"), options.given("split"));
        if let (Answers::Always, Some(given)) = (answers, pool.as_ref().or(split.as_ref())) {
            let fault = "no request gets to a pool: a filter of the route answers them all";
            given.fault(fault, Some("leave out the pool or the filter".into()));
        }
        match (pool, split) {
            (Some(_), Some(split)) => {
                split.fault("`pool` and `split` exclude each other", Some("leave one of them out".into()));
                None
            }
            (Some(given), None) => {
                self.pools.find(&given, self.cx.sink).map(|pool| Action::Forward(vec![(PoolId(pool), 1)]))
            }
            (None, Some(given)) => self.split(&given),
            (None, None) if answers == Answers::Never => {
                let hint = "add `pool = \"NAME\"`, `split`, or a filter that answers, such as `redirect`";
                options.missing("pool", "the route leads nowhere", Some(hint.into()));
                None
            }
            (None, None) => Some(Action::Answer),
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

/// Whether no request gets past `earlier` to `later`.
fn shadows(earlier: &RoutePlan, later: &RoutePlan) -> bool {
    later.rule.shadowed_by(&earlier.rule)
        && later.listeners.iter().all(|listener| earlier.listeners.contains(listener))
}

/// Which requests the filters answer; nothing is known of filters that are unfit.
fn answers(filters: Option<&Filters>) -> Answers {
    match filters {
        Some(filters) => filters.iter().map(|filter| filter.answers()).max().unwrap_or(Answers::Never),
        None => Answers::Sometimes,
    }
}

/// `[{ KIND = OPTIONS }]`; `None` when one is unfit and reported.
fn filters(options: &Options<'_>) -> Option<Filters> {
    let mut limits: Vec<Name> = Vec::new();
    let named_apart = |given: &Given<'_>| {
        let filter = filter(given)?;
        if let Some(limit) = filter.rate_limit() {
            if limits.contains(limit.name()) {
                let fault = format!("the route has another rate limit `{}`", limit.name());
                given.fault(fault, Some("give it a `name` of its own".into()));
            }
            limits.push(limit.name().clone());
        }
        Some(filter)
    };
    let read: Vec<_> = options.items("filters").iter().map(named_apart).collect();
    read.into_iter().collect()
}

fn filter(given: &Given<'_>) -> Option<Box<dyn Filter>> {
    let (key, given) = given.table()?.sole()?;
    let Some(kind) = KINDS.iter().find(|kind| kind.name == key.name) else {
        let known: Vec<_> = KINDS.iter().map(|kind| kind.name).collect();
        let Fault { text, hint } = Fault::unknown("filter", &key.name, &known);
        given.report(Problem::new(given.path(), Some(key.span.clone()), text).or_hint(hint));
        return None;
    };
    (kind.parse)(&given)
}

fn timeouts(options: Options<'_>) -> RouteTimeouts {
    let limit = |key| options.given(key).and_then(|given| given.within(LIMIT));
    let timeouts = RouteTimeouts {
        request: limit("request"),
        connect: limit("connect"),
        idle: limit("idle"),
        attempt: attempt::try_timeout(&options),
    };
    options.finish();
    timeouts
}

const LIMIT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(24 * 60 * 60);
const SHADOW_HINT: &str = "leave it out, or let it match something of its own";
/// Keeps the sum of any sensible number of weights within 32 bits.
const SPLIT: RangeInclusive<u32> = 1..=1_000_000;
