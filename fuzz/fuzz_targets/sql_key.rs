//! Texts of the same safe key.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| portcullis::mapping::sql::fuzz_key(bytes));
