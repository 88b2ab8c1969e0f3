//! What settings cost a request: Forebay with some beside the same Forebay with others, in the same
//! interleaved rounds, and by instructions under callgrind, which do not depend on what else the
//! machine does. Does not know what the settings are for.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use crate::Failure;
use crate::cases::Case;
use crate::cpu;
use crate::ground::{Ground, PROXY_CORE};
use crate::launch::{self, Running};
use crate::load;
use crate::options::Options;
use crate::peers::free_port;
use crate::speed::WARM_UP;
use crate::statistics::median;

/// What a file says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// In words, as in "… µs with" them.
    pub(crate) words: &'static str,
    /// Lines of the route.
    pub(crate) route: &'static str,
    /// Lines of the pool.
    pub(crate) pool: &'static str,
}

/// Measures both settings and tells as Markdown what the second cost more than the first.
///
/// # Errors
/// Where Forebay or the load fails.
pub(crate) fn section(
    name: &str,
    both: [Settings; 2],
    ground: &Ground,
    options: &Options,
) -> Result<String, Failure> {
    let mut differences = Vec::new();
    let mut all = [Vec::new(), Vec::new()];
    for round in 0..options.rounds() {
        let [without, with] = pair(ground, both, options.window())?;
        eprintln!("{name}, round {}: {without:.2} us without, {with:.2} us with", round + 1);
        differences.push(with - without);
        for (list, figure) in all.iter_mut().zip([without, with]) {
            list.push(figure);
        }
    }
    let [without, with] = all.map(|list| median(&list).unwrap_or(f64::NAN));
    let difference = median(&differences).unwrap_or(f64::NAN);
    let mut text = format!(
        "CPU per request of 64 kept HTTP/1.1 connections over four endpoints (the origin under four \
         addresses), medians of {} rounds: {without:.2} µs with {}, {with:.2} µs with {}; the median of the \
         rounds' differences is **{difference:+.2} µs**.\n",
        options.rounds(),
        both[0].words,
        both[1].words,
    );
    match both.map(|settings| instructions(ground, settings)) {
        [Ok(without), Ok(with)] => {
            text += &format!(
                "\nUser instructions per request under callgrind: {without:.0} and {with:.0}, {:+.0}.\n",
                with - without
            );
        }
        [first, second] => {
            for failure in [first, second].into_iter().filter_map(Result::err) {
                eprintln!("{name}: no instructions counted: {failure}");
            }
        }
    }
    Ok(text)
}

/// One window for each, there and back again.
fn pair(ground: &Ground, both: [Settings; 2], window: Duration) -> Result<[f64; 2], Failure> {
    let mut serving = Vec::new();
    for settings in both {
        let (process, address) = start(ground, settings, &[])?;
        load::run(ground, &Case::H1.shape(), address, WARM_UP)?;
        serving.push((process, address, Duration::ZERO, 0_u64));
    }
    for place in [0, 1, 1, 0, 0, 1, 1, 0] {
        let Some((process, address, cpu, requests)) = serving.get_mut(place) else { continue };
        let before = cpu::used(process.id())?;
        let counted = load::run(ground, &Case::H1.shape(), *address, window / 2)?;
        *cpu += cpu::used(process.id())?.saturating_sub(before);
        *requests += counted.requests;
    }
    let mut figures = [f64::NAN; 2];
    for (figure, (_, _, cpu, requests)) in figures.iter_mut().zip(&serving) {
        *figure = cpu.as_secs_f64() * 1e6 / (*requests).max(1) as f64;
    }
    Ok(figures)
}

/// Instructions per request: the difference between a long run and a short one, so that start and end
/// do not count.
fn instructions(ground: &Ground, settings: Settings) -> Result<f64, Failure> {
    let mut measured = Vec::new();
    for time in [Duration::from_secs(3), Duration::from_secs(9)] {
        let out = ground.dir().join("callgrind.out");
        let tool = ["--tool=callgrind".to_owned(), format!("--callgrind-out-file={}", out.display())];
        let (process, address) =
            start(ground, settings, &[["valgrind".to_owned()].as_slice(), &tool].concat())?;
        let counted = load::run(ground, &Case::H1.shape(), address, time)?;
        process.stop(Duration::from_secs(60))?;
        let text = fs::read_to_string(&out)?;
        let total = text.lines().find_map(|line| line.strip_prefix("totals: ")).ok_or("no totals")?;
        measured.push((total.trim().parse::<f64>()?, counted.requests as f64));
    }
    match measured.as_slice() {
        [(short, few), (long, many)] if many > few => Ok((long - short) / (many - few)),
        _ => Err("the longer run answered no more requests".into()),
    }
}

/// Starts Forebay before the origin under four addresses, in `wrapper` if there is one.
fn start(ground: &Ground, settings: Settings, wrapper: &[String]) -> Result<(Running, SocketAddr), Failure> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
    let port = ground.origin().port();
    let endpoints: Vec<_> = (1..=4).map(|host| format!("\"127.0.0.{host}:{port}\"")).collect();
    let Settings { route, pool, .. } = settings;
    let text = format!(
        "[admin]\nbind = \"127.0.0.1:{}\"\n[[listener]]\nname = \"web\"\nbind = \"{address}\"\n\
         [[route]]\npool = \"app\"\n{route}\n[pool.app]\nendpoints = [{}]\n{pool}\n",
        free_port()?,
        endpoints.join(", ")
    );
    let path = ground.dir().join(format!("beside-{}.toml", address.port()));
    fs::write(&path, text)?;
    let mut command: Command = match wrapper {
        [] => launch::command(PROXY_CORE, ground.forebay()),
        [program, arguments @ ..] => {
            let mut command = launch::command(PROXY_CORE, program);
            command.args(arguments).arg(ground.forebay());
            command
        }
    };
    command.arg("run").arg("-c").arg(path).args(["--workers", "1"]);
    let mut process = Running::start(&mut command, &ground.dir().join("beside.out"))?;
    process.wait_for_listener(address)?;
    Ok((process, address))
}
