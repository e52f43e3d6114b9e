//! Whatever has a name: dropping, renaming, commenting, giving away, granting, maintaining.

use pg_query::NodeEnum;
use pg_query::protobuf::{
    AlterObjectSchemaStmt, AlterOwnerStmt, CreateDomainStmt, CreateSchemaStmt, DropBehavior, DropStmt, Node,
    ObjectType, RangeVar, RenameStmt,
};

use super::super::SqlRefusal;
use super::super::asked::{refused, unknown};
use super::super::catalog::SqlType;
use super::super::names::cut;
use super::{After, Judge, incomplete, nodes, object, signature};

impl Judge<'_, '_> {
    /// Something on an object of any type. Relations and functions are asked as themselves, schemas too, parts of a table on the table, what
    /// lives in a schema on the schema if it is an index or a type, everything else on the database.
    pub(super) fn on_any(
        &mut self,
        action: &'static str,
        object_type: i32,
        node: &NodeEnum,
        missing_ok: bool,
    ) -> Result<(), SqlRefusal> {
        use ObjectType as T;
        let parts = nodes::object_parts(node)?;
        let object_type = T::try_from(object_type).map_err(|_| incomplete())?;
        let name = type_name(object_type);
        match object_type {
            T::ObjectTable
            | T::ObjectView
            | T::ObjectMatview
            | T::ObjectForeignTable
            | T::ObjectSequence
            | T::ObjectIndex => {
                self.on_named(action, name, &range(&parts)?, missing_ok, &[])?;
            }
            T::ObjectColumn => {
                let (column, table) = parts.split_last().ok_or_else(incomplete)?;
                self.on_named(action, name, &range(table)?, missing_ok, &[cut(column).into()])?;
            }
            T::ObjectTrigger | T::ObjectRule | T::ObjectPolicy | T::ObjectTabconstraint => {
                let (own, table) = parts.split_last().ok_or_else(incomplete)?;
                match self.relation(&range(table)?) {
                    Ok(relation) => self.walk.asked.on_relation(action, &relation, object(name, own)),
                    Err(missing) if missing_ok && missing.stale => {
                        let range = range(table)?;
                        self.on_schemas(action, name, &range.schemaname, &range.relname);
                    }
                    Err(refusal) => return Err(refusal),
                }
            }
            T::ObjectFunction | T::ObjectProcedure | T::ObjectRoutine | T::ObjectAggregate => {
                let asked = self.on_functions(action, name, &parts, missing_ok);
                asked.map_err(|missing| match node {
                    NodeEnum::ObjectWithArgs(object) => signature::missing(missing, name, object, self.names()),
                    _ => missing,
                })?;
            }
            T::ObjectSchema => {
                let schema = parts.first().ok_or_else(incomplete)?;
                if !missing_ok && !self.names().schema_exists(schema) {
                    return Err(unknown("3F000", format!("schema \"{schema}\" does not exist")));
                }
                self.walk.asked.on_schema(action, self.names().real_schema(cut(schema)), Vec::new());
            }
            T::ObjectType | T::ObjectDomain | T::ObjectDomconstraint => self.on_type(action, name, node, &parts)?,
            T::Undefined => return Err(incomplete()),
            _ => self.on_object(action, name, &nodes::written(&parts)),
        }
        Ok(())
    }

    /// Types have no entity: they are asked on their schema.
    fn on_type(&mut self, action: &'static str, name: &str, node: &NodeEnum, parts: &[&str]) -> Result<(), SqlRefusal> {
        // A constraint of a domain is a pair: the type, and its own name.
        let parts = match node {
            NodeEnum::List(list) => match list.items.first().and_then(|first| first.node.as_ref()) {
                Some(NodeEnum::TypeName(first)) => nodes::parts(&first.names)?,
                _ => parts.to_vec(),
            },
            _ => parts.to_vec(),
        };
        match self.names().type_named(&parts) {
            Ok(meant) => self.walk.asked.on_schema(action, &meant.known.schema, object(name, &meant.known.name)),
            // Shell types, and types that nobody has seen yet.
            Err(missing) if missing.stale => {
                let (own, schema) = parts.split_last().ok_or_else(incomplete)?;
                self.on_schemas(action, name, schema.last().copied().unwrap_or_default(), own);
            }
            Err(refusal) => return Err(refusal),
        }
        Ok(())
    }

