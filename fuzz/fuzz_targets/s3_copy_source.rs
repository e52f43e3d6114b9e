//! The `x-amz-copy-source` field.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| portcullis::mapping::s3::fuzz_copy_source(bytes));
