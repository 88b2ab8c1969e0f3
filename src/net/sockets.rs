//! Every listening socket of the process, as the control plane wants them: workers accept from those
//! that are there and end with those that are not there any more.

use std::sync::Arc;

use super::listen::BoundSocket;
use crate::model::Address;

/// The sockets to accept from.
#[derive(Clone, Debug, Default)]
pub struct Sockets(pub Vec<Opened>);

/// One bound address.
#[derive(Clone, Debug)]
pub struct Opened {
    /// As it was asked for, by which it is known again.
    pub asked: Address,
    /// With the port that was given for port 0.
    pub address: Address,
    /// The listener it belongs to, as the snapshot numbers them.
    pub listener: usize,
    /// At least one for each worker; the same ones for as long as the address is wanted, even when it
    /// passes to another listener.
    pub sockets: Arc<Vec<BoundSocket>>,
    /// How many workers there are to share them.
    pub workers: usize,
}

impl Opened {
    /// Those of the worker numbered `index`. Several when there are more of them than workers, as a
    /// process of more workers may have passed on: none is left without somebody who accepts.
    pub fn of_worker(&self, index: usize) -> impl Iterator<Item = &BoundSocket> {
        self.sockets.iter().skip(index).step_by(self.workers.max(1))
    }
}

impl Sockets {
    /// The one that was asked for as `asked`.
    #[must_use]
    pub fn find(&self, asked: &Address) -> Option<&Opened> {
        self.0.iter().find(|opened| opened.asked == *asked)
    }
}
