use std::time::{Duration, SystemTime};

use super::*;
use crate::health::State;

fn at(second: u64) -> SystemTime {
    // 2026-01-31T12:00:00Z.
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_769_860_800 + second)
}

fn figures(requests: u64, errors: u64, p99: u64) -> Figures {
    let time = |of: u64| (requests > 0).then(|| Duration::from_millis(of));
    Figures { requests, errors, p50: time(p99 / 4), p90: time(p99 / 2), p99: time(p99) }
}

fn quiet() -> Report {
    Report {
        process: Process {
            version: "0.1.0".to_owned(),
            pid: 7,
            started: at(0),
            workers: 2,
            generation: 4,
            hash: "0123456789abcdef".to_owned(),
        },
        from: at(0),
        to: at(600),
        asked: Duration::from_secs(600),
        objective: Objective::default(),
        course: Course { step: Duration::from_secs(1), ..Course::default() },
        routes: Vec::new(),
        pools: Vec::new(),
        happened: Vec::new(),
        outages: Vec::new(),
        warnings: Vec::new(),
    }
}

fn bad() -> Report {
    let step = |n: u64| Step {
        requests: 20,
        errors: u64::from((300..334).contains(&n)),
        p99: Some(Duration::from_millis(if n == 300 { 900 } else { 8 })),
        in_flight: 3.0,
        connections: 12.0,
        busy: Some(0.12),
    };
    let endpoint = Subject::Endpoint("app".to_owned(), "127.0.0.1:9001".to_owned());
    let label = |route: &str| Some(("web".to_owned(), route.to_owned(), Some("app".to_owned())));
    let once = Happening::once;
    Report {
        course: Course {
            whole: figures(12_000, 34, 12),
            step: Duration::from_secs(1),
            steps: (0..600).map(step).collect(),
            busy: Some(0.12),
        },
        routes: vec![
            RouteLine { labels: label("api"), figures: figures(11_000, 33, 9) },
            RouteLine { labels: label("files"), figures: figures(900, 1, 700) },
            RouteLine { labels: None, figures: figures(100, 0, 3) },
        ],
        pools: vec![PoolLine {
            pool: Some("app".to_owned()),
            figures: figures(12_000, 34, 12),
            endpoints: (3, 3),
            desired: Some(5),
            utilisation: (0.031, 0.4),
            wait_p99: None,
        }],
        happened: vec![
            Happening {
                times: 3,
                until: at(340),
                ..once(
                    at(302),
                    Kind::Ejected,
                    endpoint.clone(),
                    "ejected for 5 s (first time): consecutive found 5 failures in a row | refused"
                        .to_owned(),
                )
            },
            once(at(370), Kind::Returned, endpoint, "back at once with its whole weight".to_owned()),
            once(at(400), Kind::Reload, Subject::Process, "generation 4 (file): ~ pool app".to_owned()),
        ],
        outages: vec![Outage {
            pool: "app".to_owned(),
            endpoint: "127.0.0.1:9001".to_owned(),
            times: 1,
            lasted: Duration::from_secs(68),
            still: None,
            why: "ejected for 5 s".to_owned(),
        }],
        warnings: vec!["pool app: its breaker is open".to_owned()],
        ..quiet()
    }
}

