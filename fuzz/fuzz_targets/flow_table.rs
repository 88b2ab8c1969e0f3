//! Operations on a table of flows.
#![no_main]

#[path = "../../tests/flow_table/operations.rs"]
mod operations;
#[path = "../../tests/flow_table/plain.rs"]
mod plain;

libfuzzer_sys::fuzz_target!(|data: &[u8]| operations::run(data));
