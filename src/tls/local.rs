//! The server's end of a handshake with a local client that insists on TLS. Nobody is proved by it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::HandshakeRefusal;
use super::handshake::{MAX_FRAGMENT, versions};
use super::reread::Reread;
use super::verifier::PROVIDER;
use crate::config::TlsVersion;

/// Accepts local clients with a certificate that they trust.
#[derive(Debug)]
pub struct LocalTls {
    alpn: Vec<Vec<u8>>,
    configured: Reread<ServerConfig>,
}

impl LocalTls {
    /// A server with a chain and a key in PEM files, which are read at the first handshake and again when they change.
    #[must_use]
    pub fn new(chain: PathBuf, key: PathBuf, alpn: &[&[u8]]) -> Self {
        let alpn = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        Self { alpn, configured: Reread::new(vec![chain, key]) }
    }

    /// Does the handshake. Has no time limit of its own.
    ///
    /// # Errors
    /// The rule that failed.
    ///
    /// # Cancel safety
    /// Dropping the future drops the stream.
    pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S) -> Result<TlsStream<S>, HandshakeRefusal> {
        let acceptor = TlsAcceptor::from(self.configured().await?);
        acceptor.accept(stream).await.map_err(|error| HandshakeRefusal::from_io(&error, None))
    }

    async fn configured(&self) -> Result<Arc<ServerConfig>, HandshakeRefusal> {
        let unreadable = |path: &Path, cause: String| unusable(&format!("`{}`: {cause}", path.display()));
        self.configured.current(unreadable, |files| self.build(files)).await
    }

    fn build(&self, files: &[Vec<u8>]) -> Result<ServerConfig, HandshakeRefusal> {
        let [chain, key] = files else { return Err(unusable("it is not there")) };
        let chain = CertificateDer::pem_slice_iter(chain)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| unusable(&error.to_string()))?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| unusable(&format!("its key: {error}")))?;
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&PROVIDER))
            .with_protocol_versions(versions(TlsVersion::V1_2))
            .map_err(|error| HandshakeRefusal::configuration(&error))?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(|error| unusable(&error.to_string()))?;
        config.alpn_protocols.clone_from(&self.alpn);
        config.max_fragment_size = MAX_FRAGMENT;
        Ok(config)
    }
}

fn unusable(cause: &str) -> HandshakeRefusal {
    let message = format!("the local certificate cannot be used: {cause}");
    HandshakeRefusal { rule: "local-certificate", message, peer_san: None }
}
