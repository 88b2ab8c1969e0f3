//! Look-up against a table of cases, and against a plain scan over all rules.

use http::Method;

use super::*;

/// A rule by its path: `/prefix`, `= /exact`, `~ regex`, or nothing for any.
pub(super) fn rule(path: &str) -> Rule {
    let path = match path.split_once(' ') {
        Some(("=", path)) => PathMatch::Exact(path.into()),
        Some((_, text)) => PathMatch::Regex(Pattern::new(text).unwrap()),
        None if path.is_empty() => PathMatch::Any,
        None => PathMatch::Prefix(path.into()),
    };
    Rule { path, ..Rule::default() }
}

pub(super) fn exact(name: &str, value: &str) -> FieldMatch {
    FieldMatch { name: name.into(), value: ValueMatch::Exact(value.into()) }
}

pub(super) fn regex(name: &str, text: &str) -> FieldMatch {
    FieldMatch { name: name.into(), value: ValueMatch::Regex(Pattern::new(text).unwrap()) }
}

fn present(name: &str) -> FieldMatch {
    FieldMatch { name: name.into(), value: ValueMatch::Present }
}

fn on(hosts: &[&str], path: &str) -> Rule {
    Rule { hosts: hosts.iter().map(|host| host.parse().unwrap()).collect(), ..rule(path) }
}

fn table(rules: Vec<Rule>) -> Table<usize> {
    Table::new(rules.into_iter().enumerate().map(|(index, rule)| (rule, index)).collect())
}

#[derive(Debug)]
struct Asked {
    method: Method,
    host: String,
    path: String,
    query: Option<String>,
    fields: Fields,
}

impl Asked {
    fn get(host: &str, target: &str) -> Self {
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (target, None),
        };
        let fields = Fields::default();
        Self { method: Method::GET, host: host.into(), path: path.into(), query, fields }
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.fields.append(name.as_bytes(), value.as_bytes());
        self
    }

    fn view(&self) -> View<'_> {
        View {
            method: &self.method,
            host: &self.host,
            path: self.path.as_bytes(),
            query: self.query.as_deref().map(str::as_bytes),
            fields: &self.fields,
        }
    }
}

#[test]
fn the_most_specific_host_wins_and_a_wider_one_takes_the_rest() {
    let table = table(vec![
        on(&[], ""),
        on(&["*.example.com"], ""),
        on(&["*.eu.example.com"], "/"),
        on(&["api.eu.example.com", "example.com"], "/v1"),
    ]);
    for (host, path, wanted) in [
        ("api.eu.example.com", "/v1/x", 3),
        ("api.eu.example.com.", "/v1/x", 3),
        ("example.com", "/v1", 3),
        ("api.eu.example.com", "/v2", 2),
        ("a.b.c.eu.example.com", "/v1", 2),
        ("eu.example.com", "/v1", 1),
        ("api.eu.example.com", "*", 1),
        ("example.com", "/v2", 0),
        ("badexample.com", "/", 0),
        ("com", "/", 0),
        ("", "/", 0),
    ] {
        assert_eq!(table.find(&Asked::get(host, path).view()), Some(&wanted), "{host} {path}");
    }
}

#[test]
fn the_most_specific_path_wins() {
    let table = table(vec![
        rule("/"),
        rule("/a"),
        rule("/a/b/"),
        rule("/a-b"),
        rule("= /a/b"),
        rule("~ /a/b/.*x"),
        rule("= /"),
    ]);
    for (path, wanted) in [
        ("/", 6),
        ("/x", 0),
        ("/ab", 0),
        ("/a", 1),
        ("/a/", 1),
        ("/a/bc", 1),
        ("/a/b", 4),
        ("/a/b/", 2),
        ("/a/b/c", 2),
        ("/a/b/c/x", 5),
        ("/a-b", 3),
        ("/a-bc", 0),
        ("/a-", 0),
        ("//a", 0),
    ] {
        assert_eq!(table.find(&Asked::get("h", path).view()), Some(&wanted), "{path}");
    }
    assert_eq!(table.find(&Asked::get("h", "*").view()), None);
}

