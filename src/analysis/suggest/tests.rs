//! What logs suggest.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const ENTITIES: &str =
    r#"[{"uid": {"type": "Workload", "id": "spiffe://a.test/etl"}, "parents": [{"type": "Stage", "id": "etl"}]}]"#;
const PRESENT: &str = r#"
@id("all") permit (principal in Stage::"etl", action in [Action::"s3:GetObject", Action::"s3:PutObject", Action::"sql:Select"], resource);
@id("never") permit (principal in Stage::"etl", action == Action::"s3:DeleteObject", resource);
@id("no") forbid (principal, action in Action::"admin", resource);
"#;

fn record(action: &str, resource: &str, outcome: &str, context: Json) -> String {
    let policies = if outcome == "allowed" { vec!["all"] } else { vec![] };
    let mut whole = serde_json::json!({"now": "2026-11-21T09:30:00.125Z", "direction": "inbound"});
    whole.as_object_mut().unwrap().extend(context.as_object().unwrap().clone());
    let record = serde_json::json!({"kind": "request", "time": "2026-11-21T09:30:00.125Z", "decision_id": "01A", "outcome": outcome, "policies": policies,
            "principal": "spiffe://a.test/etl", "principal_in": ["Stage::\"etl\""], "action": action, "resource": resource, "context": whole});
    format!("{record}\n")
}

#[test]
fn nothing_is_suggested_that_nobody_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let entities = r#"[{"uid": {"type": "Workload", "id": "spiffe://a.test/etl"}, "parents": [{"type": "Stage", "id": "etl"}]},
            {"uid": {"type": "Workload", "id": "spiffe://a.test/both"}, "parents": [{"type": "Stage", "id": "etl"}, {"type": "Stage", "id": "load"}]}]"#;
    for (name, text) in [("p.cedar", PRESENT), ("entities.json", entities)] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let sql = |columns: &[&str], statement: &str| serde_json::json!({"columns": columns, "statement": statement, "role": "etl"});
    let people = "Table::\"wh/a.public.\\\"People\\\"\"";
    let both = record("sql:Select", people, "allowed", sql(&[], "select")).replace("a.test/etl", "a.test/both");
    let log = [
        record("sql:Select", people, "allowed", sql(&["id", "ssn"], "select")),
        record("sql:Update", people, "allowed", sql(&["city"], "update")),
        both,
    ];
    let file = folder.path().join("audit.jsonl");
    std::fs::write(&file, log.concat()).unwrap();
    let present = PolicyGeneration::load(&PolicySource::of(folder.path()), 1).unwrap();
    let suggestion = suggest(&present, std::slice::from_ref(&file), false).unwrap();
    assert_eq!(proved(&suggestion, folder.path(), &[file], false), Ok(Vec::new()), "{}", suggestion.cedar);
    // What is read is not written, and one Stage does not get what a workload of several asked for.
    for said in [
        "action == Action::\"sql:Select\",\n  resource == Table::\"wh/a.public.\\\"People\\\"\"\n)\nwhen { [\"id\", \"ssn\"]",
        "action == Action::\"sql:Update\",\n  resource == Table::\"wh/a.public.\\\"People\\\"\"\n)\nwhen { [\"city\"]",
        "principal == Workload::\"spiffe://a.test/both\"",
        "when { context.columns.isEmpty() }",
    ] {
        assert!(suggestion.cedar.contains(said), "no {said} in {}", suggestion.cedar);
    }
}

