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
            if self.deny_meanwhile() != Reloaded::Unchanged {
                // The files that counted are not all that counts any more, and are brought again when they come back.
                *counts = None;
            }
            self.store.failed(&Part::Files, error.rule(), error.to_string());
        }
        reloaded
    }

    /// Has those denied at once whom the emergency lists name, though another file keeps the set from being used. Nobody is let in again
    /// before all of them are good.
    fn deny_meanwhile(&self) -> Reloaded {
        let document = self.paths.denied.as_ref().and_then(|path| std::fs::read(path).ok());
        match document.and_then(|document| Denied::parse(&document).ok()) {
            Some(denied) => self.store.deny_too(&Part::Files, denied),
            None => Reloaded::Unchanged,
        }
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
            without_own: None,
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
mod tests;
