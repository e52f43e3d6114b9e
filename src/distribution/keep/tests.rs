//! What one who polls has to know of those before him, and what has expired.

use std::path::Path;
use std::time::Duration;

use http::HeaderValue;

use super::*;
use crate::config::UpstreamCa;
use crate::policy::{PolicySource, SigningKey, pack};

/// A signer, and the sidecar's side of it.
struct World {
    folder: tempfile::TempDir,
    key: SigningKey,
    store: Arc<PolicyStore>,
    health: Arc<DistributionHealth>,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        std::fs::write(folder.path().join("signer.key"), pair.serialize_pem()).unwrap();
        std::fs::write(folder.path().join("signer.pem"), pair.public_key_pem()).unwrap();
        let key = SigningKey::read(&folder.path().join("signer.key")).unwrap();
        let store = Arc::new(PolicyStore::awaiting(PolicySource::default()).unwrap());
        Self { folder, key, store, health: Arc::default() }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn keys(&self) -> BundleKeys {
        BundleKeys::from(self.key.public().clone())
    }

    /// One who polls, as it begins at start and again after a panic.
    fn begun(&self) -> Distribution {
        let url = "https://localhost/lake.tar";
        let config = PolicyUrl {
            url: url.parse().unwrap(),
            signature_url: format!("{url}.sig").parse().unwrap(),
            public_keys: vec![self.path().join("signer.pem")],
            cache_directory: self.path().join("cache"),
            bundle_name: None,
            poll_interval: Duration::from_secs(1),
            fetch_timeout: Duration::from_secs(1),
            ca: UpstreamCa::System,
        };
        let mut distribution = Distribution::new(config, Arc::clone(&self.store), Arc::clone(&self.health), || {});
        distribution.restore();
        distribution
    }

    /// A bundle with one policy, whose `@id` is its number.
    fn bundle(&self, sequence: u64, expires: Option<&str>) -> Fetched {
        let policies = self.path().join("policies");
        std::fs::create_dir_all(&policies).unwrap();
        let cedar =
            format!("@id(\"p{sequence}\")\npermit (principal in TrustDomain::\"a.example\", action, resource);\n");
        std::fs::write(policies.join("a.cedar"), cedar).unwrap();
        let expires = expires.map(|text| Expiry::parse(text).unwrap());
        let tar = pack(&policies, &Manifest { expires, ..Manifest::new("lake", sequence).unwrap() }).unwrap();
        let signature = self.key.sign(&tar).unwrap();
        Fetched { bundle: PolicyBundle::open(&tar, &signature, &self.keys()).unwrap(), tar, signature }
    }

    fn sequence(&self) -> Option<u64> {
        self.health.state().in_force.map(|bundle| bundle.sequence)
    }
}

#[tokio::test]
async fn who_begins_anew_after_a_panic_does_not_go_back_to_the_older_bundle_on_disk() {
    let world = World::new();
    let mut first = world.begun();
    assert_eq!(first.take(world.bundle(7, None), &world.keys()).await.unwrap(), Refresh::Swapped);
    // The next one cannot be kept.
    std::fs::create_dir(world.path().join("cache/8.tar.sig")).unwrap();
    assert_eq!(first.take(world.bundle(8, None), &world.keys()).await.unwrap(), Refresh::Swapped);
    assert!(world.path().join("cache/7.tar").exists() && !world.path().join("cache/8.tar").exists());
    let digest = world.store.current().digest().to_owned();
    drop(first);

    let mut second = world.begun();
    assert_eq!((world.store.current().digest(), world.sequence()), (&*digest, Some(8)));
    let error = second.take(world.bundle(7, None), &world.keys()).await.unwrap_err();
    assert_eq!(error.rule(), "sequence-rollback", "{error}");
    // It is still wanted on disk.
    std::fs::remove_dir(world.path().join("cache/8.tar.sig")).unwrap();
    assert_eq!(second.take(world.bundle(8, None), &world.keys()).await.unwrap(), Refresh::Unchanged);
    assert!(world.path().join("cache/8.tar").exists() && !world.path().join("cache/7.tar").exists());
    // A process that begins anew knows what is there, and no more.
    let later = World {
        store: Arc::new(PolicyStore::awaiting(PolicySource::default()).unwrap()),
        health: Arc::default(),
        ..world
    };
    later.begun();
    assert_eq!((later.store.current().digest(), later.sequence()), (&*digest, Some(8)));
}

#[tokio::test]
async fn a_bundle_that_has_expired_is_not_taken_and_one_that_is_there_stays() {
    let world = World::new();
    let mut distribution = world.begun();
    let (past, future) = (Some("2026-01-31T00:00:00Z"), Some("9999-12-31T23:59:59Z"));
    let error = distribution.take(world.bundle(7, past), &world.keys()).await.unwrap_err();
    let said = "the bundle is `lake@7`, which expired at 2026-01-31T00:00:00Z: sign the policies again";
    assert!(error.rule() == "expired" && error.to_string().starts_with(said), "{error}");
    assert_eq!((world.store.number(), world.sequence()), (0, None));
    // Nor has it held anything back.
    assert_eq!(distribution.take(world.bundle(6, future), &world.keys()).await.unwrap(), Refresh::Swapped);
    assert_eq!(world.health.state().in_force.unwrap().expires, Expiry::parse(future.unwrap()).ok());
    // On disk it was good when it came: without it nothing would be permitted.
    let Fetched { tar, signature, .. } = world.bundle(9, past);
    Cache::at(&world.path().join("cache")).keep(9, &tar, &signature).unwrap();
    let later = World {
        store: Arc::new(PolicyStore::awaiting(PolicySource::default()).unwrap()),
        health: Arc::default(),
        ..world
    };
    let mut distribution = later.begun();
    assert_eq!((later.store.number(), later.sequence()), (1, Some(9)));
    let error = distribution.take(later.bundle(9, past), &later.keys()).await.unwrap_err();
    assert_eq!((error.rule(), later.sequence()), ("expired", Some(9)));
}

#[test]
fn a_server_need_not_send_again_what_would_be_refused_again() {
    let world = World::new();
    let version = Version { etag: Some(HeaderValue::from_static("\"7\"")), signature: Vec::new() };
    let seen = |refused: Option<DistributionError>, again: u32| Seen {
        again,
        ..Seen::new(world.keys(), version.clone(), refused)
    };
    assert!(seen(None, 99).will_do(true) && !seen(None, 0).will_do(false), "what is in force is to be on disk");
    let found = Manifest::new("lake", 7).unwrap();
    let twice = DistributionError::SequenceTwice { found: found.clone() };
    assert!(seen(Some(twice), 99).will_do(false));
    let expired = |at: &str| DistributionError::Expired { found: found.clone(), expired: Expiry::parse(at).unwrap() };
    assert!(seen(Some(expired("2026-01-31T00:00:00Z")), 99).will_do(false));
    assert!(!seen(Some(expired("9999-12-31T23:59:59Z")), 0).will_do(false), "the clock was set back");
    let signature = DistributionError::from(crate::policy::PolicyBundleError::Signature { keys: 1 });
    assert!(seen(Some(signature.clone()), BELIEVED - 1).will_do(false));
    assert!(!seen(Some(signature), BELIEVED).will_do(false), "two files may have one ETag");
}
