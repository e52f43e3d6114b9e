//! What compiled policies can tell apart, for those who compare policies with each other.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::compiled::Engine;
use super::names::{Key, Name};
use crate::identity::SpiffeId;
use crate::mapping::{Resource, ResourceKind};
use crate::policy::load::ancestors_above;

/// A principal, an action or a resource as the compiled policies see it: by what they name, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spot {
    keys: Vec<Key>,
    tags: BTreeMap<String, Vec<String>>,
}

impl Spot {
    /// The tags, its own and those from above.
    #[must_use]
    pub const fn tags(&self) -> &BTreeMap<String, Vec<String>> {
        &self.tags
    }

    /// Whether it is nothing, and in nothing, that policies name.
    #[must_use]
    pub fn is_nowhere(&self) -> bool {
        self.keys.iter().all(|key| *key == Key::ANY)
    }

    /// The same for all that no policy can tell apart by what it names.
    #[must_use]
    pub fn keys(&self) -> &(impl Eq + std::hash::Hash + use<>) {
        &self.keys
    }
}

/// What entities.json says of an entity: what it is in, and its tags.
pub(in crate::policy) type Said = (Vec<String>, BTreeMap<String, Vec<String>>);

impl Engine {
    /// Type and id of every entity that a policy or entities.json names.
    pub(in crate::policy) fn named(&self) -> impl Iterator<Item = (String, &str)> {
        self.names().all().map(|(_, uid)| (uid.type_name().to_string(), uid.id().unescaped()))
    }

    /// What entities.json says, by entity.
    pub(in crate::policy) fn said(&self) -> BTreeMap<String, Said> {
        let names = self.names();
        let mut said = BTreeMap::new();
        for (name, uid) in names.all() {
            let above = names.above(name).iter().filter_map(|above| names.uid(*above));
            let mut above: Vec<String> = above.map(ToString::to_string).collect();
            above.sort();
            let tags = names.tags(name).map(|tags| (**tags).clone()).unwrap_or_default();
            if !above.is_empty() || !tags.is_empty() {
                said.insert(uid.to_string(), (above, tags));
            }
        }
        said
    }

    /// The actions with the kinds of resources that they are asked about, and a number that is the same where the context has one form.
    pub(in crate::policy) fn surveyed_actions(&self) -> Vec<(String, Vec<ResourceKind>, usize, Spot)> {
        let mut actions: Vec<_> = self
            .action_forms()
            .iter()
            .filter_map(|(name, form)| {
                let kinds = ResourceKind::ALL.into_iter().filter(|kind| form.applies_to(*kind)).collect();
                let spot = Spot { keys: self.action_keys(name)?.to_vec(), tags: BTreeMap::new() };
                Some((name.to_owned(), kinds, form.context_form(), spot))
            })
            .collect();
        actions.sort_by(|one, other| one.0.cmp(&other.0));
        actions
    }

    pub(in crate::policy) fn principal_spot(&self, id: &SpiffeId) -> Spot {
        let principal = self.principal(id);
        Spot { keys: principal.keys.to_vec(), tags: principal.tags().clone() }
    }

    pub(in crate::policy) fn resource_spot(&self, resource: &Resource) -> Spot {
        let located = self.locate(resource);
        let mut keys = located.keys;
        keys.sort_unstable();
        keys.dedup();
        Spot { keys, tags: located.tags.into_map() }
    }

    /// Whether what is at `spot` is the entity, or else in it.
    pub(in crate::policy) fn holds(&self, spot: &Spot, kind: &str, id: &str, exactly: bool) -> bool {
        let key = |name: Name| if exactly { name.exactly() } else { name.within() };
        self.names().find(kind, id).is_some_and(|name| spot.keys.contains(&key(name)))
    }

    /// Whether the entity is what is at `spot`, or in it.
    pub(in crate::policy) fn is_held_by(&self, spot: &Spot, kind: &str, id: &str) -> bool {
        let by_id = ancestors_above(kind, id);
        let mut own = std::iter::once((kind, id)).chain(by_id.iter().map(|(kind, id)| (*kind, id.as_str())));
        let names = self.names();
        own.any(|(kind, id)| {
            names.find(kind, id).is_some_and(|name| {
                let mut all = std::iter::once(&name).chain(names.above(name));
                all.any(|name| spot.keys.contains(&name.exactly()))
            })
        })
    }

    /// The positions of the policies whose scope matches.
    pub(in crate::policy) fn matching(
        &self,
        action: &Spot,
        principal: &Spot,
        resource: Option<(&Spot, ResourceKind)>,
    ) -> Vec<u32> {
        let scopes = match resource {
            Some((resource, _)) => self.index().candidates(&action.keys, &principal.keys, &resource.keys),
            None => self.index().of_any_resource(&action.keys, &principal.keys),
        };
        let mut found = Vec::new();
        for scope in scopes.into_iter().filter_map(|number| self.scope(number)) {
            let other_kind = |kind: &str| resource.is_some_and(|(_, asked)| asked.as_str() != kind);
            if scope.resource_type.as_deref().is_some_and(other_kind) {
                continue;
            }
            found.extend_from_slice(&scope.permits);
            found.extend_from_slice(&scope.forbids);
            found.extend(scope.conditional.iter().map(|conditional| conditional.number));
        }
        found.sort_unstable();
        found
    }

    /// The ids of the policies by their position.
    pub(in crate::policy) fn ids(&self) -> &[Arc<str>] {
        self.ids_in_order()
    }
}
