//! Servers: what they present in a handshake, and whether they want us.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{ShowArgs, Shown, StartTls, Trust};
use crate::cli::certs::CertsError;
use crate::cli::ours::{OwnIdentity, ours};
use crate::config::{Config, Overrides};
use crate::identity::ChainUsage;
use crate::tls::{Inspection, inspect};

/// Our own side: what we present, and whom we trust.
#[derive(Debug)]
pub(super) struct Ours {
    pub(super) trust: Trust,
    key: Option<CertifiedKey>,
}

impl Ours {
    /// Reads what the options name.
    pub(super) fn of(args: &ShowArgs) -> Result<Self, CertsError> {
        if let Some(path) = &args.config {
            return Self::of_config(path, args.timeout);
        }
        let key = match (&args.certificate, &args.private_key) {
            (Some(certificate), Some(key)) => Some(certified(certificate, key)?),
            _ => None,
        };
        Ok(Self { trust: args.bundle.clone().map_or(Trust::Nothing, Trust::File), key })
    }

    fn of_config(path: &Path, limit: Duration) -> Result<Self, CertsError> {
        let failed = |detail: String| CertsError::Own { detail };
        let config = Config::load(path, &Overrides::default()).map_err(|errors| failed(errors.render(false)))?;
        let OwnIdentity { own, fault, .. } = ours(&config, limit);
        let own = own.ok_or_else(|| failed(fault.map(|(_, message)| message).unwrap_or_default()))?;
        Ok(Self { trust: Trust::Bundles(own.bundles.clone()), key: Some(own.certified_key()) })
    }
}

fn certified(certificate: &Path, key: &Path) -> Result<CertifiedKey, CertsError> {
    let failed = |path: &Path, error: String| CertsError::Own { detail: format!("`{}`: {error}", path.display()) };
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| failed(certificate, error.to_string()))?;
    let private_key = PrivateKeyDer::from_pem_file(key).map_err(|error| failed(key, error.to_string()))?;
    let private_key = any_supported_type(&private_key).map_err(|error| failed(key, error.to_string()))?;
    Ok(CertifiedKey::new(chain, Arc::clone(&private_key)))
}

/// A handshake with `target`, whose host is `host`.
pub(super) fn show(args: &ShowArgs, target: &str, host: &str, ours: &Ours) -> Result<Shown, CertsError> {
    let failed = |detail: String| CertsError::Server { target: target.to_owned(), detail };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let handshake = async {
        let mut stream = TcpStream::connect(target).await.map_err(|error| failed(error.to_string()))?;
        if args.starttls == Some(StartTls::Postgres) {
            ask_postgres(&mut stream).await.map_err(&failed)?;
        }
        let alpn: Vec<&[u8]> = args.alpn.iter().map(String::as_bytes).collect();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let inspected = inspect(stream, ours.key.clone(), Some(host), &alpn).await;
        inspected.map_err(|refusal| failed(format!("`{}`: {refusal}", refusal.rule)))
    };
    let seen = runtime
        .block_on(async { timeout(args.timeout, handshake).await })
        .map_err(|_elapsed| failed(format!("no answer within {} ms", args.timeout.as_millis())))??;
    let mut shown = Shown::new(target, "server");
    facts(&mut shown, &seen, ours.key.is_some());
    shown.judge(&seen.chain, &ours.trust, &[ChainUsage::Server])?;
    Ok(shown)
}

fn facts(shown: &mut Shown, seen: &Inspection, presented: bool) {
    let asks = if seen.asked_for_certificate { "yes" } else { "no: it is no mutual TLS" };
    shown.fact("TLS", seen.tls_version.unwrap_or("the handshake was not finished"));
    if let Some(alpn) = &seen.alpn {
        shown.fact("ALPN", alpn);
    }
    shown.fact("asks for a certificate", asks);
    match &seen.objection {
        None if seen.asked_for_certificate => shown.fact("lets us in", if presented { "yes" } else { "without one" }),
        None => {}
        // Whoever shows nothing wants to see, not to get in.
        Some(refusal) if !presented => shown.fact("lets us in", format!("no: {refusal}")),
        Some(refusal) => shown.problems.push(format!("it does not let us in: `{}`: {refusal}", refusal.rule)),
    }
}

/// SSLRequest (PostgreSQL, "SSL Session Encryption"): `S` begins TLS. Only its one byte is read, so nothing that came before the
/// handshake counts as part of it.
async fn ask_postgres(stream: &mut TcpStream) -> Result<(), String> {
    stream.write_all(&[0, 0, 0, 8, 4, 210, 22, 47]).await.map_err(|error| error.to_string())?;
    match stream.read_u8().await {
        Ok(b'S') => Ok(()),
        Ok(b'N') => Err("`no-tls`: the server does not accept TLS".to_owned()),
        Ok(other) => Err(format!("it does not speak PostgreSQL: it answers SSLRequest with the byte {other:#04x}")),
        Err(error) => Err(format!("it does not speak PostgreSQL: {error}")),
    }
}
