//! The server's answers, taken in row by row.

use std::sync::Arc;

use ahash::AHashSet;
use thiserror::Error;

use super::Reading;

/// Why a row could not be taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RowError {
    /// It has fewer columns than the query.
    #[error("a row about {reading:?} has no column {column}")]
    Missing {
        /// The query.
        reading: Reading,
        /// Which column, from 0.
        column: usize,
    },
    /// A value is not of its type.
    #[error("a row about {reading:?} has something unexpected in column {column}")]
    Malformed {
        /// The query.
        reading: Reading,
        /// Which column, from 0.
        column: usize,
    },
}

/// What the server has answered so far.
#[derive(Debug, Default)]
pub struct CatalogRows {
    strings: AHashSet<Arc<str>>,
    pub(super) database: Option<DatabaseRow>,
    pub(super) roles: Vec<RoleRow>,
    /// Member, role, and whether it is inherited if the membership itself says so.
    pub(super) memberships: Vec<(u32, u32, Option<bool>)>,
    pub(super) schemas: Vec<SchemaRow>,
    /// Schema and grantee; 0 is PUBLIC.
    pub(super) usage: Vec<(u32, u32)>,
    pub(super) relations: Vec<RelationRow>,
    pub(super) columns: Vec<ColumnRow>,
    /// Relation, generated column, column that it reads.
    pub(super) generated: Vec<(u32, i16, i16)>,
    /// Child and parent.
    pub(super) inheritance: Vec<(u32, u32)>,
    pub(super) views: Vec<ViewRow>,
    /// Views whose base tables are checked for whoever reads the view.
    pub(super) invokers: AHashSet<u32>,
    /// Referencing and referenced.
    pub(super) foreign_keys: Vec<(u32, u32)>,
    pub(super) functions: Vec<FunctionRow>,
    pub(super) operators: Vec<OperatorRow>,
    pub(super) types: Vec<TypeRow>,
    pub(super) casts: Vec<CastRow>,
}

#[derive(Debug, Clone)]
pub(super) struct DatabaseRow {
    pub(super) name: Arc<str>,
    pub(super) owner: u32,
    pub(super) version: u32,
}

#[derive(Debug, Clone)]
pub(super) struct RoleRow {
    pub(super) oid: u32,
    pub(super) name: Arc<str>,
    pub(super) superuser: bool,
    pub(super) inherits: bool,
}

#[derive(Debug, Clone)]
pub(super) struct SchemaRow {
    pub(super) oid: u32,
    pub(super) name: Arc<str>,
    pub(super) owner: u32,
    /// Nobody has ever been granted or denied anything.
    pub(super) default_usage: bool,
}

#[derive(Debug, Clone)]
pub(super) struct RelationRow {
    pub(super) oid: u32,
    pub(super) schema: u32,
    pub(super) name: Arc<str>,
    pub(super) kind: char,
    pub(super) row_type: u32,
    pub(super) is_partition: bool,
}

#[derive(Debug, Clone)]
pub(super) struct ColumnRow {
    pub(super) relation: u32,
    pub(super) number: i16,
    pub(super) name: Arc<str>,
    pub(super) type_oid: u32,
    pub(super) generated: bool,
}

#[derive(Debug, Clone)]
pub(super) struct ViewRow {
    pub(super) view: u32,
    pub(super) relation: u32,
    pub(super) column: i16,
    pub(super) whole_rows: bool,
}

#[derive(Debug, Clone)]
pub(super) struct FunctionRow {
    pub(super) oid: u32,
    pub(super) schema: u32,
    pub(super) name: Arc<str>,
    pub(super) kind: char,
    pub(super) volatility: char,
    pub(super) arguments: u16,
    pub(super) defaults: u16,
    pub(super) variadic: bool,
    pub(super) argument_types: Vec<u32>,
    pub(super) returns: u32,
    pub(super) output_names: Vec<Arc<str>>,
}

#[derive(Debug, Clone)]
pub(super) struct OperatorRow {
    pub(super) schema: u32,
    pub(super) name: Arc<str>,
    pub(super) left: u32,
    pub(super) right: u32,
    pub(super) function: u32,
}

#[derive(Debug, Clone)]
pub(super) struct TypeRow {
    pub(super) oid: u32,
    pub(super) schema: u32,
    pub(super) name: Arc<str>,
    pub(super) kind: char,
    pub(super) relation: u32,
    pub(super) inner: u32,
}

#[derive(Debug, Clone)]
pub(super) struct CastRow {
    pub(super) oid: u32,
    pub(super) source: u32,
    pub(super) target: u32,
    pub(super) function: u32,
    pub(super) implicit: bool,
}

