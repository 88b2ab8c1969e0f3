//! From a file to a [`plan::Plan`], or to every problem at once.

pub mod plan;

pub use plan::Plan;
