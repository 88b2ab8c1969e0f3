//! Reloading as those who run Forebay meet it: files that change in all the ways that files do, bad ones
//! of every kind, signals and orders; a real process each.

#![expect(clippy::indexing_slicing, reason = "what is missing in JSON reads as null")]

mod support;

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat, open};
use rustix::process::Signal;
use rustls::ClientConnection;
use rustls_pki_types::CertificateDer;
use serde_json::Value;
use support::*;
use tempfile::TempDir;

/// A running program whose configuration can be changed.
struct Site {
    process: Process,
    folder: TempDir,
    /// The arguments that name its admin listener.
    admin: String,
}

/// One listener whose only route answers with `body`, and `more`.
fn says(body: &str, more: &str) -> String {
    format!(
        "workers = 1\n{more}\n[admin]\nbind = \"127.0.0.1:0\"\n[reload]\ndebounce = \"20ms\"\n\
         [[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n\
         [[route]]\nname = \"all\"\nfilters = [{{ respond = {{ status = 200, body = \"{body}\" }} }}]\n"
    )
}

/// The same, read again only when that is asked for.
fn says_unwatched(body: &str) -> String {
    says(body, "").replace("debounce", "watch = false\ndebounce")
}

/// What a command printed and how it ended.
#[derive(Debug)]
struct Done {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Site {
    /// Starts with what `toml` says in `f.toml`.
    #[track_caller]
    fn start(toml: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        fs::write(folder.path().join("f.toml"), toml).expect("it takes a file");
        Self::start_in(folder)
    }

