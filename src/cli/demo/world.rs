//! What the demo sets up: a folder with certificates, policies, a store, and the sidecars before and beside it.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

use super::postgres::Postgres;
use super::sidecar::Sidecar;
use super::store;
use crate::identity::dev_ca::DevCa;
use crate::identity::{FileSource, FileSourcePaths, OwnFiles, SpiffeId, TrustDomain, X509Source};

const TRUST_DOMAIN: &str = "pipeline.example";
const LIFETIME: Duration = Duration::from_secs(24 * 3_600);

/// The policies as shipped in `policies/demo`.
const POLICIES: [(&str, &str); 7] = [
    ("outbound/egress.cedar", include_str!("../../../policies/demo/outbound/egress.cedar")),
    ("outbound/entities.json", include_str!("../../../policies/demo/outbound/entities.json")),
    ("inbound/lake.cedar", include_str!("../../../policies/demo/inbound/lake.cedar")),
    ("inbound/entities.json", include_str!("../../../policies/demo/inbound/entities.json")),
    ("warehouse/warehouse.cedar", include_str!("../../../policies/warehouse/warehouse.cedar")),
    ("warehouse/entities.json", include_str!("../../../policies/warehouse/entities.json")),
    ("to-warehouse/egress.cedar", include_str!("../../../examples/postgres/policies/stage/egress.cedar")),
];

/// A PostgreSQL server and the sidecars before it and beside its stages.
#[derive(Debug)]
pub(super) struct Warehouse {
    server: Postgres,
    pub(super) inbound: Sidecar,
    pub(super) load: Sidecar,
    pub(super) analyst: Sidecar,
}

/// Everything that runs.
#[derive(Debug)]
pub(super) struct World {
    folder: TempDir,
    /// The sidecar before the store.
    pub(super) lake: Sidecar,
    /// The sidecars beside the stages, by the stage's name.
    pub(super) stages: Vec<(&'static str, Sidecar)>,
    /// Where PostgreSQL is installed; else why there is none.
    pub(super) warehouse: Result<Warehouse, String>,
    /// A certificate from a CA that nobody here trusts, for a name that everybody does.
    pub(super) stranger: Arc<dyn X509Source>,
}

impl World {
    /// Mints, writes and starts everything.
    pub(super) async fn start() -> Result<Self, String> {
        let folder =
            tempfile::Builder::new().prefix("portcullis-demo-").tempdir().map_err(|error| error.to_string())?;
        let root = folder.path();
        write_policies(root)?;
        let buckets = root.join("store");
        for bucket in ["raw", "curated"] {
            fs::create_dir_all(buckets.join(bucket)).map_err(|error| error.to_string())?;
        }
        let store = store::serve(&buckets)?;
        let trust_domain = TrustDomain::parse(TRUST_DOMAIN).map_err(|error| error.to_string())?;
        let ca = DevCa::new(&trust_domain, LIFETIME).map_err(|error| error.to_string())?;
        let bundle = ca.certificate_pem();
        fs::write(root.join("bundle.pem"), &bundle).map_err(|error| error.to_string())?;
        let lake = inbound(root, &ca, store)?;
        let mut stages = Vec::new();
        for stage in ["ingest", "transform", "load"] {
            stages.push((stage, outbound(root, &ca, stage, lake.address)?));
        }
        let stranger = stranger(root, &trust_domain, &bundle)?;
        let warehouse = match Postgres::start() {
            Ok(server) => Ok(warehouse(root, &ca, server)?),
            Err(why) => Err(why),
        };
        Ok(Self { folder, lake, stages, warehouse, stranger })
    }

    /// The folder in which everything is.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The outbound sidecar of a stage.
    pub(super) fn stage(&self, name: &str) -> Option<&Sidecar> {
        self.stages.iter().find(|(stage, _)| *stage == name).map(|(_, sidecar)| sidecar)
    }

