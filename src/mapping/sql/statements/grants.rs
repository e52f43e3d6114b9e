//! Who may do what, who is handed what, and keeping tables in order.

use std::sync::Arc;

use pg_query::NodeEnum;
use pg_query::protobuf::{
    AccessPriv, AlterDefaultPrivilegesStmt, CreatePublicationStmt, GrantRoleStmt, GrantStmt, GrantTargetType, Node,
    ObjectType, RangeVar, ReindexObjectType, ReindexStmt, VacuumStmt,
};

use super::super::SqlRefusal;
use super::super::names::cut;
use super::objects::type_name;
use super::{After, Judge, incomplete, nodes, object};

impl Judge<'_, '_> {
    pub(super) fn grant(&mut self, grant: &GrantStmt) -> Result<&'static str, SqlRefusal> {
        use GrantTargetType as G;
        let columns = granted_columns(&grant.privileges)?;
        let object_type = ObjectType::try_from(grant.objtype).map_err(|_| incomplete())?;
        for node in &grant.objects {
            let node = nodes::inner(Some(node))?;
            match G::try_from(grant.targtype) {
                Ok(G::AclTargetAllInSchema) => {
                    self.on_any("sql:Grant", ObjectType::ObjectSchema as i32, node, false)?;
                }
                Ok(G::AclTargetObject) => match node {
                    NodeEnum::RangeVar(range) => {
                        self.on_named("sql:Grant", type_name(object_type), range, false, &columns)?;
                    }
                    node => self.on_any("sql:Grant", grant.objtype, node, false)?,
                },
                _ => return Err(incomplete()),
            }
        }
        let usage = object_type == ObjectType::ObjectSchema;
        self.defines(if usage { After::Unknown } else { After::Nothing });
        Ok(if grant.is_grant { "grant" } else { "revoke" })
    }

    pub(super) fn grant_role(&mut self, grant: &GrantRoleStmt) -> Result<&'static str, SqlRefusal> {
        for role in &grant.granted_roles {
            let NodeEnum::AccessPriv(role) = nodes::inner(Some(role))? else { return Err(incomplete()) };
            for to in nodes::roles(&grant.grantee_roles, self.names()) {
                let mut context = object("role", &nodes::written(&[&role.priv_name]));
                context.push(("requestedRole", to.into()));
                self.walk.asked.on_database("sql:Grant", context);
            }
        }
        self.defines(After::Unknown);
        Ok(if grant.is_grant { "grant_role" } else { "revoke_role" })
    }

    pub(super) fn default_privileges(
        &mut self,
        alter: &AlterDefaultPrivilegesStmt,
    ) -> Result<&'static str, SqlRefusal> {
        let mut schemas = Vec::new();
        for option in &alter.options {
            let NodeEnum::DefElem(option) = nodes::inner(Some(option))? else { return Err(incomplete()) };
            if option.defname == "schemas" {
                schemas.extend(nodes::object_parts(nodes::boxed(&option.arg)?)?);
            }
        }
        for schema in &schemas {
            self.walk.asked.on_schema("sql:Grant", cut(schema), vec![("objectType", "default_privileges".into())]);
        }
        if schemas.is_empty() {
            self.walk.asked.on_database("sql:Grant", vec![("objectType", "default_privileges".into())]);
        }
        Ok("alter_default_privileges")
    }

    /// VACUUM and ANALYZE: the tables that are named, else the whole database.
    pub(super) fn vacuum(&mut self, vacuum: &VacuumStmt) -> Result<&'static str, SqlRefusal> {
        for node in &vacuum.rels {
            let NodeEnum::VacuumRelation(named) = nodes::inner(Some(node))? else { return Err(incomplete()) };
            let relation = self.range(named.relation.as_ref())?;
            let columns = nodes::columns(&named.va_cols)?;
            self.has_columns(&relation, &columns)?;
            self.walk.asked.write("sql:Maintain", &relation, columns);
        }
        if vacuum.rels.is_empty() {
            self.walk.asked.on_database("sql:Maintain", Vec::new());
        }
        Ok(if vacuum.is_vacuumcmd { "vacuum" } else { "analyze" })
    }

    pub(super) fn reindex(&mut self, reindex: &ReindexStmt) -> Result<&'static str, SqlRefusal> {
        match (ReindexObjectType::try_from(reindex.kind), &reindex.relation) {
            (Ok(ReindexObjectType::ReindexObjectIndex | ReindexObjectType::ReindexObjectTable), Some(range)) => {
                self.on_named("sql:Maintain", "table", range, false, &[])?;
            }
            (Ok(ReindexObjectType::ReindexObjectSchema), _) => {
                self.walk.asked.on_schema("sql:Maintain", cut(&reindex.name), Vec::new());
            }
            (Ok(ReindexObjectType::ReindexObjectSystem | ReindexObjectType::ReindexObjectDatabase), _) => {
                self.walk.asked.on_database("sql:Maintain", Vec::new());
            }
            _ => return Err(incomplete()),
        }
        Ok("reindex")
    }

    pub(super) fn maintain(&mut self, range: Option<&RangeVar>) -> Result<(), SqlRefusal> {
        let Some(range) = range else {
            self.walk.asked.on_database("sql:Maintain", Vec::new());
            return Ok(());
        };
        let relation = self.relation(range)?;
        self.walk.asked.write("sql:Maintain", &relation, []);
        Ok(())
    }

    /// What a publication names is handed to whoever subscribes: its tables are altered and read.
    pub(super) fn publication(&mut self, objects: &[Node]) -> Result<(), SqlRefusal> {
        for node in objects {
            let NodeEnum::PublicationObjSpec(spec) = nodes::inner(Some(node))? else { return Err(incomplete()) };
            let Some(table) = &spec.pubtable else {
                if spec.name.is_empty() {
                    // TABLES IN SCHEMA CURRENT_SCHEMA
                    let schema = self.names().schema_for_creation().unwrap_or_default();
                    self.walk.asked.on_schema("sql:Alter", schema, Vec::new());
                } else {
                    self.walk.asked.on_schema("sql:Alter", cut(&spec.name), Vec::new());
                }
                continue;
            };
            let relation = self.range(table.relation.as_ref())?;
            let named = nodes::columns(&table.columns)?;
            self.has_columns(&relation, &named)?;
            let all = relation.columns.iter().map(|column| Arc::clone(&column.name)).collect();
            self.walk.asked.write("sql:Alter", &relation, []);
            self.walk.asked.read(&relation, if named.is_empty() { all } else { named });
            if let Some(condition) = &table.where_clause {
                self.stored(|walk| walk.expression_about(condition, &relation))?;
            }
        }
        Ok(())
    }

    pub(super) fn create_publication(&mut self, create: &CreatePublicationStmt) -> Result<&'static str, SqlRefusal> {
        self.on_object("sql:Create", "publication", &nodes::written(&[&create.pubname]));
        self.publication(&create.pubobjects)?;
        Ok("create_publication")
    }
}

