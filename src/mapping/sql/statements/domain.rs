//! ALTER DOMAIN: a new check is computed over every column that holds a value of the domain.

use std::sync::Arc;

use ahash::{AHashMap, AHashSet};
use pg_query::NodeEnum;
use pg_query::protobuf::{AlterDomainStmt, List, Node, ObjectType};

use super::super::SqlRefusal;
use super::super::catalog::{Catalog, Relation, RelationKind};
use super::{Judge, nodes};

/// VALIDATE CONSTRAINT (`AlterDomainStmt` in parsenodes.h).
const VALIDATES: &str = "V";

impl Judge<'_, '_> {
    pub(super) fn alter_domain(&mut self, alter: &AlterDomainStmt) -> Result<&'static str, SqlRefusal> {
        let named = List { items: alter.type_name.clone() };
        self.on_any("sql:Alter", ObjectType::ObjectDomain as i32, &NodeEnum::List(named), false)?;
        let mut computes = alter.subtype == VALIDATES;
        match alter.def.as_deref().and_then(|def| def.node.as_ref()) {
            Some(NodeEnum::Constraint(constraint)) => {
                if let Some(expression) = &constraint.raw_expr {
                    self.stored(|walk| walk.domain_check(expression))?;
                    computes = true;
                }
            }
            // SET DEFAULT
            Some(_) => {
                if let Some(default) = &alter.def {
                    self.stored(|walk| walk.expression(default))?;
                }
            }
            None => {}
        }
        if computes {
            self.reads_of_type(&alter.type_name)?;
        }
        Ok("alter_domain")
    }

    /// The columns that hold values of a type are read: of the type itself, of domains over it, and of arrays and rows with such in them. PostgreSQL
    /// refuses the last two as yet, which is no reason to rely on it.
    ///
    /// # Source
    /// PostgreSQL `get_rels_with_domain` in typecmds.c.
    fn reads_of_type(&mut self, name: &[Node]) -> Result<(), SqlRefusal> {
        let Ok(domain) = self.names().type_named(&nodes::parts(name)?) else { return Ok(()) };
        let catalog = self.names().catalog();
        let types = with_containers(catalog, domain.known.oid);
        let holds = |relation: &Relation| relation.columns.iter().any(|column| types.contains(&column.type_oid));
        let relations = catalog.relations.values().filter(|relation| has_rows(relation.kind) && holds(relation));
        let mut reached: Vec<_> = relations.map(Arc::clone).collect();
        reached.sort_unstable_by_key(|relation| relation.oid);
        for relation in reached {
            let of_it = relation.columns.iter().filter(|column| types.contains(&column.type_oid));
            self.walk.asked.read(&relation, of_it.map(|column| Arc::clone(&column.name)));
        }
        Ok(())
    }
}

/// A type and everything that is made with it.
fn with_containers(catalog: &Catalog, oid: u32) -> AHashSet<u32> {
    let mut made_with: AHashMap<u32, Vec<u32>> = AHashMap::new();
    for known in catalog.types.values() {
        if known.inner != 0 {
            made_with.entry(known.inner).or_default().push(known.oid);
        }
        let row = catalog.relations.get(&known.relation).filter(|_| known.relation != 0);
        for column in row.iter().flat_map(|row| &row.columns) {
            made_with.entry(column.type_oid).or_default().push(known.oid);
        }
    }
    let mut all = AHashSet::from([oid]);
    let mut next = vec![oid];
    while let Some(oid) = next.pop() {
        next.extend(made_with.get(&oid).into_iter().flatten().filter(|made| all.insert(**made)));
    }
    all
}

/// Not an index, whose rows are its table's, and not a composite type, which has none.
const fn has_rows(kind: RelationKind) -> bool {
    !matches!(kind, RelationKind::Index | RelationKind::CompositeType | RelationKind::Toast | RelationKind::Sequence)
}
