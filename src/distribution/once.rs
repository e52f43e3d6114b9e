//! One poll: the signature, and the bundle if that is another than before.

use std::time::Duration;

use http::{HeaderValue, Uri};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

use super::DistributionError;
use super::keep::Fetched;
use crate::config::PolicyUrl;
use crate::fetch::{ALPN, Answer, Document, FetchError, Proof, Wanted, fetch};
use crate::policy::{BundleKeys, MAX_BUNDLE_BYTES, MAX_SIGNATURE_BYTES, PolicyBundle, PolicyBundleError};
use crate::tls::PublicTls;

/// A poll as a whole has as long as a bundle and a signature may take together, however often it looks.
const FETCHES: u32 = 2;
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
    let server = Server::of(config);
    let mut looks = 0;
    loop {
        let signature: Vec<u8> = match server.signature().await {
            Ok(document) => document.body.into(),
            Err(error) => {
                // Where there is no bundle either, that is what is wrong.
                let etag = known.and_then(|known| known.etag.as_ref());
                let bundle = server.bundle(etag).await;
                return Err((bundle.err().unwrap_or(error), None));
            }
        };
        let same = known.filter(|known| looks == 0 && known.signature == signature);
        let etag = same.and_then(|known| known.etag.as_ref());
        let Some(tar) = server.bundle(etag).await.map_err(|error| (error, None))? else {
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
            Err(PolicyBundleError::Signature { .. }) if looks < MAX_LOOKS && server.left() > PAUSE => {
                sleep(PAUSE).await
            }
            Err(error) => return Err((error.into(), Some(version))),
        }
    }
}

/// Who is asked in one poll.
struct Server<'a> {
    config: &'a PolicyUrl,
    proof: Proof,
    ends: Instant,
}

impl<'a> Server<'a> {
    fn of(config: &'a PolicyUrl) -> Self {
        Self {
            config,
            // Made anew each time, so that changed authorities are seen.
            proof: Proof::Web(PublicTls::new(config.ca.clone(), ALPN)),
            ends: Instant::now() + config.fetch_timeout * FETCHES,
        }
    }

    fn left(&self) -> Duration {
        self.ends.saturating_duration_since(Instant::now())
    }

    async fn bundle(&self, etag: Option<&HeaderValue>) -> Result<Option<Document>, DistributionError> {
        match self.fetch(&self.config.url, etag, MAX_BUNDLE_BYTES).await.map_err(DistributionError::Bundle)? {
            Answer::Document(document) => Ok(Some(document)),
            Answer::NotModified => Ok(None),
        }
    }

    async fn signature(&self) -> Result<Document, DistributionError> {
        let url = &self.config.signature_url;
        match self.fetch(url, None, MAX_SIGNATURE_BYTES).await.map_err(DistributionError::Signature)? {
            Answer::Document(document) => Ok(document),
            // Nobody has asked for this.
            Answer::NotModified => Err(DistributionError::Signature(not_asked_for(url))),
        }
    }

    async fn fetch(&self, url: &Uri, etag: Option<&HeaderValue>, max_bytes: usize) -> Result<Answer, FetchError> {
        let left = self.left();
        let within = self.config.fetch_timeout.min(left);
        let fetched = fetch(&Wanted { url, accept: "*/*", etag, max_bytes, within }, &self.proof).await;
        fetched.map_err(|error| match error {
            FetchError::Timeout { .. } if within == left => {
                FetchError::Timeout { limit: self.config.fetch_timeout * FETCHES }
            }
            other => other,
        })
    }
}

/// What a server has done that answers 304 to who has named no ETag.
pub(super) fn not_asked_for(url: &Uri) -> FetchError {
    FetchError::Status { host: url.host().unwrap_or_default().to_owned(), status: 304 }
}
