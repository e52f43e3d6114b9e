//! What an identity is put together from, and how each of its sources fares.

use std::collections::BTreeMap;
use std::fmt;
use std::time::SystemTime;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::identity::{Crls, Denied, TrustBundle, TrustDomain, X509Svid};

/// Who brings something.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The files that the configuration names.
    Files,
    /// The SPIFFE Workload API.
    WorkloadApi,
    /// The bundle endpoint of this trust domain.
    Federation(TrustDomain),
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Files => f.write_str("files"),
            Self::WorkloadApi => f.write_str("workload_api"),
            Self::Federation(trust_domain) => write!(f, "federation of `{trust_domain}`"),
        }
    }
}

/// Our own chain, the SVID first, and its key. Not checked yet.
#[derive(Debug)]
pub struct Own {
    /// The chain.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's key. Never shown.
    pub key: PrivateKeyDer<'static>,
}

impl Own {
    /// Whose it is, if that can be read.
    pub(super) fn trust_domain(&self) -> Option<String> {
        let svid = X509Svid::parse(self.chain.first()?).ok()?;
        Some(svid.id().trust_domain().to_owned())
    }
}

impl Clone for Own {
    fn clone(&self) -> Self {
        Self { chain: self.chain.clone(), key: self.key.clone_key() }
    }
}

impl PartialEq for Own {
    fn eq(&self, other: &Self) -> bool {
        self.chain == other.chain && self.key == other.key
    }
}

impl Eq for Own {}

/// All that one part has to say, which replaces whatever it said before.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Brought {
    /// Our own SVID.
    pub own: Option<Own>,
    /// Why it has no SVID of ours though it should: the cause's stable name, and the cause. The one of before stays, and the rest counts.
    pub without_own: Option<(&'static str, String)>,
    /// Whom to trust.
    pub bundles: Vec<TrustBundle>,
    /// Whom not to trust any more, by trust domain. They hold for that trust domain's bundle, whoever brings it.
    pub crls: BTreeMap<TrustDomain, Crls>,
    /// Whom to refuse whatever the bundles say, besides those that the configuration names.
    pub denied: Denied,
}

/// How one part fares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartHealth {
    /// Which one.
    pub part: Part,
    /// When it last said something that could be used, or that nothing has changed.
    pub last_success: Option<SystemTime>,
    /// What went wrong last, though it may be over.
    pub last_error: Option<Fault>,
}

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// When it was seen first, without a success since.
    pub since: SystemTime,
    /// When it was seen last.
    pub at: SystemTime,
    /// The cause's stable name.
    pub rule: &'static str,
    /// The cause.
    pub message: String,
    /// Whether it is still so.
    pub is_standing: bool,
}

impl PartHealth {
    pub(super) const fn new(part: Part) -> Self {
        Self { part, last_success: None, last_error: None }
    }

    /// What is wrong now.
    #[must_use]
    pub fn standing(&self) -> Option<&Fault> {
        self.last_error.as_ref().filter(|fault| fault.is_standing)
    }

    fn succeeded(&mut self, now: SystemTime) {
        self.last_success = Some(now);
        if let Some(fault) = &mut self.last_error {
            fault.is_standing = false;
        }
    }

    /// It said something that counts, though there may be a fault in it.
    pub(super) fn said(&mut self, now: SystemTime, but: Option<(&'static str, String)>) {
        match but {
            None => self.succeeded(now),
            Some((rule, message)) => {
                self.last_success = Some(now);
                self.failed(now, rule, message);
            }
        }
    }

    pub(super) fn failed(&mut self, now: SystemTime, rule: &'static str, message: String) {
        let since = self.standing().map_or(now, |fault| fault.since);
        self.last_error = Some(Fault { since, at: now, rule, message, is_standing: true });
    }
}
