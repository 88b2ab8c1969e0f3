//! A report as an object for programs. Times are RFC 3339, durations are numbers in seconds. Pure.

use serde_json::{Value, json};

use super::happening::Subject;
use super::summary::summary;
use super::{Figures, Happening, Outage, PoolLine, Report, RouteLine, Step};
use crate::observe::civil::rfc3339;

impl Report {
    /// The account as an object.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let process = &self.process;
        json!({
            "summary": summary(self),
            "from": rfc3339(self.from),
            "to": rfc3339(self.to),
            "asked_seconds": self.asked.as_secs_f64(),
            "process": {
                "version": process.version,
                "pid": process.pid,
                "started": rfc3339(process.started),
                "workers": process.workers,
                "generation": process.generation,
                "config_hash": process.hash,
            },
            "requests": figures(&self.course.whole),
            "busy_ratio": self.course.busy,
            "budget": self.budget_object(),
            "course": self.course_object(),
            "happened": self.happened.iter().map(happening).collect::<Vec<_>>(),
            "outages": self.outages.iter().map(outage).collect::<Vec<_>>(),
            "pools": self.pools.iter().map(pool).collect::<Vec<_>>(),
            "routes": self.routes.iter().map(route).collect::<Vec<_>>(),
            "warnings": self.warnings,
        })
    }

    fn budget_object(&self) -> Value {
        let budget = self.budget();
        json!({
            "objective": budget.objective.share(),
            "availability": budget.availability(),
            "allowed_errors": budget.allowed(),
            "burn_rate": budget.burn_rate(),
            "spent": budget.is_spent(),
            "of_30_days": budget.of_period(),
            "lasts_seconds": budget.lasts().map(|lasts| lasts.as_secs_f64()),
        })
    }

    fn course_object(&self) -> Value {
        let column = |of: fn(&Step) -> Value| self.course.steps.iter().map(of).collect::<Vec<_>>();
        json!({
            "step_seconds": self.course.step.as_secs_f64(),
            "requests": column(|step| step.requests.into()),
            "errors": column(|step| step.errors.into()),
            "p99_seconds": column(|step| step.p99.map(|p99| p99.as_secs_f64()).into()),
            "in_flight": column(|step| step.in_flight.into()),
            "connections": column(|step| step.connections.into()),
            "busy_ratio": column(|step| step.busy.into()),
        })
    }
}

fn figures(figures: &Figures) -> Value {
    let seconds = |time: Option<std::time::Duration>| time.map(|time| time.as_secs_f64());
    json!({
        "requests": figures.requests,
        "errors": figures.errors,
        "p50_seconds": seconds(figures.p50),
        "p90_seconds": seconds(figures.p90),
        "p99_seconds": seconds(figures.p99),
    })
}

fn happening(own: &Happening) -> Value {
    let (pool, endpoint) = match &own.subject {
        Subject::Process => (None, None),
        Subject::Pool(pool) => (Some(pool), None),
        Subject::Endpoint(pool, endpoint) => (Some(pool), Some(endpoint)),
    };
    json!({
        "at": rfc3339(own.at),
        "kind": own.kind.name(),
        "pool": pool,
        "endpoint": endpoint,
        "words": own.words,
        "times": own.times,
        "until": rfc3339(own.until),
    })
}

fn outage(own: &Outage) -> Value {
    json!({
        "pool": own.pool,
        "endpoint": own.endpoint,
        "times": own.times,
        "seconds": own.lasted.as_secs_f64(),
        "state": own.still.map(|state| state.name()),
        "why": own.why,
    })
}

fn pool(line: &PoolLine) -> Value {
    let (available, total) = line.endpoints;
    let (mean, most) = line.utilisation;
    json!({
        "pool": line.pool,
        "requests": figures(&line.figures),
        "available": available,
        "total": total,
        "desired_endpoints": line.desired,
        "utilisation": { "mean": mean, "most": most },
        "wait_p99_seconds": line.wait_p99.map(|wait| wait.as_secs_f64()),
    })
}

fn route(line: &RouteLine) -> Value {
    let (listener, route, pool) = match &line.labels {
        Some((listener, route, pool)) => (Some(listener), Some(route), pool.as_ref()),
        None => (None, None, None),
    };
    json!({ "listener": listener, "route": route, "pool": pool, "requests": figures(&line.figures) })
}
