//! Real handshakes in memory: what the peer sees on the wire, what we say of it.

mod clients;
mod life;
mod servers;
mod workloads;

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{AlertDescription as Alert, ClientConfig, Error as TlsError, HandshakeKind, NamedGroup, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::sync::watch;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::handshake::versions;
use super::judge::{Judge, Judged};
use super::verifier::PROVIDER;
use super::*;
use crate::config::{PeerMatcher, TlsVersion};
use crate::identity::dev_ca::{DevCa, ExtendedKeyUsagePurpose, KeyUsagePurpose, Minted, San, SvidParams};
use crate::identity::{
    ChainUsage, Clock, SpiffeId, SpiffeIdPattern, TrustBundle, TrustBundleSet, TrustDomain, X509Generation, X509Source,
    X509Svid,
};

const HOUR: Duration = Duration::from_secs(3600);
const ALPN: &[&[u8]] = &[b"h2", b"http/1.1"];

/// A source that a test changes by hand.
#[derive(Debug)]
struct Source {
    current: Mutex<Option<Arc<X509Generation>>>,
    changed: watch::Sender<u64>,
}

impl Source {
    fn new(generation: Option<X509Generation>) -> Arc<Self> {
        let (changed, _) = watch::channel(0);
        Arc::new(Self { current: Mutex::new(generation.map(Arc::new)), changed })
    }

    fn swap(&self, generation: X509Generation) {
        let number = generation.number;
        *self.current.lock().unwrap() = Some(Arc::new(generation));
        self.changed.send_replace(number);
    }
}

impl X509Source for Source {
    fn current(&self) -> Option<Arc<X509Generation>> {
        self.current.lock().unwrap().clone()
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

/// Two trust domains that federate, and a third that is unknown to both.
struct World {
    prod: DevCa,
    partner: DevCa,
    stranger: DevCa,
}

fn domain(name: &str) -> TrustDomain {
    TrustDomain::parse(name).unwrap()
}

fn id(uri: &str) -> SpiffeId {
    SpiffeId::parse(uri).unwrap()
}

fn leaf(uri: &str) -> SvidParams {
    SvidParams::leaf(&id(uri), HOUR, SystemTime::now())
}

impl World {
    fn new() -> Self {
        // All three authorities bear the same name, as authorities made with one tool's defaults do.
        let authority = |name: &str| {
            let mut params = SvidParams::signing(&domain(name), HOUR, SystemTime::now());
            params.common_name = Some("CA".into());
            DevCa::with_params(&params).unwrap()
        };
        Self { prod: authority("prod.test"), partner: authority("partner.test"), stranger: authority("prod.test") }
    }

    fn bundles(&self) -> TrustBundleSet {
        let bundle = |name: &str, ca: &DevCa| TrustBundle::from_certificates(domain(name), &[ca.certificate().clone()]);
        TrustBundleSet::new([bundle("prod.test", &self.prod), bundle("partner.test", &self.partner)]).unwrap()
    }

    fn generation(&self, number: u64, minted: &Minted) -> X509Generation {
        let now = SystemTime::now();
        X509Generation::new(number, minted.chain.clone(), minted.key().unwrap(), self.bundles(), now).unwrap()
    }

    fn source(&self, uri: &str) -> Arc<Source> {
        Source::new(Some(self.generation(1, &self.prod.issue_with(&leaf(uri)).unwrap())))
    }

    fn server(&self) -> ServerTls {
        ServerTls::new(self.source("spiffe://prod.test/lake"), TlsVersion::V1_3, ALPN)
    }

    fn client(&self, uri: &str, expected: PeerMatcher) -> ClientTls {
        ClientTls::new(self.source(uri), TlsVersion::V1_3, ALPN, expected)
    }
}

fn exactly(uri: &str) -> PeerMatcher {
    PeerMatcher::OneOf(vec![SpiffeIdPattern::Exactly(id(uri))])
}

/// A peer that is not ours: shows whatever certificate it is given and believes everybody.
#[derive(Debug)]
struct Gullible;

impl Judge for Gullible {
    fn judge(&self, _: &CertificateDer<'_>, _: &[CertificateDer<'_>], _: ChainUsage) -> Result<(), TlsError> {
        Ok(())
    }
}

fn foreign_client(certificate: Option<&Minted>, version: TlsVersion) -> ClientConfig {
    let versions = match version {
        TlsVersion::V1_2 => &[&rustls::version::TLS12],
        TlsVersion::V1_3 => versions(TlsVersion::V1_3),
    };
    let builder = ClientConfig::builder_with_provider(Arc::clone(&PROVIDER))
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Judged(Gullible)));
    let mut config = match certificate {
        Some(minted) => {
            let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&minted.key().unwrap()).unwrap();
            let key = rustls::sign::CertifiedKey::new(minted.chain.clone(), key);
            builder.with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(key)))
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

fn foreign_server(minted: &Minted) -> ServerConfig {
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&minted.key().unwrap()).unwrap();
    let key = rustls::sign::CertifiedKey::new(minted.chain.clone(), key);
    ServerConfig::builder_with_provider(Arc::clone(&PROVIDER))
        .with_protocol_versions(versions(TlsVersion::V1_3))
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(key)))
}

fn alert_in(error: &std::io::Error) -> Option<Alert> {
    match error.get_ref()?.downcast_ref::<TlsError>()? {
        TlsError::AlertReceived(alert) => Some(*alert),
        _ => None,
    }
}

/// Connects and reads; what alert the server answers with.
async fn alert_seen(stream: DuplexStream, config: ClientConfig) -> Option<Alert> {
    let name = ServerName::try_from("ignored.test").unwrap();
    let mut stream = match TlsConnector::from(Arc::new(config)).connect(name, stream).await {
        Ok(stream) => stream,
        Err(error) => return alert_in(&error),
    };
    // In TLS 1.3 the client may send at once, and the server's verdict comes with the first read.
    let _ = stream.write_all(b"early words").await;
    match stream.read(&mut [0; 16]).await {
        Ok(_) => None,
        Err(error) => alert_in(&error),
    }
}

/// The outcome of a foreign client at our server: what it saw, what we say.
async fn refused(server: &ServerTls, config: ClientConfig) -> (Option<Alert>, HandshakeRefusal) {
    let (near, far) = duplex(64 * 1024);
    let (accepted, alert) = tokio::join!(server.accept(near), alert_seen(far, config));
    (alert, accepted.map(|(_, peer)| peer).expect_err("the handshake should have been refused"))
}
