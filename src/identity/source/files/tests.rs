use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use super::*;
use crate::identity::X509Source as _;
use crate::identity::dev_ca::{DevCa, Minted, SvidParams};
use crate::identity::tests::{domain, spiffe_id};

const HOUR: Duration = Duration::from_secs(3600);

struct Fixture {
    folder: TempDir,
    ca: DevCa,
}

impl Fixture {
    fn new() -> Self {
        let fixture =
            Self { folder: tempfile::tempdir().unwrap(), ca: DevCa::new(&domain("prod.test"), HOUR).unwrap() };
        fixture.write("bundle.pem", &fixture.ca.certificate_pem());
        fixture.write_svid(&fixture.mint("spiffe://prod.test/a"));
        fixture
    }

    fn mint(&self, id: &str) -> Minted {
        self.ca.issue(&spiffe_id(id), HOUR).unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, content: &str) {
        std::fs::write(self.path(name), content).unwrap();
    }

    fn write_svid(&self, minted: &Minted) {
        self.write("svid.pem", &minted.chain_pem);
        self.write("svid.key", &minted.key_pem);
    }

    fn paths(&self) -> FileSourcePaths {
        FileSourcePaths {
            own: Some(OwnFiles {
                certificate: self.path("svid.pem"),
                private_key: self.path("svid.key"),
                spiffe_id: None,
            }),
            bundles: BTreeMap::from([(domain("prod.test"), self.path("bundle.pem"))]),
            ..FileSourcePaths::default()
        }
    }

    /// A source that has read nothing yet.
    fn source(&self) -> FileSource {
        source(self.paths())
    }

    /// A source whose files are in force.
    fn open(&self) -> FileSource {
        let source = self.source();
        assert_eq!(source.reload().unwrap(), Reloaded::Swapped(1));
        source
    }
}

fn source(paths: FileSourcePaths) -> FileSource {
    FileSource::new(paths, Arc::new(IdentityStore::new(Denied::default(), Clock::system())))
}

fn in_force(source: &FileSource) -> (u64, String) {
    let generation = source.store.current().unwrap();
    (generation.number, generation.svid.id().to_string())
}

#[test]
fn new_files_become_the_next_generation_and_are_announced() {
    let fixture = Fixture::new();
    let source = fixture.open();
    let changed = source.store.changed();
    assert_eq!((in_force(&source), *changed.borrow()), ((1, "spiffe://prod.test/a".into()), 1));
    assert_eq!(source.reload().unwrap(), Reloaded::Unchanged);
    fixture.write_svid(&fixture.mint("spiffe://prod.test/b"));
    assert_eq!(source.reload().unwrap(), Reloaded::Swapped(2));
    assert_eq!((in_force(&source), *changed.borrow()), ((2, "spiffe://prod.test/b".into()), 2));
}

#[test]
fn a_bundle_alone_that_changes_is_a_new_generation_too() {
    let fixture = Fixture::new();
    let source = fixture.open();
    let second = DevCa::new(&domain("prod.test"), HOUR).unwrap();
    fixture.write("bundle.pem", &(fixture.ca.certificate_pem() + &second.certificate_pem()));
    assert_eq!(source.reload().unwrap(), Reloaded::Swapped(2));
    assert_eq!(source.store.current().unwrap().bundles.anchors("prod.test").unwrap().len(), 2);
}

