//! Datagrams that belong together: which flow a datagram is part of, when a flow is opened, and when it
//! is over. Told the time and what came, answers with what to do; opens no socket, and does not know
//! what is kept with a flow.
//!
//! # How it is used
//!
//! One [`Table`] for each worker and listener, with whatever the user keeps for a flow inside it: the
//! socket, the lease, and so on.
//!
//! 1. A datagram from a client: [`Table::arrived`]. [`Decision::Forward`]: send it by that flow, then, if
//!    so told, [`Table::close`] it. [`Decision::Open`]: choose an endpoint, open a socket, and give both
//!    to [`Table::open`], which counts the datagram that was the reason; if no endpoint can be had, drop
//!    the datagram. [`Decision::Drop`]: do that.
//! 2. A datagram from an endpoint: [`Table::replied`] says to whom it goes, and whether the flow is over
//!    thereafter. `None`: the flow ended before; drop it.
//! 3. An endpoint's state changed: a flow whose endpoint [`hold()`] tells to leave is given another by
//!    [`Table::repin`], with its next datagram; [`Table::sweep`] closes the flows of endpoints that are
//!    gone.
//! 4. When [`Table::next_end`] has come: [`Table::expire`], until it gives nothing.
//!
//! What a flow was, is in the [`Ended`] that every one of these ways gives at last, exactly once.

mod hold;
mod key;
mod slots;
mod table;
#[cfg(test)]
mod tests;

pub use hold::{Hold, hold};
pub use key::{FlowBy, Peer};
pub use slots::FlowId;
pub use table::{
    Cause, Counts, Datagrams, Decision, Dropped, Ended, Flow, Opened, Reply, Settings, Table, Then,
};
