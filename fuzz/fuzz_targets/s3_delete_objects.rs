//! The body of DeleteObjects.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| portcullis::mapping::s3::fuzz_delete_objects(bytes));
