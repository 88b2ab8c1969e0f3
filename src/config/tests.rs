use std::fs;
use std::path::Path;
use std::time::Duration;

use super::plan::{AccessLogPlan, Action, LogFormat, LogTarget, PoolId};
use super::*;
use crate::model::settings::{Drain, Forwarding, UpstreamProtocol};
use crate::route::HostMatch;

fn plan_with(text: &str, env: Env<'_>) -> Plan {
    from_str("test.toml", text, env, Path::new("/etc/forebay")).unwrap_or_else(|report| panic!("{report}"))
}

fn plan(text: &str) -> Plan {
    plan_with(text, &|_| None)
}

const SMALL: &str = "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:8080\"\n\
                     [[route]]\npool = \"app\"\n[pool.app]\nendpoints = \"127.0.0.1:9001\"\n";

#[test]
fn what_is_left_out_is_the_default() {
    let plan = plan(SMALL);
    assert_eq!(plan.workers, None);
    assert_eq!(plan.admin.unwrap().bind[0].to_string(), "127.0.0.1:9900");
    assert_eq!(plan.drain, Drain::default());
    let listener = &plan.listeners[0];
    assert!(listener.tls.is_none() && listener.access_log.is_none());
    let route = &plan.routes[0];
    assert_eq!((route.name.as_str(), &route.listeners), ("route-1", &vec![0]));
    assert_eq!(route.action, Action::Forward(vec![(PoolId(0), 1)]));
    assert_eq!(plan.pools[0].endpoints[0].weight, 1);
    assert_eq!(plan.pools[0].policy, crate::balance::Choice::default());
}

#[test]
fn the_admin_listener_is_known_whatever_is_wrong_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("f.toml");
    fs::write(folder.path().join("part.toml"), "[admin]\nbind = \"127.0.0.1:3\"").unwrap();
    let token = "token = \"0123456789abcdef\"";
    for (text, bind, tokens) in [
        (format!("wrokers = 1\n[admin]\nbind = \"127.0.0.1:1\"\nread.{token}"), "127.0.0.1:1", 1),
        (format!("[admin]\nbind = \"127.0.0.1:1\"\nread.{token}\n[[route"), "127.0.0.1:1", 1),
        ("[admin]\nbind = \"127.0.0.1:1\"\nread.token = \"${UNSET}\"".to_owned(), "127.0.0.1:1", 0),
        ("include = \"part.toml\"\nx = 1".to_owned(), "127.0.0.1:3", 0),
        ("[admin\n".to_owned(), "127.0.0.1:9900", 0),
    ] {
        fs::write(&file, &text).unwrap();
        let admin = read_admin(&file, &|_| None).unwrap();
        assert_eq!((admin.bind[0].to_string().as_str(), admin.read.tokens.len()), (bind, tokens), "{text}");
    }
    fs::write(&file, "admin.enabled = false\nx = 1").unwrap();
    assert!(read_admin(&file, &|_| None).is_none());
    assert!(read_admin(&folder.path().join("none.toml"), &|_| None).is_some());
}

const LARGE: &str = r#"
        workers = 3
        admin.enabled = false
        drain = { delay = "1s", timeout = "1m" }
        [log]
        level = "info,forebay=debug"
        format = "json"
        [[listener]]
        name = "one"
        bind = ["127.0.0.1:1", "unix:one.sock"]
        x_forwarded = "off"
        forwarded = "replace"
        trusted_proxies = "10.0.0.0/8"
        max_head = "1KiB"
        access_log = { format = "json", path = "log/access", queue = 5 }
        timeouts = { header = "1s500ms" }
        [[listener]]
        name = "two"
        bind = "[::1]:2"
        access_log = "text"
        [[route]]
        listener = "two"
        host = ["A.example", "*.b.example"]
        method = "PUT"
        split = { blue = 9, green = 1 }
        timeouts.request = "3s"
        [[route]]
        path = "/x"
        filters = [{ respond = { status = 204 } }]
        [pool.green]
        endpoints = ["unix:green.sock", { address = "App.internal:80", weight = 7 }]
        protocol = "http2"
        max_requests = 9
        [pool.blue]
        endpoints = "127.0.0.1:9001"
        policy = "random"
        timeouts.connect = "1s"
        "#;

#[test]
fn listeners_and_the_process_are_as_written() {
    let plan = plan(LARGE);
    assert_eq!(plan.workers.map(usize::from), Some(3));
    assert!(plan.admin.is_none());
    assert_eq!((plan.drain.delay, plan.drain.timeout), (Duration::from_secs(1), Duration::from_secs(60)));
    assert_eq!((plan.log.level.as_str(), plan.log.format), ("info,forebay=debug", LogFormat::Json));
    let [one, two] = plan.listeners.as_slice() else { panic!("{:?}", plan.listeners) };
    assert_eq!(one.bind[1].to_string(), "unix:/etc/forebay/one.sock");
    assert_eq!((one.identity.x_forwarded, one.identity.forwarded), (Forwarding::Off, Forwarding::Replace));
    assert_eq!(one.identity.trusted_proxies.len(), 1);
    assert_eq!((one.limits.head_bytes, one.timeouts.header), (1024, Duration::from_millis(1500)));
    let log = AccessLogPlan {
        format: LogFormat::Json,
        to: LogTarget::File("/etc/forebay/log/access".into()),
        queue: 5,
        ..AccessLogPlan::default()
    };
    assert_eq!(one.access_log, Some(log));
    assert_eq!(two.access_log, Some(AccessLogPlan::default()));
}

