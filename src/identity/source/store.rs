//! One identity from all that its sources bring.

mod speakers;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwapOption;
use thiserror::Error;
use tokio::sync::watch;

use self::speakers::{Speakers, own};
use super::{Brought, GenerationError, Part, PartHealth, X509Generation, X509Source};
use crate::identity::{BundleError, Clock, Crls, Denied, TrustBundleSet, TrustDomain};

/// The [`X509Source`] of the process: joins what the parts bring into generations.
///
/// What a part brings is judged together with what all others brought, and put in force as a whole or not at all. What does not
/// stand up leaves the last good generation in force, and is tried again when another part brings something or time
/// has passed ([`Self::retry`]).
#[derive(Debug)]
pub struct IdentityStore {
    denied: Denied,
    /// What has to be there before anything is in force.
    awaited: Option<Part>,
    /// Whose bundles the configuration says where to get.
    configured: BTreeSet<TrustDomain>,
    clock: Clock,
    current: ArcSwapOption<X509Generation>,
    changed: watch::Sender<u64>,
    /// Held while a generation is made, so that two parts do not undo each other's work.
    parts: Mutex<Parts>,
}

#[derive(Debug, Default)]
struct Parts {
    /// What counts of each.
    held: BTreeMap<Part, Brought>,
    /// What did not stand up.
    refused: BTreeMap<Part, Brought>,
    health: BTreeMap<Part, PartHealth>,
}

/// What became of something that was brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reloaded {
    /// It is what counts already.
    Unchanged,
    /// A new generation, of this number, is in force.
    Swapped(u64),
    /// It counts from now on, but there is no SVID of ours yet.
    Waiting,
}

/// Why what the parts bring does not make a generation.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the fields are what the message shows")]
pub enum StoreError {
    /// Two parts speak for one trust domain.
    #[error("the bundle of the trust domain `{trust_domain}` comes twice: {first} and {second} both bring one")]
    Twice { trust_domain: TrustDomain, first: Part, second: Part },
    /// Two parts say who we are.
    #[error("our own SVID comes twice: {first} and {second} both bring one")]
    TwoOwn { first: Part, second: Part },
    /// The bundles do not make a set.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// SVID, key and bundles do not belong together.
    #[error(transparent)]
    Generation(#[from] GenerationError),
}

impl StoreError {
    /// The cause's stable name, as metrics have it.
    #[must_use]
    pub const fn rule(&self) -> &'static str {
        match self {
            Self::Twice { .. } => "bundle-twice",
            Self::TwoOwn { .. } => "svid-twice",
            Self::Bundle(_) => "trust-bundle",
            Self::Generation(error) => error.rule(),
        }
    }
}

impl IdentityStore {
    /// A store that has nothing yet. `denied` is refused whatever is brought; validity is judged by `clock`.
    #[must_use]
    pub fn new(denied: Denied, clock: Clock) -> Self {
        let (changed, _) = watch::channel(0);
        let (configured, current, parts) = (BTreeSet::new(), ArcSwapOption::empty(), Mutex::default());
        Self { denied, awaited: None, configured, clock, current, changed, parts }
    }

    /// The same, but nothing is in force before `part` has brought something: who is served without the lists that it is to bring may be
    /// just whom they keep out.
    #[must_use]
    pub fn awaiting(self, part: Part) -> Self {
        Self { awaited: Some(part), ..self }
    }

    /// The same, but what the Workload API says of these trust domains does not count, unless one is our own: the configuration says where
    /// their bundles come from.
    #[must_use]
    pub fn with_configured(self, configured: impl IntoIterator<Item = TrustDomain>) -> Self {
        Self { configured: configured.into_iter().collect(), ..self }
    }

    /// Takes all that `part` has to say, in place of what it said before.
    ///
    /// # Errors
    /// It does not stand up together with what the others brought. What was in force stays.
    pub fn bring(&self, part: Part, brought: Brought) -> Result<Reloaded, StoreError> {
        let mut parts = self.parts();
        let brought = parts.with_own_of_before(&part, brought);
        if parts.held.get(&part) == Some(&brought) {
            self.is_well(&mut parts, &part);
            return Ok(Reloaded::Unchanged);
        }
        match self.take(&mut parts, part.clone(), brought) {
            Ok(reloaded) => {
                // What did not go with the old state of this part may go with the new one.
                let settled = self.take_refused(&mut parts);
                Ok(settled.unwrap_or(reloaded))
            }
            Err(refused) => {
                let (brought, error) = *refused;
                self.health_of(&mut parts, &part).failed(self.clock.now(), error.rule(), error.to_string());
                // Files are read again anyway, and may hold something else by then.
                if part != Part::Files {
                    parts.refused.insert(part, brought);
                }
                Err(error)
            }
        }
    }

