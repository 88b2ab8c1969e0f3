//! Routes and filters over real sockets: who takes a request, where it goes, and what is done to it
//! on the way.

mod support;

use std::collections::HashMap;

use support::*;

/// A request with `lines` as its fields, on a connection of its own.
fn ask(proxy: &Proxy, start: &str, lines: &str) -> Message {
    let mut client = proxy.connect();
    client.send(format!("{start} HTTP/1.1\r\n{lines}\r\n"));
    client.response_to(start.split(' ').next().unwrap_or_default())
}

fn get(proxy: &Proxy, host: &str, target: &str) -> Message {
    ask(proxy, &format!("GET {target}"), &format!("Host: {host}\r\n"))
}

/// Routes that answer with their own names.
fn answering(routes: &[(&str, &str)]) -> Proxy {
    let mut toml = "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n".to_owned();
    for (name, conditions) in routes {
        toml.push_str(&format!(
            "[[route]]\nname = \"{name}\"\n{conditions}\nfilters = [{{ respond = {{ status = 200, body = \"{name}\" }} }}]\n"
        ));
    }
    Proxy::start(&toml)
}

#[test]
fn the_most_specific_route_wins() {
    let proxy = answering(&[
        ("any", ""),
        ("any-api", "path_prefix = \"/api\""),
        ("below", "host = \"*.example.com\""),
        ("below-x", "host = \"*.x.example.com\""),
        ("host", "host = \"www.example.com\""),
        ("host-api", "host = \"www.example.com\"\npath_prefix = \"/api\""),
        ("host-api-v1", "host = \"www.example.com\"\npath_prefix = \"/api/v1\""),
        ("host-exact", "host = \"www.example.com\"\npath = \"/api/v1\""),
        ("host-regex", "host = \"www.example.com\"\npath_regex = \"/[0-9]+/.*\""),
        ("first", "host = \"tie.example.com\"\npath_prefix = \"/a\""),
        ("second", "host = \"tie.example.com\"\npath_prefix = \"/a\"\nmethod = \"PUT\""),
    ]);
    for (host, target, route) in [
        ("other", "/", "any"),
        ("other", "/api", "any-api"),
        ("other", "/api/", "any-api"),
        ("other", "/api?x", "any-api"),
        ("other", "/apis", "any"),
        ("a.example.com", "/api", "below"),
        ("a.b.example.com", "/", "below"),
        ("example.com", "/", "any"),
        ("a.x.example.com", "/", "below-x"),
        ("www.example.com", "/", "host"),
        ("WWW.Example.Com:8080", "/x", "host"),
        ("www.example.com", "/api/v2", "host-api"),
        ("www.example.com", "/api/v1/x", "host-api-v1"),
        ("www.example.com", "/api/v1", "host-exact"),
        ("www.example.com", "/12/x", "host-regex"),
        ("www.example.com", "/x/12/x", "host"),
        ("tie.example.com", "/a", "first"),
    ] {
        assert_eq!(get(&proxy, host, target).text(), route, "{host}{target}");
    }
    let put = ask(&proxy, "PUT /a", "Host: tie.example.com\r\n");
    assert_eq!(put.text(), "second");
}

#[test]
fn methods_fields_and_parameters_choose() {
    let proxy = answering(&[
        ("plain", "path = \"/\""),
        ("post", "path = \"/\"\nmethod = [\"POST\", \"PUT\"]"),
        ("canary", "path = \"/\"\nheaders = { x-canary = \"yes\" }"),
        ("version", "path = \"/\"\nheaders = { x-version = { regex = \"[23]\" } }"),
        ("debug", "path = \"/\"\nquery = { debug = \"1\" }"),
        ("lang", "path = \"/\"\nquery = { lang = { regex = \"[a-z]{2}\" } }"),
        ("both", "path = \"/\"\nheaders = { x-user = true }\nquery = { debug = \"1\" }"),
    ]);
    for (start, fields, route) in [
        ("GET /", "", "plain"),
        ("POST /", "Content-Length: 0\r\n", "post"),
        ("PUT /", "Content-Length: 0\r\n", "post"),
        ("DELETE /", "", "plain"),
        ("GET /", "X-Canary: yes\r\n", "canary"),
        ("GET /", "x-canary: no\r\nX-CANARY: yes\r\n", "canary"),
        ("GET /", "X-Canary: yess\r\n", "plain"),
        ("GET /", "X-Version: 2\r\n", "version"),
        ("GET /", "X-Version: 23\r\n", "plain"),
        ("GET /?debug=1", "", "debug"),
        ("GET /?a&debug=%31&b", "", "debug"),
        ("GET /?debug=2", "", "plain"),
        ("GET /?lang=de", "", "lang"),
        ("GET /?lang=deu", "", "plain"),
        ("GET /?debug=1", "X-User: x\r\n", "both"),
    ] {
        let response = ask(&proxy, start, &format!("Host: test\r\n{fields}"));
        assert_eq!(response.text(), route, "{start} {fields}");
    }
}

