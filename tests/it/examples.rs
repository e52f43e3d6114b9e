//! Every configuration of `examples` and `deploy` is one that would start.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{Process, World, portcullis};

/// Folder, configuration, and the path of its SPIFFE ID.
const EXAMPLES: [(&str, &str, &str); 7] = [
    ("http", "web", "/ns/shop/sa/web"),
    ("http", "orders", "/ns/shop/sa/orders"),
    ("s3", "transform", "/ns/etl/sa/transform"),
    ("s3", "lake", "/ns/data/sa/lake"),
    ("postgres", "analyst", "/ns/bi/sa/analyst"),
    ("postgres", "load", "/ns/etl/sa/load"),
    ("postgres", "warehouse", "/ns/data/sa/warehouse"),
];

/// Manifest and the path of its SPIFFE ID.
const MANIFESTS: [(&str, &str); 3] =
    [("stage", "/ns/etl/sa/transform"), ("store", "/ns/data/sa/lake"), ("database", "/ns/data/sa/warehouse")];

#[tokio::test]
async fn every_example_passes_check() {
    let world = World::new();
    for (folder, name, id) in EXAMPLES {
        let at = world.path().join(folder);
        copy(&project("examples").join(folder), &at);
        // Where `portcullis certs init` and `certs issue` would have put them.
        let certs = at.join("certs/pipeline.example");
        mint(&world, &certs, id, [&format!(".{id}/svid.pem"), &format!(".{id}/svid.key"), "bundle.pem"]);
        // As the README says; it is no file of the repository.
        fs::write(at.join("role-password"), "change-me\n").expect("the temporary folder is writable");
        let file = at.join(format!("{name}.yaml"));
        let config = fs::read_to_string(&file).expect("the example is there");
        fs::write(&file, on_free_ports(&config)).expect("the temporary folder is writable");
        check(&file).await;
    }
}

#[tokio::test]
async fn every_manifest_holds_a_configuration_that_passes_check() {
    let world = World::new();
    for (name, id) in MANIFESTS {
        let manifest = project("deploy/kubernetes").join(format!("{name}.yaml"));
        let manifest = fs::read_to_string(manifest).expect("the manifest is there");
        let at = world.folder(name);
        let policies = world.folder(&format!("{name}/policies"));
        mint(&world, &at, id, ["svid.pem", "svid.key", "bundle.pem"]);
        let mut config = None;
        for (key, text) in block_scalars(&manifest) {
            if key == "portcullis.yaml" {
                config = Some(text);
            } else {
                fs::write(policies.join(key), text).expect("the temporary folder is writable");
            }
        }
        let here = |folder: &Path| folder.display().to_string();
        let config = config.expect("the manifest has a ConfigMap with portcullis.yaml");
        let config = config.replace("/etc/portcullis/policies", &here(&policies)).replace("/run/svid", &here(&at));
        fs::write(at.join("password"), "secret\n").expect("the temporary folder is writable");
        let config = config.replace("/run/role", &here(&at));
        let file = at.join("portcullis.yaml");
        let config = on_free_ports(&config.replace("/run/portcullis", &here(&at)));
        fs::write(&file, config).expect("the temporary folder is writable");
        check(&file).await;
    }
}

#[test]
fn no_example_is_left_out() {
    let mut found: Vec<PathBuf> = Vec::new();
    for (folder, ..) in EXAMPLES {
        let entries = fs::read_dir(project("examples").join(folder)).expect("the example is there");
        let paths = entries.map(|entry| entry.expect("the example can be read").path());
        found.extend(paths.filter(|path| path.extension().is_some_and(|extension| extension == "yaml")));
    }
    found.sort();
    found.dedup();
    let mut expected = EXAMPLES.map(|(folder, name, _)| project("examples").join(folder).join(format!("{name}.yaml")));
    expected.sort();
    assert_eq!(found, expected);
}

async fn check(file: &Path) {
    let checked = Process::run("check", portcullis().arg("check").arg("--config").arg(file), "").await;
    assert_eq!(checked.code(), 0, "{}:\n{}\n{}", file.display(), checked.stdout, checked.stderr);
}

/// Writes certificate, key and bundle under these names.
fn mint(world: &World, folder: &Path, id: &str, [certificate, key, bundle]: [&str; 3]) {
    let svid = world.ca.issue(id);
    for (name, content) in [(certificate, svid.chain_pem()), (key, svid.key_pem()), (bundle, world.ca.bundle())] {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().expect("it has a folder")).expect("the temporary folder is writable");
        fs::write(path, content).expect("the temporary folder is writable");
    }
}

/// Port 0 for every `listen`, as what listens here already is no fault of the example.
pub(crate) fn on_free_ports(config: &str) -> String {
    let lines = config.lines().map(|line| match line.rsplit_once(':') {
        Some((before, _)) if line.trim_start().starts_with("listen: ") => format!("{before}:0"),
        _ => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n") + "\n"
}

/// `KEY: |` with the lines indented below it, for the keys of ConfigMaps.
pub(crate) fn block_scalars(manifest: &str) -> Vec<(&str, String)> {
    let mut scalars: Vec<(&str, String)> = Vec::new();
    let mut inside = false;
    for line in manifest.lines() {
        if let Some(key) = line.strip_prefix("  ").and_then(|line| line.strip_suffix(": |")) {
            inside = true;
            scalars.push((key, String::new()));
        } else if !line.is_empty() && !line.starts_with("    ") {
            inside = false;
        } else if let (true, Some((_, text))) = (inside, scalars.last_mut()) {
            text.push_str(line.strip_prefix("    ").unwrap_or_default());
            text.push('\n');
        }
    }
    scalars
}

fn project(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("the temporary folder is writable");
    for entry in fs::read_dir(from).expect("the example can be read") {
        let path = entry.expect("the example can be read").path();
        let target = to.join(path.file_name().expect("has a name"));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).expect("the temporary folder is writable");
        }
    }
}