#[test]
fn log_levels_are_what_the_log_takes() {
    let filters = ["info", "info,debgu", "infoo", "forebay=debug,warn", "forebay=loud", "h2=off , info"];
    for text in filters {
        let whole = format!("[log]\nlevel = \"{text}\"\n");
        let report = from_str("f.toml", &whole, &|_| None, Path::new(".")).expect_err("no listener");
        let said = report.to_string();
        assert_eq!(
            said.contains("log level") || said.contains("filter of log lines"),
            crate::observe::log::filter(text).is_err(),
            "{text}: {said}"
        );
    }
}

#[test]
fn routes_and_pools_are_as_written() {
    let plan = plan(LARGE);
    let [split, fixed] = plan.routes.as_slice() else { panic!("{:?}", plan.routes) };
    let hosts = [HostMatch::Exact("a.example".into()), HostMatch::Below("b.example".into())];
    assert_eq!((&split.listeners, split.rule.hosts.as_slice()), (&vec![1], hosts.as_slice()));
    assert_eq!(split.action, Action::Forward(vec![(PoolId(1), 9), (PoolId(0), 1)]), "pools as in the file");
    assert_eq!(split.timeouts.request, Some(Duration::from_secs(3)));
    assert_eq!((fixed.listeners.len(), &fixed.action, fixed.filters.len()), (2, &Action::Answer, 1));
    let [green, blue] = plan.pools.as_slice() else { panic!("{:?}", plan.pools) };
    assert_eq!(green.endpoints[0].target.to_string(), "unix:/etc/forebay/green.sock");
    assert_eq!(
        (green.endpoints[1].target.to_string(), green.endpoints[1].weight),
        ("app.internal:80".into(), 7)
    );
    assert_eq!((green.protocol, green.connections.requests), (UpstreamProtocol::Http2, Some(9)));
    assert_eq!((blue.policy.name(), blue.timeouts.connect), ("random", Duration::from_secs(1)));
}

#[test]
fn the_environment_fills_in() {
    let text = SMALL.replace("8080", "${PORT}") + "max_idle = \"${IDLE}\"\n";
    let env = |name: &str| Some(if name == "PORT" { "81" } else { "7" }.to_owned());
    let plan = plan_with(&text, &env);
    assert_eq!(plan.listeners[0].bind[0].to_string(), "127.0.0.1:81");
    assert_eq!(plan.pools[0].connections.idle, 7);
}

#[test]
fn warnings_keep_nothing_from_running() {
    let text = SMALL.to_owned() + "[pool.old]\nendpoints = \"127.0.0.1:9002\"\n";
    let reading = read_str("test.toml", &text, &|_| None, Path::new(""));
    assert_eq!((reading.report.errors(), reading.report.warnings()), (0, 1));
    assert_eq!(reading.plan.unwrap().pools.len(), 2);
}

#[test]
fn a_file_that_cannot_be_read_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let said = |name: &str| read(&folder.path().join(name), &|_| None).into_plan().unwrap_err().to_string();
    let missing = said("missing.toml");
    assert!(missing.contains("cannot read") && missing.contains("help: name a file"), "{missing}");
    fs::write(folder.path().join("latin.toml"), b"# fine\nname = \"caf\xe9\"\n").unwrap();
    let latin = said("latin.toml");
    assert!(latin.contains("the file is not UTF-8") && latin.contains("latin.toml:2:12"), "{latin}");
    assert!(said("").contains("cannot read"), "a folder is no file");
}

#[test]
fn a_file_is_read_with_its_own_folder() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.toml");
    fs::write(&path, SMALL.replace("127.0.0.1:8080", "unix:a.sock")).unwrap();
    let plan = read(&path, &|_| None).into_plan().unwrap();
    assert_eq!(plan.listeners[0].bind[0].to_string(), format!("unix:{}/a.sock", folder.path().display()));
}

