//! Good responses kept for the time when nobody can give a better one: what may be kept and used
//! (RFC 9111), and a store of bounded size. Does not know when a response is used instead of an
//! endpoint's, and never makes an answer faster: there is no caching in the usual sense here.

pub mod directives;
pub mod key;
pub mod pending;
pub mod rules;
mod shard;
pub mod store;

pub use key::Key;
pub use pending::{Begun, Pending};
pub use rules::{Refusal, Terms};
pub use store::{Bounds, Store, Stored};
