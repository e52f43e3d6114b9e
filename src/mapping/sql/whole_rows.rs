//! What may be read of the rows that an error tells.

use std::sync::Arc;

use ahash::AHashSet;

use super::SessionFacts;
use super::asked::Asked;
use super::catalog::{Catalog, Relation, RelationKind};
use super::names::Names;
use crate::mapping::Operations;

/// Whose rows an error tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToldRows<'a> {
    /// Those of a table.
    Of {
        /// Its schema.
        schema: &'a str,
        /// Its name.
        table: &'a str,
    },
    /// Those of a table, or of one that it references.
    OfOrReferencedBy {
        /// Its schema.
        schema: &'a str,
        /// Its name.
        table: &'a str,
    },
    /// Those of a table behind a view of this name, in whatever schema.
    Behind {
        /// Its name.
        view: &'a str,
    },
}

/// Reads of whole rows: of each entry one has to be permitted to whoever is to be told them. Several, as a row of a partition can be read
/// through each table that it is a partition of. None: it is not known whose rows they are.
#[must_use]
pub fn whole_rows(
    endpoint: &str,
    catalog: &Catalog,
    facts: &SessionFacts,
    told: ToldRows<'_>,
) -> Option<Vec<Vec<Operations>>> {
    let names = Names::new(endpoint, catalog, facts);
    let named = |schema: &str, table: &str| names.relation("", schema, table).ok().filter(|_| !schema.is_empty());
    let relations = match told {
        ToldRows::Of { schema, table } => vec![named(schema, table)?],
        ToldRows::OfOrReferencedBy { schema, table } => {
            let table = named(schema, table)?;
            let referenced = catalog.relations.values().filter(|other| other.referenced_by.contains(&table.oid));
            std::iter::once(&table).chain(referenced).map(Arc::clone).collect()
        }
        ToldRows::Behind { view } => {
            let views = catalog.relations.values().filter(|known| known.kind == RelationKind::View);
            let behind: AHashSet<u32> =
                views.filter(|known| *known.name == *view).flat_map(|known| &known.base).map(|base| base.0).collect();
            behind.iter().map(|oid| names.by_oid(*oid)).collect::<Option<Vec<_>>>().filter(|all| !all.is_empty())?
        }
    };
    Some(relations.iter().map(|relation| ways_to_read(&names, relation)).collect())
}

fn ways_to_read(names: &Names<'_>, relation: &Relation) -> Vec<Operations> {
    let wholes: Vec<_> = relation.partition_of.iter().filter_map(|oid| names.by_oid(*oid)).collect();
    let all = std::iter::once(relation).chain(wholes.iter().map(|whole| &**whole));
    all.map(|relation| {
        let mut asked = Asked::default();
        asked.read(relation, relation.columns.iter().map(|column| Arc::clone(&column.name)));
        asked.finish(names, "select").0
    })
    .collect()
}
