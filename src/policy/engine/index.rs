//! Finds the scopes that can match, without looking at the others.

use ahash::AHashMap;

use super::names::Key;

/// Scopes by what they ask of the action, the principal and the resource.
///
/// A question has a handful of keys on each side (itself, all that it is in, and "anything"), so its candidates are found by as many
/// look-ups, however many policies there are.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// By action and principal, the resource and its scope: sorted, which takes less memory than maps would, of which most had one entry.
    by_action_and_principal: AHashMap<(Key, Key), Vec<(Key, u32)>>,
}

impl Index {
    pub(super) fn insert(&mut self, action: Key, principal: Key, resource: Key, scope: u32) {
        let by_resource = self.by_action_and_principal.entry((action, principal)).or_default();
        let at = by_resource.partition_point(|known| *known < (resource, scope));
        by_resource.insert(at, (resource, scope));
    }

    /// Gives back the room that was taken for more.
    pub(super) fn shrink_to_fit(&mut self) {
        self.by_action_and_principal.shrink_to_fit();
        self.by_action_and_principal.values_mut().for_each(Vec::shrink_to_fit);
    }

    /// The scopes that match these keys, in order, each once.
    pub(super) fn candidates(&self, actions: &[Key], principals: &[Key], resources: &[Key]) -> Vec<u32> {
        let mut found = Vec::new();
        for action in actions {
            for principal in principals {
                let Some(by_resource) = self.by_action_and_principal.get(&(*action, *principal)) else { continue };
                for resource in resources {
                    let from = by_resource.partition_point(|(known, _)| known < resource);
                    let same = by_resource.iter().skip(from).take_while(|(known, _)| known == resource);
                    found.extend(same.map(|(_, scope)| *scope));
                }
            }
        }
        // `action in [Action::"read", Action::"s3:GetObject"]` is found by both.
        found.sort_unstable();
        found.dedup();
        found
    }

    /// The scopes that match these keys with any resource, in order, each once.
    pub(super) fn of_any_resource(&self, actions: &[Key], principals: &[Key]) -> Vec<u32> {
        let keys = actions.iter().flat_map(|action| principals.iter().map(|principal| (*action, *principal)));
        let by_resource = keys.filter_map(|key| self.by_action_and_principal.get(&key));
        let mut found: Vec<u32> = by_resource.flatten().map(|(_, scope)| *scope).collect();
        found.sort_unstable();
        found.dedup();
        found
    }
}
