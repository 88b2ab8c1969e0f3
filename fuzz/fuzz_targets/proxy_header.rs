//! PROXY protocol headers, both versions.
#![no_main]

#[path = "../../tests/bad_input/properties.rs"]
#[allow(dead_code, reason = "each target checks one property")]
mod properties;

libfuzzer_sys::fuzz_target!(|data: &[u8]| properties::proxy_header(data));
