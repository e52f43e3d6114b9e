//! The checked settings.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use http::Uri;

use crate::config::UpstreamCa;
use crate::identity::workload_api::WorkloadApiAddress;
use crate::identity::{Denied, OnExpiredCrl, SpiffeId, SvidChoice, TrustDomain};

/// `identity`.
#[derive(Debug, Clone)]
pub struct IdentityConfig {
    /// Where our own SVID comes from.
    pub source: IdentitySourceConfig,
    /// For each trust domain a file with its bundle, or a directory of such files. With the Workload API: further
    /// trust domains than those that it brings.
    pub trust_bundles: BTreeMap<TrustDomain, PathBuf>,
    /// Trust domains whose bundles are fetched. None of them is in `trust_bundles`.
    pub federation: BTreeMap<TrustDomain, FederationConfig>,
    /// Revocation lists.
    pub crl: CrlConfig,
    /// Who is refused whatever the bundles say.
    pub denied: Denied,
    /// A file with more of them, watched.
    pub deny_file: Option<PathBuf>,
}

/// `identity.source`, with what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdentitySourceConfig {
    /// Files.
    Files {
        /// The chain, leaf first, PEM.
        certificate: PathBuf,
        /// The leaf's key, PEM.
        private_key: PathBuf,
        /// Whose certificate it must be.
        spiffe_id: Option<SpiffeId>,
    },
    /// The SPIFFE Workload API.
    WorkloadApi {
        /// Where the agent listens.
        address: WorkloadApiAddress,
        /// Which of several SVIDs is ours.
        choice: SvidChoice,
    },
}

impl IdentitySourceConfig {
    /// As the file writes it.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Files { .. } => "files",
            Self::WorkloadApi { .. } => "workload_api",
        }
    }
}

/// One entry of `identity.federation`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FederationConfig {
    /// Where the bundle is: `https`, with a host, without userinfo.
    pub endpoint_url: Uri,
    /// How the endpoint proves itself.
    pub profile: FederationProfile,
    /// How often it is fetched; none: as often as the bundle asks for.
    pub refresh_interval: Option<Duration>,
}

/// How a bundle endpoint proves itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FederationProfile {
    /// By a certificate for its host name (SPIFFE Federation, 5.2.1).
    HttpsWeb {
        /// Who vouches for it.
        ca: UpstreamCa,
    },
    /// By an X.509-SVID (SPIFFE Federation, 5.2.2).
    HttpsSpiffe {
        /// Who it must be.
        endpoint_spiffe_id: SpiffeId,
        /// The first bundle by which it is verified, if it is in the very trust domain whose bundle it serves.
        bootstrap_bundle: Option<PathBuf>,
    },
}

/// `identity.crl`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CrlConfig {
    /// For each trust domain a file with its revocation lists, or a directory of such files.
    pub files: BTreeMap<TrustDomain, PathBuf>,
    /// What becomes of certificates whose issuer's list has expired.
    pub on_expired: OnExpiredCrl,
}
