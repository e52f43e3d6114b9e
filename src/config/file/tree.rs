//! What the file says, each part with its place in the text.

use std::fmt;
use std::ops::Range;

/// A value and where it stands, in bytes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub(crate) span: Range<usize>,
    pub(crate) value: Value,
}

/// A value as YAML's core schema reads it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    /// Saturated: nothing that needs more bits is in any key's range.
    Int(i128),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
    /// Already reported (an alias, a tag): whatever it stands for, it is not looked at again.
    Unusable,
}

/// `key: value`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_span: Range<usize>,
    pub(crate) node: Node,
}

/// A node, and its key if it has one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found<'a> {
    pub(crate) key_span: Option<&'a Range<usize>>,
    pub(crate) node: &'a Node,
}

impl Node {
    /// What stands at `path`, or else at its nearest ancestor that is there.
    pub(crate) fn at(&self, path: &KeyPath) -> Found<'_> {
        let mut found = Found { key_span: None, node: self };
        for step in &path.0 {
            let next = match (step, &found.node.value) {
                (Step::Key(key), Value::Map(entries)) => entries
                    .iter()
                    .find(|entry| entry.key == *key)
                    .map(|entry| Found { key_span: Some(&entry.key_span), node: &entry.node }),
                (Step::Index(index), Value::List(nodes)) => {
                    nodes.get(*index).map(|node| Found { key_span: None, node })
                }
                _ => None,
            };
            match next {
                Some(next) => found = next,
                None => break,
            }
        }
        found
    }

    /// Calls `visit` for every key below this node, outer keys first.
    pub(crate) fn each_key(&self, path: &KeyPath, visit: &mut impl FnMut(&KeyPath, &Node)) {
        match &self.value {
            Value::Map(entries) => {
                for entry in entries {
                    let inner = path.key(&entry.key);
                    visit(&inner, &entry.node);
                    entry.node.each_key(&inner, visit);
                }
            }
            Value::List(nodes) => {
                for (index, node) in nodes.iter().enumerate() {
                    node.each_key(&path.index(index), visit);
                }
            }
            _ => {}
        }
    }
}

impl Found<'_> {
    /// The place to point at when something is wrong with this value as a whole.
    pub(crate) fn value_span(&self) -> Range<usize> {
        match &self.node.value {
            // The text of a block is long, and an absent value has none: their key says it better.
            Value::Map(_) | Value::List(_) | Value::Null => self.start_span(),
            _ => self.node.span.clone(),
        }
    }

    /// Its key, or where it begins.
    pub(crate) fn start_span(&self) -> Range<usize> {
        match (self.key_span, &self.node.value) {
            (Some(key), _) => key.clone(),
            (None, Value::Map(entries)) => entries.first().map_or(self.node.span.clone(), |e| e.key_span.clone()),
            _ => self.node.span.clone(),
        }
    }
}

/// Where a key stands in the file: `inbound[0].listen`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct KeyPath(Vec<Step>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

impl KeyPath {
    pub(crate) fn root() -> Self {
        Self::default()
    }

    pub(crate) fn key(&self, key: &str) -> Self {
        self.with(Step::Key(key.into()))
    }

    pub(crate) fn index(&self, index: usize) -> Self {
        self.with(Step::Index(index))
    }

    /// The key that the path ends in; none at the root and in a list.
    pub(crate) fn last_key(&self) -> Option<&str> {
        match self.0.last()? {
            Step::Key(key) => Some(key),
            Step::Index(_) => None,
        }
    }

    fn with(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Key(key) if !is_plain(key) => write!(f, "[{key:?}]")?,
                Step::Key(key) if position == 0 => f.write_str(key)?,
                Step::Key(key) => write!(f, ".{key}")?,
            }
        }
        Ok(())
    }
}

fn is_plain(key: &str) -> bool {
    !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_path_reads_as_people_write_it() {
        let path = KeyPath::root().key("inbound").index(2).key("listen");
        assert_eq!(path.to_string(), "inbound[2].listen");
        let path = KeyPath::root().key("identity").key("trust_bundles").key("a.example");
        assert_eq!(path.to_string(), "identity.trust_bundles[\"a.example\"]");
        assert_eq!(KeyPath::root().to_string(), "");
    }
}
