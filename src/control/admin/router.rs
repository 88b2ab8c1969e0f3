//! The table of all that the admin listener offers, and the way from a request to its row. What a path
//! answers, who may ask, what `Allow` says and what `/` lists all follow from the rows; what a handler
//! does is its file's matter.

use std::fmt::Write as _;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use http::header::ALLOW;
use http::{Method, StatusCode};

use super::pages::{self, Page, Refusal};
use super::{
    AdminState, Asked, changes, connections, dashboard, endpoints, events, following, history, logging,
    pools, process, reloading, reporting, scaling,
};
use crate::model::percent;

/// Every row, by the file that answers it.
const TABLE: &[&[Row]] = &[
    pages::ROWS,
    process::ROWS,
    pools::ROWS,
    endpoints::ROWS,
    changes::ROWS,
    connections::ROWS,
    logging::ROWS,
    following::ROWS,
    reloading::ROWS,
    history::ROWS,
    dashboard::ROWS,
    events::ROWS,
    reporting::ROWS,
    scaling::ROWS,
];

/// A way to ask for something.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) method: Method,
    /// Segments in braces stand for any text, which the handler gets by that name.
    pub(super) path: &'static str,
    /// The same under another path, which is not described.
    also: Option<&'static str>,
    pub(super) access: Access,
    /// What it is for, for the list of all and for the description.
    pub(super) summary: &'static str,
    pub(super) handler: Handler,
    /// What browsers get in its place, which everybody may see who can connect.
    pub(super) browsers: Option<fn() -> Page>,
}

/// Who may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Everybody who can connect.
    Open,
    /// Those who may see what runs.
    Read,
    /// Those who may change it.
    Write,
}

/// What answers.
#[derive(Clone, Copy, Debug)]
pub(super) enum Handler {
    /// On a thread where it may take its time.
    Blocking(fn(&Asked, &AdminState) -> Answer),
    /// On the control thread, where it may wait and must not block.
    Waiting(fn(Arc<Asked>, Arc<AdminState>) -> Waiting),
}

/// A page, or why there is none.
pub(super) type Answer = Result<Page, Refusal>;

/// An answer that is waited for.
pub(super) type Waiting = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// What a request asks for.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) row: &'static Row,
    /// What stands in the place of the segments in braces.
    pub(super) parts: Vec<(&'static str, String)>,
}

impl Row {
    /// A row that shows something.
    pub(super) const fn get(path: &'static str, summary: &'static str, handler: Handler) -> Self {
        let (method, access) = (Method::GET, Access::Read);
        Self { method, path, also: None, access, summary, handler, browsers: None }
    }

    /// A row that changes something, or takes a body.
    pub(super) const fn write(
        method: Method,
        path: &'static str,
        summary: &'static str,
        handler: Handler,
    ) -> Self {
        Self { method, path, also: None, access: Access::Write, summary, handler, browsers: None }
    }

    /// The same under another path as well.
    pub(super) const fn also(mut self, path: &'static str) -> Self {
        self.also = Some(path);
        self
    }

    /// For these.
    pub(super) const fn access(mut self, access: Access) -> Self {
        self.access = access;
        self
    }

    /// With another page for browsers, under its path alone.
    pub(super) const fn browsers(mut self, page: fn() -> Page) -> Self {
        self.browsers = Some(page);
        self
    }

    fn patterns(&self) -> impl Iterator<Item = &'static str> + use<> {
        std::iter::once(self.path).chain(self.also)
    }

    /// Whether the row takes `method`; who is shown something may ask for its head only.
    fn takes(&self, method: &Method) -> bool {
        self.method == *method || (self.method == Method::GET && *method == Method::HEAD)
    }
}

/// Every row.
pub(super) fn rows() -> impl Iterator<Item = &'static Row> {
    TABLE.iter().copied().flatten()
}

/// The row for `method` and `path`.
///
/// # Errors
/// When there is none for the path, or none for the method; it says which there are.
pub(super) fn find(method: &Method, path: &str) -> Result<Found, Refusal> {
    let Some(segments) = segments(path).map(percent::decode).collect::<Option<Vec<_>>>() else {
        let error = "the path has an escape that is cut short";
        return Err(Refusal::new(StatusCode::BAD_REQUEST, error, "a `/` in a name is written %2F"));
    };
    let there: Vec<_> = rows().filter_map(|row| Some((row, row.read(&segments)?))).collect();
    if there.is_empty() {
        return Err(Refusal::new(StatusCode::NOT_FOUND, "not found", nearest(&segments)));
    }
    let methods = there.iter().map(|(row, _)| row.method.as_str()).collect::<Vec<_>>();
    let allow = methods.join(", ").replace("GET", "GET, HEAD");
    let found = there.into_iter().find(|(row, _)| row.takes(method));
    found.map(|(row, parts)| Found { row, parts }).ok_or_else(|| {
        let hint = format!("this page takes {allow}");
        Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "the method is not allowed", hint).with(ALLOW, &allow)
    })
}

