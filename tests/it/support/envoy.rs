//! Envoy as the other end: a SPIFFE mTLS peer that is not ours, server or client.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::component::venv_bin;
use super::{Client, Process, Svid, World, eventually, get, request};

/// A running Envoy.
#[derive(Debug)]
pub(crate) struct Envoy {
    process: Process,
    directory: PathBuf,
    /// Where it listens: mTLS for a server, cleartext for a client.
    pub(crate) address: SocketAddr,
}

impl Envoy {
    /// Takes mTLS from SVIDs of the world's trust domain and forwards to `upstream` in cleartext HTTP/1.1.
    pub(crate) async fn server(world: &World, svid: &Svid, upstream: SocketAddr) -> Self {
        Self::start(world, svid, upstream, include_str!("../../components/envoy_server.yaml")).await
    }

    /// Takes cleartext HTTP and forwards by mTLS to `upstream`, whose SVID must be of the world's trust domain.
    pub(crate) async fn client(world: &World, svid: &Svid, upstream: SocketAddr) -> Self {
        Self::start(world, svid, upstream, include_str!("../../components/envoy_client.yaml")).await
    }

    async fn start(world: &World, svid: &Svid, upstream: SocketAddr, template: &str) -> Self {
        let name = format!("envoy-{}", svid.id.rsplit('/').next().unwrap_or_default());
        let directory = world.folder(&name);
        let write =
            |name: &str, content: &str| fs::write(directory.join(name), content).expect("the folder is writable");
        write("svid.pem", &svid.chain_pem());
        write("svid.key", &svid.key_pem());
        write("bundle.pem", &world.ca.bundle());
        let config = template
            .replace("${DIRECTORY}", &directory.display().to_string())
            .replace("${TRUST_DOMAIN}", &world.ca.trust_domain)
            .replace("${UPSTREAM_PORT}", &upstream.port().to_string());
        write("envoy.yaml", &config);
        let admin_file = directory.join("admin");
        let mut command = Command::new(venv_bin().join("envoy"));
        command.arg("--config-path").arg(directory.join("envoy.yaml")).arg("--admin-address-path").arg(&admin_file);
        // No shared memory with other Envoys of this machine, one worker, quiet.
        command.args(["--use-dynamic-base-id", "--concurrency", "1", "--log-level", "warning"]);
        let process = Process::spawn(&name, &mut command);
        let admin = eventually("the admin address of Envoy", || read_address(&admin_file)).await;
        let address = listener_address(admin).await;
        Self { process, directory, address }
    }

    /// Its folder, with the access log if the template writes one.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// What it has said.
    pub(crate) fn log(&self) -> Vec<String> {
        self.process.stderr.so_far()
    }
}

fn read_address(file: &Path) -> Option<SocketAddr> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// Asks the admin port where the one listener is.
async fn listener_address(admin: SocketAddr) -> SocketAddr {
    for _ in 0..2_000 {
        let answer = Client::plain(admin)
            .await
            .send(request("GET", &admin.to_string(), "/listeners?format=json", &[], ""))
            .await;
        let listeners: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let address = &listeners["listener_statuses"][0]["local_address"]["socket_address"];
        let port = address["port_value"].as_u64().and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0);
        if let (Some(port), true) = (port, get(admin, "/ready").await.status.is_success()) {
            return SocketAddr::from(([127, 0, 0, 1], port));
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("Envoy never listened");
}
