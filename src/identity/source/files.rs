//! SVID and bundles from files.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwapOption;
use aws_lc_rs::digest;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;
use tokio::sync::watch;

use super::{GenerationError, X509Generation, X509Source};
use crate::identity::{BundleError, Clock, TrustBundle, TrustBundleSet, TrustDomain};

/// Files that change at every one of so many looks are taken as the last one found them.
const MAX_LOOKS: usize = 8;

/// The files of one identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSourcePaths {
    /// The chain, leaf first, PEM.
    pub certificate: PathBuf,
    /// The leaf's key, PEM: PKCS#8, SEC1 or PKCS#1.
    pub private_key: PathBuf,
    /// The bundle of each trust domain, PEM.
    pub bundles: BTreeMap<TrustDomain, PathBuf>,
}

/// An [`X509Source`] that reads files when told to.
///
/// All files are one generation: read together, checked together, put in force together. A set that fails a check
/// leaves the last good one in force.
#[derive(Debug)]
pub struct FileSource {
    paths: FileSourcePaths,
    clock: Clock,
    current: ArcSwapOption<X509Generation>,
    changed: watch::Sender<u64>,
    /// What was in the files that are in force. Held during a reload, so that two of them do not interleave.
    in_force: Mutex<Option<digest::Digest>>,
}

/// What a reload did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reloaded {
    /// The files hold what is in force already.
    Unchanged,
    /// A new generation, of this number, is in force.
    Swapped(u64),
}

/// Why the files do not make a generation.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the fields are what the message shows")]
pub enum SourceError {
    /// A file cannot be read.
    #[error("cannot read `{}`: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    /// Broken PEM: a half-written file.
    #[error("`{}` is not PEM: {detail}", path.display())]
    Pem { path: PathBuf, detail: String },
    /// No key in the key's file.
    #[error("`{}` holds no private key (PKCS#8, SEC1 or PKCS#1, not encrypted)", path.display())]
    NoKey { path: PathBuf },
    /// A bundle cannot be used.
    #[error("trust bundle `{}` of `{trust_domain}` {source}", path.display())]
    Bundle { path: PathBuf, trust_domain: TrustDomain, source: BundleError },
    /// The parts do not belong together.
    #[error("`{}`: {source}", path.display())]
    Generation { path: PathBuf, source: GenerationError },
}

impl SourceError {
    /// Whether a file is not there (yet).
    #[must_use]
    pub fn is_missing_file(&self) -> bool {
        matches!(self, Self::Read { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// The cause's stable name, as metrics have it.
    #[must_use]
    pub const fn rule(&self) -> &'static str {
        match self {
            Self::Read { .. } => "unreadable-file",
            Self::Pem { .. } => "pem",
            Self::NoKey { .. } => "private-key",
            Self::Bundle { .. } => "trust-bundle",
            Self::Generation { source, .. } => source.rule(),
        }
    }

    /// The file that is to blame.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Read { path, .. }
            | Self::Pem { path, .. }
            | Self::NoKey { path }
            | Self::Bundle { path, .. }
            | Self::Generation { path, .. } => path,
        }
    }
}

impl FileSource {
    /// A source whose files are good now.
    ///
    /// # Errors
    /// They are not.
    pub fn open(paths: FileSourcePaths) -> Result<Self, SourceError> {
        let source = Self::waiting(paths, Clock::system());
        source.reload()?;
        Ok(source)
    }

    /// A source that has nothing until a [`Self::reload`] succeeds, and that judges validity by `clock`.
    #[must_use]
    pub fn waiting(paths: FileSourcePaths, clock: Clock) -> Self {
        let (changed, _) = watch::channel(0);
        Self { paths, clock, current: ArcSwapOption::empty(), changed, in_force: Mutex::new(None) }
    }

