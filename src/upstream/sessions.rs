//! Sessions that stay with their endpoint: whom a request's cookie names, and the cookie that names
//! an endpoint. Everything is made once for a pool; a request only looks up. Whether the endpoint may
//! be used is not known here.

use std::sync::Arc;

use super::Endpoint;
use crate::model::settings::Sticky;
use crate::model::{Fields, cookie};

/// The cookies of one pool.
#[derive(Debug)]
pub struct Sessions {
    cookie: String,
    /// What cookies call each endpoint and its index, in the order of the former.
    ids: Vec<(Box<str>, usize)>,
    /// The value of `Set-Cookie` for each endpoint.
    set: Vec<Box<str>>,
}

impl Sessions {
    /// The cookies of `endpoints`.
    #[must_use]
    pub fn new(sticky: &Sticky, endpoints: &[Arc<Endpoint>]) -> Self {
        let mut ids: Vec<_> =
            endpoints.iter().enumerate().map(|(index, e)| (e.sticky_id.clone(), index)).collect();
        ids.sort_unstable();
        let set = endpoints.iter().map(|endpoint| sticky.set_cookie(&endpoint.sticky_id).into()).collect();
        Self { cookie: sticky.cookie.clone(), ids, set }
    }

    /// The index of the endpoint that a request's session stays with; `None` when it has no session
    /// yet, or with somebody who is not there any more.
    #[must_use]
    pub fn endpoint_of(&self, request: &Fields) -> Option<usize> {
        let id = cookie::find(request, self.cookie.as_bytes())?;
        let place = self.ids.binary_search_by(|(known, _)| known.as_bytes().cmp(id)).ok()?;
        self.ids.get(place).map(|(_, index)| *index)
    }

    /// The value of the `Set-Cookie` field that binds a session to the endpoint at `index`.
    #[must_use]
    pub fn set_cookie(&self, index: usize) -> Option<&str> {
        self.set.get(index).map(|value| &**value)
    }
}
