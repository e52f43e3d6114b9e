//! Parts of certificates as text that is safe in headers and records.

use std::fmt::Write as _;
use std::time::SystemTime;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

use crate::identity::der::der;

pub(in crate::identity) fn serial(raw: &[u8]) -> String {
    let significant = raw.iter().position(|byte| *byte != 0).and_then(|start| raw.get(start..));
    lower_hex(significant.unwrap_or(&[0]))
}

pub(in crate::identity) fn lower_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut hex, byte| {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// A moment of a certificate, whole seconds in UTC: `2026-11-22T09:30:00Z`.
pub(in crate::identity) fn moment(at: SystemTime) -> String {
    let seconds = at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let moment = i64::try_from(seconds).ok().and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    // After 9999 there is no such form, nor a certificate.
    moment.and_then(|moment| moment.format(&Rfc3339).ok()).unwrap_or_else(|| format!("{seconds} s after 1970"))
}

/// A name as RFC 4514 writes it (section 2.1: the sequence is reversed).
pub(in crate::identity) fn rfc4514(name: &X509Name<'_>) -> String {
    let mut parts: Vec<String> =
        name.iter_rdn().map(|rdn| rdn.iter().map(attribute).collect::<Vec<_>>().join("+")).collect();
    parts.reverse();
    parts.join(",")
}

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> String {
    /// The descriptors of RFC 4514, section 3.
    const SHORT: [(&str, &str); 9] = [
        ("2.5.4.3", "CN"),
        ("2.5.4.7", "L"),
        ("2.5.4.8", "ST"),
        ("2.5.4.10", "O"),
        ("2.5.4.11", "OU"),
        ("2.5.4.6", "C"),
        ("2.5.4.9", "STREET"),
        ("0.9.2342.19200300.100.1.25", "DC"),
        ("0.9.2342.19200300.100.1.1", "UID"),
    ];
    let oid = attribute.attr_type().to_id_string();
    let short = SHORT.iter().find(|(known, _)| *known == oid).map(|(_, short)| *short);
    match (short, attribute.as_str()) {
        (Some(short), Ok(value)) => format!("{short}={}", escaped(value)),
        _ => {
            // Section 2.4: an unknown type's value is `#` and the hex of its encoding.
            let value = attribute.attr_value();
            {
                let tag = u8::try_from(value.tag().0).unwrap_or_default();
                format!("{oid}=#{}", lower_hex(&der(tag, value.data)))
            }
        }
    }
}

/// Section 2.4's escapes; bytes that are not printable ASCII as `\XX` too, since this text ends in headers and records.
fn escaped(value: &str) -> String {
    let last = value.len().saturating_sub(1);
    value.bytes().enumerate().fold(String::with_capacity(value.len()), |mut text, (index, byte)| {
        let at_edge = (index == 0 && matches!(byte, b' ' | b'#')) || (index == last && byte == b' ');
        if at_edge || matches!(byte, b'"' | b'+' | b',' | b';' | b'<' | b'>' | b'\\') {
            text.push('\\');
            text.push(char::from(byte));
        } else if byte == b' ' || byte.is_ascii_graphic() {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "\\{byte:02X}");
        }
        text
    })
}
