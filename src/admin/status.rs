//! Snapshots that the app takes of itself, and what else the doors ask of it.

use std::fmt::Debug;
use std::time::SystemTime;

use serde::{Serialize, Serializer};

use crate::audit::Rfc3339;
use crate::identity::PartHealth;

/// The app as the doors see it. Every call is answered at once, from what is in memory.
pub trait AdminState: Debug + Send + Sync {
    /// Why no traffic should come; empty when it should.
    fn not_ready(&self) -> Vec<NotReady>;

    /// How things are.
    fn status(&self) -> Status;

    /// Where candidates would have decided otherwise.
    fn shadow(&self) -> serde_json::Value;

    /// The last denials, `most` at most, the newest first, each explained.
    fn denials(&self, most: usize) -> serde_json::Value;

    /// Starts the drain, as SIGTERM does. Returns without waiting for it.
    fn shutdown(&self);
}

/// One reason for not being ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NotReady {
    /// A word that may be seen by everybody who reaches the health listener: `identity`, `policy`, `audit`, `draining`.
    pub reason: &'static str,
    /// What is the matter, for operators: only the admin listener and socket tell it.
    pub message: String,
}

/// How things are.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Status {
    /// Whether the process is on its way out.
    pub draining: bool,
    /// Who we are.
    pub identity: IdentityStatus,
    /// What decides.
    pub policy: PolicyStatus,
    /// Where traffic comes in.
    pub listeners: Vec<ListenerStatus>,
    /// Whether records can be written.
    pub audit: AuditStatus,
}

/// Who we are.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct IdentityStatus {
    /// `files`, `workload_api`.
    pub source: &'static str,
    /// Our SPIFFE ID, once there is an SVID.
    pub spiffe_id: Option<String>,
    /// When the SVID began to be valid.
    #[serde(serialize_with = "rfc3339")]
    pub not_before: Option<SystemTime>,
    /// When it expires.
    #[serde(serialize_with = "rfc3339")]
    pub not_after: Option<SystemTime>,
    /// Its serial number, hex.
    pub serial: Option<String>,
    /// Its SHA-256, hex.
    pub sha256: Option<String>,
    /// The generation in force.
    pub generation: Option<u64>,
    /// The trust domains whose bundles are in force.
    pub trust_domains: Vec<String>,
    /// The revocation lists in force.
    pub crls: Vec<CrlStatus>,
    /// What is wrong with the trust in force: revocation lists that do not count, our own certificate revoked or denied.
    pub trust_faults: Vec<String>,
    /// Why the last change could not be put in force, until one could.
    pub last_error: Option<String>,
    /// Each source of SVID and bundles.
    pub parts: Vec<PartStatus>,
}

/// A revocation list in force.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CrlStatus {
    /// Whose certificates it revokes.
    pub trust_domain: String,
    /// Who issued it, as RFC 4514 writes names.
    pub issuer: String,
    /// Its number in hex, if it has one.
    pub number: Option<String>,
    /// When it was made.
    #[serde(serialize_with = "rfc3339")]
    pub this_update: Option<SystemTime>,
    /// When the next one is due.
    #[serde(serialize_with = "rfc3339")]
    pub next_update: Option<SystemTime>,
    /// How many certificates it revokes.
    pub entries: usize,
}

/// How a source of our identity fares.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PartStatus {
    /// `files`, `workload_api`, `federation of …`.
    pub part: String,
    /// When it last had something that can be used, or nothing new.
    #[serde(serialize_with = "rfc3339")]
    pub last_success: Option<SystemTime>,
    /// What went wrong last.
    pub last_error: Option<FaultStatus>,
}

/// What went wrong with a source.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FaultStatus {
    /// Whether it is still so.
    pub standing: bool,
    /// Since when it has been so, or was.
    #[serde(serialize_with = "rfc3339")]
    pub since: Option<SystemTime>,
    /// When it was seen last.
    #[serde(serialize_with = "rfc3339")]
    pub at: Option<SystemTime>,
    /// The cause's name, as metrics have it.
    pub rule: &'static str,
    /// The cause.
    pub message: String,
}

impl From<PartHealth> for PartStatus {
    fn from(health: PartHealth) -> Self {
        let last_error = health.last_error.map(|fault| FaultStatus {
            standing: fault.is_standing,
            since: Some(fault.since),
            at: Some(fault.at),
            rule: fault.rule,
            message: fault.message,
        });
        Self { part: health.part.to_string(), last_success: health.last_success, last_error }
    }
}

/// What decides.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct PolicyStatus {
    /// `sha256:…` over all files.
    pub digest: String,
    /// The generation in force.
    pub generation: u64,
    /// How many policies there are.
    pub policies: usize,
    /// What is odd about them.
    pub warnings: Vec<String>,
    /// Policies about endpoints that this sidecar does not have.
    pub inactive: Vec<String>,
    /// The digest of the candidate of `policy.shadow` that is tried.
    pub shadow_digest: Option<String>,
    /// Why what is in `policy.shadow` is not tried.
    pub shadow_error: Option<String>,
    /// Why the last change could not be put in force, until one could: a line for each problem.
    pub last_error: Option<String>,
    /// The same for people: each with its source, a caret and what to do.
    pub last_error_report: Option<String>,
    /// Where policies come from `policy.url`: how that fares.
    pub bundle: Option<BundleStatus>,
}

/// Policies from an address.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct BundleStatus {
    /// The address, without its query.
    pub url: String,
    /// The name of the bundle in force.
    pub name: Option<String>,
    /// Its sequence number.
    pub sequence: Option<u64>,
    /// Fingerprint of the key that signed it.
    pub signed_by: Option<String>,
    /// It was read from the disk, and the server has not been heard since.
    pub from_cache: bool,
    /// When it was fetched.
    #[serde(serialize_with = "rfc3339")]
    pub fetched: Option<SystemTime>,
    /// How long ago that was.
    pub age_seconds: Option<u64>,
    /// When it ends to be taken by sidecars that have it not.
    #[serde(serialize_with = "rfc3339")]
    pub expires: Option<SystemTime>,
    /// That has come.
    pub expired: bool,
    /// When the server last had it, or a new one that could be put in force.
    #[serde(serialize_with = "rfc3339")]
    pub last_success: Option<SystemTime>,
    /// The name of what is wrong now, as metrics have it; `last_error` says it.
    pub rule: Option<&'static str>,
    /// Since when.
    #[serde(serialize_with = "rfc3339")]
    pub failing_since: Option<SystemTime>,
    /// Why the bundle in force is not on disk, or what was there cannot be used.
    pub cache_error: Option<String>,
}

/// Where traffic comes in.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ListenerStatus {
    /// Its name.
    pub name: String,
    /// `inbound` or `outbound`.
    pub direction: &'static str,
    /// `http`, `s3` …
    pub protocol: &'static str,
    /// Where it really listens, the port included that the system chose.
    pub address: String,
    /// Where permitted requests go.
    pub upstream: String,
    /// Open connections.
    pub connections: usize,
}

/// Whether records can be written.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct AuditStatus {
    /// Where they go.
    pub sink: String,
    /// Why they cannot be written, while they cannot.
    pub failure: Option<String>,
}

#[expect(clippy::ref_option, reason = "serde hands over a reference to the field")]
fn rfc3339<S: Serializer>(time: &Option<SystemTime>, serializer: S) -> Result<S::Ok, S::Error> {
    time.map(Rfc3339::from).serialize(serializer)
}
