//! Who asks: a workload with everything that a generation of policies knows of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use cedar_policy::{Entities, Entity, EntityId, EntityTypeName, EntityUid, RestrictedExpression};

use super::names::{Key, Name, Names, Tags};
use crate::identity::SpiffeId;
use crate::policy::load::{ancestors_above, tag_expressions, workload_attributes};

/// A workload, made once for a connection and generation of policies.
#[derive(Debug)]
pub struct Principal {
    id: SpiffeId,
    /// Which engine made it: keys mean nothing to another.
    pub(super) stamp: u64,
    pub(super) keys: Box<[Key]>,
    pub(super) uid: EntityUid,
    /// The workload alone, with all attributes and tags, and all ancestors as parents. An error: what Cedar did not take.
    pub(super) entities: Result<Entities, String>,
    ancestors: Vec<EntityUid>,
    given: Box<[Arc<str>]>,
    tags: BTreeMap<String, Vec<String>>,
    /// The same workload as each candidate knows it.
    pub(in crate::policy) candidates: Box<[Principal]>,
}

impl Principal {
    pub(super) fn resolve(id: &SpiffeId, names: &Names, workload: &EntityTypeName, stamp: u64) -> Self {
        let uid = EntityUid::from_type_name_and_id(workload.clone(), EntityId::new(id.as_str()));
        let own = names.find("Workload", id.as_str());
        let mut keys: Vec<Key> = own.map(Name::exactly).into_iter().collect();
        let mut ancestors = Vec::new();
        let mut tags = MergedTags::default();
        let path = ancestors_above("Workload", id.as_str());
        for (kind, above) in
            std::iter::once(("Workload", id.as_str())).chain(path.iter().map(|(kind, id)| (*kind, id.as_str())))
        {
            if above != id.as_str() {
                ancestors
                    .extend(kind.parse().ok().map(|kind| EntityUid::from_type_name_and_id(kind, EntityId::new(above))));
            }
            let Some(name) = names.find(kind, above) else { continue };
            keys.push(name.within());
            keys.extend(names.above(name).iter().map(|name| name.within()));
            ancestors.extend(names.above(name).iter().filter_map(|name| names.uid(*name).cloned()));
            if kind == "Workload" {
                tags.add(names.tags(name));
            }
        }
        keys.push(Key::ANY);
        keys.sort_unstable();
        keys.dedup();
        ancestors.sort();
        ancestors.dedup();
        let entity =
            Entity::new_with_tags(uid.clone(), workload_attributes(id), ancestors.iter().cloned(), tags.expressions());
        let entities = entity
            .map_err(|cause| cause.to_string())
            .and_then(|entity| Entities::from_entities([entity], None).map_err(|cause| cause.to_string()));
        let by_id = |uid: &&EntityUid| matches!(uid.type_name().basename(), "Workload" | "TrustDomain");
        let given = ancestors.iter().filter(|uid| !by_id(uid)).map(|uid| uid.to_string().into()).collect();
        let tags = tags.into_map();
        Self {
            id: id.clone(),
            stamp,
            keys: keys.into(),
            uid,
            entities,
            ancestors,
            given,
            tags,
            candidates: Box::default(),
        }
    }

    /// What entities.json puts the workload in, as Cedar writes it: `Stage::"transform"`.
    #[must_use]
    pub const fn given(&self) -> &[Arc<str>] {
        &self.given
    }

    /// The tags that entities.json gives the workload or an ID above it.
    #[must_use]
    pub const fn tags(&self) -> &BTreeMap<String, Vec<String>> {
        &self.tags
    }

    /// The SPIFFE ID.
    #[must_use]
    pub const fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// Everything that the workload is in, as type and id: IDs above it, its trust domain, stages and groups.
    pub fn ancestors(&self) -> impl Iterator<Item = (&str, &str)> {
        self.ancestors.iter().map(|uid| (uid.type_name().basename(), uid.id().unescaped()))
    }

    /// The names of the stages that the workload is in.
    pub fn stages(&self) -> impl Iterator<Item = &str> {
        self.ancestors().filter(|(kind, _)| *kind == "Stage").map(|(_, id)| id)
    }
}

/// Tags of an entity and of those above it: the nearest wins.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct MergedTags {
    /// Most entities have the tags of one: no copy then.
    first: Option<Tags>,
    merged: Option<BTreeMap<String, Vec<String>>>,
}

impl MergedTags {
    /// Adds the tags of the next entity above.
    pub(super) fn add(&mut self, tags: Option<&Tags>) {
        let Some(tags) = tags else { return };
        let Some(first) = &self.first else {
            self.first = Some(Arc::clone(tags));
            return;
        };
        let merged = self.merged.get_or_insert_with(|| (**first).clone());
        for (name, values) in tags.iter() {
            merged.entry(name.clone()).or_insert_with(|| values.clone());
        }
    }

    /// How much memory it holds that is no entity's.
    pub(super) fn bytes(&self) -> usize {
        let texts = |(name, values): (&String, &Vec<String>)| {
            size_of_val(name) + name.len() + values.iter().map(|value| size_of_val(value) + value.len()).sum::<usize>()
        };
        self.merged.iter().flatten().map(texts).sum()
    }

    pub(super) fn into_map(self) -> BTreeMap<String, Vec<String>> {
        self.merged.or_else(|| self.first.as_deref().cloned()).unwrap_or_default()
    }

    /// None if there are none.
    pub(super) fn map(&self) -> Option<&BTreeMap<String, Vec<String>>> {
        self.merged.as_ref().or(self.first.as_deref())
    }

    /// As Cedar takes them.
    pub(super) fn expressions(&self) -> Vec<(String, RestrictedExpression)> {
        self.map().map(|tags| tag_expressions(tags).collect()).unwrap_or_default()
    }
}