#[test]
fn no_route_is_404_and_is_counted() {
    let proxy = answering(&[("only", "host = \"example.com\"\npath = \"/here\"")]);
    for (host, target) in [("example.com", "/"), ("other", "/here"), ("example.com", "/here/")] {
        let response = get(&proxy, host, target);
        let status = response.field("proxy-status").expect("says why");
        assert_eq!(response.status(), 404);
        assert!(status.contains("destination_not_found"), "{status}");
    }
    let unrouted = [("route", ""), ("pool", ""), ("class", "4xx")];
    assert_eq!(proxy.metrics().sum("forebay_requests_total", &unrouted), 3.0);
}

#[test]
fn nothing_gets_around_a_route_by_spelling_its_path_otherwise() {
    let origin = echoes();
    let proxy = Proxy::start(&format!(
        "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n\
         [[route]]\npath_prefix = \"/admin\"\nfilters = [{{ deny = \"127.0.0.1\" }}]\npool = \"app\"\n\
         [[route]]\npath_prefix = \"/public\"\npool = \"app\"\n\
         [pool.app]\nendpoints = [\"{}\"]\n",
        origin.address()
    ));
    for target in [
        "/admin",
        "/admin/",
        "/public/../admin",
        "/public/./../admin/x",
        "/public/%2e%2e/admin",
        "/public/.%2E/admin?x=/public",
        "/public/x/../../admin",
        "/public/%2e/..//../admin",
        "/%61dmin",
        "/public/../%61%64min",
    ] {
        assert_eq!(get(&proxy, "test", target).status(), 403, "{target}");
    }
    for target in ["/public/../../admin", "/..", "/%2e%2e/admin"] {
        assert_eq!(get(&proxy, "test", target).status(), 400, "{target}");
    }
    assert_eq!(origin.connections(), 0);
    for (target, wanted) in [
        ("/public/a/../b?c=../d", "/public/b?c=../d"),
        ("/public/a%2Fb", "/public/a%2Fb"),
        ("/public//b", "/public//b"),
        ("/admin/../public/x", "/public/x"),
    ] {
        assert_eq!(get(&proxy, "test", target).field("x-target"), Some(wanted));
    }
}

#[test]
fn a_split_sends_by_weight() {
    let origins = ["blue", "green", "grey"].map(answers);
    let mut toml = "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n\
                    [[route]]\nsplit = { blue = 70, green = 25, grey = 5 }\n"
        .to_owned();
    for (origin, pool) in origins.iter().zip(["blue", "green", "grey"]) {
        toml.push_str(&format!("[pool.{pool}]\nendpoints = [\"{}\"]\n", origin.address()));
    }
    let proxy = Proxy::start(&toml);
    let mut client = proxy.connect();
    let mut answers = HashMap::<_, u32>::new();
    for _ in 0..2000 {
        client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        *answers.entry(client.response().text()).or_default() += 1;
    }
    let metrics = proxy.metrics();
    for (pool, share) in [("blue", 0.7), ("green", 0.25), ("grey", 0.05)] {
        let got = answers.get(pool).copied().unwrap_or_default();
        assert!((f64::from(got) / 2000.0 - share).abs() < 0.05, "{pool}: {got} of 2000");
        assert_eq!(metrics.sum("forebay_requests_total", &[("pool", pool)]), f64::from(got));
    }
}

