//! HTTP/2 frame headers as the meter finds them.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| portcullis::protocol::http::meter::fuzz(bytes));
