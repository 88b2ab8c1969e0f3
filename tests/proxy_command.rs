//! The program in use: `proxy` without a file, `healthcheck`, and what happens when it cannot
//! start.

mod support;

use std::collections::HashMap;
use std::path::Path;

use rustix::process::Signal;
use support::*;

fn quick(to: &[&Origin], more: &[&str]) -> Process {
    let mut args = vec!["proxy", "--from", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let to: Vec<_> = to.iter().map(|origin| origin.address().to_string()).collect();
    for address in &to {
        args.extend(["--to", address]);
    }
    args.extend(more);
    let mut process = Process::spawn(Path::new("."), &args);
    process.wait_until_up();
    process
}

/// The first address of the only listener, whatever its name.
fn front(process: &Process) -> std::net::SocketAddr {
    process.address("web")
}

#[test]
fn proxy_balances_without_a_file() {
    let origins = ["one", "two"].map(answers);
    for (policy, fair) in [("round_robin", 10..=10), ("random", 1..=19)] {
        let process = quick(&[&origins[0], &origins[1]], &["--policy", policy]);
        let mut client = Link::to(front(&process));
        let mut answers = HashMap::<_, usize>::new();
        for _ in 0..20 {
            client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
            *answers.entry(client.response().text()).or_default() += 1;
        }
        assert_eq!(answers.len(), 2, "{policy}: {answers:?}");
        assert!(answers.values().all(|n| fair.contains(n)), "{policy}: {answers:?}");
        assert_eq!(process.ask_admin("/readyz").status(), 200);
    }
}

#[test]
fn proxy_takes_what_curl_sends() {
    let Some(curl) = peer("curl") else { return };
    let origin = echoes();
    let process = quick(&[&origin], &["--workers", "1"]);
    let url = format!("http://{}/path?query", front(&process));
    for more in [&["--http1.1"][..], &["--http1.0"], &["--http2-prior-knowledge"]] {
        let arguments = ["-sS", "--max-time", "10", "-w", " %{http_code}", "--data-binary", "hello"];
        let output = curl.command().args(arguments).args(more).arg(&url).output().expect("curl runs");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(said, "hello 200", "{more:?}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(origin.next_request().target(), "/path?query");
    }
}

#[test]
fn healthcheck_tells_readiness_by_its_exit_code() {
    let origin = answers("hello");
    let toml = format!(
        "[drain]\ndelay = \"1h\"\n[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n\
         [[route]]\npool = \"app\"\n[pool.app]\nendpoints = [\"{}\"]\n\
         [admin]\nbind = \"unix:admin.sock\"\n",
        origin.address()
    );
    let process = Process::run(&toml);
    let healthcheck = || {
        let mut asked = Process::spawn(process.folder(), &["healthcheck", "-c", "f.toml"]);
        let code = asked.wait().code();
        eventually("the pipe's end", || code == Some(0) || !asked.err().is_empty());
        (code, asked.err())
    };
    assert_eq!(healthcheck(), (Some(0), String::new()));
    process.signal(Signal::TERM);
    eventually("the drain begins", || process.err().contains("draining"));
    eventually("it is told", || {
        let (code, said) = healthcheck();
        code == Some(1) && said.contains("draining")
    });
}

#[test]
fn a_port_in_use_is_an_error_with_a_remedy() {
    let origin = answers("hello");
    let taken = origin.address();
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    for (admin, web) in
        [("127.0.0.1:0".to_owned(), taken.to_string()), (taken.to_string(), "127.0.0.1:0".to_owned())]
    {
        let mut process = Process::spawn(
            folder.path(),
            &["proxy", "--from", &web, "--to", "127.0.0.1:9001", "--admin", &admin],
        );
        assert_eq!(process.wait().code(), Some(1));
        eventually("the report", || process.err().contains("help:"));
        let said = process.err();
        assert!(said.contains(&taken.to_string()) && said.contains("another process"), "{said}");
    }
}

#[test]
fn a_second_instance_is_refused() {
    let origin = answers("hello");
    let first = quick(&[&origin], &["--workers", "2"]);
    let from = front(&first).to_string();
    let to = origin.address().to_string();
    let args = ["proxy", "--from", &from, "--to", &to, "--admin", "127.0.0.1:0", "--workers", "2"];
    let mut second = Process::spawn(Path::new("."), &args);
    assert_eq!(second.wait().code(), Some(1));
    eventually("the report", || second.err().contains("help:"));
    assert!(second.err().contains(&from), "{}", second.err());
    // The first is none the worse.
    for _ in 0..10 {
        let mut client = Link::to(front(&first));
        client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        assert_eq!(client.response().status(), 200);
    }
}

#[test]
fn an_instance_starts_where_the_last_one_ended() {
    let origin = answers("hello");
    let mut process = quick(&[&origin], &[]);
    let from = front(&process).to_string();
    let to = origin.address().to_string();
    for _ in 0..3 {
        let mut client = Link::to(front(&process));
        client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        assert_eq!(client.response().status(), 200);
        process.signal(Signal::TERM);
        assert!(process.wait().success());
        let args = ["proxy", "--from", &from, "--to", &to, "--admin", "127.0.0.1:0"];
        process = Process::spawn(Path::new("."), &args);
        process.wait_until_up();
    }
}

#[test]
fn a_bad_file_starts_nothing_and_names_every_problem() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let toml = "wrokers = 1\n[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n[[route]]\npool = \"ap\"\n\
                [pool.app]\nendpoints = [\"127.0.0.1\"]\ntimeuots = 3\n";
    std::fs::write(folder.path().join("f.toml"), toml).expect("and written to");
    let mut process = Process::spawn(folder.path(), &["run", "-c", "f.toml"]);
    assert_eq!(process.wait().code(), Some(1));
    eventually("the report", || process.err().contains("f.toml: "));
    let said = process.err();
    for part in ["wrokers", "`workers`", "`ap`", "`app`", "timeuots", "`timeouts`", "127.0.0.1", "^^^"] {
        assert!(said.contains(part), "{part} is missing:\n{said}");
    }
}

#[test]
fn the_log_is_as_configured_unless_the_environment_says_otherwise() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let toml = "[log]\nlevel = \"warn\"\nformat = \"json\"\n[admin]\nbind = \"127.0.0.1:0\"\n\
                [[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n\
                [[route]]\nfilters = [{ respond = { status = 200 } }]\n";
    std::fs::write(folder.path().join("f.toml"), toml).expect("and written to");
    let variables = [("FOREBAY_LOG", "info")];
    let mut loud = Process::spawn_with(folder.path(), &["run", "-c", "f.toml"], &variables);
    loud.wait_until_up();
    loud.signal(Signal::TERM);
    assert!(loud.wait().success());
    eventually("the last line", || loud.err().contains("ended"));
    for line in loud.err().lines() {
        let line: serde_json::Value = serde_json::from_str(line).expect("each line is JSON");
        assert_eq!(line.get("level").and_then(|level| level.as_str()), Some("INFO"), "{line}");
        assert!(line.get("message").is_some() && line.get("timestamp").is_some(), "{line}");
    }
    let mut wrong = Process::spawn_with(folder.path(), &["run", "-c", "f.toml"], &[("FOREBAY_LOG", "loud")]);
    assert_eq!(wrong.wait().code(), Some(1));
    eventually("the report", || wrong.err().contains("FOREBAY_LOG") && wrong.err().contains("help:"));
}
