//! What goes into a certificate.

use std::time::{Duration, SystemTime};

use aws_lc_rs::rand;
use rcgen::{
    CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyUsagePurpose,
    SerialNumber, SignatureAlgorithm,
};
use time::OffsetDateTime;

use super::DevCaError;
use crate::identity::der::der;
use crate::identity::{SpiffeId, TrustDomain};

/// How far a certificate's validity begins in the past, for peers whose clock is behind.
const BACKDATED: Duration = Duration::from_secs(300);

/// Everything about a certificate that a test may want to get wrong.
///
/// [`SvidParams::leaf`] and [`SvidParams::signing`] are right; change what should not be.
#[derive(Debug, Clone)]
pub struct SvidParams {
    /// The subject's organisation; `None` leaves the subject empty.
    pub organization: Option<String>,
    /// The subject's common name.
    pub common_name: Option<String>,
    /// The names; none leaves the extension out.
    pub names: Vec<San>,
    /// Whether the SAN extension is critical.
    pub names_critical: bool,
    /// The key usages; `None` leaves the extension out.
    pub key_usage: Option<Vec<KeyUsagePurpose>>,
    /// Whether the key usage extension is critical.
    pub key_usage_critical: bool,
    /// The extended key usages; none leaves the extension out.
    pub extended_key_usage: Vec<ExtendedKeyUsagePurpose>,
    /// The CA flag; `None` leaves the basic constraints out.
    pub ca: Option<bool>,
    /// The path length constraint, written only with basic constraints.
    pub path_length: Option<u8>,
    /// The first moment of validity.
    pub not_before: SystemTime,
    /// The last moment of validity.
    pub not_after: SystemTime,
    /// Further extensions: OID, whether critical, content. They come last and may repeat others.
    pub extensions: Vec<(Vec<u64>, bool, Vec<u8>)>,
    /// The key's kind.
    pub key: &'static SignatureAlgorithm,
}

/// A name in the SAN extension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum San {
    /// A URI, in whatever bytes.
    Uri(Vec<u8>),
    /// A DNS name.
    Dns(String),
    /// Any other: context tag and content.
    Other(u8, Vec<u8>),
}

impl San {
    /// A URI name.
    #[must_use]
    pub fn uri(uri: &str) -> Self {
        Self::Uri(uri.as_bytes().to_vec())
    }
}

impl SvidParams {
    /// An X.509-SVID for `id`, valid for `lifetime` from `now` (and five minutes back).
    #[must_use]
    pub fn leaf(id: &SpiffeId, lifetime: Duration, now: SystemTime) -> Self {
        Self {
            organization: Some("portcullis development".to_owned()),
            common_name: None,
            names: vec![San::uri(id.as_str())],
            names_critical: false,
            key_usage: Some(vec![KeyUsagePurpose::DigitalSignature]),
            key_usage_critical: true,
            extended_key_usage: vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
            ca: Some(false),
            path_length: None,
            not_before: now.checked_sub(BACKDATED).unwrap_or(now),
            not_after: now.checked_add(lifetime).unwrap_or(now),
            extensions: Vec::new(),
            key: &rcgen::PKCS_ECDSA_P256_SHA256,
        }
    }

    /// A signing certificate of `trust_domain`.
    #[must_use]
    pub fn signing(trust_domain: &TrustDomain, lifetime: Duration, now: SystemTime) -> Self {
        // A common name has at most 64 characters (RFC 5280, appendix A, ub-common-name); a trust domain may have 255.
        let name: String = trust_domain.as_str().chars().take(64).collect();
        Self {
            organization: Some("portcullis development CA".to_owned()),
            common_name: Some(name),
            names: vec![San::uri(&format!("spiffe://{trust_domain}"))],
            key_usage: Some(vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign]),
            extended_key_usage: Vec::new(),
            ca: Some(true),
            not_before: now.checked_sub(BACKDATED).unwrap_or(now),
            not_after: now.checked_add(lifetime).unwrap_or(now),
            names_critical: false,
            key_usage_critical: true,
            path_length: None,
            extensions: Vec::new(),
            key: &rcgen::PKCS_ECDSA_P256_SHA256,
        }
    }

    pub(super) fn certificate_params(&self) -> Result<CertificateParams, DevCaError> {
        let mut params = CertificateParams::default();
        params.not_before = date(self.not_before)?;
        params.not_after = date(self.not_after)?;
        params.serial_number = Some(serial_number()?);
        params.distinguished_name = DistinguishedName::new();
        if let Some(organization) = &self.organization {
            params.distinguished_name.push(DnType::OrganizationName, organization.as_str());
        }
        if let Some(common_name) = &self.common_name {
            params.distinguished_name.push(DnType::CommonName, common_name.as_str());
        }
        params.use_authority_key_identifier_extension = true;
        params.extended_key_usages.clone_from(&self.extended_key_usage);
        // The rest is written by hand: rcgen decides about criticality itself and knows no malformed names.
        params.custom_extensions = self.written_extensions();
        Ok(params)
    }

    fn written_extensions(&self) -> Vec<CustomExtension> {
        let mut extensions = Vec::new();
        if !self.names.is_empty() {
            let names: Vec<u8> = self.names.iter().flat_map(general_name).collect();
            extensions.push(extension(&[2, 5, 29, 17], self.names_critical, der(0x30, &names)));
        }
        if let Some(usages) = &self.key_usage {
            extensions.push(extension(&[2, 5, 29, 15], self.key_usage_critical, key_usage(usages)));
        }
        if let Some(ca) = self.ca {
            // cA is FALSE by default, and DER leaves defaults out.
            let flag = if ca { der(0x01, &[0xff]) } else { Vec::new() };
            let path_length = self.path_length.map(|length| der(0x02, &[length])).unwrap_or_default();
            extensions.push(extension(&[2, 5, 29, 19], true, der(0x30, &[flag, path_length].concat())));
        }
        let further = self.extensions.iter().map(|(oid, critical, content)| extension(oid, *critical, content.clone()));
        extensions.extend(further);
        extensions
    }
}

pub(super) fn date(time: SystemTime) -> Result<OffsetDateTime, DevCaError> {
    let seconds = match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_secs()).map_err(|_| DevCaError::Time)?,
        Err(before) => i64::try_from(before.duration().as_secs()).map_err(|_| DevCaError::Time)?.wrapping_neg(),
    };
    // RFC 5280, 4.1.2.5: GeneralizedTime has four digits for the year, which is what `time` allows by default.
    OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| DevCaError::Time)
}

/// 16 random bytes: unique, and at most 20 bytes as RFC 5280, 4.1.2.2, asks for.
fn serial_number() -> Result<SerialNumber, DevCaError> {
    let mut bytes = [0_u8; 16];
    rand::fill(&mut bytes).map_err(|_| DevCaError::Random)?;
    let [first, ..] = &mut bytes;
    // Positive and without leading zero byte.
    *first = *first & 0x3f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

fn extension(oid: &[u64], critical: bool, content: Vec<u8>) -> CustomExtension {
    let mut extension = CustomExtension::from_oid_content(oid, content);
    extension.set_criticality(critical);
    extension
}

fn general_name(name: &San) -> Vec<u8> {
    match name {
        San::Uri(uri) => der(0x86, uri),
        San::Dns(dns) => der(0x82, dns.as_bytes()),
        San::Other(tag, content) => der(*tag, content),
    }
}

/// KeyUsage ::= BIT STRING, bit 0 (digitalSignature) first (RFC 5280, 4.2.1.3).
fn key_usage(usages: &[KeyUsagePurpose]) -> Vec<u8> {
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