impl CatalogRows {
    /// Takes in one row of the answer to a query: its values in text format, in order.
    ///
    /// # Errors
    /// The row is not one of that query.
    pub fn push(&mut self, reading: Reading, values: &[Option<&str>]) -> Result<(), RowError> {
        let row = Row { reading, values };
        match reading {
            Reading::Database => {
                let (name, owner, version) = (self.shared(row.text(0)?), row.number(1)?, row.number(2)?);
                self.database = Some(DatabaseRow { name, owner, version });
            }
            Reading::Roles => {
                let (oid, name) = (row.number(0)?, self.shared(row.text(1)?));
                self.roles.push(RoleRow { oid, name, superuser: row.boolean(2)?, inherits: row.boolean(3)? });
            }
            Reading::Memberships => {
                let inherited = row.value(2)?.map(|value| value == "true");
                self.memberships.push((row.number(0)?, row.number(1)?, inherited));
            }
            Reading::Schemas => {
                let name = self.shared(row.text(1)?);
                let (oid, owner, default_usage) = (row.number(0)?, row.number(2)?, row.boolean(3)?);
                self.schemas.push(SchemaRow { oid, name, owner, default_usage });
            }
            Reading::Usage => self.usage.push((row.number(0)?, row.number(1)?)),
            Reading::Relations => self.relation(row)?,
            Reading::Columns => self.column(row)?,
            Reading::Generated => self.generated.push((row.number(0)?, row.number(1)?, row.number(2)?)),
            Reading::Inheritance => self.inheritance.push((row.number(0)?, row.number(1)?)),
            Reading::Views => self.views.push(ViewRow {
                view: row.number(0)?,
                relation: row.number(1)?,
                column: row.number(2)?,
                whole_rows: row.boolean(3)?,
            }),
            Reading::ViewOptions => {
                if is_invoker(row.text(1)?) {
                    self.invokers.insert(row.number(0)?);
                }
            }
            Reading::ForeignKeys => self.foreign_keys.push((row.number(0)?, row.number(1)?)),
            Reading::Functions => self.function(row)?,
            Reading::Operators => {
                let name = self.shared(row.text(1)?);
                self.operators.push(OperatorRow {
                    schema: row.number(0)?,
                    name,
                    left: row.number(2)?,
                    right: row.number(3)?,
                    function: row.number(4)?,
                });
            }
            Reading::Types => self.sql_type(row)?,
            Reading::Casts => self.casts.push(CastRow {
                oid: row.number(0)?,
                source: row.number(1)?,
                target: row.number(2)?,
                function: row.number(3)?,
                implicit: row.character(4)? != 'e',
            }),
        }
        Ok(())
    }

    fn relation(&mut self, row: Row<'_>) -> Result<(), RowError> {
        let name = self.shared(row.text(2)?);
        self.relations.push(RelationRow {
            oid: row.number(0)?,
            schema: row.number(1)?,
            name,
            kind: row.character(3)?,
            row_type: row.number(4)?,
            is_partition: row.boolean(5)?,
        });
        Ok(())
    }

    fn column(&mut self, row: Row<'_>) -> Result<(), RowError> {
        let name = self.shared(row.text(2)?);
        self.columns.push(ColumnRow {
            relation: row.number(0)?,
            number: row.number(1)?,
            name,
            type_oid: row.number(3)?,
            generated: !row.text(4)?.is_empty(),
        });
        Ok(())
    }

    fn function(&mut self, row: Row<'_>) -> Result<(), RowError> {
        let name = self.shared(row.text(2)?);
        let types = row.text(8)?.split_ascii_whitespace().map(|oid| oid.parse().map_err(|_| row.malformed(8)));
        let output_names = match (row.value(10)?, row.value(11)?) {
            (Some(modes), Some(names)) => self.output_names(modes, names).ok_or_else(|| row.malformed(11))?,
            _ => Vec::new(),
        };
        self.functions.push(FunctionRow {
            oid: row.number(0)?,
            schema: row.number(1)?,
            name,
            kind: row.character(3)?,
            volatility: row.character(4)?,
            arguments: row.number(5)?,
            defaults: row.number(6)?,
            variadic: row.number::<u32>(7)? != 0,
            argument_types: types.collect::<Result<_, _>>()?,
            returns: row.number(9)?,
            output_names,
        });
        Ok(())
    }

    /// Names of the arguments that are OUT, INOUT or TABLE.
    fn output_names(&mut self, modes: &str, names: &str) -> Option<Vec<Arc<str>>> {
        let (modes, names) = (array(modes)?, array(names)?);
        let out = modes.iter().zip(&names).filter(|(mode, _)| matches!(mode.as_str(), "o" | "b" | "t"));
        Some(out.map(|(_, name)| self.shared(name)).collect())
    }

    fn sql_type(&mut self, row: Row<'_>) -> Result<(), RowError> {
        let name = self.shared(row.text(2)?);
        let kind = row.character(3)?;
        let inner = match (kind, row.character(5)?) {
            ('d', _) => row.number(7)?,
            (_, 'A') => row.number(6)?,
            _ => 0,
        };
        let (oid, schema, relation) = (row.number(0)?, row.number(1)?, row.number(4)?);
        self.types.push(TypeRow { oid, schema, name, kind, relation, inner });
        Ok(())
    }

