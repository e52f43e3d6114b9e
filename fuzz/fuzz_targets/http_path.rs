//! The judgement of a path.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| portcullis::mapping::http_path::fuzz(bytes));
