//! Shipped policies changed, and what is proved of the change.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::*;

async fn policy(arguments: &[&str]) -> Output {
    let mut command = portcullis();
    command.arg("policy").args(arguments);
    Process::run(&arguments.join(" "), &mut command, "").await
}

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("policies").join(name)
}

/// A copy of shipped policies in which `from` stands as `to`.
fn changed(name: &str, file: &str, from: &str, to: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for entry in fs::read_dir(shipped(name)).expect("the policies are there") {
        let path = entry.expect("an entry").path();
        fs::copy(&path, folder.path().join(path.file_name().expect("a name"))).expect("a copy");
    }
    let path = folder.path().join(file);
    let text = fs::read_to_string(&path).expect("the file is there");
    assert!(text.contains(from), "`{from}` is not in {file}");
    fs::write(&path, text.replace(from, to)).expect("the file is writable");
    folder
}

async fn plan(old: &Path, new: &Path, more: &[&str]) -> Output {
    let (old, new) = (old.display().to_string(), new.display().to_string());
    policy(&[&["plan", &old, &new], more].concat()).await
}

#[tokio::test]
async fn no_shipped_policies_grow_by_themselves() {
    for name in ["break-glass", "deny-by-default", "http-service", "partners", "storage", "warehouse"] {
        let same = plan(&shipped(name), &shipped(name), &["--solver", "/nowhere"]).await;
        assert_eq!((same.code(), same.stdout.as_str()), (0, "access does not grow"), "{name}: {same:#?}");
    }
}

#[tokio::test]
async fn a_wider_prefix_is_growth_and_a_narrower_one_is_not() {
    let wide = changed("storage", "lake.cedar", "Prefix::\"lake/raw/landing\"", "Bucket::\"lake/raw\"");
    let grown = plan(&shipped("storage"), wide.path(), &["--output", "json"]).await;
    assert_eq!(grown.code(), 2, "{grown:#?}");
    let json: serde_json::Value = grown.json();
    let change = &json["grows"][0];
    assert_eq!(change["request"], "PUT s3://lake/raw/x", "{json:#}");
    assert_eq!(change["new"]["policies"], serde_json::json!(["ingest-writes-landing"]));
    assert_eq!(change["old"]["outcome"], "not_permitted");
    let principal = change["principal"].as_str().expect("a principal");

    // What the plan says is what explain says of the same request.
    let asked = ["--request", "PUT s3://lake/raw/x", "--as", principal];
    for (policies, code) in [(wide.path().to_owned(), 0), (shipped("storage"), 2)] {
        let policies = policies.display().to_string();
        let explained = policy(&[&["explain", "--policies", &policies][..], &asked].concat()).await;
        assert_eq!(explained.code(), code, "{explained:#?}");
    }

    let shrunk = plan(wide.path(), &shipped("storage"), &[]).await;
    assert_eq!(shrunk.code(), 0, "{shrunk:#?}");
    assert!(shrunk.stdout.contains("no longer allowed\n"), "{}", shrunk.stdout);
    assert!(shrunk.stdout.ends_with("access does not grow"), "{}", shrunk.stdout);
}

#[tokio::test]
async fn conditions_are_proved_by_the_solver_and_not_without() {
    let narrower = changed(
        "storage",
        "lake.cedar",
        "[\"UploadPart\", \"CompleteMultipartUpload\"].contains(context.operation)",
        "[\"UploadPart\"].contains(context.operation)",
    );
    let proved = plan(&shipped("storage"), narrower.path(), &[]).await;
    assert_eq!(proved.code(), 0, "{proved:#?}");
    let unproved = plan(&shipped("storage"), narrower.path(), &["--solver", "/nowhere/cvc5"]).await;
    assert_eq!(unproved.code(), 4, "{unproved:#?}");
    assert!(unproved.stdout.contains("apt-get install cvc5"), "{}", unproved.stdout);
    let wider = plan(narrower.path(), &shipped("storage"), &[]).await;
    assert_eq!(wider.code(), 2, "{wider:#?}");
    assert!(wider.stdout.contains("operation \"CompleteMultipartUpload\""), "{}", wider.stdout);
}

#[tokio::test]
async fn policies_that_do_not_load_are_not_compared() {
    let broken = changed("storage", "lake.cedar", "permit (", "permitt (");
    assert_eq!(plan(&shipped("storage"), broken.path(), &[]).await.code(), 3);
    assert_eq!(policy(&["plan", "only-one"]).await.code(), 1);
}
