//! A token taken apart, and its claims read.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| portcullis::identity::fuzz_token(bytes));
