//! The keys of `policy`.

use schemars::{JsonSchema, Schema};
use serde::Deserialize;
use serde_json::json;

use super::keys::DurationKey;
use crate::config::UnknownNames;

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[schemars(transform = one_origin)]
pub(crate) struct PolicyKeys {
    /// Folder with `*.cedar`, `entities.json` or `entities/*.json` and, if wanted, further `*.cedarschema`. Required without `url`.
    #[schemars(length(min = 1), extend("examples" = ["/etc/portcullis/policies"]))]
    pub(crate) directory: Option<String>,
    /// In place of `directory`: where a signed bundle of such a folder is fetched from. Its signature is at the same address with `.sig` after the path.
    #[schemars(length(min = 1), extend("examples" = ["https://policies.example/lake.tar"]))]
    pub(crate) url: Option<String>,
    /// Files with the public keys (PEM; Ed25519 or ECDSA P-256) of which one has to have signed the bundle. Required with `url`.
    #[schemars(length(min = 1), inner(length(min = 1)), extend("examples" = [["/etc/portcullis/policy-signer.pem"]]))]
    pub(crate) public_keys: Option<Vec<String>>,
    /// Folder for the last good bundle, which decides after a restart while the server is away. It is made if it is not there. Required with `url`.
    #[schemars(length(min = 1), extend("examples" = ["/var/lib/portcullis/policies"]))]
    pub(crate) cache_directory: Option<String>,
    /// With `url` only. The name that the bundle has to have, where one key signs several bundles. Without this key any name is taken.
    #[schemars(length(min = 1), extend("examples" = ["lake"]))]
    pub(crate) bundle_name: Option<String>,
    /// With `url` only. How often the server is asked for a new bundle, less up to a tenth by chance. 30s without this key.
    #[schemars(extend("x-minimum" = "1s", "x-maximum" = "24h", "examples" = ["1m"]))]
    pub(crate) poll_interval: Option<DurationKey>,
    /// With `url` only. How long a bundle may take to come, and as long again its signature. 30s without this key.
    #[schemars(extend("x-minimum" = "1s", "x-maximum" = "10m", "examples" = ["10s"]))]
    pub(crate) fetch_timeout: Option<DurationKey>,
    /// With `url` only. Who vouches for the server's host name: `system`, or a PEM file with certificate authorities. `system` without this key.
    #[schemars(length(min = 1), extend("examples" = ["/etc/ssl/policies-ca.pem"]))]
    pub(crate) ca: Option<String>,
    /// Endpoints of other sidecars that the policies speak of, so that they are not taken for misspelt.
    #[serde(default)]
    pub(crate) known_endpoints: Vec<String>,
    /// What a policy is that names a stage without members, or an endpoint that is neither here nor known.
    #[schemars(extend("default" = "warn"))]
    pub(crate) unknown_names: Option<UnknownNames>,
    /// Folder with candidate policies, in the same form: they decide every request too, records and metrics say what they would have decided, and nothing is enforced by them.
    #[schemars(length(min = 1), extend("examples" = ["/etc/portcullis/candidate"]))]
    pub(crate) shadow: Option<String>,
    /// Whether policies are loaded, at start and later, only with a `proof.json` that is of them and of the `invariants.yaml` beside them: `portcullis policy prove --write` writes it. It is not signed.
    #[schemars(extend("default" = false))]
    pub(crate) require_proof: Option<bool>,
}

/// Policies come from a folder or from an address, in words that editors know.
fn one_origin(schema: &mut Schema) {
    schema.insert("if".into(), json!({ "required": ["url"] }));
    schema.insert("then".into(), json!({ "required": ["public_keys", "cache_directory"] }));
    schema.insert("else".into(), json!({ "required": ["directory"] }));
}
