use std::fmt::Debug;
use std::num::NonZeroU32;
use std::time::Duration;

use http::{Method, StatusCode};
use ipnet::IpNet;

use super::*;
use crate::model::units::{ByteSize, Share};
use crate::model::{Address, Name, Target};

fn string(text: &str) -> Value {
    Value::new(0..1, Data::String(text.to_owned()))
}

fn expanded(text: &str) -> Value {
    Value { expanded: true, ..string(text) }
}

fn integer(number: i64) -> Value {
    Value::new(0..1, Data::Integer(number))
}

fn list(items: Vec<Value>) -> Value {
    Value::new(0..1, Data::Array(items))
}

fn entries(entries: Vec<(&str, Value)>) -> Vec<(Key, Value)> {
    entries.into_iter().map(|(name, value)| (Key { name: name.into(), span: 5..6 }, value)).collect()
}

fn table(of: Vec<(&str, Value)>) -> Value {
    Value::new(0..1, Data::Table(entries(of)))
}

/// What is reported while `read` runs, as `path: fault (hint)`.
fn reported(table: &[(Key, Value)], read: impl FnOnce(&Options<'_>)) -> Vec<String> {
    let sink = Sink::default();
    let options = Options::root(table, &sink);
    read(&options);
    options.finish();
    let show = |p: Problem| match p.hint {
        Some(hint) => format!("{}: {} ({hint})", p.path, p.fault),
        None => format!("{}: {}", p.path, p.fault),
    };
    sink.into_parts().0.into_iter().map(show).collect()
}

fn fault<T: FromValue + Debug>(value: &Value) -> String {
    T::from_value(value).unwrap_err().text
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Colour {
    Red,
    Green,
}

impl OneOf for Colour {
    const NOUN: &'static str = "colour";
    const WORDS: &'static [(&'static str, Self)] = &[("red", Self::Red), ("green", Self::Green)];
}

#[test]
fn values_become_types() {
    assert_eq!(u16::from_value(&integer(80)), Ok(80));
    assert_eq!(bool::from_value(&Value::new(0..1, Data::Boolean(true))), Ok(true));
    assert_eq!(String::from_value(&string("x")), Ok("x".into()));
    assert_eq!(Name::from_value(&string("app")), Ok(Name::new("app").unwrap()));
    assert_eq!(Address::from_value(&string("[::1]:1")).unwrap().to_string(), "[::1]:1");
    assert_eq!(Target::from_value(&string("app:1")).unwrap().to_string(), "app:1");
    assert_eq!(IpNet::from_value(&string("10.0.0.0/8")).unwrap().to_string(), "10.0.0.0/8");
    assert_eq!(IpNet::from_value(&string("::1")).unwrap().to_string(), "::1/128");
    assert_eq!(Duration::from_value(&string("1m")), Ok(Duration::from_secs(60)));
    assert_eq!(ByteSize::from_value(&string("1KiB")), Ok(ByteSize(1024)));
    assert_eq!(Share::from_value(&string("50%")).unwrap().fraction(), 0.5);
    assert_eq!(StatusCode::from_value(&integer(404)), Ok(StatusCode::NOT_FOUND));
    assert_eq!(Method::from_value(&string("PURGE")).unwrap().as_str(), "PURGE");
    assert_eq!(Colour::from_value(&string("green")), Ok(Colour::Green));
    assert_eq!(NonZeroU32::from_value(&integer(3)), Ok(NonZeroU32::new(3).unwrap()));
}

#[test]
fn the_environment_may_hold_numbers() {
    assert_eq!(u16::from_value(&expanded(" 80 ")), Ok(80));
    assert_eq!(bool::from_value(&expanded("true")), Ok(true));
    assert_eq!(fault::<u16>(&expanded("x")), "\"x\" is not a whole number");
    assert_eq!(fault::<bool>(&expanded("yes")), "\"yes\" is not `true` or `false`");
    assert_eq!(fault::<u16>(&string("80")), "expected a whole number, found a string");
}

#[test]
fn what_does_not_fit_says_why() {
    assert_eq!(fault::<u16>(&integer(65_536)), "65536 is greater than 65535");
    assert_eq!(fault::<usize>(&integer(-1)), "-1 is negative");
    assert_eq!(fault::<NonZeroU32>(&integer(0)), "this must be at least 1");
    assert_eq!(fault::<String>(&integer(0)), "expected a string, found a whole number");
    assert_eq!(fault::<Duration>(&integer(5)), "a duration needs a unit");
    assert_eq!(fault::<ByteSize>(&integer(5)), "a size needs a unit");
    assert_eq!(fault::<IpNet>(&string("10.1.0.0/8")), "10.1.0.0/8 has bits beyond its prefix");
    assert_eq!(fault::<IpNet>(&string("10.0.0.0/33")), "\"10.0.0.0/33\" is not a network");
    assert_eq!(fault::<StatusCode>(&integer(600)), "600 is not a status (100 to 599)");
    assert_eq!(fault::<Method>(&string("get")), "\"get\" is not a method: methods tell case apart");
    assert_eq!(fault::<Method>(&string("G T")), "\"G T\" is not a method");
    assert_eq!(fault::<Colour>(&string("gren")), "there is no colour `gren`");
    let hint = Colour::from_value(&string("gren")).unwrap_err().hint;
    assert_eq!(hint.as_deref(), Some("did you mean `green`?"));
}

