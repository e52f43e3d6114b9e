//! The rules of the X.509-SVID standard, one row each.
//!
//! # Source
//! X.509-SVID (<https://github.com/spiffe/spiffe/blob/main/standards/X509-SVID.md>), SPIFFE-ID, RFC 5280.
//! Section 5.2 names what a verifier has to check of a leaf; the standard's other MUSTs (3.1, 4.3, 4.4) are demands on
//! certificates, and a certificate that breaks one is no X.509-SVID, so the verifier refuses it as well.

use x509_parser::x509::X509Version;

use super::SvidError;
use super::certificate::{Certificate, printable};
use super::strength;

/// A rule's outcome for one certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleVerdict {
    /// The rule's stable name.
    pub rule: &'static str,
    /// The standard and section it comes from.
    pub section: &'static str,
    /// What it asks for.
    pub requirement: &'static str,
    /// Whether the certificate does as asked.
    pub outcome: RuleOutcome,
}

/// Whether a rule holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuleOutcome {
    /// It does.
    Holds,
    /// It does not, for this reason.
    Broken(String),
    /// Another rule's failure leaves nothing to judge.
    NotJudged,
}

/// One row: what is asked, where it stands, how it is checked.
#[derive(Debug)]
pub(in crate::identity) struct Rule {
    name: &'static str,
    section: &'static str,
    requirement: &'static str,
    /// `None`: an earlier rule's failure leaves nothing to judge.
    check: fn(&Certificate<'_>) -> Option<Result<(), SvidError>>,
    /// A certificate that breaks it is refused, not only reported.
    binding: bool,
}

/// Judges a certificate, as a signing certificate if it has the CA flag, else as a leaf: every rule with its outcome.
#[must_use]
pub fn judge(der: &[u8]) -> Vec<RuleVerdict> {
    let certificate = match Certificate::parse(der) {
        Ok(certificate) => certificate,
        Err(error) => {
            let mut verdicts: Vec<_> = LEAF.iter().map(|rule| rule.verdict(RuleOutcome::NotJudged)).collect();
            if let Some(first) = verdicts.first_mut() {
                first.outcome = RuleOutcome::Broken(error.to_string());
            }
            return verdicts;
        }
    };
    let rules = if certificate.is_ca { SIGNING } else { LEAF };
    let outcome = |rule: &Rule| match (rule.check)(&certificate) {
        Some(Ok(())) => RuleOutcome::Holds,
        Some(Err(error)) => RuleOutcome::Broken(error.to_string()),
        None => RuleOutcome::NotJudged,
    };
    rules.iter().map(|rule| rule.verdict(outcome(rule))).collect()
}

/// The first rule for leaves that `certificate` breaks.
pub(in crate::identity) fn check_leaf(certificate: &Certificate<'_>) -> Result<(), SvidError> {
    check(LEAF, certificate)
}

/// The first rule for signing certificates that `certificate` breaks.
pub(in crate::identity) fn check_signing(certificate: &Certificate<'_>) -> Result<(), SvidError> {
    check(SIGNING, certificate)
}

/// Whether `certificate` has only critical extensions that are known here. Of an issuer in between path building asks
/// it too, of an authority nobody: what it may do is said by whoever put it into the bundle.
pub(in crate::identity) fn check_critical_extensions(certificate: &Certificate<'_>) -> Result<(), SvidError> {
    critical_extension(certificate).unwrap_or(Ok(()))
}

/// Where the rule called `name` stands.
pub(in crate::identity) fn section(name: &str) -> &'static str {
    LEAF.iter().chain(SIGNING).find(|rule| rule.name == name).map_or("", |rule| rule.section)
}

fn check(rules: &[Rule], certificate: &Certificate<'_>) -> Result<(), SvidError> {
    // INVARIANT: a rule that cannot be judged stands below the rule whose failure is the reason, so skipping it is safe.
    rules.iter().filter(|rule| rule.binding).filter_map(|rule| (rule.check)(certificate)).collect()
}

impl Rule {
    fn verdict(&self, outcome: RuleOutcome) -> RuleVerdict {
        RuleVerdict { rule: self.name, section: self.section, requirement: self.requirement, outcome }
    }
}

