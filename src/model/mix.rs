//! Bits made of bits: for draws out of a draw and for hashes of numbers. Not for secrets.

/// Mixes `bits` so that each bit of the result depends on all of them, and none is lost: the finaliser of
/// the generator `SplitMix64` (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators",
/// 2014).
#[must_use]
pub const fn mix(bits: u64) -> u64 {
    let z = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// What `SplitMix64` adds from one number to the next: the golden ratio's fraction, of 64 bits.
pub const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
