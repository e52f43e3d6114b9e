//! Types, and what casting to them may call.

use std::sync::Arc;

use super::{Call, Candidate, Names, PG_CATALOG, cut, refusals};
use crate::mapping::sql::SqlRefusal;
use crate::mapping::sql::catalog::{Cast, SqlType, is_built_in};

/// What the name of a type means.
#[derive(Debug, Clone)]
pub(in crate::mapping::sql) struct TypeMeaning {
    /// Its oid.
    pub(in crate::mapping::sql) oid: u32,
    /// The type.
    pub(in crate::mapping::sql) known: Arc<SqlType>,
}

impl TypeMeaning {
    /// Whether the server came with it.
    pub(in crate::mapping::sql) fn is_built_in(&self) -> bool {
        is_built_in(self.oid) && *self.known.schema == *PG_CATALOG
    }

    /// Whether it is one of `regclass`, `regproc` … or an array of them: a literal of it is a name.
    pub(in crate::mapping::sql) fn is_reg(&self) -> bool {
        let name = self.known.name.strip_prefix('_').unwrap_or(&self.known.name);
        self.is_built_in()
            && matches!(
                name,
                "regclass"
                    | "regcollation"
                    | "regconfig"
                    | "regdatabase"
                    | "regdictionary"
                    | "regnamespace"
                    | "regoper"
                    | "regoperator"
                    | "regproc"
                    | "regprocedure"
                    | "regrole"
                    | "regtype"
            )
    }

    /// Whether what a literal of it means hangs on more than the literal: such a text must not be remembered by its safe key.
    pub(in crate::mapping::sql) fn literal_matters(&self) -> bool {
        self.is_reg() || !self.is_built_in()
    }
}

impl Names<'_> {
    /// The type that a name means: `["int4"]`, `["pg_catalog", "int4"]`.
    ///
    /// # Errors
    /// `42704` for one that does not exist, `3F000` for its schema, `0A000` for one of another database.
    pub(in crate::mapping::sql) fn type_named(&self, names: &[&str]) -> Result<TypeMeaning, SqlRefusal> {
        let (schema, name) = self.parts(names)?;
        let found = match schema {
            None => {
                self.path_must_be_known()?;
                self.path.with_temp().find_map(|schema| self.type_in(schema, name))
            }
            Some(schema) if !self.schema_exists(schema) => return Err(refusals::schema(schema)),
            Some(schema) => self.type_in(self.real_schema(schema), name),
        };
        let known = found.ok_or_else(|| refusals::sql_type(names))?;
        Ok(TypeMeaning { oid: known.oid, known })
    }

    /// What casting to a type may call, from whatever type: functions of casts that are not the server's own, to it, its elements or its base
    /// type.
    pub(in crate::mapping::sql) fn cast_to(&self, target: &TypeMeaning) -> Call {
        let targets = self.with_inner(target);
        self.casts(|cast| targets.contains(&cast.target))
    }

    /// What may be called without being written wherever a value of this type is read or stored.
    pub(in crate::mapping::sql) fn implicit_casts(&self, oid: u32) -> Call {
        let inner = |oid: u32| self.catalog.types.get(&oid).map_or(0, |known| known.inner);
        let mut all = vec![oid];
        let mut next = inner(oid);
        while next != 0 && !all.contains(&next) {
            all.push(next);
            next = inner(next);
        }
        self.casts(|cast| cast.implicit && (all.contains(&cast.source) || all.contains(&cast.target)))
    }

    /// What any cast may call that happens without being written.
    pub(in crate::mapping::sql) fn unwritten_casts(&self) -> Call {
        self.casts(|cast| cast.implicit)
    }

    fn casts(&self, wanted: impl Fn(&Cast) -> bool) -> Call {
        let casts = self.catalog.foreign_casts.iter().filter(|cast| wanted(cast));
        let functions = casts.filter_map(|cast| cast.function.as_ref());
        let candidates = functions.flat_map(|(schema, name)| {
            self.functions_in(schema, name).map(|function| Candidate {
                schema: Arc::clone(schema),
                name: Arc::clone(name),
                function,
            })
        });
        Call::of_casts(candidates.collect())
    }

    fn with_inner(&self, target: &TypeMeaning) -> Vec<u32> {
        let mut all = vec![target.oid];
        let mut next = target.known.inner;
        while next != 0 && !all.contains(&next) {
            all.push(next);
            next = self.catalog.types.get(&next).map_or(0, |inner| inner.inner);
        }
        all
    }

    fn type_in(&self, schema: &str, name: &str) -> Option<Arc<SqlType>> {
        if let Some(known) = self.created.types.get(schema, name) {
            return Some(Arc::clone(known));
        }
        let oid = self.catalog.schemas.get(schema)?.types.get(name)?;
        self.catalog.types.get(oid).cloned()
    }

    /// Schema and name of a written name of one to three parts.
    pub(super) fn parts<'n>(&self, names: &[&'n str]) -> Result<(Option<&'n str>, &'n str), SqlRefusal> {
        match names {
            [name] => Ok((None, cut(name))),
            [schema, name] => Ok((Some(cut(schema)), cut(name))),
            [database, schema, name] if cut(database) == self.database() => Ok((Some(cut(schema)), cut(name))),
            [_, _, _] => Err(refusals::cross_database(names)),
            _ => Err(refusals::too_many_names(names)),
        }
    }
}
