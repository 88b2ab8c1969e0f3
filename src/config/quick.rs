//! A configuration without a file: one listener, one pool, from the words of a command line. The
//! command line takes the part of the source, so that problems point into it.

use super::{Report, source::Source};
use crate::model::options::{Data, Key, Value};

/// What `forebay proxy` was asked for, unread.
#[derive(Clone, Copy, Debug)]
pub struct Quick<'a> {
    /// Addresses to listen on, each after `--from`.
    pub from: &'a [String],
    /// Addresses of endpoints, each after `--to`.
    pub to: &'a [String],
    /// The name of a policy, after `--policy`; the default one when unset.
    pub policy: Option<&'a str>,
    /// The address of the admin listener, after `--admin`; the default one when unset.
    pub admin: Option<&'a str>,
}

/// The plan of one listener that forwards everything to one pool.
///
/// # Errors
/// When an address is malformed, bound twice or given twice, or the policy is unknown.
pub fn quick(asked: Quick<'_>) -> Result<super::Plan, Report> {
    let mut line = Line(String::from("forebay proxy"));
    let from = line.list("--from", asked.from);
    let to = line.list("--to", asked.to);
    let policy = asked.policy.map(|policy| line.word("--policy", policy));
    let admin = asked.admin.map(|admin| line.word("--admin", admin));

    let listener = table([("name", Some(string("web"))), ("bind", Some(from))]);
    let route = table([("name", Some(string("all"))), ("pool", Some(string("app")))]);
    let pool = table([("endpoints", Some(to)), ("policy", policy)]);
    let entries = [
        ("listener", Some(listener)),
        ("route", Some(route)),
        ("pool", Some(table([("app", Some(pool))]))),
        ("admin", admin.map(|bind| table([("bind", Some(bind))]))),
    ];
    super::read_entries(Source::new("the command line", line.0), keyed(entries)).into_plan()
}

/// The command line so far.
struct Line(String);

impl Line {
    fn word(&mut self, option: &str, word: &str) -> Value {
        self.0.push_str(&format!(" {option} "));
        let start = self.0.len();
        self.0.push_str(word);
        Value::new(start..self.0.len(), Data::String(word.to_owned()))
    }

    fn list(&mut self, option: &str, words: &[String]) -> Value {
        let items: Vec<_> = words.iter().map(|word| self.word(option, word)).collect();
        Value::new(0..self.0.len(), Data::Array(items))
    }
}

fn string(text: &str) -> Value {
    Value::new(0..0, Data::String(text.to_owned()))
}

fn table<const N: usize>(entries: [(&str, Option<Value>); N]) -> Value {
    Value::new(0..0, Data::Table(keyed(entries)))
}

fn keyed<const N: usize>(entries: [(&str, Option<Value>); N]) -> Vec<(Key, Value)> {
    let keyed = |(name, value): (&str, Option<Value>)| {
        let value = value?;
        Some((Key { name: name.to_owned(), span: value.span.clone() }, value))
    };
    entries.into_iter().filter_map(keyed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Plan;

    fn plan(from: &[&str], to: &[&str], policy: Option<&str>, admin: Option<&str>) -> Result<Plan, String> {
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let asked = Quick { from: &owned(from), to: &owned(to), policy, admin };
        quick(asked).map_err(|report| report.to_string())
    }

    #[test]
    fn a_command_line_is_a_plan() {
        let plan =
            plan(&["127.0.0.1:8080"], &["app:1", "[::1]:2"], Some("random"), Some("127.0.0.1:1")).unwrap();
        assert_eq!(plan.listeners[0].bind[0].to_string(), "127.0.0.1:8080");
        assert_eq!(plan.pools[0].endpoints[1].target.to_string(), "[::1]:2");
        assert_eq!(plan.pools[0].policy.name(), "random");
        assert_eq!(plan.admin.unwrap().bind[0].to_string(), "127.0.0.1:1");
        assert_eq!(plan.routes.len(), 1);
    }

    #[test]
    fn its_problems_point_into_it() {
        let said = plan(&["127.0.0.1:80"], &["127.0.0.1"], Some("randm"), Some("127.0.0.1:80")).unwrap_err();
        let line = "forebay proxy --from 127.0.0.1:80 --to 127.0.0.1 --policy randm --admin 127.0.0.1:80";
        assert_eq!(said.matches(line).count(), 4, "{said}");
        assert!(said.contains("--> the command line:1:40 in pool.app.endpoints[0]"), "{said}");
        assert!(said.contains("did you mean `random`?"), "{said}");
        assert!(said.ends_with("the command line: 3 errors\n"), "{said}");
    }

    #[test]
    fn it_needs_both_ends() {
        let said = plan(&[], &[], None, None).unwrap_err();
        assert!(
            said.contains("a listener needs an address") && said.contains("a pool needs endpoints"),
            "{said}"
        );
    }
}
