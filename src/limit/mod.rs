//! What may be done at all, decided purely: how many requests at once, how often, how long, and
//! whether once more. Numbers and the time come in as values; nothing here waits, and nothing here
//! knows what is limited. Whatever is refused is refused by a [`Rejection`], which has a name.

pub mod rejection;

pub use rejection::Rejection;
