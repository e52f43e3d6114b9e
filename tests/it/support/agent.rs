//! SPIFFE agents: the product's own server with whatever a test wants it to say, and the one of the SPIFFE project for Python.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use portcullis::identity::TrustDomain;
use portcullis::identity::dev_ca::JwtSigner;
use portcullis::identity::workload_api::{Identities, Offer, WorkloadApiServer, X509SvidMessage, X509SvidResponse};
use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::component::python;
use super::{Ca, Process, Svid};

/// An agent on a Unix socket, in this process. Dropped it is gone as a killed one: every connection breaks, the socket's file stays.
#[derive(Debug)]
pub(crate) struct Agent {
    path: PathBuf,
    offers: watch::Sender<Offer>,
    serving: JoinHandle<()>,
}

impl Agent {
    /// Listens at `path`, in place of what was there.
    pub(crate) fn start(path: &Path, offer: Offer) -> Self {
        let _ = fs::remove_file(path);
        let listener = UnixListener::bind(path).expect("the temporary folder is writable, its name short");
        let (offers, offered) = watch::channel(offer);
        let server = WorkloadApiServer::new(offered);
        let serving = tokio::spawn(async move { server.serve_unix(listener).await });
        Self { path: path.to_owned(), offers, serving }
    }

    /// Says something else from now on.
    pub(crate) fn offer(&self, offer: Offer) {
        self.offers.send_replace(offer);
    }

    /// As the configuration has it.
    pub(crate) fn address(&self) -> String {
        format!("unix:{}", self.path.display())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// An SVID as the Workload API has it, with the bundle of the CA that is said to have issued it.
pub(crate) fn entry(svid: &Svid, ca: &Ca, hint: &str) -> X509SvidMessage {
    X509SvidMessage {
        spiffe_id: svid.id.clone(),
        x509_svid: svid.chain.iter().flat_map(|certificate| certificate.iter().copied()).collect(),
        x509_svid_key: Bytes::copy_from_slice(svid.key.secret_der()),
        bundle: Bytes::copy_from_slice(ca.certificate()),
        hint: hint.to_owned(),
    }
}

/// A message with these SVIDs.
pub(crate) fn x509(svids: impl IntoIterator<Item = X509SvidMessage>) -> X509SvidResponse {
    X509SvidResponse { svids: svids.into_iter().collect(), ..X509SvidResponse::default() }
}

/// The same with the bundle of another trust domain.
pub(crate) fn federated(mut message: X509SvidResponse, ca: &Ca) -> X509SvidResponse {
    let bundle = Bytes::copy_from_slice(ca.certificate());
    message.federated_bundles.insert(format!("spiffe://{}", ca.trust_domain), bundle);
    message
}

/// An offer of that message, with a key for the JWT-SVIDs of each trust domain in it.
pub(crate) fn offer(message: X509SvidResponse) -> Offer {
    let own = message.svids.iter().filter_map(|svid| svid.spiffe_id.strip_prefix("spiffe://")?.split('/').next());
    let foreign = message.federated_bundles.keys().filter_map(|id| id.strip_prefix("spiffe://"));
    let signers: BTreeMap<&str, JwtSigner> = own
        .chain(foreign)
        .filter_map(|name| Some((name, JwtSigner::new(&TrustDomain::parse(name).ok()?).expect("P-256 is supported"))))
        .collect();
    let jwt_signers = signers.into_values().collect();
    Offer::Identities(Arc::new(Identities { x509: message, jwt_signers, jwt_lifetime: Duration::from_secs(60) }))
}

/// The server of the SPIFFE project for Python: see `tests/components/workload_api_server.py`.
#[derive(Debug)]
pub(crate) struct PythonAgent {
    _process: Process,
    pub(crate) address: String,
    file: PathBuf,
}

impl PythonAgent {
    /// Listens on a socket in `folder`.
    pub(crate) async fn start(folder: &Path, message: &X509SvidResponse) -> Self {
        let (socket, file) = (folder.join("py.sock"), folder.join("offer.json"));
        write(&file, message);
        let process = Process::spawn("workload_api_server.py", python("workload_api_server.py").args([&socket, &file]));
        let announced = process.stdout.find("its address", |line| serde_json::from_str::<Value>(line).ok()).await;
        let address = announced["address"].as_str().expect("the server prints its address").to_owned();
        Self { _process: process, address, file }
    }

    /// Pushes another message.
    pub(crate) fn push(&self, message: &X509SvidResponse) {
        write(&self.file, message);
    }
}

fn write(file: &Path, message: &X509SvidResponse) {
    let text = |bytes: &Bytes| STANDARD.encode(bytes);
    let svid = |svid: &X509SvidMessage| {
        json!({
            "spiffe_id": svid.spiffe_id, "x509_svid": text(&svid.x509_svid), "x509_svid_key": text(&svid.x509_svid_key),
            "bundle": text(&svid.bundle), "hint": svid.hint,
        })
    };
    let federated: BTreeMap<_, _> = message.federated_bundles.iter().map(|(id, bundle)| (id, text(bundle))).collect();
    let offer = json!({ "svids": message.svids.iter().map(svid).collect::<Vec<_>>(), "federated_bundles": federated });
    let next = file.with_extension("next");
    fs::write(&next, offer.to_string()).and_then(|()| fs::rename(&next, file)).expect("the folder is writable");
}

/// Asks a Workload API everything: see `tests/components/workload_api_client.py`.
pub(crate) async fn python_workload(address: &str, audience: &str) -> Value {
    let mut command = python("workload_api_client.py");
    let output = Process::run("workload_api_client.py", command.args([address, audience]), "").await;
    assert_eq!(output.code(), 0, "{output:#?}");
    output.json()
}