    #[track_caller]
    fn start_in(folder: TempDir) -> Self {
        let mut process = Process::spawn(folder.path(), &["run", "-c", "f.toml"]);
        process.wait_until_up();
        let admin = process.admin().to_string();
        Self { process, folder, admin }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file as editors do: another one first, which then takes the name.
    #[track_caller]
    fn replace(&self, name: &str, text: &str) {
        let next = self.path(&format!(".{name}.swp"));
        fs::write(&next, text).expect("the folder takes a file");
        fs::rename(&next, self.path(name)).expect("and lets it be renamed");
    }

    /// Runs another command against it.
    #[track_caller]
    fn command(&self, args: &[&str]) -> Done {
        let args = [args, &["--admin", &self.admin]].concat();
        let mut command = Process::spawn(self.folder.path(), &args);
        let code = command.wait().code();
        Done { code, out: command.out(), err: command.err() }
    }

    fn status(&self) -> Value {
        serde_json::from_slice(&self.process.ask_admin("/v1/config/status").body).expect("JSON")
    }

    fn metric(&self, name: &str) -> f64 {
        Metrics::parse(&self.process.ask_admin("/metrics").text()).sum(name, &[])
    }

    /// What a client is told.
    #[track_caller]
    fn body(&self) -> String {
        let mut client = self.process.connect();
        client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        client.response().text()
    }

    #[track_caller]
    fn becomes(&self, body: &str) {
        eventually(&format!("the answer {body:?}"), || self.body() == body);
    }

    /// That a reload has failed because of `why`, told wherever one may look, and `body` goes on.
    #[track_caller]
    fn is_loud(&self, why: &str, body: &str) {
        let logged = |words: &str| self.process.err().contains(words);
        eventually(why, || logged("ERROR") && logged("was not replaced") && logged(why));
        assert_eq!(self.metric("forebay_config_last_reload_successful"), 0.0, "{why}");
        assert!(self.metric("forebay_config_last_reload_success_timestamp_seconds") > 1e9);
        let ready = self.process.ask_admin("/readyz");
        assert_eq!(ready.status(), 200);
        assert!(ready.text().starts_with("ready\nthe last reload failed"), "{}", ready.text());
        let status = self.status();
        let problems = status["last_reload"]["problems"].as_str().expect("there are problems");
        assert_eq!(status["last_reload"]["ok"], false);
        assert!(problems.contains(why), "{problems}");
        assert_eq!(self.body(), body);
    }

    /// That there is nothing to complain about.
    #[track_caller]
    fn is_well(&self, generation: u64) {
        assert_eq!(self.metric("forebay_config_last_reload_successful"), 1.0);
        assert_eq!(self.process.ask_admin("/readyz").text(), "ready\n");
        let status = self.status();
        assert_eq!((&status["generation"], &status["last_reload"]["ok"]), (&generation.into(), &true.into()));
        assert_eq!(self.metric("forebay_config_generation"), generation as f64);
        let hash = status["hash"].as_str().expect("there is a digest");
        let scrape = Metrics::parse(&self.process.ask_admin("/metrics").text());
        assert_eq!(scrape.sum("forebay_config_hash", &[("hash", hash)]), 1.0);
    }
}

/// Every kind of bad file: what it is, its text, and what is said of it. Without a text it is deleted.
fn bad_files(taken: &TcpListener) -> Vec<(&'static str, Option<String>, String)> {
    let good = says_unwatched("one");
    let taken = taken.local_addr().expect("it is bound");
    let more = |text: &str| Some(format!("{good}{text}"));
    let half = good.split_once("respond").expect("it has a filter").0.to_owned();
    let https = "[[listener]]\nname = \"s\"\nbind = \"127.0.0.1:0\"\nprotocol = \"https\"\n";
    vec![
        ("syntax", more("[[listener\n"), "f.toml:".to_owned()),
        ("unknown key", more("[drain]\ndealy = \"1s\"\n"), "did you mean `delay`?".to_owned()),
        (
            "missing key file",
            more(&format!("{https}certificates = [{{ cert = \"c.pem\", key = \"c.key\" }}]\n")),
            "c.pem".to_owned(),
        ),
        (
            "port in use",
            more(&format!("[[listener]]\nname = \"other\"\nbind = \"{taken}\"\n")),
            format!("cannot listen on {taken}"),
        ),
        ("half-written", Some(half), "f.toml:".to_owned()),
        ("empty", Some(String::new()), "there is no listener".to_owned()),
        ("deleted", None, "cannot read f.toml".to_owned()),
    ]
}

#[test]
fn every_kind_of_bad_file_leaves_all_as_it_was_and_says_so() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let site = Site::start(&says_unwatched("one"));
    let mut generation = 1;
    for (kind, text, why) in bad_files(&taken) {
        match text {
            Some(text) => site.replace("f.toml", &text),
            None => fs::remove_file(site.path("f.toml")).expect("it was there"),
        }
        let done = site.command(&["reload"]);
        assert_eq!((done.code, done.out.as_str()), (Some(1), ""), "{kind}");
        assert!(done.err.contains(&why) && done.err.contains("was not replaced"), "{kind}: {}", done.err);
        site.is_loud(&why, if generation % 2 == 1 { "one" } else { "two" });
        assert_eq!(site.metric("forebay_config_generation"), generation as f64, "{kind}");

        generation += 1;
        let body = if generation % 2 == 1 { "one" } else { "two" };
        site.replace("f.toml", &says_unwatched(body));
        let done = site.command(&["reload"]);
        assert_eq!((done.code, done.err.as_str()), (Some(0), ""), "{kind}");
        assert!(done.out.starts_with(&format!("generation {generation} is in force\n")), "{}", done.out);
        assert_eq!(site.body(), body, "{kind}");
        site.is_well(generation);
    }
}

#[test]
fn bad_files_are_noticed_and_good_ones_again() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let site = Site::start(&says("one", ""));
    let mut generation = 1;
    for (kind, text, why) in bad_files(&taken) {
        let text = text.map(|text| text.replace("watch = false", "watch = true"));
        let before = site.metric("forebay_config_reloads_total");
        match text {
            Some(text) => fs::write(site.path("f.toml"), text).expect("it can be written"),
            None => fs::remove_file(site.path("f.toml")).expect("it was there"),
        }
        eventually(kind, || site.metric("forebay_config_reloads_total") > before);
        eventually(kind, || site.process.err().contains(&why));
        site.is_loud(&why, if generation % 2 == 1 { "one" } else { "two" });
        generation += 1;
        let body = if generation % 2 == 1 { "one" } else { "two" };
        fs::write(site.path("f.toml"), says(body, "")).expect("it can be written");
        site.becomes(body);
        eventually(kind, || site.status()["last_reload"]["ok"] == true);
        site.is_well(generation);
    }
}

