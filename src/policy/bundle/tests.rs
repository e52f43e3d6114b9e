//! What is in a bundle is what was signed, or it is refused by name.

use std::path::Path;

use proptest::prelude::*;
use tar::{Builder, EntryType, Header};

use super::*;
use crate::policy::{PolicyGeneration, PolicySource, PolicyStore, Reloaded};

const ALLOW: &str = "@id(\"a\")\npermit (principal in TrustDomain::\"a.example\", action, resource);\n";

/// A private key that openssl could have written, and what verifies it.
fn signer(folder: &Path, algorithm: &'static rcgen::SignatureAlgorithm) -> SigningKey {
    let path = folder.join("signer.key");
    std::fs::write(&path, rcgen::KeyPair::generate_for(algorithm).unwrap().serialize_pem()).unwrap();
    SigningKey::read(&path).unwrap()
}

fn ed25519() -> SigningKey {
    signer(tempfile::tempdir().unwrap().path(), &rcgen::PKCS_ED25519)
}

/// An entry by hand: the builder would not write a wrong one.
fn entry(tar: &mut Builder<Vec<u8>>, kind: EntryType, name: &[u8], size: u64, bytes: &[u8]) {
    let mut header = Header::new_ustar();
    let field = &mut header.as_ustar_mut().unwrap().name;
    field[..name.len()].copy_from_slice(name);
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(size);
    if matches!(kind, EntryType::Link | EntryType::Symlink) {
        header.set_link_name_literal("/etc/passwd").unwrap();
    }
    header.set_cksum();
    tar.append(&header, bytes).unwrap();
}

fn file(tar: &mut Builder<Vec<u8>>, name: &str, bytes: &[u8]) {
    entry(tar, EntryType::Regular, name.as_bytes(), bytes.len() as u64, bytes);
}

/// An archive that is good, with what `also` adds to it.
fn archive(also: impl FnOnce(&mut Builder<Vec<u8>>)) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    file(&mut tar, "bundle.json", b"{\"name\": \"lake\", \"sequence\": 7}");
    file(&mut tar, "a.cedar", ALLOW.as_bytes());
    also(&mut tar);
    tar.into_inner().unwrap()
}

fn refused(tar: &[u8]) -> ArchiveError {
    PolicyArchive::parse(tar).expect_err("refused")
}

#[test]
fn a_bundle_is_what_its_key_has_signed_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let tar = archive(|_| {});
    for algorithm in [&rcgen::PKCS_ED25519, &rcgen::PKCS_ECDSA_P256_SHA256] {
        let (key, other) = (signer(folder.path(), algorithm), ed25519());
        let keys = BundleKeys::from(key.public().clone());
        let signature = key.sign(&tar).unwrap();
        let bundle = PolicyBundle::open(&tar, &signature, &keys).expect("is signed");
        assert_eq!((bundle.manifest().to_string().as_str(), bundle.signed_by()), ("lake@7", key.public()));
        let refused = |tar: &[u8], signature: &[u8], keys: &BundleKeys| {
            PolicyBundle::open(tar, signature, keys).expect_err("refused").to_string()
        };
        let none = "the signature is by none of the 1 keys";
        assert!(refused(&tar, &other.sign(&tar).unwrap(), &keys).starts_with(none), "another key");
        assert!(refused(&tar, &key.sign(b"another bundle").unwrap(), &keys).starts_with(none), "of other bytes");
        assert!(refused(&tar, &signature, &BundleKeys::from(other.public().clone())).starts_with(none));
        assert!(refused(&tar, &signature, &BundleKeys::default()).contains("none of the 0 keys"), "no key");
        assert!(refused(&tar[..tar.len() - 1], &signature, &keys).starts_with(none), "cut off");
        assert!(refused(&[&tar[..], &[0]].concat(), &signature, &keys).starts_with(none), "longer");
        for at in (0..tar.len()).step_by(97) {
            let mut changed = tar.clone();
            changed[at] ^= 1;
            assert!(refused(&changed, &signature, &keys).starts_with(none), "byte {at} changed");
        }
        for (form, said) in [
            (&b""[..], "is empty"),
            (b"-----BEGIN SIGNATURE-----\n", "is PEM"),
            (b"<html>", "is a page of a web server"),
            (b"MEUCIQDk\n", "is text"),
        ] {
            assert!(refused(&tar, form, &keys).contains(said), "{said}");
        }
        // Nobody's signature is looked for before anybody's content.
        assert!(refused(b"\x1f\x8b", &signature, &keys).starts_with(none));
    }
}

