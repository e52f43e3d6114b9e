//! `certs serve`: a SPIFFE Workload API for machines without SPIRE.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use clap::Args;
use rustls::pki_types::CertificateDer;
use tokio::runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use super::folder::{FileSet, Folder, Readers, read};
use super::lifetime::{moment, parse_lifetime};
use super::mint::{List, authority};
use super::{CertsError, trust_domain, workload_id};
use crate::config::ListenAddress;
use crate::identity::dev_ca::{DevCa, JwtSigner};
use crate::identity::workload_api::{
    Identities, Offer, WorkloadApiAddress, WorkloadApiServer, X509SvidMessage, X509SvidResponse,
};
use crate::identity::{SpiffeId, TrustDomain};
use crate::listener::{Acceptor, Bound};

/// Until the next attempt when SVIDs cannot be minted, for example because somebody is replacing the CA.
const MINT_AGAIN: Duration = Duration::from_secs(5);

/// `portcullis certs serve`.
#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    /// Give every caller an SVID of this workload; may be given several times, the first one is the default identity. With
    /// `HINT=` before it callers can choose it by that hint.
    #[arg(long = "spiffe-id", value_name = "[HINT=]SPIFFE_ID", value_parser = hinted, required_unless_present = "all")]
    ids: Vec<Hinted>,
    /// Give every caller an SVID of each workload that FOLDER/identities.toml lists.
    #[arg(long, conflicts_with = "ids")]
    all: bool,
    /// Where the CAs are.
    #[arg(long, env = "PORTCULLIS_CERTS_DIR", default_value = "certs-dev", value_name = "FOLDER")]
    dir: PathBuf,
    /// Where to listen: `unix:PATH`, or `tcp:IP:PORT` on a loopback address; FOLDER/workload.sock unless given.
    #[arg(long, env = "SPIFFE_ENDPOINT_SOCKET", value_name = "ADDRESS")]
    listen: Option<String>,
    /// Who may connect to the Unix socket, in octal.
    #[arg(long, default_value = "600", value_name = "MODE", value_parser = mode)]
    socket_mode: u32,
    /// Give callers the bundle of this trust domain as well; may be given several times.
    #[arg(long = "federates-with", value_name = "TRUST_DOMAIN", value_parser = trust_domain)]
    federates_with: Vec<TrustDomain>,
    /// How long an SVID is valid; a new one is pushed at half of it.
    #[arg(long, default_value = "1h", value_name = "DURATION", value_parser = parse_lifetime)]
    lifetime: Duration,
    /// How long a JWT-SVID is valid.
    #[arg(long, default_value = "5m", value_name = "DURATION", value_parser = parse_lifetime)]
    jwt_lifetime: Duration,
}

/// A workload, and the hint by which callers choose it; empty if there is none.
#[derive(Debug, Clone)]
struct Hinted {
    hint: String,
    id: SpiffeId,
}

fn hinted(text: &str) -> Result<Hinted, String> {
    // A SPIFFE ID has no `=`.
    let (hint, id) = text.split_once('=').unwrap_or(("", text));
    Ok(Hinted { hint: hint.to_owned(), id: workload_id(id)? })
}

fn mode(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777);
    mode.ok_or_else(|| format!("`{text}` is not a mode such as `600` or `666`"))
}

