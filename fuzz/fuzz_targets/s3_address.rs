//! Host and path to bucket and key.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| portcullis::mapping::s3::fuzz_address(bytes));
