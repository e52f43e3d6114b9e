//! SVID, bundles and revocation lists from files.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::documents::{Documents, Read};
use super::{Brought, IdentityStore, Own, Part, Reloaded, SourceError, StoreError};
use crate::identity::{BundleError, Clock, Crls, Denied, OnExpiredCrl, SpiffeId, TrustBundle, TrustDomain, X509Svid};

/// The files of one identity.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FileSourcePaths {
    /// Our own SVID; none if it comes from elsewhere.
    pub own: Option<OwnFiles>,
    /// For each trust domain the file with its bundle, or a directory of such files.
    pub bundles: BTreeMap<TrustDomain, PathBuf>,
    /// For each trust domain the file with its revocation lists, or a directory of such files.
    pub crls: BTreeMap<TrustDomain, PathBuf>,
    /// What becomes of certificates whose issuer's revocation list has expired.
    pub on_expired_crl: OnExpiredCrl,
    /// The file with the emergency lists.
    pub denied: Option<PathBuf>,
}

/// The files of our own SVID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnFiles {
    /// The chain, leaf first, PEM.
    pub certificate: PathBuf,
    /// The leaf's key, PEM: PKCS#8, SEC1 or PKCS#1.
    pub private_key: PathBuf,
    /// Whose certificate it must be.
    pub spiffe_id: Option<SpiffeId>,
}

impl FileSourcePaths {
    /// All files and directories.
    pub fn all(&self) -> impl Iterator<Item = &Path> {
        let own = self.own.iter().flat_map(|own| [&own.certificate, &own.private_key]);
        own.chain(self.bundles.values()).chain(self.crls.values()).chain(&self.denied).map(PathBuf::as_path)
    }
}

/// Reads files when told to, and brings what they hold to an [`IdentityStore`].
///
/// All files are one generation: read together, checked together, put in force together. A set that fails a check
/// leaves the last good one in force.
#[derive(Debug)]
pub struct FileSource {
    paths: FileSourcePaths,
    store: Arc<IdentityStore>,
    /// What was in the files that count. Held during a reload, so that two of them do not interleave.
    counts: Mutex<Option<digest::Digest>>,
    has_warned_of_mode: AtomicBool,
}

impl FileSource {
    /// A source of these files for `store`. It reads nothing until [`Self::reload`].
    #[must_use]
    pub fn new(paths: FileSourcePaths, store: Arc<IdentityStore>) -> Self {
        Self { paths, store, counts: Mutex::new(None), has_warned_of_mode: AtomicBool::new(false) }
    }

    /// The identity in files that are good now, and that nobody reads again.
    ///
    /// # Errors
    /// They are not.
    pub fn load(paths: FileSourcePaths) -> Result<Arc<IdentityStore>, SourceError> {
        let store = Arc::new(IdentityStore::new(Denied::default(), Clock::system()));
        Self::new(paths, Arc::clone(&store)).reload()?;
        Ok(store)
    }

