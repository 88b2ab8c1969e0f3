//! A report as Markdown, to be pasted into an incident note: the summary first, then figures, then what
//! happened, then where. What there is nothing to say of is left out. Pure.

use std::time::Duration;

use super::happening::{Kind, Subject};
use super::sparkline::sparkline;
use super::summary::summary;
use super::words::{availability, clock, code, count, date, lasted, many, number, percent, plain, took};
use super::{Course, Figures, PERIOD, PoolLine, Report, RouteLine, Step};
use crate::observe::metrics::PASSED_ON;

impl Report {
    /// The account, in Markdown with tables as GitHub has them.
    #[must_use]
    pub fn markdown(&self) -> String {
        let sections = [
            self.head(),
            self.traffic(),
            self.availability(),
            self.latency(),
            self.time_line(),
            self.out(),
            self.pool_table(),
            self.failing_routes(),
            self.slowest_routes(),
            self.to_look_at(),
        ];
        sections.into_iter().flatten().collect::<Vec<_>>().join("\n")
    }

    fn head(&self) -> Option<String> {
        let process = &self.process;
        let short: String = process.hash.chars().take(12).collect();
        let cut = if self.span() + SLACK < self.asked {
            format!(" ({} were asked for: nothing is known of the time before)", lasted(self.asked))
        } else {
            String::new()
        };
        Some(format!(
            "# Forebay: the last {}\n\n{}\n\n\
             - Time: {} to {} UTC{cut}\n\
             - Process: forebay {}, number {}, up for {}, {}\n\
             - Configuration: generation {}, hash {}\n",
            lasted(self.span()),
            summary(self),
            date(self.from),
            clock(self.to),
            plain(&process.version),
            process.pid,
            lasted(self.to.duration_since(process.started).unwrap_or_default()),
            many(process.workers, "worker"),
            process.generation,
            code(&short),
        ))
    }

    fn traffic(&self) -> Option<String> {
        let Course { whole, busy, .. } = &self.course;
        let mut rows = vec![
            [self.counted().to_owned(), count(whole.requests)],
            ["a second, mean and at most".to_owned(), {
                format!(
                    "{} and {}",
                    number(self.rate()),
                    number(self.course.greatest_rate(|step| step.requests))
                )
            }],
            ["Failed (5xx)".to_owned(), format!("{} ({})", count(whole.errors), percent(whole.failing()))],
            ["In flight, most seen".to_owned(), number(self.course.greatest(|step| step.in_flight))],
            ["Connections, most seen".to_owned(), number(self.course.greatest(|step| step.connections))],
        ];
        if let Some(busy) = busy {
            let most = self.course.greatest(|step| step.busy.unwrap_or_default());
            rows.push(["Workers busy, mean and at most".to_owned(), {
                format!("{} and {}", percent(*busy), percent(most))
            }]);
        }
        Some(format!("## Traffic\n\n{}{}", table(["", ""], &rows), self.lines()))
    }