#[test]
fn http_is_redirected_to_https_in_one_line() {
    let Some(curl) = peer("curl") else { return };
    let pki = Pki::new();
    pki.issue("edge", &["example.com"]);
    let proxy = Proxy::start_in(
        pki.path(),
        "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n\
         [[listener]]\nname = \"edge\"\nbind = \"127.0.0.1:0\"\nprotocol = \"https\"\n\
         certificates = [{ cert = \"edge.pem\", key = \"edge.key\" }]\n\
         [[route]]\nhost = \"example.com\"\npath_prefix = \"/only\"\nfilters = [{ redirect = \"https\" }]\n\
         [[route]]\nfilters = [{ redirect = \"https\" }, { respond = { status = 200, body = \"secure\" } }]\n",
    );
    for (host, target, location) in [
        ("example.com", "/a/b?c=d", "https://example.com/a/b?c=d"),
        ("example.com:8080", "/", "https://example.com/"),
        ("example.com", "/only", "https://example.com/only"),
    ] {
        let response = get(&proxy, host, target);
        assert_eq!((response.status(), response.field("location")), (308, Some(location)));
    }
    let edge = proxy.address("edge");
    for (target, wanted) in [("/", "secure 200"), ("/only", "404")] {
        for version in ["--http1.1", "--http2"] {
            let output = curl
                .command()
                .args(["-sS", "--max-time", "10", version, "-w", " %{http_code}", "-k"])
                .args(["--connect-to", &format!("example.com:443:{edge}")])
                .arg(format!("https://example.com{target}"))
                .output()
                .expect("curl runs");
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(said.ends_with(wanted), "{version} {said} {}", String::from_utf8_lossy(&output.stderr));
        }
    }
}

#[test]
fn redirects_and_fixed_answers_say_what_was_configured() {
    let proxy = Proxy::start(
        "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n\
         [[route]]\npath_prefix = \"/old\"\n\
         filters = [{ redirect = { to = \"https://new.example{path}{query}\", status = 301 } }]\n\
         [[route]]\npath = \"/teapot\"\nfilters = [{ respond = { status = 418, body = \"short\\n\", \
         content_type = \"text/x-tea\", headers = { cache-control = \"max-age=60\" } } }]\n",
    );
    let moved = get(&proxy, "test", "/old/x?y=z");
    assert_eq!((moved.status(), moved.field("location")), (301, Some("https://new.example/old/x?y=z")));
    let teapot = get(&proxy, "test", "/teapot");
    assert_eq!((teapot.status(), teapot.text().as_str()), (418, "short\n"));
    assert_eq!(teapot.field("content-type"), Some("text/x-tea"));
    assert_eq!(teapot.field("cache-control"), Some("max-age=60"));
    let head = ask(&proxy, "HEAD /teapot", "Host: test\r\n");
    assert_eq!((head.status(), head.text().as_str()), (418, ""));
    // The connection persists over an answer of our own, unless a body was left unread.
    let mut client = proxy.connect();
    for (request, persists) in [
        ("GET /teapot HTTP/1.1\r\nHost: test\r\n\r\n", true),
        ("POST /teapot HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\n\r\nabc", false),
    ] {
        client.send(request);
        let response = client.response();
        assert_eq!((response.status(), response.lists("connection", "close")), (418, !persists));
    }
    assert_eq!(client.expect_end(), Ended::Closed);
}

#[test]
fn heads_are_changed_on_the_way() {
    let origin = answers_raw(
        "HTTP/1.1 200 OK\r\nServer: secret\r\nVary: accept\r\nX-Frame-Options: ALLOW\r\nContent-Length: 2\r\n\r\nhi",
    );
    let route = "path_prefix = \"/api\"\nfilters = [\
        { request_headers = { remove = [\"x-debug\"], set = { x-client = \"{client_ip}\", x-was = \"{path}\" }, add = { x-tag = \"a\" } } },\
        { response_headers = { remove = [\"server\"], set = { x-frame-options = \"DENY\" }, add = { vary = \"origin\" } } },\
        { rewrite_prefix = { from = \"/api\", to = \"/\" } },\
        { rewrite_host = \"app.internal\" }]";
    let proxy = Plain { route, ..Plain::default() }.to(&[origin.address()]);
    let fields = "Host: example.com\r\nX-Debug: 1\r\nX-Client: forged\r\nX-Tag: b\r\n";
    let response = ask(&proxy, "GET /api/x/y?z=/api", fields);
    assert_eq!(response.field("server"), None);
    assert_eq!(response.values("x-frame-options"), ["DENY"]);
    assert_eq!(response.values("vary"), ["accept", "origin"]);
    let request = origin.next_request();
    assert_eq!(request.target(), "/x/y?z=/api");
    assert_eq!(request.values("host"), ["app.internal"]);
    assert_eq!(request.field("x-forwarded-host"), Some("example.com"));
    assert_eq!(request.values("x-client"), ["127.0.0.1"]);
    assert_eq!(request.values("x-was"), ["/api/x/y"]);
    assert_eq!(request.values("x-tag"), ["b", "a"]);
    assert_eq!(request.field("x-debug"), None);
    for (target, wanted) in [("/api", "/"), ("/api/", "/"), ("/api?q", "/?q")] {
        assert_eq!(ask(&proxy, &format!("GET {target}"), "Host: test\r\n").status(), 200);
        assert_eq!(origin.next_request().target(), wanted);
    }
}