/// Serves until SIGTERM or SIGINT; SIGHUP mints anew at once.
pub(super) fn serve(args: &ServeArgs, out: &mut dyn Write) -> Result<(), CertsError> {
    let agent = Agent::new(args)?;
    let (offer, expiry) = agent.offer()?;
    let (address, bound) = agent.bind()?;
    let (offers, offered) = watch::channel(offer);
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let served = runtime.block_on(async {
        let mut signals = Signals::new()?;
        // As the standard writes it (Workload Endpoint 4), which every client reads.
        let uri = address.to_string().replacen("unix:/", "unix:///", 1);
        writeln!(out, "SPIFFE_ENDPOINT_SOCKET={uri}")?;
        agent.report(expiry, out)?;
        let server = WorkloadApiServer::new(offered);
        let serving = async {
            match bound.acceptor()? {
                Acceptor::Tcp(listener) => server.serve_tcp(listener).await,
                Acceptor::Unix { listener, .. } => server.serve_unix(listener).await,
            }
            io::Result::Ok(())
        };
        tokio::select! {
            served = serving => served?,
            rotated = agent.rotate(&offers, &mut signals.hangup, out) => rotated?,
            _ = signals.terminate.recv() => {}
            _ = signals.interrupt.recv() => {}
        }
        Ok(())
    });
    if let WorkloadApiAddress::Unix(path) = address {
        let _ = std::fs::remove_file(path);
    }
    served
}

struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }
}

/// What is served, and from where.
struct Agent<'a> {
    args: &'a ServeArgs,
    identities: Vec<Hinted>,
}

impl<'a> Agent<'a> {
    fn new(args: &'a ServeArgs) -> Result<Self, CertsError> {
        let identities = if args.all { List::read(&args.dir.join("identities.toml"))?.1 } else { Vec::new() };
        let listed = identities.into_iter().map(|(id, hint)| Hinted { hint, id });
        let identities: Vec<_> = args.ids.iter().cloned().chain(listed).collect();
        let mut hints: Vec<&str> =
            identities.iter().map(|of| of.hint.as_str()).filter(|hint| !hint.is_empty()).collect();
        hints.sort_unstable();
        if let Some([twice, _]) = hints.array_windows().find(|[one, other]| one == other) {
            // Workload API 5.2.1: a hint is unique among the SVIDs.
            return Err(CertsError::Hint { hint: (*twice).to_owned() });
        }
        Ok(Self { args, identities })
    }

