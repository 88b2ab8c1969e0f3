//! The table of flows against a seeded adversary in virtual time: whatever comes in whatever order, it
//! does what a table does that is too plain to be wrong. `FOREBAY_SEED` sets the first seed.

mod operations;
mod plain;

/// Bytes for a table to be worked with, by a linear congruential generator (Knuth, MMIX).
fn random_bytes(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed;
    let mut draw = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        u8::try_from(state >> 56).expect("eight bits are a byte")
    };
    (0..count).map(|_| draw()).collect()
}

#[test]
fn no_adversary_makes_the_table_differ_from_a_plain_one() {
    let first = std::env::var("FOREBAY_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    for seed in first..first + 400 {
        println!("seed {seed}");
        operations::run(&random_bytes(seed, 3_000));
    }
}