#[test]
fn any_of_several_keys_will_do_so_that_they_can_be_rotated() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new, third) = (ed25519(), signer(folder.path(), &rcgen::PKCS_ECDSA_P256_SHA256), ed25519());
    let keys: BundleKeys = [&old, &new].map(|key| key.public().clone()).into_iter().collect();
    let tar = archive(|_| {});
    let opened = |key: &SigningKey| PolicyBundle::open(&tar, &key.sign(&tar).unwrap(), &keys);
    assert_eq!(opened(&old).unwrap().signed_by(), old.public());
    assert_eq!(opened(&new).unwrap().signed_by(), new.public());
    assert!(opened(&third).is_err());
}

#[test]
fn an_archive_has_plain_files_with_plain_names_each_once() {
    assert_eq!(PolicyArchive::parse(&archive(|_| {})).unwrap().files().count(), 2);
    for (kind, said) in [
        (EntryType::Symlink, "a symbolic link"),
        (EntryType::Link, "a hard link"),
        (EntryType::Char, "a device"),
        (EntryType::Block, "a device"),
        (EntryType::Fifo, "a pipe"),
        (EntryType::GNUSparse, "a sparse file"),
        (EntryType::GNULongName, "a long name of GNU tar"),
        (EntryType::XHeader, "an extended header of pax"),
        (EntryType::XGlobalHeader, "an extended header of pax"),
        (EntryType::Continuous, "of no kind that is known"),
        (EntryType::new(b'Z'), "of no kind that is known"),
    ] {
        let error = refused(&archive(|tar| entry(tar, kind, b"b.cedar", 0, b""))).to_string();
        assert!(error.contains("`b.cedar`") && error.contains(said), "{kind:?}: {error}");
    }
    for (name, said) in [
        (&b"/etc/b.cedar"[..], "is absolute"),
        (b"../b.cedar", "has a part `.` or `..`"),
        (b"x/../../b.cedar", "has a part `.` or `..`"),
        (b"./../b.cedar", "has a part `.` or `..`"),
        (b"././b.cedar", "has a part `.` or `..`"),
        (b"x//b.cedar", "has an empty part"),
        (b"b.cedar/", "has an empty part"),
        (b"", "has an empty part"),
        (b".", "has a part `.` or `..`"),
        (b"x\\b.cedar", "a backslash"),
        (b"b\n.cedar", "a control character"),
        (b"b\xff.cedar", "is not UTF-8"),
    ] {
        let error = refused(&archive(|tar| entry(tar, EntryType::Regular, name, 0, b""))).to_string();
        assert!(error.contains(said), "{}: {error}", name.escape_ascii());
    }
    // The second half of a long name stands before the first: it is one name.
    let halves = |prefix: &[u8], name: &[u8]| {
        archive(|tar| {
            let mut header = Header::new_ustar();
            let fields = header.as_ustar_mut().unwrap();
            fields.prefix[..prefix.len()].copy_from_slice(prefix);
            fields.name[..name.len()].copy_from_slice(name);
            header.set_entry_type(EntryType::Regular);
            header.set_size(0);
            header.set_cksum();
            tar.append(&header, &b""[..]).unwrap();
        })
    };
    for (prefix, name, said) in [
        (&b".."[..], &b"b.cedar"[..], "`../b.cedar`, which has a part `.` or `..`"),
        (b"/etc", b"b.cedar", "`/etc/b.cedar`, which is absolute"),
        (b"x", b"../b.cedar", "`x/../b.cedar`, which has a part `.` or `..`"),
        (b"x", b"/b.cedar", "`x//b.cedar`, which has an empty part"),
        (b".", b"a.cedar", "has the entry `./a.cedar` twice"),
    ] {
        let error = refused(&halves(prefix, name)).to_string();
        assert!(error.contains(said), "{error}");
    }
    let long = [b"y".repeat(155), b"z".repeat(100)];
    let tar = halves(&long[0], &long[1]);
    let archive_of_long = PolicyArchive::parse(&tar).unwrap();
    assert!(archive_of_long.files().any(|(name, _)| name.len() == 256 && name.contains("y/z")));
    let twice = |names: &[&str]| {
        refused(&archive(|tar| {
            names.iter().for_each(|name| match name.strip_suffix('/') {
                Some(_) => entry(tar, EntryType::Directory, name.as_bytes(), 0, b""),
                None => file(tar, name, b""),
            })
        }))
    };
    for names in [&["a.cedar"][..], &["./a.cedar"], &["x/", "x"], &["x", "x/"], &["x/", "./x/"], &["./", "./"]] {
        assert!(matches!(twice(names), ArchiveError::Twice { .. }), "{names:?}");
    }
    let folder = refused(&archive(|tar| entry(tar, EntryType::Directory, b"x/", 3, b"abc")));
    assert!(folder.to_string().contains("a folder with content"), "{folder}");
    // What `tar --directory DIR .` writes, and what is not for us.
    let plain = archive(|tar| {
        entry(tar, EntryType::Directory, b"./", 0, b"");
        entry(tar, EntryType::Directory, b"./entities/", 0, b"");
        file(tar, "./entities/stages.json", b"[]");
        file(tar, "README.md", b"");
        file(tar, "...cedar", b"");
    });
    let names: Vec<_> = PolicyArchive::parse(&plain).unwrap().files().map(|(name, _)| name.to_owned()).collect();
    assert_eq!(names, ["...cedar", "README.md", "a.cedar", "bundle.json", "entities/stages.json"]);
}

