//! The server's end of a handshake.

use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::server::NoServerSessionStorage;
use rustls::sign::SingleCertAndKey;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::handshake::{Configured, MAX_FRAGMENT, prove, turn_away, versions};
use super::verifier::{PROVIDER, SvidVerifier};
use super::{HandshakeRefusal, Peer, Stay};
use crate::config::TlsVersion;
use crate::identity::{Clock, X509Generation, X509Source};

/// Accepts connections from workloads that prove who they are.
#[derive(Debug)]
pub struct ServerTls {
    configured: Configured<ServerConfig>,
    oldest: TlsVersion,
    alpn: Vec<Vec<u8>>,
}

impl ServerTls {
    /// A server with the identity that `source` has at each handshake.
    ///
    /// `alpn` is what is offered, the preferred protocol first.
    #[must_use]
    pub fn new(source: Arc<dyn X509Source>, oldest: TlsVersion, alpn: &[&[u8]]) -> Self {
        Self::with_clock(source, oldest, alpn, Clock::system())
    }

    /// The same, judging validity by `clock`.
    #[must_use]
    pub fn with_clock(source: Arc<dyn X509Source>, oldest: TlsVersion, alpn: &[&[u8]], clock: Clock) -> Self {
        let alpn = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        Self { configured: Configured::new(source, clock), oldest, alpn }
    }

    /// Does the handshake; the peer is proved when it returns.
    ///
    /// Has no time limit of its own.
    ///
    /// # Errors
    /// The rule that failed. The peer has been sent the fitting alert, and the stream is closed.
    ///
    /// # Cancel safety
    /// Dropping the future drops the stream.
    pub async fn accept<S>(&self, stream: S) -> Result<(TlsStream<S>, Arc<Peer>), HandshakeRefusal>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let built = match self.configured.current(|generation| self.build(generation)) {
            Ok(built) => built,
            Err(refusal) => {
                turn_away(stream).await;
                return Err(refusal);
            }
        };
        let acceptor = TlsAcceptor::from(Arc::clone(&built.config));
        let version = |stream: &TlsStream<S>| stream.get_ref().1.protocol_version();
        prove(acceptor.accept(stream).into_fallible(), version, &built.generation).await
    }

    /// How long a peer of ours may stay. `outlive` is what its connection may outlive its certificate by.
    #[must_use]
    pub fn stay(&self, peer: &Arc<Peer>, outlive: Duration) -> Stay {
        Stay::new(Arc::clone(peer), Arc::clone(self.configured.source()), self.configured.clock(), outlive)
    }

    fn build(&self, generation: Arc<X509Generation>) -> Result<ServerConfig, rustls::Error> {
        let key = generation.certified_key();
        let verifier = SvidVerifier::new(generation, self.configured.clock().clone(), None);
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&PROVIDER))
            .with_protocol_versions(versions(self.oldest))?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
        // rustls does not ask the verifier on a resumed session, so a withdrawn peer would come back in by one.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.alpn_protocols.clone_from(&self.alpn);
        config.max_fragment_size = MAX_FRAGMENT;
        Ok(config)
    }
}
