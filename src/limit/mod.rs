//! What may be done at all, decided purely: how many requests at once, how often, how long, and
//! whether once more. Numbers and the time come in as values; nothing here waits, and nothing here
//! knows what is limited. Whatever is refused is refused by a [`Rejection`], which has a name.

pub mod backoff;
pub mod breaker;
pub mod bucket;
pub mod budget;
pub mod deadline;
pub mod door;
pub mod gate;
pub mod gradient;
pub mod hedge;
pub mod keyed;
pub mod ladder;
pub mod loops;
pub mod pressure;
pub mod queue;
pub mod rejection;
pub mod retry;
pub mod room;
pub mod scale;
pub mod sliding;
pub mod slot;
pub mod throttle;

pub use gate::Gate;
pub use pressure::Refusal;
pub use rejection::Rejection;
pub use room::Room;
pub use slot::Turn;