#[test]
fn a_file_that_says_the_same_makes_no_generation() {
    let site = Site::start(&says("one", ""));
    let done = site.command(&["reload"]);
    let same = "nothing has changed: generation 1 is in force\n";
    assert_eq!((done.code, done.out.as_str()), (Some(0), same));
    // Touched, and written anew with another comment: nothing that means anything.
    site.replace("f.toml", &(says("one", "") + "# a comment\n"));
    site.replace("f.toml", &says("two", ""));
    site.becomes("two");
    site.is_well(2);
}

#[test]
fn a_hangup_reads_the_file_again() {
    let site = Site::start(&says_unwatched("one"));
    site.replace("f.toml", &says_unwatched("two"));
    site.process.signal(Signal::HUP);
    site.becomes("two");
    eventually("the end of the reload", || site.status()["last_reload"]["cause"] == "signal");
    site.is_well(2);
}

#[test]
fn an_editors_rename_is_noticed_again_and_again() {
    let site = Site::start(&says("one", ""));
    for (generation, body) in (2..).zip(["two", "three", "four"]) {
        site.replace("f.toml", &says(body, ""));
        site.becomes(body);
        let status = || site.status();
        eventually("the generation", || status()["generation"] == generation);
        eventually("the end of the reload", || status()["last_reload"]["cause"] == "file");
    }
}

/// A folder as Kubernetes mounts a ConfigMap: `f.toml` leads to `..data/f.toml`, and `..data` to the
/// version of the day.
fn mount(folder: &Path, version: &str, toml: &str) {
    fs::create_dir(folder.join(version)).expect("the folder takes a folder");
    fs::write(folder.join(version).join("f.toml"), toml).expect("which takes a file");
    symlink(version, folder.join("..next")).expect("and a link");
    fs::rename(folder.join("..next"), folder.join("..data")).expect("which takes the name");
}

#[test]
fn a_config_map_that_is_swapped_is_noticed() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    mount(folder.path(), "..v1", &says("one", ""));
    symlink("..data/f.toml", folder.path().join("f.toml")).expect("the folder takes a link");
    let site = Site::start_in(folder);
    for (version, body) in [("..v2", "two"), ("..v3", "three")] {
        mount(site.folder.path(), version, &says(body, ""));
        site.becomes(body);
    }
}

#[test]
fn a_folder_that_is_swapped_is_noticed() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    for (version, body) in [("v1", "one"), ("v2", "two")] {
        fs::create_dir(folder.path().join(version)).expect("the folder takes a folder");
        fs::write(folder.path().join(version).join("f.toml"), says(body, "")).expect("which takes a file");
    }
    symlink("v1", folder.path().join("current")).expect("the folder takes a link");
    let mut process = Process::spawn(folder.path(), &["run", "-c", "current/f.toml"]);
    process.wait_until_up();
    let admin = process.admin().to_string();
    let site = Site { process, folder, admin };
    symlink("v2", site.path("next")).expect("and another");
    fs::rename(site.path("next"), site.path("current")).expect("which takes the name");
    site.becomes("two");
}

