//! One poll: the signature, and the bundle if that is another than before.

use std::time::Duration;

use http::{HeaderValue, Uri};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::DistributionError;
use super::keep::Fetched;
use crate::config::PolicyUrl;
use crate::fetch::{ALPN, Answer, Document, FetchError, Proof, Wanted, fetch};
use crate::policy::{BundleKeys, MAX_BUNDLE_BYTES, MAX_SIGNATURE_BYTES, PolicyBundle, PolicyBundleError};
use crate::tls::PublicTls;

/// Bundle and signature are two files, and a server may have replaced one of them: so often both are fetched anew …
const MAX_LOOKS: u32 = 3;
/// … after such a pause.
const PAUSE: Duration = Duration::from_millis(500);

/// What the server had, by which to ask whether it has something else: an ETag alone does not say (servers that make it of time and size
/// give the same one to other bundles), and a bundle may be signed anew with another key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) etag: Option<HeaderValue>,
    pub(super) signature: Vec<u8>,
}

/// What the server has; none if it is the version that is known. With an error the version that it is about.
pub(super) async fn poll(
    config: &PolicyUrl,
    known: Option<&Version>,
    keys: &BundleKeys,
) -> Result<Option<(Fetched, Version)>, (DistributionError, Option<Version>)> {
    // Made anew each time, so that changed authorities are seen.
    let proof = Proof::Web(PublicTls::new(config.ca.clone(), ALPN));
    let mut looks = 0;
    loop {
        let signature: Vec<u8> = match signature(config, &proof).await {
            Ok(document) => document.body.into(),
            Err(error) => {
                // Where there is no bundle either, that is what is wrong.
                let etag = known.and_then(|known| known.etag.as_ref());
                let bundle = bundle(config, etag, &proof).await;
                return Err((bundle.err().unwrap_or(error), None));
            }
        };
        let same = known.filter(|known| looks == 0 && known.signature == signature);
        let etag = same.and_then(|known| known.etag.as_ref());
        let Some(tar) = bundle(config, etag, &proof).await.map_err(|error| (error, None))? else {
            return Ok(None);
        };
        looks += 1;
        let (version, body) = (Version { etag: tar.etag, signature }, tar.body);
        let opened = spawn_blocking({
            let (body, signature, keys) = (body.clone(), version.signature.clone(), keys.clone());
            move || PolicyBundle::open(&body, &signature, &keys)
        });
        match opened.await.map_err(|_| (DistributionError::Panic, None))? {
            Ok(bundle) => {
                let fetched = Fetched { bundle, tar: body.into(), signature: version.signature.clone() };
                return Ok(Some((fetched, version)));
            }
            Err(PolicyBundleError::Signature { .. }) if looks < MAX_LOOKS => sleep(PAUSE).await,
            Err(error) => return Err((error.into(), Some(version))),
        }
    }
}

async fn bundle(
    config: &PolicyUrl,
    etag: Option<&HeaderValue>,
    proof: &Proof,
) -> Result<Option<Document>, DistributionError> {
    let wanted = Wanted { etag, ..wanted(config, &config.url, MAX_BUNDLE_BYTES) };
    match fetch(&wanted, proof).await.map_err(DistributionError::Bundle)? {
        Answer::Document(document) => Ok(Some(document)),
        Answer::NotModified => Ok(None),
    }
}

async fn signature(config: &PolicyUrl, proof: &Proof) -> Result<Document, DistributionError> {
    let wanted = wanted(config, &config.signature_url, MAX_SIGNATURE_BYTES);
    match fetch(&wanted, proof).await.map_err(DistributionError::Signature)? {
        Answer::Document(document) => Ok(document),
        // Nobody has asked for this.
        Answer::NotModified => {
            let host = wanted.url.host().unwrap_or_default().to_owned();
            Err(DistributionError::Signature(FetchError::Status { host, status: 304 }))
        }
    }
}

const fn wanted<'a>(config: &PolicyUrl, url: &'a Uri, max_bytes: usize) -> Wanted<'a> {
    Wanted { url, accept: "*/*", etag: None, max_bytes, within: config.fetch_timeout }
}
