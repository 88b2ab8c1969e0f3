//! The command line: which questions, which proxies, how long. Decides nothing else.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use crate::cases::Case;
use crate::peers::Proxy;

/// Measures Forebay beside nginx and HAProxy on this machine.
#[derive(Debug, Parser)]
#[command(name = "compare")]
pub(crate) struct Options {
    /// What to measure
    #[arg(value_enum, default_values_t = [Question::Speed])]
    questions: Vec<Question>,

    /// The proxies that take part
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Proxy::Forebay, Proxy::Nginx, Proxy::Haproxy])]
    pub(crate) proxies: Vec<Proxy>,

    /// The loads of `speed`; the first of them is the one of `profile`
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Case::TARGETED)]
    pub(crate) cases: Vec<Case>,

    /// What the proxies add to requests
    #[arg(long, value_enum, default_value_t = Fields::Both)]
    pub(crate) fields: Fields,

    /// Short for `--fields bare`
    #[arg(long)]
    bare: bool,

    /// Rounds; in each, every proxy runs once [default: 5]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=99))]
    rounds: Option<u32>,

    /// Seconds of each measured window [default: 4]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: Option<u32>,

    /// Two rounds of two seconds
    #[arg(long)]
    quick: bool,

    /// Seconds to wait, before each window, for other work on the machine to end
    #[arg(long, default_value_t = 30)]
    patience: u32,

    /// Idle connections that `memory` opens; an address has some 28,000 ports for them
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u16).range(1..=25_000))]
    connections: u16,

    /// The core that `scaling` grants one worker, in percent
    #[arg(long, default_value_t = 25, value_parser = clap::value_parser!(u32).range(5..=45))]
    pub(crate) share: u32,

    /// The Forebay to measure instead of the one built here
    #[arg(long, default_value = env!("CARGO_BIN_EXE_forebay"), hide_default_value = true)]
    pub(crate) forebay: PathBuf,

    /// Replaces the sections of benches/README.md by what was measured
    #[arg(long)]
    pub(crate) write: bool,

    /// Passed by Cargo
    #[arg(long, hide = true)]
    bench: bool,
}

impl Options {
    /// Each question once, in the order asked.
    pub(crate) fn questions(&self) -> Vec<Question> {
        let mut asked = Vec::new();
        for question in &self.questions {
            if !asked.contains(question) {
                asked.push(*question);
            }
        }
        asked
    }

    pub(crate) fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(if self.quick { 2 } else { 5 })
    }

    pub(crate) fn window(&self) -> Duration {
        Duration::from_secs(self.seconds.unwrap_or(if self.quick { 2 } else { 4 }).into())
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.into()
    }

    /// Before each window.
    pub(crate) fn patience(&self) -> Duration {
        Duration::from_secs(self.patience.into())
    }

    /// Whether forwarding fields are added, for each table to be made.
    pub(crate) fn dressings(&self) -> &'static [Dressing] {
        match self.fields {
            _ if self.bare => &[Dressing::Bare],
            Fields::Both => &[Dressing::Added, Dressing::Bare],
            Fields::Added => &[Dressing::Added],
            Fields::Bare => &[Dressing::Bare],
        }
    }
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Question {
    /// CPU per request, requests/s and p99 of each case
    Speed,
    /// How long requests take at a rate that leaves every proxy room
    Latency,
    /// What two workers carry against one
    Scaling,
    /// Memory of idle connections
    Memory,
    /// Where Forebay's time goes
    Profile,
    /// What judging endpoints costs a request
    Health,
    /// What retries, limits and the like cost a request
    Defences,
    /// What clients notice of a fault
    Faults,
    /// What active checks of a large pool cost
    Checks,
    /// What access logs and traces cost, and what is noticed when nobody takes them
    Observing,
    /// What large configurations and reloads cost
    Scale,
    /// What a scrape of metrics costs where there are many endpoints
    Scrape,
    /// What connections cost that are passed on unread
    L4,
    /// What datagrams cost
    Udp,
}

impl Question {
    /// The section of `benches/README.md` that its answer replaces.
    pub(crate) fn marker(self) -> &'static str {
        match self {
            Self::Speed => "speed",
            Self::Latency => "latency",
            Self::Scaling => "scaling",
            Self::Memory => "memory",
            Self::Profile => "profile",
            Self::Health => "health",
            Self::Defences => "defences",
            Self::Faults => "faults",
            Self::Checks => "checks",
            Self::Observing => "observing",
            Self::Scale => "scale",
            Self::Scrape => "scrape",
            Self::L4 => "l4",
            Self::Udp => "udp",
        }
    }
}

/// Which tables of `speed` are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Fields {
    /// One table with Forebay's defaults, one without any added field
    Both,
    /// Forwarding fields, request id and `Via` added by every proxy, as Forebay does by default
    Added,
    /// Nothing added by any proxy
    Bare,
}

/// What proxies do with what they are given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// They read requests and pass each on.
    Requests(Dressing),
    /// They pass on connections and datagrams, and read nothing.
    Streams,
}

/// Whether the proxies add fields to requests and responses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dressing {
    /// `X-Forwarded-For`, `-Proto`, `-Host`, `X-Request-Id` and `Via`: Forebay's defaults.
    Added,
    /// Nothing.
    Bare,
}

impl Dressing {
    /// What its tables are headed with.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Added => {
                "Forebay's defaults: `X-Forwarded-*`, `X-Request-Id` and `Via` added by every proxy"
            }
            Self::Bare => "Bare: no proxy adds a field",
        }
    }
}
