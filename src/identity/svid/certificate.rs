//! A certificate taken apart once, for the rules to look at.

use std::time::{Duration, SystemTime};

use x509_parser::asn1_rs::{Any, Class, FromDer, Tag};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{KeyUsage, ParsedExtension, X509Extension};
use x509_parser::oid_registry::{
    OID_X509_EXT_BASIC_CONSTRAINTS, OID_X509_EXT_EXTENDED_KEY_USAGE, OID_X509_EXT_KEY_USAGE,
    OID_X509_EXT_NAME_CONSTRAINTS, OID_X509_EXT_SUBJECT_ALT_NAME,
};
use x509_parser::time::ASN1Time;

use super::SvidError;
use crate::identity::SpiffeId;

/// What the rules need to know of a certificate.
///
/// Where an extension occurs twice, everything in both counts; that there are two is broken by a rule of its own.
#[derive(Debug)]
pub(in crate::identity) struct Certificate<'a> {
    pub(in crate::identity) x509: X509Certificate<'a>,
    /// Every URI name of the SAN extension, as its bytes.
    pub(in crate::identity) uris: Vec<&'a [u8]>,
    /// Every DNS name of the SAN extension, as its bytes.
    pub(in crate::identity) dns_names: Vec<&'a [u8]>,
    pub(in crate::identity) san_critical: bool,
    pub(in crate::identity) key_usage: Option<Usage>,
    pub(in crate::identity) extended_key_usage: Option<Purposes>,
    pub(in crate::identity) is_ca: bool,
    /// How many issuers may stand between it and a leaf, if it says so.
    pub(in crate::identity) path_length: Option<u32>,
    /// The content of the name constraints extension.
    pub(in crate::identity) name_constraints: Option<&'a [u8]>,
    /// The first extension that the rules read and whose content is not what its type says.
    pub(in crate::identity) malformed_extension: Option<String>,
    /// The SPIFFE ID, if there is exactly one URI name.
    pub(in crate::identity) id: Option<Result<SpiffeId, SvidError>>,
}

/// The key usage extension.
#[derive(Debug, Clone, Copy)]
pub(in crate::identity) struct Usage {
    pub(in crate::identity) critical: bool,
    pub(in crate::identity) digital_signature: bool,
    pub(in crate::identity) key_cert_sign: bool,
    pub(in crate::identity) crl_sign: bool,
}

/// The extended key usage extension, as far as TLS cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::identity) struct Purposes {
    pub(in crate::identity) server_auth: bool,
    pub(in crate::identity) client_auth: bool,
}

impl<'a> Certificate<'a> {
    /// Takes `der` apart.
    ///
    /// # Errors
    /// [`SvidError::Encoding`] if it is not exactly one DER certificate.
    pub(in crate::identity) fn parse(der: &'a [u8]) -> Result<Self, SvidError> {
        let (rest, x509) =
            X509Certificate::from_der(der).map_err(|error| SvidError::Encoding { detail: error.to_string() })?;
        if !rest.is_empty() {
            return Err(SvidError::Encoding { detail: format!("{} bytes after the certificate", rest.len()) });
        }
        let mut certificate = Self {
            uris: Vec::new(),
            dns_names: Vec::new(),
            san_critical: false,
            key_usage: None,
            extended_key_usage: None,
            is_ca: false,
            path_length: None,
            name_constraints: None,
            malformed_extension: None,
            id: None,
            x509,
        };
        // Extensions borrow from `der`, not from the certificate that lists them.
        for extension in certificate.x509.extensions().to_vec() {
            if certificate.take(&extension).is_none() {
                certificate.malformed_extension.get_or_insert_with(|| extension.oid.to_id_string());
            }
        }
        if let [uri] = certificate.uris.as_slice() {
            certificate.id = Some(spiffe_id(uri));
        }
        Ok(certificate)
    }

