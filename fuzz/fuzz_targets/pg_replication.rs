//! A text of a session that may replicate.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| portcullis::mapping::sql::fuzz_replication(bytes));
