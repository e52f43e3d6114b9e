//! A tree checked against the JSON Schema.
//!
//! Everything that is wrong is reported, and what is left is good enough to be read into the types, so that the values that are
//! right are looked at further in the same run.

use std::ops::Range;

use serde_json::{Map, Value as Json};

use super::nearest::nearest;
use super::schema::schema;
use super::tree::{Entry, Found, KeyPath, Node, Value};
use super::yaml::quoted;
use crate::config::duration;
use crate::config::errors::{Advice, Finding};

/// Checks the whole file. Keys that are wrong are left out; what stays fits the types.
pub(crate) fn conform(text: &str, tree: &Node) -> (Json, Vec<Finding>) {
    let mut checker = Checker { text, findings: Vec::new() };
    let kept = checker.value(Found { key_span: None, node: tree }, schema(), &KeyPath::root());
    (kept.unwrap_or_else(|| Json::Object(Map::new())), checker.findings)
}

/// Checks the value that a flag or an environment variable gives for a key of the file's top level or of `limits`.
pub(crate) fn conform_override(flag: &str, key: &str, value: Value) -> Option<Finding> {
    let properties = schema().get("properties");
    let limits = properties.and_then(|p| p.pointer("/limits/properties"));
    let schema = [properties, limits].into_iter().flatten().find_map(|p| p.get(key))?;
    let mut checker = Checker { text: "", findings: Vec::new() };
    checker.value(Found { key_span: None, node: &Node { span: 0..0, value } }, schema, &KeyPath::root());
    let problem = checker.findings.into_iter().next()?;
    Some(problem.of_flag(flag))
}

struct Checker<'t> {
    text: &'t str,
    findings: Vec<Finding>,
}

