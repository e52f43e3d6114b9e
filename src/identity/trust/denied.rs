//! The emergency lists: certificates and workloads that are refused at once, without waiting for a revocation list.

use std::collections::BTreeSet;
use std::fmt;

use thiserror::Error;
use webpki::VerifiedPath;

use super::ChainError;
use super::authority::AuthorityLimits;
use crate::identity::svid::text;
use crate::identity::{PatternError, SpiffeId, SpiffeIdError, SpiffeIdPattern, TrustDomain};

/// The longest serial number in bytes (RFC 5280, 4.1.2.2).
const MAX_SERIAL_BYTES: usize = 20;

/// The longest file of denied certificates and workloads in bytes: some ten thousand lines.
const MAX_FILE_BYTES: usize = 1024 * 1024;

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

/// Why a file is no emergency list. One line that is not understood is reason enough: it was meant to keep somebody out.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the fields are what the message shows")]
pub enum DeniedFileError {
    /// Longer than any list.
    #[error("has {bytes} bytes, at most {MAX_FILE_BYTES} are accepted")]
    TooLong { bytes: usize },
    /// Not a text.
    #[error("is not UTF-8")]
    NotText,
    /// A line that names a certificate, but not well.
    #[error("line {line}: `{text}` names no certificate: {source}")]
    Serial { line: usize, text: String, source: DeniedSerialError },
    /// A line that names workloads, but not well.
    #[error("line {line}: `{text}` names no workload: {source}")]
    Pattern { line: usize, text: String, source: PatternError },
}

impl Denied {
    /// Reads a file with one entry a line: `TRUST-DOMAIN/SERIAL`, or a SPIFFE ID or `spiffe://TRUST-DOMAIN/PATH/*`. Lines that are empty or begin
    /// with `#` are not read.
    ///
    /// # Errors
    /// The first line that is neither.
    pub fn parse(document: &[u8]) -> Result<Self, DeniedFileError> {
        if document.len() > MAX_FILE_BYTES {
            return Err(DeniedFileError::TooLong { bytes: document.len() });
        }
        let text = std::str::from_utf8(document).map_err(|_| DeniedFileError::NotText)?;
        let mut denied = Self::default();
        for (index, line) in text.lines().enumerate() {
            let entry = line.trim();
            let (line, shown) = (index + 1, || entry.escape_debug().to_string());
            if entry.is_empty() || entry.starts_with('#') {
                continue;
            }
            if entry.starts_with("spiffe:") {
                let pattern = SpiffeIdPattern::parse(entry).map_err(|source| DeniedFileError::Pattern {
                    line,
                    text: shown(),
                    source,
                })?;
                denied.ids.push(pattern);
            } else {
                let serial = DeniedSerial::parse(entry).map_err(|source| DeniedFileError::Serial {
                    line,
                    text: shown(),
                    source,
                })?;
                denied.serials.insert(serial);
            }
        }
        Ok(denied)
    }

    /// Whether nothing is denied.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.serials.is_empty() && self.ids.is_empty()
    }

    /// What either of two lists denies.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.serials.extend(other.serials);
        let more: Vec<_> = other.ids.into_iter().filter(|id| !self.ids.contains(id)).collect();
        self.ids.extend(more);
        self
    }

    /// Judges every certificate of a path by its serial number, and the leaf by its ID. `authorities` are the certificates that brought
    /// the path's anchor.
    pub(super) fn check<'a>(
        &self,
        id: &SpiffeId,
        path: &VerifiedPath<'_>,
        authorities: impl Iterator<Item = &'a AuthorityLimits>,
    ) -> Result<(), ChainError> {
        if self.is_empty() {
            return Ok(());
        }
        let of_issuers = path.intermediate_certificates().map(|issuer| text::serial(issuer.serial()));
        let of_authorities = authorities.map(|authority| authority.serial().to_owned());
        let of_leaf = text::serial(path.end_entity().serial());
        for serial in std::iter::once(of_leaf).chain(of_issuers).chain(of_authorities) {
            let is_denied = |one: &DeniedSerial| one.trust_domain.as_str() == id.trust_domain() && one.serial == serial;
            if self.serials.iter().any(is_denied) {
                return Err(ChainError::DeniedSerial { serial });
            }
        }
        match self.ids.iter().find(|pattern| pattern.matches(id)) {
            Some(pattern) => Err(ChainError::DeniedId { id: id.clone(), pattern: pattern.to_string() }),
            None => Ok(()),
        }
    }
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

    #[test]
    fn a_file_has_one_entry_a_line() {
        let file = "# incident 7\n\n  td/0A:1B\r\nspiffe://td/a\n\tspiffe://td/b/* \ntd/0a1b";
        let denied = Denied::parse(file.as_bytes()).unwrap();
        assert_eq!(denied.serials.iter().map(ToString::to_string).collect::<Vec<_>>(), ["td/0a1b"]);
        assert_eq!(
            denied.ids.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["spiffe://td/a", "spiffe://td/b/*"]
        );
        assert!(Denied::parse(b"").unwrap().is_empty());
    }

    #[test]
    fn one_line_that_is_not_understood_refuses_the_file_by_its_number() {
        for (line, reason) in [
            ("spiffe://td", "names a trust domain"),
            ("spiffe://td/*/x", "last segment"),
            ("spiffe://TD/x", "character `T`"),
            ("spiffe:td/x", "does not begin with"),
            ("td/a", ""),
            ("td/xyz", "in hex"),
            ("0a1b", "no `/`"),
            ("td/0a1b # a comment", "in hex"),
            ("td/0a1b td/0a1c", "in hex"),
            ("- td/0a1b", "character ` `"),
        ] {
            let file = format!("td/01\n{line}\n");
            match Denied::parse(file.as_bytes()) {
                Ok(denied) => assert_eq!((line, denied.serials.len()), ("td/a", 2)),
                Err(error) => {
                    let error = error.to_string();
                    assert!(error.starts_with("line 2: `") && error.contains(reason), "{line}: {error}");
                }
            }
        }
        assert_eq!(Denied::parse(b"td/01\n\xff"), Err(DeniedFileError::NotText));
        assert!(matches!(Denied::parse(&vec![b'\n'; MAX_FILE_BYTES + 1]), Err(DeniedFileError::TooLong { .. })));
    }
}
