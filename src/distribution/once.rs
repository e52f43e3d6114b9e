//! One poll: the bundle, then its signature.

use std::time::Duration;

use http::{HeaderValue, Uri};
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

/// What the server has; none if it is what has `etag`. With an error the ETag of the bundle that it is about.
pub(super) async fn poll(
    config: &PolicyUrl,
    etag: Option<&HeaderValue>,
    keys: &BundleKeys,
) -> Result<Option<(Fetched, Option<HeaderValue>)>, (DistributionError, Option<HeaderValue>)> {
    // Made anew each time, so that changed authorities are seen.
    let proof = Proof::Web(PublicTls::new(config.ca.clone(), ALPN));
    let mut looks = 0;
    loop {
        let Some(tar) = bundle(config, etag.filter(|_| looks == 0), &proof).await.map_err(|error| (error, None))?
        else {
            return Ok(None);
        };
        let signature = signature(config, &proof).await.map_err(|error| (error, None))?;
        looks += 1;
        match PolicyBundle::open(&tar.body, &signature.body, keys) {
            Ok(bundle) => {
                let fetched = Fetched { bundle, tar: tar.body.into(), signature: signature.body.into() };
                return Ok(Some((fetched, tar.etag)));
            }
            Err(PolicyBundleError::Signature { .. }) if looks < MAX_LOOKS => sleep(PAUSE).await,
            Err(error) => return Err((error.into(), tar.etag)),
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
