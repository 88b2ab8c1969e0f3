//! A request to the admin listener as handlers see it: the parts of its path, its query and its body, and
//! who sent it. That they may was decided before.

use std::borrow::Cow;
use std::sync::Arc;

use http::{HeaderMap, StatusCode};
use hyper::body::Bytes;
use serde_json::Value;

use super::guard::Caller;
use super::pages::Refusal;
use crate::model::percent;

/// A request.
#[derive(Debug)]
pub(super) struct Asked {
    /// By the names in the row's path.
    pub(super) parts: Vec<(&'static str, String)>,
    /// What follows the `?`, as it came.
    pub(super) query: Option<String>,
    /// Empty where the method takes none.
    pub(super) body: Bytes,
    /// What it says of itself, and who sent it.
    pub(super) fields: HeaderMap,
    pub(super) caller: Arc<Caller>,
}

impl Asked {
    /// What stands in the place of `{name}` in the row's path; nothing where it has no such part.
    pub(super) fn part(&self, name: &str) -> &str {
        let mut parts = self.parts.iter();
        parts.find(|(own, _)| *own == name).map_or("", |(_, value)| value)
    }

    /// The parameters of these names, decoded.
    ///
    /// # Errors
    /// When there is another one, one twice, or one that cannot be read.
    pub(super) fn query<const N: usize>(&self, names: [&str; N]) -> Result<[Option<String>; N], Refusal> {
        let bad = |error: String| {
            let known = names.map(|name| format!("`{name}`")).join(", ");
            let hint = if N == 0 { "this page takes none".to_owned() } else { format!("there is {known}") };
            Refusal::new(StatusCode::BAD_REQUEST, error, hint)
        };
        let mut values = [const { None }; N];
        let query = self.query.as_deref().unwrap_or_default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let place = names.iter().zip(&mut values).find(|(known, _)| **known == name);
            let Some((_, place)) = place else {
                return Err(bad(format!("the parameter {name:?} is not known")));
            };
            let Some(value) = percent::decode(value) else {
                return Err(bad(format!("the parameter {name:?} cannot be read")));
            };
            if place.replace(value).is_some() {
                return Err(bad(format!("the parameter {name:?} is given twice")));
            }
        }
        Ok(values)
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// When it is not.
    pub(super) fn json(&self) -> Result<Value, Refusal> {
        serde_json::from_slice(&self.body).map_err(|error| bad_body(error.to_string()))
    }
}

fn bad_body(error: impl Into<Cow<'static, str>>) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, error, "/v1/openapi.json says what the body looks like")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustls_pki_types::UnixTime;

    use super::*;

    #[test]
    fn a_query_is_what_the_page_knows() {
        let asked = |query: &str| Asked {
            parts: Vec::new(),
            query: Some(query.to_owned()),
            body: Bytes::new(),
            fields: HeaderMap::new(),
            caller: Arc::new(Caller {
                bound: "127.0.0.1:9900".parse().unwrap(),
                secure: false,
                certificates: Vec::new(),
                came: UnixTime::since_unix_epoch(Duration::ZERO),
            }),
        };
        let read = |query: &str| asked(query).query(["pool", "limit"]).ok();
        assert_eq!(read(""), Some([None, None]));
        assert_eq!(read("limit=5&pool=a%20b&"), Some([Some("a b".to_owned()), Some("5".to_owned())]));
        assert_eq!(read("pool"), Some([Some(String::new()), None]));
        for wrong in ["pool=a&pool=b", "since=5", "pool=%zz"] {
            assert!(read(wrong).is_none(), "{wrong}");
        }
    }
}
