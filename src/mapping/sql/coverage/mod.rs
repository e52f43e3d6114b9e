//! That the walk sees every field of the syntax tree in which something that asks can stand.
//!
//! The fields come from the grammar's own description of its messages (`pg_query.proto`, as the `pg_query` crate ships it). For each field
//! there is a statement with a marked function or table in it, and that is asked for; or a line in [`unwalked`] that says why it need not be.
//! A new version of the grammar that has a field more fails here until somebody has looked at it.

mod statements;
mod unwalked;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use serde_json::Value;

use super::catalog::testing::facts;
use super::catalog::{Catalog, Column, Function, FunctionKind, Relation, RelationKind, Volatility};
use super::facts::NothingPrepared;
use super::map;

/// A function and a table that are in no other text.
const MARKS: [&str; 2] = ["marker", "marked"];

/// Message and field.
type Place = (String, String);

/// Fields with their types, by message; `Node` has its variants instead.
struct Grammar {
    messages: BTreeMap<String, Vec<(String, String)>>,
}

impl Grammar {
    fn of_the_crate() -> Self {
        let cargo = Command::new(env!("CARGO"))
            // Crates of other systems may not be here.
            .args(["metadata", "--format-version", "1", "--filter-platform", "host-tuple"])
            .args(["--locked", "--offline", "--manifest-path"])
            .arg(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"))
            .output()
            .unwrap();
        let metadata: Value = serde_json::from_slice(&cargo.stdout).unwrap();
        let packages = metadata["packages"].as_array().unwrap();
        let package = packages.iter().find(|package| package["name"] == "pg_query").unwrap();
        let manifest = PathBuf::from(package["manifest_path"].as_str().unwrap());
        let proto = manifest.with_file_name("libpg_query").join("protobuf/pg_query.proto");
        Self::parse(&std::fs::read_to_string(proto).unwrap())
    }

    fn parse(proto: &str) -> Self {
        let mut messages: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
        let mut message = None;
        for line in proto.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["message", name, ..] => {
                    message = Some((*name).to_owned());
                    messages.insert((*name).to_owned(), Vec::new());
                }
                ["enum", ..] => message = None,
                ["repeated" | "optional", kind, name, "=", ..] | [kind, name, "=", ..] => {
                    if let Some(message) = &message {
                        messages.get_mut(message).unwrap().push(((*name).to_owned(), (*kind).to_owned()));
                    }
                }
                _ => {}
            }
        }
        Self { messages }
    }

    /// What a variant of `Node` is called in Rust, and its message.
    fn variants(&self) -> BTreeMap<String, String> {
        let camel = |name: &str| name.split('_').map(capitalised).collect();
        self.messages["Node"].iter().map(|(name, kind)| (camel(name), kind.clone())).collect()
    }

    /// Every field that holds a node, or a message that may hold one.
    fn places(&self) -> BTreeSet<Place> {
        let mut bearing: BTreeSet<&str> = ["Node"].into();
        loop {
            let more =
                self.messages.iter().filter(|(_, fields)| fields.iter().any(|(_, kind)| bearing.contains(&**kind)));
            let all: BTreeSet<&str> = more.map(|(name, _)| &**name).chain(["Node"]).collect();
            if all == bearing {
                break;
            }
            bearing = all;
        }
        let messages = self.messages.iter().filter(|(name, _)| *name != "Node");
        messages
            .flat_map(|(message, fields)| fields.iter().map(move |(field, kind)| (message, field, kind)))
            .filter(|(.., kind)| bearing.contains(&***kind))
            .map(|(message, field, _)| (message.clone(), field.clone()))
            .collect()
    }
}

/// Where in a tree the marks are: the way to each.
struct Search<'g> {
    grammar: &'g Grammar,
    variants: BTreeMap<String, String>,
    way: Vec<Place>,
    found: Vec<Vec<Place>>,
}