    /// What was not asked is as it was before.
    pub(super) fn fill_up(&mut self, before: &Self, asked: impl Fn(Reading) -> bool) {
        for (reading, _) in super::Catalog::QUERIES.iter().filter(|(reading, _)| !asked(*reading)) {
            match reading {
                Reading::Database => self.database.clone_from(&before.database),
                Reading::Roles => self.roles.clone_from(&before.roles),
                Reading::Memberships => self.memberships.clone_from(&before.memberships),
                Reading::Schemas => self.schemas.clone_from(&before.schemas),
                Reading::Usage => self.usage.clone_from(&before.usage),
                Reading::Relations => self.relations.clone_from(&before.relations),
                Reading::Columns => self.columns.clone_from(&before.columns),
                Reading::Generated => self.generated.clone_from(&before.generated),
                Reading::Inheritance => self.inheritance.clone_from(&before.inheritance),
                Reading::Views => self.views.clone_from(&before.views),
                Reading::ViewOptions => self.invokers.clone_from(&before.invokers),
                Reading::ForeignKeys => self.foreign_keys.clone_from(&before.foreign_keys),
                Reading::Functions => self.functions.clone_from(&before.functions),
                Reading::Operators => self.operators.clone_from(&before.operators),
                Reading::Types => self.types.clone_from(&before.types),
                Reading::Casts => self.casts.clone_from(&before.casts),
            }
        }
    }

    /// The same for the next reading: without what only serves taking rows in.
    pub(super) fn kept(self) -> Self {
        Self { strings: AHashSet::new(), ..self }
    }

    /// The one copy of a string.
    pub(super) fn shared(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.strings.get(text) {
            return Arc::clone(known);
        }
        let new: Arc<str> = text.into();
        self.strings.insert(Arc::clone(&new));
        new
    }
}

/// A row with the query that it answers.
#[derive(Clone, Copy)]
struct Row<'r> {
    reading: Reading,
    values: &'r [Option<&'r str>],
}

impl<'r> Row<'r> {
    fn value(&self, column: usize) -> Result<Option<&'r str>, RowError> {
        self.values.get(column).copied().ok_or(RowError::Missing { reading: self.reading, column })
    }

    fn text(&self, column: usize) -> Result<&'r str, RowError> {
        self.value(column)?.ok_or_else(|| self.malformed(column))
    }

    fn number<N: std::str::FromStr>(&self, column: usize) -> Result<N, RowError> {
        self.text(column)?.parse().map_err(|_| self.malformed(column))
    }

    fn boolean(&self, column: usize) -> Result<bool, RowError> {
        match self.text(column)? {
            "t" => Ok(true),
            "f" => Ok(false),
            _ => Err(self.malformed(column)),
        }
    }

    /// A value of type `"char"`.
    fn character(&self, column: usize) -> Result<char, RowError> {
        self.text(column)?.chars().next().ok_or_else(|| self.malformed(column))
    }

    const fn malformed(&self, column: usize) -> RowError {
        RowError::Malformed { reading: self.reading, column }
    }
}

/// The elements of an array of one dimension without NULLs, as the server writes it.
///
/// # Source
/// PostgreSQL 8.15.6, Array Input and Output Syntax.
fn array(text: &str) -> Option<Vec<String>> {
    let inner = text.strip_prefix('{')?.strip_suffix('}')?;
    let mut elements = Vec::new();
    let mut element = String::new();
    let mut characters = inner.chars();
    let mut quoted = false;
    while let Some(character) = characters.next() {
        match character {
            '"' => quoted = !quoted,
            '\\' => element.push(characters.next()?),
            ',' if !quoted => elements.push(std::mem::take(&mut element)),
            other => element.push(other),
        }
    }
    if !inner.is_empty() {
        elements.push(element);
    }
    (!quoted).then_some(elements)
}

/// Whether `reloptions`, an array as text, has `security_invoker` with a value that is not one of false.
///
/// # Source
/// PostgreSQL `parse_bool` in bool.c, for the value as it was written.
fn is_invoker(options: &str) -> bool {
    let options = options.trim_matches(['{', '}']).to_ascii_lowercase();
    let mut values = options.split(',').filter_map(|option| option.trim_matches('"').strip_prefix("security_invoker="));
    values.any(|value| {
        !["off", "0"].contains(&value) && !value.starts_with('n') && !value.starts_with('f') && value != "of"
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_views_tell_who_is_checked() {
        for on in ["{security_invoker=true}", "{security_barrier=on,security_invoker=1}", "{\"security_invoker=ON\"}"] {
            assert!(is_invoker(on), "{on}");
        }
        for off in
            ["{security_invoker=false}", "{security_barrier=true}", "{security_invoker=OFF}", "{security_invoker=0}"]
        {
            assert!(!is_invoker(off), "{off}");
        }
    }
}
