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
    /// Of attributes that are records, the fields: `("tls", "version")`.
    fields: HashSet<(Box<str>, Box<str>)>,
    /// The attributes that are read as a whole.
    whole: HashSet<Box<str>>,
    /// Whether what is known of an entity that a condition names (what it is in, its attributes and tags) can matter.
    literals: bool,
    looks: Looks,
}

/// The entities of which more than their ids is looked at: what they are in, their attributes or tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(in crate::policy) enum Looks {
    /// None.
    #[default]
    Nowhere,
    /// The principal alone.
    Principal,
    /// Any.
    Anywhere,
}

/// Nothing at all.
impl Default for Reads {
    fn default() -> Self {
        Self {
            context: Some(HashSet::new()),
            headers: TagsRead::Only(HashSet::new()),
            claims: TagsRead::Only(HashSet::new()),
            fields: HashSet::new(),
            whole: HashSet::new(),
            literals: false,
            looks: Looks::Nowhere,
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
                    let (headers, claims) = (TagsRead::All, TagsRead::All);
                    reads = Self { context: None, headers, claims, literals: true, ..Self::default() };
                }
            }
        }
        reads
    }

    /// Reads what `other` reads, too.
    pub(in crate::policy) fn add(&mut self, other: &Self) {
        self.literals |= other.literals;
        self.looks = self.looks.max(other.looks);
        self.fields.extend(other.fields.iter().cloned());
        self.whole.extend(other.whole.iter().cloned());
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

    /// Whether the field of an attribute that is a record can matter.
    pub(in crate::policy) fn field(&self, attribute: &str, field: &str) -> bool {
        let is_named = |(of, name): &(Box<str>, Box<str>)| &**of == attribute && &**name == field;
        self.context.is_none() || self.whole.contains(attribute) || self.fields.iter().any(is_named)
    }

    /// Which entities are looked at.
    pub(in crate::policy) const fn looks(&self) -> Looks {
        if self.literals { Looks::Anywhere } else { self.looks }
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
            "." | "has" => match in_context(operands) {
                Some(path) => self.read_context(operator, &path),
                None => {
                    self.look_at(operands);
                    self.walk(operands);
                }
            },
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
                self.look_at(operands);
                self.walk(operands);
            }
            // `principal in Stage::"a"` asks what the principal is in, not the stage.
            "==" | "!=" | "in" | "contains" | "containsAll" | "containsAny" => {
                if operator == "in" {
                    self.look_at(operands);
                }
                for side in ["left", "right"] {
                    let is_asked = operator == "in" && side == "left";
                    if let Some(operand) = operands.get(side).filter(|operand| is_asked || !is_literal(operand)) {
                        self.walk(operand);
                    }
                }
            }
            "is" => {
                if operands.get("in").is_some() {
                    self.look_at(operands);
                }
                operands.get("left").into_iter().for_each(|left| self.walk(left));
                operands.get("in").filter(|group| !is_literal(group)).into_iter().for_each(|group| self.walk(group));
            }
            // These, and no others, look at what is known of an entity: `.`, `has`, `hasTag`, `getTag`, `in` and `is … in`
            // (<https://docs.cedarpolicy.com/policies/syntax-operators.html>). A literal has no operators, and the keys of a record are none.
            "Value" => self.literals |= operands.get("__entity").is_some(),
            "Record" => operands.as_object().into_iter().flatten().for_each(|(_, field)| self.walk(field)),
            _ => self.walk(operands),
        }
    }

    /// What stands left of an operator that looks at an entity.
    fn look_at(&mut self, operands: &Value) {
        let is_principal = operands.pointer("/left/Var").and_then(Value::as_str) == Some("principal");
        self.looks = self.looks.max(if is_principal { Looks::Principal } else { Looks::Anywhere });
    }

    /// `context.tls`, `context has tls.version`. A path that is not understood may be anything.
    fn read_context(&mut self, operator: &str, path: &[&str]) {
        let (Some(names), [name, fields @ ..]) = (&mut self.context, path) else {
            self.context = None;
            return;
        };
        names.insert((*name).into());
        match fields.first() {
            Some(field) => {
                self.fields.insert(((*name).into(), (*field).into()));
            }
            // Whether it is there at all is seen by the record that has none of its fields.
            None if operator == "has" => {}
            None => {
                self.whole.insert((*name).into());
            }
        }
    }
}