impl Row {
    /// What stands in the braces, if the row is for such a path.
    fn read(&self, path: &[String]) -> Option<Vec<(&'static str, String)>> {
        self.patterns().find_map(|pattern| {
            let wanted: Vec<_> = segments(pattern).collect();
            (wanted.len() == path.len()).then(|| parts(&wanted, path)).flatten()
        })
    }
}

/// What stands in the braces of `wanted`, if `path` begins so.
fn parts(wanted: &[&'static str], path: &[String]) -> Option<Vec<(&'static str, String)>> {
    let mut parts = Vec::new();
    for (wanted, segment) in wanted.iter().zip(path) {
        match named(wanted) {
            Some(name) if !segment.is_empty() => parts.push((name, segment.clone())),
            None if wanted == segment => {}
            _ => return None,
        }
    }
    Some(parts)
}

/// What to try in the place of a path for which there is no row: what there is below the most of it.
fn nearest(path: &[String]) -> String {
    for known in (1..path.len()).rev() {
        let Some(path) = path.get(..known) else { continue };
        let mut below = Vec::new();
        for pattern in rows().flat_map(Row::patterns) {
            let wanted: Vec<_> = segments(pattern).collect();
            let (Some(own), Some(next)) = (wanted.get(..known), wanted.get(known)) else { continue };
            if parts(own, path).is_some() && !below.contains(next) {
                below.push(*next);
            }
        }
        // That there is something below the version tells nobody anything.
        if !below.is_empty() && path != ["v1"] {
            return format!("below /{} there is {}", path.join("/"), below.join(", "));
        }
    }
    "/ lists what there is".to_owned()
}

/// The name in the braces of a segment that has them.
fn named(segment: &'static str) -> Option<&'static str> {
    segment.strip_prefix('{')?.strip_suffix('}')
}

/// The segments of a path. A slash at its end makes none.
fn segments(path: &str) -> impl Iterator<Item = &str> {
    let path = path.strip_prefix('/').unwrap_or(path);
    let path = path.strip_suffix('/').unwrap_or(path);
    path.split('/').filter(move |_| !path.is_empty())
}

/// Every row in a line.
pub(super) fn list() -> String {
    let width = rows().map(|row| row.path.len()).max().unwrap_or_default();
    let mut list = String::new();
    for row in rows() {
        // Writing to a string does not fail.
        let _ = writeln!(list, "{:<6}  {:<width$}  {}", row.method.as_str(), row.path, row.summary);
    }
    list
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn allow(method: &Method, path: &str) -> (u16, String) {
        let page = find(method, path).expect_err("there is no such row").page();
        let allow = page.headers().get("allow").map(|allow| allow.to_str().unwrap().to_owned());
        (page.status().as_u16(), allow.unwrap_or_default())
    }

    #[test]
    fn paths_lead_to_rows() {
        for (path, row, part) in [
            ("/", "/", None),
            ("/v1", "/", None),
            ("/v1/", "/", None),
            ("/metrics", "/metrics", None),
            ("/v1/metrics", "/metrics", None),
            ("/endpoints/", "/v1/endpoints", None),
            ("/v1/endpoints/app", "/v1/endpoints/{pool}", Some(("pool", "app"))),
            ("/endpoints/a%2Fb", "/v1/endpoints/{pool}", Some(("pool", "a/b"))),
        ] {
            let found = find(&Method::GET, path).expect(path);
            assert_eq!(found.row.path, row);
            let first = found.parts.first().map(|(name, value)| (*name, value.as_str()));
            assert_eq!(first, part, "{path}");
        }
    }

    #[test]
    fn what_is_not_there_is_refused() {
        assert_eq!(allow(&Method::GET, "/nothing"), (404, String::new()));
        assert_eq!(allow(&Method::GET, "/metrics//"), (404, String::new()));
        assert_eq!(allow(&Method::GET, "/v1/endpoints//x"), (404, String::new()));
        assert_eq!(allow(&Method::GET, "/v1/endpoints/%zz"), (400, String::new()));
        assert_eq!(allow(&Method::POST, "/metrics"), (405, "GET, HEAD".to_owned()));
        assert_eq!(allow(&Method::GET, "/v1/endpoints/a/b/drain"), (405, "POST".to_owned()));
    }

    #[test]
    fn no_row_hides_another() {
        let mut seen = HashSet::new();
        for row in rows() {
            for pattern in row.patterns() {
                assert!(pattern.starts_with('/') && seen.insert((row.method.clone(), pattern)), "{pattern}");
            }
            let found = find(&row.method, row.path).expect(row.path);
            assert_eq!(found.row.path, row.path);
            assert_eq!(row.access == Access::Write, row.method != Method::GET, "{}", row.path);
        }
    }
}
