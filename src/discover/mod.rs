//! Which endpoints a pool has when not all of them stand in the configuration: what names mean at
//! present and when to ask again, how several sources make one list, and what was changed by hand.
//! Asks nobody, opens nothing and has no clock.

pub mod changes;
pub mod question;
pub mod roster;
pub mod service;

pub use changes::{Changes, Patch};
pub use question::{Asked, Condition, Outcome, Question, Record, Ttl};
pub use roster::{Found, Origin, Slot, Terms, Whence};
pub use service::{Service, Sighting};
