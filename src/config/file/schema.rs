//! The JSON Schema of the file, made from its types.
//!
//! It is what editors complete and check by (yaml-language-server), what `docs/configuration.md` lists, and what a file is checked
//! against here. Draft 7 without references: the newest that all of those editors know, and every description stands where it is shown.

use std::sync::LazyLock;

use schemars::Schema;
use schemars::generate::SchemaSettings;
use schemars::transform::{Transform, transform_subschemas};
use serde_json::{Map, Value, json};

use super::keys::ConfigFile;

/// The schema.
#[must_use]
pub fn schema() -> &'static Value {
    SCHEMA.as_value()
}

/// The schema as `docs/config.schema.json` has it.
#[must_use]
pub fn schema_text() -> String {
    serde_json::to_string_pretty(&*SCHEMA).map(|text| text + "\n").unwrap_or_default()
}

static SCHEMA: LazyLock<Schema> = LazyLock::new(|| {
    let settings = SchemaSettings::draft07().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<ConfigFile>();
    Plain.transform(&mut schema);
    schema.insert("title".into(), "portcullis configuration".into());
    schema
});

/// Says what the file may hold as plainly as JSON Schema can.
struct Plain;

impl Transform for Plain {
    fn transform(&mut self, schema: &mut Schema) {
        if let Some(keywords) = schema.as_object_mut() {
            forbid_null(keywords);
            enumerate(keywords);
            // `uint32` and the like are no formats of JSON Schema; minimum and maximum say it.
            keywords.remove("format");
            if keywords.contains_key("properties") {
                keywords.insert("additionalProperties".into(), false.into());
            }
        }
        transform_subschemas(self, schema);
    }
}

/// An optional key may be left out. `key:` without a value is more likely a slip, and is refused.
fn forbid_null(keywords: &mut Map<String, Value>) {
    if keywords.get("default").is_some_and(Value::is_null) {
        keywords.remove("default");
    }
    if let Some(Value::Array(types)) = keywords.get_mut("type") {
        types.retain(|t| t != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            keywords.insert("type".into(), only);
        }
    }
    let Some(Value::Array(branches)) = keywords.get_mut("anyOf") else { return };
    branches.retain(|branch| branch.get("type").is_none_or(|t| t != "null"));
    if let [Value::Object(only)] = branches.as_slice() {
        let only = only.clone();
        keywords.remove("anyOf");
        for (keyword, value) in only {
            // The key's own description says more than its type's.
            keywords.entry(keyword).or_insert(value);
        }
    }
}

/// One `enum` with a description for each value, in place of `oneOf` constants: editors show it better.
fn enumerate(keywords: &mut Map<String, Value>) {
    let Some(Value::Array(branches)) = keywords.get("oneOf") else { return };
    let constants: Option<Vec<(Value, Value)>> = branches
        .iter()
        .map(|branch| Some((branch.get("const")?.clone(), branch.get("description").cloned().unwrap_or_default())))
        .collect();
    let Some(constants) = constants else { return };
    let (values, descriptions): (Vec<Value>, Vec<Value>) = constants.into_iter().unzip();
    keywords.remove("oneOf");
    keywords.insert("type".into(), json!("string"));
    keywords.insert("enum".into(), values.into());
    keywords.insert("enumDescriptions".into(), descriptions.into());
}
