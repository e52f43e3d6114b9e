//! Attributes that are asked for and that there are not: `has` is false of them, and Cedar says so only if nothing else is left.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use serde_json::Value;

use super::advice;
use super::policies::ParsedPolicy;
use super::problem::{PolicyProblem, Problems};
use crate::policy::forms::ActionForms;

/// `context`, `principal`, `context.headers` …, and what it is asked to have.
type Absent = (String, String);

/// Warns of every `has` that is never true.
pub(super) fn check(policies: &[ParsedPolicy], forms: &ActionForms, problems: &mut Problems) {
    let context: BTreeSet<&str> = forms.iter().flat_map(|(_, form)| form.attributes()).collect();
    // The tree is made anew from the text: once for all that are alike.
    let mut by_shape: HashMap<String, Arc<BTreeSet<Absent>>> = HashMap::new();
    for parsed in policies.iter().filter(|parsed| parsed.text().contains("has")) {
        let found = by_shape.entry(parsed.shape()).or_insert_with(|| {
            let mut found = BTreeSet::new();
            if let Ok(tree) = parsed.policy.to_json() {
                walk(tree.get("conditions").unwrap_or(&Value::Null), &context, &mut found);
            }
            Arc::new(found)
        });
        for (of, name) in found.iter() {
            problems.push(problem(parsed, of, name, &context));
        }
    }
}

fn problem(parsed: &ParsedPolicy, of: &str, name: &str, context: &BTreeSet<&str>) -> PolicyProblem {
    let written = format!("{of} has {name}");
    let at = parsed.text().find(&written).map(|at| parsed.span.start + at);
    let span = at.map_or_else(|| parsed.headline(), |at| at..at + written.len());
    let message = format!("`{written}` is never true: there is no such attribute");
    PolicyProblem::warning(&parsed.file, Some(span), message).help(advice::never_there(of, name, context))
}

/// Goes through conditions in Cedar's JSON form.
fn walk(tree: &Value, context: &BTreeSet<&str>, found: &mut BTreeSet<Absent>) {
    match tree {
        Value::Array(items) => items.iter().for_each(|item| walk(item, context, found)),
        Value::Object(fields) => {
            for (operator, operands) in fields {
                let name = operands.get("attr").and_then(Value::as_str);
                if let ("has", Some(of), Some(name)) = (operator.as_str(), operands.get("left").and_then(path), name) {
                    let is_there = match of.as_str() {
                        "context" => context.contains(name),
                        "principal" => advice::OF_WORKLOADS.contains(&name),
                        "context.headers" | "context.token.claims" => false,
                        _ => true,
                    };
                    if !is_there {
                        found.insert((of, name.to_owned()));
                    }
                }
                walk(operands, context, found);
            }
        }
        _ => {}
    }
}

/// `context.token.claims`, as it is written.
fn path(tree: &Value) -> Option<String> {
    if let Some(variable) = tree.get("Var") {
        return variable.as_str().map(str::to_owned);
    }
    let access = tree.get(".")?;
    Some(format!("{}.{}", path(access.get("left")?)?, access.get("attr")?.as_str()?))
}
