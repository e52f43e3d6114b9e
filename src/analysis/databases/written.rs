//! A catalogue of what somebody has written: rows as a server would answer, over those of what comes with PostgreSQL.

use std::collections::{BTreeMap, BTreeSet};

use super::{Columns, DatabaseKeys, FunctionKeys, ViewKeys};
use crate::analysis::asked::{quoted_name, sql_names};
use crate::config::nearest;
use crate::mapping::sql::catalog::{Reading, Snapshot};

/// Rows of what is written, over those of what comes with the server.
pub(super) struct Written {
    rows: Snapshot,
    next: u32,
    types: BTreeMap<String, String>,
    schemas: BTreeMap<String, String>,
    /// Of each relation its oid and its columns in order.
    relations: BTreeMap<String, (String, Vec<String>)>,
}

/// The first number that the server does not use for its own objects is far below.
const FIRST_OID: u32 = 1_000_000;

/// Types as the SQL standard calls them.
///
/// # Source
/// PostgreSQL, chapter 8, table 8.1, "Aliases".
const ALIASES: [(&str, &str); 16] = [
    ("bigint", "int8"),
    ("int", "int4"),
    ("integer", "int4"),
    ("smallint", "int2"),
    ("bigserial", "int8"),
    ("serial", "int4"),
    ("boolean", "bool"),
    ("double precision", "float8"),
    ("real", "float4"),
    ("decimal", "numeric"),
    ("character varying", "varchar"),
    ("character", "bpchar"),
    ("char", "bpchar"),
    ("timestamp with time zone", "timestamptz"),
    ("timestamp without time zone", "timestamp"),
    ("time with time zone", "timetz"),
];

