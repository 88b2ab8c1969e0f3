//! What two workers carry against one, on a machine that has no core to spare for the load. Two
//! methods: CPU per request while two workers run on two cores (what sharing costs), and requests/s
//! while a CPU quota, not a core, is what limits each worker (so load and origin have room).

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::Failure;
use crate::cases::Case;
use crate::cpu;
use crate::ground::{Ground, LOAD_CORE, PROXY_CORE};
use crate::load;
use crate::options::{Dressing, Options, Work};
use crate::peers::{Proxy, Serving, Start};
use crate::quiet::DISTURBED;
use crate::quota::Quota;
use crate::speed::{self, Reading, WARM_UP};
use crate::statistics::median;

/// Measures each proxy with one and with two workers and tells it as Markdown.
///
/// # Errors
/// Where a proxy or the load fails, or no CPU quota can be set.
pub(crate) fn section(ground: &Ground, options: &Options) -> Result<String, Failure> {
    let mut rows: Vec<Vec<[Reading; 4]>> = options.proxies.iter().map(|_| Vec::new()).collect();
    for round in 0..options.rounds() {
        for (proxy, readings) in options.proxies.iter().zip(&mut rows) {
            readings.push(trials(ground, options, *proxy, round)?);
        }
    }
    let rows: Vec<_> = rows.into_iter().map(speed::calm).collect();
    Ok(tell(options, &rows))
}

/// All four, in an order that every other round turns round.
fn trials(ground: &Ground, options: &Options, proxy: Proxy, round: u32) -> Result<[Reading; 4], Failure> {
    let mut taken = [Reading::default(); 4];
    let mut order: Vec<_> = taken.iter_mut().zip(TRIALS).collect();
    if !round.is_multiple_of(2) {
        order.reverse();
    }
    for (reading, trial) in order {
        *reading = self::reading(ground, options, proxy, trial)
            .map_err(|failure| format!("{}, {trial:?}: {failure}", proxy.name()))?;
        eprintln!("scaling, round {}: {:7} {trial:?}: {reading}", round + 1, proxy.name());
    }
    Ok(taken)
}

/// One way of running a proxy.
#[derive(Debug, Clone, Copy)]
struct Trial {
    workers: u32,
    limited: bool,
}

const TRIALS: [Trial; 4] = [
    Trial { workers: 1, limited: false },
    Trial { workers: 2, limited: false },
    Trial { workers: 1, limited: true },
    Trial { workers: 2, limited: true },
];

fn reading(ground: &Ground, options: &Options, proxy: Proxy, trial: Trial) -> Result<Reading, Failure> {
    let cores = if trial.workers == 1 { PROXY_CORE } else { &format!("{PROXY_CORE},{LOAD_CORE}") };
    // Before the proxy, so that it is dropped after it: a cgroup in use cannot be removed.
    let quota = if trial.limited { Some(Quota::grant(options.share * trial.workers)?) } else { None };
    let start = Start { work: Work::Requests(Dressing::Added), workers: trial.workers, cores };
    let serving = Serving::start(ground, proxy, start)?;
    let shape = Case::H1.shape();
    let listener = serving.address(shape.door);
    let idle = cpu::threads(serving.id())?;
    load::run(ground, &shape, listener, WARM_UP)?;
    pin_busiest(serving.id(), &idle, trial.workers)?;
    if let Some(quota) = &quota {
        quota.hold(serving.id())?;
        load::run(ground, &shape, listener, WARM_UP)?;
    }
    speed::window(ground, &serving, Case::H1, (options.window(), options.patience()))
}

/// Gives each worker a core of its own. The workers are the threads that worked since `idle`.
fn pin_busiest(process: u32, idle: &[cpu::Thread], workers: u32) -> Result<(), Failure> {
    let mut threads = cpu::threads(process)?;
    for thread in &mut threads {
        let earlier = idle.iter().find(|earlier| earlier.id == thread.id);
        thread.used = thread.used.saturating_sub(earlier.map_or_else(Default::default, |thread| thread.used));
    }
    threads.sort_by_key(|thread| std::cmp::Reverse(thread.used));
    for (core, thread) in threads.iter().take(workers as usize).enumerate() {
        let mut set = CpuSet::new();
        set.set(core);
        sched_setaffinity(i32::try_from(thread.id).ok().and_then(Pid::from_raw), &set)?;
    }
    Ok(())
}

fn tell(options: &Options, rows: &[Vec<[Reading; 4]>]) -> String {
    let share = options.share;
    let mut text = format!(
        "{} rounds, windows of {} s, load `h1`; medians.\n\n\
         | | CPU µs/request, 1 worker on one core | 2 workers on two cores | 2 × the first / the second | \
         requests/s, 1 worker granted {share} % of a core (used) | 2 workers granted {double} % (used) | \
         the second / the first |\n|---|---|---|---|---|---|---|\n",
        options.rounds(),
        options.window().as_secs(),
        double = share * 2,
    );
    let mut remarks = String::new();
    for (proxy, rounds) in options.proxies.iter().zip(rows) {
        let of = |figure: &dyn Fn(&[Reading; 4]) -> f64| {
            median(&rounds.iter().map(figure).collect::<Vec<_>>()).unwrap_or(f64::NAN)
        };
        text += &format!(
            "| {} | {:.1} | {:.1} | **{:.2}** | {:.0} ({:.1} %) | {:.0} ({:.1} %) | **{:.2}** |\n",
            proxy.name(),
            of(&|[free_one, ..]| free_one.cpu_per_request()),
            of(&|[_, free_two, ..]| free_two.cpu_per_request()),
            of(&|[free_one, free_two, ..]| 2.0 * free_one.cpu_per_request() / free_two.cpu_per_request()),
            of(&|[.., one, _]| one.rate()),
            of(&|[.., one, _]| one.busy() * 100.0),
            of(&|[.., two]| two.rate()),
            of(&|[.., two]| two.busy() * 100.0),
            of(&|[.., one, two]| two.rate() / one.rate()),
        );
        let most = rounds.iter().flatten().map(|reading| reading.others).fold(0.0, f64::max);
        if most >= DISTURBED {
            remarks += &format!(
                "\nEvery round of {} was disturbed: other work used up to {:.0} % of a core.\n",
                proxy.name(),
                most * 100.0,
            );
        }
    }
    text + &remarks
}
