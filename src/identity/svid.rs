//! X.509-SVIDs: certificates that passed every leaf rule.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::SystemTime;

use aws_lc_rs::digest;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

use super::certificate::{Certificate, system_time};
use super::{SpiffeId, SvidError, rules};

/// A leaf certificate that passed every rule for leaves. Cheap to clone.
///
/// Who signed it is not judged here: that takes a trust bundle.
#[derive(Debug, Clone)]
pub struct X509Svid(Arc<Fields>);

#[derive(Debug)]
struct Fields {
    id: SpiffeId,
    not_before: SystemTime,
    not_after: SystemTime,
    serial: String,
    sha256: String,
    subject: String,
}

impl X509Svid {
    /// Parses a certificate and checks it against every leaf rule.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn parse(der: &[u8]) -> Result<Self, SvidError> {
        let mut certificate = Certificate::parse(der)?;
        rules::check_leaf(&certificate)?;
        let id = certificate.id.take().ok_or(SvidError::UriSanCount { count: 0 })??;
        let validity = certificate.x509.validity();
        Ok(Self(Arc::new(Fields {
            id,
            not_before: system_time(validity.not_before),
            not_after: system_time(validity.not_after),
            serial: serial(certificate.x509.raw_serial()),
            sha256: lower_hex(digest::digest(&digest::SHA256, der).as_ref()),
            subject: rfc4514(certificate.x509.subject()),
        })))
    }

    /// The workload's ID. It has a path.
    #[must_use]
    pub fn id(&self) -> &SpiffeId {
        &self.0.id
    }

    /// The first moment of validity.
    #[must_use]
    pub fn not_before(&self) -> SystemTime {
        self.0.not_before
    }

    /// The last moment of validity.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.0.not_after
    }

    /// The serial number in lower hex, two digits a byte, without leading zero bytes.
    #[must_use]
    pub fn serial(&self) -> &str {
        &self.0.serial
    }

    /// SHA-256 of the DER: 64 digits of lower hex.
    #[must_use]
    pub fn sha256(&self) -> &str {
        &self.0.sha256
    }

    /// The subject as RFC 4514 writes it, most specific part first, printable ASCII only. Often empty.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.0.subject
    }
}

pub(super) fn serial(raw: &[u8]) -> String {
    let significant = raw.iter().position(|byte| *byte != 0).and_then(|start| raw.get(start..));
    lower_hex(significant.unwrap_or(&[0]))
}

pub(super) fn lower_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut hex, byte| {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// A name as RFC 4514 writes it (section 2.1: the sequence is reversed).
pub(super) fn rfc4514(name: &X509Name<'_>) -> String {
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
            format!("{oid}=#{:02x}{}", value.tag().0, lower_hex(&with_length(value.data)))
        }
    }
}

/// Length and content of a DER value.
pub(super) fn with_length(data: &[u8]) -> Vec<u8> {
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
