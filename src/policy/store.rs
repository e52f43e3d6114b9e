//! The generation in force, and its replacement.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;

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
    /// Loads the first generation.
    ///
    /// # Errors
    /// Everything that is wrong with the directory.
    pub fn open(source: PolicySource) -> Result<Self, PolicyErrors> {
        let current = ArcSwap::from_pointee(PolicyGeneration::load(&source, 1)?);
        Ok(Self { source, current, changed: watch::Sender::new(1) })
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

    /// Reads the directory again and, if its contents changed, puts them in force.
    ///
    /// # Errors
    /// Everything that is wrong with the directory. What was in force stays so.
    pub fn reload(&self) -> Result<Reloaded, PolicyErrors> {
        let current = self.current();
        let look = |directory| ShadowDirectory::look(directory, &self.source, current.shadow());
        let new_shadow = self.source.shadow.as_deref().and_then(look);
        let is_in_force = |files: &PolicyFiles| new_shadow.is_none() && files.digest == current.digest();
        let is_proved = |files: &PolicyFiles| proof::required(files, &self.source);
        if PolicyFiles::read(&self.source.directory).is_ok_and(|files| is_in_force(&files) && is_proved(&files).is_ok())
        {
            return Ok(Reloaded::Unchanged);
        }
        let files = PolicyFiles::read_settled(&self.source.directory)?;
        if is_in_force(&files) {
            // Nothing changes, but they could not be loaded again: somebody has to know before they have to be.
            return is_proved(&files).map(|()| Reloaded::Unchanged).map_err(PolicyErrors::one);
        }
        let number = current.number() + 1;
        let shadow = new_shadow.or_else(|| current.shadow().cloned());
        self.current.store(Arc::new(PolicyGeneration::from_files(&files, &self.source, number, shadow)?));
        self.changed.send_replace(number);
        Ok(Reloaded::Swapped(number))
    }
}