#[test]
fn what_was_seen_becomes_the_least_policies_and_these_allow_all_of_it() {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [("p.cedar", PRESENT), ("entities.json", ENTITIES)] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let s3 = |operation: &str| serde_json::json!({"operation": operation, "byVersion": false, "presigned": false, "headers": {}});
    let sql = |columns: &[&str]| serde_json::json!({"columns": columns, "statement": "select", "role": "etl"});
    let log = [
        record("s3:GetObject", "Object::\"lake/raw/in/2026/a\"", "allowed", s3("GetObject")),
        record("s3:GetObject", "Object::\"lake/raw/in/2025/b\"", "allowed", s3("GetObject")),
        record("sql:Select", "Table::\"wh/a.public.people\"", "allowed", sql(&["id", "name"])),
        record("sql:Select", "Table::\"wh/a.public.people\"", "allowed", sql(&["city"])),
        record("s3:GetObject", "Object::\"lake/secret/a\"", "not_permitted", s3("GetObject")),
        "{\"kind\":\"handshake\",\"outcome\":\"refused\"}\n".to_owned(),
    ];
    let file = folder.path().join("audit.jsonl");
    std::fs::write(&file, log.concat()).unwrap();
    let present = PolicyGeneration::load(&PolicySource::of(folder.path()), 1).unwrap();
    let files = [file];
    let suggestion = suggest(&present, &files, false).unwrap();
    assert_eq!((suggestion.requests, suggestion.policies), (4, 2), "{}", suggestion.cedar);
    let expected = "// principal in Stage::\"etl\"\n\
            @id(\"suggested-1\")\npermit (\n  principal in Stage::\"etl\",\n  action == Action::\"sql:Select\",\n  \
            resource == Table::\"wh/a.public.people\"\n)\nwhen { [\"city\", \"id\", \"name\"].containsAll(context.columns) };\n\n\
            @id(\"suggested-2\")\npermit (\n  principal in Stage::\"etl\",\n  action == Action::\"s3:GetObject\",\n  \
            resource in Prefix::\"lake/raw/in\"\n);\n";
    assert!(suggestion.cedar.ends_with(expected), "{}", suggestion.cedar);
    assert!(suggestion.cedar.starts_with("// Unreviewed"));
    assert_eq!(proved(&suggestion, folder.path(), &files, false), Ok(Vec::new()));
    assert!(proved(&suggestion, folder.path(), &files, true).unwrap_err().contains("lake/secret/a"));
    let text = suggestion.text();
    for said in [
        "// Unused in this log:\n//   all (",
        ": action Action::\"s3:PutObject\"\n//   never (",
        "// Forbids that denied nothing in this log, which may be why nobody tries:\n//   no (",
        "decisions were made by other policies than these",
    ] {
        assert!(text.contains(said), "no {said} in {text}");
    }
    assert_eq!(suggestion.unused.len(), 2, "{:#?}", suggestion.unused);
    assert_eq!(
        policies_str_to_pretty(&suggestion.cedar, &Config::default()).unwrap().trim_end(),
        suggestion.cedar.trim_end()
    );

    let wider = suggest(&present, &files, true).unwrap();
    assert!(wider.cedar.contains("resource == Object::\"lake/secret/a\""), "{}", wider.cedar);
    assert_eq!(proved(&wider, folder.path(), &files, true), Ok(Vec::new()));
    // A suggestion that allows less than was seen is found out.
    let less =
        Suggestion { cedar: "@id(\"none\") forbid (principal, action, resource);".to_owned(), ..Suggestion::default() };
    assert!(proved(&less, folder.path(), &files, false).unwrap_err().contains("would not be allowed"));
}

#[test]
fn a_log_that_leaves_things_out_says_what_it_cannot_tell() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("p.cedar"), PRESENT).unwrap();
    std::fs::write(folder.path().join("entities.json"), ENTITIES).unwrap();
    let present = PolicyGeneration::load(&PolicySource::of(folder.path()), 1).unwrap();
    let s3 = serde_json::json!({"operation": "GetObject", "byVersion": false, "presigned": false, "headers": {"authorization": ["[redacted]"]}});
    let log = record("s3:GetObject", "Object::\"lake/raw/a\"", "allowed", s3);
    let sampled = log.replace("\"kind\"", "\"sample_rate\":0.1,\"kind\"").replace("09:30", "09:15");
    let file = folder.path().join("audit.jsonl");
    std::fs::write(&file, format!("{log}{sampled}broken\n")).unwrap();
    let suggestion = suggest(&present, &[file], false).unwrap();
    assert_eq!(suggestion.window, Some(("2026-11-21T09:15:00.125Z".to_owned(), "2026-11-21T09:30:00.125Z".to_owned())));
    assert!(suggestion.cedar.starts_with(
        "// Unreviewed: written from recorded requests of 2026-11-21T09:15:00.125Z to 2026-11-21T09:30:00.125Z.\n"
    ));
    let caveats = suggestion.caveats.join("\n");
    for said in
        ["the log is sampled (1 of 2 records)", "2 records hide values", "made by other policies", "no records: 1 line"]
    {
        assert!(caveats.contains(said), "no {said} in {caveats}");
    }
    assert!(suggestion.text().contains("// What cannot be concluded from this log:\n//   the log is sampled"));
}

#[test]
fn parts_of_a_permit_that_nobody_needed_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let policies = r#"@id("reads") permit (principal, action in [Action::"read", Action::"list"], resource)
        when { resource in [Bucket::"lake/raw", Bucket::"lake/curated"] }
        when { ["GetObject", "HeadObject"].contains(context.operation) };"#;
    std::fs::write(folder.path().join("p.cedar"), policies).unwrap();
    let present = PolicyGeneration::load(&PolicySource::of(folder.path()), 1).unwrap();
    let file = folder.path().join("audit.jsonl");
    let s3 = |operation: &str| serde_json::json!({"operation": operation, "byVersion": false, "presigned": false, "headers": {}});
    let parts = |records: &[String]| {
        std::fs::write(&file, records.concat()).unwrap();
        let suggestion = suggest(&present, std::slice::from_ref(&file), false).unwrap();
        suggestion
            .unused
            .iter()
            .flat_map(Unused::lines)
            .map(|line| line.split_once("): ").unwrap_or_default().1.to_owned())
            .collect::<Vec<_>>()
    };
    let get = record("s3:GetObject", "Object::\"lake/raw/a\"", "allowed", s3("GetObject"));
    assert_eq!(
        parts(std::slice::from_ref(&get)),
        [
            "action Action::\"list\"",
            "when resource in Bucket::\"lake/curated\"",
            "when context.operation == \"HeadObject\""
        ]
    );
    let head = record("s3:GetObject", "Object::\"lake/curated/a\"", "allowed", s3("HeadObject"));
    assert_eq!(parts(&[get, head]), ["action Action::\"list\""]);
}

