use std::fs;
use std::path::Path;

use super::*;
use crate::config::{from_str, read};

const SMALL: &str = r#"
[[listener]]
name = "web"
bind = "127.0.0.1:8080"
[[route]]
path = "/a"
pool = "app"
[[route]]
path = "/b"
pool = "app"
[pool.app]
endpoints = ["10.0.0.1:80", "10.0.0.2:80"]
"#;

fn plan(text: &str) -> Plan {
    let env = |_: &str| Some("hunter2".to_owned());
    from_str("test.toml", text, &env, Path::new("")).unwrap_or_else(|report| panic!("{report}"))
}

fn between(before: &str, after: &str) -> Diff {
    diff(&plan(before), &plan(after), crate::ambient::now())
}

/// What changes when `from` is replaced by `to` in [`SMALL`], as text.
fn replaced(from: &str, to: &str) -> String {
    assert!(SMALL.contains(from));
    between(SMALL, &SMALL.replace(from, to)).to_string()
}

#[test]
fn comments_and_order_of_keys_are_nothing() {
    let other = SMALL.replace(
        "name = \"web\"\nbind = \"127.0.0.1:8080\"",
        "# x\nbind = \"127.0.0.1:8080\"\nname = \"web\"",
    );
    let diff = between(SMALL, &other);
    assert!(diff.is_empty(), "{diff:?}");
    assert_eq!(diff.to_string(), "nothing changes\n");
}

#[test]
fn keys_are_shown_with_both_values() {
    let said = replaced("[pool.app]", "[pool.app]\nlimits.in_flight = 600\nmax_requests = 9");
    assert_eq!(
        said,
        "~ pool app\n    limits.in_flight: 1024 (default) -> 600\n    max_requests: unset -> 9\n"
    );
    let said =
        replaced("bind = \"127.0.0.1:8080\"", "bind = \"127.0.0.1:8081\"\ntimeouts = { header = \"1s\" }");
    assert_eq!(
        said,
        "~ listener web\n    bind: \"127.0.0.1:8080\" -> \"127.0.0.1:8081\"\n    \
         timeouts.header: \"10s\" (default) -> \"1s\"\n\
         ! listener.web: no longer listens on 127.0.0.1:8080: the connections there drain\n"
    );
}

#[test]
fn the_process_says_what_waits_for_a_restart() {
    let diff = between(SMALL, &format!("workers = 2\nlog.level = \"debug\"\n{SMALL}"));
    assert_eq!(
        diff.to_string(),
        "~ workers: unset -> 2  (after a restart)\n~ log.level: \"info\" (default) -> \"debug\"\n"
    );
    assert_eq!(diff.needs_restart().collect::<Vec<_>>(), ["workers"]);
    let admin = |text: &str| format!("{text}{SMALL}");
    let token = "[admin]\nread.token = \"0123456789abcdef\"\n";
    let other = "[admin]\nread.token = \"0123456789abcdeg\"\nbind = \"127.0.0.1:9901\"\n";
    let restart = |before: &str, after: &str| -> Vec<String> {
        between(before, after).needs_restart().map(str::to_owned).collect()
    };
    assert_eq!(restart(&admin(token), &admin(other)), ["admin.bind"]);
    assert_eq!(restart(SMALL, &admin("[admin]\nenabled = false\n")), ["admin.enabled"]);
}

#[test]
fn endpoints_come_go_and_change() {
    let said = replaced(
        "\"10.0.0.1:80\", \"10.0.0.2:80\"",
        "{ address = \"10.0.0.2:80\", weight = 3, zone = \"a\" }, \"10.0.0.3:80\"",
    );
    assert_eq!(
        said,
        "~ pool app\n    + 10.0.0.3:80\n    - 10.0.0.1:80\n    \
         ~ 10.0.0.2:80: weight 1 (default) -> 3, zone unset -> \"a\"\n"
    );
}

