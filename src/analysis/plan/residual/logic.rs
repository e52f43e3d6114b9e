//! Truth values as far as they are known.

use serde_json::{Value as Json, json};

use super::left::may_err;

pub(in crate::analysis) fn truth(value: bool) -> Json {
    json!({"Value": value})
}

pub(super) fn as_bool(tree: &Json) -> Option<bool> {
    tree.get("Value")?.as_bool()
}

pub(super) fn and(left: Json, right: Json) -> Json {
    match (as_bool(&left), as_bool(&right)) {
        (Some(false), _) => left,
        (Some(true), _) => right,
        (None, Some(true)) => left,
        // What may fail has to be seen to fail.
        (None, Some(false)) if !may_err(&left) => right,
        _ => json!({"&&": {"left": left, "right": right}}),
    }
}

pub(super) fn or(left: Json, right: Json) -> Json {
    match (as_bool(&left), as_bool(&right)) {
        (Some(true), _) => left,
        (Some(false), _) => right,
        (None, Some(false)) => left,
        (None, Some(true)) if !may_err(&left) => right,
        _ => json!({"||": {"left": left, "right": right}}),
    }
}

pub(super) fn not(arg: Json) -> Json {
    as_bool(&arg).map_or_else(|| json!({"!": {"arg": arg}}), |value| truth(!value))
}

/// `like`, of Cedar's patterns: texts and `"Wildcard"`s.
pub(super) fn like(text: &str, pattern: &Json) -> Option<bool> {
    let mut parts = Vec::new();
    for part in pattern.as_array()? {
        parts.push(match part {
            Json::String(wildcard) if wildcard == "Wildcard" => None,
            part => Some(part.get("Literal")?.as_str()?),
        });
    }
    Some(fits(text, &parts))
}

fn fits(text: &str, parts: &[Option<&str>]) -> bool {
    match parts.split_first() {
        None => text.is_empty(),
        Some((Some(literal), rest)) => text.strip_prefix(literal).is_some_and(|text| fits(text, rest)),
        Some((None, rest)) => {
            let ends = text.char_indices().map(|(at, _)| at).chain([text.len()]);
            ends.into_iter().any(|at| text.get(at..).is_some_and(|text| fits(text, rest)))
        }
    }
}