/// Who, what was asked, of what, with which columns, and what came out.
type Asked = (usize, usize, String, BTreeSet<String>, usize);

const WHO: [&str; 4] =
    ["spiffe://a.test/etl", "spiffe://a.test/etl2", "spiffe://a.test/both", "spiffe://a.test/nobody"];
const ACTIONS: [(&str, &str); 7] = [
    ("s3:GetObject", "Object::\"lake/raw/KEY\""),
    ("s3:PutObject", "Object::\"lake/raw/KEY\""),
    ("s3:ListBucket", "Prefix::\"lake/raw/KEY\""),
    ("http:GET", "HttpPath::\"api/KEY\""),
    ("http:GET", "HttpPath::\"api/\""),
    ("sql:Select", "Table::\"wh/shop.public.people\""),
    ("tcp:Connect", "Endpoint::\"queue\""),
];
const OUTCOMES: [&str; 4] = ["allowed", "allowed", "not_permitted", "forbidden"];

fn asked() -> impl Strategy<Value = Asked> {
    let key = proptest::collection::vec("[ab'é]", 1..4).prop_map(|parts| parts.join("/"));
    let columns = proptest::collection::btree_set("[a-c\"]", 0..3);
    (0..WHO.len(), 0..ACTIONS.len(), key, columns, 0..OUTCOMES.len())
}

fn line(number: usize, (who, action, key, columns, outcome): &Asked) -> (String, String) {
    let (name, resource) = ACTIONS[*action];
    // Paths hold no such characters.
    let key = if name.starts_with("http:") { key.replace(['é', '\''], "c") } else { key.escape_debug().to_string() };
    let resource = resource.replace("KEY", &key);
    let context = match name.split_once(':').unwrap().0 {
        "s3" => serde_json::json!({"operation": name, "byVersion": false, "presigned": false, "headers": {}}),
        "http" => serde_json::json!({"headers": {}}),
        "sql" => serde_json::json!({"columns": columns, "statement": "select", "role": "etl"}),
        _ => serde_json::json!({}),
    };
    let line = record(name, &resource, OUTCOMES[*outcome], context);
    (line.replace("spiffe://a.test/etl", WHO[*who]).replace("01A", &number.to_string()), resource)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_suggestion_allows_all_that_was_allowed_and_tells_what_it_allows_of_the_rest(log in proptest::collection::vec(asked(), 0..24)) {
        let folder = tempfile::tempdir().unwrap();
        let stage = |id: &str, stages: &[&str]| {
            let parents: Vec<_> = stages.iter().map(|stage| serde_json::json!({"type": "Stage", "id": stage})).collect();
            serde_json::json!({"uid": {"type": "Workload", "id": id}, "parents": parents})
        };
        let entities = serde_json::json!([stage(WHO[0], &["etl"]), stage(WHO[1], &["etl"]), stage(WHO[2], &["etl", "load"])]);
        std::fs::write(folder.path().join("entities.json"), entities.to_string()).unwrap();
        std::fs::write(folder.path().join("p.cedar"), PRESENT).unwrap();
        let lines: Vec<(String, String)> = log.iter().enumerate().map(|(number, asked)| line(number, asked)).collect();
        let file = folder.path().join("audit.jsonl");
        std::fs::write(&file, lines.iter().map(|(line, _)| line.as_str()).collect::<String>()).unwrap();
        let present = PolicyGeneration::load(&PolicySource::of(folder.path()), 1).unwrap();
        let suggestion = suggest(&present, std::slice::from_ref(&file), false).unwrap();
        let also = proved(&suggestion, folder.path(), std::slice::from_ref(&file), false);
        prop_assert!(also.is_ok(), "{:?}\n{}", also, suggestion.cedar);
        for also in also.unwrap() {
            let number: usize = also.example.parse().unwrap();
            let (who, action, ..) = &log[number];
            prop_assert_ne!(OUTCOMES[log[number].4], "allowed");
            // Who is in two Stages has what each of them has; columns that were read one by one may be read together; else it is the very
            // same resource that was allowed at another time.
            let same = log.iter().zip(&lines).any(|(other, (_, resource))| {
                OUTCOMES[other.4] == "allowed" && other.1 == *action && *resource == lines[number].1
            });
            prop_assert!(WHO[*who] == WHO[2] || ACTIONS[*action].0 == "sql:Select" || same, "{:?}\n{}", also, suggestion.cedar);
        }
        let wider = suggest(&present, std::slice::from_ref(&file), true).unwrap();
        prop_assert!(proved(&wider, folder.path(), &[file], true).is_ok(), "{}", wider.cedar);
    }
}
