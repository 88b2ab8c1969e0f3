//! What a new configuration makes of names, and of names that stay.

use std::time::Duration;

use forebay::ambient;

use crate::lists::replace;
use crate::nameserver::{Answer, NameServer};
use crate::support::*;
use crate::{asks, config, endpoints, expect_endpoints};

#[test]
fn names_that_stay_keep_their_answers_and_new_ones_are_asked_for_first() {
    let server = NameServer::start();
    let folder = tempfile::tempdir().unwrap();
    server.addresses("app.test", &["127.0.0.2"], 60);
    let old = asks(&server, "port = 80").replace("[pool.app.dns]", "[[pool.app.dns]]");
    let proxy = Proxy::start(&config(&old));
    let asked = server.asked("app.test");
    server.answer("app.test", Answer::Fails);
    server.addresses("new.test", &["127.0.0.3"], 60);
    let new = old.replace("app.test", "new.test").replace("port = 80", "port = 81");
    // Another time to live makes it no other name.
    let old = old.replace("100ms", "200ms").replace("port = 80", "port = 82");
    replace(&proxy, folder.path(), &config(&(old + "\n" + &new)));
    assert_eq!(endpoints(&proxy), ["127.0.0.2:82", "127.0.0.3:81"]);
    assert_eq!(server.asked("app.test"), asked);
}

#[test]
fn a_reload_waits_for_new_names_no_longer_than_a_start() {
    let server = NameServer::start();
    let folder = tempfile::tempdir().unwrap();
    let origin = answers("here");
    let port = origin.address().port();
    let literal = format!("endpoints = [\"127.0.0.1:{port}\"]\n");
    let proxy = Proxy::start(&config(&literal));
    server.answer("app.test", Answer::Silence);
    let began = ambient::now();
    let pool = literal + &asks(&server, "port = 80").replace("500ms", "10s");
    replace(&proxy, folder.path(), &config(&pool));
    assert!(ambient::now() - began < Duration::from_secs(5));
    assert_eq!(proxy.get("/").text(), "here");
}

#[test]
fn what_changed_under_another_configuration_is_not_taken_for_this_one() {
    let server = NameServer::start();
    let folder = tempfile::tempdir().unwrap();
    server.addresses("app.test", &["127.0.0.2"], 0);
    let proxy = Proxy::start(&config(&asks(&server, "port = 80")));
    server.addresses("app.test", &["127.0.0.3"], 0);
    for weight in 1..=20 {
        replace(&proxy, folder.path(), &config(&asks(&server, &format!("port = 81\nweight = {weight}"))));
        assert!(endpoints(&proxy).iter().all(|name| name.ends_with(":81")), "{:?}", endpoints(&proxy));
    }
    expect_endpoints(&proxy, &["127.0.0.3:81"]);
    let snapshot = proxy.server().running().published().load_full();
    assert_eq!(snapshot.pools[0].endpoints[0].gauge.base_weight(), 20);
}

#[test]
fn found_endpoints_are_checked_and_verified_by_their_names() {
    let server = NameServer::start();
    let origin = answers("hello");
    let pki = Pki::new();
    pki.issue("app", &["app.test"]);
    let listener = "protocol = \"https\"\ncertificates = [{ cert = \"app.pem\", key = \"app.key\" }]";
    let edge = Proxy::start_in(
        pki.path(),
        &config(&format!("endpoints = [\"{}\"]", origin.address()))
            .replace("[[route]]", &format!("{listener}\n[[route]]")),
    );
    let port = edge.address("web").port();
    server.addresses("app.test", &["127.0.0.1"], 60);
    server.addresses("other.test", &["127.0.0.1"], 60);
    let tables = format!(
        "port = {port}\n[pool.app.tls]\nca = \"ca.pem\"\n\
         [pool.app.health]\nkind = \"http\"\npath = \"/\"\ninterval = \"100ms\"\n"
    );
    let proxy = Proxy::start_in(pki.path(), &config(&asks(&server, &tables)));
    assert_eq!(proxy.get("/").text(), "hello");
    let states = |proxy: &Proxy| {
        let readings = proxy.server().endpoints();
        readings.into_iter().map(|reading| reading.state).collect::<Vec<_>>()
    };
    assert_eq!(states(&proxy), ["up"]);
    let wrong = asks(&server, &tables).replace("app.test", "other.test");
    let proxy = Proxy::start_in(pki.path(), &config(&wrong));
    assert_eq!(proxy.get("/").status(), 502);
    assert_ne!(states(&proxy), ["up"]);
}

#[test]
fn found_endpoints_have_zones_and_levels() {
    let server = NameServer::start();
    let origins = ["near", "far", "later"].map(answers);
    let [near, far, later] = origins.each_ref().map(|origin| origin.address().port());
    server.addresses("app.test", &["127.0.0.1"], 60);
    let named = |port: u16, lines: &str| {
        let name = asks(&server, &format!("port = {port}\n{lines}\n"));
        name.replace("[pool.app.dns]", "[[pool.app.dns]]")
    };
    let pool = named(later, "priority = 1") + &named(far, "zone = \"far\"") + &named(near, "zone = \"near\"");
    let proxy = Proxy::start(&format!("zone = \"near\"\n{}", config(&pool)));
    assert!((0..12).all(|_| proxy.get("/").text() == "near"));
}
