//! The use of one endpoint by one request, from the choice to the last byte.

use std::rc::Rc;

use super::LocalEndpoint;

/// Counts as one request in flight for as long as it lives.
#[derive(Debug)]
pub struct Lease {
    endpoint: Rc<LocalEndpoint>,
    index: usize,
}

impl Lease {
    pub(super) fn new(endpoint: Rc<LocalEndpoint>, index: usize) -> Self {
        endpoint.shared.gauge.begin();
        Self { endpoint, index }
    }

    /// The endpoint.
    #[must_use]
    pub fn endpoint(&self) -> &Rc<LocalEndpoint> {
        &self.endpoint
    }

    /// The endpoint's index in its pool.
    #[must_use]
    pub fn index(&self) -> usize {
        self.index
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.endpoint.shared.gauge.end();
    }
}
