//! The untyped packets that a PostgreSQL connection begins with: what is read is written alike.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| portcullis::protocol::postgres::fuzz_startup(bytes));
