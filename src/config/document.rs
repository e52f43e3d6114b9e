//! YAML files that are not the configuration, read by the same rules: policy cases, invariants.

use serde_json::Value as Json;

use super::errors::{ConfigErrors, ConfigProblem, Finding, errors};
use super::file::{KeyPath, Node, Value, read};

/// A YAML file with the places of all that it says; none if it says nothing.
///
/// # Errors
/// What is not YAML.
pub(crate) fn document(file: &str, text: &str) -> Result<Option<Node>, Vec<ConfigProblem>> {
    let (node, findings) = read(text);
    if findings.is_empty() { Ok(node) } else { Err(errors(file, text, findings).problems().to_vec()) }
}

/// A list of a YAML file, each element as JSON with the line on which it begins.
///
/// # Errors
/// What is not YAML, or not a mapping with a list at `key`.
pub fn list_of_document(file: &str, text: &str, key: &str) -> Result<(Json, Vec<(usize, Json)>), ConfigErrors> {
    let (node, findings) = read(text);
    if !findings.is_empty() {
        return Err(errors(file, text, findings));
    }
    let fail = |node: Option<&Node>, message: String| {
        let span = node.map_or(0..0, |node| node.span.clone());
        errors(file, text, vec![Finding::new(span, &KeyPath::root().key(key), message)])
    };
    let Some(Node { value: Value::Map(entries), .. }) = &node else {
        return Err(fail(node.as_ref(), format!("the file is not a mapping with a list `{key}`")));
    };
    let mut rest = serde_json::Map::new();
    let mut list = None;
    for entry in entries {
        match &entry.node.value {
            Value::List(nodes) if entry.key == key => list = Some(nodes),
            _ => {
                rest.insert(entry.key.clone(), json(&entry.node));
            }
        }
    }
    let list = list.ok_or_else(|| fail(node.as_ref(), format!("the file has no list `{key}`")))?;
    let line = |node: &Node| text.get(..node.span.start).map_or(1, |before| before.matches('\n').count() + 1);
    Ok((Json::Object(rest), list.iter().map(|node| (line(node), json(node))).collect()))
}

fn json(node: &Node) -> Json {
    match &node.value {
        Value::Null | Value::Unusable => Json::Null,
        Value::Bool(value) => Json::Bool(*value),
        Value::Int(number) => i64::try_from(*number).map_or_else(|_| number.to_string().into(), Json::from),
        Value::Float(number) => Json::from(*number),
        Value::Text(text) => Json::String(text.clone()),
        Value::List(nodes) => nodes.iter().map(json).collect(),
        Value::Map(entries) => entries.iter().map(|entry| (entry.key.clone(), json(&entry.node))).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_with_the_lines_of_its_elements() {
        let (rest, list) =
            list_of_document("f", "a: {b: 1}\ncases:\n  - name: x\n    ok: true\n  - [1, two]\n", "cases")
                .expect("reads");
        assert_eq!(rest.to_string(), r#"{"a":{"b":1}}"#);
        assert_eq!(
            list.iter().map(|(line, json)| format!("{line} {json}")).collect::<Vec<_>>(),
            [r#"3 {"name":"x","ok":true}"#, r#"5 [1,"two"]"#]
        );
    }

    #[test]
    fn what_is_no_such_list_says_where() {
        for (text, place) in [("cases: 1\n", "f:1:1: "), ("cases: [\n", "f:"), ("- a\n", "f:1:1: ")] {
            let said = list_of_document("f", text, "cases").expect_err(text).to_string();
            assert!(said.starts_with(place), "{text}: {said}");
        }
    }
}
