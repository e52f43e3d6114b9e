//! ALTER TABLE, command by command, and TRUNCATE.

use std::sync::Arc;

use pg_query::NodeEnum;
use pg_query::protobuf::{AlterTableCmd, AlterTableStmt, AlterTableType, ColumnDef, DropBehavior, TruncateStmt};

use super::super::SqlRefusal;
use super::super::asked::refused;
use super::super::catalog::{Relation, is_built_in};
use super::super::names::cut;
use super::{After, Judge, incomplete, nodes};

impl Judge<'_, '_> {
    pub(super) fn alter_table(&mut self, alter: &AlterTableStmt) -> Result<&'static str, SqlRefusal> {
        let range = alter.relation.as_ref().ok_or_else(incomplete)?;
        let mut commands = Vec::new();
        for command in &alter.cmds {
            let NodeEnum::AlterTableCmd(command) = nodes::inner(Some(command))? else { return Err(incomplete()) };
            commands.push(&**command);
        }
        let touched: Vec<Arc<str>> =
            commands.iter().filter(|command| names_column(command)).map(|command| cut(&command.name).into()).collect();
        let relation = self.on_named("sql:Alter", "table", range, alter.missing_ok, &touched)?;
        let Some(relation) = relation else {
            self.defines(After::Unknown);
            return Ok("alter_table");
        };
        // Children are altered with it, and PostgreSQL asks for each (`ATSimpleRecursion`).
        for child in relation.inherited_by.iter().filter(|_| range.inh) {
            let child =
                self.names().by_oid(*child).ok_or_else(|| refused("catalogue", "a child table is not known"))?;
            self.walk.asked.write("sql:Alter", &child, touched.iter().cloned());
        }
        let mut grown = relation;
        let mut after = After::Nothing;
        for command in commands {
            match self.alter_command(command, &mut grown)? {
                After::Nothing => {}
                After::Relations { .. } if !matches!(after, After::Unknown) => {
                    after = After::Relations { relations: Vec::new(), local: false };
                }
                other => after = other,
            }
        }
        if let After::Relations { relations, .. } = &mut after {
            relations.push(Relation::clone(&grown));
        }
        self.defines(after);
        Ok("alter_table")
    }

    /// The values of a column are cast to something else.
    fn was(&mut self, relation: &Relation, column: &str) -> Result<(), SqlRefusal> {
        let known = relation.columns.iter().find(|known| *known.name == *column);
        let known = known.filter(|known| !is_built_in(known.type_oid));
        let casts = known.map(|known| self.names().implicit_casts(known.type_oid));
        casts.map_or(Ok(()), |casts| self.walk.asked.call(&casts))
    }

    /// One command: what it asks beyond `sql:Alter` on the table. A new column goes into `relation`.
    fn alter_command(&mut self, command: &AlterTableCmd, relation: &mut Arc<Relation>) -> Result<After, SqlRefusal> {
        use AlterTableType as T;
        let subtype = T::try_from(command.subtype).map_err(|_| incomplete())?;
        match command.def.as_deref().and_then(|def| def.node.as_ref()) {
            Some(NodeEnum::ColumnDef(column)) if matches!(subtype, T::AtAddColumn | T::AtAddColumnToView) => {
                let there = relation.columns.iter().any(|known| *known.name == *cut(&column.colname));
                if !there {
                    let mut grown = Relation::clone(relation);
                    grown.columns.push(self.column(column)?);
                    *relation = Arc::new(grown);
                }
                self.column_parts(column, relation)?;
                return Ok(After::Relations { relations: Vec::new(), local: false });
            }
            Some(NodeEnum::ColumnDef(column)) => {
                // TYPE casts what is stored, by USING or by what the server finds.
                if let (T::AtAlterColumnType, Some(type_name)) = (subtype, &column.type_name) {
                    self.walk.becomes(type_name)?;
                    self.was(relation, cut(&command.name))?;
                    self.column_of_rows(&command.name, column, relation)?;
                } else {
                    self.column_parts(column, relation)?;
                }
            }
            Some(NodeEnum::Constraint(constraint)) => self.constraint(constraint, relation)?,
            // The parent of INHERIT.
            Some(NodeEnum::RangeVar(other)) => {
                let other = self.relation(other)?;
                self.walk.asked.write("sql:Alter", &other, []);
            }
            Some(NodeEnum::PartitionCmd(partition)) => {
                let child = partition.name.as_ref().ok_or_else(incomplete)?;
                // For an index: the index of the partition.
                self.on_named("sql:Alter", "partition", child, false, &[])?;
                if let Some(bound) = &partition.bound {
                    self.bound(bound)?;
                }
            }
            Some(
                NodeEnum::String(_)
                | NodeEnum::Integer(_)
                | NodeEnum::List(_)
                | NodeEnum::TypeName(_)
                | NodeEnum::ReplicaIdentityStmt(_)
                | NodeEnum::RoleSpec(_)
                | NodeEnum::DefElem(_)
                | NodeEnum::AtalterConstraint(_),
            )
            | None => {}
            // The expression of SET DEFAULT, SET EXPRESSION.
            Some(_) if matches!(subtype, T::AtColumnDefault | T::AtSetExpression) => {
                if let Some(expression) = &command.def {
                    self.stored(|walk| walk.expression_of_rows(expression, relation, false))?;
                }
            }
            Some(_) => return Err(incomplete()),
        }
        Ok(match subtype {
            T::AtDropColumn
            | T::AtAlterColumnType
            | T::AtAttachPartition
            | T::AtDetachPartition
            | T::AtDetachPartitionFinalize
            | T::AtAddInherit
            | T::AtDropInherit
            | T::AtAddOf
            | T::AtDropOf => After::Unknown,
            T::AtChangeOwner => {
                let owner = nodes::role(command.newowner.as_ref(), self.names());
                self.walk.asked.on_relation("sql:Grant", relation, vec![("requestedRole", owner.into())]);
                After::Nothing
            }
            _ => After::Nothing,
        })
    }

    /// A column of another type: its values are converted, by USING or by casts and the checks of a domain, and an error tells what could not be.
    fn column_of_rows(&mut self, name: &str, column: &ColumnDef, relation: &Arc<Relation>) -> Result<(), SqlRefusal> {
        if self.names().catalog().relations.contains_key(&relation.oid) {
            let children = relation.inherited_by.iter().filter_map(|child| self.names().by_oid(*child));
            for altered in children.chain([Arc::clone(relation)]).collect::<Vec<_>>() {
                self.walk.asked.read(&altered, [Arc::from(cut(name))]);
            }
        }
        match &column.raw_default {
            Some(using) => self.stored(|walk| walk.expression_of_rows(using, relation, false)),
            None => Ok(()),
        }
    }

    /// TRUNCATE, with everything that CASCADE and inheritance reach.
    pub(super) fn truncate(&mut self, truncate: &TruncateStmt) -> Result<&'static str, SqlRefusal> {
        let cascades = DropBehavior::try_from(truncate.behavior) == Ok(DropBehavior::DropCascade);
        for range in self.ranges(&truncate.relations)? {
            let relation = self.relation(range)?;
            let children = relation.inherited_by.iter().filter(|_| range.inh);
            let reached = relation.referenced_by.iter().filter(|_| cascades);
            let others: Vec<u32> = children.chain(reached).copied().collect();
            self.walk.asked.write("sql:Truncate", &relation, []);
            for oid in others {
                let other = self.names().by_oid(oid);
                let other = other.ok_or_else(|| refused("catalogue", "a table that TRUNCATE reaches is not known"))?;
                self.walk.asked.write("sql:Truncate", &other, []);
            }
        }
        Ok("truncate")
    }
}

/// Whether the name in a command is a column's.
fn names_column(command: &AlterTableCmd) -> bool {
    use AlterTableType as T;
    matches!(
        T::try_from(command.subtype),
        Ok(T::AtColumnDefault
            | T::AtDropNotNull
            | T::AtSetNotNull
            | T::AtSetExpression
            | T::AtDropExpression
            | T::AtSetStatistics
            | T::AtSetOptions
            | T::AtResetOptions
            | T::AtSetStorage
            | T::AtSetCompression
            | T::AtDropColumn
            | T::AtAlterColumnType
            | T::AtAddIdentity
            | T::AtSetIdentity
            | T::AtDropIdentity)
    ) && !command.name.is_empty()
}
