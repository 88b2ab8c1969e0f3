//! `log`: requests of a running Forebay as they end, or the lines of an access log, those that are wanted.

mod file;
mod line;

use std::io::{self, Write as _};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::running::Running;
use super::{Failure, takes_colours};
use crate::model::{percent, units};
use crate::observe::access_log::{Client, StatusRange, Wanted};
use line::Line;

/// `forebay log`.
#[derive(Debug, Args)]
pub struct Log {
    /// Follow this access log instead of asking a running Forebay; `-` for standard input
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["config", "admin", "token_file", "ca"])]
    pub file: Option<PathBuf>,
    /// With how many lines at the end of the file to begin; `all` for the whole of it
    #[arg(short = 'n', long, value_name = "N", default_value = "10", requires = "file")]
    pub last: Last,
    /// End at the end of the file
    #[arg(long, requires = "file")]
    pub no_follow: bool,
    /// Which ones.
    #[command(flatten)]
    pub which: Which,
    /// Print lines as JSON
    #[arg(long)]
    pub json: bool,
    /// Of which running Forebay.
    #[command(flatten)]
    pub running: Running,
}

/// Which requests to show.
#[derive(Debug, Args)]
pub struct Which {
    /// Statuses, such as 404, 5xx or 400-499
    #[arg(short, long, value_name = "STATUS")]
    pub status: Option<StatusRange>,
    /// Of this listener
    #[arg(long, value_name = "NAME")]
    pub listener: Option<String>,
    /// Of this route
    #[arg(short, long, value_name = "NAME")]
    pub route: Option<String>,
    /// Of this pool
    #[arg(short, long, value_name = "NAME")]
    pub pool: Option<String>,
    /// That this endpoint answered, or failed last
    #[arg(short, long, value_name = "ENDPOINT")]
    pub endpoint: Option<String>,
    /// Of this client, an address or a network
    #[arg(long, value_name = "ADDRESS")]
    pub client: Option<Client>,
    /// That took this long at least
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    pub slower_than: Option<Duration>,
    /// Whose line has this text in it
    #[arg(short, long, value_name = "TEXT")]
    pub text: Option<String>,
}

/// With how many lines of a file to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Last {
    /// With so many of its last ones.
    Lines(usize),
    /// With the first one.
    All,
}

impl std::str::FromStr for Last {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(Self::All),
            _ => text.parse().map(Self::Lines).map_err(|_| "it is a number of lines, or `all`".to_owned()),
        }
    }
}

/// Shows what is wanted until there is no more, or nobody reads it.
///
/// # Errors
/// When nobody answers, the file cannot be read, or standard output not be written.
pub fn log(args: &Log) -> Result<ExitCode, Failure> {
    let screen = Screen::new(args);
    let mut failed = None;
    let mut tell = |text: &str| match screen.show(text) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => {
            failed = Some(error);
            ControlFlow::Break(())
        }
    };
    match &args.file {
        Some(path) => file::follow(path, args.last, args.no_follow, &mut tell)?,
        None => {
            let target = format!("/v1/log/access{}", args.which.query());
            args.running.admin()?.follow(&target, |line| tell(line).is_continue())?;
        }
    }
    match failed {
        // As with `head`: whoever read has seen enough.
        Some(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::Output(error)),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Standard output, and what is to be seen there.
struct Screen<'a> {
    wanted: Wanted,
    text: Option<&'a str>,
    json: bool,
    colours: bool,
}

impl<'a> Screen<'a> {
    fn new(args: &'a Log) -> Self {
        Self {
            wanted: args.which.wanted(),
            text: args.which.text.as_deref(),
            json: args.json,
            colours: takes_colours(&io::stdout()),
        }
    }

    fn show(&self, text: &str) -> io::Result<()> {
        let Some(shown) = self.shown(text) else { return Ok(()) };
        let mut out = io::stdout().lock();
        out.write_all(shown.as_bytes())?;
        out.flush()
    }

    /// What is shown of a line, with its line feed, if it is wanted.
    fn shown(&self, text: &str) -> Option<String> {
        let line = Line::read(text);
        if let Some(lost) = line.lost() {
            return Some(format!("... {lost} came too fast and are missing\n"));
        }
        if !self.text.is_none_or(|wanted| text.contains(wanted)) || !self.wanted.takes(&line.facts()) {
            return None;
        }
        Some(if self.json { line.json(text) } else { line.pretty(text, self.colours) } + "\n")
    }
}

impl Which {
    fn wanted(&self) -> Wanted {
        Wanted {
            status: self.status,
            listener: self.listener.clone(),
            route: self.route.clone(),
            pool: self.pool.clone(),
            endpoint: self.endpoint.clone(),
            client: self.client,
            slower_than: self.slower_than,
        }
    }

    /// The same as the admin listener takes it; it does not know of the text.
    fn query(&self) -> String {
        let asked = [
            ("status", self.status.map(|status| status.to_string())),
            ("listener", self.listener.clone()),
            ("route", self.route.clone()),
            ("pool", self.pool.clone()),
            ("endpoint", self.endpoint.clone()),
            ("client", self.client.map(|client| client.to_string())),
            ("slower_than", self.slower_than.map(units::show)),
        ];
        let asked = asked.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let mut query = String::new();
        for (name, value) in asked {
            query.push(if query.is_empty() { '?' } else { '&' });
            query.push_str(&format!("{name}={}", percent::encode(&value)));
        }
        query
    }
}

/// What `log --help` ends with.
pub(super) const HELP: &str = "\
Examples:
  forebay log                                             every request as it ends
  forebay log --status 5xx --pool app                     what fails in a pool
  forebay log --slower-than 500ms --route api
  forebay log --file access.log --text /login             a file, its last lines first
  zcat access.log.*.gz | forebay log --file - --status 499

What a running Forebay shows does not depend on what it logs. Files may be in any of the formats of
access logs; where those have no such field, nothing is shown to who asks for it.
NO_COLOR turns colours off; there are none where standard output is no terminal.";

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::super::{Cli, Command};
    use super::*;

    fn parsed(line: &str) -> Log {
        match Cli::try_parse_from(line.split(' ')).unwrap().command {
            Command::Log(log) => log,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_asked_for_is_what_is_filtered() {
        assert_eq!(parsed("forebay log").which.query(), "");
        let log = parsed("forebay log -s 5xx --client 10.0.0.0/8 -r a%b --slower-than 1s500ms -t x");
        let query = "?status=500-599&route=a%25b&client=10.0.0.0%2F8&slower_than=1s500ms";
        assert_eq!(log.which.query(), query);
    }

    #[test]
    fn lines_that_are_not_wanted_are_left_out() {
        let line = r#"{"time":"2026-01-31T12:00:00.123Z","status":502,"route":"api","target":"/x"}"#;
        let shown = |more: &str| {
            let log = parsed(&format!("forebay log --json{more}"));
            Screen::new(&log).shown(line)
        };
        assert_eq!(shown(""), Some(format!("{line}\n")));
        assert_eq!(shown(" --text /x --status 5xx --route api"), Some(format!("{line}\n")));
        assert_eq!(shown(" --text /y"), None);
        assert_eq!(shown(" --status 404"), None);
        assert_eq!(shown(" --pool app"), None);
        let lost = Screen::new(&parsed("forebay log")).shown(r#"{"lost":7}"#);
        assert!(lost.unwrap().contains("7 came too fast"));
    }
}