impl Checker<'_> {
    /// What of a value fits its schema; none if nothing does.
    fn value(&mut self, found: Found<'_>, schema: &Json, path: &KeyPath) -> Option<Json> {
        let schema = branch(found.node, schema);
        match (text_of(schema, "type"), &found.node.value) {
            (_, Value::Unusable) => None,
            ("object", Value::Map(entries)) => self.map(found, entries, schema, path),
            ("array", Value::List(nodes)) => self.list(found, nodes, schema, path),
            ("string", Value::Text(text)) => self.text(found, text, schema, path),
            ("boolean", Value::Bool(value)) => Some((*value).into()),
            ("integer", Value::Int(number)) => self.integer(found, *number, schema, path),
            ("number", Value::Float(number)) => self.number(found, *number, schema, path),
            #[expect(clippy::cast_precision_loss, reason = "only compared with a range that doubles hold exactly")]
            ("number", Value::Int(number)) => self.number(found, *number as f64, schema, path),
            _ => {
                self.wrong_type(found, schema, path);
                None
            }
        }
    }

    fn map(&mut self, found: Found<'_>, entries: &[Entry], schema: &Json, path: &KeyPath) -> Option<Json> {
        let properties = schema.get("properties");
        let others = schema.get("additionalProperties").filter(|others| others.is_object());
        if entries.is_empty() && schema.get("minProperties").is_some() {
            self.find(found.start_span(), path, "has no entries", example(schema, path));
            return None;
        }
        let mut kept = Map::new();
        self.missing_keys(found, entries, schema, path);
        for entry in entries {
            let path = path.key(&entry.key);
            let Some(schema) = properties.and_then(|p| p.get(&entry.key)).or(others) else {
                self.unknown_key(entry, properties, &path);
                continue;
            };
            let found = Found { key_span: Some(&entry.key_span), node: &entry.node };
            if let Some(value) = self.value(found, schema, &path) {
                kept.insert(entry.key.clone(), value);
            }
        }
        Some(Json::Object(kept))
    }

    fn missing_keys<'s>(&mut self, found: Found<'_>, entries: &[Entry], schema: &'s Json, path: &KeyPath) {
        let required = |schema: &'s Json| schema.get("required").and_then(Json::as_array).into_iter().flatten();
        let required = required(schema).chain(conditional(entries, schema).into_iter().flat_map(required));
        let required = required.filter_map(Json::as_str);
        for name in required.filter(|name| !entries.iter().any(|entry| entry.key == *name || stands_for(entry, name))) {
            let key = schema.get("properties").and_then(|p| p.get(name)).unwrap_or(&Json::Null);
            let path = path.key(name);
            let what = first_sentence(text_of(key, "description"));
            let help = match (example(key, &path), values_of(key)) {
                (Some(example), _) => format!("{example}: {what}"),
                (None, Some(values)) => format!("one of {}: {what}", listed(&values)),
                (None, None) => what.to_owned(),
            };
            self.find(found.start_span(), &path, format!("key `{name}` is missing"), help);
        }
    }

    fn unknown_key(&mut self, entry: &Entry, properties: Option<&Json>, path: &KeyPath) {
        let known: Vec<&str> =
            properties.and_then(Json::as_object).into_iter().flat_map(|p| p.keys()).map(String::as_str).collect();
        let mut homes = Vec::new();
        homes_of(&entry.key, schema(), String::new(), &mut homes);
        let help = if entry.key == "<<" {
            "merge keys are not supported: write the keys out".into()
        } else if !homes.is_empty() {
            format!("it is a key of {}", homes.join(", "))
        } else if let Some(near) = nearest(&entry.key, known.iter().copied()) {
            format!("did you mean `{near}`?")
        } else {
            format!("known here: {}", listed(&known))
        };
        self.find(entry.key_span.clone(), path, format!("unknown key `{}`", shortened(&entry.key)), help);
    }

    fn list(&mut self, found: Found<'_>, nodes: &[Node], schema: &Json, path: &KeyPath) -> Option<Json> {
        if nodes.is_empty() && schema.get("minItems").is_some() {
            self.find(
                found.start_span(),
                path,
                "the list is empty",
                "name at least one, or leave the key out".to_owned(),
            );
            return None;
        }
        let items = schema.get("items").unwrap_or(&Json::Null);
        let mut kept = Vec::new();
        let mut complete = true;
        for (index, node) in nodes.iter().enumerate() {
            match self.value(Found { key_span: None, node }, items, &path.index(index)) {
                Some(value) => kept.push(value),
                // Keeps the others at their index, by which they are found again.
                None if text_of(items, "type") == "object" => kept.push(Json::Object(Map::new())),
                None => complete = false,
            }
        }
        complete.then_some(Json::Array(kept))
    }

    fn text(&mut self, found: Found<'_>, text: &str, schema: &Json, path: &KeyPath) -> Option<Json> {
        if let Some(values) = values_of(schema).filter(|values| !values.contains(&text)) {
            let message = format!("`{}` is not one of {}", shortened(text), listed(&values));
            let help = nearest(text, values.iter().copied()).map(|near| format!("did you mean `{near}`?"));
            self.find(found.value_span(), path, message, help);
            return None;
        }
        if text.is_empty() {
            self.find(found.value_span(), path, "is empty", example(schema, path));
            return None;
        }
        if text_of(schema, "pattern") == duration::PATTERN {
            return self.duration(found, text, schema, path);
        }
        Some(text.into())
    }

    fn duration(&mut self, found: Found<'_>, text: &str, schema: &Json, path: &KeyPath) -> Option<Json> {
        let value = match duration::parse(text) {
            Ok(value) => value,
            Err(error) => {
                self.find(found.value_span(), path, error.to_string(), error.advice());
                return None;
            }
        };
        let bound = |name: &str| duration::parse(text_of(schema, name)).ok();
        let (minimum, maximum) = (bound("x-minimum")?, bound("x-maximum")?);
        if value < minimum || value > maximum {
            let message = format!("`{}` is out of range", shortened(text));
            let help = format!("at least {}, at most {}", duration::format(minimum), duration::format(maximum));
            self.find(found.value_span(), path, message, help);
            return None;
        }
        Some(text.into())
    }

    fn integer(&mut self, found: Found<'_>, number: i128, schema: &Json, path: &KeyPath) -> Option<Json> {
        let bound = |name: &str| schema.get(name).and_then(Json::as_i64);
        let minimum = bound("minimum").unwrap_or(i64::MIN);
        let maximum = bound("maximum").unwrap_or(i64::MAX);
        match i64::try_from(number) {
            Ok(number) if (minimum..=maximum).contains(&number) => Some(number.into()),
            _ => {
                let message = format!("`{}` is out of range", self.written(found.node, &number.to_string()));
                self.find(found.value_span(), path, message, format!("at least {minimum}, at most {maximum}"));
                None
            }
        }
    }

    fn number(&mut self, found: Found<'_>, number: f64, schema: &Json, path: &KeyPath) -> Option<Json> {
        let bound = |name: &str| schema.get(name).and_then(Json::as_f64);
        let (minimum, maximum) = (bound("minimum")?, bound("maximum")?);
        if (minimum..=maximum).contains(&number) {
            return Some(number.into());
        }
        let message = format!("`{}` is out of range", self.written(found.node, &number.to_string()));
        self.find(found.value_span(), path, message, format!("at least {minimum}, at most {maximum}"));
        None
    }

    fn wrong_type(&mut self, found: Found<'_>, schema: &Json, path: &KeyPath) {
        let written = self.written(found.node, "");
        let expected = kinds(schema).join(" or ");
        let message = match &found.node.value {
            Value::Null => format!("has no value, expected {expected}"),
            Value::Map(_) => format!("expected {expected}, found a block of keys"),
            Value::List(_) => format!("expected {expected}, found a list"),
            _ => format!("expected {expected}, found `{}`", shortened(&written)),
        };
        let help = remedy(found.node, &written, schema).or_else(|| example(schema, path)).or_else(|| keys_of(schema));
        self.find(found.value_span(), path, message, help);
    }

    /// A scalar as the file writes it.
    fn written(&self, node: &Node, fallback: &str) -> String {
        self.text.get(node.span.clone()).filter(|text| !text.is_empty()).unwrap_or(fallback).to_owned()
    }

    fn find(
        &mut self,
        span: Range<usize>,
        path: &KeyPath,
        message: impl Into<String>,
        help: impl Into<Option<String>>,
    ) {
        self.findings.push(Finding::new(span, path, message).help(help));
    }
}