#[test]
fn included_files_are_watched_and_new_ones_found() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    fs::create_dir(folder.path().join("conf.d")).expect("which takes a folder");
    let main = format!("include = [\"conf.d/*.toml\"]\n{}", says("one", ""));
    fs::write(folder.path().join("f.toml"), main).expect("and a file");
    let site = Site::start_in(folder);
    let extra = |body: &str| {
        format!(
            "[[route]]\nname = \"more\"\npath_prefix = \"/more\"\n\
             filters = [{{ respond = {{ status = 200, body = \"{body}\" }} }}]\n"
        )
    };
    let more = || {
        let mut client = site.process.connect();
        client.send("GET /more HTTP/1.1\r\nHost: test\r\n\r\n");
        client.response().text()
    };
    fs::write(site.path("conf.d/a.toml"), extra("two")).expect("the folder takes a file");
    eventually("the file's route", || more() == "two");
    fs::write(site.path("conf.d/a.toml"), extra("three")).expect("which can change");
    eventually("the route's change", || more() == "three");
    fs::write(site.path("conf.d/a.toml"), "[[route").expect("and become bad");
    eventually("the complaint", || site.status()["last_reload"]["ok"] == false);
    site.is_loud("conf.d/a.toml", "one");
    fs::remove_file(site.path("conf.d/a.toml")).expect("and go");
    eventually("the route's end", || more() == "one");
    eventually("the end of complaints", || site.status()["last_reload"]["ok"] == true);
}

#[test]
fn a_new_certificate_is_shown_to_new_clients() {
    let pki = Pki::new();
    pki.issue("site", &["site.test"]);
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let take = |folder: &Path| {
        for end in ["key", "pem"] {
            let name = format!("site.{end}");
            fs::copy(pki.path().join(&name), folder.join(&name)).expect("the folder takes a file");
        }
    };
    take(folder.path());
    let tls = "\n[[listener]]\nname = \"tls\"\nbind = \"127.0.0.1:0\"\nprotocol = \"https\"\n\
               certificates = [{ cert = \"site.pem\", key = \"site.key\" }]\n";
    fs::write(folder.path().join("f.toml"), says("one", "") + tls).expect("and another");
    let site = Site::start_in(folder);
    let shown = || shown_certificate(site.process.address("tls"), &pki);
    let before = pki.certificate("site");
    assert_eq!(shown(), before);
    pki.issue("site", &["site.test"]);
    assert_ne!(pki.certificate("site"), before);
    take(site.folder.path());
    eventually("the new certificate", || shown() == pki.certificate("site"));
    assert_eq!(site.body(), "one");
}

/// The certificate that `site.test` shows.
#[track_caller]
fn shown_certificate(address: SocketAddr, pki: &Pki) -> CertificateDer<'static> {
    let name = "site.test".try_into().expect("it is a name");
    let config = Arc::new(pki.client(&[], rustls::ALL_VERSIONS));
    let mut tls = ClientConnection::new(config, name).expect("the settings fit");
    let mut tcp = TcpStream::connect_timeout(&address, DEADLINE).expect("it listens");
    while tls.is_handshaking() {
        tls.complete_io(&mut tcp).expect("it shakes hands");
    }
    tls.peer_certificates().expect("it shows certificates")[0].clone()
}

#[test]
fn what_is_not_started_from_a_file_is_not_reloaded() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let args = ["proxy", "--from", "127.0.0.1:0", "--to", "127.0.0.1:1", "--admin", "127.0.0.1:0"];
    let mut process = Process::spawn(folder.path(), &args);
    process.wait_until_up();
    let admin = process.admin().to_string();
    let site = Site { process, folder, admin };
    let done = site.command(&["reload"]);
    assert_eq!(done.code, Some(1));
    assert!(done.err.contains("there is no configuration file to read again"), "{}", done.err);
    assert_eq!(site.process.ask_admin("/readyz").text(), "ready\n");
    site.process.signal(Signal::HUP);
    eventually("the log", || site.process.err().contains("there is no configuration file"));
}

#[test]
fn what_needs_a_restart_is_said() {
    let site = Site::start(&says_unwatched("one"));
    site.replace("f.toml", &says_unwatched("one").replace("workers = 1", "workers = 2"));
    let done = site.command(&["reload"]);
    assert_eq!(done.code, Some(0), "{}", done.err);
    assert!(
        done.out.contains("`workers` has changed, which takes effect when forebay is restarted"),
        "{}",
        done.out
    );
}

