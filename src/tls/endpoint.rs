//! The client's end of a handshake with a server that has to be one workload, judged by bundles that are given.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::Resumption;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, Error as TlsError};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::HandshakeRefusal;
use super::handshake::versions;
use super::judge::{Judge, Judged};
use super::peer::Verified;
use super::public::server_name;
use super::refusal::CertificateRefusal;
use super::verifier::PROVIDER;
use crate::config::TlsVersion;
use crate::identity::{ChainUsage, Clock, SpiffeId, TrustBundleSet};

/// Connects to one workload without showing who we are: bundle endpoints ask nobody (SPIFFE Federation 5.2.2.3).
#[derive(Debug)]
pub struct EndpointTls {
    bundles: Arc<TrustBundleSet>,
    expected: SpiffeId,
    clock: Clock,
    alpn: Vec<Vec<u8>>,
}

impl EndpointTls {
    /// A client of `expected`, which has to stand up to `bundles`.
    #[must_use]
    pub fn new(bundles: TrustBundleSet, expected: SpiffeId, clock: Clock, alpn: &[&[u8]]) -> Self {
        let alpn = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        Self { bundles: Arc::new(bundles), expected, clock, alpn }
    }

    /// Does the handshake; the server is who it has to be when it returns. `host` is told to the server and proves nothing.
    ///
    /// Has no time limit of its own.
    ///
    /// # Errors
    /// The rule that failed.
    ///
    /// # Cancel safety
    /// Dropping the future drops the stream.
    pub async fn connect<S>(&self, stream: S, host: &str) -> Result<TlsStream<S>, HandshakeRefusal>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let name = server_name(host)?;
        let verifier = Arc::new(Judged(EndpointVerifier {
            bundles: Arc::clone(&self.bundles),
            expected: self.expected.clone(),
            clock: self.clock.clone(),
            refused: Mutex::new(None),
        }));
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&PROVIDER))
            .with_protocol_versions(versions(TlsVersion::V1_2))
            .map_err(|error| HandshakeRefusal::configuration(&error))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::<Judged<EndpointVerifier>>::clone(&verifier))
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        config.alpn_protocols.clone_from(&self.alpn);
        let connected = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
        connected.map_err(|error| verifier.0.refused().unwrap_or_else(|| HandshakeRefusal::from_io(&error, None)))
    }
}

/// Of one handshake.
#[derive(Debug)]
struct EndpointVerifier {
    bundles: Arc<TrustBundleSet>,
    expected: SpiffeId,
    clock: Clock,
    refused: Mutex<Option<HandshakeRefusal>>,
}

impl EndpointVerifier {
    fn refused(&self) -> Option<HandshakeRefusal> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        usage: ChainUsage,
    ) -> Result<(), CertificateRefusal> {
        let Verified { svid, .. } = Verified::by(&self.bundles, (leaf, intermediates), usage, self.clock.now())?;
        match *svid.id() == self.expected {
            true => Ok(()),
            false => Err(CertificateRefusal::UnexpectedPeer { id: svid.id().clone() }),
        }
    }
}

impl Judge for EndpointVerifier {
    fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        usage: ChainUsage,
    ) -> Result<(), TlsError> {
        self.verify(leaf, intermediates, usage).map_err(|refusal| {
            self.refused.lock().unwrap_or_else(PoisonError::into_inner).replace(refusal.of(leaf));
            TlsError::InvalidCertificate(refusal.alert())
        })
    }
}