    /// Reads one extension; `None` if it is one that the rules read and its content is malformed.
    fn take(&mut self, extension: &X509Extension<'a>) -> Option<()> {
        let oid = &extension.oid;
        match extension.parsed_extension() {
            ParsedExtension::KeyUsage(usage) => self.take_key_usage(extension.critical, usage),
            ParsedExtension::ExtendedKeyUsage(usage) => {
                let purposes = Purposes { server_auth: usage.server_auth, client_auth: usage.client_auth };
                self.extended_key_usage = Some(purposes);
            }
            ParsedExtension::BasicConstraints(constraints) => {
                self.is_ca |= constraints.ca;
                self.path_length = constraints.path_len_constraint;
            }
            ParsedExtension::SubjectAlternativeName(_) => {
                self.san_critical = extension.critical;
                return self.take_names(extension.value);
            }
            _ if *oid == OID_X509_EXT_KEY_USAGE
                || *oid == OID_X509_EXT_EXTENDED_KEY_USAGE
                || *oid == OID_X509_EXT_BASIC_CONSTRAINTS
                || *oid == OID_X509_EXT_SUBJECT_ALT_NAME =>
            {
                return None;
            }
            _ if *oid == OID_X509_EXT_NAME_CONSTRAINTS => self.name_constraints = Some(extension.value),
            _ => {}
        }
        Some(())
    }

    fn take_key_usage(&mut self, critical: bool, usage: &KeyUsage) {
        self.key_usage = Some(Usage {
            critical,
            digital_signature: usage.digital_signature(),
            key_cert_sign: usage.key_cert_sign(),
            crl_sign: usage.crl_sign(),
        });
    }

    /// The names, from their bytes: `x509-parser` lets UTF-8 pass for IA5String and hides what does not decode,
    /// and a name that is not counted is a name that is not refused.
    fn take_names(&mut self, value: &'a [u8]) -> Option<()> {
        let (rest, sequence) = Any::from_der(value).ok()?;
        if !rest.is_empty() || sequence.tag() != Tag::Sequence {
            return None;
        }
        let mut names = sequence.data;
        while !names.is_empty() {
            let (rest, name) = Any::from_der(names).ok()?;
            if name.class() != Class::ContextSpecific {
                return None;
            }
            match name.tag().0 {
                // GeneralName: [6] uniformResourceIdentifier, [2] dNSName (RFC 5280, 4.2.1.6)
                6 => self.uris.push(name.data),
                2 => self.dns_names.push(name.data),
                _ => {}
            }
            names = rest;
        }
        Some(())
    }
}

/// The ID in a URI name.
fn spiffe_id(uri: &[u8]) -> Result<SpiffeId, SvidError> {
    // A URI name is an IA5String (RFC 5280, 4.2.1.6); a NUL in it has cut names short elsewhere (CVE-2026-47778).
    let text = std::str::from_utf8(uri).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_graphic()));
    let text = text.ok_or_else(|| SvidError::UriSanEncoding { uri: printable(uri) })?;
    SpiffeId::parse(text).map_err(|source| SvidError::SpiffeId { uri: shortened(text), source })
}

/// The names of a certificate that was refused, for the record of the refusal: the URI names, or else the DNS names.
///
/// Escaped to printable ASCII and cut after 4,096 bytes, since whoever made the certificate chose them.
#[must_use]
pub fn san_of_refused(der: &[u8]) -> Option<String> {
    let certificate = Certificate::parse(der).ok()?;
    let (names, prefix) = match certificate.uris.is_empty() {
        true => (certificate.dns_names, "DNS:"),
        false => (certificate.uris, ""),
    };
    let names: Vec<String> = names.into_iter().map(|name| format!("{prefix}{}", printable(name))).collect();
    (!names.is_empty()).then(|| shortened(&names.join(", ")))
}

/// Bytes that somebody else chose, safe to show.
pub(in crate::identity) fn printable(bytes: &[u8]) -> String {
    shortened(&bytes.escape_ascii().to_string())
}

fn shortened(text: &str) -> String {
    const MOST: usize = 4096;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// An ASN.1 time as the rest of the program tells time.
pub(in crate::identity) fn system_time(time: ASN1Time) -> SystemTime {
    let seconds = time.timestamp();
    let distance = Duration::from_secs(seconds.unsigned_abs());
    match seconds < 0 {
        true => SystemTime::UNIX_EPOCH.checked_sub(distance).unwrap_or(SystemTime::UNIX_EPOCH),
        false => SystemTime::UNIX_EPOCH.checked_add(distance).unwrap_or(SystemTime::UNIX_EPOCH),
    }
}
