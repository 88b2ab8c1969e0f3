//! `why`: tells in words what state an endpoint is in, or was in, and what led to it. Reads what the
//! admin listener has in its journal and judges nothing anew.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use serde_json::Value;

use super::Failure;
use super::running::{Running, Which, full_name, names, path_of};
use crate::ambient;
use crate::control::health::recording::Told;
use crate::model::{json, units};
use crate::observe::civil;

/// `forebay why`.
#[derive(Debug, Args)]
pub struct Why {
    /// About which endpoint.
    #[command(flatten)]
    pub which: Which,
    /// At which time: `HH:MM[:SS]` of today or RFC 3339, in UTC, or so long ago, as `5m` [default: now]
    #[arg(long, value_name = "TIME")]
    pub at: Option<When>,
    /// Of which running Forebay.
    #[command(flatten)]
    pub running: Running,
}

/// A time as people write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// This one.
    Exactly(SystemTime),
    /// So long after midnight of the present day, in UTC.
    Today(Duration),
    /// So long ago.
    Ago(Duration),
}

impl When {
    /// The time that is meant `now`.
    #[must_use]
    pub fn at(self, now: SystemTime) -> SystemTime {
        match self {
            Self::Exactly(time) => time,
            Self::Today(after) => {
                let (seconds, _) = civil::unix(now);
                UNIX_EPOCH + Duration::from_secs(seconds - seconds % 86_400) + after
            }
            Self::Ago(time) => now.checked_sub(time).unwrap_or(UNIX_EPOCH),
        }
    }
}

impl FromStr for When {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let exactly = civil::parse_rfc3339(text).map(Self::Exactly);
        let today = || civil::time_of_day(text).map(Self::Today);
        let ago = || units::duration(text).ok().map(Self::Ago);
        exactly.or_else(today).or_else(ago).ok_or_else(|| {
            "it is no time, such as `14:05`, `14:05:30` (today, UTC), `5m` (ago) or `2026-01-31T14:05:30Z`"
                .to_owned()
        })
    }
}

/// Prints why the endpoint is in its state.
///
/// # Errors
/// When nobody answers, there is no such endpoint, or standard output cannot be written.
pub fn why(args: &Why) -> Result<ExitCode, Failure> {
    let admin = args.running.admin()?;
    let shown = admin.find(&args.which)?;
    let page = admin.ask("GET", &format!("{}/journal", path_of(names(&shown))))?;
    let now = ambient::wall();
    let account = Account::new(&page, args.at.map(|at| at.at(now)), now);
    io::stdout().write_all(account.told().as_bytes()).map_err(Failure::Output)?;
    Ok(ExitCode::SUCCESS)
}

/// What is to be told.
struct Account<'a> {
    page: &'a Value,
    /// Up to when.
    until: SystemTime,
    /// Whether that is a time that was asked for.
    asked: bool,
    now: SystemTime,
    /// What happened up to then, the oldest first.
    entries: Vec<Told>,
}

impl<'a> Account<'a> {
    fn new(page: &'a Value, at: Option<SystemTime>, now: SystemTime) -> Self {
        let entries = json::list(page, "entries");
        let entries = entries.iter().cloned().filter_map(|object| Told::take(object).ok());
        // What comes while the answer is under way belongs to now.
        let before = |entry: &Told| at.is_none_or(|at| entry.at <= at);
        let entries = entries.filter(before).collect();
        Self { page, until: at.unwrap_or(now), asked: at.is_some(), now, entries }
    }

    fn told(&self) -> String {
        let mut text = String::new();
        match self.state() {
            Some((state, since)) => {
                let tense = if self.asked { "was" } else { "is" };
                let at =
                    if self.asked { format!(" at {}", civil::rfc3339(self.until)) } else { String::new() };
                // Writing to a string does not fail.
                let _ = write!(text, "{} {tense} {state}{at}", full_name(self.page));
                if let Some(since) = since {
                    let _ = write!(text, ", since {} ({})", civil::rfc3339(since), ago(since, self.now));
                }
                let _ = writeln!(text, ": {}", meaning(state));
            }
            None => {
                let begins = json::text(self.page, "journal_begins").unwrap_or_default();
                let at = civil::rfc3339(self.until);
                let _ = writeln!(
                    text,
                    "{}: nothing is known of {at}, since the journal begins at {begins}",
                    full_name(self.page)
                );
                return text;
            }
        }
        self.tell_story(&mut text);
        text
    }

