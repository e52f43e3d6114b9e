//! The databases that SQL cases are about: written beside the cases, or kept in a file by `portcullis policy catalog`.

mod written;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value as Json;

use self::written::Written;
use super::asked::sql_names;
use super::question::only_keys;
use super::sql::SqlSession;
use crate::config::nearest;
use crate::mapping::sql::catalog::{Catalog, Snapshot};

/// The databases of a file, by `ENDPOINT/DATABASE`.
#[derive(Debug, Default)]
pub(super) struct Databases(BTreeMap<String, Database>);

/// One of them.
#[derive(Debug)]
struct Database {
    endpoint: String,
    catalog: Arc<Catalog>,
    role: Option<String>,
    search_path: Option<String>,
    /// Its own list of columns, tables and functions, rather than what a server has said.
    is_written: bool,
}

const KEYS: [&str; 7] = ["role", "search_path", "catalog", "tables", "views", "partitions", "functions"];

/// What is written of a database.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct DatabaseKeys {
    role: Option<String>,
    search_path: Option<String>,
    catalog: Option<String>,
    tables: BTreeMap<String, Columns>,
    views: BTreeMap<String, ViewKeys>,
    partitions: BTreeMap<String, String>,
    functions: BTreeMap<String, FunctionKeys>,
}

/// `[id int8, name text]`: columns with their types, in their order.
type Columns = Vec<String>;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ViewKeys {
    columns: Columns,
    reads: BTreeMap<String, Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FunctionKeys {
    arguments: Vec<String>,
    returns: String,
}

impl Databases {
    /// Reads `databases` of a file in `directory`. `roles`: those that cases name.
    ///
    /// # Errors
    /// Everything that is wrong, a message each.
    pub(super) fn read(
        keys: &BTreeMap<String, Json>,
        roles: &BTreeSet<String>,
        directory: &Path,
    ) -> Result<Self, Vec<String>> {
        let (mut databases, mut faults) = (Self::default(), Vec::new());
        for (name, json) in keys {
            match Database::read(name, json, roles, directory) {
                Ok(database) => drop(databases.0.insert(name.clone(), database)),
                Err(cause) => faults.push(format!("`databases`: `{name}`: {cause}")),
            }
        }
        if faults.is_empty() { Ok(databases) } else { Err(faults) }
    }

    /// The session of a case: of the database that it names, or of the only one.
    pub(super) fn session(
        &self,
        database: Option<&str>,
        role: Option<&str>,
        search_path: Option<&str>,
    ) -> Result<SqlSession, String> {
        let (name, found) = match (database, self.0.iter().next()) {
            (Some(name), _) => (name, self.0.get(name).ok_or_else(|| self.missing(name))?),
            (None, Some((name, only))) if self.0.len() == 1 => (name.as_str(), only),
            (None, Some(_)) => {
                return Err("there are several `databases`: say which, `database: ENDPOINT/DATABASE`".to_owned());
            }
            (None, None) => {
                return Err(
                    "what do its names mean? Write `databases` with its tables into the file, or with the `catalog` \
                            that `portcullis policy catalog` has written"
                        .to_owned(),
                );
            }
        };
        let role = role
            .or(found.role.as_deref())
            .ok_or_else(|| format!("which `role`? neither the case nor `{name}` says it"))?;
        let search_path = search_path.or(found.search_path.as_deref()).unwrap_or(SqlSession::SEARCH_PATH);
        let session = SqlSession::new(&found.endpoint, Arc::clone(&found.catalog), role, search_path)?;
        Ok(if found.is_written { session.of_part() } else { session })
    }

    fn missing(&self, name: &str) -> String {
        let meant = nearest(name, self.0.keys().map(String::as_str)).map(|name| format!(", did you mean `{name}`?"));
        format!("`databases` has no `{name}`{}", meant.unwrap_or_default())
    }

    /// The endpoints that they are behind.
    pub(super) fn endpoints(&self) -> impl Iterator<Item = &str> {
        self.0.values().map(|database| database.endpoint.as_str())
    }
}

impl Database {
    fn read(name: &str, json: &Json, roles: &BTreeSet<String>, directory: &Path) -> Result<Self, String> {
        let (endpoint, database) = name.split_once('/').ok_or("a database is named `ENDPOINT/DATABASE`")?;
        let database = match sql_names(database).as_deref() {
            Some([database]) => database.clone(),
            _ => {
                return Err(
                    "a database is named `ENDPOINT/DATABASE`, in double quotes where SQL would quote it".to_owned()
                );
            }
        };
        only_keys(json, &KEYS)?;
        let keys: DatabaseKeys = serde_json::from_value(json.clone()).map_err(|cause| cause.to_string())?;
        let is_written = keys.catalog.is_none();
        let catalog = match &keys.catalog {
            Some(_)
                if !keys.tables.is_empty()
                    || !keys.views.is_empty()
                    || !keys.partitions.is_empty()
                    || !keys.functions.is_empty() =>
            {
                return Err("either `catalog`, or `tables`, `views`, `partitions` and `functions`".to_owned());
            }
            Some(file) => catalog_of(&directory.join(file), &database)?,
            None => {
                let roles = roles.iter().chain(&keys.role);
                Written::new(&database, roles)?.add(&keys)?.catalog().map_err(|cause| cause.to_string())?
            }
        };
        Ok(Self {
            endpoint: endpoint.to_owned(),
            catalog: Arc::new(catalog),
            role: keys.role,
            search_path: keys.search_path,
            is_written,
        })
    }
}

/// The catalogue in a file, which must be of `database`.
///
/// # Errors
/// It cannot be read, or is of another one.
pub fn catalog_of(file: &Path, database: &str) -> Result<Catalog, String> {
    let named = |cause: String| format!("`{}`: {cause}", file.display());
    let text = std::fs::read_to_string(file).map_err(|cause| named(cause.to_string()))?;
    let catalog =
        Snapshot::parse(&text).and_then(|snapshot| snapshot.catalog()).map_err(|cause| named(cause.to_string()))?;
    if &*catalog.database == database {
        Ok(catalog)
    } else {
        Err(named(format!("it is the catalogue of the database `{}`, not of `{database}`", catalog.database)))
    }
}

#[cfg(test)]
mod tests;