    /// All functions that a name may mean.
    pub(super) fn on_functions(
        &mut self,
        action: &'static str,
        object_type: &str,
        name: &[&str],
        missing_ok: bool,
    ) -> Result<(), SqlRefusal> {
        let there = match self.names().functions_named(name) {
            Ok(there) => there,
            Err(missing) if missing_ok && missing.stale => Vec::new(),
            Err(refusal) => return Err(refusal),
        };
        if there.is_empty() {
            if !missing_ok {
                return Err(unknown("42883", format!("{object_type} {} does not exist", nodes::written(name))));
            }
            let (own, schema) = name.split_last().ok_or_else(incomplete)?;
            self.on_schemas(action, object_type, schema.last().copied().unwrap_or_default(), own);
        }
        for candidate in there {
            self.walk.asked.on_function(action, &candidate.schema, &candidate.name);
        }
        Ok(())
    }

    pub(super) fn drop(&mut self, drop: &DropStmt) -> Result<&'static str, SqlRefusal> {
        let cascades = DropBehavior::try_from(drop.behavior) == Ok(DropBehavior::DropCascade);
        let object_type = ObjectType::try_from(drop.remove_type).map_err(|_| incomplete())?;
        let is_relation = matches!(
            object_type,
            ObjectType::ObjectTable
                | ObjectType::ObjectView
                | ObjectType::ObjectMatview
                | ObjectType::ObjectForeignTable
        );
        let mut gone = Vec::new();
        for node in &drop.objects {
            let node = nodes::inner(Some(node))?;
            let parts = || nodes::object_parts(node);
            let asked = self.on_any("sql:Drop", drop.remove_type, node, drop.missing_ok);
            asked.map_err(|refusal| self.not_dropped(refusal, object_type, &parts().unwrap_or_default()))?;
            if is_relation {
                gone.extend(self.relation(&range(&nodes::object_parts(node)?)?));
            }
        }
        let quiet =
            matches!(object_type, ObjectType::ObjectIndex | ObjectType::ObjectTrigger | ObjectType::ObjectPolicy);
        self.defines(match (cascades, is_relation, quiet) {
            (false, true, _) => After::Gone(gone),
            (false, _, true) => After::Nothing,
            _ => After::Unknown,
        });
        Ok("drop")
    }

    /// DROP has words of its own for what is not there.
    ///
    /// # Source
    /// PostgreSQL `DropErrorMsgNonExistent` in tablecmds.c, `LookupFuncWithArgs` in parse_func.c.
    fn not_dropped(&self, refusal: SqlRefusal, object_type: ObjectType, parts: &[&str]) -> SqlRefusal {
        let (Some((name, schemas)), true) = (parts.split_last(), refusal.stale) else { return refusal };
        let kind = match object_type {
            ObjectType::ObjectTable => "table",
            ObjectType::ObjectSequence => "sequence",
            ObjectType::ObjectView => "view",
            ObjectType::ObjectMatview => "materialized view",
            ObjectType::ObjectIndex => "index",
            ObjectType::ObjectForeignTable => "foreign table",
            _ => return refusal,
        };
        match schemas.last().filter(|schema| !self.names().schema_exists(schema)) {
            Some(schema) => unknown("3F000", format!("schema \"{schema}\" does not exist")),
            None => {
                let is_object = matches!(object_type, ObjectType::ObjectIndex | ObjectType::ObjectForeignTable);
                let sqlstate = if is_object { "42704" } else { refusal.sqlstate };
                SqlRefusal { sqlstate, message: format!("{kind} \"{name}\" does not exist"), ..refusal }
            }
        }
    }

    /// RENAME, SET SCHEMA, OWNER TO and DEPENDS ON name a relation or another object.
    fn on_either(
        &mut self,
        object_type: i32,
        relation: Option<&RangeVar>,
        other: &Option<Box<Node>>,
        missing_ok: bool,
    ) -> Result<(), SqlRefusal> {
        let is_part = matches!(
            ObjectType::try_from(object_type),
            Ok(ObjectType::ObjectTrigger
                | ObjectType::ObjectRule
                | ObjectType::ObjectPolicy
                | ObjectType::ObjectTabconstraint)
        );
        match (relation, other) {
            (Some(relation), _) if is_part || other.is_none() => {
                self.on_named("sql:Alter", "table", relation, missing_ok, &[]).map(|_| ())
            }
            (_, other) => self.on_any("sql:Alter", object_type, nodes::boxed(other)?, missing_ok),
        }
    }

    pub(super) fn rename(&mut self, rename: &RenameStmt) -> Result<&'static str, SqlRefusal> {
        let column = ObjectType::try_from(rename.rename_type) == Ok(ObjectType::ObjectColumn);
        match &rename.relation {
            Some(relation) if column => {
                self.on_named("sql:Alter", "table", relation, rename.missing_ok, &[cut(&rename.subname).into()])?;
            }
            relation if relation.is_none() && rename.object.is_none() => {
                // Roles, databases, tablespaces, schemas: only names.
                let object_type = ObjectType::try_from(rename.rename_type).map_err(|_| incomplete())?;
                if object_type == ObjectType::ObjectSchema {
                    self.walk.asked.on_schema("sql:Alter", cut(&rename.subname), Vec::new());
                } else {
                    self.on_object("sql:Alter", type_name(object_type), &nodes::written(&[&rename.subname]));
                }
            }
            relation => self.on_either(rename.rename_type, relation.as_ref(), &rename.object, rename.missing_ok)?,
        }
        self.defines(After::Unknown);
        Ok("rename")
    }

    pub(super) fn set_schema(&mut self, alter: &AlterObjectSchemaStmt) -> Result<&'static str, SqlRefusal> {
        self.on_either(alter.object_type, alter.relation.as_ref(), &alter.object, alter.missing_ok)?;
        self.walk.asked.on_schema("sql:Create", cut(&alter.newschema), Vec::new());
        self.defines(After::Unknown);
        Ok("set_schema")
    }

    pub(super) fn set_owner(&mut self, alter: &AlterOwnerStmt) -> Result<&'static str, SqlRefusal> {
        self.on_either(alter.object_type, alter.relation.as_ref(), &alter.object, false)?;
        let owner = nodes::role(alter.newowner.as_ref(), self.names());
        let parts = match &alter.object {
            Some(node) => nodes::object_parts(nodes::inner(Some(node))?)?,
            None => Vec::new(),
        };
        let mut context = object(
            type_name(ObjectType::try_from(alter.object_type).map_err(|_| incomplete())?),
            &nodes::written(&parts),
        );
        context.push(("requestedRole", owner.into()));
        self.walk.asked.on_database("sql:Grant", context);
        self.defines(After::Nothing);
        Ok("set_owner")
    }

    pub(super) fn create_schema(&mut self, create: &CreateSchemaStmt) -> Result<&'static str, SqlRefusal> {
        let name = match &*create.schemaname {
            "" => nodes::role(create.authrole.as_ref(), self.names()),
            name => name,
        };
        self.on_object("sql:Create", "schema", &nodes::written(&[name]));
        let there = self.names().schema_exists(name) && create.if_not_exists;
        let after = if there { After::Nothing } else { After::Schema(cut(name).into()) };
        self.defines(after);
        if !create.schema_elts.is_empty() {
            self.schema_elements(create, cut(name))?;
            // What they have made is known to the server alone.
            self.after = After::Unknown;
        }
        Ok("create_schema")
    }

    /// What CREATE SCHEMA makes in the schema, as the role that will own it: as if each was a statement of its own, with the schema first on
    /// the path.
    ///
    /// # Source
    /// `CreateSchemaCommand` in `src/backend/commands/schemacmds.c`, `transformCreateSchemaStmtElements` in `parse_utilcmd.c`.
    fn schema_elements(&mut self, create: &CreateSchemaStmt, schema: &str) -> Result<(), SqlRefusal> {
        self.deeper()?;
        if create.authrole.is_some()
            && nodes::role(create.authrole.as_ref(), self.names()) != &*self.names().facts().role
        {
            let message = "CREATE SCHEMA makes its elements as another role: create them one by one";
            return Err(refused("schema-elements", message));
        }
        let mut names = self.names().clone();
        names.create_schema(schema);
        names.enter(schema);
        let mut elements =
            create.schema_elts.iter().map(|node| nodes::inner(Some(node))).collect::<Result<Vec<_>, _>>()?;
        elements.sort_by_key(|element| order(element));
        for element in elements {
            // Whatever else comes to stand here is not known to be made as a statement of its own would be.
            if order(element) == NOT_AN_ELEMENT {
                return Err(incomplete());
            }
            let judged = super::judge(element, &names, self.texts, self.earlier)?;
            self.walk.asked.also(judged.asked);
            match judged.after {
                After::Relations { relations, .. } => relations.into_iter().for_each(|made| names.create(made)),
                After::Nothing => {}
                _ => {
                    return Err(refused(
                        "schema-elements",
                        "CREATE SCHEMA has an element that is not judged within it",
                    ));
                }
            }
        }
        Ok(())
    }

    /// A type that lives in a schema.
    pub(super) fn create_type(
        &mut self,
        name: &[Node],
        object_type: &str,
        after: Option<char>,
    ) -> Result<(), SqlRefusal> {
        let parts = nodes::parts(name)?;
        let (schema, name) = self.to_create(&parts)?;
        self.walk.asked.on_schema("sql:Create", &schema, object(object_type, name));
        self.defines(after.map_or(After::Unknown, |kind| {
            After::Type(SqlType { oid: 0, schema, name: name.into(), kind, relation: 0, inner: 0 })
        }));
        Ok(())
    }

    pub(super) fn create_domain(&mut self, create: &CreateDomainStmt) -> Result<&'static str, SqlRefusal> {
        self.create_type(&create.domainname, "domain", Some('d'))?;
        for constraint in &create.constraints {
            let NodeEnum::Constraint(constraint) = nodes::inner(Some(constraint))? else { return Err(incomplete()) };
            if let Some(expression) = &constraint.raw_expr {
                self.stored(|walk| walk.domain_check(expression))?;
            }
        }
        let base = create.type_name.as_ref().ok_or_else(incomplete)?;
        let inner = nodes::type_oid(base, self.names())?;
        if let After::Type(made) = &mut self.after {
            made.inner = inner;
        }
        Ok("create_domain")
    }

    /// The same thing for each role that is named.
    pub(super) fn on_roles(&mut self, action: &'static str, object_type: &str, list: &[Node]) {
        let names = self.names();
        for role in nodes::roles(list, names) {
            self.on_object(action, object_type, &nodes::written(&[role]));
        }
    }
}

