//! Tests in the form of Cedar's own command line (`cedar run-tests`), read as cases.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value as Json};

use super::Question;
use super::cases::{Case, CaseErrors, Expected};
use crate::identity::SpiffeId;
use crate::policy::Outcome;

/// One test of the list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Test {
    name: Option<String>,
    request: Request,
    #[serde(default)]
    entities: Vec<Json>,
    decision: Decision,
    #[serde(default)]
    reason: Option<Vec<String>>,
    #[serde(default)]
    num_errors: usize,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    principal: String,
    action: String,
    resource: String,
    #[serde(default)]
    context: Map<String, Json>,
}

#[derive(Debug, Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Decision {
    Allow,
    Deny,
}

/// Reads the tests of a JSON file.
///
/// # Errors
/// It cannot be read, or some of it is no test that can be asked here.
pub(super) fn read(path: &Path) -> Result<Vec<Case>, CaseErrors> {
    let file = path.display();
    let text = std::fs::read_to_string(path).map_err(|cause| CaseErrors::Unreadable(format!("{file}: {cause}")))?;
    let tests: Vec<Json> = serde_json::from_str(&text)
        .map_err(|cause| CaseErrors::Cases(vec![format!("{file}: not a JSON list of tests: {cause}")]))?;
    let mut faults = Vec::new();
    if tests.is_empty() {
        faults.push(format!("{file}: list has no test: nothing would be tested"));
    }
    let mut cases = Vec::new();
    for (number, json) in (1..).zip(tests) {
        match serde_json::from_value(json).map_err(|cause| cause.to_string()).and_then(|test| case(number, test)) {
            Ok(case) => cases.push(case),
            Err(cause) => faults.push(format!("{file}: test {number}: {cause}")),
        }
    }
    if faults.is_empty() { Ok(cases) } else { Err(CaseErrors::Cases(faults)) }
}

fn case(number: usize, test: Test) -> Result<Case, String> {
    if !test.entities.is_empty() {
        return Err(
            "`entities` has some: here they are those of the directory's entities.json, and what ids say".to_owned()
        );
    }
    let Request { principal, action, resource, context } = test.request;
    let id = principal.strip_prefix("Workload::\"").and_then(|id| id.strip_suffix('"'));
    let id = id.ok_or_else(|| format!("principal `{principal}` is no Workload::\"spiffe://…\""))?;
    let outcome = match (test.decision, test.num_errors, &test.reason) {
        (Decision::Allow, 0, _) => Outcome::Allowed,
        (Decision::Allow, ..) => return Err("it is allowed with errors: any error denies here".to_owned()),
        (Decision::Deny, 1.., _) => Outcome::Error,
        // A forbid that matched is a reason, a missing permit is none.
        (Decision::Deny, 0, Some(reason)) if !reason.is_empty() => Outcome::Forbidden,
        (Decision::Deny, 0, Some(_)) => Outcome::NotPermitted,
        (Decision::Deny, 0, None) => return Err("it has no `reason`: `[]` if no permit matches".to_owned()),
    };
    Ok(Case {
        name: test.name.unwrap_or_else(|| format!("test {number}")),
        line: number,
        principal: SpiffeId::parse(id).map_err(|cause| format!("principal `{principal}`: {cause}"))?,
        question: Question::of_action(&action, &resource).with_context(context),
        expected: Expected { outcome, by: test.reason.filter(|_| outcome != Outcome::Error) },
        about: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<Vec<Case>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tests.json");
        std::fs::write(&path, text).unwrap();
        read(&path).map_err(|errors| errors.to_string())
    }

    #[test]
    fn a_test_of_cedars_own_command_line_is_a_case() {
        let cases = read_text(
            r#"[{"name": "reads", "request": {"principal": "Workload::\"spiffe://a.test/x\"", "action": "Action::\"s3:GetObject\"",
                 "resource": "Object::\"lake/raw/a\"", "context": {}}, "entities": [], "decision": "allow", "reason": ["p"], "num_errors": 0},
                {"request": {"principal": "Workload::\"spiffe://a.test/x\"", "action": "Action::\"s3:GetObject\"",
                 "resource": "Object::\"lake/raw/a\""}, "decision": "deny", "reason": []}]"#,
        )
        .unwrap();
        let expected: Vec<_> = cases.iter().map(|case| (case.name.as_str(), case.expected.outcome)).collect();
        assert_eq!(expected, [("reads", Outcome::Allowed), ("test 2", Outcome::NotPermitted)]);
    }

    #[test]
    fn what_cannot_be_asked_here_says_why() {
        let test = |principal: &str, rest: &str| {
            format!(r#"[{{"request": {{"principal": "{principal}", "action": "a", "resource": "b"}}, {rest}}}]"#)
        };
        let workload = r#"Workload::\"spiffe://a.test/x\""#;
        for (text, said) in [
            (test(r#"User::\"bob\""#, r#""decision": "deny", "reason": []"#), "is no Workload"),
            (test(workload, r#""decision": "deny""#), "no `reason`"),
            (test(workload, r#""decision": "allow", "num_errors": 1"#), "any error denies here"),
            (test(workload, r#""decision": "maybe""#), "test 1: unknown variant `maybe`"),
            (test(workload, r#""decision": "deny", "reason": [], "entities": [{}]"#), "entities.json"),
            ("{}".to_owned(), "not a JSON list"),
        ] {
            let error = read_text(&text).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}