/// Where a schema allows several types: the one that the value has.
fn branch<'s>(node: &Node, schema: &'s Json) -> &'s Json {
    let branches = schema.get("anyOf").and_then(Json::as_array);
    let wanted = match &node.value {
        Value::List(_) => "array",
        Value::Text(_) => "string",
        _ => return schema,
    };
    branches.into_iter().flatten().find(|branch| text_of(branch, "type") == wanted).unwrap_or(schema)
}

/// The `then` or `else` of a schema, whichever holds for these keys. Its `if` compares keys that have to be there with constants, or only
/// asks for them.
///
/// What is misspelt counts as what it was meant to be: that it is misspelt is said where it stands. Neither, if that is not to be guessed.
fn conditional<'s>(entries: &[Entry], schema: &'s Json) -> Option<&'s Json> {
    let condition = schema.get("if")?;
    let required = condition.get("required").and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str);
    let is_there = |name: &str| entries.iter().any(|entry| entry.key == name || stands_for(entry, name));
    let mut holds = required.into_iter().all(is_there);
    for (name, wanted) in condition.get("properties").and_then(Json::as_object).into_iter().flatten() {
        let exact = entries.iter().find(|entry| entry.key == *name);
        let entry = exact.or_else(|| entries.iter().find(|entry| stands_for(entry, name)));
        let meant = match entry.map(|entry| &entry.node.value) {
            None => None,
            Some(Value::Text(text)) => {
                let possible = schema.get("properties").and_then(|keys| keys.get(name)).and_then(values_of)?;
                let exact = possible.iter().copied().find(|possible| possible == text);
                Some(exact.or_else(|| nearest(text, possible))?)
            }
            Some(_) => return None,
        };
        holds &= meant.is_some() && wanted.get("const").and_then(Json::as_str) == meant;
    }
    schema.get(if holds { "then" } else { "else" })
}

/// Whether an unknown key is this one misspelt, which is said where it stands.
fn stands_for(entry: &Entry, name: &str) -> bool {
    nearest(&entry.key, [name]).is_some()
}

