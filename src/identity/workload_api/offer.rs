//! What a server of the Workload API has for its callers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tonic::Status;

use super::{
    JwtBundlesResponse, JwtSvidMessage, JwtSvidRequest, JwtSvidResponse, ValidateJwtSvidRequest,
    ValidateJwtSvidResponse, X509BundlesResponse, X509SvidResponse,
};
use crate::identity::SpiffeId;
use crate::identity::dev_ca::JwtSigner;

/// What every caller gets at one moment.
#[derive(Debug, Clone)]
pub enum Offer {
    /// These identities.
    Identities(Arc<Identities>),
    /// Nothing but this status: `PermissionDenied` where no identity is issued.
    Refused(Status),
}

/// Identities, and what belongs to them.
#[derive(Debug)]
pub struct Identities {
    /// The X.509-SVIDs, bundles and CRLs, sent as they are.
    pub x509: X509SvidResponse,
    /// Those that sign JWT-SVIDs, one of each trust domain.
    pub jwt_signers: Vec<JwtSigner>,
    /// How long a JWT-SVID is valid.
    pub jwt_lifetime: Duration,
}

impl Offer {
    /// The caller has no identity.
    #[must_use]
    pub fn none() -> Self {
        // SPIRE's words, which some clients look for.
        Self::Refused(Status::permission_denied("no identity issued"))
    }

    pub(super) fn identities(&self) -> Result<&Arc<Identities>, Status> {
        match self {
            Self::Identities(identities) => Ok(identities),
            Self::Refused(status) => Err(status.clone()),
        }
    }

    pub(super) fn x509_svids(&self) -> Result<X509SvidResponse, Status> {
        Ok(self.identities()?.x509.clone())
    }

    pub(super) fn x509_bundles(&self) -> Result<X509BundlesResponse, Status> {
        let x509 = &self.identities()?.x509;
        let mut bundles = x509.federated_bundles.clone();
        for svid in &x509.svids {
            let trust_domain = SpiffeId::parse(&svid.spiffe_id).map(|id| id_of(id.trust_domain()));
            bundles.extend(trust_domain.ok().map(|trust_domain| (trust_domain, svid.bundle.clone())));
        }
        Ok(X509BundlesResponse { crl: x509.crl.clone(), bundles })
    }

    pub(super) fn jwt_bundles(&self) -> Result<JwtBundlesResponse, Status> {
        let mut bundles = BTreeMap::new();
        for authority in &self.identities()?.jwt_signers {
            let keys = serde_json::json!({ "keys": [authority.jwk()] });
            bundles.insert(id_of(authority.trust_domain().as_str()), Bytes::from(keys.to_string()));
        }
        Ok(JwtBundlesResponse { bundles })
    }

    pub(super) fn jwt_svids(&self, request: &JwtSvidRequest, now: SystemTime) -> Result<JwtSvidResponse, Status> {
        let identities = self.identities()?;
        if request.audience.is_empty() || request.audience.iter().any(String::is_empty) {
            return Err(Status::invalid_argument("audience must be specified"));
        }
        let (mut svids, mut seen) = (Vec::new(), BTreeSet::new());
        for svid in &identities.x509.svids {
            let asked = request.spiffe_id.is_empty() || request.spiffe_id == svid.spiffe_id;
            if !asked || !seen.insert(&svid.spiffe_id) {
                continue;
            }
            let token = identities.token(&svid.spiffe_id, &request.audience, now)?;
            svids.push(JwtSvidMessage { spiffe_id: svid.spiffe_id.clone(), svid: token, hint: svid.hint.clone() });
        }
        match svids.is_empty() {
            true => Err(Status::permission_denied("no identity issued")),
            false => Ok(JwtSvidResponse { svids }),
        }
    }

    pub(super) fn validate(&self, request: &ValidateJwtSvidRequest) -> Result<ValidateJwtSvidResponse, Status> {
        let authorities = &self.identities()?.jwt_signers;
        if request.audience.is_empty() || request.svid.is_empty() {
            return Err(Status::invalid_argument("audience and svid must be specified"));
        }
        let refused = |error: &dyn std::error::Error| Status::invalid_argument(error.to_string());
        let subject = JwtSigner::subject_of(&request.svid).map_err(|error| refused(&error))?;
        // The bundle of the subject's own trust domain, and no other (Workload API 6.3).
        let own = authorities.iter().find(|authority| authority.trust_domain().as_str() == subject.trust_domain());
        let own = own.ok_or_else(|| Status::invalid_argument("no JWT bundle for the trust domain of the subject"))?;
        let claims = own.validate(&request.svid, &request.audience).map_err(|error| refused(&error))?;
        let fields = claims.iter().map(|(name, value)| (name.clone(), protobuf(value))).collect();
        Ok(ValidateJwtSvidResponse { spiffe_id: subject.to_string(), claims: Some(prost_types::Struct { fields }) })
    }
}

impl Identities {
    fn token(&self, id: &str, audience: &[String], now: SystemTime) -> Result<String, Status> {
        let internal = |error: &dyn std::error::Error| Status::internal(error.to_string());
        let id = SpiffeId::parse(id).map_err(|error| internal(&error))?;
        let own = |authority: &&JwtSigner| authority.trust_domain().as_str() == id.trust_domain();
        let authority = self.jwt_signers.iter().find(own);
        let authority = authority.ok_or_else(|| Status::unimplemented("there is no JWT authority"))?;
        authority.issue(&id, audience, self.jwt_lifetime, now).map_err(|error| internal(&error))
    }
}

fn id_of(trust_domain: &str) -> String {
    format!("spiffe://{trust_domain}")
}

/// JSON as protobuf's `Struct` has it, which knows only numbers of 64-bit floating point.
fn protobuf(value: &serde_json::Value) -> prost_types::Value {
    use prost_types::value::Kind;
    use serde_json::Value;
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(*value),
        Value::Number(value) => Kind::NumberValue(value.as_f64().unwrap_or_default()),
        Value::String(value) => Kind::StringValue(value.clone()),
        Value::Array(values) => {
            Kind::ListValue(prost_types::ListValue { values: values.iter().map(protobuf).collect() })
        }
        Value::Object(members) => Kind::StructValue(prost_types::Struct {
            fields: members.iter().map(|(name, value)| (name.clone(), protobuf(value))).collect(),
        }),
    };
    prost_types::Value { kind: Some(kind) }
}
