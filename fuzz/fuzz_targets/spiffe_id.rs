//! SPIFFE IDs: what parses is written as it was read, and keeps the character rules (SPIFFE-ID 2).
#![no_main]

use portcullis::identity::SpiffeId;

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Ok(id) = SpiffeId::parse(text) {
        assert_eq!(id.to_string(), text);
        assert!(text.starts_with("spiffe://"));
        assert!(!text.contains(['%', '?', '#', '@', '\\']) && !text.ends_with('/') && text.is_ascii());
    }
});
