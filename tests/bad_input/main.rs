//! Bad input, by accident or malice: an error or an end comes of it, never a panic, a hang or
//! another client's bytes. Everything random comes from a seed, which a failure prints;
//! `FOREBAY_SEED` sets the first one.

#[path = "../support/mod.rs"]
mod support;

mod alongside;
mod mutation;
mod parsers;
mod properties;
mod stages;

/// Seeds to try: `count` of them, from a fixed one on unless the environment says otherwise.
fn seeds(count: u64) -> std::ops::Range<u64> {
    let first = std::env::var("FOREBAY_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    first..first + count
}