    /// Reads the files again and puts them in force if they changed and are good.
    ///
    /// # Errors
    /// What is wrong with them. The last good generation stays in force.
    pub fn reload(&self) -> Result<Reloaded, SourceError> {
        let mut in_force = self.in_force.lock().unwrap_or_else(PoisonError::into_inner);
        let known = in_force.as_ref().map(|digest| digest.as_ref().to_vec());
        let unchanged = |files: &Files| known.as_deref() == Some(files.digest().as_ref());
        if Files::read(&self.paths).is_ok_and(|files| unchanged(&files)) {
            return Ok(Reloaded::Unchanged);
        }
        let files = Files::read_settled(&self.paths)?;
        if unchanged(&files) {
            return Ok(Reloaded::Unchanged);
        }
        let number = self.changed.borrow().saturating_add(1);
        let generation = self.generation(number, &files)?;
        for bundle in generation.bundles.iter() {
            for skipped in bundle.skipped() {
                tracing::warn!(
                    trust_domain = %bundle.trust_domain(), index = skipped.index, rule = skipped.error.rule(),
                    "certificate in a trust bundle is not trusted: {}", skipped.error
                );
            }
        }
        self.current.store(Some(Arc::new(generation)));
        *in_force = Some(files.digest());
        self.changed.send_replace(number);
        Ok(Reloaded::Swapped(number))
    }

    /// The files.
    #[must_use]
    pub fn paths(&self) -> &FileSourcePaths {
        &self.paths
    }

    fn generation(&self, number: u64, files: &Files) -> Result<X509Generation, SourceError> {
        let certificate = || self.paths.certificate.clone();
        let chain = CertificateDer::pem_slice_iter(&files.certificate)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| SourceError::Pem { path: certificate(), detail: error.to_string() })?;
        let key = PrivateKeyDer::from_pem_slice(&files.private_key).map_err(|error| {
            let path = self.paths.private_key.clone();
            match error {
                PemError::NoItemsFound => SourceError::NoKey { path },
                error => SourceError::Pem { path, detail: error.to_string() },
            }
        })?;
        let mut bundles = Vec::with_capacity(files.bundles.len());
        for (trust_domain, pem) in &files.bundles {
            bundles.push(
                TrustBundle::from_pem(trust_domain.clone(), pem)
                    .map_err(|source| self.bundle_error(trust_domain, source))?,
            );
        }
        let bundles = TrustBundleSet::new(bundles).map_err(|error| match error {
            BundleError::Duplicate { ref trust_domain } => self.bundle_error(&trust_domain.clone(), error),
            error => SourceError::Pem { path: certificate(), detail: error.to_string() },
        })?;
        X509Generation::new(number, chain, key, bundles, self.clock.now())
            .map_err(|source| SourceError::Generation { path: certificate(), source })
    }

    fn bundle_error(&self, trust_domain: &TrustDomain, source: BundleError) -> SourceError {
        let path = self.paths.bundles.get(trust_domain).cloned().unwrap_or_default();
        SourceError::Bundle { path, trust_domain: trust_domain.clone(), source }
    }
}

impl X509Source for FileSource {
    fn current(&self) -> Option<Arc<X509Generation>> {
        self.current.load_full()
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

/// What is in the files at one moment.
struct Files {
    certificate: Vec<u8>,
    private_key: Vec<u8>,
    bundles: BTreeMap<TrustDomain, Vec<u8>>,
}

impl Files {
    /// Reads until two looks in a row find the same. Kubernetes swaps all files of a mount at once; a look that falls into the
    /// swap finds some old and some new ones.
    fn read_settled(paths: &FileSourcePaths) -> Result<Self, SourceError> {
        let mut last = Self::read(paths);
        for _ in 0..MAX_LOOKS {
            let next = Self::read(paths);
            match (last, next) {
                (Ok(last), Ok(next)) if last.digest().as_ref() == next.digest().as_ref() => return Ok(next),
                (_, next) => last = next,
            }
        }
        last
    }

    fn read(paths: &FileSourcePaths) -> Result<Self, SourceError> {
        let read =
            |path: &PathBuf| std::fs::read(path).map_err(|source| SourceError::Read { path: path.clone(), source });
        let mut bundles = BTreeMap::new();
        for (trust_domain, path) in &paths.bundles {
            bundles.insert(trust_domain.clone(), read(path)?);
        }
        Ok(Self { certificate: read(&paths.certificate)?, private_key: read(&paths.private_key)?, bundles })
    }

    /// A digest rather than the content: the key is not kept twice.
    fn digest(&self) -> digest::Digest {
        let mut context = digest::Context::new(&digest::SHA256);
        for part in [&self.certificate, &self.private_key].into_iter().chain(self.bundles.values()) {
            // The length keeps a byte that moves from one file's end to the next file's start from going unnoticed.
            context.update(&part.len().to_be_bytes());
            context.update(part);
        }
        context.finish()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use tempfile::TempDir;

    use super::*;
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
                certificate: self.path("svid.pem"),
                private_key: self.path("svid.key"),
                bundles: BTreeMap::from([(domain("prod.test"), self.path("bundle.pem"))]),
            }
        }
    }

