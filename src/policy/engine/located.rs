//! Where a resource stands among what policies name.

use std::mem::size_of_val;

use super::compiled::Engine;
use super::names::{Key, Name};
use super::principal::MergedTags;
use crate::mapping::Resource;

/// What a resource is to the compiled policies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Located {
    pub(super) keys: Vec<Key>,
    /// Everything it is in that some policy or entities.json names: nothing else can be asked for.
    pub(super) parents: Vec<Name>,
    pub(super) tags: MergedTags,
}

impl Located {
    fn add(&mut self, parent: Name) {
        if !self.parents.contains(&parent) {
            self.keys.push(parent.within());
            self.parents.push(parent);
        }
    }

    /// What it holds behind itself.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.keys) + size_of_val(&*self.parents) + self.tags.bytes()
    }
}

impl Engine {
    pub(super) fn locate(&self, resource: &Resource) -> Located {
        let mut located =
            Located { keys: Vec::with_capacity(8), parents: Vec::with_capacity(8), tags: MergedTags::default() };
        if let Some(name) = self.names.of_kind(resource.kind()).and_then(|names| names.find(resource.id())) {
            located.keys.push(name.exactly());
            located.keys.push(name.within());
            located.tags.add(self.names.tags(name));
            self.rise(name, &mut located);
        }
        for (kind, id) in resource.ancestors() {
            if let Some(name) = self.names.of_kind(kind).and_then(|names| names.find(id)) {
                located.tags.add(self.names.tags(name));
                located.add(name);
                self.rise(name, &mut located);
            }
        }
        located.keys.push(Key::ANY);
        located
    }

    /// What entities.json puts it in.
    fn rise(&self, name: Name, located: &mut Located) {
        for above in self.names.above(name) {
            located.add(*above);
        }
    }
}
