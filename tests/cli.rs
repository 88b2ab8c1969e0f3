//! The program as the shell sees it: what it prints where, and how it exits.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use forebay::health::State;
use tempfile::TempDir;

/// How a run of the program ended.
struct Run {
    code: Option<i32>,
    out: String,
    err: String,
}

fn forebay(args: &[&str]) -> Run {
    forebay_in(Path::new("."), args)
}

fn forebay_in(folder: &Path, args: &[&str]) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    command.current_dir(folder).args(args).stdin(Stdio::null()).env_remove("FOREBAY_LOG");
    let Output { status, stdout, stderr } = command.output().expect("the program starts");
    let text = |bytes| String::from_utf8(bytes).expect("the program prints UTF-8");
    Run { code: status.code(), out: text(stdout), err: text(stderr) }
}

fn folder_with(file: &str, text: &str) -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    fs::write(folder.path().join(file), text).expect("and written to");
    folder
}

/// A port of 127.0.0.1 where nobody listens.
fn silent_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    listener.local_addr().expect("a bound socket has an address").port()
}

#[test]
fn help_names_every_command_and_an_example() {
    let run = forebay(&["--help"]);
    assert_eq!(run.code, Some(0));
    for word in [
        "run",
        "proxy",
        "check",
        "demo",
        "why",
        "endpoint",
        "endpoints",
        "simulate",
        "log",
        "healthcheck",
        "completions",
        "Examples:",
        "Exit codes:",
    ] {
        assert!(run.out.contains(word), "{word} is missing:\n{}", run.out);
    }
    assert!(forebay(&["proxy", "--help"]).out.contains("round_robin"));
    for command in ["why", "endpoint", "endpoints", "simulate"] {
        assert!(forebay(&[command, "--help"]).out.contains("Examples:"), "{command}");
    }
}

#[test]
fn without_arguments_it_shows_its_help() {
    let run = forebay(&[]);
    assert_eq!((run.code, run.out.as_str()), (Some(2), ""));
    assert!(run.err.contains("forebay proxy --from"), "{}", run.err);
}

