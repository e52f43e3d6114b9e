//! Who speaks for which trust domain.

use std::collections::{BTreeMap, BTreeSet};

use super::StoreError;
use crate::identity::source::{Brought, Own, Part};
use crate::identity::{TrustBundle, TrustDomain};

/// One part for each trust domain.
///
/// For our own it is whoever gives us our SVID, or the operator: an endpoint that was asked before it was known who we are does not get to
/// speak for it. For any other it is whom the configuration names, else the Workload API.
#[derive(Debug, Default)]
pub(super) struct Speakers<'h> {
    heard: BTreeMap<&'h TrustDomain, (&'h Part, &'h TrustBundle)>,
    ignored: Vec<String>,
}

impl<'h> Speakers<'h> {
    /// Finds them among all that is held.
    ///
    /// # Errors
    /// [`StoreError::Twice`]: two that the configuration names. [`StoreError::TwoOwn`].
    pub(super) fn of(
        held: &'h BTreeMap<Part, Brought>,
        configured: &BTreeSet<TrustDomain>,
    ) -> Result<Self, StoreError> {
        let own_trust_domain = own(held)?.as_ref().and_then(Own::trust_domain);
        let is_of_own = |bundle: &TrustBundle| own_trust_domain.as_deref() == Some(bundle.trust_domain().as_str());
        // With our SVID comes the bundle that goes with it.
        let is_by_agent = held
            .get(&Part::WorkloadApi)
            .is_some_and(|agent| agent.own.is_some() && agent.bundles.iter().any(is_of_own));
        let mut speakers = Self::default();
        for (part, brought) in held {
            for bundle in &brought.bundles {
                let trust_domain = bundle.trust_domain();
                let is_own = is_of_own(bundle);
                let is_heard = match part {
                    Part::WorkloadApi => is_own || !configured.contains(trust_domain),
                    Part::Files => !(is_own && is_by_agent),
                    Part::Federation(_) => !is_own,
                };
                if !is_heard {
                    speakers.ignored.push(match is_own {
                        true => format!(
                            "the bundle of our own trust domain `{trust_domain}` that {part} brings is ignored: it comes with our SVID"
                        ),
                        false => format!(
                            "the bundle of the trust domain `{trust_domain}` that {part} brings is ignored: the configuration has another for it"
                        ),
                    });
                } else if let Some((first, _)) = speakers.heard.insert(trust_domain, (part, bundle)) {
                    let (first, second) = (first.clone(), part.clone());
                    return Err(StoreError::Twice { trust_domain: trust_domain.clone(), first, second });
                }
            }
        }
        Ok(speakers)
    }

    /// The bundles that count, without their lists.
    pub(super) fn bundles(&self) -> impl Iterator<Item = &'h TrustBundle> {
        self.heard.values().map(|(_, bundle)| *bundle)
    }

    /// What of all that is held does not count, and why.
    pub(super) fn ignored(self) -> Vec<String> {
        self.ignored
    }
}

/// The only SVID of ours that there is.
pub(super) fn own(held: &BTreeMap<Part, Brought>) -> Result<Option<Own>, StoreError> {
    let mut all = held.iter().filter_map(|(part, brought)| Some((part, brought.own.as_ref()?)));
    match (all.next(), all.next()) {
        (Some((first, _)), Some((second, _))) => {
            Err(StoreError::TwoOwn { first: first.clone(), second: second.clone() })
        }
        (only, _) => Ok(only.map(|(_, own)| own.clone())),
    }
}
