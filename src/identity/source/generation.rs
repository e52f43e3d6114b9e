//! Where our own SVID and the trust bundles come from.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SigningKey};
use thiserror::Error;
use tokio::sync::watch;

use crate::identity::{ChainError, ChainUsage, SvidError, TrustBundleSet, X509Svid};

/// Something that hands out our identity and may change it at any time.
pub trait X509Source: Send + Sync + fmt::Debug {
    /// The generation in force; `None` while there is none: there has never been one, or it was withdrawn.
    fn current(&self) -> Option<Arc<X509Generation>>;

    /// Tells the number of the last change: that of the generation in force, if there is one. 0 before the first.
    fn changed(&self) -> watch::Receiver<u64>;
}

/// Chain, key and bundles that were loaded, checked and put in force together.
#[derive(Debug)]
pub struct X509Generation {
    /// Counts from 1 in each source.
    pub number: u64,
    /// The first generation that had the same SVID.
    pub own_since: u64,
    /// The first generation that trusted the same: what was verified since then needs no second look.
    pub trust_since: u64,
    /// Our own SVID.
    pub svid: X509Svid,
    /// Our own chain, the SVID first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The SVID's key.
    pub key: PrivateKeyDer<'static>,
    /// Whom we trust.
    pub bundles: TrustBundleSet,
    /// Why peers that judge as we do refuse us: our own certificate has been revoked, or is denied. We serve on, since only they can tell
    /// whether that is meant.
    pub taken_back: Option<ChainError>,
    /// Which bundles that were brought do not count, and why.
    pub ignored: Vec<String>,
    signing_key: Arc<dyn SigningKey>,
}

/// Why chain, key and bundles do not make a generation.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum GenerationError {
    /// No certificate at all.
    #[error("there is no certificate")]
    NoCertificate,
    /// The certificate is no X.509-SVID.
    #[error("certificate is not an X.509-SVID ({}): {source}", source.section())]
    Svid {
        /// The rule.
        source: SvidError,
    },
    /// A key that cannot sign.
    #[error("private key is not of a kind that can be used: {0}")]
    Key(String),
    /// The key is another certificate's.
    #[error("private key does not belong to the certificate of `{id}`")]
    KeyMismatch {
        /// Whose certificate it is.
        id: String,
    },
    /// Our own peers would refuse the chain.
    #[error("certificate of `{id}` does not stand up to our own trust bundles: {source}")]
    Chain {
        /// Whose certificate it is.
        id: String,
        /// The rule.
        source: ChainError,
    },
}

impl GenerationError {
    /// The rule's stable name, as metrics have it.
    #[must_use]
    pub const fn rule(&self) -> &'static str {
        match self {
            Self::NoCertificate => "no-certificate",
            Self::Svid { source } => source.rule(),
            Self::Key(_) => "private-key",
            Self::KeyMismatch { .. } => "key-mismatch",
            Self::Chain { source, .. } => source.rule(),
        }
    }
}

impl X509Generation {
    /// A generation of these parts, after checking that they belong together: the leaf is an X.509-SVID, the key is its
    /// key, and the chain stands up to the bundle of its own trust domain `now`, as client and as server.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn new(
        number: u64,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        bundles: TrustBundleSet,
        now: SystemTime,
    ) -> Result<Self, GenerationError> {
        let kept = Self::keeping_own(number, chain, key, bundles, now)?;
        for usage in [ChainUsage::Client, ChainUsage::Server] {
            kept.bundles
                .verify_issuers(&kept.svid, &kept.chain, usage, now)
                .map_err(|source| GenerationError::Chain { id: kept.svid.id().to_string(), source })?;
        }
        Ok(kept)
    }

    /// The same, but the chain need not stand up: our own SVID is one that nobody gives us any more, so that only whom we trust can change.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn keeping_own(
        number: u64,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        bundles: TrustBundleSet,
        now: SystemTime,
    ) -> Result<Self, GenerationError> {
        let leaf = chain.first().ok_or(GenerationError::NoCertificate)?;
        let svid = X509Svid::parse(leaf).map_err(|source| GenerationError::Svid { source })?;
        let signing_key = any_supported_type(&key).map_err(|error| GenerationError::Key(error.to_string()))?;
        CertifiedKey::new(chain.clone(), Arc::clone(&signing_key))
            .keys_match()
            .map_err(|_| GenerationError::KeyMismatch { id: svid.id().to_string() })?;
        let taken_back = bundles.verify(&svid, &chain, ChainUsage::Client, now).err();
        let (own_since, trust_since) = (number, number);
        let ignored = Vec::new();
        Ok(Self { number, own_since, trust_since, svid, chain, key, bundles, taken_back, ignored, signing_key })
    }

    /// The same, to which more was brought than counts.
    #[must_use]
    pub fn with_ignored(self, ignored: Vec<String>) -> Self {
        Self { ignored, ..self }
    }

    /// The same as the one that follows `before`.
    #[must_use]
    pub fn following(mut self, before: Option<&Self>) -> Self {
        let Some(before) = before else { return self };
        if self.chain == before.chain {
            self.own_since = before.own_since;
        }
        if self.bundles == before.bundles {
            self.trust_since = before.trust_since;
        }
        self
    }

    /// Chain and key as rustls presents them.
    #[must_use]
    pub fn certified_key(&self) -> CertifiedKey {
        CertifiedKey::new(self.chain.clone(), Arc::clone(&self.signing_key))
    }

    /// What is wrong with the trust in force, though it is in force: revocation lists and bundles that do not count, our own certificate on a list.
    #[must_use]
    pub fn trust_faults(&self) -> Vec<String> {
        let taken_back =
            self.taken_back.iter().map(|error| format!("our own certificate is refused by peers like us: {error}"));
        let of_crls = self.bundles.iter().flat_map(|bundle| {
            bundle.crl_faults().iter().map(|fault| format!("trust domain `{}`: {fault}", bundle.trust_domain()))
        });
        taken_back.chain(of_crls).chain(self.ignored.iter().cloned()).collect()
    }

    /// Whether our own SVID's time is over.
    #[must_use]
    pub fn expired(&self, now: SystemTime) -> bool {
        now > self.svid.not_after()
    }
}