#[test]
fn an_archive_is_whole_plain_and_bounded() {
    let tar = archive(|_| {});
    for (said, broken) in [
        ("is compressed (gzip): a plain tar archive is wanted", b"\x1f\x8b\x08".to_vec()),
        ("is compressed (zstd)", b"\x28\xb5\x2f\xfd".to_vec()),
        ("is not a tar archive", vec![b'x'; 1024]),
        ("is cut off before its end mark", Vec::new()),
        ("is not a tar archive", tar[..100].to_vec()),
        ("is cut off in an entry", tar[..520].to_vec()),
        ("is cut off before its end mark", tar[..1024].to_vec()),
        ("goes on after its end mark", [&tar[..], b"x"].concat()),
        ("goes on after its end mark", [&tar[..], &tar[..]].concat()),
        ("has no `bundle.json`", Builder::new(Vec::new()).into_inner().unwrap()),
        ("has more than 16777216 bytes", vec![0; MAX_BUNDLE_BYTES + 1]),
    ] {
        let error = refused(&broken).to_string();
        assert!(error.contains(said), "{said}: {error}");
    }
    let overflow = || ArchiveError::Tar { cause: "size overflow".to_owned() };
    let cut_off = || ArchiveError::CutOff("in an entry");
    for (size, expected) in [
        (u64::MAX, overflow()),
        (u64::MAX - 511, overflow()),
        (1 << 62, cut_off()),
        (8 << 30, cut_off()),
        (4096, cut_off()),
    ] {
        let error = refused(&archive(|tar| entry(tar, EntryType::Regular, b"big", size, b"")));
        assert_eq!(error, expected, "{size}");
    }
    let many = archive(|tar| (0..10_000).for_each(|n| file(tar, &format!("{n}"), b"")));
    assert_eq!(refused(&many), ArchiveError::TooMany);
}

