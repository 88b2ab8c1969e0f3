//! `cargo bench --bench compare`: Forebay beside nginx and HAProxy on this machine, under the same
//! load, in the same run. What is measured is CPU time of the proxy's processes per request that
//! the load generator saw answered; requests/s and p99 come along. The method is in `../README.md`.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints tables")]
#![expect(clippy::disallowed_methods, reason = "measures in real time, outside the proxy")]

mod beside;
mod cases;
mod checks;
mod connections;
mod cpu;
mod datagrams;
mod defences;
mod faults;
mod ground;
mod health;
mod latency;
mod launch;
mod layer4;
mod load;
mod machine;
mod memory;
mod observing;
mod options;
mod origin;
mod peers;
mod profile;
mod quiet;
mod quota;
mod report;
mod scale;
mod scaling;
mod scrape;
mod sink;
mod speed;
mod statistics;

use std::process::ExitCode;

use clap::Parser;

use crate::ground::Ground;
use crate::options::{Options, Question};

/// What stopped a measurement, in words.
type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("compare: runs under `cargo bench --bench compare` only");
        return ExitCode::SUCCESS;
    }
    match answer(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("compare: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn answer(options: &Options) -> Result<(), Failure> {
    machine::require_tools(options)?;
    let ground = Ground::lay(options)?;
    for question in options.questions() {
        let section = match question {
            Question::Speed => speed::section(&ground, options)?,
            Question::Latency => latency::section(&ground, options)?,
            Question::Scaling => scaling::section(&ground, options)?,
            Question::Memory => memory::section(&ground, options)?,
            Question::Profile => profile::section(&ground, options)?,
            Question::Health => health::section(&ground, options)?,
            Question::Defences => defences::section(&ground, options)?,
            Question::Faults => faults::section(&ground, options)?,
            Question::Checks => checks::section(&ground, options)?,
            Question::Observing => observing::section(&ground, options)?,
            Question::Scale => scale::section(&ground, options)?,
            Question::Scrape => scrape::section(&ground, options)?,
            Question::L4 => layer4::section(&ground, options)?,
            Question::Udp => datagrams::section(&ground, options)?,
        };
        let text = format!("{}\n{section}", machine::heading(&ground, options)?);
        println!("\n{text}");
        if options.write {
            report::replace_section(question.marker(), &text)?;
        }
    }
    Ok(())
}
