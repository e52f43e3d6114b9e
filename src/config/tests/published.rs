//! The JSON Schema and `docs/configuration.md` say what the program does.

use std::fmt::Write;
use std::path::PathBuf;

use proptest::prelude::{Strategy, prop_assert, proptest};
use proptest::string::string_regex;
use serde_json::{Value, json};

use super::{GOOD, good_but, parse};
use crate::config::reading::endpoint_name;
use crate::config::{Config, Overrides, duration, schema, schema_text};

fn docs(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs").join(file)
}

/// Compares a published file with what it should be, or writes it if the environment variable `BLESS` is set.
fn published(file: &str, expected: &str) {
    let path = docs(file);
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, expected).unwrap();
    }
    let current = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(current == expected, "docs/{file} is not current: run `BLESS=1 cargo test --lib config::tests::published`");
}

#[test]
fn the_json_schema_is_current() {
    published("config.schema.json", &schema_text());
}

#[test]
fn the_reference_lists_every_key() {
    const BEGIN: &str = "<!-- keys: written by `BLESS=1 cargo test --lib config::tests::published` -->\n";
    const END: &str = "<!-- end of keys -->\n";
    let text = std::fs::read_to_string(docs("configuration.md")).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect("the marker before the keys");
    let (_, after) = rest.split_once(END).expect("the marker after the keys");
    published("configuration.md", &format!("{before}{BEGIN}\n{}\n{END}{after}", reference()));
}

#[test]
fn every_example_in_the_docs_is_a_configuration() {
    let text = std::fs::read_to_string(docs("configuration.md")).unwrap();
    let examples: Vec<&str> =
        text.split("```yaml\n").skip(1).map(|rest| rest.split_once("```").expect("a closing fence").0).collect();
    assert!(examples.len() >= 4, "the docs have {} examples", examples.len());
    for example in examples {
        let is_whole = example.contains("identity:");
        let text = if is_whole { example.to_owned() } else { with_good(example) };
        Config::parse(&text, "example.yaml", &Overrides::default())
            .unwrap_or_else(|errors| panic!("{}", errors.render(false)));
    }
}

/// A part of a configuration in place of the same keys of the good one.
fn with_good(part: &str) -> String {
    let keys: Vec<&str> = part.lines().filter_map(|line| line.split_once(':')).map(|(key, _)| key).collect();
    let mut kept = String::new();
    let mut keep = true;
    for line in GOOD.lines() {
        if !line.starts_with(' ') {
            keep = !keys.contains(&line.split(':').next().unwrap());
        }
        if keep {
            kept += &format!("{line}\n");
        }
    }
    kept + part
}

#[test]
fn defaults_in_the_schema_are_those_in_force() {
    let mut file = json!({
        "identity": { "certificate": "a", "private_key": "b", "trust_bundles": { "td": "c" } },
        "policy": { "directory": "p" },
        "inbound": [
            { "name": "a", "listen": "0.0.0.0:1", "protocol": "s3", "upstream": "http://localhost:1000" },
            { "name": "b", "listen": "0.0.0.0:4", "protocol": "tcp", "upstream": "localhost:1000", "limits": { "idle_timeout": "1h" } },
            { "name": "c", "listen": "0.0.0.0:5", "protocol": "postgres", "upstream": "localhost:1000", "catalog": { "user": "d" },
              "limits": { "idle_timeout": "24h" } },
        ],
        "outbound": [
            { "name": "a", "listen": "127.0.0.1:2", "protocol": "http", "upstream": "a:1", "peer": "any" },
            { "name": "c", "listen": "127.0.0.1:6", "protocol": "postgres", "upstream": "a:1", "peer": "any",
              "limits": { "idle_timeout": "24h" } },
        ],
        "health": { "listen": "0.0.0.0:3" },
    });
    let bare = parse(&file.to_string()).unwrap();
    fill(&mut file, schema());
    assert_eq!(file["limits"]["header_bytes"], 65_536, "the defaults have been filled in");
    assert_eq!(file["inbound"][0]["limits"]["idle_timeout"], "1m", "in listeners too");
    for (direction, index, speaks) in [
        ("inbound", 0, "s3"),
        ("inbound", 1, "tcp"),
        ("inbound", 2, "postgres"),
        ("outbound", 0, "http"),
        ("outbound", 1, "postgres"),
    ] {
        let listener = file[direction][index].as_object_mut().unwrap();
        listener.remove("mode");
        if speaks != "postgres" {
            let is_there = listener.remove("sessions_per_connection").is_some();
            assert_eq!(is_there, direction == "outbound", "it has a default");
        }
        for (of, keys) in [
            ("http", &["merge_slashes"] as &[&str]),
            ("s3", &["unsafe_allow_dot_segments"]),
            ("tcp", &["send_proxy_protocol"]),
            ("postgres", POSTGRES_DEFAULTS),
        ] {
            for key in keys.iter().filter(|_| of != speaks) {
                assert!(listener.remove(*key).is_some() || direction == "outbound", "`{key}` has a default");
            }
        }
    }
    let filled = parse(&file.to_string()).unwrap_or_else(|errors| panic!("{}", errors.render(false)));
    assert_eq!(format!("{bare:#?}"), format!("{filled:#?}"));
}

