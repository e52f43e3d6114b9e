//! The server's end of a handshake with a local client that insists on TLS. Nobody is proved by it.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::HandshakeRefusal;
use super::handshake::versions;
use super::verifier::PROVIDER;
use crate::config::TlsVersion;

/// Accepts local clients with a certificate that they trust.
#[derive(Debug)]
pub struct LocalTls {
    chain: PathBuf,
    key: PathBuf,
    alpn: Vec<Vec<u8>>,
    configured: OnceLock<Arc<ServerConfig>>,
}

impl LocalTls {
    /// A server with a chain and a key in PEM files, which are read at the first handshake.
    #[must_use]
    pub fn new(chain: PathBuf, key: PathBuf, alpn: &[&[u8]]) -> Self {
        let alpn = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        Self { chain, key, alpn, configured: OnceLock::new() }
    }

    /// Does the handshake. Has no time limit of its own.
    ///
    /// # Errors
    /// The rule that failed.
    ///
    /// # Cancel safety
    /// Dropping the future drops the stream.
    pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S) -> Result<TlsStream<S>, HandshakeRefusal> {
        let acceptor = TlsAcceptor::from(self.configured()?);
        acceptor.accept(stream).await.map_err(|error| HandshakeRefusal::from_io(&error, None))
    }

    fn configured(&self) -> Result<Arc<ServerConfig>, HandshakeRefusal> {
        if let Some(config) = self.configured.get() {
            return Ok(Arc::clone(config));
        }
        let unusable = |path: &PathBuf, cause: String| HandshakeRefusal {
            rule: "local-certificate",
            message: format!("local certificate `{}` cannot be used: {cause}", path.display()),
            peer_san: None,
        };
        let chain = CertificateDer::pem_file_iter(&self.chain)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| unusable(&self.chain, error.to_string()))?;
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|error| unusable(&self.key, error.to_string()))?;
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&PROVIDER))
            .with_protocol_versions(versions(TlsVersion::V1_2))
            .map_err(|error| HandshakeRefusal::configuration(&error))?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(|error| unusable(&self.chain, error.to_string()))?;
        config.alpn_protocols.clone_from(&self.alpn);
        Ok(Arc::clone(self.configured.get_or_init(|| Arc::new(config))))
    }
}
