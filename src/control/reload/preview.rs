//! What a configuration would change if it were put in force now: the difference, and what only the running
//! process knows of it: who would have to leave, what would stay, and what is too small for its load.
//! Changes nothing.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::Reload;
use crate::ambient;
use crate::config::Plan;
use crate::config::diff::{Diff, Warning, diff};
use crate::model::{Address, Name, units};
use crate::net::listen;

/// What would change.
#[derive(Debug)]
pub enum Preview {
    /// It is valid.
    Valid {
        /// The number of the configuration in force.
        generation: u64,
        /// What would change, with warnings.
        diff: Box<Diff>,
        /// Whose connections would drain, a line each.
        drains: Vec<String>,
        /// What would be kept, a line each.
        kept: Vec<String>,
        /// Warnings of the reader; empty when there are none.
        report: String,
    },
    /// It has these problems.
    Bad(String),
}

impl Reload {
    /// What `text` would change if it stood in the file at `path`, which is absolute. Takes time in
    /// proportion to the configuration; not for the control thread.
    #[must_use]
    pub fn preview(&self, path: &Path, text: &str) -> Preview {
        let reading = self.read_as(path, text);
        let Some(plan) = reading.plan else { return Preview::Bad(reading.report.to_string()) };
        let (before, generation) = self.running.plan();
        let mut diff = diff(&before, &plan, ambient::now());
        self.warn(&before, &plan, &mut diff);
        let report = if reading.report.is_empty() { String::new() } else { reading.report.to_string() };
        let (drains, kept) = (self.drains(&diff), kept(&plan, &diff));
        Preview::Valid { generation, diff: Box::new(diff), drains, kept, report }
    }

    /// Adds what is too small for what goes on, or cannot be had.
    fn warn(&self, before: &Plan, plan: &Plan, diff: &mut Diff) {
        let snapshot = self.running.published().load();
        for pool in &plan.pools {
            let now = snapshot.index_of(&pool.name).and_then(|index| snapshot.pools.get(index));
            let load = now.map_or(0, |now| now.guard.in_flight());
            let limit = pool.limits.in_flight;
            if limit < load {
                let words = format!("{limit} is below the {load} requests under way now");
                diff.warnings.push(Warning::new(format!("pool.{}.limits.in_flight", pool.name), words));
            }
        }
        let p99s = self.running.registry().route_p99s();
        for route in &plan.routes {
            if let (Some(limit), Some(p99)) = (route.timeouts.request, p99s.get(&route.name))
                && limit < *p99
            {
                let words = format!(
                    "{} is below the {} within which 99% of requests have ended so far",
                    units::show(limit),
                    units::show(rough(*p99))
                );
                diff.warnings.push(Warning::new(format!("route.{}.timeouts.request", route.name), words));
            }
        }
        let bound: Vec<&Address> = before.listeners.iter().flat_map(|listener| &listener.bind).collect();
        for listener in &plan.listeners {
            for address in listener.bind.iter().filter(|address| !bound.contains(address)) {
                if let Some(words) = unbindable(address) {
                    diff.warnings.push(Warning::new(format!("listener.{}.bind", listener.name), words));
                }
            }
        }
    }

    /// The listeners whose connections would drain, with how many there are.
    fn drains(&self, diff: &Diff) -> Vec<String> {
        let registry = self.running.registry();
        let open = |name: &Name| counted(registry.listener(name).active(), "connection");
        let removed = diff.listeners.removed.iter();
        let removed = removed.map(|name| format!("listener {name}: {} to drain", open(name)));
        let changed = diff.listeners.changed.iter().filter(|change| !change.binds_removed.is_empty());
        let changed = changed.map(|change| {
            let addresses: Vec<_> = change.binds_removed.iter().map(ToString::to_string).collect();
            let of = open(&change.name);
            format!("listener {}: of {of}, those to {} to drain", change.name, addresses.join(", "))
        });
        let leaving = diff.pools.changed.iter().filter(|change| !change.endpoints_removed.is_empty());
        let leaving = leaving.map(|change| {
            let endpoints = change.endpoints_removed.join(", ");
            format!("pool {}: requests under way at {endpoints} end there", change.name)
        });
        removed.chain(changed).chain(leaving).collect()
    }
}

/// What goes on as it is.
fn kept(plan: &Plan, diff: &Diff) -> Vec<String> {
    let listeners = plan.listeners.len() - diff.listeners.added.len();
    let stays = |name: &Name| !diff.pools.added.contains(name);
    let pools: Vec<_> = plan.pools.iter().filter(|pool| stays(&pool.name)).collect();
    let joined: usize = diff.pools.changed.iter().map(|change| change.endpoints_added.len()).sum();
    let endpoints = pools.iter().map(|pool| pool.endpoints.len()).sum::<usize>().saturating_sub(joined);
    let found = pools.iter().any(|pool| pool.discovery.finds_any());
    let found = if found { " and of those that are found" } else { "" };
    let (listeners, endpoints) = (counted(listeners, "listener"), counted(endpoints, "endpoint") + found);
    let pools = counted(pools.len(), "pool");
    vec![
        format!("kept: {listeners} with sockets and connections"),
        format!("kept: {pools} with connections, health, latency estimates and counters of {endpoints}"),
    ]
}

fn counted(count: impl TryInto<u64>, noun: &str) -> String {
    let count = count.try_into().unwrap_or(u64::MAX);
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// As much of a measured time as is worth reading, rounded up.
fn rough(time: Duration) -> Duration {
    let micros = time.as_micros().try_into().unwrap_or(u64::MAX);
    if micros < 1000 { Duration::from_micros(micros) } else { Duration::from_millis(micros.div_ceil(1000)) }
}

/// Why an address cannot be bound now, if so. Unix sockets are not tried, for trying leaves a file.
fn unbindable(address: &Address) -> Option<String> {
    match address {
        Address::Inet(_) | Address::Udp(_) => {
            listen::bind(address, 1).err().map(|error| format!("cannot listen on {address}: {error}"))
        }
        Address::Unix(_) => None,
    }
}

impl Preview {
    /// As the admin listener shows it.
    #[must_use]
    pub fn to_json(&self) -> Value {
        match self {
            Self::Bad(problems) => json!({ "result": "failed", "problems": problems }),
            Self::Valid { generation, diff, drains, kept, report } => json!({
                "result": "valid",
                "generation": generation,
                "changes": !diff.is_empty(),
                "diff": diff.to_json(),
                "drains": drains,
                "kept": kept,
                "warnings": report,
                "text": self.text(&diff.to_string()),
                "coloured": self.text(&diff.coloured()),
            }),
        }
    }

    fn text(&self, diff: &str) -> String {
        let Self::Valid { generation, drains, kept, diff: of, .. } = self else { return String::new() };
        let mut text = format!("against generation {generation}, which is in force:\n{diff}");
        if !of.is_empty() {
            for line in drains.iter().chain(kept) {
                // Writing to a string does not fail.
                let _ = writeln!(text, "  {line}");
            }
        }
        text
    }
}
