//! Search paths and identifiers.

use std::sync::Arc;

use super::PG_CATALOG;
use crate::mapping::sql::SessionFacts;
use crate::mapping::sql::catalog::{Catalog, Usage};

/// Longest identifier in bytes: `NAMEDATALEN` - 1.
const LONGEST: usize = 63;

/// An identifier as the server keeps it: cut at 63 bytes, never within a character.
///
/// # Source
/// PostgreSQL `truncate_identifier` in `scansup.c`.
#[must_use]
pub fn cut(name: &str) -> &str {
    name.get(..name.floor_char_boundary(LONGEST)).unwrap_or(name)
}

/// Takes a search path apart, as SHOW writes it or `set_config` is given it. `$user` stays in it.
///
/// None if it is not well formed: the server would not have accepted it.
///
/// # Source
/// PostgreSQL `SplitIdentifierString` in `varlena.c`.
#[must_use]
pub fn parse_search_path(text: &str) -> Option<Vec<Box<str>>> {
    let space = |c: char| matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c');
    let mut rest = text.trim_start_matches(space);
    let mut names = Vec::new();
    if rest.is_empty() {
        return Some(names);
    }
    loop {
        let name = if let Some(quoted) = rest.strip_prefix('"') {
            let (name, after) = unquote(quoted)?;
            rest = after;
            name
        } else {
            let end = rest.find(|c| c == ',' || space(c)).unwrap_or(rest.len());
            let (name, after) = rest.split_at_checked(end)?;
            if name.is_empty() {
                return None;
            }
            rest = after;
            // The server folds other characters by its locale; only ASCII ones are folded the same everywhere.
            name.to_ascii_lowercase()
        };
        names.push(cut(&name).into());
        rest = rest.trim_start_matches(space);
        match rest.strip_prefix(',') {
            Some(more) => rest = more.trim_start_matches(space),
            None if rest.is_empty() => return Some(names),
            None => return None,
        }
    }
}

/// The rest of a quoted identifier, and what follows it.
fn unquote(mut rest: &str) -> Option<(String, &str)> {
    let mut name = String::new();
    loop {
        let (part, after) = rest.split_once('"')?;
        name.push_str(part);
        match after.strip_prefix('"') {
            Some(more) => {
                name.push('"');
                rest = more;
            }
            None => return Some((name, after)),
        }
    }
}

/// A search path, resolved: schemas that exist and may be used, in the order of search.
#[derive(Debug, Clone, Default)]
pub(super) struct Path {
    schemas: Vec<Arc<str>>,
    for_creation: Option<Arc<str>>,
    temp: Option<Arc<str>>,
    /// The catalogue does not know the role, so that nobody can tell which schemas the server skips.
    pub(super) unknown_role: bool,
    /// As a SET of the text wrote it, if there was one.
    pub(super) written: Option<Vec<Box<str>>>,
}

impl Path {
    /// # Source
    /// PostgreSQL `recomputeNamespacePath`: schemas without USAGE are skipped as those that do not exist; the implicit ones go to the front
    /// and are not checked.
    pub(super) fn resolve(written: &[Box<str>], catalog: &Catalog, facts: &SessionFacts, created: &[Arc<str>]) -> Self {
        // A text that makes a temporary table has a temporary schema from there on, by whatever name.
        let made = || created.iter().find(|schema| &***schema == "pg_temp").map(Arc::clone);
        let temp = facts.temp_schema.as_deref().map(Arc::from).or_else(made);
        let mut path = Self { temp, ..Self::default() };
        let mut temp_is_first = false;
        for name in written {
            let name = match &**name {
                "$user" => &facts.role,
                "pg_temp" => {
                    match &path.temp {
                        Some(temp) => path.schemas.push(Arc::clone(temp)),
                        None => temp_is_first |= path.schemas.is_empty(),
                    }
                    continue;
                }
                _ => name,
            };
            path.append(name, catalog, facts, created);
        }
        path.for_creation = if temp_is_first { Some("pg_temp".into()) } else { path.schemas.first().map(Arc::clone) };
        let pg_catalog = catalog.schemas.get_key_value(PG_CATALOG).map(|(name, _)| Arc::clone(name));
        let implicit = [pg_catalog, path.temp.clone()];
        for schema in implicit.into_iter().flatten() {
            if !path.schemas.contains(&schema) {
                path.schemas.insert(0, schema);
            }
        }
        path
    }

    fn append(&mut self, name: &str, catalog: &Catalog, facts: &SessionFacts, created: &[Arc<str>]) {
        let known = catalog.schemas.get_key_value(name);
        let (schema, usage) = match known {
            Some((schema, meaning)) => (schema, &meaning.usage),
            None => match created.iter().find(|created| ***created == *name) {
                Some(schema) => (schema, &Usage::Everyone),
                None => return,
            },
        };
        if self.schemas.contains(schema) {
            return;
        }
        match may_use(usage, &facts.role, catalog) {
            Some(true) => self.schemas.push(Arc::clone(schema)),
            Some(false) => {}
            None => self.unknown_role = true,
        }
    }

    /// For relations and types.
    pub(super) fn with_temp(&self) -> impl Iterator<Item = &str> {
        self.schemas.iter().map(|schema| &**schema)
    }

    /// For functions and operators, which are never looked for in the temporary schema.
    pub(super) fn without_temp(&self) -> impl Iterator<Item = &str> {
        self.schemas.iter().filter(|schema| Some(*schema) != self.temp.as_ref()).map(|schema| &**schema)
    }

    pub(super) fn for_creation(&self) -> Option<&str> {
        self.for_creation.as_deref()
    }
}

/// Roles that may use every schema: `pg_read_all_data`, `pg_write_all_data`.
///
/// # Source
/// PostgreSQL `pg_authid.dat`; `pg_namespace_aclmask` in `aclchk.c`.
const DATA_ROLES: [u32; 2] = [6181, 6182];

fn may_use(usage: &Usage, role: &str, catalog: &Catalog) -> Option<bool> {
    let Usage::Only(roles) = usage else { return Some(true) };
    let role = catalog.roles.get(role)?;
    let has = |oid: &u32| roles.contains(oid) || DATA_ROLES.contains(oid);
    Some(role.superuser || role.privileges_of.iter().any(has))
}
