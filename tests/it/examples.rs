//! Every configuration of `examples` is one that would start.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{Ca, Process, World, portcullis};

/// Folder, configuration, and the path of its SPIFFE ID.
const CONFIGURATIONS: [(&str, &str, &str); 4] = [
    ("http", "web", "/ns/shop/sa/web"),
    ("http", "orders", "/ns/shop/sa/orders"),
    ("s3", "transform", "/ns/etl/sa/transform"),
    ("s3", "lake", "/ns/data/sa/lake"),
];

#[tokio::test]
async fn every_example_passes_check() {
    let world = World::new();
    let ca = Ca::new("pipeline.example");
    for (folder, name, id) in CONFIGURATIONS {
        let at = world.path().join(folder);
        copy(&examples().join(folder), &at);
        let certs = at.join("certs");
        fs::create_dir_all(&certs).expect("the temporary folder is writable");
        let svid = ca.issue(id);
        for (file, content) in [
            ("pipeline.example.pem".to_owned(), ca.bundle()),
            (format!("{name}.pem"), svid.chain_pem()),
            (format!("{name}.key"), svid.key_pem()),
        ] {
            fs::write(certs.join(file), content).expect("the temporary folder is writable");
        }
        let file = at.join(format!("{name}.yaml"));
        let checked = Process::run("check", portcullis().arg("check").arg("--config").arg(&file), "").await;
        assert_eq!(checked.code(), 0, "{}: {}\n{}", file.display(), checked.stdout, checked.stderr);
    }
}

#[test]
fn no_example_is_left_out() {
    let mut found: Vec<PathBuf> = Vec::new();
    for (folder, ..) in CONFIGURATIONS {
        let entries = fs::read_dir(examples().join(folder)).expect("the example is there");
        let paths = entries.map(|entry| entry.expect("the example can be read").path());
        found.extend(paths.filter(|path| path.extension().is_some_and(|extension| extension == "yaml")));
    }
    found.sort();
    found.dedup();
    let mut expected = CONFIGURATIONS.map(|(folder, name, _)| examples().join(folder).join(format!("{name}.yaml")));
    expected.sort();
    assert_eq!(found, expected);
}

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")
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