#[test]
fn the_same_endpoints_in_other_words_are_no_change() {
    let said = replaced("\"10.0.0.1:80\"", "{ address = \"10.0.0.1:80\", weight = 1 }");
    assert_eq!(said, "nothing changes\n");
}

#[test]
fn an_inserted_route_shifts_no_other() {
    let new = "[[route]]\npath = \"/new\"\npool = \"app\"\n";
    let diff = between(SMALL, &SMALL.replacen("[[route]]", &format!("{new}[[route]]"), 1));
    assert_eq!(names(&diff.routes.added), ["route-1"]);
    assert!(diff.routes.removed.is_empty() && diff.routes.changed.is_empty(), "{diff:?}");
    assert!(diff.to_string().contains("2 of the routes without a name are called"), "{diff}");
    let back = between(&SMALL.replacen("[[route]]", &format!("{new}[[route]]"), 1), SMALL);
    assert_eq!(names(&back.routes.removed), ["route-1"]);
}

#[test]
fn a_route_without_a_name_is_known_by_what_it_takes() {
    let before = SMALL.replacen("[[route]]", "[[route]]\npath = \"/new\"\npool = \"app\"\n[[route]]", 1);
    let after = SMALL.replace("path = \"/b\"", "path = \"/b\"\ntimeouts.request = \"1s\"");
    let diff = between(&before, &after);
    assert_eq!(names(&diff.routes.removed), ["route-1"]);
    let [change] = diff.routes.changed.as_slice() else { panic!("{diff:?}") };
    assert_eq!(change.keys[0].key, "route.route-2.timeouts.request");
}

#[test]
fn order_counts_only_between_routes_that_tie() {
    let two = |first: &str, second: &str| {
        let route = |words: &str| format!("[[route]]\n{words}\npool = \"app\"\n");
        SMALL.replace("[pool.app]", &format!("{}{}[pool.app]", route(first), route(second)))
    };
    for (a, b, matters) in [
        ("name = \"x\"\npath_regex = \"/x.*\"", "name = \"y\"\npath_regex = \"/.y\"", true),
        ("name = \"x\"\npath = \"/x\"", "name = \"y\"\npath = \"/y\"", false),
        ("name = \"x\"\npath_prefix = \"/x\"", "name = \"y\"\npath_prefix = \"/x/y\"", false),
        (
            "name = \"x\"\npath = \"/x\"\nheaders.a = \"1\"",
            "name = \"y\"\npath = \"/x\"\nheaders.b = \"1\"",
            true,
        ),
        (
            "name = \"x\"\npath = \"/x\"\nheaders.a = \"1\"",
            "name = \"y\"\npath = \"/x\"\nheaders.a = \"2\"",
            false,
        ),
        (
            "name = \"x\"\npath = \"/x\"\nmethod = \"GET\"",
            "name = \"y\"\npath = \"/x\"\nmethod = \"PUT\"",
            false,
        ),
    ] {
        let diff = between(&two(a, b), &two(b, a));
        assert_eq!(names(&diff.reordered), if matters { vec!["y"] } else { vec![] }, "{a} and {b}");
        assert_eq!(diff.is_empty(), !matters);
    }
}

#[test]
fn secrets_stay_secret() {
    let auth = |password: &str| {
        let filter = format!("filters = [{{ basic_auth = {{ users = {{ a = \"{password}\" }} }} }}]");
        SMALL.replacen("pool = \"app\"", &format!("pool = \"app\"\n{filter}"), 1)
    };
    let diff = between(&auth("one"), &auth("two"));
    assert_eq!(diff.to_string(), "~ route route-1\n    filters[0].basic_auth.users.a: \"***\" -> \"***\"\n");
    let (text, json) = (format!("{diff:?}"), diff.to_json().to_string());
    assert!(!text.contains("two") && !json.contains("two"), "{text} {json}");
}