const POSTGRES_DEFAULTS: &[&str] = &[
    "role",
    "catalog_max_age",
    "upstream_tls",
    "upstream_ca",
    "message_bytes",
    "statement_bytes",
    "authentication_timeout",
];

/// Writes every default of the schema into a file.
fn fill(value: &mut Value, schema: &Value) {
    for item in value.as_array_mut().into_iter().flatten() {
        fill(item, &schema["items"]);
    }
    let (Some(object), Some(properties)) = (value.as_object_mut(), schema["properties"].as_object()) else { return };
    for (name, property) in properties {
        let has_defaults =
            property["properties"].as_object().is_some_and(|p| p.values().any(|p| p.get("default").is_some()));
        if let Some(default) = property.get("default") {
            object.entry(name).or_insert(default.clone());
        } else if has_defaults && property.get("required").is_none() {
            object.entry(name).or_insert(json!({}));
        }
        if let Some(inner) = object.get_mut(name) {
            fill(inner, property);
        }
    }
}

#[test]
fn the_schema_says_nothing_that_the_check_does_not_know() {
    const KNOWN: [&str; 24] = [
        "$schema",
        "title",
        "description",
        "type",
        "properties",
        "required",
        "additionalProperties",
        "items",
        "enum",
        "enumDescriptions",
        "minimum",
        "maximum",
        "default",
        "examples",
        "minItems",
        "minProperties",
        "x-minimum",
        "x-maximum",
        "x-entries",
        "anyOf",
        "minLength",
        "if",
        "then",
        "else",
    ];
    // Held by the conversion, with a better message: name, mode and duration.
    const ELSEWHERE: [&str; 2] = ["pattern", "maxLength"];
    each_schema(schema(), &mut |schema| {
        for keyword in schema.as_object().unwrap().keys() {
            assert!(KNOWN.contains(&keyword.as_str()) || ELSEWHERE.contains(&keyword.as_str()), "keyword `{keyword}`");
        }
        match schema["type"].as_str() {
            Some("integer" | "number") => {
                assert!(schema["minimum"].is_number() && schema["maximum"].is_number(), "a range: {schema}");
            }
            Some("string") if schema["pattern"] == duration::PATTERN => {
                assert!(schema["x-minimum"].is_string() && schema["x-maximum"].is_string(), "a range: {schema}");
            }
            Some(_) => {}
            None => assert!(schema["anyOf"].is_array(), "a type: {schema}"),
        }
    });
}

proptest! {
    #[test]
    fn patterns_for_editors_allow_nothing_that_is_refused(
        name in matching("/properties/inbound/items/properties/name"),
        length in matching("/properties/shutdown_timeout"),
        mode in matching("/properties/outbound/items/properties/mode"),
    ) {
        prop_assert!(name.len() > 63 || endpoint_name(&name).is_ok(), "{}", name);
        prop_assert!(duration::parse(&length).is_ok() || length.len() > 10, "{}", length);
        let listen = format!("listen: unix:/a\n    mode: \"{mode}\"");
        prop_assert!(parse(&good_but("listen: 127.0.0.1:9001", &listen)).is_ok(), "{}", mode);
    }
}

