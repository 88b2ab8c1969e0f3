//! The first words of a report: how many requests failed and whether that is within the budget, who was
//! out, and where most of the errors came from. For someone who reads nothing else. Pure.

use super::happening::{Kind, Outage, Subject};
use super::words::{availability, clock, code, count, lasted, many, number, percent, plain};
use super::{Figures, Happening, Report, RouteLine};

/// The summary: a few sentences.
pub(super) fn summary(report: &Report) -> String {
    let mut sentences = vec![requests(report)];
    sentences.extend(origin(report));
    sentences.extend(outages(&report.outages));
    sentences.push(changes(&report.happened, &report.outages));
    sentences.join(" ")
}

/// What came, and whether enough of it went well.
fn requests(report: &Report) -> String {
    let (span, budget) = (lasted(report.span()), report.budget());
    let Figures { requests, errors, .. } = report.course.whole;
    let (Some(reached), Some(burnt)) = (budget.availability(), budget.burn_rate()) else {
        return format!("No request ended in these {span}.");
    };
    let rate = number(report.rate());
    let came = format!("In {span}, {} ended ({rate} a second)", counted(requests));
    if errors == 0 {
        return format!("{came} and none of them failed.");
    }
    let (failed, share, objective) =
        (count(errors), percent(report.course.whole.failing()), budget.objective);
    let reached = availability(reached);
    let verdict = if budget.is_spent() {
        format!(
            "{reached} went well and the objective of {objective} was **missed**: {} times as many failed as it \
             allows",
            number(burnt)
        )
    } else {
        format!(
            "{reached} went well and the objective of {objective} was met, with {} of its error budget used",
            percent(burnt)
        )
    };
    format!("{came} and {failed} of them failed ({share}); {verdict}.")
}

fn counted(requests: u64) -> String {
    if requests == 1 { "1 request".to_owned() } else { format!("{} requests", count(requests)) }
}

/// The route where most of the errors were, if one stands out.
fn origin(report: &Report) -> Option<String> {
    let errors: u64 = report.routes.iter().map(|route| route.figures.errors).sum();
    let worst = report.routes.iter().max_by_key(|route| route.figures.errors)?;
    let own = worst.figures.errors;
    let stands_out = report.routes.len() > 1 && own > 0 && own * 2 > errors;
    let share = own as f64 / errors.max(1) as f64;
    stands_out.then(|| format!("{} of the failures were of {}.", percent(share), route(worst)))
}

/// A route by its names.
pub(super) fn route(line: &RouteLine) -> String {
    match &line.labels {
        Some((listener, route, Some(pool))) => {
            format!("route {} of listener {} to pool {}", code(route), code(listener), code(pool))
        }
        Some((listener, route, None)) => format!("route {} of listener {}", code(route), code(listener)),
        None => "all other routes".to_owned(),
    }
}

/// Who was without traffic; the first few in words.
fn outages(outages: &[Outage]) -> Option<String> {
    let told: Vec<_> = outages.iter().take(MOST_NAMED).map(outage).collect();
    let more = outages.len().saturating_sub(told.len());
    let more = if more > 0 { format!("; so were {}", many(more, "other endpoint")) } else { String::new() };
    (!told.is_empty()).then(|| format!("{}{more}.", told.join("; ")))
}

fn outage(outage: &Outage) -> String {
    let name = code(&format!("{}/{}", outage.pool, outage.endpoint));
    let (lasted, why) = (lasted(outage.lasted), plain(&outage.why));
    let times = if outage.times > 1 { format!(" in {} spells", outage.times) } else { String::new() };
    match outage.still {
        Some(state) => {
            let state = state.name().replace('_', " ");
            format!("{name} is **still out** ({state}), for {lasted}{times} so far ({why})")
        }
        None => format!("{name} was out for {lasted}{times} and is back ({why})"),
    }
}

/// What else there was, counted.
fn changes(happened: &[Happening], outages: &[Outage]) -> String {
    let times = |kind: Kind| -> usize {
        let own = happened.iter().filter(|own| own.kind == kind);
        own.map(|own| own.times as usize).sum()
    };
    let mut counted = Vec::new();
    for (kind, one) in [
        (Kind::Breaker, "change of a breaker"),
        (Kind::Rung, "change of rung"),
        (Kind::Shortage, "change of a pool that had too few endpoints"),
        (Kind::Reload, "reload"),
        (Kind::FailedReload, "failed reload"),
    ] {
        match times(kind) {
            0 => {}
            1 => counted.push(format!("1 {one}{}", moment(happened, kind))),
            n => counted.push(many(n, one).replace("changes of a breaker", "changes of breakers")),
        }
    }
    match counted.as_slice() {
        [] if outages.is_empty() => {
            "No endpoint was out, no breaker opened and nothing was reloaded.".to_owned()
        }
        [] => "No breaker opened and nothing was reloaded.".to_owned(),
        counted => format!("There was: {}.", counted.join(", ")),
    }
}

/// When the only one of a kind was, and where.
fn moment(happened: &[Happening], kind: Kind) -> String {
    happened.iter().find(|own| own.kind == kind).map_or_else(String::new, |own| {
        let whose = match &own.subject {
            Subject::Process => String::new(),
            Subject::Pool(pool) | Subject::Endpoint(pool, _) => format!(", of {}", code(pool)),
        };
        format!(" (at {}{whose})", clock(own.at))
    })
}

/// Endpoints that the summary names.
const MOST_NAMED: usize = 2;
