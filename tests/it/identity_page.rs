//! `docs/identity.md` and `examples/spire`: what they show works.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use portcullis::config::{Config, Overrides};
use portcullis::identity::SpiffeId;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::examples::{block_scalars, on_free_ports};
use crate::support::*;

const PAGE: &str = include_str!("../../docs/identity.md");
const LAKE: &str = "certs/pipeline.example/ns/data/sa/lake";

/// The fenced blocks of this language, without their indentation.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut inside = None;
    for line in page.lines() {
        let trimmed = line.trim_start();
        match (&inside, trimmed.strip_prefix("```")) {
            (None, Some(opened)) => {
                inside = Some((opened == language, line.len() - trimmed.len()));
                if opened == language {
                    found.push(String::new());
                }
            }
            (Some(_), Some(_)) => inside = None,
            (Some((true, indentation)), None) => {
                let block = found.last_mut().expect("was opened");
                block.push_str(line.get(*indentation..).unwrap_or_default());
                block.push('\n');
            }
            _ => {}
        }
    }
    found
}

/// What a configuration needs besides `identity`.
fn complete(identity: &str, upstream: &str) -> String {
    format!(
        "{identity}policy:\n  directory: policies\noutbound:\n  - name: lake\n    listen: 127.0.0.1:0\n    protocol: http\n    \
         upstream: {upstream}\n    peer: spiffe://pipeline.example/ns/data/sa/lake\naudit:\n  sink: stdout\n"
    )
}

#[tokio::test]
async fn every_command_of_the_page_on_identity_runs_in_its_order() {
    let world = World::new();
    fs::write(world.folder("policies").join("test.cedar"), ALLOW_ALL).expect("the folder is writable");
    let binary = portcullis().get_program().to_owned();
    let bin = Path::new(&binary).parent().expect("it is in a folder");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    let shell = |script: &str| {
        let mut command = Command::new("sh");
        command.args(["-euc", script]).current_dir(world.path()).env("PATH", &path);
        command.env_remove("PORTCULLIS_CONFIG");
        command
    };
    let commands = blocks(PAGE, "sh");
    assert!(commands.len() >= 6, "{commands:#?}");
    let mut served = Vec::new();
    for (index, script) in commands.iter().enumerate() {
        if index == 1 {
            // What the first block has minted makes the configuration of the others, and their upstream.
            let to = lake(&world).await;
            let identity = blocks(PAGE, "yaml").into_iter().next().expect("the page has configurations");
            world.write("portcullis.yaml", &complete(&identity, &to));
        }
        if script.starts_with("portcullis certs serve") {
            served.push(Process::spawn("certs serve", &mut shell(&format!("exec {script}"))));
            let socket = world.path().join("certs/workload.sock");
            eventually("the Workload API", || socket.exists().then_some(())).await;
            continue;
        }
        let output = Process::run(script, &mut shell(script), "").await;
        assert_eq!(output.code(), 0, "{script}\n{}\n{}", output.stdout, output.stderr);
    }
    assert_eq!(served.len(), 1, "the page shows a Workload API for development");
}

/// A server with the SVID that the page issues.
async fn lake(world: &World) -> String {
    let read = |name: &str| world.path().join(LAKE).join(name);
    let chain = CertificateDer::pem_file_iter(read("svid.pem")).expect("was issued");
    let svid = Svid {
        id: "spiffe://pipeline.example/ns/data/sa/lake".to_owned(),
        chain: chain.collect::<Result<_, _>>().expect("is PEM"),
        key: PrivateKeyDer::from_pem_file(read("svid.key")).expect("was issued"),
    };
    let acceptor = server_config(&svid, &["h2"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has ports");
    let address = listener.local_addr().expect("is bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(mut stream) = acceptor.accept(stream).await {
                let _ = stream.read_to_end(&mut Vec::new()).await;
                let _ = stream.shutdown().await;
            }
        }
    });
    address.to_string()
}

#[test]
fn every_configuration_of_the_page_on_identity_is_one() {
    let folder = tempfile::tempdir().expect("the temporary folder is writable");
    let blocks = blocks(PAGE, "yaml");
    assert!(blocks.len() >= 4, "{blocks:#?}");
    for identity in blocks {
        let file = folder.path().join("portcullis.yaml");
        fs::write(&file, complete(&identity, "lake.data.svc:8443")).expect("the folder is writable");
        if let Err(errors) = Config::load(&file, &Overrides::default()) {
            panic!("{identity}\n{}", errors.render(false));
        }
    }
}

fn spire(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/spire").join(name)
}

fn read(name: &str) -> String {
    fs::read_to_string(spire(name)).expect("the example is there")
}

