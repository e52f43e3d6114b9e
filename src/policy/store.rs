//! The generation in force, and its replacement.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::bundle::PolicyBundle;
use super::generation::{PolicyGeneration, PolicySource};
use super::load::{PolicyErrors, PolicyFiles};
use super::proof;
use super::shadow::ShadowDirectory;

/// Holds the policies in force. A reload that fails leaves them in force.
#[derive(Debug)]
pub struct PolicyStore {
    source: PolicySource,
    current: ArcSwap<PolicyGeneration>,
    changed: watch::Sender<u64>,
    /// One replaces at a time.
    replacing: Mutex<Replacing>,
}

/// What who replaces the generation has to know.
#[derive(Debug)]
enum Replacing {
    /// It is read from the directory; what was refused at the last look is not compiled again.
    Directory { refused: Option<(Box<PolicyFiles>, PolicyErrors)> },
    /// Somebody brings bundles; the files of the one in force, for candidates that change beside it.
    Bundles { in_force: Option<Box<PolicyFiles>> },
}

/// What a reload did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reloaded {
    /// The files are those in force.
    Unchanged,
    /// They changed: the new generation's number.
    Swapped(u64),
}

impl PolicyStore {
    /// Loads the first generation from the directory.
    ///
    /// # Errors
    /// Everything that is wrong with the directory.
    pub fn open(source: PolicySource) -> Result<Self, PolicyErrors> {
        let first = PolicyGeneration::load(&source, 1)?;
        Ok(Self::holding(source, first, Replacing::Directory { refused: None }))
    }

    /// A store that denies everything until a bundle is [put in force](Self::put).
    ///
    /// # Errors
    /// The shipped schema does not load.
    pub fn awaiting(source: PolicySource) -> Result<Self, PolicyErrors> {
        let nothing = PolicyGeneration::none(&source)?;
        Ok(Self::holding(source, nothing, Replacing::Bundles { in_force: None }))
    }

    fn holding(source: PolicySource, first: PolicyGeneration, replacing: Replacing) -> Self {
        let changed = watch::Sender::new(first.number());
        Self { source, current: ArcSwap::from_pointee(first), changed, replacing: Mutex::new(replacing) }
    }

    /// The generation in force. A request keeps the one it began with.
    #[must_use]
    pub fn current(&self) -> Arc<PolicyGeneration> {
        self.current.load_full()
    }

    /// Its number.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.current.load().number()
    }

    /// Told the number of each new generation once it is in force: what a decision that lasts is asked again by.
    #[must_use]
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Where the policies come from.
    #[must_use]
    pub const fn source(&self) -> &PolicySource {
        &self.source
    }

    /// Puts a bundle in force, unless its files are those in force. Takes as long as compiling it does.
    ///
    /// # Errors
    /// Everything that is wrong with its files. What was in force stays so.
    pub fn put(&self, bundle: &PolicyBundle) -> Result<Reloaded, PolicyErrors> {
        let mut replacing = self.replacing();
        let current = self.current();
        proof::required(bundle.policy_files(), &self.source).map_err(PolicyErrors::one)?;
        if current.number() > 0 && bundle.digest() == current.digest() {
            return Ok(Reloaded::Unchanged);
        }
        let files = Box::new(bundle.policy_files().clone());
        let reloaded = self.swap(&files, self.new_shadow(&current), &current)?;
        *replacing = Replacing::Bundles { in_force: Some(files) };
        Ok(reloaded)
    }

    /// Looks at the directories again and puts what changed in force.
    ///
    /// # Errors
    /// Everything that is wrong with the directory. What was in force stays so.
    pub fn reload(&self) -> Result<Reloaded, PolicyErrors> {
        let mut replacing = self.replacing();
        let current = self.current();
        match &mut *replacing {
            // Nothing that a candidate could decide beside.
            Replacing::Bundles { in_force: None } => Ok(Reloaded::Unchanged),
            Replacing::Bundles { in_force: Some(files) } => match self.new_shadow(&current) {
                None => Ok(Reloaded::Unchanged),
                new_shadow => self.swap(files, new_shadow, &current),
            },
            Replacing::Directory { refused } => {
                let directory = &self.source.directory;
                let looked = PolicyFiles::read(directory);
                // Before anything is compiled, also the candidate: it would have nothing to stand beside.
                if let (Some((before, errors)), Ok(files)) = (refused.as_ref(), &looked)
                    && before.is(files)
                {
                    return Err(errors.clone());
                }
                let new_shadow = self.new_shadow(&current);
                let is_old = |files: &PolicyFiles| new_shadow.is_none() && files.digest == current.digest();
                let is_proved = |files: &PolicyFiles| proof::required(files, &self.source);
                if looked.is_ok_and(|files| is_old(&files) && is_proved(&files).is_ok()) {
                    *refused = None;
                    return Ok(Reloaded::Unchanged);
                }
                let files = PolicyFiles::read_settled(directory)?;
                if is_old(&files) {
                    *refused = None;
                    // Nothing changes, but they could not be loaded again: somebody has to know before they have to be.
                    return is_proved(&files).map(|()| Reloaded::Unchanged).map_err(PolicyErrors::one);
                }
                let reloaded = self.swap(&files, new_shadow, &current);
                *refused = reloaded.as_ref().err().map(|errors| (Box::new(files), errors.clone()));
                reloaded
            }
        }
    }

    fn new_shadow(&self, current: &PolicyGeneration) -> Option<ShadowDirectory> {
        let directory = self.source.shadow.as_deref()?;
        ShadowDirectory::look(directory, &self.source, current.shadow())
    }

    fn swap(
        &self,
        files: &PolicyFiles,
        new_shadow: Option<ShadowDirectory>,
        current: &PolicyGeneration,
    ) -> Result<Reloaded, PolicyErrors> {
        let number = current.number() + 1;
        let shadow = new_shadow.or_else(|| current.shadow().cloned());
        self.current.store(Arc::new(PolicyGeneration::from_files(files, &self.source, number, shadow)?));
        self.changed.send_replace(number);
        Ok(Reloaded::Swapped(number))
    }

    fn replacing(&self) -> MutexGuard<'_, Replacing> {
        self.replacing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