    /// Refuses these as well, though what else `part` has to say cannot be used: an emergency waits for nobody. They count until `part` brings
    /// something again.
    pub fn deny_too(&self, part: &Part, denied: Denied) -> Reloaded {
        let mut parts = self.parts();
        let Some(before) = parts.held.get(part).cloned() else { return Reloaded::Unchanged };
        let brought = Brought { denied: before.denied.clone().and(denied), ..before.clone() };
        if brought == before {
            return Reloaded::Unchanged;
        }
        parts.held.insert(part.clone(), brought);
        match self.generation(&parts.held) {
            Ok(generation) => generation.map_or(Reloaded::Waiting, |generation| self.put_in_force(generation)),
            Err(error) => {
                tracing::error!(%part, %error, "what is to be denied is not, since nothing of before stands up any more");
                parts.held.insert(part.clone(), before);
                Reloaded::Unchanged
            }
        }
    }

    /// `part` says what it said last.
    pub fn confirm(&self, part: &Part) {
        self.is_well(&mut self.parts(), part);
    }

    /// `part` says nothing that can be used; what it said last stays in force.
    pub fn failed(&self, part: &Part, rule: &'static str, message: String) {
        self.health_of(&mut self.parts(), part).failed(self.clock.now(), rule, message);
    }

    /// Takes back what `part` said: it has nothing for us any more. Without an SVID of ours nobody is served.
    pub fn withdraw(&self, part: &Part) -> Reloaded {
        let mut parts = self.parts();
        parts.refused.remove(part);
        if parts.held.remove(part).is_none() {
            return Reloaded::Unchanged;
        }
        match self.generation(&parts.held) {
            Ok(Some(generation)) => self.put_in_force(generation),
            Ok(None) => self.put_out_of_force(),
            Err(error) => {
                tracing::error!(%part, %error, "what was withdrawn leaves no identity that stands up");
                self.put_out_of_force()
            }
        }
    }

    /// Tries again what did not stand up: a certificate whose time had not come may be good now.
    pub fn retry(&self) -> Reloaded {
        self.take_refused(&mut self.parts()).unwrap_or(Reloaded::Unchanged)
    }

    /// All bundles that are held, with what keeps out of them, also while there is no SVID of ours; none while they do not make a set.
    #[must_use]
    pub fn trusted(&self) -> Option<TrustBundleSet> {
        let parts = self.parts();
        let speakers = Speakers::of(&parts.held, &self.configured).ok()?;
        self.bundles(&parts.held, &speakers).ok()
    }

    /// How each part fares, in their order.
    #[must_use]
    pub fn health(&self) -> Vec<PartHealth> {
        self.parts().health.values().cloned().collect()
    }

    /// The clock by which validity is judged.
    #[must_use]
    pub const fn clock(&self) -> &Clock {
        &self.clock
    }