    fn tell_story(&self, text: &mut String) {
        let story = self.story();
        if story.is_empty() {
            let begins = json::text(self.page, "journal_begins").unwrap_or_default();
            let _ = writeln!(text, "Nothing has happened to it since {begins}.");
            return;
        }
        let left_out = story.len().saturating_sub(MOST_TOLD);
        let _ = writeln!(text, "What led to it:");
        if left_out > 0 {
            let _ = writeln!(text, "  ({left_out} entries before these)");
        }
        for entry in story.iter().skip(left_out) {
            let state = entry.state().unwrap_or("(pool)");
            let _ = writeln!(text, "  {}  {state:<9}  {}", civil::rfc3339(entry.at), entry.words());
        }
    }

    /// The state at the time, and since when. `None` when the journal does not reach back so far.
    fn state(&self) -> Option<(&str, Option<SystemTime>)> {
        if !self.asked {
            let since = json::text(self.page, "since").and_then(civil::parse_rfc3339);
            return Some((json::text(self.page, "state")?, since));
        }
        let own: Vec<_> = self.entries.iter().filter_map(|entry| Some((entry.state()?, entry.at))).collect();
        let Some((state, mut since)) = own.last().copied() else {
            let begins = json::text(self.page, "journal_begins").and_then(civil::parse_rfc3339)?;
            // Without an event, it was as it is when it starts.
            return (begins <= self.until).then_some((UP, None));
        };
        for (before, at) in own.iter().rev() {
            if *before != state {
                break;
            }
            since = *at;
        }
        Some((state, Some(since)))
    }

    /// The entries from the last beginning of trouble on: those since it was last up, and those that
    /// came shortly before. All that is known when there was no trouble.
    fn story(&self) -> &[Told] {
        let in_trouble = |entry: &Told| entry.state().is_some_and(|state| state != UP);
        let Some(last) = self.entries.iter().rposition(in_trouble) else { return &self.entries };
        let well = |entry: &Told| entry.state() == Some(UP);
        let mut begin = self.entries.iter().take(last).rposition(well).map_or(0, |index| index + 1);
        let Some(first) = self.entries.get(begin).map(|entry| entry.at) else { return &self.entries };
        let recent = |entry: &Told| first.duration_since(entry.at).is_ok_and(|age| age <= PRELUDE);
        while begin > 0 && self.entries.get(begin - 1).is_some_and(recent) {
            begin -= 1;
        }
        self.entries.get(begin..).unwrap_or_default()
    }
}

/// How long ago `time` was, roughly.
fn ago(time: SystemTime, now: SystemTime) -> String {
    let seconds = now.duration_since(time).unwrap_or_default().as_secs();
    let rounded = match seconds {
        0 => return "just now".to_owned(),
        1..300 => seconds,
        300..36_000 => seconds - seconds % 60,
        _ => seconds - seconds % 3600,
    };
    format!("{} ago", units::show(Duration::from_secs(rounded)))
}

/// What a state means for traffic.
fn meaning(state: &str) -> &'static str {
    match state {
        "disabled" => "it was taken out by order, and gets neither traffic nor checks",
        "draining" => "by order it gets no new requests, and those under way may end",
        "down" => "its checks fail, and it gets no traffic",
        "unchecked" => "no check of it has passed yet, and it gets no traffic before",
        "ejected" => "it is an outlier, and gets no traffic for a time",
        "on_trial" => "its ejection is over, and one request at a time decides whether it returns",
        "degraded" => "it is slow, and gets a tenth of its weight",
        "warming" => "it is on its way back to its whole weight",
        _ => "it gets its share of traffic",
    }
}