/// No statement of a CREATE SCHEMA.
const NOT_AN_ELEMENT: u8 = u8::MAX;

/// In which order the server makes the elements of a schema.
const fn order(element: &NodeEnum) -> u8 {
    match element {
        NodeEnum::CreateSeqStmt(_) => 0,
        NodeEnum::CreateStmt(_) => 1,
        NodeEnum::ViewStmt(_) => 2,
        NodeEnum::IndexStmt(_) => 3,
        NodeEnum::CreateTrigStmt(_) => 4,
        NodeEnum::GrantStmt(_) => 5,
        _ => NOT_AN_ELEMENT,
    }
}

/// A name in parts as the grammar has relations.
fn range(parts: &[&str]) -> Result<RangeVar, SqlRefusal> {
    let (database, schema, name) = match *parts {
        [name] => ("", "", name),
        [schema, name] => ("", schema, name),
        [database, schema, name] => (database, schema, name),
        _ => return Err(refused("cross-database", "cross-database references are not implemented")),
    };
    Ok(RangeVar {
        catalogname: database.into(),
        schemaname: schema.into(),
        relname: name.into(),
        ..RangeVar::default()
    })
}

/// What `context.objectType` calls it.
pub(super) const fn type_name(object_type: ObjectType) -> &'static str {
    use ObjectType as T;
    match object_type {
        T::Undefined => "unknown",
        T::ObjectAccessMethod => "access_method",
        T::ObjectAggregate => "aggregate",
        T::ObjectAmop => "operator_of_family",
        T::ObjectAmproc => "function_of_family",
        T::ObjectAttribute => "attribute",
        T::ObjectCast => "cast",
        T::ObjectColumn => "column",
        T::ObjectCollation => "collation",
        T::ObjectConversion => "conversion",
        T::ObjectDatabase => "database",
        T::ObjectDefault => "default",
        T::ObjectDefacl => "default_privileges",
        T::ObjectDomain => "domain",
        T::ObjectDomconstraint | T::ObjectTabconstraint => "constraint",
        T::ObjectEventTrigger => "event_trigger",
        T::ObjectExtension => "extension",
        T::ObjectFdw => "foreign_data_wrapper",
        T::ObjectForeignServer => "foreign_server",
        T::ObjectForeignTable => "foreign_table",
        T::ObjectFunction => "function",
        T::ObjectIndex => "index",
        T::ObjectLanguage => "language",
        T::ObjectLargeobject => "large_object",
        T::ObjectMatview => "materialized_view",
        T::ObjectOpclass => "operator_class",
        T::ObjectOperator => "operator",
        T::ObjectOpfamily => "operator_family",
        T::ObjectParameterAcl => "setting",
        T::ObjectPolicy => "policy",
        T::ObjectProcedure => "procedure",
        T::ObjectPublication | T::ObjectPublicationNamespace | T::ObjectPublicationRel => "publication",
        T::ObjectRole => "role",
        T::ObjectRoutine => "routine",
        T::ObjectRule => "rule",
        T::ObjectSchema => "schema",
        T::ObjectSequence => "sequence",
        T::ObjectSubscription => "subscription",
        T::ObjectStatisticExt => "statistics",
        T::ObjectTable => "table",
        T::ObjectTablespace => "tablespace",
        T::ObjectTransform => "transform",
        T::ObjectTrigger => "trigger",
        T::ObjectTsconfiguration => "text_search_configuration",
        T::ObjectTsdictionary => "text_search_dictionary",
        T::ObjectTsparser => "text_search_parser",
        T::ObjectTstemplate => "text_search_template",
        T::ObjectType => "type",
        T::ObjectUserMapping => "user_mapping",
        T::ObjectView => "view",
    }
}
