//! The keys of `identity`.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema};
use serde::Deserialize;
use serde_json::json;

use super::keys::DurationKey;

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[schemars(transform = required_with_files)]
pub(crate) struct IdentityKeys {
    /// Where our own certificate comes from.
    #[schemars(extend("default" = "files"))]
    pub(crate) source: Option<IdentitySource>,
    /// PEM file with our certificate chain, leaf first. Required with `source: files`.
    #[schemars(length(min = 1), extend("examples" = ["/run/svid/svid.pem"]))]
    pub(crate) certificate: Option<String>,
    /// PEM file with the private key of the leaf. It is PKCS#8, SEC1 or PKCS#1, not encrypted. Required with `source: files`.
    #[schemars(length(min = 1), extend("examples" = ["/run/svid/svid.key"]))]
    pub(crate) private_key: Option<String>,
    /// `source: workload_api` only. Where the agent listens: `unix:/PATH` or `tcp:IP:PORT`. Without this key the environment variable `SPIFFE_ENDPOINT_SOCKET` says it.
    #[schemars(length(min = 1), extend("examples" = ["unix:/run/spire/agent/api.sock"]))]
    pub(crate) address: Option<String>,
    /// Lets `address` be a TCP address of another machine. The agent hands out private keys, and nothing protects them on the way.
    #[schemars(extend("default" = false))]
    pub(crate) unsafe_address_off_loopback: Option<bool>,
    /// `source: workload_api` only. Which of several SVIDs is ours, by its hint. With neither this key nor `spiffe_id` it is the first one.
    #[schemars(length(min = 1), extend("examples" = ["internal"]))]
    pub(crate) hint: Option<String>,
    /// Who we are. With `source: files` a certificate of anybody else is refused; with `source: workload_api` it picks one of several SVIDs.
    #[schemars(length(min = 1), extend("examples" = ["spiffe://pipeline.example/ns/etl/sa/load"]))]
    pub(crate) spiffe_id: Option<String>,
    /// For each trust domain the file with its certificate authorities (PEM, or SPIFFE bundle JSON), or a directory: every `*.pem`, `*.crt` and `*.json` in it. A bundle is trusted for its own trust domain only. Required with `source: files`; with `source: workload_api` for further trust domains than the agent knows.
    #[schemars(extend("minProperties" = 1, "x-entries" = "trust domain: file or directory", "examples" = [{"pipeline.example": "/run/svid/bundle.pem"}]))]
    pub(crate) trust_bundles: Option<BTreeMap<String, String>>,
    /// For each further trust domain where its bundle is fetched from. What was fetched last stays in force while the endpoint cannot be reached.
    #[schemars(extend("minProperties" = 1, "x-entries" = "trust domain: keys below"))]
    pub(crate) federation: Option<BTreeMap<String, FederationKeys>>,
    /// Certificate revocation lists.
    pub(crate) crl: Option<CrlKeys>,
    /// Certificates that are refused at once, each as `TRUST-DOMAIN/SERIAL` with the serial number in hex.
    #[schemars(length(min = 1), extend("examples" = [["pipeline.example/0a1b2c"]]))]
    pub(crate) deny_serials: Option<Vec<String>>,
    /// Workloads that are refused at once: SPIFFE IDs, or `spiffe://TRUST-DOMAIN/PATH/*` (one or more segments below).
    #[schemars(length(min = 1), extend("examples" = [["spiffe://pipeline.example/ns/etl/sa/old"]]))]
    pub(crate) deny_spiffe_ids: Option<Vec<String>>,
    /// File with more of both, one a line, which is looked at again while the sidecar runs. It has to be there; it may be empty.
    #[schemars(length(min = 1), extend("examples" = ["/etc/portcullis/deny.txt"]))]
    pub(crate) deny_file: Option<String>,
}

/// What files need is required unless somebody else brings it, in words that editors know.
fn required_with_files(schema: &mut Schema) {
    schema.insert(
        "if".into(),
        json!({ "properties": { "source": { "const": "workload_api" } }, "required": ["source"] }),
    );
    schema.insert("then".into(), true.into());
    schema.insert("else".into(), json!({ "required": ["certificate", "private_key", "trust_bundles"] }));
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum IdentitySource {
    /// The files that the other keys name.
    Files,
    /// A SPIFFE agent, for example SPIRE's, by the Workload API.
    WorkloadApi,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
pub(crate) struct FederationKeys {
    /// Where the trust domain serves its bundle.
    #[schemars(required, length(min = 1), extend("examples" = ["https://spire.partner.example:8443"]))]
    pub(crate) endpoint_url: Option<String>,
    /// How the endpoint proves itself.
    #[schemars(required)]
    pub(crate) profile: Option<FederationProfileKey>,
    /// `https_spiffe` only, and required there: who the endpoint must be.
    #[schemars(length(min = 1), extend("examples" = ["spiffe://partner.example/spire/server"]))]
    pub(crate) endpoint_spiffe_id: Option<String>,
    /// `https_spiffe` only: file with the bundle by which the endpoint is verified the first time. Required if the endpoint is in the very trust domain whose bundle it serves.
    #[schemars(length(min = 1), extend("examples" = ["/etc/portcullis/partner.json"]))]
    pub(crate) bootstrap_bundle: Option<String>,
    /// `https_web` only. Who vouches for the endpoint's host name: `system`, or a PEM file with certificate authorities.
    #[schemars(length(min = 1), extend("examples" = ["/etc/ssl/partner-ca.pem"]))]
    pub(crate) ca: Option<String>,
    /// How often the bundle is fetched. Without this key as often as the bundle itself asks for (`spiffe_refresh_hint`).
    #[schemars(extend("x-minimum" = "1s", "x-maximum" = "24h", "examples" = ["5m"]))]
    pub(crate) refresh_interval: Option<DurationKey>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FederationProfileKey {
    /// By a certificate for its host name, as web servers do.
    HttpsWeb,
    /// By an X.509-SVID.
    HttpsSpiffe,
}

impl FederationProfileKey {
    /// As the file writes it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::HttpsWeb => "https_web",
            Self::HttpsSpiffe => "https_spiffe",
        }
    }
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
pub(crate) struct CrlKeys {
    /// For each trust domain the file with its revocation lists (PEM or DER), or a directory: every `*.pem`, `*.crl` and `*.der` in it. An issuer without a list revokes nobody.
    #[schemars(required, extend("minProperties" = 1, "x-entries" = "trust domain: file or directory", "examples" = [{"pipeline.example": "/run/svid/crl.pem"}]))]
    pub(crate) files: Option<BTreeMap<String, String>>,
    /// What becomes of certificates whose issuer's list is past its `nextUpdate`.
    #[schemars(extend("default" = "deny"))]
    pub(crate) on_expired: Option<OnExpiredKey>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OnExpiredKey {
    /// They are refused: nobody knows who has been revoked since.
    Deny,
    /// The old list counts as if it were new.
    Allow,
}
