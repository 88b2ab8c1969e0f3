//! Which endpoints deserve traffic, decided purely: what happened comes in as samples and check
//! results, with the time; standings and the events that explain them come out. No sockets, no
//! clock. [`probe`] says what an active check sends and how its answer is judged; [`detector`] finds
//! outliers in live traffic; [`pool`] turns both into each endpoint's state; [`journal`] keeps why.

pub mod check;
pub mod detector;
pub mod journal;
pub mod latency;
pub mod outcome;
pub mod pool;
pub mod probe;
pub mod sample;
pub mod trial;

pub use latency::Latencies;
pub use outcome::{Failure, Outcome};
pub use pool::{PoolHealth, Standing, State};
pub use sample::{Sample, Trial};
