//! The commands, as they are typed.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use clap::Parser;
use tempfile::TempDir;

use super::*;
use crate::identity::dev_ca::{DevCa, San, SvidParams};
use crate::identity::{FileSource, FileSourcePaths, OwnFiles, X509Source as _};

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    certs: CertsArgs,
}

/// Runs `certs WORDS…`, with `DIR` replaced by the folder.
fn certs(folder: &TempDir, words: &str) -> Result<(u8, String), CertsError> {
    let dir = folder.path().to_str().unwrap();
    let words = words.split_whitespace().map(|word| word.replace("DIR", dir));
    let line = Line::try_parse_from(std::iter::once("certs".to_owned()).chain(words)).unwrap();
    let mut out = Vec::new();
    let code = run(&line.certs, &mut out)?;
    Ok((code, String::from_utf8(out).unwrap()))
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn what_init_and_issue_make_is_a_working_identity() {
    let folder = folder();
    certs(&folder, "init --dir DIR --trust-domain pipeline.example --trust-domain partner.example").unwrap();
    let (code, text) =
        certs(&folder, "issue --dir DIR --lifetime 2h --dns localhost spiffe://pipeline.example/ns/etl/sa/load")
            .unwrap();
    assert_eq!(code, 0);
    assert!(text.starts_with("made     svid  spiffe://pipeline.example/ns/etl/sa/load  "), "{text}");
    let svid = folder.path().join("pipeline.example/ns/etl/sa/load");
    assert_eq!(mode(&svid.join("svid.key")), 0o600);
    assert_eq!(mode(&folder.path().join("pipeline.example/ca.key")), 0o600);
    assert_eq!(mode(&svid.join("svid.pem")), 0o644);
    let bundle = |name: &str| (TrustDomain::parse(name).unwrap(), folder.path().join(name).join("bundle.pem"));
    let (certificate, private_key) = (svid.join("svid.pem"), svid.join("svid.key"));
    let store = FileSource::load(FileSourcePaths {
        own: Some(OwnFiles { certificate, private_key, spiffe_id: None }),
        bundles: [bundle("pipeline.example"), bundle("partner.example")].into(),
        ..FileSourcePaths::default()
    });
    let generation = store.unwrap().current().unwrap();
    let left = generation.svid.not_after().duration_since(SystemTime::now()).unwrap();
    assert!(left <= Duration::from_secs(7200) && left > Duration::from_secs(7100), "{left:?}");
    assert_eq!(generation.svid.id().as_str(), "spiffe://pipeline.example/ns/etl/sa/load");
}

#[test]
fn nothing_is_overwritten_without_force() {
    let folder = folder();
    let content = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
    certs(&folder, "init --dir DIR --trust-domain td.test").unwrap();
    let first = content("td.test/ca.key");
    let error = certs(&folder, "init --dir DIR --trust-domain td.test").unwrap_err();
    assert!(matches!(error, CertsError::Exists { .. }) && error.to_string().contains("--force"), "{error}");
    assert_eq!(content("td.test/ca.key"), first);
    certs(&folder, "init --dir DIR --trust-domain td.test --force").unwrap();
    assert_ne!(content("td.test/ca.key"), first);

    certs(&folder, "issue --dir DIR spiffe://td.test/a").unwrap();
    let first = content("td.test/a/svid.pem");
    assert!(matches!(certs(&folder, "issue --dir DIR spiffe://td.test/a"), Err(CertsError::Exists { .. })));
    assert_eq!(content("td.test/a/svid.pem"), first);
    certs(&folder, "issue --dir DIR --force spiffe://td.test/a").unwrap();
    assert_ne!(content("td.test/a/svid.pem"), first);
    assert_eq!(mode(&folder.path().join("td.test/a/svid.key")), 0o600);
}

#[test]
fn an_svid_needs_its_trust_domains_ca_and_never_outlives_it() {
    let folder = folder();
    let error = certs(&folder, "issue --dir DIR spiffe://td.test/a").unwrap_err();
    assert!(
        error.to_string().contains(&format!("certs init --dir {} --trust-domain td.test", folder.path().display())),
        "{error}"
    );
    certs(&folder, "init --dir DIR --trust-domain td.test --ca-lifetime 1h").unwrap();
    let (_, text) = certs(&folder, "issue --dir DIR --lifetime 24h spiffe://td.test/a").unwrap();
    assert!(text.contains("valid 59 min"), "{text}");
}

#[test]
fn ids_that_name_no_workload_are_refused_on_the_command_line() {
    for id in ["spiffe://td.test", "https://td.test/a", "spiffe://td.test/../a", "spiffe://td.test/a/"] {
        assert!(Line::try_parse_from(["certs", "issue", id]).is_err(), "{id}");
    }
    assert!(Line::try_parse_from(["certs", "issue", "spiffe://td.test/a"]).is_ok());
    assert!(Line::try_parse_from(["certs", "init", "--trust-domain", "spiffe://td.test"]).is_err());
}

#[test]
fn the_shipped_list_is_minted_and_minting_again_keeps_it() {
    let folder = folder();
    let list = concat!(env!("CARGO_MANIFEST_DIR"), "/certs-dev/identities.toml");
    let (_, first) = certs(&folder, &format!("mint {list} --dir DIR")).unwrap();
    assert!(first.lines().all(|line| line.starts_with("made ")), "{first}");
    let key = folder.path().join("pipeline.example/ns/etl/sa/ingest/svid.key");
    let before = std::fs::read(&key).unwrap();
    let (_, second) = certs(&folder, &format!("mint {list} --dir DIR")).unwrap();
    assert!(second.lines().all(|line| line.starts_with("kept ")), "{second}");
    assert_eq!(std::fs::read(&key).unwrap(), before);
    let svid = "DIR/pipeline.example/ns/etl/sa/ingest/svid.pem";
    let (code, text) = certs(&folder, &format!("show {svid} --bundle DIR/pipeline.example/bundle.pem")).unwrap();
    assert_eq!(code, 0, "{text}");
    let (code, text) = certs(&folder, &format!("show {svid} --bundle DIR/partner.example/bundle.pem")).unwrap();
    assert!(code == 1 && text.contains("1 rule is broken: chain"), "{text}");
}

#[test]
fn mistakes_in_the_list_are_named() {
    let folder = folder();
    for (content, expected) in [
        ("trust_domains = [\"TD\"]", "`TD`: trust domain has the character"),
        ("trust_domain = []", "unknown field `trust_domain`"),
        ("trust_domains = []\nlifetime = \"1w\"", "`1w` is not a lifetime"),
        ("trust_domains = []\n[[identity]]\nid = \"spiffe://td\"", "`spiffe://td` has no path"),
        ("trust_domains = []\n[[identity]]\nid = \"spiffe://td/a\"", "--trust-domain td`"),
    ] {
        std::fs::write(folder.path().join("list.toml"), content).unwrap();
        let error = certs(&folder, "mint DIR/list.toml").unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn show_judges_leaf_chain_and_bundle_in_pem_and_der() {
    let folder = folder();
    let ca = DevCa::new(&TrustDomain::parse("td.test").unwrap(), Duration::from_secs(3600)).unwrap();
    let id = SpiffeId::parse("spiffe://td.test/a").unwrap();
    let params = SvidParams::leaf(&id, Duration::from_secs(3600), SystemTime::now());
    let minted = ca.issue_with(&params).unwrap();
    let write = |name: &str, content: &[u8]| std::fs::write(folder.path().join(name), content).unwrap();
    write("chain.pem", (minted.chain_pem.clone() + &ca.certificate_pem()).as_bytes());
    write("leaf.der", &minted.chain[0]);
    let (code, text) = certs(&folder, "show DIR/chain.pem").unwrap();
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("certificate 1 of 2, leaf") && text.contains("certificate 2 of 2, signing certificate"));
    assert!(text.contains("pass  uri-san-count") && text.contains("X509-SVID 2, 5.2"), "{text}");
    assert!(text.ends_with("every rule holds\n"), "{text}");
    assert_eq!(certs(&folder, "show DIR/leaf.der").unwrap().0, 0);

    let rogue = SvidParams { names: vec![San::uri("spiffe://td.test/a"), San::uri("urn:x")], ..params.clone() };
    let expired = SvidParams { not_after: SystemTime::now() - Duration::from_secs(100), ..params };
    write("rogue.pem", ca.issue_with(&rogue).unwrap().chain_pem.as_bytes());
    write("expired.pem", ca.issue_with(&expired).unwrap().chain_pem.as_bytes());
    let (code, text) = certs(&folder, "show DIR/rogue.pem").unwrap();
    assert_eq!(code, 1);
    assert!(text.contains("FAIL  uri-san-count") && text.contains("certificate has 2 URI SANs"), "{text}");
    let (code, json) = certs(&folder, "show --output json DIR/expired.pem").unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let failed: Vec<_> =
        json[0]["certificates"][0]["rules"].as_array().unwrap().iter().filter(|row| row["result"] == "FAIL").collect();
    assert_eq!((code, failed.len(), &failed[0]["rule"]), (1, 1, &serde_json::json!("expired")));
}

#[test]
fn show_says_what_is_wrong_with_a_file_that_holds_no_certificate() {
    let folder = folder();
    let minted = DevCa::new(&TrustDomain::parse("td.test").unwrap(), Duration::from_secs(3600)).unwrap();
    for (content, expected) in [
        (&b""[..], "nothing in it looks like one"),
        (b"\x30\x03abc", "not a DER certificate"),
        (b"\xff\x00garbage", "nothing in it looks like one"),
        (minted.key_pem().as_bytes(), "it holds a private key"),
        (b"-----BEGIN CERTIFICATE-----\nMIIB", "section end"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "not a DER certificate"),
    ] {
        std::fs::write(folder.path().join("file"), content).unwrap();
        let error = certs(&folder, "show DIR/file").unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    assert!(matches!(certs(&folder, "show DIR/absent"), Err(CertsError::Read { .. })));
}