/// What `why --help` ends with.
pub(super) const HELP: &str = "\
Examples:
  forebay why 127.0.0.1:9001
  forebay why app/127.0.0.1:9001 --at 14:05           today, UTC
  forebay why unix:/run/app.sock --pool app --at 5m   five minutes ago

The journal is kept in memory: the last 10,000 events of all pools, since the process started.";

/// The word for the state of an endpoint of which there is nothing to tell.
const UP: &str = "up";
/// Entries that are told at most.
const MOST_TOLD: usize = 20;
/// How long before the first sign of trouble others count as signs of it.
const PRELUDE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(second: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(second)
    }

    fn page(state: &str, entries: &[(u64, Option<&str>, &str)]) -> Value {
        let entry = |(second, state, words): &(u64, Option<&str>, &str)| {
            json!({
                "at": civil::rfc3339(at(*second)), "pool": "app", "endpoint": state.map(|_| "a:1"),
                "state": state, "words": words,
            })
        };
        json!({
            "pool": "app", "endpoint": "a:1", "state": state, "since": civil::rfc3339(at(1010)),
            "journal_begins": civil::rfc3339(at(100)), "entries": entries.iter().map(entry).collect::<Vec<_>>(),
        })
    }

    const LIFE: &[(u64, Option<&str>, &str)] = &[
        (200, Some("ejected"), "an old story"),
        (220, Some("up"), "recovered"),
        (1000, Some("up"), "a first sign"),
        (1005, None, "the pool failed open"),
        (1010, Some("ejected"), "five in a row"),
        (1020, Some("on_trial"), "on trial"),
    ];

    fn told(page: &Value, when: Option<u64>) -> String {
        Account::new(page, when.map(at), at(1030)).told()
    }

    #[test]
    fn the_present_is_told_with_what_led_to_it() {
        let text = told(&page("on_trial", LIFE), None);
        assert!(
            text.starts_with("app/a:1 is on_trial, since 1970-01-01T00:16:50.000Z (20s ago): "),
            "{text}"
        );
        for words in ["a first sign", "(pool)     the pool failed open", "five in a row", "on trial"] {
            assert!(text.contains(words), "{text}");
        }
        assert!(!text.contains("old story"), "{text}");
    }

    #[test]
    fn the_past_is_told_as_it_was() {
        let text = told(&page("on_trial", LIFE), Some(1012));
        assert!(text.starts_with("app/a:1 was ejected at 1970-01-01T00:16:52.000Z, since 1970"), "{text}");
        assert!(text.contains("five in a row") && !text.contains("on trial"), "{text}");
        let text = told(&page("on_trial", LIFE), Some(500));
        assert!(text.contains("was up") && text.contains("an old story"), "{text}");
        let text = told(&page("on_trial", LIFE), Some(150));
        assert!(text.contains("was up") && text.contains("Nothing has happened"), "{text}");
        let text = told(&page("on_trial", LIFE), Some(50));
        assert!(text.contains("nothing is known of 1970-01-01T00:00:50.000Z"), "{text}");
    }

    #[test]
    fn a_long_story_is_cut() {
        let entries: Vec<_> = (0..50).map(|second| (1000 + second, Some("down"), "again")).collect();
        let text = told(&page("down", &entries), None);
        assert!(text.contains("(30 entries before these)"), "{text}");
        assert_eq!(text.matches("again").count(), 20);
    }

    #[test]
    fn times_are_read_as_people_write_them() {
        let now = UNIX_EPOCH + Duration::from_secs(951_868_799);
        for (text, seconds) in [
            ("2000-02-29T12:00:00Z", 951_825_600),
            ("12:00", 951_825_600),
            ("12:00:05", 951_825_605),
            ("5m", 951_868_499),
            ("1h30m", 951_863_399),
        ] {
            assert_eq!(text.parse::<When>().unwrap().at(now), at(seconds), "{text}");
        }
        for text in ["", "yesterday", "25:00", "12", "2000-02-30T12:00:00Z", "-5m"] {
            assert!(text.parse::<When>().is_err(), "{text}");
        }
    }
}
