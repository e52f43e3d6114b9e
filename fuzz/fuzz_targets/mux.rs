//! Frames of a shared connection, and the server's end of one: it goes on until all was taken, or ends.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    portcullis::mux::fuzz_frames(bytes);
    portcullis::mux::fuzz_connection(bytes);
});
