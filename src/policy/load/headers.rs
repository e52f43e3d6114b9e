//! Which request headers a set of policies can see.

use std::collections::HashSet;

use cedar_policy::Policy;
use serde_json::Value;

use crate::mapping::HeadersRead;

/// The headers that any of `policies` asks for: literal names, or all where a name is only known when the policy runs.
pub(in crate::policy) fn headers_read<'a>(policies: impl IntoIterator<Item = &'a Policy>) -> HeadersRead {
    let mut names = HashSet::new();
    for policy in policies {
        if !policy.has_non_scope_constraint() {
            continue;
        }
        let Ok(tree) = policy.to_json() else { return HeadersRead::All };
        if walk(&tree, &mut names).is_none() {
            return HeadersRead::All;
        }
    }
    HeadersRead::Only(names)
}

/// `None`: a name that is not literal.
fn walk(tree: &Value, names: &mut HashSet<Box<str>>) -> Option<()> {
    match tree {
        Value::Array(items) => items.iter().try_for_each(|item| walk(item, names)),
        Value::Object(fields) => {
            for (operator, operands) in fields {
                if matches!(operator.as_str(), "hasTag" | "getTag") && !is_of_an_entity_with_other_tags(operands) {
                    names.insert(operands.pointer("/right/Value")?.as_str()?.into());
                }
                walk(operands, names)?;
            }
            Some(())
        }
        _ => Some(()),
    }
}

fn is_of_an_entity_with_other_tags(operands: &Value) -> bool {
    matches!(operands.pointer("/left/Var").and_then(Value::as_str), Some("principal" | "resource"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(condition: &str) -> HeadersRead {
        let policy = Policy::parse(None, format!("permit (principal, action, resource) when {{ {condition} }};")).expect("parses");
        headers_read([&policy])
    }

    #[test]
    fn literal_names_are_listed_and_tags_of_principals_are_not_headers() {
        let expected = |names: &[&str]| HeadersRead::Only(names.iter().map(|n| (*n).into()).collect());
        assert_eq!(
            read("principal.hasTag(\"team\") && context.headers.hasTag(\"x-a\") && context.headers.getTag(\"x-b\").contains(\"1\")"),
            expected(&["x-a", "x-b"])
        );
        assert_eq!(read("(if principal.hasTag(\"t\") then context.headers else context.headers).hasTag(\"x-c\")"), expected(&["x-c"]));
        assert_eq!(read("context.direction == \"inbound\""), expected(&[]));
    }

    #[test]
    fn a_name_known_only_when_the_policy_runs_means_all_headers() {
        assert_eq!(read("context.headers.hasTag(context.direction)"), HeadersRead::All);
    }
}