#[test]
fn a_set_that_is_half_written_mismatched_or_wrong_leaves_the_last_good_one() {
    let fixture = Fixture::new();
    let source = fixture.open();
    let next = fixture.mint("spiffe://prod.test/b");
    let stranger = DevCa::new(&domain("prod.test"), HOUR).unwrap();
    let cut = |pem: &str| pem.split_at(pem.len() / 2).0.to_owned();
    let past = SystemTime::now() - HOUR;
    let expired = fixture.ca.issue_with(&SvidParams::leaf(&spiffe_id("spiffe://prod.test/b"), HOUR / 2, past)).unwrap();
    let rogue = fixture.ca.issue_with(&SvidParams {
        ca: Some(true),
        ..SvidParams::leaf(&spiffe_id("spiffe://prod.test/b"), HOUR, SystemTime::now())
    });
    let rogue = rogue.unwrap();
    let bundle = fixture.ca.certificate_pem();
    for (rule, certificate, key, bundle) in [
        ("pem", cut(&next.chain_pem), next.key_pem.clone(), bundle.clone()),
        ("no-certificate", String::new(), next.key_pem.clone(), bundle.clone()),
        ("private-key", next.chain_pem.clone(), String::new(), bundle.clone()),
        ("pem", next.chain_pem.clone(), cut(&next.key_pem), bundle.clone()),
        ("key-mismatch", next.chain_pem.clone(), fixture.mint("spiffe://prod.test/b").key_pem, bundle.clone()),
        ("trust-bundle", next.chain_pem.clone(), next.key_pem.clone(), String::new()),
        ("chain", next.chain_pem.clone(), next.key_pem.clone(), stranger.certificate_pem()),
        ("expired", expired.chain_pem.clone(), expired.key_pem.clone(), bundle.clone()),
        ("ca-flag", rogue.chain_pem.clone(), rogue.key_pem.clone(), bundle.clone()),
    ] {
        fixture.write("svid.pem", &certificate);
        fixture.write("svid.key", &key);
        fixture.write("bundle.pem", &bundle);
        let error = source.reload().unwrap_err();
        assert_eq!(error.rule(), rule, "{error}");
        assert_eq!(in_force(&source), (1, "spiffe://prod.test/a".into()), "{rule}");
    }
    std::fs::remove_file(fixture.path("svid.key")).unwrap();
    assert_eq!(source.reload().unwrap_err().rule(), "unreadable-file");
    fixture.write_svid(&next);
    fixture.write("bundle.pem", &bundle);
    assert_eq!(source.reload().unwrap(), Reloaded::Swapped(2));
}

#[test]
fn files_that_come_late_are_picked_up() {
    let fixture = Fixture::new();
    let key = std::fs::read_to_string(fixture.path("svid.key")).unwrap();
    std::fs::remove_file(fixture.path("svid.key")).unwrap();
    let source = fixture.source();
    assert!(source.reload().unwrap_err().is_missing_file());
    assert!(source.store.current().is_none());
    fixture.write("svid.key", &key);
    assert_eq!(source.reload().unwrap(), Reloaded::Swapped(1));
}

#[test]
fn a_kubernetes_swap_of_the_data_link_is_one_new_generation() {
    let fixture = Fixture::new();
    for (folder, id) in [("..1", "spiffe://prod.test/one"), ("..2", "spiffe://prod.test/two")] {
        std::fs::create_dir(fixture.path(folder)).unwrap();
        let minted = fixture.mint(id);
        fixture.write(&format!("{folder}/svid.pem"), &minted.chain_pem);
        fixture.write(&format!("{folder}/svid.key"), &minted.key_pem);
    }
    std::os::unix::fs::symlink("..1", fixture.path("..data")).unwrap();
    let own = OwnFiles {
        certificate: fixture.path("..data/svid.pem"),
        private_key: fixture.path("..data/svid.key"),
        spiffe_id: None,
    };
    let source = source(FileSourcePaths { own: Some(own), ..fixture.paths() });
    assert_eq!(source.reload().unwrap(), Reloaded::Swapped(1));
    std::os::unix::fs::symlink("..2", fixture.path("..data_tmp")).unwrap();
    std::fs::rename(fixture.path("..data_tmp"), fixture.path("..data")).unwrap();
    assert_eq!(source.reload().unwrap(), Reloaded::Swapped(2));
    assert_eq!(in_force(&source), (2, "spiffe://prod.test/two".into()));
}

#[test]
fn keys_in_pkcs8_and_sec1_are_read() {
    let fixture = Fixture::new();
    let source = fixture.open();
    let PrivateKeyDer::Pkcs8(pkcs8) = source.store.current().unwrap().key.clone_key() else {
        panic!("minted as PKCS#8")
    };
    // PKCS#8 ends with the SEC1 form: SEQUENCE { INTEGER 1, OCTET STRING of 32 bytes, … } (RFC 5915).
    let der = pkcs8.secret_pkcs8_der();
    let version_and_key = [2, 1, 1, 4, 32];
    let at = der.windows(5).position(|window| window == version_and_key).unwrap();
    let sec1 = &der[at - 2..];
    let pem = pem_of("EC PRIVATE KEY", sec1);
    fixture.write("svid.key", &pem);
    assert_eq!(source.reload().unwrap(), Reloaded::Swapped(2));
    assert!(matches!(source.store.current().unwrap().key, PrivateKeyDer::Sec1(_)));
}

