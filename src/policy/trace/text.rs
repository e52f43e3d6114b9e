//! Policies and expressions between Cedar's JSON form and text.

use cedar_policy::Policy;
use serde_json::{Value as Json, json};

use super::Part;

/// Longest value that is shown whole.
const MAX_SHOWN: usize = 200;

pub(in crate::policy) fn split<'a>(body: &'a Json, operator: &str, parts: &mut Vec<&'a Json>) {
    match body.get(operator).map(|both| (both.get("left"), both.get("right"))) {
        Some((Some(left), Some(right))) => {
            split(left, operator, parts);
            split(right, operator, parts);
        }
        _ => parts.push(body),
    }
}

/// A policy that is true of everything.
pub(super) fn blank() -> Json {
    json!({"effect": "permit", "principal": {"op": "All"}, "action": {"op": "All"}, "resource": {"op": "All"}, "conditions": []})
}

pub(in crate::policy) fn with_condition(body: &Json) -> Json {
    let mut tree = blank();
    if let Some(tree) = tree.as_object_mut() {
        tree.insert("conditions".to_owned(), json!([{"kind": "when", "body": body}]));
    }
    tree
}

pub(super) fn permit(mut tree: Json) -> Json {
    if let Some(tree) = tree.as_object_mut() {
        tree.insert("effect".to_owned(), json!("permit"));
        tree.remove("annotations");
    }
    tree
}

pub(super) fn text_of(tree: Json) -> Option<String> {
    Policy::from_json(None, tree).ok().map(|policy| policy.to_string())
}

/// `principal in Stage::"x"` of the text of a policy whose other parts are open.
pub(super) fn scope_line(text: &str, part: Part) -> Option<String> {
    let (before, after) = match part {
        Part::Principal => ("", ",action,resource"),
        Part::Action => ("principal,", ",resource"),
        _ => ("principal,action,", ""),
    };
    let scope = text.split_once('(')?.1.rsplit_once(')')?.0;
    // Cedar sets the parts apart by a comma, and may begin a new line with each.
    let mut line = scope.trim().trim_end_matches(',');
    for word in before.split_inclusive(',') {
        line = line.strip_prefix(word)?.trim_start();
    }
    for word in after.split(',').rev().filter(|word| !word.is_empty()) {
        line = line.strip_suffix(word)?.trim_end().strip_suffix(',')?;
    }
    Some(line.trim().to_owned())
}

/// An expression's tree as Cedar writes it.
pub(in crate::policy) fn expression_text(node: &Json) -> Option<String> {
    let text = text_of(with_condition(node))?;
    let body = text.split_once("when")?.1.trim().strip_prefix('{')?;
    Some(body.trim_end_matches([';', ' ', '\n']).strip_suffix('}')?.trim().to_owned())
}

pub(super) fn shortened(text: &str) -> String {
    match text.char_indices().nth(MAX_SHOWN) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
        None => text.to_owned(),
    }
}

pub(super) fn uid_text(kind: &str, id: &str) -> String {
    format!("{kind}::\"{}\"", id.escape_debug())
}
