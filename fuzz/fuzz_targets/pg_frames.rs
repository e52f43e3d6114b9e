//! PostgreSQL messages: however a stream is cut, the same ones come out of it.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| portcullis::protocol::postgres::fuzz_frames(bytes));