#[test]
fn a_bad_time_is_told_in_whole() {
    let text = bad().markdown();
    for part in [
        "# Forebay: the last 10 min 00 s\n\nIn 10 min 00 s, 12,000 requests ended (20 a second) and 34 of them failed (0.28 %); \
         99.716 % went well and the objective of 99.9 % was **missed**: 2.8 times as many failed as it allows. \
         97.1 % of the failures were of route `api` of listener `web` to pool `app`. \
         `app/127.0.0.1:9001` was out for 1 min 08 s and is back (ejected for 5 s). \
         There was: 1 reload (at 12:06:40).\n",
        "- Time: 2026-01-31 12:00:00 to 12:10:00 UTC\n",
        "- Process: forebay 0.1.0, number 7, up for 10 min 00 s, 2 workers\n",
        "- Configuration: generation 4, hash `0123456789ab`\n",
        "| a second, mean and at most | 20 and 20 |\n",
        "| Failed (5xx) | 34 (0.28 %) |\n",
        "errors   ▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁████▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁  up to 1/s\n",
        "         12:00:00                                            12:10:00  10 s a sign\n",
        "| 99.9 % | 99.716 % | 12 | 34 | 283 % | 2.8 |\n",
        "At this pace the budget of 30 days lasts 10 d 14 h; at even traffic this time used 0.07 % of it.",
        "| 3.0 ms | 6.0 ms | 12 ms | 900 ms |\n",
        "| 12:05:02 | **ejected** | `app/127.0.0.1:9001` | ejected for 5 s (first time): consecutive found 5 failures in a \
         row \\| refused (and 2 times more, until 12:05:40) |\n",
        "| 12:06:40 | reload | configuration | generation 4 (file): ~ pool app |\n",
        "| `app/127.0.0.1:9001` | 1 | 1 min 08 s | back | ejected for 5 s |\n",
        "| `app` | 12,000 | 34 (0.28 %) | 3.0 ms | 12 ms | 3 of 3, 5 wanted | 1 | 3.10 % and 40.0 % | – |\n",
        "## Slowest routes\n\n| Route | Pool | Requests | Failed | p50 | p90 | p99 |\n|---|---|---|---|---|---|---|\n\
         | `web/files` | `app` | 900 | 1 (0.11 %) | 175 ms | 350 ms | 700 ms |\n| `web/api`",
        "## To look at now\n\n- pool app: its breaker is open\n",
    ] {
        assert!(text.contains(part), "{part}\nis not in\n{text}");
    }
    let failing = text.split("## Failing routes").nth(1).and_then(|rest| rest.split("##").next()).unwrap();
    assert!(failing.contains("`web/api`") && !failing.contains("all others"), "{failing}");
}

#[test]
fn a_quiet_time_is_told_in_a_few_lines() {
    let text = quiet().markdown();
    assert!(
        text.contains("No request ended in these 10 min 00 s. No endpoint was out, no breaker opened"),
        "{text}"
    );
    for left_out in ["## Availability", "## Latency", "## What happened", "## Pools", "```"] {
        assert!(!text.contains(left_out), "{left_out} in {text}");
    }
}

#[test]
fn who_has_not_run_for_so_long_says_so() {
    let text = Report { asked: Duration::from_secs(3600), ..quiet() }.markdown();
    assert!(
        text.contains("12:10:00 UTC (1 h 00 min were asked for: nothing is known of the time before)"),
        "{text}"
    );
}

#[test]
fn who_is_still_out_comes_first_and_stands_out() {
    let mut report = bad();
    report.course.whole.errors = 6;
    report.outages = vec![Outage { still: Some(State::OnTrial), times: 4, ..report.outages.remove(0) }];
    let text = report.markdown();
    assert!(
        text.contains("`app/127.0.0.1:9001` is **still out** (on trial), for 1 min 08 s in 4 spells so far"),
        "{text}"
    );
    assert!(text.contains("the objective of 99.9 % was met, with 50.0 % of its error budget used"), "{text}");
}

#[test]
fn a_long_story_is_cut_at_its_beginning() {
    let mut report = quiet();
    report.happened = (0..100)
        .map(|n| Happening::once(at(n), Kind::Found, Subject::Pool("app".to_owned()), format!("n{n}")))
        .collect();
    let text = report.markdown();
    assert!(text.contains("40 before these are left out.\n"), "{text}");
    assert!(!text.contains("n39 |") && text.contains("n40 |") && text.contains("n99 |"), "{text}");
}

#[test]
fn programs_get_the_same() {
    let told = bad().to_json();
    assert_eq!(told["requests"]["errors"], 34);
    assert_eq!((&told["budget"]["spent"], &told["process"]["generation"]), (&true.into(), &4.into()));
    assert_eq!(
        told["course"]["errors"].as_array().unwrap().iter().filter_map(|n| n.as_u64()).sum::<u64>(),
        34
    );
    assert_eq!((&told["happened"][0]["kind"], &told["happened"][0]["times"]), (&"ejected".into(), &3.into()));
    assert_eq!(told["outages"][0]["seconds"], 68.0);
    assert_eq!(told["routes"][1]["requests"]["p99_seconds"], 0.7);
    assert!(told["summary"].as_str().unwrap().starts_with("In 10 min"));
}
