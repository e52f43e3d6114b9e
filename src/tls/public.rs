//! The client's end of a handshake with a server that has no SPIFFE identity but a certificate for its host name.

use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::digest;
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, Error as TlsError, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use x509_parser::prelude::FromDer as _;

use super::HandshakeRefusal;
use super::handshake::{MAX_FRAGMENT, versions};
use super::reread::Reread;
use super::verifier::PROVIDER;
use crate::config::{TlsVersion, UpstreamCa};

/// Connects to servers whose certificate an authority vouches for. We show no certificate.
#[derive(Debug)]
pub struct PublicTls {
    ca: UpstreamCa,
    alpn: Vec<Vec<u8>>,
    configured: Reread<ClientConfig>,
}

impl PublicTls {
    /// A client that trusts `ca`, which is read at the first handshake, and again when its file changes.
    #[must_use]
    pub fn new(ca: UpstreamCa, alpn: &[&[u8]]) -> Self {
        let alpn = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        let file = match &ca {
            UpstreamCa::System => None,
            UpstreamCa::File(path) => Some(path.clone()),
        };
        Self { ca, alpn, configured: Reread::new(file.into_iter().collect()) }
    }

    /// Does the handshake; the server's certificate names `host` when it returns.
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
        let config = self.configured().await?;
        let name = server_name(host)?;
        let connected = TlsConnector::from(config).connect(name, stream).await;
        connected.map_err(|error| match error.get_ref().and_then(|cause| cause.downcast_ref()) {
            Some(TlsError::InvalidCertificate(cause)) => {
                refusal("server-certificate", format!("the server's certificate is not trusted: {cause}"))
            }
            _ => HandshakeRefusal::from_io(&error, None),
        })
    }

    async fn configured(&self) -> Result<Arc<ClientConfig>, HandshakeRefusal> {
        self.configured.current(unreadable, |files| self.build(files)).await
    }

    fn build(&self, files: &[Vec<u8>]) -> Result<ClientConfig, HandshakeRefusal> {
        let (certificates, named) = match (&self.ca, files) {
            (UpstreamCa::File(path), [pem]) => {
                let certificates = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
                (certificates.map_err(|error| unreadable(path, error.to_string()))?, format!("`{}`", path.display()))
            }
            _ => (rustls_native_certs::load_native_certs().certs, "the system".to_owned()),
        };
        let mut roots = RootCertStore::empty();
        if roots.add_parsable_certificates(certificates).0 == 0 {
            let message = format!("{named} has no certificate authority that can be used");
            return Err(refusal("no-authority", message));
        }
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&PROVIDER))
            .with_protocol_versions(versions(TlsVersion::V1_2))
            .map_err(|error| HandshakeRefusal::configuration(&error))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        // rustls does not ask the verifier on a resumed session: a certificate that has expired since would be good still.
        config.resumption = Resumption::disabled();
        config.alpn_protocols.clone_from(&self.alpn);
        config.max_fragment_size = MAX_FRAGMENT;
        Ok(config)
    }
}

fn unreadable(path: &Path, cause: String) -> HandshakeRefusal {
    refusal("no-authority", format!("authorities `{}` cannot be read: {cause}", path.display()))
}

/// A host's name or address as certificates have it.
pub(super) fn server_name(host: &str) -> Result<ServerName<'static>, HandshakeRefusal> {
    let host = host.strip_suffix('.').unwrap_or(host);
    ServerName::try_from(host.to_owned())
        .map_err(|_| refusal("host-name", format!("`{host}` is no name that a certificate could have")))
}

fn refusal(rule: &'static str, message: String) -> HandshakeRefusal {
    HandshakeRefusal { rule, message, peer_san: None }
}

/// The server's certificate as SCRAM binds a login to it: `tls-server-end-point`. None if its signature algorithm has no hash of its own.
///
/// # Source
/// RFC 5929, 4.1: the hash of the certificate's signature algorithm, but SHA-256 for MD5 and SHA-1.
#[must_use]
pub fn server_end_point<S>(stream: &TlsStream<S>) -> Option<Vec<u8>> {
    let certificate = stream.get_ref().1.peer_certificates()?.first()?;
    end_point(certificate)
}

