//! A handshake for people who look for what is wrong: it lets every server through and tells what it presented.
//!
//! Nothing can be sent over such a connection: it is closed before [`inspect`] returns.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::client::{ResolvesClientCert, Resumption};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, Error as TlsError, ProtocolVersion, SignatureScheme};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::HandshakeRefusal;
use super::client::server_name;
use super::handshake::versions;
use super::judge::{Judge, Judged};
use super::verifier::PROVIDER;
use crate::config::TlsVersion;
use crate::identity::ChainUsage;

/// How long a server may take to say that it does not want us, once both ends are through with the handshake.
const PATIENCE: Duration = Duration::from_secs(2);
/// More than a server says before anybody asked it anything.
const MOST_UNASKED: usize = 64 * 1024;

/// What a server did in a handshake.
#[derive(Debug)]
pub struct Inspection {
    /// The certificates that it presented, leaf first; whose key it holds, and nothing else of them is judged.
    pub chain: Vec<CertificateDer<'static>>,
    /// `TLSv1.3` or `TLSv1.2`; none if the handshake was not finished.
    pub tls_version: Option<&'static str>,
    /// The protocol agreed by ALPN.
    pub alpn: Option<String>,
    /// Whether it asked for our certificate: if not, it is no mutual TLS.
    pub asked_for_certificate: bool,
    /// Why it did not let us in; none: it raised no objection.
    pub objection: Option<HandshakeRefusal>,
}

/// Does a handshake, showing `own` if the server asks for a certificate, and closes the connection. `host` is sent as server name if
/// it is one that a certificate could have.
///
/// # Errors
/// The server presented no certificate: it speaks no TLS, refused ours before that, or does not hold its key.
///
/// # Cancel safety
/// Dropping the future drops the stream.
pub async fn inspect<S>(
    stream: S,
    own: Option<CertifiedKey>,
    host: Option<&str>,
    alpn: &[&[u8]],
) -> Result<Inspection, HandshakeRefusal>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let onlooker = Onlooker { seen: Mutex::default(), own: own.map(Arc::new), asked: AtomicBool::new(false) };
    let onlooker = Arc::new(Judged(onlooker));
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&PROVIDER))
        .with_protocol_versions(versions(TlsVersion::V1_2))
        .map_err(|error| HandshakeRefusal::configuration(&error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::<Judged<Onlooker>>::clone(&onlooker))
        .with_client_cert_resolver(Arc::<Judged<Onlooker>>::clone(&onlooker));
    config.resumption = Resumption::disabled();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    let name = host.and_then(|host| ServerName::try_from(host.to_owned()).ok());
    config.enable_sni = name.is_some();
    let connector = TlsConnector::from(Arc::new(config));
    let connected = connector.connect(name.unwrap_or_else(server_name), stream).await;
    let chain = onlooker.0.seen();
    let mut inspection = Inspection {
        chain,
        tls_version: None,
        alpn: None,
        asked_for_certificate: onlooker.0.asked.load(Ordering::Relaxed),
        objection: None,
    };
    match connected {
        Ok(stream) => {
            let (_, session) = stream.get_ref();
            inspection.tls_version = session.protocol_version().and_then(version);
            inspection.alpn = session.alpn_protocol().map(|alpn| String::from_utf8_lossy(alpn).into_owned());
            inspection.objection = objection(stream).await;
        }
        Err(error) => {
            let refusal = HandshakeRefusal::from_io(&error, None);
            if inspection.chain.is_empty() || refusal.rule == "handshake-signature" {
                return Err(refusal);
            }
            inspection.objection = Some(refusal);
        }
    }
    Ok(inspection)
}

/// In TLS 1.3 a server judges us when our end of the handshake is done: its refusal, if any, is the next thing to come.
async fn objection<S: AsyncRead + AsyncWrite + Unpin>(mut stream: TlsStream<S>) -> Option<HandshakeRefusal> {
    // Whoever let us in answers our close_notify by closing too, so there is seldom anything to wait for.
    let _ = timeout(PATIENCE, stream.shutdown()).await;
    let mut unasked = [0; 4_096];
    let mut count = 0;
    let reading = async {
        while count < MOST_UNASKED {
            match stream.read(&mut unasked).await {
                Ok(0) => return None,
                Ok(bytes) => count += bytes,
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return None,
                Err(error) => return Some(HandshakeRefusal::from_io(&error, None)),
            }
        }
        None
    };
    timeout(PATIENCE, reading).await.ok().flatten()
}

const fn version(version: ProtocolVersion) -> Option<&'static str> {
    match version {
        ProtocolVersion::TLSv1_3 => Some("TLSv1.3"),
        ProtocolVersion::TLSv1_2 => Some("TLSv1.2"),
        _ => None,
    }
}

/// Remembers what a server presents, and lets it through.
#[derive(Debug)]
struct Onlooker {
    seen: Mutex<Vec<CertificateDer<'static>>>,
    own: Option<Arc<CertifiedKey>>,
    asked: AtomicBool,
}

impl Onlooker {
    fn seen(&self) -> Vec<CertificateDer<'static>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Judge for Onlooker {
    fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _usage: ChainUsage,
    ) -> Result<(), TlsError> {
        let chain = std::iter::once(leaf).chain(intermediates).map(|der| der.clone().into_owned()).collect();
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = chain;
        Ok(())
    }
}

impl ResolvesClientCert for Judged<Onlooker> {
    fn resolve(&self, _issuers: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.asked.store(true, Ordering::Relaxed);
        self.0.own.clone()
    }

    fn has_certs(&self) -> bool {
        true
    }
}