    /// What is counted as traffic.
    fn counted(&self) -> &'static str {
        let is_passed_on = |line: &RouteLine| {
            line.labels.as_ref().is_some_and(|(_, route, _)| PASSED_ON.contains(&route.as_str()))
        };
        if self.routes.iter().any(is_passed_on) { "Requests, connections and flows" } else { "Requests" }
    }

    /// The course of requests, errors and latency as lines of signs.
    fn lines(&self) -> String {
        let Course { steps, step, .. } = &self.course;
        if steps.is_empty() {
            return String::new();
        }
        let line = |name: &str, greatest: String, of: fn(&Step) -> f64| {
            let values: Vec<_> = steps.iter().map(of).collect();
            format!("{name:<9}{}  up to {greatest}\n", sparkline(&values, WIDTH).0)
        };
        let rate = |of: fn(&Step) -> u64| format!("{}/s", number(self.course.greatest_rate(of)));
        let slowest = steps.iter().filter_map(|step| step.p99).max();
        let (first, each) = sparkline(&vec![0.0; steps.len()], WIDTH);
        let sign = lasted(step.saturating_mul(u32::try_from(each).unwrap_or(u32::MAX)));
        let room = first.chars().count().saturating_sub(CLOCK_WIDTH).max(CLOCK_WIDTH + 1);
        let times = format!("{:9}{:<room$}{}  {sign} a sign\n", "", clock(self.from), clock(self.to));
        format!(
            "\n```text\n{}{}{}{times}```\n",
            line("requests", rate(|step| step.requests), |step| step.requests as f64),
            line("errors", rate(|step| step.errors), |step| step.errors as f64),
            line("p99", took(slowest), |step| step.p99.map_or(0.0, |p99| p99.as_secs_f64())),
        )
    }

    fn availability(&self) -> Option<String> {
        let budget = self.budget();
        let (reached, burnt) = (budget.availability()?, budget.burn_rate()?);
        let row = [
            budget.objective.to_string(),
            availability(reached),
            number(budget.allowed()),
            count(budget.errors),
            percent(burnt),
            number(burnt),
        ];
        let head = ["Objective", "Reached", "Failures allowed", "Failures", "Budget used", "Burn rate"];
        let days = PERIOD.as_secs() / 86_400;
        let pace = match (budget.lasts(), budget.of_period()) {
            (Some(lasts), Some(used)) => format!(
                "At this pace the budget of {days} days lasts {}; at even traffic this time used {} of it. ",
                lasted(lasts),
                percent(used)
            ),
            _ => String::new(),
        };
        Some(format!(
            "## Availability\n\n{}\n{pace}The burn rate is the share that failed over the share that may \
             (Google SRE Workbook, chapter 5); 5xx count as failures, clients that left do not.\n",
            table(head, &[row])
        ))
    }

    fn latency(&self) -> Option<String> {
        let Figures { requests, p50, p90, p99, .. } = self.course.whole;
        let slowest = self.course.steps.iter().filter_map(|step| step.p99).max();
        let step = lasted(self.course.step);
        let worst = format!("p99 of the worst {step}");
        let row = [p50, p90, p99, slowest].map(took);
        (requests > 0)
            .then(|| format!("## Latency\n\n{}", table(["p50", "p90", "p99", worst.as_str()], &[row])))
    }

    fn time_line(&self) -> Option<String> {
        let told: Vec<_> = self
            .happened
            .iter()
            .map(|own| {
                let again = match own.times {
                    1 => String::new(),
                    2 => format!(" (and once more, at {})", clock(own.until)),
                    times => format!(" (and {} times more, until {})", times - 1, clock(own.until)),
                };
                let what = match own.kind {
                    Kind::Ejected | Kind::FailedReload => format!("**{}**", own.kind.name()),
                    kind => kind.name().to_owned(),
                };
                [clock(own.at), what, subject(&own.subject), plain(&own.words) + &again]
            })
            .collect();
        let left_out = told.len().saturating_sub(MOST_EVENTS);
        let before = if left_out > 0 {
            format!("{} before these are left out.\n\n", count(left_out as u64))
        } else {
            String::new()
        };
        let rows = told.get(left_out..).unwrap_or_default();
        let head = ["Time", "What", "Where", "Why"];
        (!rows.is_empty()).then(|| format!("## What happened\n\n{before}{}", table(head, rows)))
    }

    fn out(&self) -> Option<String> {
        let row = |own: &super::Outage| {
            let now = own.still.map_or("back", |state| state.name());
            let name = code(&format!("{}/{}", own.pool, own.endpoint));
            [name, count(own.times.into()), lasted(own.lasted), now.replace('_', " "), plain(&own.why)]
        };
        let rows: Vec<_> = self.outages.iter().take(MOST_ROWS).map(row).collect();
        let head = ["Endpoint", "Times out", "Out for", "Now", "Why, the last time"];
        (!rows.is_empty()).then(|| format!("## Endpoints without traffic\n\n{}", table(head, &rows)))
    }

    fn pool_table(&self) -> Option<String> {
        let mut pools: Vec<_> = self.pools.iter().collect();
        pools.sort_by_key(|pool| std::cmp::Reverse((pool.figures.errors, pool.figures.requests)));
        let out = |line: &PoolLine| {
            self.outages.iter().filter(|outage| line.pool.as_ref() == Some(&outage.pool)).count()
        };
        let rows: Vec<_> = pools.into_iter().take(MOST_ROWS).map(|line| pool_row(line, out(line))).collect();
        let head = [
            "Pool",
            "Requests",
            "Failed",
            "p50",
            "p99",
            "Endpoints now",
            "Out meanwhile",
            "Utilisation, mean and most",
            "Wait, p99",
        ];
        (!rows.is_empty()).then(|| format!("## Pools\n\n{}", table(head, &rows)))
    }

    fn failing_routes(&self) -> Option<String> {
        let mut routes: Vec<_> = self.routes.iter().filter(|route| route.figures.errors > 0).collect();
        routes.sort_by_key(|route| std::cmp::Reverse(route.figures.errors));
        route_table("Failing routes", &routes)
    }

    fn slowest_routes(&self) -> Option<String> {
        let mut routes: Vec<_> = self.routes.iter().filter(|route| route.figures.p99.is_some()).collect();
        routes.sort_by_key(|route| std::cmp::Reverse(route.figures.p99));
        route_table("Slowest routes", &routes)
    }

    fn to_look_at(&self) -> Option<String> {
        let lines: String = self.warnings.iter().map(|line| format!("- {}\n", plain(line))).collect();
        (!lines.is_empty()).then(|| format!("## To look at now\n\n{lines}"))
    }
}