fn end_point(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(certificate).ok()?;
    let algorithm = match parsed.signature_algorithm.algorithm.to_id_string().as_str() {
        // md5, sha1 and sha256 WithRSAEncryption (RFC 8017, A.2.4), ecdsa-with-SHA1 and -SHA256 (RFC 5758, 3.2).
        "1.2.840.113549.1.1.4" | "1.2.840.113549.1.1.5" | "1.2.840.113549.1.1.11" => &digest::SHA256,
        "1.2.840.10045.4.1" | "1.2.840.10045.4.3.2" => &digest::SHA256,
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" => &digest::SHA384,
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" => &digest::SHA512,
        _ => return None,
    };
    Some(digest::digest(algorithm, certificate).as_ref().to_vec())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use rcgen::{CertificateParams, KeyPair};
    use rustls::ServerConfig;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
    use tokio_rustls::TlsAcceptor;

    use super::*;

    /// A server for `db.example`, and a file with the authority that vouches for it.
    fn server() -> (TlsAcceptor, tempfile::NamedTempFile, CertificateDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["db.example".to_owned()]).unwrap().self_signed(&key).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), certificate.pem()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::clone(&PROVIDER))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key.serialize_der().try_into().unwrap())
            .unwrap();
        (TlsAcceptor::from(Arc::new(config)), file, certificate.der().clone())
    }

    async fn connect(
        client: &PublicTls,
        acceptor: TlsAcceptor,
        host: &str,
    ) -> Result<Option<Vec<u8>>, HandshakeRefusal> {
        let (near, far) = duplex(64 * 1024);
        let serving = tokio::spawn(async move {
            let mut stream = acceptor.accept(far).await?;
            stream.write_all(b"hello").await?;
            stream.flush().await
        });
        let mut stream = client.connect(near, host).await?;
        let mut hello = [0; 5];
        stream.read_exact(&mut hello).await.unwrap();
        serving.await.unwrap().unwrap();
        Ok(server_end_point(&stream))
    }

    #[tokio::test]
    async fn a_server_is_trusted_by_its_authority_and_its_host_name_only() {
        let (acceptor, file, certificate) = server();
        let client = PublicTls::new(UpstreamCa::File(file.path().into()), &[]);
        let end_point = connect(&client, acceptor.clone(), "db.example").await.unwrap();
        assert_eq!(end_point.as_deref(), Some(digest::digest(&digest::SHA256, &certificate).as_ref()));
        let refused = connect(&client, acceptor.clone(), "other.example").await.unwrap_err();
        assert_eq!(refused.rule, "server-certificate");
        assert!(refused.message.contains("not valid for name"), "{refused}");
        let (_, other, _) = server();
        let client = PublicTls::new(UpstreamCa::File(other.path().into()), &[]);
        assert_eq!(connect(&client, acceptor, "db.example").await.unwrap_err().rule, "server-certificate");
    }

    #[tokio::test]
    async fn every_handshake_judges_the_certificate_anew() {
        let (acceptor, file, _) = server();
        let client = PublicTls::new(UpstreamCa::File(file.path().into()), &[]);
        for _ in 0..2 {
            let (near, far) = duplex(64 * 1024);
            let acceptor = acceptor.clone();
            let serving = tokio::spawn(async move {
                let mut stream = acceptor.accept(far).await?;
                stream.write_all(b"hello").await?;
                stream.flush().await
            });
            let mut stream = client.connect(near, "db.example").await.unwrap();
            // Tickets for a resumption come with the first bytes.
            stream.read_exact(&mut [0; 5]).await.unwrap();
            serving.await.unwrap().unwrap();
            assert_ne!(stream.get_ref().1.handshake_kind(), Some(rustls::HandshakeKind::Resumed));
        }
    }

    #[tokio::test]
    async fn another_authority_in_the_file_is_trusted_soon_and_the_old_one_no_more() {
        let (first, file, _) = server();
        let client = PublicTls::new(UpstreamCa::File(file.path().into()), &[]);
        assert!(connect(&client, first.clone(), "db.example").await.is_ok());
        let (second, other, _) = server();
        std::fs::copy(other.path(), file.path()).unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while connect(&client, second.clone(), "db.example").await.is_err() {
            assert!(std::time::Instant::now() < deadline, "the new authority is never trusted");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        assert!(connect(&client, first, "db.example").await.is_err(), "the old one is not trusted any more");
    }

    #[tokio::test]
    async fn a_file_without_an_authority_is_refused_by_name() {
        let (acceptor, _, _) = server();
        let client = PublicTls::new(UpstreamCa::File(PathBuf::from("/nonexistent/ca.pem")), &[]);
        let refused = connect(&client, acceptor, "db.example").await.unwrap_err();
        assert_eq!(refused.rule, "no-authority");
        assert!(refused.message.contains("/nonexistent/ca.pem"), "{refused}");
    }
}
