//! `[pool.NAME.degradation]`: what stands in for a pool when it fails, in order. Pools that stand in
//! are named, and found when all pools are known.

use std::collections::{HashMap, HashSet};
use std::ops::RangeInclusive;
use std::time::Duration;

use http::StatusCode;

use crate::cache::Bounds;
use crate::config::Cx;
use crate::config::names::Names;
use crate::config::plan::{DegradationPlan, PoolId, RungPlan};
use crate::limit::ladder::LadderSettings;
use crate::model::options::{Given, Options};
use crate::model::units::{ByteSize, Share};
use crate::route::filter::fixed_reply;

/// A ladder as written.
pub(super) struct Written<'a> {
    rungs: Vec<Rung<'a>>,
    settings: LadderSettings,
}

/// One rung as written.
enum Rung<'a> {
    /// What names a pool.
    Pool(Given<'a>),
    Other(RungPlan),
}

/// Reads the ladder of one pool.
pub(super) fn degradation<'a>(options: Options<'a>) -> Written<'a> {
    let default = LadderSettings::default();
    let ladder = options.required("ladder").map(|given| given.items()).unwrap_or_default();
    let mut rungs = Vec::new();
    for (index, given) in ladder.iter().enumerate() {
        let read = given.table().and_then(rung);
        if matches!(read, Some(Rung::Other(RungPlan::Respond(_)))) && index + 1 < ladder.len() {
            let hint = "a fixed response is always there: put it last".to_owned();
            given.fault("nothing after this rung can be reached", Some(hint));
        }
        let is_stale = |rung: &Rung<'_>| matches!(rung, Rung::Other(RungPlan::Stale(_)));
        if read.as_ref().is_some_and(is_stale) && rungs.iter().any(is_stale) {
            given.fault("there are two `stale` rungs", Some("what one has not, the other has not".into()));
        }
        rungs.extend(read);
    }
    if ladder.is_empty() && options.given("ladder").is_some() {
        options.problem("ladder", "there is no rung", Some(FORM.to_owned()));
    }
    let settings = LadderSettings {
        enter: enter(&options, default.enter),
        requests: options.within("requests", 1..=1_000_000, default.requests),
        window: options.within("window", WINDOW, default.window),
        leave_after: options.within("leave_after", LEAVE_AFTER, default.leave_after),
        trials: options.get::<Share>("trials").map_or(default.trials, Share::fraction),
    };
    options.finish();
    Written { rungs, settings }
}

/// Finds the pools that ladders name. `written` has each pool's ladder, by the pool's place.
pub(super) fn resolve(
    written: Vec<(usize, Written<'_>)>,
    names: &Names,
    cx: &Cx<'_>,
) -> Vec<(usize, DegradationPlan)> {
    let mut known = Known::default();
    let mut resolved = Vec::new();
    for (pool, ladder) in written {
        let mut rungs = Vec::new();
        for rung in ladder.rungs {
            rungs.extend(match rung {
                Rung::Pool(given) => names.find(&given, cx.sink).and_then(|to| known.link(pool, to, &given)),
                Rung::Other(plan) => Some(plan),
            });
        }
        resolved.push((pool, DegradationPlan { ladder: rungs, settings: ladder.settings }));
    }
    resolved
}

/// Which pool stands in for which.
#[derive(Default)]
struct Known(HashMap<usize, Vec<usize>>);

impl Known {
    /// Has `to`, which `given` names, stand in for `from`; refused and reported where a request could
    /// come back to where it was.
    fn link(&mut self, from: usize, to: usize, given: &Given<'_>) -> Option<RungPlan> {
        let round = Some("ladders of pools may follow each other, not go round".to_owned());
        let (fault, hint) = if from == to {
            ("a pool cannot stand in for itself", round)
        } else if self.0.get(&from).is_some_and(|ends| ends.contains(&to)) {
            ("the pool is a rung already", None)
        } else if self.leads(to, from) {
            ("requests to that pool may come to this one", round)
        } else {
            self.0.entry(from).or_default().push(to);
            return Some(RungPlan::Pool(PoolId(to)));
        };
        given.fault(fault, hint);
        None
    }

    /// Whether a request may come from one pool to the other. Each pool is looked at once.
    fn leads(&self, from: usize, to: usize) -> bool {
        let mut seen = HashSet::from([from]);
        let mut next = vec![from];
        while let Some(pool) = next.pop() {
            if pool == to {
                return true;
            }
            let ends = self.0.get(&pool).into_iter().flatten();
            next.extend(ends.filter(|end| seen.insert(**end)));
        }
        false
    }
}

fn rung(options: Options<'_>) -> Option<Rung<'_>> {
    let kinds = [options.given("pool"), options.given("stale"), options.given("respond")];
    let given = kinds.iter().flatten().count();
    let [pool, stale, fixed] = kinds;
    if given != 1 {
        options.fault("a rung is one of `pool`, `stale` and `respond`", Some(FORM.to_owned()));
    }
    options.finish();
    match (pool, stale, fixed) {
        _ if given != 1 => None,
        (Some(pool), _, _) => Some(Rung::Pool(pool)),
        (_, Some(kept), _) => Some(Rung::Other(RungPlan::Stale(stale_bounds(kept.table()?)))),
        (_, _, fixed) => {
            let reply = fixed_reply(&fixed?, StatusCode::SERVICE_UNAVAILABLE)?;
            Some(Rung::Other(RungPlan::Respond(reply)))
        }
    }
}

fn stale_bounds(options: Options<'_>) -> Bounds {
    let default = Bounds::default();
    let size = |key, range, default| {
        let ByteSize(bytes) = options.within(key, range, ByteSize(default as u64));
        usize::try_from(bytes).unwrap_or(usize::MAX)
    };
    let bounds = Bounds {
        memory: size("memory", MEMORY, default.memory),
        max_body: size("max_body", MAX_BODY, default.max_body),
        max_stale: options.within("max_age", MAX_AGE, default.max_stale),
    };
    if bounds.max_body > bounds.memory / 4 {
        let key = if options.given("max_body").is_some() { "max_body" } else { "memory" };
        let hint = "give it at least four times `max_body`".to_owned();
        options.problem(key, "`max_body` is more than a quarter of `memory`", Some(hint));
    }
    options.finish();
    bounds
}

fn enter(options: &Options<'_>, default: f64) -> f64 {
    let share = options.get::<Share>("enter").map_or(default, Share::fraction);
    if share > 0.0 {
        return share;
    }
    options.problem("enter", "0% is no share to begin at", None);
    default
}

const FORM: &str = "as in `ladder = [{ pool = \"spare\" }, { stale = {} }, { respond = { status = 503 } }]`";
const WINDOW: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(600);
const LEAVE_AFTER: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(60 * 60);
const MAX_AGE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(30 * 24 * 60 * 60);
const MEMORY: RangeInclusive<ByteSize> = ByteSize(64 << 10)..=ByteSize(1 << 40);
const MAX_BODY: RangeInclusive<ByteSize> = ByteSize(1 << 10)..=ByteSize(1 << 30);
