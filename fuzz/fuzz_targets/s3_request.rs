//! A whole S3 request head to operations.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| portcullis::mapping::s3::fuzz(bytes));
