//! A SQL text to operations.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| portcullis::mapping::sql::fuzz(bytes));
