//! Tables, views, sequences, indexes: making and changing them.

use std::sync::Arc;

use pg_query::NodeEnum;
use pg_query::protobuf::{
    AlterSeqStmt, ColumnDef, ConstrType, Constraint, CreateSeqStmt, CreateStatsStmt, CreateStmt, CreateTableAsStmt,
    IndexElem, IndexStmt, IntoClause, Node, ObjectType, OnCommitAction, PartitionBoundSpec, RangeVar, SelectStmt,
    TypeName, ViewStmt,
};

use super::super::SqlRefusal;
use super::super::asked::{refused, unknown};
use super::super::catalog::{Column, Relation, RelationKind, is_built_in};
use super::super::names::cut;
use super::super::query::Walk;
use super::{After, Judge, incomplete, nodes, object};

impl Judge<'_, '_> {
    /// The relation that a name means.
    pub(super) fn relation(&self, range: &RangeVar) -> Result<Arc<Relation>, SqlRefusal> {
        self.names().relation(&range.catalogname, &range.schemaname, &range.relname)
    }

    pub(super) fn range(&self, range: Option<&RangeVar>) -> Result<Arc<Relation>, SqlRefusal> {
        self.relation(range.ok_or_else(incomplete)?)
    }

    /// A list of names of relations.
    pub(super) fn ranges<'s>(&self, list: &'s [Node]) -> Result<Vec<&'s RangeVar>, SqlRefusal> {
        list.iter()
            .map(|node| match nodes::inner(Some(node))? {
                NodeEnum::RangeVar(range) => Ok(range),
                _ => Err(incomplete()),
            })
            .collect()
    }

    /// Refuses columns that the relation does not have, in PostgreSQL's words.
    pub(super) fn has_columns(&self, relation: &Relation, columns: &[Arc<str>]) -> Result<(), SqlRefusal> {
        let missing = columns.iter().find(|name| !relation.columns.iter().any(|column| *column.name == *cut(name)));
        missing.map_or(Ok(()), |name| {
            let message = format!("column \"{name}\" of relation \"{}\" does not exist", relation.name);
            Err(unknown("42703", message))
        })
    }

    /// Where something new goes, and its name.
    pub(super) fn to_create<'p>(&self, parts: &[&'p str]) -> Result<(Arc<str>, &'p str), SqlRefusal> {
        let names = self.names();
        let (schema, name) = match *parts {
            [name] => (names.schema_for_creation(), name),
            [schema, name] => (Some(schema), name),
            [database, schema, name] if database == names.database() => (Some(schema), name),
            _ => return Err(refused("cross-database", "cross-database references are not implemented")),
        };
        let schema = schema.ok_or_else(|| unknown("3F000", "no schema has been selected to create in"))?;
        if schema != "pg_temp" && !names.schema_exists(schema) {
            return Err(unknown("3F000", format!("schema \"{schema}\" does not exist")));
        }
        Ok((names.real_schema(schema).into(), cut(name)))
    }

    fn range_to_create<'r>(&self, range: &'r RangeVar) -> Result<(Arc<str>, &'r str), SqlRefusal> {
        let parts = [&*range.catalogname, &*range.schemaname, &*range.relname];
        let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        if range.relpersistence == "t" && range.schemaname.is_empty() {
            return self.to_create(&["pg_temp", &range.relname]);
        }
        self.to_create(&parts)
    }

    /// A relation with these columns that the text has just made.
    fn made(&self, schema: Arc<str>, name: &str, kind: RelationKind, columns: Vec<Column>) -> Relation {
        Relation {
            oid: 0,
            schema,
            name: name.into(),
            kind,
            columns,
            partition_of: Vec::new(),
            inherited_by: Vec::new(),
            base: Vec::new(),
            as_caller: Vec::new(),
            referenced_by: Vec::new(),
            row_type: 0,
        }
    }

    /// What becomes known by a CREATE: nothing if what is there already stays.
    fn creates(&mut self, relations: Vec<Relation>, if_not_exists: bool, local: bool) {
        let there = relations.first().is_some_and(|made| self.names().relation("", &made.schema, &made.name).is_ok());
        self.defines(if there && if_not_exists { After::Nothing } else { After::Relations { relations, local } });
    }

    pub(super) fn create_table(&mut self, create: &CreateStmt, kind: RelationKind) -> Result<(), SqlRefusal> {
        let range = create.relation.as_ref().ok_or_else(incomplete)?;
        let (schema, name) = self.range_to_create(range)?;
        self.walk.asked.on_schema("sql:Create", &schema, object("table", name));
        let mut columns = Vec::new();
        let mut made = Vec::new();
        let mut partition_of = Vec::new();
        for parent in self.ranges(&create.inh_relations)? {
            let parent = self.relation(parent)?;
            self.walk.asked.write("sql:Alter", &parent, []);
            columns.extend(parent.columns.iter().cloned());
            if create.partbound.is_some() {
                partition_of = std::iter::once(parent.oid).chain(parent.partition_of.iter().copied()).collect();
            }
        }
        if let Some(of) = &create.of_typename {
            columns.extend(self.columns_of_type(of)?);
        }
        for element in &create.table_elts {
            match nodes::inner(Some(element))? {
                NodeEnum::ColumnDef(column) => {
                    if column.type_name.as_ref().is_some_and(nodes::is_serial) {
                        made.push(self.made_sequence(Arc::clone(&schema), &format!("{name}_{}_seq", column.colname)));
                    }
                    columns.retain(|known: &Column| *known.name != *cut(&column.colname));
                    columns.push(self.column(column)?);
                }
                NodeEnum::TableLikeClause(like) => {
                    let place = like.relation.as_ref().map_or(-1, |range| range.location);
                    let other = self.range(like.relation.as_ref()).map_err(|refusal| refusal.at(place))?;
                    let all: Vec<_> = other.columns.iter().map(|column| Arc::clone(&column.name)).collect();
                    self.walk.asked.read(&other, all);
                    columns.extend(other.columns.iter().cloned());
                }
                NodeEnum::Constraint(_) => {}
                _ => return Err(incomplete()),
            }
        }
        let mut relation = self.made(schema, name, kind, columns);
        relation.partition_of = partition_of;
        let relation = Arc::new(relation);
        self.parts_of_table(create, &relation)?;
        made.insert(0, Relation::clone(&relation));
        let drops = OnCommitAction::try_from(create.oncommit) == Ok(OnCommitAction::OncommitDrop);
        self.creates(made, create.if_not_exists, drops);
        Ok(())
    }

    /// Everything of CREATE TABLE that may be an expression over its columns or name another table.
    fn parts_of_table(&mut self, create: &CreateStmt, relation: &Arc<Relation>) -> Result<(), SqlRefusal> {
        for element in create.table_elts.iter().chain(&create.constraints).chain(&create.nnconstraints) {
            match nodes::inner(Some(element))? {
                NodeEnum::ColumnDef(column) => self.column_parts(column, relation)?,
                NodeEnum::Constraint(constraint) => self.constraint(constraint, relation)?,
                _ => {}
            }
        }
        for parameter in create.partspec.iter().flat_map(|spec| &spec.part_params) {
            let NodeEnum::PartitionElem(element) = nodes::inner(Some(parameter))? else { return Err(incomplete()) };
            if let Some(expression) = &element.expr {
                self.stored(|walk| walk.expression_about(expression, relation))?;
            }
        }
        create.partbound.as_ref().map_or(Ok(()), |bound| self.bound(bound))
    }

    pub(super) fn bound(&mut self, bound: &PartitionBoundSpec) -> Result<(), SqlRefusal> {
        for datum in bound.listdatums.iter().chain(&bound.lowerdatums).chain(&bound.upperdatums) {
            // MINVALUE and MAXVALUE are written as column names (`transformPartitionRangeBounds`).
            if !matches!(nodes::inner(Some(datum))?, NodeEnum::ColumnRef(_)) {
                self.walk.expression(datum)?;
            }
        }
        Ok(())
    }

    fn columns_of_type(&self, of: &TypeName) -> Result<Vec<Column>, SqlRefusal> {
        let meant = self.names().type_named(&nodes::parts(&of.names)?)?;
        let relation = self.names().by_oid(meant.known.relation);
        Ok(relation.map_or_else(Vec::new, |relation| relation.columns.clone()))
    }

    /// A column as later statements see it.
    pub(super) fn column(&self, column: &ColumnDef) -> Result<Column, SqlRefusal> {
        let type_oid = match &column.type_name {
            Some(name) => nodes::type_oid(name, self.names()).map_err(|refusal| refusal.at(name.location))?,
            None => 0,
        };
        Ok(Column { name: cut(&column.colname).into(), type_oid, generated_from: Vec::new() })
    }

    /// Defaults, checks and references of a column.
    pub(super) fn column_parts(&mut self, column: &ColumnDef, relation: &Arc<Relation>) -> Result<(), SqlRefusal> {
        if let Some(type_name) = column.type_name.as_ref().filter(|_| has_default(column)) {
            // The default is cast to it.
            let target = nodes::type_oid(type_name, self.names())?;
            if !is_built_in(target) {
                let casts = self.names().implicit_casts(target);
                self.stored(|walk| walk.asked.call(&casts))?;
            }
        }
        if let Some(default) = &column.raw_default {
            self.stored(|walk| walk.expression_about(default, relation))?;
        }
        for constraint in &column.constraints {
            let NodeEnum::Constraint(constraint) = nodes::inner(Some(constraint))? else { return Err(incomplete()) };
            self.constraint(constraint, relation)?;
        }
        Ok(())
    }

    /// CHECK, DEFAULT, GENERATED and EXCLUDE run expressions later; a foreign key puts triggers on the table that it names.
    pub(super) fn constraint(&mut self, constraint: &Constraint, relation: &Arc<Relation>) -> Result<(), SqlRefusal> {
        for expression in [&constraint.raw_expr, &constraint.where_clause].into_iter().flatten() {
            // A DEFAULT names no column; what is generated and what is checked is computed at once.
            self.stored(|walk| walk.expression_of_rows(expression, relation, false))?;
        }
        for exclusion in &constraint.exclusions {
            // A pair: an index element and an operator.
            let NodeEnum::List(pair) = nodes::inner(Some(exclusion))? else { return Err(incomplete()) };
            for part in &pair.items {
                match nodes::inner(Some(part))? {
                    NodeEnum::IndexElem(element) => self.index_element(element, relation)?,
                    NodeEnum::List(operator) => {
                        let operator = self.names().operator(&nodes::parts(&operator.items)?)?;
                        self.stored(|walk| walk.asked.call(&operator))?;
                    }
                    _ => return Err(incomplete()),
                }
            }
        }
        if ConstrType::try_from(constraint.contype) == Ok(ConstrType::ConstrForeign) {
            let other = constraint.pktable.as_ref().ok_or_else(incomplete)?;
            let is_itself = *other.relname == *relation.name && self.relation(other).is_err();
            if !is_itself {
                let other = self.relation(other)?;
                let columns = nodes::columns(&constraint.pk_attrs)?;
                self.walk.asked.write("sql:Alter", &other, columns);
            }
        }
        Ok(())
    }

    fn index_element(&mut self, element: &IndexElem, relation: &Arc<Relation>) -> Result<(), SqlRefusal> {
        match &element.expr {
            Some(expression) => self.stored(|walk| walk.expression_of_rows(expression, relation, true)),
            None => Ok(()),
        }
    }

    pub(super) fn create_index(&mut self, index: &IndexStmt) -> Result<&'static str, SqlRefusal> {
        let relation = self.range(index.relation.as_ref())?;
        self.walk.asked.on_relation("sql:Create", &relation, object("index", &index.idxname));
        for element in index.index_params.iter().chain(&index.index_including_params) {
            let NodeEnum::IndexElem(element) = nodes::inner(Some(element))? else { return Err(incomplete()) };
            self.index_element(element, &relation)?;
        }
        if let Some(condition) = &index.where_clause {
            self.stored(|walk| walk.expression_of_rows(condition, &relation, true))?;
        }
        self.defines(After::Nothing);
        Ok("create_index")
    }

    pub(super) fn create_statistics(&mut self, create: &CreateStatsStmt) -> Result<&'static str, SqlRefusal> {
        let name = nodes::written(&nodes::parts(&create.defnames)?);
        for range in self.ranges(&create.relations)? {
            let relation = self.relation(range)?;
            self.walk.asked.on_relation("sql:Create", &relation, object("statistics", &name));
            for element in &create.exprs {
                let NodeEnum::StatsElem(element) = nodes::inner(Some(element))? else { return Err(incomplete()) };
                // Computed by ANALYZE, which may be somebody else's.
                if let Some(expression) = &element.expr {
                    self.stored(|walk| walk.expression_of_rows(expression, &relation, true))?;
                }
            }
        }
        self.defines(After::Nothing);
        Ok("create_statistics")
    }

    /// CREATE TABLE AS, CREATE MATERIALIZED VIEW, SELECT INTO.
    pub(super) fn create_table_as(&mut self, create: &CreateTableAsStmt) -> Result<&'static str, SqlRefusal> {
        self.deeper()?;
        let into = create.into.as_deref().ok_or_else(incomplete)?;
        let is_view = ObjectType::try_from(create.objtype) == Ok(ObjectType::ObjectMatview);
        match nodes::boxed(&create.query)? {
            NodeEnum::SelectStmt(select) => {
                self.into(select, into, is_view, create.if_not_exists)?;
            }
            NodeEnum::ExecuteStmt(execute) => {
                self.execute(execute)?;
                self.naming = super::super::Naming::Executes(execute.name.as_str().into());
                let (schema, name) = self.range_to_create(into.rel.as_ref().ok_or_else(incomplete)?)?;
                self.walk.asked.on_schema("sql:Create", &schema, object("table", name));
                self.defines(After::Unknown);
            }
            _ => return Err(incomplete()),
        }
        Ok(if is_view { "create_materialized_view" } else { "create_table_as" })
    }

    pub(super) fn select_into(&mut self, select: &SelectStmt) -> Result<&'static str, SqlRefusal> {
        let mut select = select.clone();
        let into = take_into(&mut select).ok_or_else(incomplete)?;
        self.into(&select, &into, false, false)?;
        Ok("select_into")
    }

    fn into(
        &mut self,
        select: &SelectStmt,
        into: &IntoClause,
        is_view: bool,
        if_not_exists: bool,
    ) -> Result<(), SqlRefusal> {
        let range = into.rel.as_ref().ok_or_else(incomplete)?;
        let (schema, name) = self.range_to_create(range)?;
        let object_type = if is_view { "materialized_view" } else { "table" };
        self.walk.asked.on_schema("sql:Create", &schema, object(object_type, name));
        let columns = if is_view { self.stored_query(select)? } else { self.walk.query_columns(select)? };
        let columns = renamed(columns, &nodes::columns(&into.col_names)?);
        let kind = if is_view { RelationKind::MaterializedView } else { RelationKind::Table };
        let relation = self.made(schema, name, kind, columns);
        let drops = OnCommitAction::try_from(into.on_commit) == Ok(OnCommitAction::OncommitDrop);
        self.creates(vec![relation], if_not_exists, drops);
        Ok(())
    }

    /// The query of a view: it runs for whoever reads the view.
    fn stored_query(&mut self, select: &SelectStmt) -> Result<Vec<(Arc<str>, u32)>, SqlRefusal> {
        let mut columns = Vec::new();
        self.stored(|walk: &mut Walk<'_, '_>| {
            columns = walk.query_columns(select)?;
            Ok(())
        })?;
        Ok(columns)
    }

    pub(super) fn create_view(&mut self, view: &ViewStmt) -> Result<&'static str, SqlRefusal> {
        self.deeper()?;
        let NodeEnum::SelectStmt(select) = nodes::boxed(&view.query)? else { return Err(incomplete()) };
        let range = view.view.as_ref().ok_or_else(incomplete)?;
        let (schema, name) = self.range_to_create(range)?;
        self.walk.asked.on_schema("sql:Create", &schema, object("view", name));
        if view.replace
            && let Ok(there) = self.names().relation("", &schema, name)
        {
            self.walk.asked.write("sql:Alter", &there, []);
        }
        let columns = renamed(self.stored_query(select)?, &nodes::columns(&view.aliases)?);
        let relation = self.made(schema, name, RelationKind::View, columns);
        self.creates(vec![relation], false, false);
        Ok("create_view")
    }

    fn made_sequence(&self, schema: Arc<str>, name: &str) -> Relation {
        let columns = [("last_value", 20), ("log_cnt", 20), ("is_called", 16)];
        let columns =
            columns.map(|(name, type_oid)| Column { name: name.into(), type_oid, generated_from: Vec::new() });
        self.made(schema, cut(name), RelationKind::Sequence, columns.into())
    }

    pub(super) fn create_sequence(&mut self, create: &CreateSeqStmt) -> Result<&'static str, SqlRefusal> {
        let range = create.sequence.as_ref().ok_or_else(incomplete)?;
        let (schema, name) = self.range_to_create(range)?;
        self.walk.asked.on_schema("sql:Create", &schema, object("sequence", name));
        self.owned_by(&create.options)?;
        let relation = self.made_sequence(schema, name);
        self.creates(vec![relation], create.if_not_exists, false);
        Ok("create_sequence")
    }

    pub(super) fn alter_sequence(&mut self, alter: &AlterSeqStmt) -> Result<&'static str, SqlRefusal> {
        let range = alter.sequence.as_ref().ok_or_else(incomplete)?;
        self.on_named("sql:Alter", "sequence", range, alter.missing_ok, &[])?;
        self.owned_by(&alter.options)?;
        self.defines(After::Nothing);
        Ok("alter_sequence")
    }

    /// OWNED BY table.column: the sequence is dropped with it.
    fn owned_by(&mut self, options: &[Node]) -> Result<(), SqlRefusal> {
        for option in options {
            let NodeEnum::DefElem(option) = nodes::inner(Some(option))? else { return Err(incomplete()) };
            if option.defname != "owned_by" {
                continue;
            }
            let NodeEnum::List(owner) = nodes::boxed(&option.arg)? else { return Err(incomplete()) };
            let owner = nodes::parts(&owner.items)?;
            let relation = match *owner {
                // OWNED BY NONE
                [_] => continue,
                [table, _] => self.names().relation("", "", table)?,
                [schema, table, _] => self.names().relation("", schema, table)?,
                _ => return Err(incomplete()),
            };
            self.walk.asked.write("sql:Alter", &relation, []);
        }
        Ok(())
    }

    /// Something on a relation that may not be there (IF EXISTS): then on every schema that it could be in, since what the catalogue has not
    /// seen yet may be there all the same.
    pub(super) fn on_named(
        &mut self,
        action: &'static str,
        object_type: &str,
        range: &RangeVar,
        missing_ok: bool,
        columns: &[Arc<str>],
    ) -> Result<Option<Arc<Relation>>, SqlRefusal> {
        match self.relation(range) {
            Ok(relation) if relation.kind == RelationKind::Index => {
                self.walk.asked.on_schema(action, &relation.schema, object("index", &relation.name));
                Ok(Some(relation))
            }
            Ok(relation) => {
                self.walk.asked.write(action, &relation, columns.iter().cloned());
                Ok(Some(relation))
            }
            Err(missing) if missing_ok && missing.stale => {
                self.on_schemas(action, object_type, &range.schemaname, &range.relname);
                Ok(None)
            }
            Err(refusal) => Err(refusal),
        }
    }

    /// On the schema that is given, else on every schema of the path.
    pub(super) fn on_schemas(&mut self, action: &'static str, object_type: &str, schema: &str, name: &str) {
        let names = self.names();
        if !schema.is_empty() {
            self.walk.asked.on_schema(action, names.real_schema(schema), object(object_type, name));
            return;
        }
        for schema in names.path().filter(|schema| *schema != super::super::names::PG_CATALOG) {
            self.walk.asked.on_schema(action, schema, object(object_type, name));
        }
    }
}

/// Whether a SELECT makes a table: the first one of a UNION says so.
pub(super) fn has_into(select: &SelectStmt) -> bool {
    select.into_clause.is_some() || select.larg.as_deref().is_some_and(has_into)
}

fn take_into(select: &mut SelectStmt) -> Option<IntoClause> {
    match select.into_clause.take() {
        Some(into) => Some(*into),
        None => take_into(select.larg.as_deref_mut()?),
    }
}

/// Whether a value is written with the column that it will have by itself.
fn has_default(column: &ColumnDef) -> bool {
    column.constraints.iter().any(|constraint| match &constraint.node {
        Some(NodeEnum::Constraint(constraint)) => {
            matches!(constraint.contype(), ConstrType::ConstrDefault | ConstrType::ConstrGenerated)
        }
        _ => false,
    })
}

/// Columns under the names that are given for the first of them.
fn renamed(columns: Vec<(Arc<str>, u32)>, names: &[Arc<str>]) -> Vec<Column> {
    let columns = columns.into_iter().enumerate();
    columns
        .map(|(at, (name, type_oid))| Column {
            name: names.get(at).cloned().unwrap_or(name),
            type_oid,
            generated_from: Vec::new(),
        })
        .collect()
}
