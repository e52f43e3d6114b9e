//! The emergency lists: certificates and workloads that are refused at once, without waiting for a revocation list.

use std::collections::BTreeSet;
use std::fmt;

use thiserror::Error;

use crate::identity::{SpiffeIdError, SpiffeIdPattern, TrustDomain};

/// The longest serial number in bytes (RFC 5280, 4.1.2.2).
const MAX_SERIAL_BYTES: usize = 20;

/// Whom nobody may be, whatever the bundles say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Denied {
    /// Single certificates.
    pub serials: BTreeSet<DeniedSerial>,
    /// Workloads.
    pub ids: Vec<SpiffeIdPattern>,
}

/// A certificate by its serial number, which is unique in its trust domain only.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeniedSerial {
    /// Whose certificate it is.
    pub trust_domain: TrustDomain,
    /// In lower hex, two digits a byte, without leading zero bytes: as [`X509Svid::serial`](crate::identity::X509Svid::serial)
    /// has it.
    pub serial: String,
}

/// Why a text names no certificate.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DeniedSerialError {
    /// Nothing before a slash.
    #[error("it has no `/` between the trust domain and the serial number")]
    NoSlash,
    /// What stands before the slash.
    #[error(transparent)]
    TrustDomain(#[from] SpiffeIdError),
    /// What stands after the slash.
    #[error("its serial number is not 1 to 20 bytes in hex")]
    Serial,
}

impl DeniedSerial {
    /// Reads `TRUST-DOMAIN/SERIAL`, the serial number in hex as OpenSSL, records and `certs show` write it: upper or lower case, with or
    /// without colons and leading zeros.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, DeniedSerialError> {
        let (trust_domain, written) = text.split_once('/').ok_or(DeniedSerialError::NoSlash)?;
        let trust_domain = TrustDomain::parse(trust_domain)?;
        // A colon stands between bytes, and a byte has two digits: `1:2` could be 12 or 0102.
        let is_spelt_in_bytes = !written.contains(':') || written.split(':').all(|byte| byte.len() == 2);
        let digits: String = written.chars().filter(|c| *c != ':').map(|c| c.to_ascii_lowercase()).collect();
        if !is_spelt_in_bytes || digits.is_empty() || !digits.chars().all(|c| c.is_ascii_hexdigit()) {
            return Err(DeniedSerialError::Serial);
        }
        let significant = digits.trim_start_matches('0');
        let serial = match significant.len() {
            0 => "00".to_owned(),
            length if length % 2 == 0 => significant.to_owned(),
            _ => format!("0{significant}"),
        };
        match serial.len() <= 2 * MAX_SERIAL_BYTES {
            true => Ok(Self { trust_domain, serial }),
            false => Err(DeniedSerialError::Serial),
        }
    }
}

impl fmt::Display for DeniedSerial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.trust_domain, self.serial)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_is_read_in_every_spelling_that_tools_write() {
        for (written, read) in [
            ("td/0a1b", "td/0a1b"),
            ("td/A1B", "td/0a1b"),
            ("td/0A:1B", "td/0a1b"),
            ("td/00:0a:1b", "td/0a1b"),
            ("td/0", "td/00"),
            ("td/000000", "td/00"),
        ] {
            assert_eq!(DeniedSerial::parse(written).unwrap().to_string(), read, "{written}");
        }
        let longest = format!("td/{}", "ff".repeat(MAX_SERIAL_BYTES));
        assert_eq!(DeniedSerial::parse(&longest).unwrap().to_string(), longest);
    }

    #[test]
    fn what_is_no_serial_is_refused_with_its_reason() {
        let upper = SpiffeIdError::TrustDomainCharacter { character: 'T' };
        for (text, error) in [
            ("0a1b", DeniedSerialError::NoSlash),
            ("td/", DeniedSerialError::Serial),
            ("td/:", DeniedSerialError::Serial),
            ("td/1:2", DeniedSerialError::Serial),
            ("td/0a1b:", DeniedSerialError::Serial),
            ("td/0x1b", DeniedSerialError::Serial),
            ("td/-1", DeniedSerialError::Serial),
            ("TD/1b", DeniedSerialError::TrustDomain(upper)),
            (&format!("td/{}", "ff".repeat(MAX_SERIAL_BYTES + 1)), DeniedSerialError::Serial),
        ] {
            assert_eq!(DeniedSerial::parse(text), Err(error), "{text}");
        }
    }
}
