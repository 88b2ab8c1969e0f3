//! What is to be said of endpoints at one moment, for those who ask, and the orders that they give.

use std::sync::Arc;
use std::time::SystemTime;

use super::{Health, Record, Watched};
use crate::ambient;
use crate::health::Standing;
use crate::health::journal::Order;
use crate::model::Name;
use crate::upstream::{Endpoint, Pool};

use super::journal::Entry;

/// One endpoint at one moment.
#[derive(Debug)]
pub struct Reading {
    /// Its pool.
    pub pool: Arc<Pool>,
    /// The endpoint.
    pub endpoint: Arc<Endpoint>,
    /// What is done with it.
    pub standing: Standing,
    /// Whether its checks pass while its requests fail.
    pub disagrees: bool,
    /// Since when it has been in its state.
    pub since: SystemTime,
    /// What happened to it last.
    pub last: Option<Arc<Entry>>,
    /// How often it was ejected.
    pub ejections: u64,
    /// Checks that passed, and that failed.
    pub checks: (u64, u64),
}

/// A pool as a whole at one moment.
#[derive(Debug)]
pub struct PoolReading {
    /// The pool.
    pub pool: Arc<Pool>,
    /// Whether too few endpoints are available.
    pub failed_open: bool,
    /// Whether all degrade together.
    pub correlated: bool,
    /// Its endpoints, in the order of the configuration.
    pub endpoints: Vec<Reading>,
}

impl Health {
    /// Every pool with its endpoints, in the order of the configuration.
    #[must_use]
    pub fn readings(&self) -> Vec<PoolReading> {
        self.pools.load().iter().map(|watched| watched.reading()).collect()
    }

    /// One pool with its endpoints.
    #[must_use]
    pub fn reading(&self, pool: &str) -> Option<PoolReading> {
        self.pools
            .load()
            .iter()
            .find(|watched| watched.name().as_str() == pool)
            .map(|watched| watched.reading())
    }

    /// The names of the pools, in the order of the configuration.
    #[must_use]
    pub fn pool_names(&self) -> Vec<Name> {
        self.pools.load().iter().map(|watched| watched.name().clone()).collect()
    }

    /// Takes an order for the endpoint that is shown as `endpoint`. Whether there is one.
    pub fn order(&self, pool: &str, endpoint: &str, order: Order) -> bool {
        let pools = self.pools.load();
        let watched = pools.iter().find(|watched| watched.name().as_str() == pool);
        watched.is_some_and(|watched| watched.on_order(endpoint, order))
    }

    /// The orders that hold, each with its pool and endpoint, for what is left of its time.
    #[must_use]
    pub fn orders(&self) -> Vec<(Name, Arc<Endpoint>, Order)> {
        self.pools.load().iter().flat_map(|watched| watched.orders()).collect()
    }

    /// What is kept of what happened.
    #[must_use]
    pub fn record(&self) -> &Arc<Record> {
        &self.record
    }
}

impl Watched {
    /// How many endpoints are available, and how many there are.
    #[must_use]
    pub fn count(&self) -> (usize, usize) {
        let state = self.state();
        let standings = state.health.standings();
        (standings.iter().filter(|standing| standing.available).count(), standings.len())
    }

    fn orders(&self) -> Vec<(Name, Arc<Endpoint>, Order)> {
        let state = self.state();
        let endpoints = &state.watch.pool.endpoints;
        let named = state.health.orders(ambient::now()).filter_map(|(index, order)| {
            Some((self.name().clone(), Arc::clone(endpoints.get(index)?), order))
        });
        named.collect()
    }

    fn reading(&self) -> PoolReading {
        let state = self.state();
        let pool = &state.watch.pool;
        let endpoints = pool.endpoints.iter().zip(state.health.standings()).enumerate();
        let endpoints = endpoints.filter_map(|(index, (endpoint, standing))| {
            let told = state.told.endpoint(index)?;
            Some(Reading {
                pool: Arc::clone(pool),
                endpoint: Arc::clone(endpoint),
                standing: *standing,
                disagrees: state.health.disagrees(index),
                since: told.since,
                last: told.last.clone(),
                ejections: told.metrics.ejections(),
                checks: told.metrics.checks(),
            })
        });
        PoolReading {
            pool: Arc::clone(pool),
            failed_open: state.selection.bands.failed_open,
            correlated: state.health.is_correlated(),
            endpoints: endpoints.collect(),
        }
    }
}