#[test]
fn more_conditions_win_and_the_first_on_ties() {
    let get = |rule: Rule| Rule { methods: vec![Method::GET], ..rule };
    let with = |headers: &[FieldMatch]| Rule { headers: headers.into(), ..rule("/") };
    let asking = |query: &[FieldMatch]| Rule { query: query.into(), ..rule("/") };
    let table = table(vec![
        rule("/"),
        with(&[present("x-a")]),
        with(&[regex("x-a", "[12]")]),
        with(&[exact("x-a", "1")]),
        with(&[exact("X-A", "1")]),
        asking(&[exact("a", "1"), exact("b", "2 3")]),
        with(&[present("cookie"), present("x-a")]),
        get(rule("/get")),
        rule("/get"),
    ]);
    for (asked, wanted) in [
        (Asked::get("h", "/"), 0),
        (Asked::get("h", "/").with("X-A", "9"), 1),
        (Asked::get("h", "/").with("X-A", "2"), 2),
        (Asked::get("h", "/").with("x-a", "9").with("x-a", "1"), 3),
        (Asked::get("h", "/?b=2+3&a=1"), 5),
        (Asked::get("h", "/?a=1"), 0),
        (Asked::get("h", "/?b=2+3&a=1").with("x-a", "9"), 1),
        (Asked::get("h", "/").with("x-a", "1").with("Cookie", ""), 6),
        (Asked::get("h", "/get"), 7),
        (Asked { method: Method::HEAD, ..Asked::get("h", "/get") }, 8),
    ] {
        assert_eq!(table.find(&asked.view()), Some(&wanted), "{asked:?}");
    }
}

#[test]
fn without_rules_nothing_is_found() {
    assert_eq!(table(vec![]).find(&Asked::get("h", "/").view()), None);
}

#[test]
fn look_up_equals_a_plain_scan() {
    for seed in 0..200 {
        let lots = &mut Lots(seed);
        let rules: Vec<Rule> = (0..lots.below(40)).map(|_| some_rule(lots)).collect();
        let table = table(rules.clone());
        for _ in 0..100 {
            let asked = some_request(lots);
            let found = table.find(&asked.view()).copied();
            assert_eq!(found, scan(&rules, &asked), "seed {seed}, {asked:?}, {rules:#?}");
        }
    }
}

#[test]
fn a_shadowed_rule_is_never_found() {
    let mut shadowed = 0;
    for seed in 0..1000 {
        let lots = &mut Lots(seed);
        let rules: Vec<Rule> = (0..6).map(|_| some_rule(lots)).collect();
        let table = table(rules.clone());
        let dead = |later: usize| rules[..later].iter().any(|earlier| rules[later].shadowed_by(earlier));
        let dead: Vec<_> = (0..rules.len()).filter(|later| dead(*later)).collect();
        shadowed += dead.len();
        for _ in 0..if dead.is_empty() { 0 } else { 300 } {
            let asked = some_request(lots);
            if let Some(found) = table.find(&asked.view()) {
                assert!(!dead.contains(found), "seed {seed}: {found} for {asked:?}, {rules:#?}");
            }
        }
    }
    assert!(shadowed > 25, "the test saw {shadowed} only");
}

/// What the documentation of this module says, word by word.
fn scan(rules: &[Rule], asked: &Asked) -> Option<usize> {
    let mut best = None;
    for (index, rule) in rules.iter().enumerate() {
        let Some(host) = host_score(&rule.hosts, asked.host.trim_end_matches('.')) else { continue };
        let Some(path) = path_score(&rule.path, &asked.path) else { continue };
        let method = rule.methods.is_empty() || rule.methods.contains(&asked.method);
        let header = |wanted: &FieldMatch| {
            asked.fields.iter().any(|(_, name, value)| {
                let name = String::from_utf8_lossy(name).to_lowercase();
                name == wanted.name.to_lowercase()
                    && value_fits(&wanted.value, &String::from_utf8_lossy(value))
            })
        };
        let parameter = |wanted: &FieldMatch| {
            let pairs = asked.query.iter().flat_map(|query| query.split('&'));
            let mut pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
            pairs.any(|(name, value)| {
                name == wanted.name && value_fits(&wanted.value, &value.replace('+', " ").replace("%31", "1"))
            })
        };
        if !(method && rule.headers.iter().all(header) && rule.query.iter().all(parameter)) {
            continue;
        }
        let values = || rule.headers.iter().chain(&rule.query);
        let score = (
            (host, path),
            (!rule.methods.is_empty(), rule.headers.len(), rule.query.len()),
            values().filter(|wanted| matches!(wanted.value, ValueMatch::Exact(_))).count(),
            values().filter(|wanted| matches!(wanted.value, ValueMatch::Regex(_))).count(),
        );
        if best.is_none_or(|(most, _)| score > most) {
            best = Some((score, index));
        }
    }
    best.map(|(_, index)| index)
}

