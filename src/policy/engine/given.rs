//! What entities.json says of a resource: what its id does not tell.

use cedar_policy::EntityUid;

use super::compiled::Engine;
use super::names::Name;
use super::principal::MergedTags;
use crate::mapping::{Resource, ResourceKind};

/// The groups and tags of a resource, its own and those of what it is in.
#[derive(Debug)]
pub struct Given<'a> {
    groups: Vec<&'a EntityUid>,
    tags: MergedTags,
}

impl Engine {
    /// None if nothing is said of it. Where entities.json speaks of no resource at all, that is known without looking.
    pub(in crate::policy) fn given(&self, resource: &Resource) -> Option<Given<'_>> {
        let names = self.names();
        if !names.describes_resources() {
            return None;
        }
        let mut given = Given { groups: Vec::new(), tags: MergedTags::default() };
        let mut rise = |name: Name| {
            given.tags.add(names.tags(name));
            for uid in names.above(name).iter().filter_map(|above| names.uid(*above)) {
                // The resources above it follow from its id.
                let is_group = ResourceKind::ALL.iter().all(|kind| kind.as_str() != uid.type_name().basename());
                if is_group && !given.groups.contains(&uid) {
                    given.groups.push(uid);
                }
            }
        };
        names.find(resource.kind().as_str(), resource.id()).into_iter().for_each(&mut rise);
        for (kind, id) in resource.ancestors() {
            names.find(kind.as_str(), id).into_iter().for_each(&mut rise);
        }
        (!given.groups.is_empty() || given.tags.map().is_some_and(|tags| !tags.is_empty())).then_some(given)
    }
}

impl Given<'_> {
    /// Types and ids of what it is in: those of the nearest first.
    pub fn groups(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.groups.iter().map(|uid| (uid.type_name().basename(), uid.id().unescaped()))
    }

    /// Names and values.
    pub fn tags(&self) -> impl Iterator<Item = (&str, &[String])> {
        self.tags.map().into_iter().flatten().map(|(name, values)| (name.as_str(), values.as_slice()))
    }
}
