//! The little DER that rogue certificates need.

use rcgen::KeyUsagePurpose;

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

/// KeyUsage ::= BIT STRING, bit 0 (digitalSignature) first (RFC 5280, 4.2.1.3).
pub(super) fn key_usage(usages: &[KeyUsagePurpose]) -> Vec<u8> {
    let position = |usage: &KeyUsagePurpose| match usage {
        KeyUsagePurpose::DigitalSignature => 0,
        KeyUsagePurpose::ContentCommitment => 1,
        KeyUsagePurpose::KeyEncipherment => 2,
        KeyUsagePurpose::DataEncipherment => 3,
        KeyUsagePurpose::KeyAgreement => 4,
        KeyUsagePurpose::KeyCertSign => 5,
        KeyUsagePurpose::CrlSign => 6,
        KeyUsagePurpose::EncipherOnly => 7,
        KeyUsagePurpose::DecipherOnly => 8,
    };
    let bits = usages.iter().map(position).fold(0_u16, |bits, position| bits | 0x8000 >> position);
    let unused = u8::try_from(bits.trailing_zeros()).unwrap_or(16);
    let [high, low] = bits.to_be_bytes();
    // DER: no trailing zero bits.
    match unused {
        16 => der(0x03, &[0]),
        8..16 => der(0x03, &[unused - 8, high]),
        _ => der(0x03, &[unused, high, low]),
    }
}