#[test]
fn bodies_past_the_limit_are_refused() {
    let origin = echoes();
    let route = "filters = [{ max_body = \"10B\" }]";
    let proxy = Plain { route, ..Plain::default() }.to(&[origin.address()]);
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\n0123456789");
    assert_eq!(client.response().text(), "0123456789");
    let requests = origin.requests().len();
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 11\r\n\r\n");
    let response = client.response();
    assert_eq!(response.status(), 413);
    assert!(response.field("proxy-status").is_some_and(|status| status.contains("max_body")), "{response:?}");
    assert_eq!(origin.requests().len(), requests);
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n01234567\r\n");
    client.send("8\r\n89abcdef\r\n0\r\n\r\n");
    assert_eq!(client.response().status(), 413);
    assert_eq!(origin.requests().len(), requests, "no whole request arrived");
}

#[test]
fn passwords_are_asked_for() {
    let origin = answers("inside");
    let route = "filters = [{ basic_auth = { realm = \"staff\", users = { alice = \"secret\" }, remove_header = true } }]";
    let proxy = Plain { route, ..Plain::default() }.to(&[origin.address()]);
    // alice:secret, alice:wrong, bob:secret
    for (credentials, status) in [
        ("", 401),
        ("Authorization: Basic YWxpY2U6c2VjcmV0\r\n", 200),
        ("authorization: basic YWxpY2U6c2VjcmV0\r\n", 200),
        ("Authorization: Basic YWxpY2U6d3Jvbmc=\r\n", 401),
        ("Authorization: Basic Ym9iOnNlY3JldA==\r\n", 401),
        ("Authorization: Bearer YWxpY2U6c2VjcmV0\r\n", 401),
        ("Authorization: Basic !!!\r\n", 401),
    ] {
        let response = ask(&proxy, "GET /", &format!("Host: test\r\n{credentials}"));
        assert_eq!(response.status(), status, "{credentials}");
        let challenge = response.field("www-authenticate").unwrap_or_default();
        assert_eq!(challenge.contains("realm=\"staff\""), status == 401, "{response:?}");
    }
    assert!(origin.requests().iter().all(|request| request.field("authorization").is_none()));
    assert_eq!(origin.requests().len(), 2);
}

#[test]
fn networks_are_let_in_as_they_are_believed() {
    let origin = answers("inside");
    let route = "filters = [{ allow = [\"10.0.0.0/8\", \"2001:db8::/32\"] }, { deny = \"10.6.6.6\" }]";
    let trusting =
        Plain { route, listener: "trusted_proxies = [\"127.0.0.1\", \"10.1.1.0/24\"]", ..Plain::default() };
    let proxy = trusting.to(&[origin.address()]);
    for (forwarded, status) in [
        ("10.1.2.3", 200),
        ("10.1.2.3, 10.1.1.9", 200),
        ("2001:db8::1", 200),
        ("10.6.6.6", 403),
        ("9.9.9.9", 403),
        // Only the last stranger is known; what was in front of it is hearsay.
        ("10.1.2.3, 9.9.9.9", 403),
        ("10.1.2.3, 9.9.9.9, 10.1.1.9", 403),
        ("nonsense", 403),
    ] {
        let response = ask(&proxy, "GET /", &format!("Host: test\r\nX-Forwarded-For: {forwarded}\r\n"));
        assert_eq!(response.status(), status, "{forwarded}");
    }
    let proxy = Plain { route, ..Plain::default() }.to(&[origin.address()]);
    let response = ask(&proxy, "GET /", "Host: test\r\nX-Forwarded-For: 10.1.2.3\r\n");
    assert_eq!(response.status(), 403, "nobody is believed unless configured");
    let route = "filters = [{ allow = \"127.0.0.0/8\" }]";
    let proxy = Plain { route, ..Plain::default() }.to(&[origin.address()]);
    assert_eq!(proxy.get("/").status(), 200);
}