    fn in_force(source: &FileSource) -> (u64, String) {
        let generation = source.current().unwrap();
        (generation.number, generation.svid.id().to_string())
    }

    #[test]
    fn new_files_become_the_next_generation_and_are_announced() {
        let fixture = Fixture::new();
        let source = FileSource::open(fixture.paths()).unwrap();
        let changed = source.changed();
        assert_eq!((in_force(&source), *changed.borrow()), ((1, "spiffe://prod.test/a".into()), 1));
        assert_eq!(source.reload().unwrap(), Reloaded::Unchanged);
        fixture.write_svid(&fixture.mint("spiffe://prod.test/b"));
        assert_eq!(source.reload().unwrap(), Reloaded::Swapped(2));
        assert_eq!((in_force(&source), *changed.borrow()), ((2, "spiffe://prod.test/b".into()), 2));
    }

    #[test]
    fn a_bundle_alone_that_changes_is_a_new_generation_too() {
        let fixture = Fixture::new();
        let source = FileSource::open(fixture.paths()).unwrap();
        let second = DevCa::new(&domain("prod.test"), HOUR).unwrap();
        fixture.write("bundle.pem", &(fixture.ca.certificate_pem() + &second.certificate_pem()));
        assert_eq!(source.reload().unwrap(), Reloaded::Swapped(2));
        assert_eq!(source.current().unwrap().bundles.anchors("prod.test").unwrap().len(), 2);
    }

    #[test]
    fn a_set_that_is_half_written_mismatched_or_wrong_leaves_the_last_good_one() {
        let fixture = Fixture::new();
        let source = FileSource::open(fixture.paths()).unwrap();
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
        assert!(FileSource::open(fixture.paths()).is_err());
        let source = FileSource::waiting(fixture.paths(), Clock::system());
        assert!(source.reload().is_err());
        assert!(source.current().is_none());
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
        let paths = FileSourcePaths {
            certificate: fixture.path("..data/svid.pem"),
            private_key: fixture.path("..data/svid.key"),
            ..fixture.paths()
        };
        let source = FileSource::open(paths).unwrap();
        std::os::unix::fs::symlink("..2", fixture.path("..data_tmp")).unwrap();
        std::fs::rename(fixture.path("..data_tmp"), fixture.path("..data")).unwrap();
        assert_eq!(source.reload().unwrap(), Reloaded::Swapped(2));
        assert_eq!(in_force(&source), (2, "spiffe://prod.test/two".into()));
    }

    #[test]
    fn keys_in_pkcs8_and_sec1_are_read() {
        let fixture = Fixture::new();
        let source = FileSource::open(fixture.paths()).unwrap();
        let PrivateKeyDer::Pkcs8(pkcs8) = source.current().unwrap().key.clone_key() else { panic!("minted as PKCS#8") };
        // PKCS#8 ends with the SEC1 form: SEQUENCE { INTEGER 1, OCTET STRING of 32 bytes, … } (RFC 5915).
        let der = pkcs8.secret_pkcs8_der();
        let version_and_key = [2, 1, 1, 4, 32];
        let at = der.windows(5).position(|window| window == version_and_key).unwrap();
        let sec1 = &der[at - 2..];
        let pem = pem_of("EC PRIVATE KEY", sec1);
        fixture.write("svid.key", &pem);
        assert_eq!(source.reload().unwrap(), Reloaded::Swapped(2));
        assert!(matches!(source.current().unwrap().key, PrivateKeyDer::Sec1(_)));
    }

    fn pem_of(kind: &str, der: &[u8]) -> String {
        use base64::Engine as _;
        let text = base64::engine::general_purpose::STANDARD.encode(der);
        format!("-----BEGIN {kind}-----\n{text}\n-----END {kind}-----\n")
    }

    #[test]
    fn the_key_is_never_shown() {
        let fixture = Fixture::new();
        let source = FileSource::open(fixture.paths()).unwrap();
        let PrivateKeyDer::Pkcs8(key) = source.current().unwrap().key.clone_key() else { panic!("minted as PKCS#8") };
        let shown = format!("{source:?}{:?}", source.current());
        assert!(!shown.contains(&format!("{:?}", &key.secret_pkcs8_der()[..8])));
        assert!(shown.contains("elided"));
    }
}