    /// Reads the files again and puts them in force if they changed and are good.
    ///
    /// # Errors
    /// What is wrong with them. The last good generation stays in force.
    pub fn reload(&self) -> Result<Reloaded, SourceError> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let reloaded = self.read_and_bring(&mut counts);
        if let Err(error) = &reloaded {
            self.store.failed(&Part::Files, error.rule(), error.to_string());
        }
        reloaded
    }

    /// The files.
    #[must_use]
    pub fn paths(&self) -> &FileSourcePaths {
        &self.paths
    }

    fn read_and_bring(&self, counts: &mut Option<digest::Digest>) -> Result<Reloaded, SourceError> {
        let known = counts.as_ref().map(|digest| digest.as_ref().to_vec());
        let is_known = |read: &Read| known.as_deref() == Some(read.digest().as_ref());
        if Read::once(&self.paths).is_ok_and(|read| is_known(&read)) {
            self.store.confirm(&Part::Files);
            return Ok(Reloaded::Unchanged);
        }
        let read = Read::settled(&self.paths)?;
        let brought = self.brought(&read)?;
        let reloaded = self.store.bring(Part::Files, brought).map_err(|error| self.of_store(error))?;
        *counts = Some(read.digest());
        if let Some(own) = &self.paths.own {
            self.warn_of_mode(&own.private_key);
        }
        Ok(reloaded)
    }

    fn brought(&self, read: &Read) -> Result<Brought, SourceError> {
        let own = match (&self.paths.own, &read.own) {
            (Some(files), Some(content)) => Some(self.own(files, &content.certificate, &content.private_key)?),
            _ => None,
        };
        let bundles = read.bundles.iter().map(|(trust_domain, documents)| bundle(trust_domain, documents));
        let crls = read.crls.iter().map(|(of, documents)| Ok((of.clone(), self.crls(of, documents)?)));
        Ok(Brought {
            own,
            bundles: bundles.collect::<Result<_, _>>()?,
            crls: crls.collect::<Result<_, SourceError>>()?,
            denied: self.denied(read)?,
        })
    }

    fn denied(&self, read: &Read) -> Result<Denied, SourceError> {
        let (Some(path), Some(document)) = (&self.paths.denied, &read.denied) else { return Ok(Denied::default()) };
        Denied::parse(document).map_err(|source| SourceError::Denied { path: path.clone(), source })
    }

    fn own(&self, files: &OwnFiles, certificate: &[u8], private_key: &[u8]) -> Result<Own, SourceError> {
        let pem = |path: &Path, error: &PemError| SourceError::Pem { path: path.into(), detail: error.to_string() };
        let chain = CertificateDer::pem_slice_iter(certificate)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| pem(&files.certificate, &error))?;
        let key = PrivateKeyDer::from_pem_slice(private_key).map_err(|error| match error {
            PemError::NoItemsFound => SourceError::NoKey { path: files.private_key.clone() },
            error => pem(&files.private_key, &error),
        })?;
        if let (Some(expected), Some(leaf)) = (&files.spiffe_id, chain.first())
            // A leaf that breaks a rule is refused with that rule, by the store.
            && let Ok(svid) = X509Svid::parse(leaf)
            && svid.id() != expected
        {
            let (expected, found) = (expected.clone(), svid.id().clone());
            return Err(SourceError::OtherId { path: files.certificate.clone(), expected, found });
        }
        Ok(Own { chain, key })
    }

    /// Says once that a key may be read by everybody. Whoever reads it is this workload.
    fn warn_of_mode(&self, path: &Path) {
        const OTHERS_READ: u32 = 0o004;
        let mode = std::fs::metadata(path).map(|metadata| metadata.permissions().mode()).unwrap_or_default();
        if mode & OTHERS_READ != 0 && !self.has_warned_of_mode.swap(true, Ordering::Relaxed) {
            let mode = format!("{:04o}", mode & 0o7777);
            tracing::warn!(path = %path.display(), mode, "everybody on this machine may read the private key");
        }
    }

    fn crls(&self, trust_domain: &TrustDomain, documents: &Documents) -> Result<Crls, SourceError> {
        let mut crls = Crls::new(self.paths.on_expired_crl);
        for (path, content) in documents {
            crls.add(content).map_err(|source| {
                let (path, trust_domain) = (path.clone(), trust_domain.clone());
                SourceError::Crl { path, trust_domain, source }
            })?;
        }
        Ok(crls)
    }

    fn of_store(&self, source: StoreError) -> SourceError {
        match (&self.paths.own, source) {
            (Some(files), StoreError::Generation(source)) => {
                SourceError::Generation { path: files.certificate.clone(), source }
            }
            (_, source) => SourceError::Store { source },
        }
    }
}

/// The bundle in all documents of one trust domain.
fn bundle(trust_domain: &TrustDomain, documents: &Documents) -> Result<TrustBundle, SourceError> {
    let mut all: Option<TrustBundle> = None;
    for (path, content) in documents {
        let bundle = TrustBundle::from_file_content(trust_domain.clone(), content).map_err(|source| {
            let (path, trust_domain) = (path.clone(), trust_domain.clone());
            SourceError::Bundle { path, trust_domain, source }
        })?;
        for skipped in bundle.skipped() {
            tracing::warn!(
                %trust_domain, path = %path.display(), index = skipped.index, rule = skipped.error.rule(),
                "certificate in a trust bundle is not trusted: {}", skipped.error
            );
        }
        for (index, reason) in bundle.ignored() {
            tracing::warn!(
                %trust_domain, path = %path.display(), index, rule = reason.rule(),
                "key in a trust bundle is not used: {reason}"
            );
        }
        all = Some(match all {
            Some(others) => others.joined(bundle),
            None => bundle,
        });
    }
    // A directory without documents has been refused when it was read.
    all.ok_or_else(|| {
        let (path, source) = (PathBuf::new(), BundleError::Empty);
        SourceError::Bundle { path, trust_domain: trust_domain.clone(), source }
    })
}

#[cfg(test)]
mod tests {
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
        let expired =
            fixture.ca.issue_with(&SvidParams::leaf(&spiffe_id("spiffe://prod.test/b"), HOUR / 2, past)).unwrap();
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

    fn pem_of(kind: &str, der: &[u8]) -> String {
        use base64::Engine as _;
        let text = base64::engine::general_purpose::STANDARD.encode(der);
        format!("-----BEGIN {kind}-----\n{text}\n-----END {kind}-----\n")
    }

    #[test]
    fn the_key_is_never_shown() {
        let fixture = Fixture::new();
        let source = fixture.open();
        let PrivateKeyDer::Pkcs8(key) = source.store.current().unwrap().key.clone_key() else {
            panic!("minted as PKCS#8")
        };
        let shown = format!("{source:?}{:?}", source.store.current());
        assert!(!shown.contains(&format!("{:?}", &key.secret_pkcs8_der()[..8])));
        assert!(shown.contains("elided"));
    }
}
