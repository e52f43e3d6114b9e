//! Revocation lists.

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use rcgen::SigningKey as _;
use time::OffsetDateTime;
use x509_parser::asn1_rs::{Oid, ToDer as _};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

use super::params::date;
use super::{DevCa, DevCaError, der};
use crate::identity::SvidError;

/// ecdsa-with-SHA256 (RFC 5758, 3.2).
const ECDSA_SHA256: [u8; 10] = [0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];

/// Everything about a revocation list that a test may want to get wrong. [`CrlParams::new`] is right.
#[derive(Debug, Clone)]
pub struct CrlParams {
    /// Its number; `None` leaves the extension out.
    pub number: Option<u64>,
    /// The revoked certificates' serial numbers in hex, as [`crate::identity::X509Svid::serial`] has them.
    pub serials: Vec<String>,
    /// When it is made.
    pub this_update: SystemTime,
    /// When the next one is made; `None` leaves the field out.
    pub next_update: Option<SystemTime>,
    /// Further extensions: OID, whether critical, content.
    pub extensions: Vec<(Vec<u64>, bool, Vec<u8>)>,
}

impl CrlParams {
    /// The list of this number with these serial numbers, good for `lifetime` from `now` on.
    #[must_use]
    pub fn new(number: u64, serials: &[&str], lifetime: Duration, now: SystemTime) -> Self {
        Self {
            number: Some(number),
            serials: serials.iter().map(|serial| (*serial).to_owned()).collect(),
            this_update: now,
            next_update: now.checked_add(lifetime),
            extensions: Vec::new(),
        }
    }
}

impl DevCa {
    /// A revocation list of this authority, DER.
    ///
    /// # Errors
    /// The authority's key is not for P-256, or the parameters fit no list.
    pub fn crl(&self, params: &CrlParams) -> Result<Vec<u8>, DevCaError> {
        let key = self.key();
        if key.algorithm() != &rcgen::PKCS_ECDSA_P256_SHA256 {
            return Err(rcgen::Error::UnsupportedSignatureAlgorithm.into());
        }
        let algorithm = der(0x30, &ECDSA_SHA256);
        let tbs = self.to_be_signed(params, &algorithm)?;
        let signature = der(0x03, &[vec![0], key.sign(&tbs)?].concat());
        Ok(der(0x30, &[tbs, algorithm, signature].concat()))
    }

    /// The same in PEM.
    ///
    /// # Errors
    /// As [`Self::crl`].
    pub fn crl_pem(&self, params: &CrlParams) -> Result<String, DevCaError> {
        let text = base64::engine::general_purpose::STANDARD.encode(self.crl(params)?);
        Ok(format!("-----BEGIN X509 CRL-----\n{text}\n-----END X509 CRL-----\n"))
    }

    /// TBSCertList (RFC 5280, 5.1).
    fn to_be_signed(&self, params: &CrlParams, algorithm: &[u8]) -> Result<Vec<u8>, DevCaError> {
        let unreadable = |detail: String| DevCaError::Certificate(SvidError::Encoding { detail });
        let (_, own) = X509Certificate::from_der(self.certificate()).map_err(|error| unreadable(error.to_string()))?;
        let number = params.number.map(|number| (vec![2, 5, 29, 20], false, integer(&number.to_be_bytes())));
        let mut extensions = Vec::new();
        for (oid, critical, content) in number.iter().chain(&params.extensions) {
            let oid = Oid::from(oid).ok().and_then(|oid| oid.to_der_vec().ok());
            let oid = oid.ok_or_else(|| unreadable("no object identifier".to_owned()))?;
            let critical = if *critical { der(0x01, &[0xff]) } else { Vec::new() };
            extensions.extend(der(0x30, &[oid, critical, der(0x04, content)].concat()));
        }
        let mut entries = Vec::new();
        for serial in &params.serials {
            let bytes = serial_bytes(serial).ok_or_else(|| unreadable(format!("`{serial}` is no serial number")))?;
            entries.extend(der(0x30, &[integer(&bytes), time(params.this_update)?].concat()));
        }
        let mut parts = vec![der(0x02, &[1]), algorithm.to_vec(), own.subject().as_raw().to_vec()];
        parts.push(time(params.this_update)?);
        parts.extend(params.next_update.map(time).transpose()?);
        // Absent where there is none (RFC 5280, 5.1.2.6).
        parts.extend((!entries.is_empty()).then(|| der(0x30, &entries)));
        parts.extend((!extensions.is_empty()).then(|| der(0xa0, &der(0x30, &extensions))));
        Ok(der(0x30, &parts.concat()))
    }
}

fn serial_bytes(hex: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = hex.chars().map(|digit| digit.to_digit(16)?.try_into().ok()).collect::<Option<_>>()?;
    Some(digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect())
}

/// A number that is not negative.
fn integer(bytes: &[u8]) -> Vec<u8> {
    let significant: Vec<u8> = bytes.iter().copied().skip_while(|byte| *byte == 0).collect();
    match significant.first() {
        Some(first) if *first < 0x80 => der(0x02, &significant),
        _ => der(0x02, &[vec![0], significant].concat()),
    }
}

/// Time: two digits for the year until 2049 (RFC 5280, 5.1.2.4).
fn time(at: SystemTime) -> Result<Vec<u8>, DevCaError> {
    let at: OffsetDateTime = date(at)?;
    let (date, clock) = (at.date(), at.time());
    let rest = format!(
        "{:02}{:02}{:02}{:02}{:02}Z",
        u8::from(date.month()),
        date.day(),
        clock.hour(),
        clock.minute(),
        clock.second()
    );
    Ok(match date.year() {
        year @ 1950..=2049 => der(0x17, format!("{:02}{rest}", year % 100).as_bytes()),
        year => der(0x18, format!("{year:04}{rest}").as_bytes()),
    })
}