    fn folder(&self) -> Folder<'a> {
        Folder(&self.args.dir)
    }

    fn bind(&self) -> Result<(WorkloadApiAddress, Bound), CertsError> {
        let failed = |detail: String| CertsError::Listen { detail };
        let address = match &self.args.listen {
            Some(text) => text
                .parse()
                .map_err(|error: <WorkloadApiAddress as std::str::FromStr>::Err| failed(error.to_string()))?,
            None => WorkloadApiAddress::Unix(std::path::absolute(self.args.dir.join("workload.sock"))?),
        };
        let listen = match &address {
            WorkloadApiAddress::Tcp(address) if !address.ip().is_loopback() => {
                return Err(failed(format!(
                    "`{address}` is not a loopback address, and whoever reaches it gets private keys"
                )));
            }
            WorkloadApiAddress::Tcp(address) => ListenAddress::Tcp(*address),
            WorkloadApiAddress::Unix(path) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
                return Err(failed(format!("something listens on `{address}` already")));
            }
            WorkloadApiAddress::Unix(path) => {
                ListenAddress::Unix { path: path.clone(), mode: self.args.socket_mode, allow_uids: Vec::new() }
            }
        };
        let bound = Bound::bind(&listen).map_err(|error| failed(error.to_string()))?;
        // With the port that the system chose.
        let address = bound.address().parse().map_or(address, WorkloadApiAddress::Tcp);
        Ok((address, bound))
    }

    /// New SVIDs, and when the first of them expires.
    fn offer(&self) -> Result<(Offer, SystemTime), CertsError> {
        let mut issuers = BTreeMap::new();
        for trust_domain in self.identities.iter().map(|of| of.id.trust_domain()) {
            issuers.insert(trust_domain, authority(&self.folder(), trust_domain)?);
        }
        let mut x509 = X509SvidResponse::default();
        let mut expiry = SystemTime::now().checked_add(self.args.lifetime).unwrap_or_else(SystemTime::now);
        for Hinted { hint, id } in &self.identities {
            let Some(ca) = issuers.get(id.trust_domain()) else { continue };
            x509.svids.push(self.svid(ca, id, hint, &mut expiry)?);
        }
        let mut jwt_signers = Vec::new();
        for trust_domain in issuers.keys() {
            jwt_signers.extend(TrustDomain::parse(trust_domain).ok().map(|own| self.jwt_signer(&own)));
        }
        for foreign in &self.args.federates_with {
            if issuers.contains_key(foreign.as_str()) {
                continue;
            }
            let ca = authority(&self.folder(), foreign.as_str())?;
            x509.federated_bundles.insert(format!("spiffe://{foreign}"), concatenated(&[ca.certificate().clone()]));
            jwt_signers.push(self.jwt_signer(foreign));
        }
        let jwt_signers = jwt_signers.into_iter().collect::<Result<_, _>>()?;
        let identities = Identities { x509, jwt_signers, jwt_lifetime: self.args.jwt_lifetime };
        Ok((Offer::Identities(Arc::new(identities)), expiry))
    }

    fn svid(
        &self,
        ca: &DevCa,
        id: &SpiffeId,
        hint: &str,
        expiry: &mut SystemTime,
    ) -> Result<X509SvidMessage, CertsError> {
        let failed = |source| CertsError::Authority { trust_domain: id.trust_domain().to_owned(), source };
        let params = ca.params_for(id, self.args.lifetime).map_err(failed)?;
        *expiry = params.not_after.min(*expiry);
        let minted = ca.issue_with(&params).map_err(failed)?;
        Ok(X509SvidMessage {
            spiffe_id: id.to_string(),
            x509_svid: concatenated(&minted.chain),
            x509_svid_key: Bytes::copy_from_slice(minted.key().map_err(failed)?.secret_der()),
            bundle: concatenated(&[ca.certificate().clone()]),
            hint: hint.to_owned(),
        })
    }

    /// The same one after a restart: its key is kept beside the CA's.
    fn jwt_signer(&self, trust_domain: &TrustDomain) -> Result<JwtSigner, CertsError> {
        let failed = |source| CertsError::JwtSigner { trust_domain: trust_domain.to_string(), source };
        let place = self.folder().authority(trust_domain.as_str());
        let file = place.join("jwt.key");
        if file.exists() {
            return JwtSigner::from_pem(trust_domain, &read(&file)?).map_err(failed);
        }
        let made = JwtSigner::new(trust_domain).map_err(failed)?;
        FileSet::new(place).with("jwt.key", Readers::Owner, made.key_pem()).write(false)?;
        Ok(made)
    }

    /// Mints anew at half life, or when told to.
    async fn rotate(
        &self,
        offers: &watch::Sender<Offer>,
        hangup: &mut Signal,
        out: &mut dyn Write,
    ) -> Result<(), CertsError> {
        let mut wait = self.args.lifetime / 2;
        loop {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                _ = hangup.recv() => {}
            }
            match self.offer() {
                Ok((offer, expiry)) => {
                    offers.send_replace(offer);
                    self.report(expiry, out)?;
                    wait = expiry.duration_since(SystemTime::now()).unwrap_or(MINT_AGAIN * 2) / 2;
                }
                Err(error) => {
                    eprintln!("portcullis: no new SVIDs, the old ones stay: {error}");
                    wait = MINT_AGAIN;
                }
            }
        }
    }

    fn report(&self, expiry: SystemTime, out: &mut dyn Write) -> io::Result<()> {
        for Hinted { hint, id } in &self.identities {
            let hint = if hint.is_empty() { String::new() } else { format!("  hint {hint}") };
            writeln!(out, "issued  {id}  until {}{hint}", moment(expiry))?;
        }
        out.flush()
    }
}

/// Certificates one after the other, as the Workload API has chains and bundles.
fn concatenated(certificates: &[CertificateDer<'_>]) -> Bytes {
    certificates.iter().flat_map(|certificate| certificate.iter().copied()).collect()
}