#[test]
fn what_was_probably_not_meant_is_warned_of() {
    let said = replaced("\"10.0.0.1:80\", \"10.0.0.2:80\"", "\"10.0.0.1:80\"");
    assert!(said.contains("! pool.app: has one endpoint left: nothing takes over when it fails"), "{said}");
    let said = replaced("[pool.app]", "[pool.app]\nlimits.in_flight = 511");
    assert!(said.contains("! pool.app.limits.in_flight: the limit falls by more than half"), "{said}");
    let moved =
        SMALL.replace("pool = \"app\"", "pool = \"new\"") + "[pool.new]\nendpoints = [\"a:1\", \"b:1\"]\n";
    let said = between(SMALL, &moved).to_string();
    assert!(said.contains("! pool.app: no route leads to it any more"), "{said}");
    let second = "[[listener]]\nname = \"two\"\nbind = \"127.0.0.1:1\"\n";
    let said = between(&format!("{second}{SMALL}"), SMALL).to_string();
    assert!(said.contains("- listener two\n"), "{said}");
    assert!(said.contains("! listener.two: is removed: its connections drain"), "{said}");
}

#[test]
fn keys_and_sessions_that_move_are_counted() {
    let hashing = SMALL.replace("[pool.app]", "[pool.app]\npolicy = \"maglev\"\nsticky = {}");
    let diff = between(&hashing, &hashing.replace("\"10.0.0.1:80\", ", "\"10.0.0.3:80\", "));
    let [change] = diff.pools.changed.as_slice() else { panic!("{diff:?}") };
    assert_eq!(change.lost_sessions, Some(0.5));
    // A key stays when the endpoint that stays beats both the old and the new one: a third of them.
    assert!((0.6..0.73).contains(&change.moved_keys.unwrap()), "{change:?}");
    assert!(diff.to_string().contains(" % of hash keys move\n    50.0 % of sessions lose"), "{diff}");
}

#[test]
fn a_renewed_certificate_is_a_change_of_its_listener() {
    let folder = tempfile::tempdir().unwrap();
    let renew = || {
        let pair = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
        fs::write(folder.path().join("c.pem"), pair.cert.pem()).unwrap();
        fs::write(folder.path().join("k.pem"), pair.signing_key.serialize_pem()).unwrap();
    };
    let edge = "[[listener]]\nname = \"edge\"\nbind = \"127.0.0.1:8443\"\nprotocol = \"https\"\n\
                certificates = { cert = \"c.pem\", key = \"k.pem\" }\n";
    let path = folder.path().join("main.toml");
    fs::write(&path, format!("{SMALL}{edge}")).unwrap();
    renew();
    let before = read(&path, &|_| None).into_plan().unwrap();
    renew();
    let diff = diff(&before, &read(&path, &|_| None).into_plan().unwrap(), crate::ambient::now());
    let [change] = diff.listeners.changed.as_slice() else { panic!("{diff:?}") };
    assert_eq!((change.name.as_str(), change.keys.len(), change.tls), ("edge", 0, true));
    assert_eq!(change.files, [folder.path().join("c.pem"), folder.path().join("k.pem")]);
    assert_eq!(diff.files, change.files);
}

#[test]
fn json_has_all_fields_always() {
    let diff = between(SMALL, &SMALL.replace("[pool.app]", "[pool.app]\nlimits.in_flight = 9"));
    let json = diff.to_json();
    let fields: Vec<_> = json.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        fields,
        ["files", "listeners", "pools", "process", "reordered", "restart", "routes", "warnings"]
    );
    let key = &json["pools"]["changed"][0]["keys"][0];
    let wanted = serde_json::json!({
        "key": "pool.app.limits.in_flight",
        "before": { "value": 1024, "default": true },
        "after": { "value": 9, "default": false },
        "restart": false,
    });
    assert_eq!(key, &wanted);
}

fn names(names: &[Name]) -> Vec<&str> {
    names.iter().map(Name::as_str).collect()
}