fn host_score(hosts: &[HostMatch], host: &str) -> Option<(u8, usize)> {
    let score = |wanted: &HostMatch| match wanted {
        HostMatch::Exact(name) => (name == host).then_some((2, 0)),
        HostMatch::Below(suffix) => host.ends_with(&format!(".{suffix}")).then_some((1, suffix.len())),
    };
    if hosts.is_empty() { Some((0, 0)) } else { hosts.iter().filter_map(score).max() }
}

fn path_score(wanted: &PathMatch, path: &str) -> Option<(u8, usize)> {
    match wanted {
        PathMatch::Any => Some((0, 0)),
        PathMatch::Prefix(prefix) => {
            let folder = format!("{}/", prefix.strip_suffix('/').unwrap_or(prefix));
            format!("{path}/").starts_with(&folder).then_some((1, folder.len()))
        }
        PathMatch::Regex(pattern) => pattern.matches(path.as_bytes()).then_some((2, 0)),
        PathMatch::Exact(exact) => (exact == path).then_some((3, 0)),
    }
}

fn value_fits(wanted: &ValueMatch, value: &str) -> bool {
    match wanted {
        ValueMatch::Present => true,
        ValueMatch::Exact(text) => text == value,
        ValueMatch::Regex(pattern) => pattern.matches(value.as_bytes()),
    }
}

fn some_rule(lots: &mut Lots) -> Rule {
    let hosts = ["a.example", "b.example", "*.example", "*.a.example", "*.b.a.example"];
    let paths = [
        "", "", "/", "/a", "/a/", "/a/b", "/a/b/c", "/a-b", "/b", "= /a", "= /a/b", "= /", "~ /a.*",
        "~ /[ab]",
    ];
    let field = |lots: &mut Lots| match lots.below(4) {
        0 => present(lots.one(&["x", "Via"])),
        1 => regex(lots.one(&["x", "via"]), "[12]"),
        _ => exact(lots.one(&["x", "X", "via"]), lots.one(&["1", "2", "a b"])),
    };
    Rule {
        hosts: (0..lots.below(3)).map(|_| lots.one(&hosts).parse().unwrap()).collect(),
        methods: (0..lots.rarely(2)).map(|_| lots.one(&[&Method::GET, &Method::PUT]).clone()).collect(),
        headers: (0..lots.rarely(2)).map(|_| field(lots)).collect(),
        query: (0..lots.rarely(2)).map(|_| field(lots)).collect(),
        ..rule(lots.one(&paths))
    }
}

fn some_request(lots: &mut Lots) -> Asked {
    let hosts =
        ["a.example", "b.example.", "x.example", "b.a.example", "x.b.a.example", "example", "other", ""];
    let mut path: String =
        (0..lots.below(4)).map(|_| lots.one(&["/", "/a", "/b", "/a-b", "/c", "b"])).collect();
    if !path.starts_with('/') {
        path = lots.one(&["/", "*", "/a"]).into();
    }
    let pair = |lots: &mut Lots| lots.one(&["x=1", "x=%31", "via", "X=a+b", "via=2", "x=3"]);
    let query: Vec<_> = (0..lots.below(4)).map(|_| pair(lots)).collect();
    let mut asked = Asked::get(lots.one(&hosts), &path);
    asked.query = if query.is_empty() { None } else { Some(query.join("&")) };
    asked.method = lots.one(&[&Method::GET, &Method::PUT, &Method::HEAD]).clone();
    for _ in 0..lots.below(3) {
        asked = asked.with(lots.one(&["X", "x", "Via"]), lots.one(&["1", "2", "a b", ""]));
    }
    asked
}

/// Choices that are the same for the same seed.
struct Lots(u64);

impl Lots {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
        (self.0 >> 33) % n
    }

    fn rarely(&mut self, n: u64) -> u64 {
        if self.below(3) == 0 { self.below(n) + 1 } else { 0 }
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }
}
