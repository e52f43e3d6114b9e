//! The authority itself.

use std::time::{Duration, SystemTime};

use rcgen::{Issuer, KeyPair, PublicKeyData};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use thiserror::Error;

use super::SvidParams;
use crate::identity::{CertificateDescription, SpiffeId, SvidError, TrustDomain};

/// A certificate authority whose key is in memory.
#[derive(Debug)]
pub struct DevCa {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    /// The certificates between this authority and the root, this one first; empty for a root.
    intermediates: Vec<CertificateDer<'static>>,
}

/// A certificate with its key.
#[derive(Debug)]
pub struct Minted {
    /// The leaf, then the issuers up to the root, the root left out.
    pub chain: Vec<CertificateDer<'static>>,
    /// The same in PEM.
    pub chain_pem: String,
    /// The leaf's key in PEM, PKCS#8.
    pub key_pem: String,
}

/// Why nothing was minted.
#[derive(Debug, Error)]
pub enum DevCaError {
    /// A key could not be made or read, or a certificate not be signed.
    #[error("cannot mint a certificate: {0}")]
    Mint(#[from] rcgen::Error),
    /// A time that a certificate cannot hold.
    #[error("a certificate's validity ends in the year 9999 at the latest")]
    Time,
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    Random,
    /// Not a CA certificate in PEM.
    #[error("the authority's certificate is not PEM: {0}")]
    Pem(String),
    /// Not a certificate.
    #[error("the authority's certificate cannot be read: {0}")]
    Certificate(#[from] SvidError),
    /// The authority's own time is over.
    #[error("the authority's own certificate has expired: make a new one")]
    Expired,
}

impl DevCa {
    /// A new root for `trust_domain`.
    ///
    /// # Errors
    /// No key could be made.
    pub fn new(trust_domain: &TrustDomain, lifetime: Duration) -> Result<Self, DevCaError> {
        Self::with_params(&SvidParams::signing(trust_domain, lifetime, SystemTime::now()))
    }

    /// A new root of any kind.
    ///
    /// # Errors
    /// No key could be made, or the parameters fit no certificate.
    pub fn with_params(params: &SvidParams) -> Result<Self, DevCaError> {
        let key = KeyPair::generate_for(params.key)?;
        let params = params.certificate_params()?;
        let certificate = params.self_signed(&key)?.into();
        Ok(Self { issuer: Issuer::new(params, key), certificate, intermediates: Vec::new() })
    }

    /// A root from its files.
    ///
    /// # Errors
    /// They hold no CA certificate and key.
    pub fn from_pem(certificate_pem: &str, key_pem: &str) -> Result<Self, DevCaError> {
        let certificate = CertificateDer::from_pem_slice(certificate_pem.as_bytes())
            .map_err(|error| DevCaError::Pem(error.to_string()))?;
        let issuer = Issuer::from_ca_cert_der(&certificate, KeyPair::from_pem(key_pem)?)?;
        Ok(Self { issuer, certificate, intermediates: Vec::new() })
    }

    /// An authority below this one.
    ///
    /// # Errors
    /// No key could be made, or the parameters fit no certificate.
    pub fn intermediate(&self, params: &SvidParams) -> Result<Self, DevCaError> {
        let key = KeyPair::generate_for(params.key)?;
        let certificate = self.sign(params, &key)?;
        let intermediates = std::iter::once(&certificate).chain(&self.intermediates).cloned().collect();
        Ok(Self { issuer: Issuer::new(params.certificate_params()?, key), certificate, intermediates })
    }

    /// An X.509-SVID for `id`, valid from now on for `lifetime`, but not beyond the authority itself.
    ///
    /// # Errors
    /// The authority has expired, or no key could be made.
    pub fn issue(&self, id: &SpiffeId, lifetime: Duration) -> Result<Minted, DevCaError> {
        self.issue_with(&self.params_for(id, lifetime)?)
    }

    /// What [`Self::issue`] would put into the certificate.
    ///
    /// # Errors
    /// The authority has expired.
    pub fn params_for(&self, id: &SpiffeId, lifetime: Duration) -> Result<SvidParams, DevCaError> {
        let now = SystemTime::now();
        let left = self.not_after()?.duration_since(now).map_err(|_| DevCaError::Expired)?;
        Ok(SvidParams::leaf(id, lifetime.min(left), now))
    }

    /// The last moment of the authority's validity.
    ///
    /// # Errors
    /// Never in practice: its certificate has been read before.
    pub fn not_after(&self) -> Result<SystemTime, DevCaError> {
        Ok(CertificateDescription::parse(&self.certificate)?.not_after)
    }

    /// A certificate of any kind.
    ///
    /// # Errors
    /// No key could be made, or the parameters fit no certificate.
    pub fn issue_with(&self, params: &SvidParams) -> Result<Minted, DevCaError> {
        let key = KeyPair::generate_for(params.key)?;
        let leaf = self.sign(params, &key)?;
        let chain: Vec<_> = std::iter::once(leaf).chain(self.intermediates.iter().cloned()).collect();
        let chain_pem = chain.iter().map(pem).collect();
        Ok(Minted { chain, chain_pem, key_pem: key.serialize_pem() })
    }

    /// A certificate for a key that need not be at hand: kinds of keys that rcgen cannot make.
    ///
    /// # Errors
    /// The parameters fit no certificate.
    pub fn sign(&self, params: &SvidParams, key: &impl PublicKeyData) -> Result<CertificateDer<'static>, DevCaError> {
        Ok(params.certificate_params()?.signed_by(key, &self.issuer)?.into())
    }

    /// The authority's key.
    pub(super) fn key(&self) -> &KeyPair {
        self.issuer.key()
    }

    /// The authority's own certificate.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The same in PEM: the trust bundle, if this is a root.
    #[must_use]
    pub fn certificate_pem(&self) -> String {
        pem(&self.certificate)
    }

    /// The authority's key in PEM, PKCS#8.
    #[must_use]
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }
}

impl Minted {
    /// The leaf's key.
    ///
    /// # Errors
    /// Never in practice: it was made here.
    pub fn key(&self) -> Result<PrivateKeyDer<'static>, DevCaError> {
        let key = PrivatePkcs8KeyDer::from_pem_slice(self.key_pem.as_bytes());
        Ok(key.map_err(|error| DevCaError::Pem(error.to_string()))?.into())
    }
}

fn pem(certificate: &CertificateDer<'_>) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(certificate);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}
