//! What is granted too widely, in a sentence.

use std::collections::{BTreeMap, BTreeSet};

/// Actions of the group `admin`, and to whom or on what they are granted.
#[derive(Debug, Clone, Default)]
pub(super) struct Grant {
    pub(super) actions: Vec<String>,
    pub(super) to: String,
}

/// All that a policy grants too widely.
#[derive(Debug, Default)]
pub(super) struct Wide(BTreeMap<String, BTreeSet<String>>);

/// So many are named; of the others it is said how many they are.
const NAMED: usize = 3;

impl Wide {
    pub(super) fn add(&mut self, grant: &Grant) {
        self.0.entry(grant.to.clone()).or_default().extend(grant.actions.iter().cloned());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `a`, `b` and 3 more to every workload; `c` on every Database, on every Schema.
    pub(super) fn text(&self) -> String {
        let mut alike: BTreeMap<&BTreeSet<String>, Vec<&str>> = BTreeMap::new();
        for (to, actions) in &self.0 {
            alike.entry(actions).or_default().push(to);
        }
        let grants = alike.iter().map(|(actions, to)| {
            let actions = actions.iter().map(|action| format!("`{action}`"));
            format!("{} {}", several(actions), to.join(", "))
        });
        grants.collect::<Vec<_>>().join("; ")
    }
}

/// The first of them, and how many more there are.
pub(super) fn several(of: impl Iterator<Item = String>) -> String {
    let mut all: Vec<String> = of.collect();
    // One more is as short as "1 more".
    if all.len() > NAMED + 1 {
        let more = format!("{} more", all.len() - NAMED);
        all.truncate(NAMED);
        all.push(more);
    }
    match all.split_last() {
        Some((last, before)) if !before.is_empty() => format!("{} and {last}", before.join(", ")),
        _ => all.concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_are_named_and_the_others_counted() {
        for (count, expected) in
            [(1, "0"), (2, "0 and 1"), (3, "0, 1 and 2"), (4, "0, 1, 2 and 3"), (5, "0, 1, 2 and 2 more")]
        {
            assert_eq!(several((0..count).map(|number| number.to_string())), expected);
        }
    }

    #[test]
    fn what_is_granted_alike_is_said_once() {
        let mut wide = Wide::default();
        for (action, to) in [("b", "on every Schema"), ("a", "to everybody"), ("b", "on every Database")] {
            wide.add(&Grant { actions: vec![action.to_owned()], to: to.to_owned() });
        }
        assert_eq!(wide.text(), "`a` to everybody; `b` on every Database, on every Schema");
    }
}