/// A folder with a configuration that includes others and names certificates.
fn folder_with_includes() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    fs::create_dir(folder.path().join("conf.d")).unwrap();
    write("main.toml", &("include = [\"conf.d/*.toml\", \"last.toml\"]\n".to_owned() + SMALL));
    write(
        "conf.d/b.toml",
        "[[route]]\nname = \"b\"\npath = \"/b\"\npool = \"b\"\n[pool.b]\nendpoints = \"b:1\"\n",
    );
    write("conf.d/a.toml", "[[route]]\nname = \"a\"\npath = \"/a\"\npool = \"b\"\n");
    write("conf.d/.c.toml", "nonsense");
    write(
        "last.toml",
        "workers = 2\n[[listener]]\nname = \"edge\"\nbind = \"127.0.0.1:8443\"\nprotocol = \"https\"\n\
         certificates = [{ cert = \"cert.pem\", key = \"key.pem\" }]\n",
    );
    renew_certificate(folder.path());
    folder
}

fn renew_certificate(folder: &Path) {
    let pair = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
    fs::write(folder.join("cert.pem"), pair.cert.pem()).unwrap();
    fs::write(folder.join("key.pem"), pair.signing_key.serialize_pem()).unwrap();
}

#[test]
fn included_files_are_as_if_they_stood_at_the_end() {
    let folder = folder_with_includes();
    let plan = read(&folder.path().join("main.toml"), &|_| None)
        .into_plan()
        .unwrap_or_else(|report| panic!("{report}"));
    let names: Vec<_> = plan.routes.iter().map(|route| route.name.as_str()).collect();
    assert_eq!(names, ["route-1", "a", "b"], "in alphabetical order of their files");
    assert_eq!(plan.pools.iter().map(|pool| pool.name.as_str()).collect::<Vec<_>>(), ["app", "b"]);
    assert_eq!(plan.listeners.len(), 2);
    assert_eq!(plan.workers.map(usize::from), Some(2));
    let shown = |path: &PathBuf| path.strip_prefix(folder.path()).unwrap().display().to_string();
    let files: Vec<_> = plan.origin.files.iter().map(shown).collect();
    assert_eq!(files, ["main.toml", "conf.d/a.toml", "conf.d/b.toml", "last.toml", "cert.pem", "key.pem"]);
    assert_eq!(plan.origin.folders.iter().map(shown).collect::<Vec<_>>(), ["conf.d"]);
    assert_eq!(plan.origin.texts.len(), 4);
}

#[test]
fn a_renewed_certificate_changes_its_listener_alone() {
    let folder = folder_with_includes();
    let read = || read(&folder.path().join("main.toml"), &|_| None).into_plan().unwrap();
    let before = read();
    assert_eq!(before.origin.fingerprint, read().origin.fingerprint);
    renew_certificate(folder.path());
    let after = read();
    assert_ne!(before.origin.fingerprint, after.origin.fingerprint);
    let changed = |index: usize| before.listeners[index].fingerprint != after.listeners[index].fingerprint;
    assert_eq!((changed(0), changed(1)), (false, true));
    assert_ne!(before.listeners[1].tls_fingerprint, after.listeners[1].tls_fingerprint);
    assert_eq!(before.pools[0].fingerprint, after.pools[0].fingerprint);
}

#[test]
fn what_has_nothing_to_do_with_tls_leaves_its_fingerprint() {
    let other = plan(&SMALL.replace("8080\"", "8081\"\nvia = false"));
    let (before, after) = (&plan(SMALL).listeners[0], &other.listeners[0]);
    assert_ne!(before.fingerprint, after.fingerprint);
    assert_eq!(before.tls_fingerprint, after.tls_fingerprint);
}

#[test]
fn what_keeps_a_plan_from_being_made_is_known_to_be_watched() {
    let folder = folder_with_includes();
    fs::remove_file(folder.path().join("key.pem")).unwrap();
    let reading = read(&folder.path().join("main.toml"), &|_| None);
    assert!(reading.plan.is_none());
    assert!(reading.files.contains(&folder.path().join("key.pem")), "{:?}", reading.files);
    assert_eq!(reading.folders.len(), 1);
}

#[test]
fn pools_without_routes_take_more_at_once_unless_they_say_how_much() {
    let listener = |name: &str, port: u16, pool: &str| {
        format!(
            "[[listener]]\nname = \"{name}\"\nbind = \"127.0.0.1:{port}\"\nprotocol = \"tcp\"\npool = \"{pool}\"\n"
        )
    };
    let text = [
        "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:80\"\n".to_owned(),
        listener("a", 81, "both"),
        listener("b", 82, "own"),
        listener("c", 83, "left"),
        "[[route]]\npool = \"both\"\n".to_owned(),
        "[pool.both]\nendpoints = [\"127.0.0.1:1\"]\n".to_owned(),
        "[pool.own]\nendpoints = [\"127.0.0.1:1\"]\nlimits = { in_flight = 7 }\n".to_owned(),
        "[pool.left]\nendpoints = [\"127.0.0.1:1\"]\n".to_owned(),
    ];
    let plan = plan(&text.concat());
    let limits: Vec<_> = plan.pools.iter().map(|pool| pool.limits.in_flight).collect();
    assert_eq!(limits, [1024, 7, 65_536]);
}