impl Written {
    pub(super) fn new<'r>(database: &str, roles: impl Iterator<Item = &'r String>) -> Result<Self, String> {
        let mut rows = Snapshot::built_in().map_err(|cause| cause.to_string())?;
        let of = |reading: Reading, name: usize| {
            let named =
                rows.rows(reading).filter_map(move |row| Some((row.get(name)?.clone()?, row.first()?.clone()?)));
            named.collect::<BTreeMap<_, _>>()
        };
        // Schema 11 is pg_catalog, where all base types are.
        let types =
            rows.rows(Reading::Types).filter(|row| row.get(1).is_some_and(|schema| schema.as_deref() == Some("11")));
        let types = types.filter_map(|row| Some((row.get(2)?.clone()?, row.first()?.clone()?))).collect();
        let schemas = of(Reading::Schemas, 1);
        let known = of(Reading::Roles, 1);
        rows.push(Reading::Database, &[Some(database), Some("10"), Some("150000")]);
        let mut written = Self { rows, next: FIRST_OID, types, schemas, relations: BTreeMap::new() };
        for role in roles.collect::<BTreeSet<_>>() {
            if !known.contains_key(role) {
                let oid = written.oid();
                written.rows.push(Reading::Roles, &[Some(&oid), Some(role), Some("f"), Some("t")]);
            }
        }
        Ok(written)
    }

    fn oid(&mut self) -> String {
        self.next += 1;
        self.next.to_string()
    }

    pub(super) fn add(mut self, keys: &DatabaseKeys) -> Result<Snapshot, String> {
        for (name, columns) in &keys.tables {
            self.relation(name, ("r", false), columns).map_err(|cause| format!("table `{name}`: {cause}"))?;
        }
        for (name, whole) in &keys.partitions {
            let columns =
                keys.tables.get(whole).ok_or_else(|| format!("partition `{name}`: there is no table `{whole}`"))?;
            self.relation(name, ("r", true), columns).map_err(|cause| format!("partition `{name}`: {cause}"))?;
        }
        for (name, whole) in &keys.partitions {
            let (Some((part, _)), Some((whole, _))) = (self.relations.get(name), self.relations.get(whole)) else {
                continue;
            };
            self.rows.push(Reading::Inheritance, &[Some(part), Some(whole), Some("1")]);
        }
        for (name, view) in &keys.views {
            self.relation(name, ("v", false), &view.columns).map_err(|cause| format!("view `{name}`: {cause}"))?;
        }
        for (name, view) in &keys.views {
            self.reads(name, view).map_err(|cause| format!("view `{name}`: {cause}"))?;
        }
        for (name, function) in &keys.functions {
            self.function(name, function).map_err(|cause| format!("function `{name}`: {cause}"))?;
        }
        Ok(self.rows)
    }

    /// `public.people` taken apart; its schema is made if it is not there.
    fn named(&mut self, name: &str) -> Result<(String, String), String> {
        let names = sql_names(name).ok_or("a quote is not closed, or a name is empty")?;
        let [schema, name] = <[String; 2]>::try_from(names).map_err(|_| "it is written `SCHEMA.NAME`".to_owned())?;
        if let Some(oid) = self.schemas.get(&schema) {
            return Ok((oid.clone(), name));
        }
        let oid = self.oid();
        self.rows.push(Reading::Schemas, &[Some(&oid), Some(&schema), Some("10"), Some("f")]);
        // PUBLIC may use it: who may not is a matter of the server's own grants.
        self.rows.push(Reading::Usage, &[Some(&oid), Some("0")]);
        self.schemas.insert(schema, oid.clone());
        Ok((oid, name))
    }

    fn relation(&mut self, full: &str, (kind, is_partition): (&str, bool), columns: &Columns) -> Result<(), String> {
        let (schema, name) = self.named(full)?;
        let (oid, row_type) = (self.oid(), self.oid());
        let is_partition = if is_partition { "t" } else { "f" };
        let row = [&oid, &schema, &name, kind, &row_type, is_partition];
        self.rows.push(Reading::Relations, &row.map(Some));
        let composite =
            [Some(&*row_type), Some(&schema), Some(&name), Some("c"), Some(&oid), Some("C"), Some("0"), Some("0")];
        self.rows.push(Reading::Types, &composite);
        let mut names: Vec<String> = Vec::new();
        for (number, column) in (1..).zip(columns) {
            let (column, kind) = column_of(column)?;
            let kind = self.type_of(kind).map_err(|cause| format!("column `{column}`: {cause}"))?;
            if names.contains(&column) {
                return Err(format!("it has the column `{column}` twice"));
            }
            let number = number.to_string();
            self.rows.push(Reading::Columns, &[&oid, &number, &column, &kind, ""].map(|value: &str| Some(value)));
            names.push(column);
        }
        if self.relations.insert(full.to_owned(), (oid, names)).is_some() {
            return Err("it is there twice".to_owned());
        }
        Ok(())
    }

    fn reads(&mut self, name: &str, view: &ViewKeys) -> Result<(), String> {
        let Some((view_oid, _)) = self.relations.get(name).cloned() else { return Ok(()) };
        for (table, columns) in &view.reads {
            let known = self.relations.get(table);
            let (oid, all) = known.ok_or_else(|| format!("there is no `{table}` among `tables` and `views`"))?;
            let mut numbers = Vec::new();
            for column in columns {
                let at = all.iter().position(|known| known == column);
                numbers.push(at.ok_or_else(|| format!("`{table}` has no column `{column}`"))? + 1);
            }
            if numbers.is_empty() {
                // The relation as such.
                numbers.push(0);
            }
            for number in numbers {
                self.rows.push(Reading::Views, &[Some(&view_oid), Some(oid), Some(&number.to_string()), Some("f")]);
            }
        }
        Ok(())
    }

    fn function(&mut self, name: &str, function: &FunctionKeys) -> Result<(), String> {
        let (schema, name) = self.named(name)?;
        let arguments = function.arguments.iter().map(|kind| self.type_of(kind)).collect::<Result<Vec<_>, _>>()?;
        let returns = self.type_of(&function.returns)?;
        let (oid, count) = (self.oid(), arguments.len().to_string());
        let row = [&oid, &schema, &name, "f", "v", &count, "0", "0", &arguments.join(" "), &returns];
        let values: Vec<Option<&str>> = row.into_iter().map(Some).chain([None, None]).collect();
        self.rows.push(Reading::Functions, &values);
        Ok(())
    }

    fn type_of(&self, written: &str) -> Result<String, String> {
        let (base, is_array) = match written.trim().strip_suffix("[]") {
            Some(base) => (base.trim(), true),
            None => (written.trim(), false),
        };
        // `varchar(20)`: what is in parentheses makes no other type.
        let (before, after) = base
            .split_once('(')
            .map_or((base, ""), |(before, rest)| (before, rest.split_once(')').map_or("", |(_, after)| after)));
        let plain = format!("{}{after}", before.trim_end()).to_lowercase();
        let name = ALIASES.iter().find(|(alias, _)| *alias == plain).map_or(plain.as_str(), |(_, name)| name);
        let oid = if is_array { self.types.get(&format!("_{name}")) } else { self.types.get(name) };
        oid.cloned().ok_or_else(|| {
            let known = self.types.keys().map(String::as_str).filter(|name| !name.starts_with(['_', 'p']));
            let meant = nearest(name, known.chain(ALIASES.iter().map(|(alias, _)| *alias)));
            let meant = meant.map(|name| format!(", did you mean `{name}`?")).unwrap_or_default();
            format!("PostgreSQL has no type `{written}`{meant} (types of your own are in a `catalog` that `portcullis policy catalog` writes)")
        })
    }
}

/// `id int8` taken apart.
fn column_of(column: &str) -> Result<(String, &str), String> {
    let column = column.trim();
    let wrong = || format!("`{column}` is no column: write its name and its type, `id int8`");
    let (name, kind) = match column.strip_prefix('"') {
        Some(quoted) => quoted_name(quoted).ok_or_else(wrong)?,
        None => {
            let (name, kind) = column.split_once(char::is_whitespace).ok_or_else(wrong)?;
            (name.to_lowercase(), kind)
        }
    };
    let kind = kind.trim();
    if name.is_empty() || kind.is_empty() { Err(wrong()) } else { Ok((name, kind)) }
}