    /// Ends every process.
    pub(super) fn stop(&mut self) {
        self.lake.stop();
        for (_, sidecar) in &mut self.stages {
            sidecar.stop();
        }
        if let Ok(warehouse) = &mut self.warehouse {
            warehouse.analyst.stop();
            warehouse.load.stop();
            warehouse.inbound.stop();
            warehouse.server.stop();
        }
    }
}

fn warehouse(root: &Path, ca: &DevCa, server: Postgres) -> Result<Warehouse, String> {
    let id = |path: &str| SpiffeId::parse(&format!("spiffe://{TRUST_DOMAIN}{path}")).map_err(|error| error.to_string());
    let own = identity(root, ca, &id("/ns/data/sa/warehouse")?, "warehouse", "warehouse")?;
    let listener = format!(
        "inbound:\n  - name: warehouse\n    listen: 127.0.0.1:0\n    protocol: postgres\n    upstream: {}\n    role: by_identity\n    roles: {{ \"Stage::load\": loader, \"Stage::analyst\": analyst, \"Stage::migrate\": owner }}\n",
        server.upstream()
    );
    let inbound = Sidecar::start(root, "warehouse", &own, &listener)?;
    let to = format!(
        "outbound:\n  - name: warehouse\n    listen: 127.0.0.1:0\n    protocol: postgres\n    upstream: {}\n    peer: spiffe://{TRUST_DOMAIN}/ns/data/sa/warehouse\n",
        inbound.address
    );
    let beside = |name: &str, path: &str| -> Result<Sidecar, String> {
        let own = identity(root, ca, &id(path)?, name, "to-warehouse")?;
        Sidecar::start(root, name, &own, &to)
    };
    let load = beside("load-warehouse", "/ns/etl/sa/load")?;
    let analyst = beside("analyst", "/ns/bi/sa/analyst")?;
    Ok(Warehouse { server, inbound, load, analyst })
}

/// Trusts who everybody trusts, and itself.
fn stranger(root: &Path, trust_domain: &TrustDomain, bundle: &str) -> Result<Arc<dyn X509Source>, String> {
    let impostor = DevCa::new(trust_domain, LIFETIME).map_err(|error| error.to_string())?;
    let both = root.join("stranger-bundle.pem");
    fs::write(&both, format!("{bundle}{}", impostor.certificate_pem())).map_err(|error| error.to_string())?;
    let (certificate, private_key) = mint(root, &impostor, &stage_id("transform")?, "stranger")?;
    let bundles = BTreeMap::from([(trust_domain.clone(), both)]);
    let own = Some(OwnFiles { certificate, private_key, spiffe_id: None });
    let store = FileSource::load(FileSourcePaths { own, bundles, ..FileSourcePaths::default() });
    Ok(store.map_err(|error| error.to_string())?)
}

fn inbound(root: &Path, ca: &DevCa, store: SocketAddr) -> Result<Sidecar, String> {
    let id = SpiffeId::parse(&format!("spiffe://{TRUST_DOMAIN}/ns/data/sa/lake")).map_err(|error| error.to_string())?;
    let identity = identity(root, ca, &id, "lake", "inbound")?;
    let listener =
        format!("inbound:\n  - name: lake\n    listen: 127.0.0.1:0\n    protocol: s3\n    upstream: http://{store}\n");
    Sidecar::start(root, "lake", &identity, &listener)
}

fn outbound(root: &Path, ca: &DevCa, stage: &str, lake: SocketAddr) -> Result<Sidecar, String> {
    let identity = identity(root, ca, &stage_id(stage)?, stage, "outbound")?;
    let listener = format!(
        "outbound:\n  - name: lake\n    listen: 127.0.0.1:0\n    protocol: s3\n    upstream: {lake}\n    peer: spiffe://{TRUST_DOMAIN}/ns/data/sa/lake\n"
    );
    Sidecar::start(root, stage, &identity, &listener)
}

fn stage_id(stage: &str) -> Result<SpiffeId, String> {
    SpiffeId::parse(&format!("spiffe://{TRUST_DOMAIN}/ns/etl/sa/{stage}")).map_err(|error| error.to_string())
}

/// Mints an SVID into the folder; the configuration's sections that name it and the policies.
fn identity(root: &Path, ca: &DevCa, id: &SpiffeId, name: &str, policies: &str) -> Result<String, String> {
    let (chain, key) = mint(root, ca, id, name)?;
    Ok(format!(
        "identity:\n  source: files\n  certificate: {}\n  private_key: {}\n  trust_bundles:\n    {TRUST_DOMAIN}: {}\npolicy:\n  directory: {}\n",
        chain.display(),
        key.display(),
        root.join("bundle.pem").display(),
        root.join("policies").join(policies).display(),
    ))
}

/// An SVID in the folder: the chain's file and the key's.
fn mint(root: &Path, ca: &DevCa, id: &SpiffeId, name: &str) -> Result<(PathBuf, PathBuf), String> {
    let minted = ca.issue(id, LIFETIME).map_err(|error| error.to_string())?;
    let (chain, key) = (root.join(format!("{name}.pem")), root.join(format!("{name}.key")));
    fs::write(&chain, &minted.chain_pem).map_err(|error| error.to_string())?;
    write_private(&key, &minted.key_pem).map_err(|error| error.to_string())?;
    Ok((chain, key))
}

fn write_private(path: &PathBuf, text: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(text.as_bytes())
}

fn write_policies(root: &Path) -> Result<(), String> {
    for (name, text) in POLICIES {
        let path = root.join("policies").join(name);
        let folder = path.parent().unwrap_or(root);
        fs::create_dir_all(folder).and_then(|()| fs::write(&path, text)).map_err(|error| error.to_string())?;
    }
    Ok(())
}
