//! The words of the program: names, addresses, heads, options, units. Values only, without sockets, clock or files.

pub mod address;
pub mod clients;
pub mod cookie;
pub mod expand;
pub mod field;
pub mod fingerprint;
pub mod head;
pub mod json;
pub mod mix;
pub mod name;
pub mod options;
pub mod percent;
pub mod settings;
pub mod units;

pub use address::{Address, Target};
pub use fingerprint::Fingerprint;
pub use head::{Fields, RequestHead, ResponseHead};
pub use name::Name;