/// Texts that match the pattern at this place of the schema.
fn matching(pointer: &str) -> impl Strategy<Value = String> + use<> {
    let pattern = schema().pointer(pointer).unwrap()["pattern"].as_str().unwrap();
    string_regex(pattern.trim_start_matches('^').trim_end_matches('$')).unwrap()
}

fn each_schema(schema: &Value, visit: &mut impl FnMut(&Value)) {
    visit(schema);
    let inner = schema["properties"].as_object().into_iter().flat_map(|p| p.values());
    let branches = schema["anyOf"].as_array().into_iter().flatten();
    let others = [&schema["items"], &schema["additionalProperties"]].into_iter().filter(|s| s.is_object());
    for schema in inner.chain(branches).chain(others) {
        each_schema(schema, visit);
    }
}

/// Every key as Markdown: a table for each block.
fn reference() -> String {
    let mut blocks: Vec<(String, &Value)> = vec![(String::new(), schema())];
    let mut text = String::new();
    while !blocks.is_empty() {
        let (path, block) = blocks.remove(0);
        // Both directions and the top level have the same limits and the same TLS: said once. So are tokens.
        let is_of_all = path.ends_with(".tls") || path.ends_with(".limits");
        if path.contains("bound[].") && is_of_all || path.starts_with("outbound[].token") {
            continue;
        }
        let title = if path.is_empty() { "Top level".into() } else { format!("`{path}`") };
        writeln!(text, "### {title}\n\n| key | value | default | meaning |\n|---|---|---|---|").unwrap();
        for (name, key) in block["properties"].as_object().unwrap() {
            writeln!(text, "{}", row(name, key, &block["required"])).unwrap();
            let inner = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            if key["properties"].is_object() {
                blocks.push((inner, key));
            } else if key["items"]["properties"].is_object() {
                blocks.push((format!("{inner}[]"), &key["items"]));
            } else if key["additionalProperties"]["properties"].is_object() {
                blocks.push((format!("{inner}.*"), &key["additionalProperties"]));
            }
        }
        text.push('\n');
    }
    text.trim_end().to_owned() + "\n"
}

fn row(name: &str, key: &Value, required: &Value) -> String {
    let is_required = required.as_array().is_some_and(|names| names.iter().any(|required| required == name));
    let default = match &key["default"] {
        Value::Null if is_required => "**required**".into(),
        Value::Null => "–".into(),
        Value::Array(_) => "none".into(),
        Value::String(text) => format!("`{text}`"),
        other => format!("`{other}`"),
    };
    let mut meaning = key["description"].as_str().unwrap().to_owned();
    let values =
        key["enum"].as_array().into_iter().flatten().zip(key["enumDescriptions"].as_array().into_iter().flatten());
    for (value, description) in values {
        write!(meaning, "<br>`{}`: {}", value.as_str().unwrap(), description.as_str().unwrap()).unwrap();
    }
    format!("| `{name}` | {} | {default} | {meaning} |", kind(key))
}

fn kind(key: &Value) -> String {
    let range = |from: &str, to: &str| {
        let bound = |name| key[name].as_str().map_or_else(|| key[name].to_string(), str::to_owned);
        format!("{} to {}", bound(from), bound(to))
    };
    if let Some(branches) = key["anyOf"].as_array() {
        return branches.iter().map(kind).collect::<Vec<_>>().join(" or ");
    }
    match key["type"].as_str().unwrap() {
        "object" if key["x-entries"].is_string() => key["x-entries"].as_str().unwrap().into(),
        "object" => "keys below".into(),
        "array" if key["items"]["properties"].is_object() => "list of keys below".into(),
        "array" => format!("list of {}", kind(&key["items"])),
        "string" if key["enum"].is_array() => "one of".into(),
        "string" if key["pattern"] == duration::PATTERN => format!("duration, {}", range("x-minimum", "x-maximum")),
        "string" => "text".into(),
        "boolean" => "`true`, `false`".into(),
        _ => range("minimum", "maximum"),
    }
}