/// What an access leads to, from the context on: `["tls", "version"]`. Empty: somewhere in it. None: it is of something else.
pub(super) fn in_context(operands: &Value) -> Option<Vec<&str>> {
    let left = operands.get("left")?;
    let mut path = match left.get(".") {
        Some(access) => in_context(access)?,
        None if left.get("Var").and_then(Value::as_str) == Some("context") => Vec::new(),
        None => return None,
    };
    match operands.get("attr") {
        Some(Value::String(name)) => path.push(name),
        // `context has tls.version` has a list.
        Some(Value::Array(names)) if names.iter().all(Value::is_string) => {
            path.extend(names.iter().filter_map(Value::as_str));
        }
        _ => path.clear(),
    }
    Some(path)
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
    fn entities_are_looked_at_where_more_than_their_ids_is_asked_for() {
        for (condition, expected) in [
            ("principal == Workload::\"w\" && resource is Bucket && context.direction like \"in*\"", Looks::Nowhere),
            ("context has tls.version && context.token.aud.contains(context.tls.version)", Looks::Nowhere),
            ("principal in Stage::\"a\" && principal.path == \"/a\"", Looks::Principal),
            (
                "principal has namespace || principal.hasTag(\"t\") || principal is Workload in Stage::\"a\"",
                Looks::Principal,
            ),
            ("principal.getTag(\"t\").contains(\"a\") && resource in Bucket::\"b\"", Looks::Anywhere),
            ("resource in Bucket::\"b\"", Looks::Anywhere),
            ("resource is Bucket in Group::\"g\"", Looks::Anywhere),
            ("resource.hasTag(\"t\")", Looks::Anywhere),
            ("resource has a", Looks::Anywhere),
            ("action in Action::\"read\"", Looks::Anywhere),
            ("Bucket::\"b\" in resource", Looks::Anywhere),
            ("Team::\"a\".bucket == resource", Looks::Anywhere),
            ("principal.a.b", Looks::Anywhere),
            ("context.headers.hasTag(\"x\")", Looks::Anywhere),
            ("context.token.claims.getTag(\"x\").contains(\"y\")", Looks::Anywhere),
            ("(if context.a then principal else principal) in Stage::\"a\"", Looks::Anywhere),
            ("{a: resource}.a.b", Looks::Anywhere),
        ] {
            assert_eq!(reads(condition).looks(), expected, "{condition}");
        }
    }

    #[test]
    fn of_a_record_the_fields_are_listed_unless_it_is_read_as_a_whole() {
        let fields = |condition: &str| {
            let reads = reads(condition);
            let all = [("tls", "version"), ("tls", "certificateExpiry"), ("token", "sub"), ("token", "claims")];
            let read = all.into_iter().filter(|(of, field)| reads.field(of, field));
            read.map(|(of, field)| format!("{of}.{field}")).collect::<Vec<_>>().join(" ")
        };
        for (condition, expected) in [
            ("context has tls.version && context.tls.version == \"a\"", "tls.version"),
            ("context has tls && context.tls has version", "tls.version"),
            ("context[\"tls\"][\"version\"] == \"a\" && context.token.sub == \"b\"", "tls.version token.sub"),
            ("context.token.claims.hasTag(\"x\")", "token.claims"),
            ("context has tls", ""),
            ("context.tls == {version: \"a\"}", "tls.version tls.certificateExpiry"),
            (
                "(if context has tls then context.tls else context.tls).version == \"a\"",
                "tls.version tls.certificateExpiry",
            ),
            ("[context.token].contains(context.token)", "token.sub token.claims"),
            ("context == {a: 1}", "tls.version tls.certificateExpiry token.sub token.claims"),
        ] {
            assert_eq!(fields(condition), expected, "{condition}");
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
