//! The messages of the SPIFFE Workload API, written by hand: no code generator at build time.
//!
//! # Source
//! <https://github.com/spiffe/spiffe/blob/main/standards/workloadapi.proto>: names, numbers and types of the fields.

use std::collections::BTreeMap;

use bytes::Bytes;
use workload_prost::Message;

/// Asks for X.509-SVIDs; it has no parameters.
#[derive(Clone, PartialEq, Message)]
#[prost(prost_path = "::workload_prost")]
pub struct X509SvidRequest {}

/// Every X.509-SVID that the caller may use, and whom it may trust.
#[derive(Clone, PartialEq, Message)]
#[prost(prost_path = "::workload_prost")]
pub struct X509SvidResponse {
    /// At least one; the first is the default identity (Workload API 8).
    #[prost(message, repeated, tag = "1")]
    pub svids: Vec<X509SvidMessage>,
    /// Certificate revocation lists, DER.
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub crl: Vec<Bytes>,
    /// Bundles of other trust domains by `spiffe://TRUST-DOMAIN`, certificates in DER one after the other.
    #[prost(btree_map = "string, bytes", tag = "3")]
    pub federated_bundles: BTreeMap<String, Bytes>,
}

/// One X.509-SVID.
#[derive(Clone, PartialEq, Message)]
#[prost(prost_path = "::workload_prost")]
#[prost(skip_debug)]
pub struct X509SvidMessage {
    /// Whose it is.
    #[prost(string, tag = "1")]
    pub spiffe_id: String,
    /// The chain, leaf first, certificates in DER one after the other.
    #[prost(bytes = "bytes", tag = "2")]
    pub x509_svid: Bytes,
    /// The leaf's key, PKCS#8, DER.
    #[prost(bytes = "bytes", tag = "3")]
    pub x509_svid_key: Bytes,
    /// The bundle of the SVID's trust domain, certificates in DER one after the other.
    #[prost(bytes = "bytes", tag = "4")]
    pub bundle: Bytes,
    /// What the operator says it is for; empty if nothing.
    #[prost(string, tag = "5")]
    pub hint: String,
}

impl std::fmt::Debug for X509SvidMessage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // No key, no bytes that nobody reads.
        f.debug_struct("X509SvidMessage").field("spiffe_id", &self.spiffe_id).field("hint", &self.hint).finish()
    }
}

/// Asks for X.509 bundles; it has no parameters.
#[derive(Clone, PartialEq, Message)]
#[prost(prost_path = "::workload_prost")]
pub struct X509BundlesRequest {}

/// Whom a caller without identity may trust.
#[derive(Clone, PartialEq, Message)]
#[prost(prost_path = "::workload_prost")]
pub struct X509BundlesResponse {
    /// Certificate revocation lists, DER.
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub crl: Vec<Bytes>,
    /// Bundles by `spiffe://TRUST-DOMAIN`, certificates in DER one after the other.
    #[prost(btree_map = "string, bytes", tag = "2")]
    pub bundles: BTreeMap<String, Bytes>,
}

/// Asks for JWT-SVIDs.
#[derive(Clone, PartialEq, Message)]
#[prost(prost_path = "::workload_prost")]
pub struct JwtSvidRequest {
    /// Whom the token is for; at least one.
    #[prost(string, repeated, tag = "1")]
    pub audience: Vec<String>,
    /// Whose token; empty for every identity of the caller.
    #[prost(string, tag = "2")]
    pub spiffe_id: String,
}

/// JWT-SVIDs.
#[derive(Clone, PartialEq, Message)]
#[prost(prost_path = "::workload_prost")]
pub struct JwtSvidResponse {
    /// At least one.
    #[prost(message, repeated, tag = "1")]
    pub svids: Vec<JwtSvidMessage>,
}

/// One JWT-SVID.
#[derive(Clone, PartialEq, Message)]
#[prost(prost_path = "::workload_prost")]
#[prost(skip_debug)]
pub struct JwtSvidMessage {
    /// Whose it is.
    #[prost(string, tag = "1")]
    pub spiffe_id: String,
    /// The token, JWS compact serialisation.
    #[prost(string, tag = "2")]
    pub svid: String,
    /// What the operator says it is for; empty if nothing.
    #[prost(string, tag = "3")]
    pub hint: String,
}

impl std::fmt::Debug for JwtSvidMessage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JwtSvidMessage").field("spiffe_id", &self.spiffe_id).field("hint", &self.hint).finish()
    }
}

/// Asks for JWT bundles; it has no parameters.
#[derive(Clone, PartialEq, Message)]
#[prost(prost_path = "::workload_prost")]
pub struct JwtBundlesRequest {}

/// The keys that sign JWT-SVIDs.
#[derive(Clone, PartialEq, Message)]
#[prost(prost_path = "::workload_prost")]
pub struct JwtBundlesResponse {
    /// A JWK Set for each `spiffe://TRUST-DOMAIN`.
    #[prost(btree_map = "string, bytes", tag = "1")]
    pub bundles: BTreeMap<String, Bytes>,
}

/// Asks whether a JWT-SVID is good.
#[derive(Clone, PartialEq, Message)]
#[prost(prost_path = "::workload_prost")]
#[prost(skip_debug)]
pub struct ValidateJwtSvidRequest {
    /// Whom the token must be for.
    #[prost(string, tag = "1")]
    pub audience: String,
    /// The token.
    #[prost(string, tag = "2")]
    pub svid: String,
}

impl std::fmt::Debug for ValidateJwtSvidRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ValidateJwtSvidRequest").field("audience", &self.audience).finish_non_exhaustive()
    }
}

/// A JWT-SVID that is good.
#[derive(Clone, PartialEq, Message)]
#[prost(prost_path = "::workload_prost")]
pub struct ValidateJwtSvidResponse {
    /// Whose it is.
    #[prost(string, tag = "1")]
    pub spiffe_id: String,
    /// What it says.
    #[prost(message, optional, tag = "2")]
    pub claims: Option<prost_types::Struct>,
}
