//! Who gets which request, over real sockets: by key, by session, by priority and by zone.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use forebay::ambient;
use forebay::balance::Bands;
use forebay::config;
use forebay::control::running::Running;
use forebay::observe::metrics::{Registry, Shard};
use forebay::upstream::pool::Selection;
use forebay::upstream::{Choosing, Local};
use support::*;

/// Three origins that say who they are.
struct Origins(Vec<Origin>);

impl Origins {
    fn three() -> Self {
        Self(["a", "b", "c"].map(answers).into())
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        self.0.iter().map(Origin::address).collect()
    }
}

/// The answer to `GET` with these lines of fields, on a connection of its own.
#[track_caller]
fn ask(proxy: &Proxy, target: &str, fields: &str) -> Message {
    let mut client = proxy.connect();
    client.send(format!("GET {target} HTTP/1.1\r\nHost: test\r\n{fields}\r\n"));
    client.response()
}

/// One listener, one route, one pool with these lines, which name its endpoints.
#[track_caller]
fn pool(lines: &str) -> Proxy {
    Proxy::start(&format!(
        "zone = \"here\"\n[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n\
         [[route]]\npool = \"app\"\n[pool.app]\n{lines}\n"
    ))
}

/// How often each origin answers `times` plain requests.
#[track_caller]
fn shares(proxy: &Proxy, times: usize) -> BTreeMap<String, usize> {
    let mut shares = BTreeMap::new();
    (0..times).for_each(|_| *shares.entry(ask(proxy, "/", "").text()).or_default() += 1);
    shares
}

#[track_caller]
fn who_answers(proxy: &Proxy, times: usize) -> String {
    shares(proxy, times).into_keys().collect()
}

/// Target and fields of a request whose key is a number.
type RequestOf = fn(usize) -> (String, String);

#[test]
fn a_key_always_leads_to_the_same_endpoint_and_keys_spread() {
    let origins = Origins::three();
    let cases: [(&str, RequestOf); 6] = [
        ("header:X-User", |n| ("/".into(), format!("x-user: {n}\r\n"))),
        ("header:host", |n| ("/".into(), format!("X-Noise: {n}\r\n"))),
        ("cookie:user", |n| ("/".into(), format!("Cookie: a=b; user={n}\r\n"))),
        ("query:user", |n| (format!("/?a=b&user={n}"), String::new())),
        ("path", |n| (format!("/{n}?noise"), String::new())),
        ("client", |n| ("/".into(), format!("X-Forwarded-For: 192.0.2.{n}\r\n"))),
    ];
    for (policy, (hash_key, request)) in ["ring_hash", "maglev"].iter().cycle().zip(cases) {
        let lines = format!("policy = \"{policy}\"\nhash_key = \"{hash_key}\"\noutlier = \"off\"");
        let listener = "trusted_proxies = \"127.0.0.1\"";
        let proxy = Plain { pool: &lines, listener, ..Plain::default() }.to(&origins.addresses());
        let mut shares = BTreeMap::<String, usize>::new();
        for n in 0..60 {
            let (target, fields) = request(n);
            let answer = ask(&proxy, &target, &fields).text();
            assert_eq!(ask(&proxy, &target, &fields).text(), answer, "{hash_key} {n}");
            *shares.entry(answer).or_default() += 1;
        }
        let spread = if hash_key == "header:host" { 1 } else { 3 };
        assert_eq!(shares.len(), spread, "{hash_key}: {shares:?}");
        assert!(shares.values().all(|share| *share >= 5), "{hash_key}: {shares:?}");
    }
}

#[test]
fn the_source_is_whoever_connects() {
    let origins = Origins::three();
    let pool = "policy = \"ring_hash\"\nhash_key = \"source\"";
    let listener = "trusted_proxies = \"127.0.0.1\"";
    let proxy = Plain { pool, listener, ..Plain::default() }.to(&origins.addresses());
    let from_same: BTreeSet<_> =
        (0..20).map(|n| ask(&proxy, "/", &format!("X-Forwarded-For: 192.0.2.{n}\r\n")).text()).collect();
    assert_eq!(from_same.len(), 1, "{from_same:?}");
    let from_others: BTreeSet<_> = (2..40).map(|n| ask_from([127, 0, 0, n], &proxy).text()).collect();
    assert_eq!(from_others.len(), 3, "{from_others:?}");
}

/// The answer to a client that connects from this address.
#[track_caller]
fn ask_from(address: [u8; 4], proxy: &Proxy) -> Message {
    let socket =
        socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("there are sockets");
    socket.bind(&SocketAddr::from((address, 0)).into()).expect("all of 127.0.0.0/8 is ours");
    socket.connect(&proxy.address("web").into()).expect("the proxy listens");
    let mut client = Link::over(TcpStream::from(socket));
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    client.response()
}