#[test]
fn a_plan_shows_what_would_change_and_changes_nothing() {
    let site = Site::start(&says_unwatched("one"));
    let taken = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let more = format!(
        "[[listener]]\nname = \"late\"\nbind = \"{}\"\n[pool.new]\nendpoints = [\"127.0.0.1:1\"]\n\
         [[route]]\nname = \"more\"\npath_prefix = \"/more\"\npool = \"new\"\n",
        taken.local_addr().expect("it is bound")
    );
    fs::write(site.path("next.toml"), says_unwatched("two") + &more).expect("the folder takes a file");
    let done = site.command(&["plan", "-c", "next.toml"]);
    assert_eq!(done.code, Some(0), "{}", done.err);
    for wanted in
        ["against generation 1", "route all", "pool new", "late", "cannot listen on", "kept: 1 listener"]
    {
        assert!(done.out.contains(wanted), "{wanted}: {}", done.out);
    }
    assert!(!done.out.contains('\x1b'), "no colours where there is no terminal");
    let done = site.command(&["plan", "-c", "next.toml", "--json"]);
    let told: Value = serde_json::from_str(&done.out).expect("JSON");
    assert_eq!((&told["result"], &told["generation"]), (&"valid".into(), &1.into()));
    assert_eq!(told["diff"]["pools"]["added"][0], "new");
    assert_eq!((site.body().as_str(), site.metric("forebay_config_generation")), ("one", 1.0));

    let done = site.command(&["plan", "-c", "f.toml"]);
    assert_eq!(done.code, Some(0));
    assert!(done.out.contains("nothing changes"), "{}", done.out);
    fs::write(site.path("next.toml"), "wrokers = 1").expect("the folder takes a file");
    let done = site.command(&["plan", "-c", "next.toml"]);
    assert_eq!(done.code, Some(1));
    assert!(done.err.contains("did you mean `workers`?"), "{}", done.err);
    assert_eq!(site.process.ask_admin("/readyz").text(), "ready\n", "asking is no failure");
}

#[test]
fn what_is_applied_is_in_force_until_the_file_is_read_again() {
    let site = Site::start(&says_unwatched("one"));
    fs::write(site.path("next.toml"), says_unwatched("two")).expect("the folder takes a file");
    let done = site.command(&["apply", "-c", "next.toml", "--if-generation", "7"]);
    assert_eq!(done.code, Some(1));
    assert!(done.err.contains("generation 1 is in force, not 7"), "{}", done.err);
    assert_eq!(site.body(), "one");
    let done = site.command(&["apply", "-c", "next.toml", "--if-generation", "1"]);
    assert_eq!(done.code, Some(0), "{}", done.err);
    assert!(done.out.starts_with("generation 2 is in force\n"), "{}", done.out);
    assert!(done.err.contains("comes back"), "{}", done.err);
    assert_eq!((site.body().as_str(), &site.status()["cause"]), ("two", &"apply".into()));
    assert_eq!(site.command(&["reload"]).code, Some(0));
    assert_eq!(site.body(), "one");
    fs::write(site.path("next.toml"), "[[route").expect("the folder takes a file");
    let done = site.command(&["apply", "-c", "next.toml"]);
    assert_eq!(done.code, Some(1));
    assert!(done.err.contains("next.toml:1"), "{}", done.err);
    assert_eq!((site.body().as_str(), site.process.ask_admin("/readyz").text().as_str()), ("one", "ready\n"));
}

#[test]
fn sockets_beside_the_file_stay_whoever_sends_it() {
    let site = Site::start(&with_sockets("one"));
    fs::write(site.path("next.toml"), with_sockets("two")).expect("the folder takes a file");
    let done = site.command(&["plan", "-c", "f.toml"]);
    assert!(done.out.contains("nothing changes"), "{}", done.out);
    let done = site.command(&["apply", "-c", "next.toml"]);
    assert_eq!(done.code, Some(0), "{}", done.err);
    assert_eq!(
        done.out,
        "generation 2 is in force\n  ~ route all\n      filters[0].respond.body: \"one\" -> \"two\"\n"
    );
    assert_eq!(site.body(), "two");
    assert_eq!(site.command(&["config", "rollback"]).code, Some(0));
    assert_eq!(site.body(), "one");
}