#[test]
fn an_rsa_key_is_read_in_pkcs8_and_in_pkcs1() {
    let fixture = Fixture::new();
    let params = SvidParams {
        key: &rcgen::PKCS_RSA_SHA256,
        ..SvidParams::leaf(&spiffe_id("spiffe://prod.test/rsa"), HOUR, SystemTime::now())
    };
    let minted = fixture.ca.issue_with(&params).unwrap();
    fixture.write_svid(&minted);
    let source = fixture.open();
    let PrivateKeyDer::Pkcs8(pkcs8) = minted.key().unwrap() else { panic!("minted as PKCS#8") };
    // PKCS#8 wraps the PKCS#1 form: OCTET STRING { SEQUENCE { INTEGER 0, … } }, both longer than 255 bytes (RFC 5208, RFC 8017).
    let der = pkcs8.secret_pkcs8_der();
    let at = der.windows(8).position(|window| matches!(window, [4, 0x82, _, _, 0x30, 0x82, _, _])).unwrap();
    fixture.write("svid.key", &pem_of("RSA PRIVATE KEY", &der[at + 4..]));
    assert_eq!(source.reload().unwrap(), Reloaded::Swapped(2));
    assert!(matches!(source.store.current().unwrap().key, PrivateKeyDer::Pkcs1(_)));
}

#[test]
fn a_directory_of_bundles_is_one_bundle_of_all_that_is_in_it() {
    let fixture = Fixture::new();
    let (second, third) = (DevCa::new(&domain("prod.test"), HOUR).unwrap(), DevCa::new(&domain("prod.test"), HOUR));
    std::fs::create_dir(fixture.path("bundles")).unwrap();
    let bundles = BTreeMap::from([(domain("prod.test"), fixture.path("bundles"))]);
    let source = source(FileSourcePaths { bundles, ..fixture.paths() });
    let empty = source.reload().unwrap_err();
    assert!(empty.is_missing_file() && empty.to_string().ends_with("has no *.pem *.crt *.json in it"), "{empty}");

    fixture.write("bundles/b.pem", &fixture.ca.certificate_pem());
    fixture.write("bundles/a.crt", &second.certificate_pem());
    assert_eq!(source.reload().unwrap(), Reloaded::Swapped(1));
    let anchors = || source.store.current().unwrap().bundles.anchors("prod.test").unwrap().len();
    assert_eq!(anchors(), 2);

    fixture.write("bundles/README", "not ours");
    fixture.write("bundles/.hidden.pem", "not ours");
    assert_eq!(source.reload().unwrap(), Reloaded::Unchanged);
    fixture.write("bundles/c.json", "{\"keys\": []");
    let error = source.reload().unwrap_err();
    assert_eq!((error.rule(), error.path()), ("trust-bundle", Some(fixture.path("bundles/c.json").as_path())));
    assert_eq!(anchors(), 2, "the last good one");
    std::fs::remove_file(fixture.path("bundles/c.json")).unwrap();
    fixture.write("bundles/c.pem", &third.unwrap().certificate_pem());
    assert_eq!(source.reload().unwrap(), Reloaded::Swapped(2));
    assert_eq!(anchors(), 3);
    std::fs::remove_file(fixture.path("bundles/a.crt")).unwrap();
    assert_eq!(source.reload().unwrap(), Reloaded::Swapped(3));
    assert_eq!(anchors(), 2, "what is removed is trusted no more");
}

