//! `top`: a running Forebay, live. Asks once a second, shows the difference, and takes a few keys. What is
//! shown is decided in `view`, how it looks in `draw`.

mod draw;
mod sample;
mod view;

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};

use super::running::{Admin, Running};
use super::{Failure, print, takes_colours};
use crate::ambient;
use crate::model::units;
use sample::Sample;
use view::{Asking, View};

/// `forebay top`.
#[derive(Debug, Args)]
pub struct Top {
    /// Print plain lines once, and end
    #[arg(long)]
    pub once: bool,
    /// How often to ask
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = interval)]
    pub interval: Duration,
    /// Of which running Forebay.
    #[command(flatten)]
    pub running: Running,
}

fn interval(text: &str) -> Result<Duration, String> {
    match units::duration(text) {
        Ok(time) if (SHORTEST..=LONGEST).contains(&time) => Ok(time),
        Ok(_) => Err("it is from 100ms to 1h".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Watches until it is told to end.
///
/// # Errors
/// When nobody answers at first, or the terminal cannot be used.
pub fn top(args: &Top) -> Result<ExitCode, Failure> {
    let admin = args.running.admin()?;
    let mut view = View::new(Sample::take(&admin)?);
    if args.once || !io::stdout().is_terminal() {
        return plainly(args, &admin, &mut view);
    }
    let mut terminal = ratatui::try_init().map_err(Failure::Output)?;
    let outcome = live(args, admin, &mut view, &mut terminal);
    ratatui::restore();
    outcome?;
    Ok(ExitCode::SUCCESS)
}

/// Lines under one another; with `--once`, those of one interval.
fn plainly(args: &Top, admin: &Admin, view: &mut View) -> Result<ExitCode, Failure> {
    loop {
        std::thread::sleep(args.interval);
        view.take(Sample::take(admin)?);
        print(&draw::lines(view))?;
        io::stdout().flush().map_err(Failure::Output)?;
        if args.once {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

fn live(
    args: &Top,
    mut admin: Admin,
    view: &mut View,
    terminal: &mut DefaultTerminal,
) -> Result<(), Failure> {
    let colours = takes_colours(&io::stdout());
    let mut due = ambient::now() + args.interval;
    loop {
        terminal.draw(|frame| draw::draw(frame, view, colours)).map_err(Failure::Output)?;
        if !keys_until(due, view).map_err(Failure::Output)? {
            return Ok(());
        }
        if let Some((path, word)) = view.order() {
            let said = admin.ask("POST", &format!("{path}/{word}"));
            view.say(said.map_or_else(|failure| failure.report(), |_| format!("{word}: done")));
        }
        if ambient::now() >= due {
            due = ambient::now() + args.interval;
            match Sample::take(&admin) {
                Ok(sample) => view.take(sample),
                Err(failure) => {
                    view.say(failure.report());
                    // It may be back soon, with another token perhaps.
                    admin = args.running.admin().unwrap_or(admin);
                }
            }
        }
    }
}

/// Takes keys until one of them changes something or it is time; false when it is to end.
fn keys_until(due: Instant, view: &mut View) -> io::Result<bool> {
    let left = due.saturating_duration_since(ambient::now());
    if !event::poll(left)? {
        return Ok(true);
    }
    let Event::Key(key) = event::read()? else { return Ok(true) };
    if key.kind == KeyEventKind::Release {
        return Ok(true);
    }
    if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
        return Ok(false);
    }
    Ok(on_key(key.code, view))
}

/// What a key does; false when it ends.
fn on_key(key: KeyCode, view: &mut View) -> bool {
    if let Some(asking) = view.asking() {
        match key {
            KeyCode::Char('y') => view.answer(true),
            _ => view.answer(false),
        }
        return !matches!((asking, key), (_, KeyCode::Char('q')));
    }
    match key {
        KeyCode::Char('q') | KeyCode::Esc => return false,
        KeyCode::Up | KeyCode::Char('k') => view.select(-1),
        KeyCode::Down | KeyCode::Char('j') => view.select(1),
        KeyCode::PageUp => view.select(-10),
        KeyCode::PageDown => view.select(10),
        KeyCode::Left => view.sort(-1),
        KeyCode::Right | KeyCode::Char('s') => view.sort(1),
        KeyCode::Char('d') => view.ask(Asking::Drain),
        KeyCode::Char('u') => view.ask(Asking::Undrain),
        _ => {}
    }
    true
}

const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(3600);

/// What `top --help` ends with.
pub(super) const HELP: &str = "\
Keys:
  up, down         select a line          d   drain the selected endpoint, u to end that
  left, right, s   sort by a column       q   quit

Examples:
  forebay top
  forebay top --once                 plain lines, for scripts
  forebay top --interval 5s --admin unix:/run/forebay/admin.sock

Rates and percentiles are of the last interval; percentiles are of the time to the first byte. The
heading counts requests of clients and answers from 500 on, and by themselves connections and flows
that are passed on; the lines count requests, connections and flows that endpoints got, and errors
of theirs.
Without a terminal it prints plain lines. NO_COLOR turns colours off.";