#[test]
fn a_manifest_names_the_bundle_and_its_place_among_others() {
    let manifest = Manifest::parse(br#"{"name": "lake", "sequence": 7}"#).unwrap();
    assert_eq!((manifest.to_string().as_str(), manifest.expires), ("lake@7", None));
    let json = br#"{"name":"lake","sequence":7,"expires":"2027-01-31T12:00:00Z"}"#;
    let manifest = Manifest::parse(json).unwrap();
    assert_eq!(manifest.expires.map(|expiry| expiry.to_string()).as_deref(), Some("2027-01-31T12:00:00Z"));
    assert_eq!(serde_json::to_vec(&manifest).unwrap(), json);
    for (json, said) in [
        ("", "is not `{\"name\": \"lake\", \"sequence\": 17}`"),
        ("{}", "missing field `name`"),
        (r#"{"name": "lake"}"#, "missing field `sequence`"),
        (r#"{"name": "lake", "sequnce": 7}"#, "unknown field `sequnce`"),
        (r#"{"name": "lake", "sequence": 7, "sequence": 8}"#, "duplicate field `sequence`"),
        (r#"{"name": "lake", "sequence": -7}"#, "invalid value"),
        (r#"{"name": "lake", "sequence": 7.5}"#, "invalid type"),
        (r#"{"name": "lake", "sequence": 18446744073709551616}"#, "invalid"),
        (r#"{"name": "lake", "sequence": 7, "expires": null}"#, "invalid type: null"),
        (r#"{"name": "lake", "sequence": 7, "expires": 1800000000}"#, "invalid type: integer"),
        (r#"{"name": "lake", "sequence": 7, "expires": ""}"#, "`` is no moment like `2027-01-31T00:00:00Z`"),
        (r#"{"name": "lake", "sequence": 7, "expires": "2027-01-31"}"#, "`2027-01-31` is no moment like"),
        (r#"{"name": "lake", "sequence": 0}"#, "sequence number 0"),
        (r#"{"name": "", "sequence": 7}"#, "has the name ``"),
        (r#"{"name": "../x", "sequence": 7}"#, "has the name `../x`"),
        (r#"{"name": "Lake", "sequence": 7}"#, "has the name `Lake`"),
    ] {
        let error = Manifest::parse(json.as_bytes()).expect_err(json).to_string();
        assert!(error.contains(said), "{json}: {error}");
    }
}

#[test]
fn key_files_say_what_is_wrong_with_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key.pem");
    let pem = |algorithm| rcgen::KeyPair::generate_for(algorithm).unwrap();
    let public = |algorithm| pem(algorithm).public_key_pem();
    let (one, two) = (public(&rcgen::PKCS_ED25519), public(&rcgen::PKCS_ECDSA_P256_SHA256));
    for (text, said) in [
        (String::new(), "has no PUBLIC KEY in PEM"),
        ("-----BEGIN PUBLIC KEY-----\nMCow\n-----END PUBLIC KEY-----\n".to_owned(), "has no PUBLIC KEY in PEM: "),
        (pem(&rcgen::PKCS_ED25519).serialize_pem(), "has a private key"),
        (format!("{one}{}", pem(&rcgen::PKCS_ED25519).serialize_pem()), "has a private key"),
        (
            public(&rcgen::PKCS_ECDSA_P384_SHA384),
            "another kind than Ed25519 and ECDSA P-256: 1.2.840.10045.2.1 with 1.3.132.0.34",
        ),
    ] {
        std::fs::write(&path, &text).unwrap();
        let error = BundleKeys::read(std::slice::from_ref(&path)).expect_err(said).to_string();
        assert!(error.contains(said) && error.contains("key.pem"), "{said}: {error}");
    }
    // Neither waits for a pipe nor reads without end.
    for (text, said) in [("/dev/zero", "it is not a regular file"), ("a folder", "it is not a regular file")] {
        let file = if text.starts_with('/') { text.into() } else { folder.path().to_owned() };
        let error = BundleKeys::read(&[file]).expect_err(text).to_string();
        assert!(error.contains(said), "{text}: {error}");
    }
    let error = SigningKey::read(Path::new("/dev/zero")).unwrap_err().to_string();
    assert!(error.contains("it has more than 65536 bytes"), "{error}");
    std::fs::write(&path, vec![b' '; 65_537]).unwrap();
    let error = BundleKeys::read(std::slice::from_ref(&path)).unwrap_err().to_string();
    assert!(error.contains("it has more than 65536 bytes"), "{error}");
    std::fs::write(&path, format!("{one}\n{two}{one}")).unwrap();
    assert_eq!(BundleKeys::read(&[path.clone(), path.clone()]).unwrap().len(), 2, "each once");
    let error = BundleKeys::read(&[folder.path().join("none.pem")]).unwrap_err().to_string();
    assert!(error.contains("none.pem` cannot be read"), "{error}");
    let error = SigningKey::read(&path).unwrap_err().to_string();
    assert!(error.contains("openssl genpkey -algorithm ed25519"), "{error}");
}

#[test]
fn the_same_directory_gives_the_same_archive_and_its_digest() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir(at("entities")).unwrap();
    for (name, text) in
        [("b.cedar", "// b\n"), ("a.cedar", ALLOW), ("entities/x.json", "[]"), ("README.md", "no"), (".a.cedar", "no")]
    {
        std::fs::write(at(name), text).unwrap();
    }
    let manifest = Manifest::new("lake", 7).unwrap();
    let tar = pack(folder.path(), &manifest).unwrap();
    let touched = std::fs::File::options().append(true).open(at("a.cedar")).unwrap();
    touched.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    assert_eq!(pack(folder.path(), &manifest).unwrap(), tar, "neither times nor owners are in it");
    let archive = PolicyArchive::parse(&tar).unwrap();
    let names: Vec<_> = archive.files().map(|(name, _)| name).collect();
    assert_eq!(names, ["a.cedar", "b.cedar", "bundle.json", "entities/x.json"]);
    let key = ed25519();
    let bundle = PolicyBundle::open(&tar, &key.sign(&tar).unwrap(), &BundleKeys::from(key.public().clone())).unwrap();
    let loaded = PolicyGeneration::load(&PolicySource::of(folder.path()), 1).unwrap();
    assert_eq!(bundle.digest(), loaded.digest());
}

#[test]
fn a_store_without_a_bundle_denies_and_one_that_does_not_load_changes_nothing() {
    let key = ed25519();
    let bundle = |cedar: &str| {
        let mut tar = Builder::new(Vec::new());
        file(&mut tar, "bundle.json", b"{\"name\": \"lake\", \"sequence\": 7}");
        file(&mut tar, "a.cedar", cedar.as_bytes());
        let tar = tar.into_inner().unwrap();
        PolicyBundle::open(&tar, &key.sign(&tar).unwrap(), &BundleKeys::from(key.public().clone())).unwrap()
    };
    let store = PolicyStore::awaiting(PolicySource {
        stages: vec!["nobody".to_owned()],
        refuse_unknown_names: true,
        ..PolicySource::default()
    })
    .unwrap();
    assert_eq!((store.number(), store.current().len(), store.current().warnings().len()), (0, 0, 0));
    assert_eq!(store.reload().unwrap(), Reloaded::Unchanged, "there is nothing to read");
    let store = PolicyStore::awaiting(PolicySource::default()).unwrap();
    let errors = store.put(&bundle("permit (principal, action, resource);")).unwrap_err();
    assert!(errors.to_string().starts_with("lake@7/a.cedar:1:1: policy has no `@id`"), "{errors}");
    assert_eq!(store.number(), 0);
    assert_eq!(store.put(&bundle(ALLOW)).unwrap(), Reloaded::Swapped(1));
    assert_eq!(store.put(&bundle(ALLOW)).unwrap(), Reloaded::Unchanged);
    assert!(store.put(&bundle("permit")).is_err());
    assert_eq!((store.number(), store.current().len()), (1, 1));
    // One without policies is believed: who signs it wants nothing to be permitted.
    assert_eq!(store.put(&bundle("")).unwrap(), Reloaded::Swapped(2));
}

#[test]
fn of_bundles_that_come_at_once_each_has_a_number_of_its_own() {
    let key = ed25519();
    let bundles: Vec<_> = (0..6)
        .map(|n| {
            let tar = archive(|tar| file(tar, "b.cedar", ALLOW.replace("\"a\"", &format!("\"b{n}\"")).as_bytes()));
            PolicyBundle::open(&tar, &key.sign(&tar).unwrap(), &BundleKeys::from(key.public().clone())).unwrap()
        })
        .collect();
    let store = PolicyStore::awaiting(PolicySource::default()).unwrap();
    let mut numbers: Vec<_> = std::thread::scope(|scope| {
        let puts: Vec<_> = bundles.iter().map(|bundle| scope.spawn(|| store.put(bundle).unwrap())).collect();
        puts.into_iter().map(|put| put.join().unwrap()).collect()
    });
    numbers.sort_by_key(|reloaded| format!("{reloaded:?}"));
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6].map(Reloaded::Swapped));
    assert_eq!(store.number(), 6);
    assert!(bundles.iter().any(|bundle| bundle.digest() == store.current().digest()));
}

/// A byte of the archive of the next test that something hangs on, or any.
fn edit() -> impl Strategy<Value = (usize, u8)> {
    // The three headers, and in them name, size, kind, magic and the half of the name that stands before it.
    let header = prop::sample::select(vec![0, 1024, 2048]);
    let field = prop_oneof![4 => 0_usize..20, 2 => 124_usize..136, 1 => 156_usize..158, 1 => 257_usize..265, 2 => 345_usize..349];
    let at = prop_oneof![6 => (header, field).prop_map(|(header, at)| header + at), 1 => 0_usize..4096];
    (at, prop_oneof![3 => prop::sample::select(b"./\\0157x\0\xff".to_vec()), 1 => any::<u8>()])
}

proptest! {
    #[test]
    fn whatever_bytes_come_an_archive_is_read_or_refused(
        edits in prop::collection::vec(edit(), 0..4),
        cut in prop::option::weighted(0.2, prop_oneof![0_usize..4096, (0_usize..8).prop_map(|blocks| blocks * 512)]),
    ) {
        let mut tar = archive(|tar| file(tar, "entities/x.json", b"[]"));
        for (at, byte) in edits {
            let length = tar.len();
            tar[at % length] = byte;
        }
        // A header whose checksum is right again: what is behind it is looked at.
        for block in [0, 1024, 2048] {
            if let Some(header) = tar.get_mut(block..block + 512) {
                let mut fixed = Header::from_byte_slice(header).clone();
                fixed.set_cksum();
                header.copy_from_slice(fixed.as_bytes());
            }
        }
        tar.truncate(cut.unwrap_or(usize::MAX));
        // Nobody believes it unsigned, and who has signed it is believed as far as it can be read.
        prop_assert!(PolicyBundle::open(&tar, &[0; 64], &BundleKeys::default()).is_err());
        static KEY: std::sync::LazyLock<SigningKey> = std::sync::LazyLock::new(ed25519);
        let opened = PolicyBundle::open(&tar, &KEY.sign(&tar).unwrap(), &BundleKeys::from(KEY.public().clone()));
        let parsed = PolicyArchive::parse(&tar);
        match (&opened, &parsed) {
            (Ok(bundle), Ok(archive)) => prop_assert_eq!(bundle.manifest(), archive.manifest()),
            (Err(PolicyBundleError::Files(_)), Ok(_)) => {}
            (Err(PolicyBundleError::Archive(error)), Err(expected)) => prop_assert_eq!(error, expected),
            _ => prop_assert!(false, "{:?} and {:?}", opened, parsed),
        }
        if let Ok(archive) = parsed {
            let mut total = 0;
            for (name, bytes) in archive.files() {
                prop_assert!(!name.starts_with('/') && !name.split('/').any(|part| matches!(part, "" | "." | "..")), "{}", name);
                // No byte is of two files, and each is one that came.
                let start = (bytes.as_ptr() as usize).wrapping_sub(tar.as_ptr() as usize);
                prop_assert!(bytes.is_empty() || tar[start..].starts_with(bytes), "{}", name);
                total += 512 + bytes.len().next_multiple_of(512);
            }
            prop_assert!(total + 512 <= tar.len(), "{} of {}", total, tar.len());
        }
    }

    #[test]
    fn what_is_packed_is_what_is_read(files in prop::collection::btree_map("[a-z][a-z0-9]{0,8}", "[ -~\n]{0,700}", 0..8)) {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in &files {
            std::fs::write(folder.path().join(format!("{name}.cedar")), text).unwrap();
        }
        let tar = pack(folder.path(), &Manifest::new("lake", 7).unwrap()).unwrap();
        let archive = PolicyArchive::parse(&tar).unwrap();
        let read: Vec<_> = archive.files().filter(|(name, _)| *name != MANIFEST_FILE).collect();
        let wrote: Vec<_> = files.iter().map(|(name, text)| (format!("{name}.cedar"), text.as_bytes())).collect();
        prop_assert_eq!(read.len(), wrote.len());
        for (read, wrote) in read.iter().zip(&wrote) {
            prop_assert_eq!((read.0, read.1), (wrote.0.as_str(), wrote.1));
        }
    }
}
