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
        let list = said.split("expected one of ").nth(1).unwrap_or_else(|| panic!("no list in {said}"));
        list.lines().next().unwrap_or_default().split('`').skip(1).step_by(2).map(str::to_owned).collect()
    };
    let listed = |said: &str| -> BTreeSet<String> {
        let list = said.split(": there are ").nth(1).unwrap_or_else(|| panic!("no list in {said}"));
        list.lines().next().unwrap_or_default().split(", ").map(str::to_owned).collect()
    };
    let keys = |object: &Value| object.as_object().expect("has keys").keys().cloned().collect::<BTreeSet<_>>();
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