    fn parts(&self) -> MutexGuard<'_, Parts> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn health_of<'p>(&self, parts: &'p mut Parts, part: &Part) -> &'p mut PartHealth {
        parts.health.entry(part.clone()).or_insert_with(|| PartHealth::new(part.clone()))
    }

    fn is_well(&self, parts: &mut Parts, part: &Part) {
        parts.refused.remove(part);
        let but = parts.held.get(part).and_then(|brought| brought.without_own.clone());
        self.health_of(parts, part).said(self.clock.now(), but);
    }

    /// Hands back what does not stand up.
    fn take(&self, parts: &mut Parts, part: Part, brought: Brought) -> Result<Reloaded, Box<(Brought, StoreError)>> {
        let brought = parts.with_own_of_before(&part, brought);
        let before = parts.held.insert(part.clone(), brought);
        match self.generation(&parts.held) {
            Ok(generation) => {
                self.is_well(parts, &part);
                warn_of_stray_crls(&parts.held);
                Ok(generation.map_or(Reloaded::Waiting, |generation| self.put_in_force(generation)))
            }
            Err(error) => {
                let refused = match before {
                    Some(before) => parts.held.insert(part.clone(), before),
                    None => parts.held.remove(&part),
                };
                Err(Box::new((refused.unwrap_or_default(), error)))
            }
        }
    }

    /// What became of the last one of them that is good now.
    fn take_refused(&self, parts: &mut Parts) -> Option<Reloaded> {
        let refused: Vec<Part> = parts.refused.keys().cloned().collect();
        let mut last = None;
        for part in refused {
            let Some(brought) = parts.refused.remove(&part) else { continue };
            match self.take(parts, part.clone(), brought) {
                Ok(reloaded) => last = Some(reloaded),
                // Nothing new: it has been said when it was brought.
                Err(refused) => _ = parts.refused.insert(part, refused.0),
            }
        }
        last
    }

    fn generation(&self, held: &BTreeMap<Part, Brought>) -> Result<Option<X509Generation>, StoreError> {
        let own = own(held)?;
        let speakers = Speakers::of(held, &self.configured)?;
        let bundles = self.bundles(held, &speakers)?;
        let is_awaiting = self.awaited.as_ref().is_some_and(|part| !held.contains_key(part));
        let Some(own) = own.filter(|_| !is_awaiting) else { return Ok(None) };
        let (number, now) = (self.changed.borrow().saturating_add(1), self.clock.now());
        // When the SVID in force has run out, nobody is let in by it; but who is in is judged by what is trusted now.
        let current = self.current.load();
        let before = current.as_ref().filter(|before| before.chain == own.chain);
        let as_of = before.map_or(now, |before| now.min(before.svid.not_after()));
        // Who does not give us our SVID any more says whom to trust all the same.
        let is_kept = held.values().any(|brought| brought.without_own.is_some());
        let make = if is_kept { X509Generation::keeping_own } else { X509Generation::new };
        Ok(Some(make(number, own.chain, own.key, bundles, as_of)?.with_ignored(speakers.ignored())))
    }

    /// All bundles with their lists.
    fn bundles(&self, held: &BTreeMap<Part, Brought>, speakers: &Speakers<'_>) -> Result<TrustBundleSet, StoreError> {
        let mut crls: BTreeMap<&TrustDomain, Crls> = BTreeMap::new();
        for (trust_domain, brought) in held.values().flat_map(|brought| &brought.crls) {
            // Lists of files and of the agent hold beside each other: none of them may hide what another revokes.
            let joined = crls.remove(trust_domain).map_or_else(|| brought.clone(), |earlier| earlier.joined(brought));
            crls.insert(trust_domain, joined);
        }
        let current = self.current.load();
        let bundles = speakers.bundles().map(|bundle| match crls.remove(bundle.trust_domain()) {
            Some(crls) => {
                let in_force = current.as_ref().and_then(|own| own.bundles.bundle(bundle.trust_domain().as_str()));
                bundle.clone().with_crls(&crls, in_force)
            }
            None => bundle.clone(),
        });
        let bundles = TrustBundleSet::new(bundles)?;
        let denied = held.values().map(|brought| brought.denied.clone()).fold(self.denied.clone(), Denied::and);
        Ok(bundles.with_denied(denied))
    }

    fn put_in_force(&self, generation: X509Generation) -> Reloaded {
        let number = generation.number;
        let generation = generation.following(self.current.load().as_deref());
        self.current.store(Some(Arc::new(generation)));
        self.changed.send_replace(number);
        Reloaded::Swapped(number)
    }

    fn put_out_of_force(&self) -> Reloaded {
        if self.current.swap(None).is_none() {
            return Reloaded::Unchanged;
        }
        // INVARIANT: numbers only go up, so that what was made for an older generation is never taken for a newer one's.
        self.changed.send_modify(|number| *number = number.saturating_add(1));
        Reloaded::Waiting
    }
}

impl X509Source for IdentityStore {
    fn current(&self) -> Option<Arc<X509Generation>> {
        self.current.load_full()
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

/// Perhaps misspelt, and then the trust domain that was meant goes without.
fn warn_of_stray_crls(held: &BTreeMap<Part, Brought>) {
    let has_bundle =
        |of: &TrustDomain| held.values().flat_map(|brought| &brought.bundles).any(|bundle| bundle.trust_domain() == of);
    for trust_domain in held.values().flat_map(|brought| brought.crls.keys()).filter(|of| !has_bundle(of)) {
        tracing::warn!(%trust_domain, "revocation lists of a trust domain without a bundle have no effect");
    }
}

impl Parts {
    /// What `part` brings without our SVID keeps the one that it brought before.
    fn with_own_of_before(&self, part: &Part, brought: Brought) -> Brought {
        if brought.without_own.is_none() {
            return brought;
        }
        Brought { own: self.held.get(part).and_then(|before| before.own.clone()), ..brought }
    }
}

#[cfg(test)]
mod tests;
