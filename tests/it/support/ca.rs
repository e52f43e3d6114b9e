//! Certificates of the tests, minted by rcgen directly: the code under test does not make its own witnesses, and a
//! test can break any rule.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, RevocationReason, RevokedCertParams, SanType, SerialNumber, SigningKey,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use time::{Duration, OffsetDateTime};

/// A CA of one trust domain.
#[derive(Debug)]
pub(crate) struct Ca {
    pub(crate) trust_domain: String,
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    /// What leaves carry beside themselves; empty below a root.
    intermediates: Vec<CertificateDer<'static>>,
}

impl Ca {
    /// A self-signed root. Two of one trust domain have the same name and different keys.
    pub(crate) fn new(trust_domain: &str) -> Self {
        Self::new_with(trust_domain, |_| ())
    }

    /// The same, changed before it is signed.
    pub(crate) fn new_with(trust_domain: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let (mut params, key) = (authority(trust_domain, "root"), key());
        change(&mut params);
        let certificate = params.self_signed(&key).expect("the parameters are complete");
        let certificate = certificate.der().clone();
        Self {
            trust_domain: trust_domain.to_owned(),
            issuer: Issuer::new(params, key),
            certificate,
            intermediates: vec![],
        }
    }

    /// A CA below this one; its leaves carry the intermediate certificate.
    pub(crate) fn intermediate(&self, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let (mut params, key) = (authority(&self.trust_domain, "intermediate"), key());
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).expect("the parameters are complete").der().clone();
        let mut intermediates = vec![certificate.clone()];
        intermediates.extend(self.intermediates.iter().cloned());
        Self { trust_domain: self.trust_domain.clone(), issuer: Issuer::new(params, key), certificate, intermediates }
    }

    /// The same name and key with a certificate by another CA.
    pub(crate) fn cross_signed_by(&self, other: &Self) -> CertificateDer<'static> {
        let params = authority(&self.trust_domain, "intermediate");
        let certificate = params.signed_by(self.issuer.key(), &other.issuer).expect("the parameters are complete");
        certificate.der().clone()
    }

    /// A signature over `bytes`, as under the certificates that it issues.
    pub(crate) fn sign_bytes(&self, bytes: &[u8]) -> Vec<u8> {
        self.issuer.key().sign(bytes).expect("the key signs")
    }

    /// The bundle of this trust domain, PEM.
    pub(crate) fn bundle(&self) -> String {
        pem("CERTIFICATE", &self.certificate)
    }

    pub(crate) fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// An SVID of the workload at `path` (`/ns/data/sa/lake`) that keeps every rule.
    pub(crate) fn issue(&self, path: &str) -> Svid {
        self.issue_with(path, |_| ())
    }

    /// The same, changed before it is signed: how a test breaks exactly one rule.
    pub(crate) fn issue_with(&self, path: &str, change: impl FnOnce(&mut CertificateParams)) -> Svid {
        let id = format!("spiffe://{}{path}", self.trust_domain);
        let mut params = leaf(&id);
        change(&mut params);
        self.sign(id, &params)
    }

    /// An SVID whose only URI SAN is `uri`, valid or not.
    pub(crate) fn issue_uri(&self, uri: &str) -> Svid {
        self.sign(uri.to_owned(), &leaf(uri))
    }

    /// An SVID that keeps every rule, with a key of another kind.
    pub(crate) fn issue_keyed(&self, path: &str, algorithm: &'static rcgen::SignatureAlgorithm) -> Svid {
        let id = format!("spiffe://{}{path}", self.trust_domain);
        let params = leaf(&id);
        self.sign_key(id, &params, &KeyPair::generate_for(algorithm).expect("the algorithm is supported"))
    }

    /// An SVID for a public key, SPKI PEM, whose private key nobody here has: another is beside it.
    pub(crate) fn issue_public(&self, path: &str, public_key: &str) -> Svid {
        let id = format!("spiffe://{}{path}", self.trust_domain);
        let public_key = rcgen::SubjectPublicKeyInfo::from_pem(public_key).expect("is an SPKI");
        let certificate = leaf(&id).signed_by(&public_key, &self.issuer).expect("the parameters are complete");
        Svid { chain: vec![certificate.der().clone()], ..self.issue(path) }
    }

    /// A revocation list with this number, PEM, that is good until `next_update`.
    pub(crate) fn crl(&self, number: u64, revoked: &[&Svid], next_update: OffsetDateTime) -> String {
        let made = OffsetDateTime::now_utc().min(next_update) - Duration::hours(1);
        let revoked = revoked.iter().map(|svid| RevokedCertParams {
            serial_number: SerialNumber::from_slice(&svid.serial()),
            revocation_time: made,
            reason_code: Some(RevocationReason::KeyCompromise),
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: made,
            next_update,
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        let crl = params.signed_by(&self.issuer).expect("the parameters are complete");
        pem("X509 CRL", crl.der())
    }

    fn sign(&self, id: String, params: &CertificateParams) -> Svid {
        self.sign_key(id, params, &key())
    }

    fn sign_key(&self, id: String, params: &CertificateParams, key: &KeyPair) -> Svid {
        let certificate = params.signed_by(key, &self.issuer).expect("the parameters are complete").der().clone();
        let mut chain = vec![certificate];
        chain.extend(self.intermediates.iter().cloned());
        Svid { id, chain, key: PrivatePkcs8KeyDer::from(key.serialize_der()).into() }
    }
}

/// A leaf with its chain and key. `id` is what was asked for; the certificate may hold something else.
#[derive(Debug)]
pub(crate) struct Svid {
    pub(crate) id: String,
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
}

impl Svid {
    /// The chain, leaf first, PEM.
    pub(crate) fn chain_pem(&self) -> String {
        self.chain.iter().map(|certificate| pem("CERTIFICATE", certificate)).collect()
    }

    /// The key, PKCS #8 PEM.
    pub(crate) fn key_pem(&self) -> String {
        pem("PRIVATE KEY", self.key.secret_der())
    }

    pub(crate) fn leaf(&self) -> &CertificateDer<'static> {
        self.chain.first().expect("a chain holds its leaf")
    }

    /// The leaf's serial number, big-endian.
    pub(crate) fn serial(&self) -> Vec<u8> {
        let (_, leaf) = x509_parser::parse_x509_certificate(self.leaf()).expect("is a certificate");
        leaf.tbs_certificate.raw_serial().to_vec()
    }

    /// The same in hex, as operators see it.
    pub(crate) fn serial_hex(&self) -> String {
        self.serial().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// SHA-256 of the leaf in lower hex, as audit records have it.
    pub(crate) fn sha256(&self) -> String {
        use std::fmt::Write;
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, self.leaf());
        digest.as_ref().iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }
}

impl Clone for Svid {
    fn clone(&self) -> Self {
        Self { id: self.id.clone(), chain: self.chain.clone(), key: self.key.clone_key() }
    }
}

fn key() -> KeyPair {
    KeyPair::generate().expect("P-256 is supported")
}

fn authority(trust_domain: &str, name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    (params.not_before, params.not_after) = lifetime();
    params.distinguished_name.push(DnType::CommonName, format!("{trust_domain} {name}"));
    params.subject_alt_names = vec![uri(&format!("spiffe://{trust_domain}"))];
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn leaf(id: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    (params.not_before, params.not_after) = lifetime();
    params.distinguished_name.push(DnType::CommonName, "workload");
    params.subject_alt_names = vec![uri(id)];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    params
}

/// A certificate, PEM.
pub(crate) fn certificate_pem(certificate: &CertificateDer<'_>) -> String {
    pem("CERTIFICATE", certificate)
}

/// A URI SAN for [`CertificateParams::subject_alt_names`].
pub(crate) fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().expect("is ASCII"))
}

fn lifetime() -> (OffsetDateTime, OffsetDateTime) {
    let now = OffsetDateTime::now_utc();
    (now - Duration::hours(1), now + Duration::days(1))
}

fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine;
    let body = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = body.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}