/// The same with Unix sockets and files of state beside the file.
fn with_sockets(body: &str) -> String {
    let text = says_unwatched(body).replace("workers = 1", "workers = 1\nstate_dir = \"state\"");
    let text = text.replace(
        "name = \"web\"\nbind = \"127.0.0.1:0\"",
        "name = \"web\"\nbind = [\"127.0.0.1:0\", \"unix:web.sock\"]",
    );
    text.replace(
        "[admin]\nbind = \"127.0.0.1:0\"",
        "[upgrade]\nsocket = \"up.sock\"\n[admin]\nbind = [\"127.0.0.1:0\", \"unix:admin.sock\"]",
    )
}

#[test]
fn what_makes_requests_fail_is_taken_back_and_what_does_not_is_kept() {
    let site = Site::start(&says("one", ""));
    let bad = says("two", "").replace("status = 200", "status = 500");
    fs::write(site.path("next.toml"), bad).expect("the folder takes a file");
    for _ in 0..50 {
        assert_eq!(site.body(), "one");
    }
    let apply = ["apply", "-c", "next.toml", "--auto-rollback"];
    let args = [&apply[..], &["30s", "--admin", &site.admin]].concat();
    let mut command = Process::spawn(site.folder.path(), &args);
    let mut saw = false;
    eventually("the end of the trial", || {
        saw |= site.body() == "two";
        command.has_ended()
    });
    assert_eq!((command.wait().code(), saw), (Some(1), true));
    assert!(command.err().contains("generation 2 was taken back"), "{}", command.err());
    site.becomes("one");
    let status = site.status();
    assert_eq!((&status["generation"], &status["cause"]), (&3.into(), &"auto_rollback".into()));
    assert_eq!(status["trial"]["state"], "taken_back");
    eventually("the log", || site.process.err().contains("is taken back"));
    assert_eq!(site.metric("forebay_config_auto_rollbacks_total"), 1.0);
    let history = site.command(&["config", "history"]);
    assert!(history.out.contains("taken back"), "{}", history.out);

    fs::write(site.path("next.toml"), says("two", "")).expect("the folder takes a file");
    let done = site.command(&[&apply[..], &["1s"]].concat());
    assert_eq!(done.code, Some(0), "{}", done.err);
    assert!(done.out.contains("generation 4 is kept"), "{}", done.out);
    assert_eq!(site.body(), "two");
}

