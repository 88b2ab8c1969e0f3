//! The words of the program: names, addresses, heads, options, units. Values only, without sockets, clock or files.

pub mod address;
pub mod field;
pub mod head;
pub mod name;
pub mod settings;

pub use address::{Address, Target};
pub use head::{Fields, RequestHead, ResponseHead};
pub use name::Name;
