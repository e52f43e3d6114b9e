//! Small numbers for the entities that policies and entities.json name.

use std::collections::BTreeMap;
use std::sync::Arc;

use ahash::AHashMap;
use cedar_policy::EntityUid;

use crate::mapping::ResourceKind;

/// The number of an entity that some policy or entities.json names. What has none can be the target of no policy's scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Name(u32);

/// What a scope's constraint asks of an entity, as a number: the two forms of one entity differ in the lowest bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Key(u32);

impl Key {
    /// No constraint.
    pub(super) const ANY: Self = Self(u32::MAX);
}

impl Name {
    /// `== X`
    pub(super) const fn exactly(self) -> Key {
        Key(self.0 << 1 | 1)
    }

    /// `in X`
    pub(super) const fn within(self) -> Key {
        Key(self.0 << 1)
    }
}

/// Types of what entities.json says something of, and that is no resource and above none.
const NO_RESOURCES: [&str; 4] = ["Workload", "TrustDomain", "Stage", "Group"];

/// Tags of an entity: sets of strings.
pub(super) type Tags = Arc<BTreeMap<String, Vec<String>>>;

/// All numbered entities.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// Of the kinds of resources, in their order.
    resources: [TypeNames; ResourceKind::ALL.len()],
    others: AHashMap<Box<str>, TypeNames>,
    known: Vec<Known>,
    describes_resources: bool,
}

#[derive(Debug)]
struct Known {
    uid: EntityUid,
    /// What entities.json puts it in, closed.
    above: Box<[Name]>,
    tags: Option<Tags>,
}

/// The numbered entities of one type.
#[derive(Debug, Default)]
pub(super) struct TypeNames {
    ids: AHashMap<Box<str>, Name>,
    /// Which lengths ids have, lowest bit first: most ancestors of a long path are ruled out without being hashed.
    lengths: Vec<u64>,
}

impl TypeNames {
    pub(super) fn find(&self, id: &str) -> Option<Name> {
        let word = self.lengths.get(id.len() / 64)?;
        if word & (1 << (id.len() % 64)) == 0 {
            return None;
        }
        self.ids.get(id).copied()
    }
}

impl Names {
    /// The number of `uid`, a new one if it has none.
    pub(super) fn intern(&mut self, uid: &EntityUid) -> Name {
        let id = uid.id().unescaped();
        let kind = uid.type_name().to_string();
        let of_type = match kind_of(&kind).and_then(|kind| self.resources.get_mut(kind as usize)) {
            Some(of_kind) => of_kind,
            None => self.others.entry(kind.into()).or_default(),
        };
        if let Some(name) = of_type.find(id) {
            return name;
        }
        let name = Name(u32::try_from(self.known.len()).unwrap_or(u32::MAX >> 2));
        let word = id.len() / 64;
        if of_type.lengths.len() <= word {
            of_type.lengths.resize(word + 1, 0);
        }
        if let Some(bits) = of_type.lengths.get_mut(word) {
            *bits |= 1 << (id.len() % 64);
        }
        of_type.ids.insert(id.into(), name);
        self.known.push(Known { uid: uid.clone(), above: Box::default(), tags: None });
        name
    }

    /// Says what entities.json knows of `name`.
    pub(super) fn describe(&mut self, name: Name, above: Vec<Name>, tags: Option<Tags>) {
        if let Some(known) = self.known.get_mut(name.0 as usize) {
            let says = !above.is_empty() || tags.is_some();
            self.describes_resources |= says && !NO_RESOURCES.contains(&known.uid.type_name().basename());
            known.above = above.into();
            known.tags = tags;
        }
    }

    /// Whether entities.json puts any resource anywhere, or gives it tags.
    pub(super) const fn describes_resources(&self) -> bool {
        self.describes_resources
    }

    pub(super) fn of_kind(&self, kind: ResourceKind) -> Option<&TypeNames> {
        self.resources.get(kind as usize)
    }

    pub(super) fn find(&self, kind: &str, id: &str) -> Option<Name> {
        let of_type = match kind_of(kind) {
            Some(kind) => self.of_kind(kind),
            None => self.others.get(kind),
        };
        of_type?.find(id)
    }

    /// Every numbered entity.
    pub(super) fn all(&self) -> impl Iterator<Item = (Name, &EntityUid)> {
        (0..).map(Name).zip(self.known.iter().map(|known| &known.uid))
    }

    pub(super) fn uid(&self, name: Name) -> Option<&EntityUid> {
        self.known.get(name.0 as usize).map(|known| &known.uid)
    }

    /// Everything that entities.json puts it in, directly or not.
    pub(super) fn above(&self, name: Name) -> &[Name] {
        self.known.get(name.0 as usize).map_or(&[], |known| &known.above)
    }

    pub(super) fn tags(&self, name: Name) -> Option<&Tags> {
        self.known.get(name.0 as usize)?.tags.as_ref()
    }
}

fn kind_of(kind: &str) -> Option<ResourceKind> {
    ResourceKind::ALL.into_iter().find(|known| known.as_str() == kind)
}
