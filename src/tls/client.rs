//! The client's end of a handshake.

use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::pki_types::{IpAddr, Ipv4Addr, ServerName};
use rustls::sign::SingleCertAndKey;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::handshake::{Configured, MAX_FRAGMENT, prove, versions};
use super::verifier::{PROVIDER, SvidVerifier};
use super::{HandshakeRefusal, Peer, Stay};
use crate::config::{PeerMatcher, TlsVersion};
use crate::identity::{Clock, X509Generation, X509Source};

/// Connects to workloads that prove to be one of those expected.
#[derive(Debug)]
pub struct ClientTls {
    configured: Configured<ClientConfig>,
    oldest: TlsVersion,
    alpn: Vec<Vec<u8>>,
    expected: PeerMatcher,
}

impl ClientTls {
    /// A client with the identity that `source` has at each handshake.
    ///
    /// `alpn` is what is offered, the preferred protocol first.
    #[must_use]
    pub fn new(source: Arc<dyn X509Source>, oldest: TlsVersion, alpn: &[&[u8]], expected: PeerMatcher) -> Self {
        Self::with_clock(source, oldest, alpn, expected, Clock::system())
    }

    /// The same, judging validity by `clock`.
    #[must_use]
    pub fn with_clock(
        source: Arc<dyn X509Source>,
        oldest: TlsVersion,
        alpn: &[&[u8]],
        expected: PeerMatcher,
        clock: Clock,
    ) -> Self {
        let alpn = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        Self { configured: Configured::new(source, clock), oldest, alpn, expected }
    }

    /// Does the handshake; the peer is proved, and one of those expected, when it returns.
    ///
    /// In TLS 1.3 the server judges us only after that: its refusal comes with the first read.
    /// Has no time limit of its own.
    ///
    /// # Errors
    /// The rule that failed. The peer has been sent the fitting alert, and the stream is closed.
    ///
    /// # Cancel safety
    /// Dropping the future drops the stream.
    pub async fn connect<S>(&self, stream: S) -> Result<(TlsStream<S>, Arc<Peer>), HandshakeRefusal>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let built = self.configured.current(|generation| self.build(generation))?;
        let connector = TlsConnector::from(Arc::clone(&built.config));
        let version = |stream: &TlsStream<S>| stream.get_ref().1.protocol_version();
        prove(connector.connect(server_name(), stream).into_fallible(), version, &built.generation).await
    }

    /// The number of the generation since which our SVID has been the one that the next handshake shows; 0 while there is none.
    #[must_use]
    pub fn own_since(&self) -> u64 {
        self.configured.generation().map_or(0, |generation| generation.own_since)
    }

    /// How long the connection to a peer may stay: no longer than either certificate, by which both ends judge it. `outlive` is what
    /// it may outlive them by.
    #[must_use]
    pub fn stay(&self, peer: &Arc<Peer>, outlive: Duration) -> Stay {
        Stay::new(Arc::clone(peer), Arc::clone(self.configured.source()), self.configured.clock(), outlive).or_our_own()
    }

    fn build(&self, generation: Arc<X509Generation>) -> Result<ClientConfig, rustls::Error> {
        let key = generation.certified_key();
        let clock = self.configured.clock().clone();
        let verifier = SvidVerifier::new(generation, clock, Some(self.expected.clone()));
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&PROVIDER))
            .with_protocol_versions(versions(self.oldest))?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
        // rustls does not ask the verifier on a resumed session.
        config.resumption = Resumption::disabled();
        config.enable_sni = false;
        config.alpn_protocols.clone_from(&self.alpn);
        config.max_fragment_size = MAX_FRAGMENT;
        Ok(config)
    }
}

/// rustls wants a name; ours is neither sent nor compared.
pub(super) fn server_name() -> ServerName<'static> {
    ServerName::IpAddress(IpAddr::V4(Ipv4Addr::from([127, 0, 0, 1])))
}
