//! Changes by hand of a pool's endpoints: whether they are taken, and that they are kept before they count.

use std::io;
use std::path::PathBuf;
use std::sync::PoisonError;

use serde_json::{Value, json};
use thiserror::Error;

use super::{Discovery, State, kept};
use crate::discover::changes::Refused;
use crate::discover::{Changes, Patch};
use crate::model::{Address, Name};

/// What is to be done about an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// It is to be there, with these instead of what holds otherwise.
    Add(Patch),
    /// It is to be otherwise.
    Adjust(Patch),
    /// It is to be there no longer.
    Remove,
}

/// Why a change was not made.
#[derive(Debug, Error)]
pub enum ChangeError {
    /// There is no such pool.
    #[error("there is no such pool")]
    NoPool,
    /// The endpoint is there, or is not.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The pool speaks TLS, and there is no name to expect.
    #[error("there is no name to expect in the certificate of a Unix socket")]
    Nameless,
    /// It is to outlive the process, and cannot be written.
    #[error("the change cannot be kept")]
    Unkept(#[source] io::Error),
}

impl Discovery {
    /// Makes a change. It counts from the next time that the endpoints are followed.
    ///
    /// # Errors
    /// When it is not taken or cannot be kept; then nothing has changed.
    pub fn change(&self, pool: &str, address: &Address, wish: Wish) -> Result<(), ChangeError> {
        let _turn = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let change = self.state().changed(pool, address, wish)?;
        if let Some((folder, pools)) = &change.kept {
            kept::write(folder, pools.iter().map(|(name, changes)| (name, changes)))
                .map_err(ChangeError::Unkept)?;
        }
        let mut state = self.state();
        let sources = state.pools.iter_mut().find(|sources| sources.name == change.pool);
        if let Some(sources) = sources {
            sources.is_stale = true;
            sources.metrics.get_or_insert_with(|| self.registry.discovery(&change.pool));
        }
        state.changes.insert(change.pool, change.changes);
        Ok(())
    }

    /// What was changed by hand of a pool, as JSON; `None` when there is no such pool.
    #[must_use]
    pub fn changes(&self, pool: &str) -> Option<Value> {
        let state = self.state();
        let sources = state.pools.iter().find(|sources| sources.name.as_str() == pool)?;
        let changes = state.changes.get(&sources.name).into_iter().flat_map(Changes::iter);
        let list: Vec<_> = changes.map(|(address, change)| kept::shown(address, change)).collect();
        Some(json!({ "pool": pool, "kept": sources.keeps_changes, "changes": list }))
    }
}

/// A pool's changes with another one, before they count.
struct Changed {
    pool: Name,
    changes: Changes,
    /// What is to be kept, and where, if so.
    kept: Option<(PathBuf, Vec<(Name, Changes)>)>,
}

impl State {
    fn changed(&self, pool: &str, address: &Address, wish: Wish) -> Result<Changed, ChangeError> {
        let sources = self.pools.iter().find(|sources| sources.name.as_str() == pool);
        let sources = sources.ok_or(ChangeError::NoPool)?;
        if matches!(address, Address::Unix(_)) && !sources.takes_sockets && wish != Wish::Remove {
            return Err(ChangeError::Nameless);
        }
        let named = sources.named(&self.known).iter().any(|found| found.address == *address);
        let mut changes = self.changes.get(&sources.name).cloned().unwrap_or_default();
        match wish {
            Wish::Add(patch) => changes.add(address.clone(), patch, named)?,
            Wish::Adjust(patch) => changes.adjust(address, patch, named)?,
            Wish::Remove => changes.remove(address, named)?,
        }
        let pool = sources.name.clone();
        let kept = self.folder.clone().filter(|_| sources.keeps_changes).map(|folder| {
            let keeping = self.pools.iter().filter(|other| other.keeps_changes && other.name != pool);
            let others = keeping.filter_map(|other| Some((&other.name, self.changes.get(&other.name)?)));
            let others = others.map(|(name, changes)| (name.clone(), changes.clone()));
            (folder, others.chain([(pool.clone(), changes.clone())]).collect())
        });
        Ok(Changed { pool, changes, kept })
    }
}
