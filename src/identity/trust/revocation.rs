//! Which certificates of a verified path have been revoked.
//!
//! Not by webpki's own revocation check: that asks the first list that bears the issuer's name, whoever signed it. Authorities of one
//! trust domain may share a name too, as SPIRE's do while they rotate, and then the list of the old one would refuse all workloads of
//! the new one. Here a list counts for the key that signed it. And it would hash the list in each handshake; here who signed a list is
//! found out once.

use std::time::SystemTime;

use thiserror::Error;
use webpki::VerifiedPath;

use super::signed::content_of;
use super::{ChainError, Crl, Crls, OnExpiredCrl, TrustBundle};
use crate::identity::svid::text;

/// The revocation lists that count for one bundle.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Revocation {
    on_expired: OnExpiredCrl,
    lists: Vec<Crl>,
    faults: Vec<CrlFault>,
}

/// Why a list that can be read does not count.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the fields are what the message shows")]
pub enum CrlFault {
    /// It bears the name of an authority of the trust domain, which did not sign it.
    #[error("revocation list of `{issuer}` is not signed by that authority of the trust domain")]
    Signature { issuer: String },
    /// It is older than the one in force, which stays so.
    #[error(
        "revocation list of `{issuer}` is older than the one in force, which stays so: {found} comes before {in_force}"
    )]
    Rollback { issuer: String, found: String, in_force: String },
}

impl CrlFault {
    /// The cause's stable name, as metrics have it.
    #[must_use]
    pub const fn rule(&self) -> &'static str {
        match self {
            Self::Signature { .. } => "crl-signature",
            Self::Rollback { .. } => "crl-rollback",
        }
    }
}

impl Revocation {
    /// The lists of `crls` that count for `bundle`, when those of `before` were in force.
    ///
    /// What is wrong with a list is no reason to keep a whole bundle out of force, but one to keep the list out: what it replaces stays,
    /// as long as an authority that still is one signed it.
    pub(super) fn new(crls: &Crls, bundle: &TrustBundle, before: Option<&Self>) -> Self {
        let mut new = Self { on_expired: crls.on_expired(), ..Self::default() };
        let before = before.map(|before| before.lists.as_slice()).unwrap_or_default();
        let (forged, good): (Vec<_>, Vec<_>) = crls.lists().iter().cloned().partition(|crl| is_forged(crl, bundle));
        for crl in forged {
            new.faults.push(CrlFault::Signature { issuer: crl.issuer().to_owned() });
            let stay = before.iter().filter(|earlier| crl.replaces(earlier) && !is_forged(earlier, bundle));
            new.lists.extend(stay.cloned());
        }
        for crl in newest(good, bundle) {
            let in_force = before.iter().find(|earlier| replaces(&crl, earlier, bundle) && crl.is_older_than(earlier));
            if let Some(in_force) = in_force {
                let (found, in_force_now) = (named(&crl), named(in_force));
                let issuer = crl.issuer().to_owned();
                new.faults.push(CrlFault::Rollback { issuer, found, in_force: in_force_now });
            }
            new.lists.push(in_force.cloned().unwrap_or(crl));
        }
        new.lists = newest(new.lists, bundle);
        new
    }

    pub(super) fn lists(&self) -> &[Crl] {
        &self.lists
    }

    pub(super) fn faults(&self) -> &[CrlFault] {
        &self.faults
    }

    /// Judges the whole path, the leaf and each certificate that issued another: who revokes an intermediate means all below it. A
    /// certificate whose issuer has no list is taken as not revoked, since most issuers in SPIFFE have none: short lives replace them.
    pub(super) fn check(&self, path: &VerifiedPath<'_>, now: SystemTime) -> Result<(), ChainError> {
        if self.lists.is_empty() {
            return Ok(());
        }
        let mut below = (path.end_entity().serial(), path.end_entity().issuer());
        for issuer in path.intermediate_certificates() {
            let spki = issuer.subject_public_key_info();
            self.check_one(below, content_of(&spki).unwrap_or_default(), now)?;
            below = (issuer.serial(), issuer.issuer());
        }
        self.check_one(below, &path.anchor().subject_public_key_info, now)
    }

    fn check_one(&self, (serial, issuer): (&[u8], &[u8]), spki: &[u8], now: SystemTime) -> Result<(), ChainError> {
        // Whichever share of the issuer's certificates a list is of: serial numbers are unique to an issuer (RFC 5280, 4.1.2.2), and
        // only our own files bring lists, so that a list can take away too little and never too much.
        let own = || self.lists.iter().filter(|crl| crl.is_by_name(issuer) && crl.is_signed_by(spki));
        if own().any(|crl| crl.revokes(serial)) {
            return Err(ChainError::Revoked { serial: text::serial(serial) });
        }
        match own().find(|crl| self.on_expired == OnExpiredCrl::Deny && now >= crl.next_update()) {
            Some(crl) => Err(ChainError::CrlExpired { issuer: crl.issuer().to_owned(), at: crl.next_update() }),
            None => Ok(()),
        }
    }
}

/// Whether `crl` bears the name of an authority and the signature of none that has it. The name of nobody in the bundle may be that of an
/// intermediate, whose key comes with the handshake.
fn is_forged(crl: &Crl, bundle: &TrustBundle) -> bool {
    bundle.anchors().iter().any(|anchor| crl.is_by_name(&anchor.subject)) && !bundle.has_signed(crl)
}

/// Of several lists of one kind the newest, whatever their order; each once.
fn newest(lists: Vec<Crl>, bundle: &TrustBundle) -> Vec<Crl> {
    let mut kept: Vec<Crl> = Vec::new();
    for crl in &lists {
        let is_newest = !lists.iter().any(|other| replaces(other, crl, bundle) && crl.is_older_than(other));
        if is_newest && !kept.contains(crl) {
            kept.push(crl.clone());
        }
    }
    kept
}

/// Whether `crl` is of the issuer of `other` and of the same share of its certificates. Two authorities of one name are told apart by
/// their keys.
fn replaces(crl: &Crl, other: &Crl, bundle: &TrustBundle) -> bool {
    let signers = |crl: &Crl| -> Vec<bool> {
        bundle.anchors().iter().map(|anchor| crl.is_signed_by(&anchor.subject_public_key_info)).collect()
    };
    crl.replaces(other) && signers(crl) == signers(other)
}

fn named(crl: &Crl) -> String {
    match crl.number() {
        Some(number) => format!("number {number}"),
        None => "one without a number".to_owned(),
    }
}
