//! Attributes of the context that have few values: a condition that asks for another one is never true.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use serde_json::Value;

use super::policies::ParsedPolicy;
use super::problem::{PolicyProblem, Problems};
use super::reads::in_context;
use crate::config::nearest;
use crate::mapping::{s3, sql};

/// All that an attribute can be; none if it can be anything.
fn values(path: &[&str]) -> Option<Vec<&'static str>> {
    match path {
        ["direction"] => Some(vec!["inbound", "outbound"]),
        ["tls", "version"] => Some(vec!["TLSv1.3", "TLSv1.2"]),
        ["operation"] => Some(s3::operations().collect()),
        ["statement"] => Some(sql::kinds().map(|(kind, _)| kind).chain(["connect"]).collect()),
        _ => None,
    }
}

/// An attribute that is held against a text that it never is.
type Never = (String, String);

/// Warns of values that attributes never have.
pub(super) fn check(policies: &[ParsedPolicy], problems: &mut Problems) {
    // The tree is made anew from the text: once for all that are alike, and only of policies that may be about such an attribute.
    let mut by_shape: HashMap<String, Arc<BTreeSet<Never>>> = HashMap::new();
    for parsed in policies {
        let text = parsed.text();
        if !["direction", "version", "operation", "statement"].iter().any(|name| text.contains(name)) {
            continue;
        }
        let found = by_shape.entry(parsed.shape()).or_insert_with(|| {
            let mut found = BTreeSet::new();
            if let Ok(tree) = parsed.policy.to_json() {
                walk(tree.get("conditions").unwrap_or(&Value::Null), &mut found);
            }
            Arc::new(found)
        });
        for (attribute, value) in found.iter() {
            problems.push(problem(parsed, attribute, value));
        }
    }
}

fn problem(parsed: &ParsedPolicy, attribute: &str, value: &str) -> PolicyProblem {
    let quoted = format!("\"{value}\"");
    let at = parsed.text().find(&quoted).map(|at| parsed.span.start + at);
    let span = at.map_or_else(|| parsed.headline(), |at| at..at + quoted.len());
    let message = format!("`context.{attribute}` is never {quoted}");
    let path: Vec<&str> = attribute.split('.').collect();
    let known = values(&path).unwrap_or_default();
    // Another case is nearer than another word.
    let alike = known.iter().find(|known| known.eq_ignore_ascii_case(value)).copied();
    let help = match (alike.or_else(|| nearest(value, known.iter().copied())), known.as_slice()) {
        (Some(meant), _) => format!("write \"{meant}\": case counts"),
        (None, [one, other]) => format!("it is \"{one}\" or \"{other}\""),
        (None, _) => format!("docs/policy-schema.md says what `{attribute}` is"),
    };
    PolicyProblem::warning(&parsed.file, Some(span), message).help(help)
}

/// Goes through conditions in Cedar's JSON form.
fn walk(tree: &Value, found: &mut BTreeSet<Never>) {
    match tree {
        Value::Array(items) => items.iter().for_each(|item| walk(item, found)),
        Value::Object(fields) => {
            for (operator, operands) in fields {
                let (left, right) = (operands.get("left"), operands.get("right"));
                if let (Some(left), Some(right)) = (left, right) {
                    match operator.as_str() {
                        "==" | "!=" => {
                            held_against(left, right, found);
                            held_against(right, left, found);
                        }
                        "contains" => {
                            let listed = left.get("Set").and_then(Value::as_array).into_iter().flatten();
                            listed.for_each(|value| held_against(right, value, found));
                        }
                        _ => {}
                    }
                }
                walk(operands, found);
            }
        }
        _ => {}
    }
}

fn held_against(attribute: &Value, value: &Value, found: &mut BTreeSet<Never>) {
    let (Some(path), Some(value)) =
        (attribute.get(".").and_then(in_context), value.get("Value").and_then(Value::as_str))
    else {
        return;
    };
    if values(&path).is_some_and(|known| !known.contains(&value)) {
        found.insert((path.join("."), value.to_owned()));
    }
}
