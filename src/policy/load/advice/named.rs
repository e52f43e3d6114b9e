//! Names of actions and types, and permits that name nobody.

use std::collections::BTreeSet;

use cedar_policy::{ActionConstraint, EntityTypeName, EntityUid, Policy, PrincipalConstraint, Schema};

use crate::config::nearest;

/// What a request asks is in one of these.
const GROUPS: [&str; 6] = ["read", "write", "delete", "list", "admin", "connect"];

/// The shipped types: their attributes and the hierarchy of their ids are computed, never written.
pub(in crate::policy::load) const SHIPPED_TYPES: [&str; 13] = [
    "Workload",
    "TrustDomain",
    "Stage",
    "Group",
    "Endpoint",
    "HttpPath",
    "Bucket",
    "Prefix",
    "Object",
    "Database",
    "Schema",
    "Table",
    "Function",
];

/// What to write in place of an action that there is not.
pub(in crate::policy::load) fn unknown_action<'a>(id: &str, known: impl Iterator<Item = &'a str>) -> String {
    let known: BTreeSet<&str> = known.collect();
    let groups = || GROUPS.map(|group| format!("`{group}`")).join(", ");
    if id.contains('*') {
        return format!("there is no `*` in actions; groups stand for many of them: {}", groups());
    }
    // `SELECT`, `GET`: named as the protocol has it.
    let alike = |known: &&&str| known.split_once(':').is_some_and(|(_, name)| name.eq_ignore_ascii_case(id));
    if let Some(meant) = known.iter().find(alike).copied().or_else(|| nearest(id, known.iter().copied())) {
        return format!("did you mean `Action::\"{meant}\"`?");
    }
    format!("docs/policy-schema.md lists them all; groups stand for many: {}", groups())
}

/// What to write in place of a type that there is not.
pub(in crate::policy::load) fn unknown_type(kind: &str) -> String {
    let meant = match kind {
        "User" | "ServiceAccount" | "Service" | "Principal" | "Identity" => Some("Workload"),
        "Role" | "Job" | "Task" | "Step" => Some("Stage"),
        "Path" | "Url" | "Route" => Some("HttpPath"),
        "File" | "Key" => Some("Object"),
        "Folder" | "Directory" => Some("Prefix"),
        "Listener" | "Upstream" | "Host" => Some("Endpoint"),
        _ => nearest(kind, SHIPPED_TYPES),
    };
    match meant {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => format!(
            "types are {}, and those of your own *.cedarschema",
            SHIPPED_TYPES.map(|kind| format!("`{kind}`")).join(", ")
        ),
    }
}

/// Why nobody who asks is such a principal, and what to write instead.
pub(in crate::policy::load) fn no_principal(policy: &Policy, schema: &Schema) -> Option<(String, String)> {
    let asks = |kind: &EntityTypeName| schema.principals().any(|known| known == kind);
    let holds = |kind: &EntityTypeName| {
        let mut above = schema.principals().filter_map(|asking| schema.ancestors(asking)).flatten();
        asks(kind) || above.any(|above| above == kind)
    };
    let only = |kind: &EntityTypeName| format!("who asks is always a `Workload`, never a `{kind}`");
    let said = || "say who: `principal in Stage::\"…\"`, or `principal == Workload::\"spiffe://…\"`".to_owned();
    Some(match policy.principal_constraint() {
        PrincipalConstraint::Eq(uid) if !asks(uid.type_name()) => {
            let help = match holds(uid.type_name()) {
                true => format!("write `in`, which is true of all that is in it: `principal in {uid}`"),
                false => said(),
            };
            (only(uid.type_name()), help)
        }
        PrincipalConstraint::In(uid) if !holds(uid.type_name()) => {
            (format!("no `Workload` is in any `{}`", uid.type_name()), said())
        }
        PrincipalConstraint::Is(kind) | PrincipalConstraint::IsIn(kind, _) if !asks(&kind) => (only(&kind), said()),
        _ => return None,
    })
}

/// Why no action of a policy is ever asked about such a resource.
pub(in crate::policy::load) fn not_applicable(policy: &Policy, schema: &Schema) -> String {
    let actions = match policy.action_constraint() {
        ActionConstraint::Any => Vec::new(),
        ActionConstraint::Eq(uid) if GROUPS.contains(&uid.id().unescaped()) => {
            return format!("`{}` is a group of actions: write `action in {uid}`", uid.id().unescaped());
        }
        ActionConstraint::Eq(uid) => vec![uid],
        ActionConstraint::In(uids) => uids,
    };
    let about = |uid: &EntityUid| {
        let kinds: BTreeSet<String> =
            schema.resources_for_action(uid).into_iter().flatten().map(|kind| format!("`{kind}`")).collect();
        let kinds: Vec<String> = kinds.into_iter().collect();
        (!kinds.is_empty()).then(|| format!("`{}` is asked about {}", uid.id().unescaped(), kinds.join(", ")))
    };
    let said: Vec<String> = actions.iter().filter_map(about).take(3).collect();
    match said.is_empty() {
        true => "docs/policy-schema.md says what each action is asked about".to_owned(),
        false => format!("{}: name one of these, or what it is in", said.join("; ")),
    }
}

/// How to say who, for a permit that does not.
pub(in crate::policy::load) fn everybody<'a>(stages: impl Iterator<Item = &'a str>) -> String {
    let stage = stages.min().unwrap_or("transform");
    format!("say who: `principal in Stage::\"{stage}\"`; if everybody is meant: `principal in TrustDomain::\"…\"`")
}
