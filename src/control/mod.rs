//! The control plane: what runs beside the data plane, on a thread of its own, and never in the way
//! of a request. It meets the data plane in values only; it does not know how requests are moved.

pub mod admin;
pub mod assemble;
pub mod healthcheck;