#[test]
fn a_certificate_of_somebody_else_is_refused_if_the_owner_is_named() {
    let fixture = Fixture::new();
    let mut paths = fixture.paths();
    paths.own.as_mut().unwrap().spiffe_id = Some(spiffe_id("spiffe://prod.test/a"));
    let source = source(paths);
    assert_eq!(source.reload().unwrap(), Reloaded::Swapped(1));
    fixture.write_svid(&fixture.mint("spiffe://prod.test/b"));
    let error = source.reload().unwrap_err();
    let of = "is the certificate of `spiffe://prod.test/b`, not of `spiffe://prod.test/a`";
    assert!(error.rule() == "spiffe-id" && error.to_string().ends_with(of), "{error}");
    assert_eq!(in_force(&source), (1, "spiffe://prod.test/a".into()));
    fixture.write_svid(&fixture.mint("spiffe://prod.test/a"));
    assert_eq!(source.reload().unwrap(), Reloaded::Swapped(2));
}

#[test]
fn bundles_without_an_svid_of_ours_wait_for_one() {
    let fixture = Fixture::new();
    let source = source(FileSourcePaths { own: None, ..fixture.paths() });
    assert_eq!(source.reload().unwrap(), Reloaded::Waiting);
    assert_eq!(source.reload().unwrap(), Reloaded::Unchanged);
    let minted = fixture.mint("spiffe://prod.test/a");
    let own = Some(Own { chain: minted.chain.clone(), key: minted.key().unwrap() });
    let brought = Brought { own, ..Brought::default() };
    assert_eq!(source.store.bring(Part::WorkloadApi, brought).unwrap(), Reloaded::Swapped(1));
    assert_eq!(in_force(&source), (1, "spiffe://prod.test/a".into()));
}

fn pem_of(kind: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN {kind}-----\n{text}\n-----END {kind}-----\n")
}

#[test]
fn the_key_is_never_shown() {
    let fixture = Fixture::new();
    let source = fixture.open();
    let PrivateKeyDer::Pkcs8(key) = source.store.current().unwrap().key.clone_key() else { panic!("minted as PKCS#8") };
    let shown = format!("{source:?}{:?}", source.store.current());
    assert!(!shown.contains(&format!("{:?}", &key.secret_pkcs8_der()[..8])));
    assert!(shown.contains("elided"));
}

#[test]
fn who_is_denied_is_denied_at_once_whatever_else_is_wrong_and_let_in_again_when_nothing_is() {
    let fixture = Fixture::new();
    fixture.write("deny.txt", "");
    let source = source(FileSourcePaths { denied: Some(fixture.path("deny.txt")), ..fixture.paths() });
    assert_eq!(source.reload().unwrap(), Reloaded::Swapped(1));
    let denied = || source.store.current().unwrap().bundles.denied().ids.len();
    let (good, next) = (fixture.mint("spiffe://prod.test/b"), fixture.mint("spiffe://prod.test/c"));

    fixture.write("svid.pem", &next.chain_pem);
    fixture.write("deny.txt", "spiffe://prod.test/x\n");
    assert_eq!(source.reload().unwrap_err().rule(), "key-mismatch");
    assert_eq!((in_force(&source), denied()), ((2, "spiffe://prod.test/a".into()), 1));
    assert!(source.store.health()[0].standing().is_some(), "the set is still no good");

    fixture.write("deny.txt", "");
    assert_eq!(source.reload().unwrap_err().rule(), "key-mismatch");
    assert_eq!(denied(), 1, "nobody is let in again by a set that is no good");

    fixture.write_svid(&good);
    assert_eq!(source.reload().unwrap(), Reloaded::Swapped(3));
    assert_eq!(denied(), 0);
}

#[test]
fn files_that_come_back_as_they_were_count_as_they_were() {
    let fixture = Fixture::new();
    fixture.write("deny.txt", "");
    let source = source(FileSourcePaths { denied: Some(fixture.path("deny.txt")), ..fixture.paths() });
    source.reload().unwrap();
    let bundle = fixture.ca.certificate_pem();
    fixture.write("bundle.pem", "");
    fixture.write("deny.txt", "spiffe://prod.test/x\n");
    assert_eq!(source.reload().unwrap_err().rule(), "trust-bundle");
    fixture.write("bundle.pem", &bundle);
    fixture.write("deny.txt", "");
    assert_eq!(source.reload().unwrap(), Reloaded::Swapped(3));
    assert!(source.store.current().unwrap().bundles.denied().is_empty());
}