/// Flags of `spire-server entry create` (SPIRE 1.9, `doc/spire_server.md`), and whether a value follows.
const ENTRY_FLAGS: [(&str, bool); 8] = [
    ("-node", false),
    ("-parentID", true),
    ("-spiffeID", true),
    ("-selector", true),
    ("-x509SVIDTTL", true),
    ("-hint", true),
    ("-federatesWith", true),
    ("-dns", true),
];

#[test]
fn each_registration_entry_is_one_that_spire_server_takes() {
    let script = read("entries.sh");
    let entries: Vec<_> = script.lines().filter_map(|line| line.strip_prefix("spire-server entry create ")).collect();
    assert_eq!(entries.len(), 4);
    let mut workloads = Vec::new();
    for entry in entries {
        let mut words = entry.split_whitespace();
        let mut selectors = 0;
        while let Some(flag) = words.next() {
            let (_, has_value) =
                ENTRY_FLAGS.iter().find(|(known, _)| *known == flag).unwrap_or_else(|| panic!("{flag}"));
            let value = if *has_value { words.next().expect("a value follows") } else { "" };
            match flag {
                "-parentID" | "-spiffeID" | "-federatesWith" => {
                    let id = SpiffeId::parse(value).unwrap_or_else(|error| panic!("{value}: {error}"));
                    if flag == "-spiffeID" {
                        workloads.push(id.to_string());
                    }
                }
                "-selector" => selectors += usize::from(value.split(':').count() >= 3),
                _ => {}
            }
        }
        assert!(selectors > 0, "{entry}");
    }
    // Whoever the manifests and configurations are about has an entry.
    for workload in ["ns/etl/sa/transform", "ns/data/sa/lake", "ns/data/sa/warehouse"] {
        assert!(workloads.contains(&format!("spiffe://pipeline.example/{workload}")), "{workload}");
    }
}

#[test]
fn the_manifests_for_spire_are_yaml_and_mount_the_socket_where_the_sidecar_looks() {
    for (name, socket, mount) in [
        (
            "stage.yaml",
            "unix:///spiffe-workload-api/spire-agent.sock",
            "mountPath: /spiffe-workload-api, readOnly: true",
        ),
        (
            "store.yaml",
            "unix:/run/spire/agent-sockets/spire-agent.sock",
            "mountPath: /run/spire/agent-sockets, readOnly: true",
        ),
    ] {
        let manifest = read(name);
        let events = saphyr_parser::Parser::new_from_str(&manifest);
        let documents = events
            .map(|event| event.unwrap_or_else(|error| panic!("{name}: {error}")))
            .filter(|(event, _)| matches!(event, saphyr_parser::Event::DocumentStart(_)))
            .count();
        assert_eq!(documents, 4, "{name}");
        assert!(manifest.contains(socket) && manifest.contains(mount), "{name}");
        assert!(manifest.contains("- name: portcullis"), "{name}: the entries select this container");
    }
    assert!(read("stage.yaml").contains("driver: csi.spiffe.io\n            readOnly: true"));
}

#[tokio::test]
async fn the_configurations_for_spire_pass_check() {
    let world = World::new();
    for (name, socket) in
        [("stage", Some("unix:///spiffe-workload-api/spire-agent.sock")), ("store", None), ("warehouse", None)]
    {
        let text = read(&format!("{name}.yaml"));
        let at = world.folder(name);
        let policies = world.folder(&format!("{name}/policies"));
        let scalars = block_scalars(&text);
        let config =
            scalars.iter().find(|(key, _)| *key == "portcullis.yaml").map_or(text.clone(), |(_, text)| text.clone());
        for (key, policy) in scalars.iter().filter(|(key, _)| *key != "portcullis.yaml") {
            fs::write(policies.join(key), policy).expect("the folder is writable");
        }
        fs::write(at.join("etl"), "secret\n").expect("the folder is writable");
        let config = config.replace("/etc/portcullis/policies", &policies.display().to_string());
        let config = config.replace("/run/portcullis", &at.display().to_string());
        let config = config.replace("/run/secrets", &at.display().to_string());
        let file = at.join("portcullis.yaml");
        fs::write(&file, on_free_ports(&config)).expect("the folder is writable");
        let mut check = portcullis();
        check.arg("check").arg("--config").arg(&file).env_remove("SPIFFE_ENDPOINT_SOCKET");
        check.envs(socket.map(|socket| ("SPIFFE_ENDPOINT_SOCKET", socket)));
        let output = Process::run(name, &mut check, "").await;
        assert_eq!(output.code(), 0, "{name}\n{}\n{}", output.stdout, output.stderr);
        assert!(output.stdout.contains("spire-agent.sock"), "{}", output.stdout);
    }
}
