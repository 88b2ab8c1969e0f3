//! Whose a connection to an endpoint is, where it was opened in the name of one client: what the endpoint
//! was told of that client holds for nobody else. Does not know who clients are.

use std::fmt;
use std::net::IpAddr;
use std::rc::{Rc, Weak};

use tokio::sync::Mutex;

/// A client's connection, as the owner of connections to endpoints. They outlive it by little.
#[derive(Debug, Default)]
pub struct Owner(Rc<Mutex<()>>);

/// Who may use a connection to an endpoint: its owner, or anybody where there is none.
#[derive(Debug, Default)]
pub struct Owned(Option<Weak<Mutex<()>>>);

/// Who is to use a connection, and what the endpoint is told as one is opened.
#[derive(Clone, Copy, Default)]
pub struct Private<'a> {
    /// Gives the bytes that tell of the client; none where the endpoint is told nothing. Most requests open
    /// no connection, and need none.
    pub preface: Option<&'a dyn Fn() -> Vec<u8>>,
    /// The client's address, for endpoints that are to see connections come from there.
    pub source: Option<IpAddr>,
    /// The client, if nobody else may use it.
    pub owner: Option<&'a Owner>,
}

impl Private<'_> {
    /// The bytes that a connection begins with.
    #[must_use]
    pub fn preface(&self) -> Vec<u8> {
        self.preface.map(|preface| preface()).unwrap_or_default()
    }
}

impl fmt::Debug for Private<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Private").field("owner", &self.owner).finish_non_exhaustive()
    }
}

impl Owner {
    /// Held by the one request that opens a connection while others of the same client wait for it.
    pub(super) fn opening(&self) -> &Mutex<()> {
        &self.0
    }
}

impl Owned {
    /// That of `owner`.
    #[must_use]
    pub fn by(owner: Option<&Owner>) -> Self {
        Self(owner.map(|owner| Rc::downgrade(&owner.0)))
    }

    /// Whether `owner` may use it.
    #[inline]
    #[must_use]
    pub fn is_of(&self, owner: Option<&Owner>) -> bool {
        match (&self.0, owner) {
            (None, None) => true,
            (Some(own), Some(owner)) => Weak::as_ptr(own) == Rc::as_ptr(&owner.0),
            _ => false,
        }
    }

    /// Whether nobody may use it any more.
    #[must_use]
    pub fn is_orphaned(&self) -> bool {
        self.0.as_ref().is_some_and(|own| own.strong_count() == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_owned_is_nobody_elses() {
        let (one, other) = (Owner::default(), Owner::default());
        let owned = Owned::by(Some(&one));
        assert!(owned.is_of(Some(&one)) && !owned.is_of(Some(&other)) && !owned.is_of(None));
        assert!(Owned::default().is_of(None) && !Owned::default().is_of(Some(&one)));
        assert!(!owned.is_orphaned());
        drop(one);
        assert!(owned.is_orphaned() && !Owned::default().is_orphaned());
    }
}
