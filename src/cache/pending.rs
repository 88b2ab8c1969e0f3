//! A response that is kept while it passes by: its bytes are copied, because pieces of a network
//! buffer would hold all of it, and it enters the store once it is whole.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::StatusCode;

use super::key::Key;
use super::rules::Terms;
use super::store::{Store, Stored};
use crate::model::Fields;

/// A response on its way into a store. Dropped, it is as if it had never been.
#[derive(Debug)]
pub struct Pending {
    store: Arc<Store>,
    key: Key,
    status: StatusCode,
    head: Box<[u8]>,
    terms: Terms,
    received: Instant,
    body: Vec<u8>,
    /// The bytes that it may take, which the store holds free for it.
    room: usize,
}

/// What came before its body.
#[derive(Debug)]
pub struct Begun<'a> {
    /// What it answers.
    pub key: Key,
    /// Its status.
    pub status: StatusCode,
    /// Its fields.
    pub fields: &'a Fields,
    /// On which terms it may be used.
    pub terms: Terms,
    /// Bytes of its body, where that is known.
    pub length: Option<u64>,
}

impl Pending {
    /// Begins to keep a response, if it is to be kept: it is not too large, the like of it was not
    /// kept a moment ago, and there is room for it beside others that are on their way.
    #[must_use]
    pub fn begin(store: &Arc<Store>, begun: Begun<'_>, now: Instant) -> Option<Self> {
        let Begun { key, status, fields, terms, length } = begun;
        let most = store.bounds().max_body;
        let length = length.map_or(Some(most), |length| usize::try_from(length).ok())?;
        if length > most || !store.is_due(&key, &terms, now) || !store.reserve(length) {
            return None;
        }
        let mut head = Vec::new();
        fields.write_lines(&mut head);
        let (store, head) = (Arc::clone(store), head.into_boxed_slice());
        Some(Self { store, key, status, head, terms, received: now, body: Vec::new(), room: length })
    }

    /// Takes the next bytes of the body; whether there was room for them. If not, it is to be dropped.
    #[must_use]
    pub fn take(&mut self, data: &[u8]) -> bool {
        if data.len() > self.room.saturating_sub(self.body.len()) {
            return false;
        }
        let (len, capacity) = (self.body.len(), self.body.capacity());
        if len + data.len() > capacity {
            // Grows as a vector does, but not past what is held free for it.
            let wanted = (len + data.len()).max(2 * capacity).max(FIRST).min(self.room);
            self.body.reserve_exact(wanted - len);
        }
        self.body.extend_from_slice(data);
        true
    }

    /// The whole body has passed: enters the store.
    pub fn complete(mut self) {
        let body = Bytes::from(std::mem::take(&mut self.body).into_boxed_slice());
        let key = self.key.clone();
        let stored = Stored {
            status: self.status,
            head: std::mem::take(&mut self.head),
            body,
            received: self.received,
            terms: self.terms.clone(),
        };
        self.store.insert(key, stored);
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.store.release(self.room);
    }
}

/// Bytes that are asked for at first.
const FIRST: usize = 64 * 1024;
