//! HTTP/1 heads and bodies as the head guard follows them.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| portcullis::protocol::http::guard::fuzz(bytes));