#[test]
fn requests_without_a_key_go_anywhere() {
    let origins = Origins::three();
    let pool = "policy = \"maglev\"\nhash_key = \"header:x-user\"";
    let proxy = Plain { pool, ..Plain::default() }.to(&origins.addresses());
    assert_eq!(who_answers(&proxy, 60), "abc");
}

#[test]
fn the_usual_policy_leaves_a_slow_endpoint_alone() {
    let slow = Origin::run(|conn| {
        while conn.request().is_some() {
            std::thread::sleep(Duration::from_millis(50));
            conn.send(ok("slow"));
        }
    });
    let [a, b] = ["a", "b"].map(answers);
    let proxy = Plain::default().to(&[a.address(), slow.address(), b.address()]);
    let shares = shares(&proxy, 60);
    assert!(shares.get("slow").is_none_or(|share| *share <= 10), "{shares:?}");
}

/// The cookie that an answer sets, without its attributes.
fn cookie_of(answer: &Message) -> Option<String> {
    answer.field("set-cookie").map(|set| set.split(';').next().unwrap_or_default().to_owned())
}

#[test]
fn a_session_stays_with_its_endpoint() {
    let origins = Origins::three();
    let proxy =
        Plain { pool: "policy = \"round_robin\"\nsticky = {}", ..Plain::default() }.to(&origins.addresses());
    let first = ask(&proxy, "/", "");
    let set = first.field("set-cookie").unwrap_or_default();
    let (cookie, attributes) = set.split_once("; ").unwrap_or_default();
    assert_eq!(attributes, "Path=/; HttpOnly; SameSite=Lax");
    let id = cookie.strip_prefix("forebay=").unwrap_or_default();
    assert!(id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{set}");
    for _ in 0..20 {
        let next = ask(&proxy, "/", &format!("Cookie: theme=dark; {cookie}\r\n"));
        assert_eq!((next.text(), next.field("set-cookie")), (first.text(), None));
    }
    let seen = origins.0.iter().flat_map(Origin::requests);
    let passed_on =
        seen.filter(|request| request.field("cookie").is_some_and(|field| field.contains(cookie)));
    assert_eq!(passed_on.count(), 20, "endpoints see the cookie");

    let others: BTreeSet<_> = (0..40).filter_map(|_| cookie_of(&ask(&proxy, "/", ""))).collect();
    assert_eq!(others.len(), 3, "new sessions spread: {others:?}");
}

#[test]
fn the_cookie_is_as_it_was_asked_for() {
    let origins = Origins::three();
    let pool = "sticky = { cookie = \"__Secure-app\", max_age = \"1h\", path = \"/shop\", secure = true, \
                http_only = false, same_site = \"none\" }";
    let proxy = Plain { pool, ..Plain::default() }.to(&origins.addresses());
    let answer = ask(&proxy, "/", "");
    let set = answer.field("set-cookie").unwrap_or_default();
    let (cookie, attributes) = set.split_once("; ").unwrap_or_default();
    assert!(cookie.starts_with("__Secure-app="), "{set}");
    assert_eq!(attributes, "Path=/shop; Max-Age=3600; Secure; SameSite=None");
}

#[test]
fn a_session_moves_when_its_endpoint_is_gone_and_not_back() {
    let mut origins = Origins::three();
    let lines = "sticky = {}\noutlier = \"off\"";
    let proxy = Plain { pool: lines, ..Plain::default() }.to(&origins.addresses());
    let first = ask(&proxy, "/", "");
    let Some(cookie) = cookie_of(&first) else { panic!("no cookie in {}", first.head) };
    let gone = origins.0.iter().position(|origin| !origin.requests().is_empty());
    drop(gone.map(|index| origins.0.remove(index)));

    let moved = ask(&proxy, "/", &format!("Cookie: {cookie}\r\n"));
    assert_eq!(moved.status(), 200);
    assert_ne!(moved.text(), first.text());
    let Some(new) = cookie_of(&moved) else { panic!("no cookie in {}", moved.head) };
    assert_ne!(new, cookie);
    for _ in 0..10 {
        let next = ask(&proxy, "/", &format!("Cookie: {new}\r\n"));
        assert_eq!((next.text(), next.field("set-cookie")), (moved.text(), None));
    }
}

#[test]
fn a_cookie_of_nobody_is_replaced() {
    let origins = Origins::three();
    let proxy = Plain { pool: "sticky = {}", ..Plain::default() }.to(&origins.addresses());
    for cookie in ["forebay=0123456789abcdef", "forebay=", "forebay", "forebay=\"\"; forebay=x", "Forebay=1"]
    {
        let answer = ask(&proxy, "/", &format!("Cookie: {cookie}\r\n"));
        assert_eq!((answer.status(), answer.values("set-cookie").len()), (200, 1), "{cookie}");
    }
}

#[test]
fn errors_of_our_own_bind_nobody() {
    let refusing = refuses();
    let proxy = Plain { pool: "sticky = {}", ..Plain::default() }.to(&[refusing.address()]);
    let answer = ask(&proxy, "/", "");
    assert_eq!((answer.status(), answer.field("set-cookie")), (502, None));
}

#[test]
fn priorities_follow_one_another_and_backups_come_last() {
    let [first, second, backup] = ["a", "b", "c"].map(answers);
    let proxy = pool(&format!(
        "endpoints = [{{ address = \"{}\", backup = true }}, {{ address = \"{}\", priority = 5 }}, \"{}\"]",
        backup.address(),
        second.address(),
        first.address()
    ));
    assert_eq!(who_answers(&proxy, 20), "a");
    drop(first);
    // Even the first request after that finds somebody.
    assert_eq!(who_answers(&proxy, 20), "b");
    drop(second);
    assert_eq!(who_answers(&proxy, 20), "c");
}

#[test]
fn endpoints_nearby_are_preferred_until_they_are_gone() {
    let [near, unplaced, far] = ["a", "b", "c"].map(answers);
    let proxy = pool(&format!(
        "policy = \"round_robin\"\nendpoints = [\"{}\", {{ address = \"{}\", zone = \"there\" }}, {{ address = \"{}\", zone = \"here\" }}]",
        unplaced.address(),
        far.address(),
        near.address()
    ));
    assert_eq!(who_answers(&proxy, 60), "ab");
    drop((near, unplaced));
    assert_eq!(who_answers(&proxy, 20), "c");
}

#[test]
fn a_session_may_stay_with_a_backup_that_was_needed_once() {
    let [first, backup] = ["a", "b"].map(answers);
    let proxy = pool(&format!(
        "sticky = {{}}\nendpoints = [\"{}\", {{ address = \"{}\", backup = true }}]",
        first.address(),
        backup.address(),
    ));
    // As if it had been bound while the first was away.
    let sticky_id = id_of(&backup);
    let answer = ask(&proxy, "/", &format!("Cookie: forebay={sticky_id}\r\n"));
    assert_eq!((answer.text().as_str(), answer.field("set-cookie")), ("b", None));
}

#[test]
fn a_session_is_not_moved_by_a_trial() {
    let text = "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n[[route]]\npool = \"app\"\n\
                [pool.app]\nendpoints = [\"127.0.0.1:1\", \"127.0.0.1:2\", \"127.0.0.1:3\"]\nsticky = {}\n";
    let plan = config::from_str("test.toml", text, &|_| None, std::path::Path::new("."));
    let plan = plan.unwrap_or_else(|report| panic!("{report}"));
    let running = Running::start(plan, Registry::new(1), 1).unwrap_or_else(|error| panic!("{error}"));
    let local = Local::new(running.published().load_full(), None, Shard::worker(0));
    let [pool] = local.pools.as_slice() else { panic!("one pool") };
    let bands = Bands {
        list: vec![forebay::balance::Band { upto: 1 << 32, usable: vec![0, 1] }],
        failed_open: false,
    };
    pool.shared.select(Selection { bands, trials: vec![2] });
    pool.shared.endpoints.iter().for_each(|endpoint| endpoint.tally.open_trial(true));
    let pick = |sticky, tried: &[usize]| {
        let now = ambient::now();
        let lease = pool.pick(&Choosing { tried, key: None, sticky, safe: true, draw: 0, now });
        lease.map(|lease| (lease.index(), lease.is_on_trial()))
    };
    assert_eq!(pick(Some(1), &[]), Ok((1, false)), "its endpoint may be used");
    assert_eq!(pick(Some(1), &[1]), Ok((0, false)), "its endpoint failed");
    assert_eq!(pick(Some(2), &[]), Ok((2, true)), "its endpoint is on trial, and so may be this request");
}

/// What cookies of a pool `app` call an endpoint.
fn id_of(origin: &Origin) -> String {
    let proxy = Plain { pool: "sticky = {}", ..Plain::default() }.to(&[origin.address()]);
    let answer = ask(&proxy, "/", "");
    let cookie = cookie_of(&answer).unwrap_or_default();
    cookie.split_once('=').map(|(_, id)| id.to_owned()).unwrap_or_default()
}
