//! TLS ends of the tests. They take any certificate of the other side, so that what is judged is judged by portcullis.

use std::net::SocketAddr;
use std::sync::Arc;

use http::StatusCode;
use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{
    AlertDescription, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme,
    SupportedProtocolVersion,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::{Svid, http1, request, within};

/// A TLS client with or without an SVID.
#[derive(Debug, Clone)]
pub(crate) struct TlsClient {
    svid: Option<Svid>,
    alpn: Vec<Vec<u8>>,
    versions: Vec<&'static SupportedProtocolVersion>,
    provider: CryptoProvider,
    opening: Vec<u8>,
}

impl TlsClient {
    /// Presents `svid`; TLS 1.3 or 1.2, no ALPN.
    pub(crate) fn with(svid: &Svid) -> Self {
        Self { svid: Some(svid.clone()), ..Self::anonymous() }
    }

    /// Presents no certificate.
    pub(crate) fn anonymous() -> Self {
        Self {
            svid: None,
            alpn: vec![],
            versions: rustls::ALL_VERSIONS.to_vec(),
            provider: aws_lc_rs::default_provider(),
            opening: vec![],
        }
    }

    /// Sends these bytes before the handshake: a PROXY header.
    pub(crate) fn announcing(&self, opening: &[u8]) -> Self {
        Self { opening: opening.to_vec(), ..self.clone() }
    }

    pub(crate) fn alpn(mut self, protocols: &[&str]) -> Self {
        self.alpn = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        self
    }

    pub(crate) fn versions(mut self, versions: &[&'static SupportedProtocolVersion]) -> Self {
        self.versions = versions.to_vec();
        self
    }

    /// Changes what the client offers: key exchange groups, cipher suites.
    pub(crate) fn offering(mut self, change: impl FnOnce(&mut CryptoProvider)) -> Self {
        change(&mut self.provider);
        self
    }

    /// Connects and shakes hands. With TLS 1.3 a server that refuses the client's certificate says so only afterwards:
    /// see [`refusal_alert`].
    pub(crate) async fn connect(&self, address: SocketAddr) -> std::io::Result<TlsStream<TcpStream>> {
        let mut tcp = within("a TCP connection", TcpStream::connect(address)).await?;
        tcp.set_nodelay(true)?;
        tcp.write_all(&self.opening).await?;
        self.over(tcp).await
    }

    /// Shakes hands on a connection on which other things were said before.
    pub(crate) async fn over(&self, tcp: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
        handshake(&self.config(), tcp).await
    }

    /// Connects with a configuration of [`config`](Self::config): one that is used again remembers its sessions.
    pub(crate) async fn connect_with(
        config: &Arc<ClientConfig>,
        address: SocketAddr,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let tcp = within("a TCP connection", TcpStream::connect(address)).await?;
        tcp.set_nodelay(true)?;
        handshake(config, tcp).await
    }

    /// What rustls is told. It resumes sessions wherever the server lets it.
    pub(crate) fn config(&self) -> Arc<ClientConfig> {
        let algorithms = self.provider.signature_verification_algorithms;
        let config = ClientConfig::builder_with_provider(Arc::new(self.provider.clone()))
            .with_protocol_versions(&self.versions)
            .expect("the provider has these versions")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyPeer { algorithms }));
        let mut config = match &self.svid {
            None => config.with_no_client_auth(),
            Some(svid) => config.with_client_cert_resolver(Arc::new(Always(certified(svid)))),
        };
        config.alpn_protocols.clone_from(&self.alpn);
        Arc::new(config)
    }

    /// Connects, asks for something, and expects to be served.
    pub(crate) async fn is_let_in(&self, address: SocketAddr, what: &str) {
        let stream = self.connect(address).await.unwrap_or_else(|error| panic!("{what}: {error}"));
        let answer = http1(stream).await.try_send(request("GET", "service.example", "/twin", &[], "")).await;
        let answer = answer.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(answer.status, StatusCode::OK, "{what}");
    }

    /// Connects, and expects to be refused: the alert that the server sent.
    pub(crate) async fn refused_by(&self, address: SocketAddr) -> AlertDescription {
        match self.connect(address).await {
            Err(error) => alert_of(&error),
            Ok(stream) => refusal_alert(stream).await,
        }
    }
}

async fn handshake(config: &Arc<ClientConfig>, tcp: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from("portcullis.invalid").expect("is a DNS name");
    within("a TLS handshake", TlsConnector::from(Arc::clone(config)).connect(name, tcp)).await
}

/// The alert that ends a connection which the client believed established.
pub(crate) async fn refusal_alert(mut stream: TlsStream<TcpStream>) -> AlertDescription {
    let mut byte = [0];
    match within("the server's alert", stream.read(&mut byte)).await {
        Err(error) => alert_of(&error),
        Ok(count) => panic!("the server took the connection: {count} bytes read"),
    }
}

/// The alert that a handshake ended with.
pub(crate) fn alert_of(error: &std::io::Error) -> AlertDescription {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(Error::AlertReceived(alert)) => *alert,
        _ => panic!("the connection ended without an alert: {error:?}"),
    }
}

/// A TLS server that presents `svid` and asks for a client certificate, but takes any, or none.
pub(crate) fn server_config(svid: &Svid, alpn: &[&str]) -> TlsAcceptor {
    let provider = aws_lc_rs::default_provider();
    let algorithms = provider.signature_verification_algorithms;
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(rustls::ALL_VERSIONS)
        .expect("the provider has these versions")
        .with_client_cert_verifier(Arc::new(AnyPeer { algorithms }))
        .with_cert_resolver(Arc::new(Always(certified(svid))));
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}

/// Not checked for a match of certificate and key, as rustls would: a test may want the mismatch.
fn certified(svid: &Svid) -> Arc<CertifiedKey> {
    let key = aws_lc_rs::sign::any_supported_type(&svid.key).expect("is a P-256 key");
    Arc::new(CertifiedKey::new(svid.chain.clone(), key))
}

#[derive(Debug)]
struct Always(Arc<CertifiedKey>);

impl ResolvesClientCert for Always {
    fn resolve(&self, _issuers: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl ResolvesServerCert for Always {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

/// Takes every certificate whose holder has the key.
#[derive(Debug)]
struct AnyPeer {
    algorithms: WebPkiSupportedAlgorithms,
}

/// What verifiers of clients and of servers do alike.
macro_rules! checks_signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls12_signature(message, certificate, signed, &self.algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls13_signature(message, certificate, signed, &self.algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.algorithms.supported_schemes()
        }
    };
}

impl ServerCertVerifier for AnyPeer {
    fn verify_server_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    checks_signatures!();
}

impl ClientCertVerifier for AnyPeer {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn verify_client_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    checks_signatures!();
}