#[test]
fn reading_goes_on_after_a_fault() {
    let bad = entries(vec![
        ("port", string("x")),
        ("pools", list(vec![table(vec![("weight", integer(0))]), integer(1)])),
        ("nmae", string("x")),
    ]);
    let problems = reported(&bad, |options| {
        assert_eq!(options.get_or::<u16>("port", 7), 7);
        assert_eq!(options.require::<String>("name"), None);
        for pool in options.tables("pools") {
            assert_eq!(pool.within::<u32>("weight", 1..=9, 1), 1);
            pool.finish();
        }
    });
    assert_eq!(
        problems,
        [
            "port: expected a whole number, found a string",
            "name: `name` is missing",
            "pools[1]: expected a table, found a whole number",
            "pools[0].weight: 0 is not from 1 to 9",
            "nmae: unknown key `nmae` (did you mean `name`?)",
        ]
    );
}

#[test]
fn one_value_is_a_list_of_one() {
    let both = entries(vec![("one", string("a")), ("two", list(vec![string("a"), string("b")]))]);
    let problems = reported(&both, |options| {
        assert_eq!(options.list::<String>("one"), Some(vec!["a".into()]));
        assert_eq!(options.list::<String>("two"), Some(vec!["a".into(), "b".into()]));
        assert_eq!(options.list::<String>("three"), None);
    });
    assert!(problems.is_empty(), "{problems:?}");
}

#[test]
fn what_is_broken_is_reported_once() {
    let broken = entries(vec![("a", Value::new(0..1, Data::Broken))]);
    let problems = reported(&broken, |options| {
        assert_eq!(options.require::<String>("a"), None);
        assert!(options.table("a").is_none());
    });
    assert!(problems.is_empty(), "{problems:?}");
}

#[test]
fn an_unknown_key_without_a_neighbour_lists_the_known() {
    let problems = reported(&entries(vec![("zzz", integer(1))]), |options| {
        let _ = (options.get::<u16>("port"), options.get::<u16>("weight"));
    });
    assert_eq!(problems, ["zzz: unknown key `zzz` (the keys here are `port` and `weight`)"]);
}

#[test]
fn a_table_of_one_kind_has_one_key() {
    let tables =
        [table(vec![("a", integer(1))]), table(vec![]), table(vec![("a", integer(1)), ("b", integer(1))])];
    let problems = reported(&entries(vec![("filters", list(tables.into()))]), |options| {
        let kinds: Vec<_> = options.tables("filters").iter().filter_map(Options::sole).collect();
        assert_eq!(kinds.iter().map(|(key, _)| key.name.as_str()).collect::<Vec<_>>(), ["a"]);
    });
    assert_eq!(
        problems,
        [
            "filters[1]: expected a table with one key, found 0 keys",
            "filters[2]: expected a table with one key, found 2 keys"
        ]
    );
}

#[test]
fn keys_asked_for_are_known_by_pattern() {
    let sink = Sink::default();
    let tree =
        entries(vec![("pool", table(vec![("a.b", table(vec![]))])), ("list", list(vec![table(vec![])]))]);
    let options = Options::root(&tree, &sink);
    let pools = options.section("pool");
    for (_, pool) in pools.entries() {
        assert_eq!(pool.path(), "pool.\"a.b\"");
        pool.table().unwrap().section("tls").get::<String>("ca");
    }
    for item in options.tables("list") {
        item.get::<u16>("x");
    }
    let known: Vec<_> = sink.into_parts().1.into_iter().collect();
    assert_eq!(known, ["list", "list[].x", "pool", "pool.*", "pool.*.tls", "pool.*.tls.ca"]);
}

#[test]
fn the_nearest_word_is_suggested() {
    let words = ["path", "path_prefix", "path_regex", "pool", "header", "headers", "round_robin"];
    for (word, wanted) in [
        ("pth", Some("path")),
        ("prefix", Some("path_prefix")),
        ("path-prefix", Some("path_prefix")),
        ("headrs", Some("headers")),
        ("roundrobin", Some("round_robin")),
        ("Pool", Some("pool")),
        ("weight", None),
    ] {
        assert_eq!(suggest(word, words), wanted, "{word}");
    }
}
