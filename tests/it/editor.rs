//! `editor/`: what it tells editors is what the program takes.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::*;

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn json(path: &str) -> Value {
    let text = fs::read_to_string(project(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn the_settings_name_files_that_are_there() {
    let settings = json("editor/vscode-settings.json");
    let yaml = settings["yaml.schemas"].as_object().expect("there are some").keys().map(String::as_str);
    let urls =
        settings["json.schemas"].as_array().expect("there are some").iter().filter_map(|one| one["url"].as_str());
    let named: Vec<&str> = yaml.chain(urls).collect();
    assert_eq!(named.len(), 4, "{named:?}");
    for path in named {
        assert_eq!(json(path)["$schema"], "http://json-schema.org/draft-07/schema#", "{path}");
    }
    // `policy schema` writes it there, as the README says and `pages.rs` runs.
    assert_eq!(settings["cedar.schemaFile"], "editor/portcullis.cedarschema");
    assert!(
        settings["cedar.autodetectSchemaFile"] == false
            && json("editor/vscode-extensions.json")["recommendations"].is_array()
    );
    let lua = fs::read_to_string(project("editor/neovim.lua")).expect("it is there");
    assert!(lua.contains("cedar.associateSchema") && lua.contains("editor/portcullis.cedarschema"));
}

#[tokio::test]
async fn the_schema_of_cases_has_the_keys_and_values_that_policy_test_takes() {
    let world = World::new();
    let schema = json("editor/cases.schema.json");
    let case = &schema["properties"]["cases"]["items"]["properties"];
    let file = world.folder("p");
    fs::write(file.join("p.cedar"), ALLOW_ALL).expect("the folder is writable");
    let ask = async |cases: &str| {
        fs::write(file.join("cases.yaml"), cases).expect("the folder is writable");
        let mut command = portcullis();
        Process::run("policy test", command.args(["policy", "test"]).arg(&file), "").await.stderr
    };
    // What is expected instead of a key or value that there is not.
    let expected = |said: &str| -> BTreeSet<String> {
        let list = said.split(", expected ").nth(1).unwrap_or_else(|| panic!("no list in {said}"));
        list.lines().next().unwrap_or_default().split('`').skip(1).step_by(2).map(str::to_owned).collect()
    };
    let listed = |said: &str| listed(said, ": there are ");
    let good = "cases:\n  - {name: n, as: 'spiffe://a.example/x', request: GET http://api/a, expect: allowed}\n";
    assert_eq!(listed(&ask(&good.replace("name: n", "zzqqj: n")).await), keys(case));
    let values = case["expect"]["enum"].as_array().expect("has values");
    let values: BTreeSet<String> = values.iter().map(|value| value.as_str().expect("is a text").to_owned()).collect();
    assert_eq!(expected(&ask(&good.replace("allowed", "alowed")).await), values);
    assert_eq!(listed(&ask(&format!("zzqqj: {{}}\n{good}")).await), keys(&schema["properties"]));
    let protocols = schema.pointer("/properties/endpoints/additionalProperties/enum").expect("has protocols");
    let said = ask(&format!("endpoints: {{ api: htpp }}\n{good}")).await;
    for protocol in protocols.as_array().expect("is a list").iter().filter_map(Value::as_str) {
        assert!(said.contains(protocol), "{said}");
    }
    let database = schema.pointer("/properties/databases/additionalProperties/properties").expect("has keys");
    let head = |of: &str| format!("endpoints: {{ wh: postgres }}\ndatabases: {{ wh/shop: {{ {of} }} }}\n{good}");
    assert_eq!(listed(&ask(&head("zzqqj: n")).await), keys(database));
    for of in ["views", "functions"] {
        let known = database.pointer(&format!("/{of}/additionalProperties/properties")).expect("has keys");
        assert_eq!(expected(&ask(&head(&format!("{of}: {{ public.a: {{ zzqqj: n }} }}"))).await), keys(known));
    }
}

/// The keys that a message lists after `before`.
fn listed(said: &str, before: &str) -> BTreeSet<String> {
    let list = said.split(before).nth(1).unwrap_or_else(|| panic!("no list in {said}"));
    let list = list.split([';', '\n']).next().unwrap_or_default();
    list.trim_end().split(", ").map(str::to_owned).collect()
}

fn keys(object: &Value) -> BTreeSet<String> {
    object.as_object().expect("has keys").keys().cloned().collect()
}

/// What the program says of a policy directory with these files.
async fn said(world: &World, command: &[&str], files: &[(&str, &str)]) -> Output {
    let folder = world.folder("asked");
    for (name, text) in files {
        fs::write(folder.join(name), text).expect("the folder is writable");
    }
    let path = folder.display().to_string();
    Process::run("policy", portcullis().arg("policy").args(command).args(["--policies", &path]), "").await
}

#[tokio::test]
async fn the_schema_of_invariants_has_the_keys_that_policy_prove_takes() {
    let world = World::new();
    let schema = json("editor/invariants.schema.json");
    let one = schema.pointer("/properties/invariants/items").expect("is a list");
    let prove = async |invariants: &str| {
        said(&world, &["prove"], &[("p.cedar", ALLOW_ALL), ("invariants.yaml", invariants)]).await
    };
    let good = "invariants:\n  - name: n\n    always:\n      when: context.direction == \"outbound\"\n";
    let proved = prove(good).await;
    assert_eq!(proved.code(), 0, "{proved:#?}");
    let whole = format!("zzqqj: []\n{good}");
    let own = good.replace("    always", "    zzqqj: n\n    always");
    let asked = good.replace("when:", "zzqqj: a\n      when:");
    for (text, known) in [
        (whole, &schema["properties"]),
        (own, &one["properties"]),
        (asked, &schema["definitions"]["asked"]["properties"]),
    ] {
        let refused = prove(&text).await;
        assert_eq!(refused.code(), 3, "{refused:#?}");
        assert_eq!(listed(&refused.stderr, "the keys here are "), keys(known), "{text}");
    }
    // What the schema asks for is asked for, and what it excludes is refused.
    assert_eq!(one["required"], serde_json::json!(["name"]));
    assert_eq!(one["oneOf"].as_array().map(Vec::len), Some(2));
    for (from, to) in [
        ("  - name: n\n    always", "  - always"),
        ("always:\n      when", "reason"),
        ("    always:", "    never: {}\n    always:"),
        (good, "invariants: []\n"),
        ("name: n", "name: ''"),
    ] {
        assert!(good.contains(from), "{from}");
        let refused = prove(&good.replace(from, to)).await;
        assert_eq!(refused.code(), 3, "{to}: {refused:#?}");
    }
}

#[tokio::test]
async fn the_schema_of_entities_has_the_keys_that_a_load_takes() {
    let world = World::new();
    let schema = json("editor/entities.schema.json");
    let validate = async |entities: &str| {
        said(&world, &["validate"], &[("p.cedar", ALLOW_ALL), ("entities.json", entities)]).await
    };
    let named = r#"{"type": "Workload", "id": "spiffe://a.example/x"}"#;
    let parent = r#"{"type": "Stage", "id": "s"}"#;
    let good = format!(r#"[{{"uid": {named}, "parents": [{parent}], "tags": {{"team": ["a"]}}, "attrs": {{}}}}]"#);
    let cedars = good.replace(parent, &format!(r#"{{"__entity": {parent}}}"#));
    for good in [&good, &cedars] {
        let valid = validate(good).await;
        assert_eq!(valid.code(), 0, "{good}: {valid:#?}");
    }
    let either = schema.pointer("/definitions/uid/anyOf/1/properties").expect("has a key");
    for (text, known) in [
        (good.replace("[{\"uid\"", "[{\"zzqqj\": 1, \"uid\""), &schema["items"]["properties"]),
        (good.replace("\"id\": \"s\"", "\"id\": \"s\", \"zzqqj\": 1"), &schema["definitions"]["named"]["properties"]),
        (cedars.replace("{\"__entity\"", "{\"zzqqj\": 1, \"__entity\""), either),
    ] {
        let refused = validate(&text).await;
        assert_eq!(refused.code(), 3, "{text}: {refused:#?}");
        assert_eq!(listed(&refused.stderr, "the keys here are "), keys(known), "{text}: {refused:#?}");
    }
    let nearly = validate(&good.replace("parents", "parent")).await;
    assert!(nearly.code() == 3 && nearly.stderr.contains("did you mean `parents`?"), "{nearly:#?}");
}

#[tokio::test]
async fn the_schema_for_editors_has_what_the_operator_adds() {
    let world = World::new();
    let folder = world.folder("p");
    let written = async |arguments: &[&str]| {
        let mut command = portcullis();
        Process::run("policy schema", command.args(["policy", "schema"]).args(arguments), "").await
    };
    let plain = written(&[]).await;
    let shipped = include_str!("../../policies/portcullis.cedarschema").trim_end();
    assert!(plain.code() == 0 && plain.stdout == shipped, "{plain:#?}");
    fs::write(folder.join("own.cedarschema"), "entity Team in [Group];\n").expect("the folder is writable");
    let path = folder.display().to_string();
    let with_own = written(&["--policies", &path]).await;
    assert!(with_own.stdout == format!("{shipped}\n\nentity Team in [Group];"), "{with_own:#?}");
    assert!(cedar_policy::Schema::from_cedarschema_str(&with_own.stdout).is_ok(), "one file is a schema");
    fs::write(folder.join("own.cedarschema"), "entity Bucket;\n").expect("the folder is writable");
    let refused = written(&["--policies", &path]).await;
    assert!(refused.code() == 3 && refused.stderr.contains("own.cedarschema"), "{refused:#?}");
}