#[test]
fn version_is_the_packages() {
    let run = forebay(&["--version"]);
    assert_eq!((run.code, run.out), (Some(0), format!("forebay {}\n", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn arguments_that_make_no_sense_exit_with_2() {
    for args in [
        &["serve"][..],
        &["run", "--workers", "0"],
        &["proxy", "--from", "127.0.0.1:0"],
        &["proxy", "--from", "127.0.0.1:0", "--to", "127.0.0.1:9001", "--policy", "best"],
        &["proxy", "--from", "localhost:0", "--to", "127.0.0.1:9001"],
        &["proxy", "--from", "127.0.0.1:0", "--to", "127.0.0.1"],
        &["demo", "--seconds", "0"],
    ] {
        let run = forebay(args);
        assert_eq!((run.code, run.out.as_str()), (Some(2), ""), "{args:?}: {}", run.err);
        assert!(run.err.contains("error"), "{args:?}: {}", run.err);
    }
}

#[test]
fn check_counts_what_a_good_file_has() {
    let run = forebay(&["check", "-c", "config/forebay.toml"]);
    let said = "config/forebay.toml is valid: 1 listener, 1 route, 1 pool, 2 endpoints\nmetrics: ";
    assert_eq!((run.code, run.err.as_str()), (Some(0), ""));
    let series = run.out.strip_prefix(said).expect("then what that means for metrics");
    assert!(series.ends_with(" series to expect; 50000 at most (metrics.max_series)\n"), "{series}");
}

#[test]
fn check_and_run_name_every_problem_of_a_bad_file() {
    let folder = folder_with(
        "bad.toml",
        "wrokers = 1\n[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n[[route]]\npool = \"ap\"\n\
         [pool.app]\nendpoints = [\"127.0.0.1:9001\"]\n",
    );
    for command in ["check", "run"] {
        let run = forebay_in(folder.path(), &[command, "--config", "bad.toml"]);
        assert_eq!((run.code, run.out.as_str()), (Some(1), ""), "{}", run.err);
        for part in ["bad.toml:1:1", "wrokers", "bad.toml:6:8", "`app`"] {
            assert!(run.err.contains(part), "{part} is missing:\n{}", run.err);
        }
        assert!(!run.err.contains('\x1b'), "colours without a terminal:\n{}", run.err);
    }
}

#[test]
fn a_missing_file_is_a_problem_with_a_remedy() {
    let folder = tempfile::tempdir().unwrap();
    for command in ["check", "run"] {
        let run = forebay_in(folder.path(), &[command]);
        assert_eq!(run.code, Some(1), "{}", run.err);
        assert!(run.err.contains("config/forebay.toml") && run.err.contains("help:"), "{}", run.err);
    }
}

#[test]
fn completions_know_the_commands() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let run = forebay(&["completions", shell]);
        assert!(run.code == Some(0) && run.out.contains("healthcheck"), "{shell}");
    }
}

#[test]
fn healthcheck_of_nobody_fails() {
    let address = format!("127.0.0.1:{}", silent_port());
    let folder = folder_with("f.toml", &format!("wrong = 1\n[admin]\nbind = \"{address}\"\n"));
    for args in [["healthcheck", "--admin", &address], ["healthcheck", "-c", "f.toml"]] {
        let run = forebay_in(folder.path(), &args);
        assert_eq!((run.code, run.out.as_str()), (Some(1), ""), "{args:?}");
        assert!(run.err.contains(&address) && run.err.contains("help:"), "{args:?}: {}", run.err);
    }
}

#[test]
fn healthcheck_without_an_admin_listener_says_so() {
    let folder = folder_with(
        "f.toml",
        "[admin]\nenabled = false\n[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n[[route]]\npool = \"app\"\n\
         [pool.app]\nendpoints = [\"127.0.0.1:9001\"]\n",
    );
    let run = forebay_in(folder.path(), &["healthcheck", "-c", "f.toml"]);
    assert!(run.code == Some(1) && run.err.contains("no admin listener"), "{}", run.err);
}

#[test]
fn demo_without_a_terminal_prints_plain_lines_and_ends() {
    let run = forebay(&["demo", "--seconds", "3"]);
    assert_eq!((run.code, run.err.as_str()), (Some(0), ""), "{}", run.out);
    assert!(!run.out.contains('\x1b'), "{}", run.out);
    assert!(run.out.contains("curl -i http://127.0.0.1:"), "{}", run.out);
    let dashboard = run.out.lines().find(|line| line.ends_with("the dashboard"));
    assert!(dashboard.is_some_and(|line| line.contains("http://127.0.0.1:")), "{}", run.out);
    let summary: Vec<_> = run.out.lines().skip_while(|line| !line.contains("ENDPOINT")).skip(1).collect();
    let mut all = 0;
    for (origin, line) in ["good", "slow", "flaky"].iter().zip(&summary) {
        let columns: Vec<_> = line.split_whitespace().collect();
        let [name, endpoint, state, requests, _errors, _in_flight, p50, p99] = columns[..] else {
            panic!("{line}")
        };
        assert_eq!(name, *origin);
        // Who gets how much, and whether the worst is ejected, is up to policy and detectors.
        assert!(State::ALL.iter().any(|known| known.name() == state), "{line}");
        assert!(endpoint.starts_with("127.0.0.1:"), "{line}");
        all += requests.parse::<u64>().unwrap();
        assert!(p50.ends_with("ms") && p99.ends_with("ms"), "{line}");
    }
    assert!(all > 30, "{}", run.out);
}

#[test]
fn the_images_configurations_are_valid() {
    for file in ["docker/forebay.toml", "docker/compose/proxy.toml", "docker/compose/origin.toml"] {
        let run = forebay(&["check", "-c", file]);
        assert_eq!((run.code, run.err.as_str()), (Some(0), ""), "{}", run.out);
    }
}

#[test]
fn the_readmes_configurations_are_valid() {
    let readme = fs::read_to_string("README.md").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let pair =
        rcgen::generate_simple_self_signed(["example.com".to_owned(), "*.example.com".to_owned()]).unwrap();
    fs::write(folder.path().join("cert.pem"), pair.cert.pem()).unwrap();
    fs::write(folder.path().join("key.pem"), pair.signing_key.serialize_pem()).unwrap();
    for name in ["admin.pem", "ops-ca.pem"] {
        fs::write(folder.path().join(name), pair.cert.pem()).unwrap();
    }
    fs::write(folder.path().join("admin.key"), pair.signing_key.serialize_pem()).unwrap();
    fs::write(folder.path().join("read.token"), "a-token-that-nobody-guesses\n").unwrap();
    let blocks: Vec<_> =
        readme.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    // Those that show a part only belong together.
    let (whole, parts): (Vec<_>, Vec<_>) =
        blocks.into_iter().partition(|block| block.contains("[[listener]]"));
    assert!(!whole.is_empty() && !parts.is_empty());
    let around = "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:8080\"\n[[route]]\npool = \"app\"\n";
    let together = format!("{around}{}", parts.join("\n"));
    for block in whole.into_iter().chain([together.as_str()]) {
        fs::write(folder.path().join("forebay.toml"), block).unwrap();
        let run = forebay_in(folder.path(), &["check", "-c", "forebay.toml"]);
        assert_eq!((run.code, run.err.as_str()), (Some(0), ""), "{block}\n{}", run.err);
    }
}
