//! `rewrite_prefix`: another beginning for the path that endpoints see. The query stays.

use super::{Filter, FilterCx, Kind, Verdict};
use crate::model::RequestHead;
use crate::model::options::{Fault, Given, Options};
use crate::route::path::{Normalised, normalise};

pub(super) const KIND: Kind = Kind {
    name: "rewrite_prefix",
    summary: "replaces the beginning of the path",
    parse: |given| RewritePrefix::parse(given).map(|rewrite| Box::new(rewrite) as Box<dyn Filter>),
};

/// Both without a slash at their end, so that they join what begins with one.
#[derive(Debug)]
struct RewritePrefix {
    from: Box<[u8]>,
    to: Box<[u8]>,
}

impl Filter for RewritePrefix {
    fn on_request(&self, head: &mut RequestHead, _cx: &mut FilterCx<'_>) -> Verdict {
        if let Some(target) = self.rewritten(head) {
            head.set_target(&target);
        }
        Verdict::Continue
    }
}

impl RewritePrefix {
    /// `{ from = "/api", to = "/" }`
    fn parse(given: &Given<'_>) -> Option<Self> {
        let options = given.table()?;
        let (from, to) = (prefix(&options, "from"), prefix(&options, "to"));
        options.finish();
        Some(Self { from: from?, to: to? })
    }

    fn rewritten(&self, head: &RequestHead) -> Option<Vec<u8>> {
        let rest = head.path().strip_prefix(&*self.from)?;
        let on_border = matches!(rest, [] | [b'/', ..]);
        let tail = head.target().strip_prefix(&*self.from).filter(|_| on_border)?;
        let mut target = Vec::with_capacity(self.to.len() + 1 + tail.len());
        target.extend_from_slice(&self.to);
        if target.is_empty() && rest.is_empty() {
            target.push(b'/');
        }
        target.extend_from_slice(tail);
        Some(target)
    }
}

fn prefix(options: &Options<'_>, key: &'static str) -> Option<Box<[u8]>> {
    let given = options.required(key)?;
    let text = given.read::<String>()?;
    match checked(&text) {
        Ok(()) => Some(text.strip_suffix('/').unwrap_or(&text).as_bytes().into()),
        Err(fault) => {
            given.fault(fault.text, fault.hint);
            None
        }
    }
}

fn checked(text: &str) -> Result<(), Fault> {
    let bad = |hint| Err(Fault::new(format_args!("{text:?} is not a prefix of paths")).hint(hint));
    if !text.starts_with('/') {
        return bad("it begins with `/`");
    }
    if text.contains('?') || normalise(text.as_bytes()) != Normalised::Unchanged || !text.is_ascii() {
        return bad("it has no `?`, `#`, spaces or `.` segments; other characters are percent-encoded");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::route::filter::tests::{Case, faults};

    #[test]
    fn prefixes_are_replaced_on_segment_borders() {
        for (from, to, target, wanted) in [
            ("/api", "/", "/api", "/"),
            ("/api", "/", "/api/", "/"),
            ("/api", "/", "/api?x=/api", "/?x=/api"),
            ("/api", "/", "/api/v1?x", "/v1?x"),
            ("/api/", "/v2/", "/api/v1", "/v2/v1"),
            ("/api", "/v2", "/api", "/v2"),
            ("/api", "/v2", "/api/", "/v2/"),
            ("/api", "/v2", "/apis", "/apis"),
            ("/api", "/v2", "/other/api", "/other/api"),
            ("/", "/v2", "/", "/v2/"),
            ("/", "/v2", "/a/b?c", "/v2/a/b?c"),
            ("/", "/v2", "*", "*"),
        ] {
            let case = Case { target: target.as_bytes(), ..Case::default() };
            let done = case.run(&format!(r#"rewrite_prefix = {{ from = "{from}", to = "{to}" }}"#));
            assert_eq!(done.target, wanted, "{from} to {to}: {target}");
        }
    }

    #[test]
    fn prefixes_are_paths() {
        assert_eq!(faults(r#"rewrite_prefix = { from = "/a" }"#), ["rewrite_prefix.to: `to` is missing"]);
        for bad in ["", "a", "/a?b", "/a/../b", "/a b", "/\u{fc}"] {
            let options = format!(r#"rewrite_prefix = {{ from = "/", to = "{bad}" }}"#);
            assert_eq!(faults(&options), [format!("rewrite_prefix.to: {bad:?} is not a prefix of paths")]);
        }
    }
}