const fn rule(
    name: &'static str,
    section: &'static str,
    requirement: &'static str,
    check: fn(&Certificate<'_>) -> Option<Result<(), SvidError>>,
) -> Rule {
    Rule { name, section, requirement, check, binding: true }
}

/// Rules for the certificate that authenticates.
const LEAF: &[Rule] = &[
    rule("encoding", "RFC 5280 4.1", "exactly one DER certificate", |_| Some(Ok(()))),
    rule("version", "RFC 5280 4.1.2.1", "X.509 version 3", version),
    rule("duplicate-extension", "RFC 5280 4.2", "no extension occurs twice", duplicate_extension),
    rule("extension-encoding", "RFC 5280 4.2", "key usages, constraints and names are well-formed", extension_encoding),
    rule("critical-extension", "RFC 5280 4.2", "no critical extension that is not known here", critical_extension),
    rule("validity-order", "RFC 5280 4.1.2.5", "validity does not end before it begins", validity_order),
    rule("ca-flag", "X509-SVID 4.1, 5.2", "a leaf is not a CA", |c| Some(not(c.is_ca, SvidError::CaFlag))),
    rule("key-usage-present", "X509-SVID 4.3", "key usage extension is present", |c| {
        Some(not(c.key_usage.is_none(), SvidError::KeyUsagePresent))
    }),
    rule("key-usage-critical", "X509-SVID 4.3", "key usage extension is critical", |c| {
        c.key_usage.map(|usage| not(!usage.critical, SvidError::KeyUsageCritical))
    }),
    rule("digital-signature", "X509-SVID 4.3", "a leaf has digitalSignature", |c| {
        c.key_usage.map(|usage| not(!usage.digital_signature, SvidError::DigitalSignature))
    }),
    rule("key-cert-sign", "X509-SVID 4.3, 5.2", "a leaf does not have keyCertSign", |c| {
        Some(not(c.key_usage.is_some_and(|usage| usage.key_cert_sign), SvidError::KeyCertSign))
    }),
    rule("crl-sign", "X509-SVID 4.3, 5.2", "a leaf does not have cRLSign", |c| {
        Some(not(c.key_usage.is_some_and(|usage| usage.crl_sign), SvidError::CrlSign))
    }),
    rule("extended-key-usage", "X509-SVID 4.4", "extended key usage, if present, has serverAuth and clientAuth", |c| {
        let missing = c.extended_key_usage.and_then(|purposes| match (purposes.server_auth, purposes.client_auth) {
            (false, _) => Some("serverAuth"),
            (_, false) => Some("clientAuth"),
            _ => None,
        });
        Some(missing.map_or(Ok(()), |missing| Err(SvidError::ExtendedKeyUsage { missing })))
    }),
    rule("uri-san-count", "X509-SVID 2, 5.2", "exactly one URI SAN", |c| {
        Some(not(c.uris.len() != 1, SvidError::UriSanCount { count: c.uris.len() }))
    }),
    rule("uri-san-encoding", "RFC 5280 4.2.1.6", "the URI is printable ASCII", |c| id(c, "uri-san-encoding")),
    rule("spiffe-id-length", "SPIFFE-ID 2.3", "at most 2048 bytes", |c| id(c, "spiffe-id-length")),
    rule("spiffe-id-scheme", "SPIFFE-ID 2, X509-SVID 5.2", "scheme is `spiffe`", |c| id(c, "spiffe-id-scheme")),
    rule("spiffe-id-trust-domain", "SPIFFE-ID 2.1", "trust domain is 1 to 255 of a-z 0-9 . - _", |c| {
        id(c, "spiffe-id-trust-domain")
    }),
    rule(
        "spiffe-id-path",
        "SPIFFE-ID 2.2",
        "path segments are a-z A-Z 0-9 . - _ and neither empty, `.` nor `..`",
        |c| id(c, "spiffe-id-path"),
    ),
    rule("spiffe-id-has-path", "X509-SVID 3.1", "a leaf's SPIFFE ID has a path", |c| match c.id.as_ref()? {
        Ok(id) => Some(not(!id.is_workload(), SvidError::NoPath { id: id.to_string() })),
        Err(_) => None,
    }),
    rule("san-critical", "X509-SVID 3.1", "SAN is critical if the subject is empty", |c| {
        let subject_is_empty = c.x509.subject().iter_rdn().next().is_none();
        Some(not(subject_is_empty && !c.san_critical, SvidError::SanCritical))
    }),
    rule("key-strength", "RFC 9325 4.5", "a public key that is strong enough", |c| Some(strength::key(c))),
    rule("signature-algorithm", SIGNATURE_SECTION, SIGNATURE_REQUIREMENT, |c| Some(strength::signature(c))),
];

/// Rules for the certificates that issue.
const SIGNING: &[Rule] = &[
    rule("encoding", "RFC 5280 4.1", "exactly one DER certificate", |_| Some(Ok(()))),
    rule("version", "RFC 5280 4.1.2.1", "X.509 version 3", version),
    rule("duplicate-extension", "RFC 5280 4.2", "no extension occurs twice", duplicate_extension),
    rule("extension-encoding", "RFC 5280 4.2", "key usages, constraints and names are well-formed", extension_encoding),
    Rule {
        binding: false,
        ..rule("critical-extension", "RFC 5280 4.2", "no critical extension that is not known here", critical_extension)
    },
    rule("validity-order", "RFC 5280 4.1.2.5", "validity does not end before it begins", validity_order),
    rule("signing-ca-flag", "X509-SVID 4.1", "a signing certificate is a CA", |c| {
        Some(not(!c.is_ca, SvidError::SigningCaFlag))
    }),
    rule("key-usage-present", "X509-SVID 4.3", "key usage extension is present", |c| {
        Some(not(c.key_usage.is_none(), SvidError::KeyUsagePresent))
    }),
    Rule {
        // Corporate roots often lack the mark, and nothing here passes over a key usage that is not critical.
        binding: false,
        ..rule("key-usage-critical", "X509-SVID 4.3", "key usage extension is critical", |c| {
            c.key_usage.map(|usage| not(!usage.critical, SvidError::KeyUsageCritical))
        })
    },
    rule("signing-key-cert-sign", "X509-SVID 3.2, 4.3", "a signing certificate has keyCertSign", |c| {
        c.key_usage.map(|usage| not(!usage.key_cert_sign, SvidError::SigningKeyCertSign))
    }),
    rule("signing-spiffe-id", "X509-SVID 2, 3.2", "a SPIFFE ID, if present, has no path", |c| {
        let (Some(uri), id) = (c.uris.first(), c.id.as_ref()) else { return Some(Ok(())) };
        let names_trust_domain = matches!(id, Some(Ok(id)) if !id.is_workload());
        Some(not(!names_trust_domain, SvidError::SigningSpiffeId { uri: printable(uri) }))
    }),
    rule("key-strength", "RFC 9325 4.5", "a public key that is strong enough", |c| Some(strength::key(c))),
    rule("signature-algorithm", SIGNATURE_SECTION, SIGNATURE_REQUIREMENT, |c| Some(strength::signature(c))),
];

const SIGNATURE_SECTION: &str = "RFC 5280 4.1.1.2, RFC 9325 4.5";
const SIGNATURE_REQUIREMENT: &str =
    "signed with ECDSA, RSA or RSA-PSS over SHA-256, SHA-384 or SHA-512, or with Ed25519";

fn not(broken: bool, error: SvidError) -> Result<(), SvidError> {
    if broken { Err(error) } else { Ok(()) }
}

/// The rules that reading the ID judges, in the order in which reading it comes upon them.
const ID_RULES: [&str; 5] =
    ["uri-san-encoding", "spiffe-id-length", "spiffe-id-scheme", "spiffe-id-trust-domain", "spiffe-id-path"];

fn id(certificate: &Certificate<'_>, name: &str) -> Option<Result<(), SvidError>> {
    let error = match certificate.id.as_ref()? {
        Ok(_) => return Some(Ok(())),
        Err(error) => error,
    };
    let position = |name: &str| ID_RULES.iter().position(|rule| *rule == name);
    match position(name).cmp(&position(error.rule())) {
        std::cmp::Ordering::Less => Some(Ok(())),
        std::cmp::Ordering::Equal => Some(Err(error.clone())),
        std::cmp::Ordering::Greater => None,
    }
}

fn version(certificate: &Certificate<'_>) -> Option<Result<(), SvidError>> {
    let X509Version(version) = certificate.x509.version();
    Some(not(version != 2, SvidError::Version { version: u64::from(version) + 1 }))
}

fn duplicate_extension(certificate: &Certificate<'_>) -> Option<Result<(), SvidError>> {
    let extensions = certificate.x509.extensions();
    let again = extensions
        .iter()
        .enumerate()
        .find(|(index, extension)| extensions.iter().take(*index).any(|earlier| earlier.oid == extension.oid));
    let error = again.map(|(_, extension)| SvidError::DuplicateExtension { oid: extension.oid.to_id_string() });
    Some(error.map_or(Ok(()), Err))
}

fn extension_encoding(certificate: &Certificate<'_>) -> Option<Result<(), SvidError>> {
    let malformed = certificate.malformed_extension.clone();
    Some(malformed.map_or(Ok(()), |oid| Err(SvidError::ExtensionEncoding { oid })))
}

fn critical_extension(certificate: &Certificate<'_>) -> Option<Result<(), SvidError>> {
    /// Key usage, SAN, basic constraints, name constraints, CRL distribution points, extended key usage: what path
    /// validation processes.
    const KNOWN: [&str; 6] = ["2.5.29.15", "2.5.29.17", "2.5.29.19", "2.5.29.30", "2.5.29.31", "2.5.29.37"];
    let unknown = certificate
        .x509
        .extensions()
        .iter()
        .filter(|extension| extension.critical)
        .map(|extension| extension.oid.to_id_string())
        .find(|oid| !KNOWN.contains(&oid.as_str()));
    Some(unknown.map_or(Ok(()), |oid| Err(SvidError::CriticalExtension { oid })))
}

fn validity_order(certificate: &Certificate<'_>) -> Option<Result<(), SvidError>> {
    let validity = certificate.x509.validity();
    Some(not(validity.not_before > validity.not_after, SvidError::ValidityOrder))
}