impl Search<'_> {
    fn visit(&mut self, kind: &str, value: &Value) {
        if kind == "Node" {
            let Some((variant, inner)) = value["node"].as_object().and_then(|node| node.iter().next()) else { return };
            let kind = self.variants[variant].clone();
            return self.visit(&kind, inner);
        }
        let named = match kind {
            "String" => value["sval"].as_str(),
            "RangeVar" => value["relname"].as_str(),
            _ => None,
        };
        if named.is_some_and(|name| MARKS.contains(&name)) {
            self.found.push(self.way.clone());
        }
        let grammar = self.grammar;
        for (field, inner) in &grammar.messages[kind] {
            if !grammar.messages.contains_key(inner) || value[field].is_null() {
                continue;
            }
            self.way.push((kind.to_owned(), field.clone()));
            match &value[field] {
                Value::Array(all) => all.iter().for_each(|one| self.visit(inner, one)),
                one => self.visit(inner, one),
            }
            self.way.pop();
        }
    }
}

/// The sample on a server of version 18, with what is marked.
fn catalog() -> Catalog {
    let mut catalog = Catalog { major: 18, ..Catalog::sample() };
    let function = Function {
        oid: 90_000,
        kind: FunctionKind::Function,
        volatility: Volatility::Volatile,
        arguments_least: 0,
        arguments_most: None,
        argument_types: Vec::new(),
        returns: 0,
        output_names: Vec::new(),
    };
    let column = |name: &str| Column { name: name.into(), type_oid: 25, generated_from: Vec::new() };
    let table = Relation {
        oid: 90_001,
        schema: "public".into(),
        name: "marked".into(),
        kind: RelationKind::Table,
        columns: vec![column("id"), column("name")],
        partition_of: Vec::new(),
        inherited_by: Vec::new(),
        base: Vec::new(),
        as_caller: Vec::new(),
        referenced_by: Vec::new(),
        row_type: 90_002,
    };
    let public = Arc::make_mut(catalog.schemas.get_mut("public").unwrap());
    public.functions.insert("marker".into(), vec![function]);
    public.relations.insert("marked".into(), table.oid);
    catalog.relations.insert(table.oid, Arc::new(table));
    catalog
}

/// The fields that hold what is marked in a text, and what is wrong with it.
fn walked(grammar: &Grammar, catalog: &Catalog, text: &str) -> Result<Vec<Place>, String> {
    let parsed = pg_query::parse(text, 0).map_err(|error| format!("{text}\n    {error}"))?;
    let tree = serde_json::to_value(&parsed.protobuf).unwrap();
    let mut search = Search { grammar, variants: grammar.variants(), way: Vec::new(), found: Vec::new() };
    search.visit("ParseResult", &tree);
    // The source of `(a, b) = (SELECT …)` stands in the tree once for each column.
    search.found.dedup();
    let [way] = search.found.as_slice() else { return Err(format!("{text}\n    {} marks", search.found.len())) };
    let mapped = map(text, "wh", catalog, &facts(), &NothingPrepared).map_err(|no| format!("{text}\n    {no:?}"))?;
    let mut operations = mapped.statements.iter().flat_map(|statement| statement.operations.iter());
    let asked = operations.any(|operation| MARKS.iter().any(|mark| operation.resource.id().ends_with(mark)));
    if asked { Ok(way.clone()) } else { Err(format!("{text}\n    does not ask for what is marked")) }
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect()
}

#[test]
fn every_field_that_can_hold_something_is_walked_or_said_not_to_be() {
    let (grammar, catalog) = (Grammar::of_the_crate(), catalog());
    let places = grammar.places();
    assert!(places.len() > 500, "the description of the grammar was read: {} fields", places.len());
    let (mut seen, mut wrong) = (BTreeSet::new(), Vec::new());
    for text in statements::MARKED {
        match walked(&grammar, &catalog, text) {
            Ok(way) => seen.extend(way),
            Err(why) => wrong.push(why),
        }
    }
    let unwalked: BTreeSet<Place> = unwalked::all(&grammar.messages);
    let written = |place: &Place| format!("{}.{}", place.0, place.1);
    wrong.extend(
        places
            .iter()
            .filter(|place| !seen.contains(place) && !unwalked.contains(place))
            .map(|place| format!("{}: no statement has anything in it, and nothing says why", written(place))),
    );
    wrong.extend(unwalked.intersection(&seen).map(|place| format!("{} is walked, not unwalked", written(place))));
    wrong.extend(unwalked.difference(&places).map(|place| format!("{} is no field that holds a node", written(place))));
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}
