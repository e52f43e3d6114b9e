//! What the conditions of policies can see of a question, so that nothing else is made for them.

use std::collections::HashSet;

use cedar_policy::Policy;
use serde_json::Value;

use crate::mapping::TagsRead;

/// The context attributes, request headers and claims that conditions read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::policy) struct Reads {
    /// None: all, for the context is read as a whole.
    context: Option<HashSet<Box<str>>>,
    headers: TagsRead,
    claims: TagsRead,
    /// Whether what is known of an entity that a condition names (what it is in, its attributes and tags) can matter.
    literals: bool,
}

/// Nothing at all.
impl Default for Reads {
    fn default() -> Self {
        Self {
            context: Some(HashSet::new()),
            headers: TagsRead::Only(HashSet::new()),
            claims: TagsRead::Only(HashSet::new()),
            literals: false,
        }
    }
}

impl Reads {
    /// What one policy reads.
    pub(in crate::policy) fn of(policy: &Policy) -> Self {
        let mut reads = Self::default();
        if policy.has_non_scope_constraint() {
            match policy.to_json() {
                Ok(tree) => reads.walk(tree.get("conditions").unwrap_or(&tree)),
                Err(_) => {
                    reads = Self { context: None, headers: TagsRead::All, claims: TagsRead::All, literals: true };
                }
            }
        }
        reads
    }

    /// Reads what `other` reads, too.
    pub(in crate::policy) fn add(&mut self, other: &Self) {
        self.literals |= other.literals;
        match (&mut self.context, &other.context) {
            (Some(context), Some(more)) => context.extend(more.iter().cloned()),
            (context, _) => *context = None,
        }
        self.headers.add(&other.headers);
        self.claims.add(&other.claims);
    }

    /// Whether the attribute can matter.
    pub(in crate::policy) fn context(&self, attribute: &str) -> bool {
        self.context.as_ref().is_none_or(|names| names.contains(attribute))
    }

    /// Whether the entities that the conditions name must be there: not where others are only compared with them.
    pub(in crate::policy) const fn looks_at_literals(&self) -> bool {
        self.literals
    }

    /// The tags of headers and of claims.
    pub(in crate::policy) fn into_tags(self) -> (TagsRead, TagsRead) {
        (self.headers, self.claims)
    }

    /// Goes through a policy in Cedar's JSON form (<https://docs.cedarpolicy.com/policies/json-format.html>).
    fn walk(&mut self, tree: &Value) {
        match tree {
            Value::Array(items) => items.iter().for_each(|item| self.walk(item)),
            Value::Object(fields) => {
                fields.iter().for_each(|(operator, operands)| self.walk_operator(operator, operands))
            }
            _ => {}
        }
    }

    fn walk_operator(&mut self, operator: &str, operands: &Value) {
        let left_is = |names: &[&str]| {
            operands.pointer("/left/Var").and_then(Value::as_str).is_some_and(|left| names.contains(&left))
        };
        match operator {
            "." | "has" if left_is(&["context"]) => {
                // `context has tls.version` has a list.
                let attribute = operands.get("attr").and_then(|attr| attr.get(0).unwrap_or(attr).as_str());
                match (attribute, &mut self.context) {
                    (Some(name), Some(names)) => {
                        names.insert(name.into());
                    }
                    _ => self.context = None,
                }
            }
            "Var" if operands == "context" => self.context = None,
            "hasTag" | "getTag" => {
                // Principals and resources have tags of their own.
                if !left_is(&["principal", "resource"]) {
                    let name = operands.pointer("/right/Value").and_then(Value::as_str);
                    // Where it is not said which of the two it is, it may be either.
                    let (headers, claims) =
                        (is_attribute(operands, &["headers"]), is_attribute(operands, &["token", "claims"]));
                    if !claims {
                        read(&mut self.headers, name);
                    }
                    if !headers {
                        read(&mut self.claims, name);
                    }
                }
                self.walk(operands);
            }
            // `principal in Stage::"a"` asks what the principal is in, not the stage.
            "==" | "!=" | "in" | "contains" | "containsAll" | "containsAny" => {
                for side in ["left", "right"] {
                    let is_asked = operator == "in" && side == "left";
                    if let Some(operand) = operands.get(side).filter(|operand| is_asked || !is_literal(operand)) {
                        self.walk(operand);
                    }
                }
            }
            "is" => {
                operands.get("left").into_iter().for_each(|left| self.walk(left));
                operands.get("in").filter(|group| !is_literal(group)).into_iter().for_each(|group| self.walk(group));
            }
            // A literal has no operators, and the keys of a record are none.
            "Value" => self.literals |= operands.get("__entity").is_some(),
            "Record" => operands.as_object().into_iter().flatten().for_each(|(_, field)| self.walk(field)),
            _ => self.walk(operands),
        }
    }
}

/// Whether what stands left is this attribute of the context.
fn is_attribute(operands: &Value, path: &[&str]) -> bool {
    let mut left = operands.get("left");
    for name in path.iter().rev() {
        let Some(access) = left.and_then(|left| left.get(".")) else { return false };
        if access.get("attr").and_then(Value::as_str) != Some(name) {
            return false;
        }
        left = access.get("left");
    }
    left.and_then(|left| left.get("Var")).and_then(Value::as_str) == Some("context")
}

