//! Tables that are partitions of others, which they are then in: of which of them it is enough to look.
//!
//! A partition is in its own schema and in the tables that it is a part of, so the policies that match it are those of all of these
//! together. If it becomes allowed, some permit matches that is in force, by one of them, and either no old permit does, or a forbid is
//! gone that matched by one of them. So if it becomes allowed then one does that is in no more than two that differ from old to new:
//! the one of the permit, and the one that lost a forbid. Where conditions speak of the resource themselves this does not hold, and
//! all that are a part of one or two are looked at.

use std::sync::Arc;

use super::classes::{Named, ResourceClass, Sides};
use crate::mapping::Resource;

/// More of them are not looked at.
const MAX_PARTITIONS: usize = 2_000;

/// How the policies of a class differ from old to new.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Differs {
    pub(super) at_all: bool,
    pub(super) in_forbids: bool,
}

/// The tables of one endpoint.
struct Tables<'a> {
    /// Those that are named, so that others can be said to be a part of them.
    named: Vec<(&'a Resource, Differs)>,
    /// Any others.
    others: Vec<(&'a Resource, Differs)>,
}

/// The partitions to be looked at; none if these are too many.
pub(super) fn partitions(
    named: &Named,
    sides: Sides<'_>,
    tables: &[(Arc<ResourceClass>, Differs)],
    conditions_speak_of_it: bool,
) -> Option<Vec<Arc<ResourceClass>>> {
    let mut endpoints: Vec<&str> = tables.iter().map(|(class, _)| endpoint(&class.resource)).collect();
    endpoints.sort_unstable();
    endpoints.dedup();
    let mut found: Vec<Resource> = Vec::new();
    for at in endpoints {
        let here = tables.iter().filter(|(class, _)| endpoint(&class.resource) == at);
        let here = here.map(|(class, differs)| (&class.resource, *differs));
        let (named, others) = here.partition(|(resource, _)| named.has("Table", resource.id()));
        let of = Tables { named, others };
        if !(if conditions_speak_of_it { of.all(&mut found) } else { of.that_differ(&mut found) }) {
            return None;
        }
    }
    Some(found.into_iter().map(|resource| Arc::new(ResourceClass::of(resource, sides))).collect())
}

impl Tables<'_> {
    /// False if these are too many.
    fn that_differ(&self, found: &mut Vec<Resource>) -> bool {
        let lost: Vec<_> = self.named.iter().filter(|(_, differs)| differs.in_forbids).collect();
        for (whole, differs) in &self.named {
            for (own, own_differs) in self.others.iter().chain(&self.named) {
                let is_named = self.named.iter().any(|(table, _)| table.id() == own.id());
                let matters = differs.in_forbids || own_differs.in_forbids || differs.at_all && !is_named;
                if matters && own.id() != whole.id() {
                    found.push((*own).clone().partition_of([(*whole).clone()]));
                }
            }
            let pairs = lost.iter().filter(|(other, _)| other.id() != whole.id());
            for (other, _) in pairs {
                let owns = self.others.iter();
                found.extend(owns.map(|(own, _)| (*own).clone().partition_of([(*whole).clone(), (*other).clone()])));
            }
            if found.len() > MAX_PARTITIONS {
                return false;
            }
        }
        true
    }

    fn all(&self, found: &mut Vec<Resource>) -> bool {
        for (own, _) in self.others.iter().chain(&self.named) {
            for (at, (whole, _)) in self.named.iter().enumerate() {
                found.push((*own).clone().partition_of([(*whole).clone()]));
                let others = self.named.iter().skip(at + 1);
                found
                    .extend(others.map(|(other, _)| (*own).clone().partition_of([(*whole).clone(), (*other).clone()])));
            }
            if found.len() > MAX_PARTITIONS {
                return false;
            }
        }
        true
    }
}

fn endpoint(resource: &Resource) -> &str {
    resource.id().split('/').next().unwrap_or_default()
}