/// A pool, of which `out` endpoints were without traffic.
fn pool_row(line: &PoolLine, out: usize) -> [String; 9] {
    let Figures { requests, errors, p50, p99, .. } = line.figures;
    let (available, total) = line.endpoints;
    let (mean, most) = line.utilisation;
    let wanted =
        line.desired.map(|desired| format!(", {} wanted", count(desired.into()))).unwrap_or_default();
    [
        line.pool.as_deref().map_or_else(|| "all others".to_owned(), code),
        count(requests),
        failed(errors, &line.figures),
        took(p50),
        took(p99),
        format!("{} of {}{wanted}", count(available), count(total)),
        count(out as u64),
        format!("{} and {}", percent(mean), percent(most)),
        took(line.wait_p99),
    ]
}

fn route_table(title: &str, routes: &[&RouteLine]) -> Option<String> {
    let row = |line: &&RouteLine| {
        let Figures { requests, errors, p50, p90, p99 } = line.figures;
        let [route, pool] = match &line.labels {
            Some((listener, route, pool)) => {
                let pool = pool.as_deref().map_or_else(|| "–".to_owned(), code);
                [code(&format!("{listener}/{route}")), pool]
            }
            None => ["all others".to_owned(), String::new()],
        };
        [route, pool, count(requests), failed(errors, &line.figures), took(p50), took(p90), took(p99)]
    };
    let rows: Vec<_> = routes.iter().take(MOST_ROUTES).map(row).collect();
    let head = ["Route", "Pool", "Requests", "Failed", "p50", "p90", "p99"];
    (!rows.is_empty()).then(|| format!("## {title}\n\n{}", table(head, &rows)))
}

fn failed(errors: u64, figures: &Figures) -> String {
    if errors == 0 { "0".to_owned() } else { format!("{} ({})", count(errors), percent(figures.failing())) }
}

fn subject(subject: &Subject) -> String {
    match subject {
        Subject::Process => "configuration".to_owned(),
        Subject::Pool(pool) => code(pool),
        Subject::Endpoint(pool, endpoint) => code(&format!("{pool}/{endpoint}")),
    }
}

/// A table. A head of empty cells is one that Markdown demands and nobody reads.
fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let mut text = format!("| {} |\n|{}\n", head.join(" | "), "---|".repeat(N));
    for row in rows {
        text.push_str(&format!("| {} |\n", row.join(" | ")));
    }
    text
}

/// Signs in a course.
const WIDTH: usize = 60;

/// Signs of a time of day.
const CLOCK_WIDTH: usize = 8;

/// Events that are told of.
const MOST_EVENTS: usize = 60;

/// Pools and endpoints that are told of.
const MOST_ROWS: usize = 20;

/// Routes in each of their tables.
const MOST_ROUTES: usize = 10;

/// By how much less than was asked for may be known without a word: steps are counted when they are over.
const SLACK: Duration = Duration::from_secs(12);
