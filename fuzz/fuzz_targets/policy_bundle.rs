//! Archives of policies: every file has a plain name below the top, once, and is a part of what came; nothing is believed unsigned, and
//! what is signed no further than it can be read.
#![no_main]

use std::sync::LazyLock;

use portcullis::policy::{
    BundleKeys, MANIFEST_FILE, Manifest, PolicyArchive, PolicyBundle, PolicyBundleError, SigningKey,
};

/// Of nobody: its secret is 32 zeros.
static KEY: LazyLock<SigningKey> = LazyLock::new(|| {
    let path = std::env::temp_dir().join(format!("portcullis-fuzz-{}.pem", std::process::id()));
    let (kind, zeros) = ("PRIVATE KEY", "A".repeat(42));
    let pem = format!("-----BEGIN {kind}-----\nMC4CAQAwBQYDK2VwBCIEIA{zeros}\n-----END {kind}-----\n");
    std::fs::write(&path, pem).expect("the temporary folder is writable");
    let key = SigningKey::read(&path).expect("is a key");
    std::fs::remove_file(&path).expect("is ours");
    key
});

libfuzzer_sys::fuzz_target!(|tar: &[u8]| {
    let keys = BundleKeys::from(KEY.public().clone());
    let signature = KEY.sign(tar).expect("the system gives randomness");
    assert!(PolicyBundle::open(tar, &signature, &BundleKeys::default()).is_err(), "nobody is trusted");
    assert!(PolicyBundle::open(tar, &[0; 64], &keys).is_err(), "nobody has signed it");
    let opened = PolicyBundle::open(tar, &signature, &keys);
    let archive = match (PolicyArchive::parse(tar), &opened) {
        (Ok(archive), Ok(bundle)) => {
            assert_eq!(archive.manifest(), bundle.manifest());
            archive
        }
        // Policies that are not UTF-8, say.
        (Ok(archive), Err(PolicyBundleError::Files(_))) => archive,
        (Err(parsed), Err(PolicyBundleError::Archive(opened))) => {
            assert_eq!(&parsed, opened);
            return;
        }
        (parsed, opened) => panic!("{parsed:?}, and signed {opened:?}"),
    };
    // The end mark, and for each file a header and whole blocks.
    let (mut last, mut bytes, mut manifest) = ("", 512, None);
    for (name, content) in archive.files() {
        assert!(last < name, "twice, or out of order");
        assert!(!name.split('/').any(|part| matches!(part, "" | "." | "..")) && !name.contains('\\'));
        bytes += 512 + content.len().next_multiple_of(512);
        if name == MANIFEST_FILE {
            manifest = Some(content);
        }
        last = name;
    }
    assert!(bytes <= tar.len(), "more than there is");
    let manifest = Manifest::parse(manifest.expect("is there")).expect("was read before");
    assert_eq!(&manifest, archive.manifest());
    assert!(manifest.sequence > 0);
});