/// Adds a name; without one, any may be read.
fn read(tags: &mut TagsRead, name: Option<&str>) {
    match (name, &mut *tags) {
        (Some(name), TagsRead::Only(names)) => {
            names.insert(name.into());
        }
        _ => *tags = TagsRead::All,
    }
}

/// An entity, or a set of some.
fn is_literal(operand: &Value) -> bool {
    match operand.get("Set") {
        Some(set) => set.as_array().is_some_and(|items| items.iter().all(is_literal)),
        None => operand.pointer("/Value/__entity").is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reads(condition: &str) -> Reads {
        Reads::of(
            &Policy::parse(None, format!("permit (principal, action, resource) when {{ {condition} }};"))
                .expect("parses"),
        )
    }

    fn names(names: &[&str]) -> HashSet<Box<str>> {
        names.iter().map(|name| (*name).into()).collect()
    }

    #[test]
    fn literal_headers_are_listed_and_tags_of_principals_are_not_headers() {
        let some = |condition: &str, expected: &[&str]| {
            assert_eq!(reads(condition).into_tags().0, TagsRead::Only(names(expected)), "{condition}");
        };
        some(
            "principal.hasTag(\"team\") && context.headers.hasTag(\"x-a\") && context.headers.getTag(\"x-b\").contains(\"1\")",
            &["x-a", "x-b"],
        );
        some("(if principal.hasTag(\"t\") then context.headers else context.headers).hasTag(\"x-c\")", &["x-c"]);
        some("context.direction == \"inbound\"", &[]);
        some("context.token.claims.hasTag(\"groups\") && context.headers.hasTag(\"x-a\")", &["x-a"]);
        assert_eq!(reads("context.headers.hasTag(context.direction)").into_tags().0, TagsRead::All);
    }

    #[test]
    fn claims_are_told_from_headers_and_what_may_be_either_is_both() {
        let claims = |condition: &str| reads(condition).into_tags().1;
        let some = |all: &[&str]| TagsRead::Only(names(all));
        let groups =
            "context.token.claims.hasTag(\"groups\") && context[\"token\"][\"claims\"].getTag(\"a\") == [\"b\"]";
        assert_eq!(claims(groups), some(&["groups", "a"]));
        assert_eq!(reads(groups).into_tags().0, some(&[]));
        assert_eq!(reads(groups).context, Some(names(&["token"])));
        assert_eq!(claims("context.headers.hasTag(\"x-a\") && principal.hasTag(\"b\")"), some(&[]));
        assert_eq!(claims("context.headers.hasTag(context.token.sub)"), some(&[]));
        assert_eq!(claims("context.token.claims.hasTag(context.token.sub)"), TagsRead::All);
        let either = reads("(if true then context.token else context.token).claims.hasTag(\"x\")");
        assert_eq!(either.into_tags(), (some(&["x"]), some(&["x"])));
    }

    #[test]
    fn literals_are_looked_at_unless_they_are_only_compared_with() {
        for (condition, expected) in [
            ("principal in Stage::\"a\" && resource == Bucket::\"b\" && Bucket::\"b\" != resource", false),
            ("[Bucket::\"b\", Bucket::\"c\"].contains(resource) && resource in [Bucket::\"b\"]", false),
            ("principal is Workload in Stage::\"a\" && action in Action::\"read\"", false),
            ("Stage::\"a\" in Group::\"g\"", true),
            ("[Stage::\"a\"] == [Stage::\"b\"] || Stage::\"a\".hasTag(\"t\")", true),
            ("Workload::\"w\".path like \"*\"", true),
            ("Workload::\"w\" is Workload in Stage::\"a\"", true),
            ("(if principal has path then Stage::\"a\" else Stage::\"b\") in Group::\"g\"", true),
            ("{a: Stage::\"a\"}.a has b", true),
        ] {
            assert_eq!(reads(condition).looks_at_literals(), expected, "{condition}");
        }
    }

    #[test]
    fn attributes_are_listed_and_the_context_as_a_whole_is_everything() {
        let some = |condition: &str, expected: &[&str]| {
            assert_eq!(reads(condition).context, Some(names(expected)), "{condition}")
        };
        some(
            "context has encryption && [context.operation, \"x\"].contains(context[\"acl\"])",
            &["encryption", "operation", "acl"],
        );
        some("context has tls.version && context.tls.version == \"a\"", &["tls"]);
        some("{now: 1} == {now: context.host} && context.headers.hasTag(\"a\")", &["host", "headers"]);
        some("{Value: context.acl, \"has\": {Var: 1}} == {Value: \"a\", \"has\": {Var: 1}}", &["acl"]);
        some("principal has path", &[]);
        assert_eq!(reads("context == {direction: \"inbound\"}").context, None);
        assert_eq!(reads("(if principal has path then context else context).now == context.now").context, None);
    }
}
