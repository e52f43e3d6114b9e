//! `policy`.

use std::path::PathBuf;
use std::time::Duration;

use http::Uri;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::UpstreamCa;
use super::errors::Advice;
use super::file::{KeyPath, PolicyKeys};
use super::reading::{Reading, endpoint_name, https_url};

/// `policy`.
#[derive(Debug, Clone)]
pub struct PolicyConfig {
    /// Where policies come from.
    pub origin: PolicyOrigin,
    /// Endpoints of other sidecars that the policies may speak of.
    pub known_endpoints: Vec<String>,
    /// What to do about a Stage or an endpoint that nobody knows.
    pub unknown_names: UnknownNames,
    /// A candidate directory that decides beside the policies and is never enforced.
    pub shadow: Option<PathBuf>,
    /// Whether policies are loaded only with a `proof.json` that is of them and their invariants.
    pub require_proof: bool,
}

/// Where policies come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PolicyOrigin {
    /// `*.cedar`, `entities.json`, `entities/*.json`, optional extra `*.cedarschema`.
    Directory(PathBuf),
    /// A signed bundle of such a directory.
    Url(Box<PolicyUrl>),
}

/// `policy.url`, with what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyUrl {
    /// Where the bundle is: `https`, with a host, without userinfo.
    pub url: Uri,
    /// Where its signature is.
    pub signature_url: Uri,
    /// Files with the keys of which one has to have signed it; read again at every poll.
    pub public_keys: Vec<PathBuf>,
    /// Where the last good one is kept.
    pub cache_directory: PathBuf,
    /// What it has to be called.
    pub bundle_name: Option<String>,
    /// How often the server is asked.
    pub poll_interval: Duration,
    /// For the bundle, and again for the signature.
    pub fetch_timeout: Duration,
    /// Who vouches for the server.
    pub ca: UpstreamCa,
}

/// What a policy about an unknown Stage or endpoint is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UnknownNames {
    /// A warning with the nearest name.
    Warn,
    /// An error.
    Refuse,
}

/// A change is to be everywhere within half a minute; asked with an ETag, that costs a server next to nothing.
const POLL_INTERVAL: Duration = Duration::from_secs(30);
/// 16 MiB, the longest bundle, by 4 Mbit/s.
const FETCH_TIMEOUT: Duration = Duration::from_secs(30);

/// Reads `policy`.
pub(super) fn policy(reading: &mut Reading<'_>, at: &KeyPath, keys: PolicyKeys) -> Option<PolicyConfig> {
    for (index, name) in keys.known_endpoints.iter().enumerate() {
        reading.report.check(&at.key("known_endpoints").index(index), endpoint_name(name));
    }
    let shadow = keys.shadow.as_deref().map(|path| reading.path(path));
    let (known_endpoints, unknown_names) = (keys.known_endpoints.clone(), keys.unknown_names);
    let require_proof = keys.require_proof.unwrap_or(false);
    let origin = match (&keys.directory, &keys.url) {
        (Some(_), Some(_)) => reading.refuse(&at.key("url"), PolicyProblem::TwoOrigins),
        (Some(directory), None) => {
            refuse_keys_of_url(reading, at, &keys);
            Some(PolicyOrigin::Directory(reading.path(directory)))
        }
        (None, Some(url)) => bundles(reading, at, url, &keys).map(Box::new).map(PolicyOrigin::Url),
        // Said where the keys were compared with the schema.
        (None, None) => None,
    };
    Some(PolicyConfig {
        origin: origin?,
        known_endpoints,
        unknown_names: unknown_names.unwrap_or(UnknownNames::Warn),
        shadow,
        require_proof,
    })
}

fn bundles(reading: &mut Reading<'_>, at: &KeyPath, url: &str, keys: &PolicyKeys) -> Option<PolicyUrl> {
    let path = at.key("url");
    let checked = https_url(url).map_err(|reason| PolicyProblem::Url { text: url.into(), reason });
    let url = reading.report.check(&path, checked);
    let signature_url = url.as_ref().and_then(|url| {
        let address = signature_url(url).ok_or_else(|| PolicyProblem::NoPath { text: url.to_string() });
        reading.report.check(&path, address)
    });
    let bundle_name = keys
        .bundle_name
        .as_deref()
        .map(|name| reading.report.check(&at.key("bundle_name"), endpoint_name(name)).map(|()| name.to_owned()));
    let public_keys = keys.public_keys.as_ref().map(|paths| paths.iter().map(|path| reading.path(path)).collect());
    let cache_directory = keys.cache_directory.as_deref().map(|path| reading.path(path));
    let ca = match keys.ca.as_deref() {
        None | Some("system") => UpstreamCa::System,
        Some(file) => UpstreamCa::File(reading.path(file)),
    };
    Some(PolicyUrl {
        url: url?,
        signature_url: signature_url?,
        public_keys: public_keys?,
        cache_directory: cache_directory?,
        bundle_name: bundle_name.map_or(Some(None), |name| name.map(Some))?,
        poll_interval: keys.poll_interval.map_or(POLL_INTERVAL, |key| key.0),
        fetch_timeout: keys.fetch_timeout.map_or(FETCH_TIMEOUT, |key| key.0),
        ca,
    })
}

/// The same with `.sig` after the path, so that a query (a token for a whole container, say) stays where it is.
fn signature_url(url: &Uri) -> Option<Uri> {
    let mut parts = url.clone().into_parts();
    let path = url.path();
    if path.ends_with('/') {
        return None;
    }
    let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
    parts.path_and_query = Some(format!("{path}.sig{query}").parse().ok()?);
    Uri::from_parts(parts).ok()
}

fn refuse_keys_of_url(reading: &mut Reading<'_>, at: &KeyPath, keys: &PolicyKeys) {
    for (key, is_set) in [
        ("public_keys", keys.public_keys.is_some()),
        ("cache_directory", keys.cache_directory.is_some()),
        ("bundle_name", keys.bundle_name.is_some()),
        ("poll_interval", keys.poll_interval.is_some()),
        ("fetch_timeout", keys.fetch_timeout.is_some()),
        ("ca", keys.ca.is_some()),
    ] {
        if is_set {
            let problem = PolicyProblem::KeyOfUrl { key };
            reading.report.key(&at.key(key), problem.to_string(), problem.advice());
        }
    }
}

/// What is wrong with `policy`.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
enum PolicyProblem {
    #[error("policies come from `directory` or from `url`, not from both")]
    TwoOrigins,
    #[error("`{text}` is no address of a bundle: {reason}")]
    Url { text: String, reason: &'static str },
    #[error("`{text}` does not end with the name of a file")]
    NoPath { text: String },
    #[error("`{key}` has no effect without `url`")]
    KeyOfUrl { key: &'static str },
}

impl Advice for PolicyProblem {
    fn advice(&self) -> Option<String> {
        Some(match self {
            Self::TwoOrigins => "keep one of the two; candidates are tried with `shadow`".into(),
            Self::Url { .. } => "write `https://HOST:PORT/PATH`".into(),
            Self::NoPath { .. } => {
                "write `https://HOST:PORT/PATH/lake.tar`; its signature is looked for at `lake.tar.sig`".into()
            }
            Self::KeyOfUrl { .. } => "remove it, or write `url` in place of `directory`".into(),
        })
    }
}