#[test]
fn history_and_rollback_outlive_the_process() {
    let state = |body: &str| {
        format!("state_dir = \"state\"\ninclude = [\"conf.d/*.toml\"]\n{}", says_unwatched(body))
    };
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    fs::create_dir(folder.path().join("conf.d")).expect("which takes a folder");
    let part = "[[route]]\nname = \"part\"\npath = \"/part\"\nfilters = [{ respond = { status = 204 } }]\n";
    fs::write(folder.path().join("conf.d/a.toml"), part).expect("and a file");
    fs::write(folder.path().join("f.toml"), state("one")).expect("and another");
    let site = Site::start_in(folder);
    site.replace("f.toml", &state("two"));
    assert_eq!(site.command(&["reload"]).code, Some(0));
    let diff = site.command(&["config", "diff"]);
    assert!(diff.out.contains("route all"), "{} {}", diff.out, diff.err);

    let Site { mut process, folder, .. } = site;
    process.signal(Signal::TERM);
    assert!(process.wait().success());
    // The same configuration goes on under the same number.
    let site = Site::start_in(folder);
    assert_eq!(site.metric("forebay_config_generation"), 2.0);
    assert_eq!(site.command(&["config", "history"]).out.lines().count(), 3, "with the heading");
    // The part that is gone comes back with the configuration that it belonged to.
    fs::remove_file(site.path("conf.d/a.toml")).expect("it was there");
    let done = site.command(&["config", "rollback"]);
    assert_eq!(done.code, Some(0), "{}", done.err);
    assert!(done.out.starts_with("generation 3 is in force"), "{}", done.out);
    assert_eq!(site.body(), "one");
    let mut client = site.process.connect();
    client.send("GET /part HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(client.response().status(), 204);
    let done = site.command(&["config", "rollback", "9"]);
    assert_eq!(done.code, Some(1));
    assert!(done.err.contains("generation 9 is not known"), "{}", done.err);
    let one: Value = serde_json::from_slice(&site.process.ask_admin("/v1/config/2").body).expect("JSON");
    assert_eq!((&one["generation"], &one["cause"]), (&2.into(), &"request".into()));
    assert_eq!(site.process.ask_admin("/v1/config/77").status(), 404);
}

#[test]
fn a_state_folder_that_cannot_be_written_is_a_warning() {
    let site = Site::start(&format!("state_dir = \"f.toml\"\n{}", says_unwatched("one")));
    assert!(site.process.err().contains("cannot be kept"), "{}", site.process.err());
    site.replace("f.toml", &format!("state_dir = \"f.toml\"\n{}", says_unwatched("two")));
    assert_eq!(site.command(&["reload"]).code, Some(0));
    assert_eq!(site.body(), "two");
}

#[test]
fn a_plan_warns_of_what_is_too_small_for_the_load() {
    let origin = never_answers();
    let pool = |limits: &str, timeout: &str| {
        let text = says_unwatched("one");
        format!(
            "{text}[[route]]\nname = \"app\"\npath = \"/app\"\npool = \"app\"\n{timeout}\n\
             [pool.app]\nendpoints = [\"{}\"]\n[pool.app.limits]\n{limits}\n\
             [[listener]]\nname = \"second\"\nbind = \"127.0.0.1:0\"\n",
            origin.address()
        )
    };
    let site = Site::start(&pool("", ""));
    let clients: Vec<_> = (0..3)
        .map(|_| {
            let mut client = site.process.connect();
            client.send("GET /app HTTP/1.1\r\nHost: test\r\n\r\n");
            client
        })
        .collect();
    let in_flight = || site.metric("forebay_pool_in_flight");
    eventually("the load", || in_flight() == 3.0);
    let other = Link::to(site.process.address("second"));
    let active = || Metrics::parse(&site.process.ask_admin("/metrics").text());
    let of_second = [("listener", "second")];
    eventually("the connection", || active().sum("forebay_connections_active", &of_second) == 1.0);
    let next = pool("in_flight = 2", "").replace("name = \"second\"", "name = \"third\"");
    fs::write(site.path("next.toml"), next).expect("the folder takes a file");
    let done = site.command(&["plan", "-c", "next.toml"]);
    for wanted in [
        "pool.app.limits.in_flight: 2 is below the 3 requests under way now",
        "listener second: 1 connection to drain",
        "kept: 1 pool with connections, health",
    ] {
        assert!(done.out.contains(wanted), "{wanted}: {} {}", done.out, done.err);
    }
    drop((clients, other));
}

#[test]
fn a_file_that_hangs_keeps_neither_the_control_thread_nor_the_end_waiting() {
    let mut site = Site::start(&says("one", ""));
    let (pipe, file) = (site.path("pipe"), site.path("f.toml"));
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a pipe can be made");
    fs::rename(&pipe, &file).expect("it takes the name");
    // A pipe can be opened so only once somebody has begun to read, who gets nothing as long as it is open.
    let mut writer = None;
    eventually("somebody who reads", || {
        let opened = open(&file, OFlags::WRONLY | OFlags::NONBLOCK, Mode::empty());
        writer = opened.ok();
        writer.is_some()
    });
    assert_eq!((site.body(), site.status()["generation"].as_u64()), ("one".to_owned(), Some(1)));
    site.process.signal(Signal::TERM);
    assert!(site.process.wait().success());
    drop(writer);
}
