//! What the numbers were measured on and with: hardware, kernel, versions, date. Says which
//! programs are missing and which Debian packages have them.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::Failure;
use crate::ground::Ground;
use crate::options::{Options, Question};
use crate::peers::{self, Proxy};

/// # Errors
/// Naming every program that the questions asked need and that is not installed.
pub(crate) fn require_tools(options: &Options) -> Result<(), Failure> {
    let mut needed = vec![("setpriv", "util-linux"), ("taskset", "util-linux"), ("wrk", "wrk")];
    let asked = options.questions();
    if asked.contains(&Question::Speed) || asked.contains(&Question::Observing) {
        needed.push(("h2load", "nghttp2-client"));
    }
    if options.questions().contains(&Question::Profile) {
        needed.push(("perf", "linux-perf"));
    }
    if options.proxies.contains(&Proxy::Nginx) {
        needed.push(("nginx", "nginx"));
    }
    if asked.contains(&Question::L4) || asked.contains(&Question::Udp) {
        needed.push(("../lib/nginx/modules/ngx_stream_module.so", "libnginx-mod-stream"));
    }
    if options.proxies.contains(&Proxy::Haproxy) || options.proxies.contains(&Proxy::HaproxySplice) {
        needed.push(("haproxy", "haproxy"));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let installed = |program: &str| {
        let found = std::env::split_paths(&path).any(|dir| dir.join(program).exists());
        found || Path::new("/usr/sbin").join(program).exists()
    };
    needed.retain(|(program, _)| !installed(program));
    if needed.is_empty() {
        return Ok(());
    }
    let mut packages: Vec<&str> = needed.iter().map(|(_, package)| *package).collect();
    packages.dedup();
    let programs: Vec<&str> = needed.iter().map(|(program, _)| *program).collect();
    Err(format!("missing: {}; on Debian: apt install {}", programs.join(", "), packages.join(" ")).into())
}

/// One paragraph that says where, when and with which versions.
///
/// # Errors
/// Where a program does not say its version.
pub(crate) fn heading(ground: &Ground, options: &Options) -> Result<String, Failure> {
    let mut versions = Vec::new();
    for proxy in options.proxies.iter().filter(|proxy| **proxy != Proxy::HaproxySplice) {
        let argument = if *proxy == Proxy::Forebay { "--version" } else { "-v" };
        versions.push(first_line(Command::new(peers::program(ground, *proxy)).arg(argument))?);
    }
    versions.push(first_line(Command::new("wrk").arg("-v"))?);
    versions.push(first_line(Command::new("h2load").arg("--version")).unwrap_or_default());
    let date = first_line(Command::new("date").args(["-u", "+%Y-%m-%d"]))?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = online_cores().unwrap_or(cores);
    Ok(format!(
        "*{date}; {cpu}, {cores} cores; Linux {kernel}; {versions}.*\n",
        cpu = cpu_model(),
        kernel = kernel.trim(),
        versions = versions.join("; "),
    ))
}

fn cpu_model() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    model.map_or("unknown CPU", |(_, name)| name).trim().to_owned()
}

/// All cores: this process itself is confined to one.
fn online_cores() -> Option<usize> {
    let info = fs::read_to_string("/proc/cpuinfo").ok()?;
    Some(info.lines().filter(|line| line.starts_with("processor")).count())
}

/// What a command prints first, whichever output it prints to.
fn first_line(command: &mut Command) -> Result<String, Failure> {
    let program = command.get_program().to_owned();
    let output = command.output().map_err(|error| format!("{}: {error}", program.display()))?;
    let printed = [output.stdout, output.stderr].concat();
    let printed = String::from_utf8_lossy(&printed);
    let line = printed.lines().next().unwrap_or_default();
    let line = line.strip_prefix("nginx version: ").unwrap_or(line);
    // HAProxy and wrk go on to say whose they are.
    let version = line.split(" - https:").next().and_then(|line| line.split(" Copyright").next());
    Ok(version.unwrap_or(line).trim().to_owned())
}
