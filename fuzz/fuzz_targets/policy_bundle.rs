//! Archives of policies: every file has a plain name below the top, once, and is a part of what came; nothing is believed unsigned.
#![no_main]

use portcullis::policy::{BundleKeys, MANIFEST_FILE, Manifest, PolicyArchive, PolicyBundle};

libfuzzer_sys::fuzz_target!(|tar: &[u8]| {
    assert!(PolicyBundle::open(tar, &[0; 64], &BundleKeys::default()).is_err(), "nobody has signed it");
    let Ok(archive) = PolicyArchive::parse(tar) else { return };
    let (mut last, mut bytes, mut manifest) = ("", 0, None);
    for (name, content) in archive.files() {
        assert!(last < name, "twice, or out of order");
        assert!(!name.split('/').any(|part| matches!(part, "" | "." | "..")) && !name.contains('\\'));
        bytes += content.len();
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