fn values_of(schema: &Json) -> Option<Vec<&str>> {
    schema.get("enum").and_then(Json::as_array).map(|values| values.iter().filter_map(Json::as_str).collect())
}

/// What may stand there, in words.
fn kinds(schema: &Json) -> Vec<&'static str> {
    if let Some(branches) = schema.get("anyOf").and_then(Json::as_array) {
        return branches.iter().flat_map(kinds).collect();
    }
    let is_duration = text_of(schema, "pattern") == duration::PATTERN;
    vec![match text_of(schema, "type") {
        "object" => "a block of keys",
        "array" => "a list",
        "boolean" => "`true` or `false`",
        "integer" => "a whole number",
        "number" => "a number",
        _ if is_duration => "a duration",
        _ => "text",
    }]
}

/// What to do about a scalar of the wrong type.
fn remedy(node: &Node, written: &str, schema: &Json) -> Option<String> {
    let is_duration = text_of(schema, "pattern") == duration::PATTERN;
    match (text_of(schema, "type"), &node.value) {
        ("string", Value::Int(number)) if is_duration => Some(format!("give it a unit: `{number}s`")),
        ("string", Value::Int(_) | Value::Float(_) | Value::Bool(_)) if schema.get("examples").is_none() => {
            Some(format!("put it in quotes: `{}`", quoted(written)))
        }
        ("array", Value::Text(text)) => {
            let items: Vec<&str> = text.split_whitespace().map(|item| item.trim_end_matches(',')).collect();
            Some(format!("write it as a list: `[{}]`", shortened(&items.join(", "))))
        }
        ("boolean", Value::Text(text)) => match text.to_ascii_lowercase().as_str() {
            "yes" | "on" | "y" | "true" => Some("write `true`".into()),
            "no" | "off" | "n" | "false" => Some("write `false`".into()),
            _ => None,
        },
        ("integer" | "number", Value::Text(text)) if text.parse::<f64>().is_ok() => {
            Some("write the number without quotes and without a leading zero".into())
        }
        ("integer", Value::Text(_) | Value::Float(_)) => {
            let number = schema.get("default")?;
            Some(format!("write digits only, for example `{number}`"))
        }
        _ => None,
    }
}

/// An example for a key, as it is written in the file.
fn example(schema: &Json, path: &KeyPath) -> Option<String> {
    let value = schema.get("examples").and_then(Json::as_array).and_then(|examples| examples.first())?;
    let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    Some(format!("for example `{}{value}`", path.last_key().map(|key| format!("{key}: ")).unwrap_or_default()))
}

fn keys_of(schema: &Json) -> Option<String> {
    let keys: Vec<&str> = schema.get("properties")?.as_object()?.keys().map(String::as_str).collect();
    Some(format!("its keys are {}", listed(&keys)))
}

/// All places at which the schema knows a key of this name.
fn homes_of(key: &str, schema: &Json, path: String, homes: &mut Vec<String>) {
    for (name, property) in schema.get("properties").and_then(Json::as_object).into_iter().flatten() {
        if name == key {
            homes.push(if path.is_empty() { "the top level".into() } else { format!("`{path}`") });
        }
        let inner = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        homes_of(key, property, inner, homes);
    }
    if let Some(items) = schema.get("items") {
        homes_of(key, items, format!("{path}[]"), homes);
    }
    if let Some(entries) = schema.get("additionalProperties").filter(|entries| entries.is_object()) {
        homes_of(key, entries, format!("{path}.*"), homes);
    }
}

fn listed(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn first_sentence(text: &str) -> &str {
    text.split_once(". ").map_or(text, |(first, _)| first).trim_end_matches('.')
}

fn shortened(text: &str) -> String {
    const LONGEST: usize = 60;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.into(),
    }
}

fn text_of<'s>(schema: &'s Json, keyword: &str) -> &'s str {
    schema.get(keyword).and_then(Json::as_str).unwrap_or_default()
}

impl Advice for duration::DurationError {
    fn advice(&self) -> Option<String> {
        Some(match self {
            Self::NoUnit { text } => format!("write `{text}s`; the units are `ms`, `s`, `m`, `h`"),
            _ => "write `500ms`, `10s`, `5m` or `1h`".into(),
        })
    }
}
