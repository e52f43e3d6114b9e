//! The little DER that is written by hand.

/// A DER value: tag, length, content.
#[must_use]
pub fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut encoded = vec![tag];
    encoded.extend(with_length(content));
    encoded
}

/// Length and content of a DER value.
fn with_length(data: &[u8]) -> Vec<u8> {
    let length = data.len().to_be_bytes();
    let significant: Vec<u8> = length.into_iter().skip_while(|byte| *byte == 0).collect();
    let mut encoded = match (significant.as_slice(), u8::try_from(significant.len())) {
        ([], _) => vec![0],
        ([short @ 0..=0x7f], _) => vec![*short],
        (_, count) => std::iter::once(0x80 | count.unwrap_or(8)).chain(significant).collect(),
    };
    encoded.extend_from_slice(data);
    encoded
}
