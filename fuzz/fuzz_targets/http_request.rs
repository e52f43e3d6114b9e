//! A target to `http` operations.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| portcullis::mapping::http::fuzz(bytes));