/// Columns of GRANT SELECT (a, b).
fn granted_columns(privileges: &[Node]) -> Result<Vec<Arc<str>>, SqlRefusal> {
    let mut all = Vec::new();
    for privilege in privileges {
        let NodeEnum::AccessPriv(AccessPriv { cols, .. }) = nodes::inner(Some(privilege))? else {
            return Err(incomplete());
        };
        all.extend(nodes::columns(cols)?);
    }
    Ok(all)
}

/// Whether what a GRANT or REVOKE asks hangs on what names mean: not that of schemas, databases and roles, and not of tables whose schema is
/// written. `pg_restore` sends several of them in one text.
pub(super) fn hangs_on_names(grant: &GrantStmt) -> bool {
    let outside = matches!(
        ObjectType::try_from(grant.objtype),
        Ok(ObjectType::ObjectSchema
            | ObjectType::ObjectDatabase
            | ObjectType::ObjectTablespace
            | ObjectType::ObjectLanguage
            | ObjectType::ObjectFdw
            | ObjectType::ObjectForeignServer
            | ObjectType::ObjectLargeobject
            | ObjectType::ObjectParameterAcl)
    );
    let all_in_schema = GrantTargetType::try_from(grant.targtype) == Ok(GrantTargetType::AclTargetAllInSchema);
    let with_schema = |node: &Node| match &node.node {
        Some(NodeEnum::RangeVar(range)) => !range.schemaname.is_empty(),
        Some(NodeEnum::ObjectWithArgs(function)) => function.objname.len() > 1,
        _ => false,
    };
    !(outside || all_in_schema || grant.objects.iter().all(with_schema))
}
