//! The table of statements: which kind asks what. Every statement of PostgreSQL's grammar is in it; what is not is refused.

use pg_query::NodeEnum;
use pg_query::protobuf::{List, Node, ObjectType};

use super::super::Effects;
use super::super::SqlRefusal;
use super::super::asked::refused;
use super::super::catalog::RelationKind;
use super::{After, Judge, incomplete, nodes, tables};

/// Every kind of statement, and what it asks, as docs show it.
///
/// *Database*, *Schema*, *Table* and *Function* are the resource; `type:` is `context.objectType`, with the name in `context.objectName`.
const KINDS: &[(&str, &str)] = &[
    (
        "select",
        "sql:Select on each Table with the columns read; sql:Lock with FOR UPDATE or SHARE; sql:Execute on Functions",
    ),
    (
        "insert",
        "sql:Insert on the Table with the columns written; ON CONFLICT DO UPDATE sql:Update; what it reads sql:Select",
    ),
    ("update", "sql:Update on the Table with the columns written; what it reads sql:Select"),
    ("delete", "sql:Delete on the Table; what it reads sql:Select"),
    ("merge", "sql:Merge and sql:Select on the Table, and what its branches do; what it reads sql:Select"),
    ("select_into", "sql:Create on the Schema (type: table); what the query asks"),
    ("begin", "sql:Connect"),
    ("commit", "sql:Connect"),
    ("rollback", "sql:Connect"),
    ("savepoint", "sql:Connect"),
    ("release", "sql:Connect"),
    ("rollback_to", "sql:Connect"),
    ("prepare_transaction", "sql:Alter on the Database (type: prepared_transaction)"),
    ("commit_prepared", "sql:Alter on the Database (type: prepared_transaction)"),
    ("rollback_prepared", "sql:Alter on the Database (type: prepared_transaction)"),
    ("set", "sql:Connect for harmless settings and search_path; else sql:Set on the Database, or sql:SetRole"),
    ("reset", "sql:Connect: back to what the session began with"),
    ("show", "sql:Connect"),
    ("discard", "sql:Connect"),
    ("set_constraints", "sql:Connect"),
    ("prepare", "what its statement asks"),
    ("execute", "what the prepared statement asks, with names as they are now; what its arguments ask"),
    ("deallocate", "sql:Connect"),
    ("declare", "what its query asks"),
    ("fetch", "sql:Connect, of cursors that a judged DECLARE opened"),
    ("move", "sql:Connect, of cursors that a judged DECLARE opened"),
    ("close", "sql:Connect"),
    ("explain", "what its statement asks, with ANALYZE or without"),
    ("listen", "sql:Listen on the Database with context.channel"),
    ("unlisten", "sql:Connect"),
    ("notify", "sql:Notify on the Database with context.channel"),
    ("lock", "sql:Lock on each Table"),
    (
        "copy",
        "TO: sql:Select with columns, or what its query asks; FROM: sql:Insert with columns, sql:Select for WHERE; a file of the server also sql:CopyFile, a program sql:CopyProgram",
    ),
    ("call", "sql:Execute on the Function; what its arguments ask"),
    ("do", "sql:ExecuteCode on the Database"),
    ("load", "sql:ExecuteCode on the Database (type: library)"),
    ("truncate", "sql:Truncate on each Table, its children, and with CASCADE each Table that refers to it"),
    ("vacuum", "sql:Maintain on each Table, without any on the Database"),
    ("analyze", "sql:Maintain on each Table, without any on the Database"),
    ("cluster", "sql:Maintain on the Table, without one on the Database"),
    ("reindex", "sql:Maintain on the Table, on the Schema of an index, on the Schema, on the Database"),
    ("refresh", "sql:Maintain on the materialized view"),
    ("checkpoint", "sql:Maintain on the Database (type: checkpoint)"),
    (
        "create_table",
        "sql:Create on the Schema (type: table); sql:Alter on parents and on Tables that foreign keys name; LIKE sql:Select",
    ),
    ("create_foreign_table", "as create_table; sql:Alter on the Database (type: foreign_server)"),
    ("create_table_as", "sql:Create on the Schema (type: table); what the query asks"),
    ("create_materialized_view", "sql:Create on the Schema (type: materialized_view); what the query asks"),
    ("create_view", "sql:Create on the Schema (type: view); what the query asks; OR REPLACE sql:Alter on the view"),
    ("create_sequence", "sql:Create on the Schema (type: sequence)"),
    ("create_index", "sql:Create on the Table (type: index); sql:Select on the columns that its expressions read"),
    (
        "create_statistics",
        "sql:Create on the Table (type: statistics); sql:Select on the columns that its expressions read",
    ),
    ("create_trigger", "sql:Create on the Table (type: trigger); sql:Execute on the Function; sql:ExecuteCode"),
    ("create_rule", "sql:Create on the Table (type: rule); sql:ExecuteCode"),
    ("create_policy", "sql:Create on the Table (type: policy); what its expressions ask; sql:ExecuteCode"),
    (
        "create_function",
        "sql:Create on the Schema (type: function, procedure); OR REPLACE sql:Alter on the Function; sql:ExecuteCode",
    ),
    ("create_type", "sql:Create on the Schema (type: type)"),
    (
        "create_domain",
        "sql:Create on the Schema (type: domain); DEFAULT and CHECK what they call, and then sql:ExecuteCode",
    ),
    ("create_schema", "sql:Create on the Database (type: schema); what its elements ask"),
    ("define", "sql:Create on the Schema (type: aggregate, operator, type, collation, text_search_…); sql:ExecuteCode"),
    (
        "create",
        "sql:Create on the Database (type: role, database, extension, foreign_server, user_mapping, subscription, …)",
    ),
    (
        "create_code",
        "sql:Create on the Database (type: cast, transform, operator_class, language, event_trigger, …); sql:ExecuteCode",
    ),
    ("create_publication", "sql:Create on the Database (type: publication); sql:Alter and sql:Select on its Tables"),
    (
        "import_foreign_schema",
        "sql:Create on the Schema (type: foreign_table); sql:Alter on the Database (type: foreign_server)",
    ),
    (
        "alter_table",
        "sql:Alter on the Table with the columns changed, and on Tables that it names; OWNER TO also sql:Grant; CHECK, USING, GENERATED and a new type sql:Select on the columns that they read",
    ),
    ("alter_sequence", "sql:Alter on the sequence"),
    ("alter_policy", "sql:Alter on the Table (type: policy); what its expressions ask; sql:ExecuteCode"),
    ("alter_function", "sql:Alter on the Function; sql:ExecuteCode"),
    ("alter_type", "sql:Alter on the Schema (type: type)"),
    (
        "alter_domain",
        "sql:Alter on the Schema (type: domain); DEFAULT and CHECK what they call, and then sql:ExecuteCode; CHECK and VALIDATE sql:Select on the columns of that type, of domains over it, of arrays and rows with it",
    ),
    ("alter_publication", "sql:Alter on the Database (type: publication); sql:Alter and sql:Select on its Tables"),
    ("alter_default_privileges", "sql:Grant on the Schemas, without any on the Database (type: default_privileges)"),
    ("alter_system", "sql:Alter on the Database (type: system) with context.setting"),
    ("alter", "sql:Alter on the object, on the Database (type: …) if it has no entity"),
    ("alter_code", "sql:Alter on the Database (type: operator, operator_family, event_trigger); sql:ExecuteCode"),
    ("rename", "sql:Alter on the object"),
    ("set_schema", "sql:Alter on the object, sql:Create on the new Schema"),
    ("set_owner", "sql:Alter on the object, sql:Grant on the Database with context.requestedRole"),
    ("comment", "sql:Alter on the object"),
    ("security_label", "sql:Alter on the object"),
    (
        "drop",
        "sql:Drop on the object; of an index or type on its Schema, of a trigger, rule or policy on its Table; else on the Database (type: …)",
    ),
    ("drop_owned", "sql:Drop on the Database (type: owned)"),
    ("reassign_owned", "sql:Alter and sql:Grant on the Database (type: owned)"),
    ("grant", "sql:Grant on each object, with columns"),
    ("revoke", "sql:Grant on each object, with columns"),
    ("grant_role", "sql:Grant on the Database (type: role) with context.requestedRole"),
    ("revoke_role", "sql:Grant on the Database (type: role) with context.requestedRole"),
    ("identify_system", "sql:Replicate on the Database"),
    ("create_replication_slot", "sql:Replicate on the Database with context.slot (type: output_plugin)"),
    ("alter_replication_slot", "sql:Replicate on the Database with context.slot"),
    ("drop_replication_slot", "sql:Replicate on the Database with context.slot"),
    ("read_replication_slot", "sql:Replicate on the Database with context.slot"),
    ("start_replication", "sql:Replicate on the Database with context.slot and, if it names some, context.publication"),
    ("timeline_history", "sql:Replicate on the Database"),
    ("base_backup", "sql:Replicate on the Database"),
];

/// Every kind of statement, and what it asks.
pub fn kinds() -> impl Iterator<Item = (&'static str, &'static str)> {
    KINDS.iter().copied()
}

impl Judge<'_, '_> {
    /// What one statement asks; its kind.
    pub(super) fn statement(&mut self, node: &NodeEnum) -> Result<&'static str, SqlRefusal> {
        Ok(match node {
            NodeEnum::SelectStmt(select) if tables::has_into(select) => self.select_into(select)?,
            NodeEnum::SelectStmt(_) => self.query(node, "select")?,
            NodeEnum::InsertStmt(_) => self.query(node, "insert")?,
            NodeEnum::UpdateStmt(_) => self.query(node, "update")?,
            NodeEnum::DeleteStmt(_) => self.query(node, "delete")?,
            NodeEnum::MergeStmt(_) => self.query(node, "merge")?,

            NodeEnum::TransactionStmt(statement) => self.transaction(statement)?,
            NodeEnum::VariableSetStmt(statement) => self.set(statement)?,
            NodeEnum::VariableShowStmt(_) => "show",
            NodeEnum::DiscardStmt(statement) => self.discard(statement)?,
            NodeEnum::ConstraintsSetStmt(_) => "set_constraints",
            NodeEnum::PrepareStmt(statement) => self.prepare(statement)?,
            NodeEnum::ExecuteStmt(statement) => self.execute(statement)?,
            NodeEnum::DeallocateStmt(statement) => self.deallocate(statement),
            NodeEnum::DeclareCursorStmt(statement) => self.declare(statement)?,
            NodeEnum::FetchStmt(statement) => self.fetch(statement)?,
            NodeEnum::ClosePortalStmt(statement) => self.close(statement),
            NodeEnum::ExplainStmt(statement) => self.explain(statement)?,
            NodeEnum::ListenStmt(s) => self.channel("sql:Listen", &s.conditionname, "listen"),
            NodeEnum::UnlistenStmt(_) => "unlisten",
            NodeEnum::NotifyStmt(s) => self.channel("sql:Notify", &s.conditionname, "notify"),
            NodeEnum::LockStmt(statement) => self.lock(statement)?,
            NodeEnum::CopyStmt(statement) => self.copy(statement)?,
            NodeEnum::CallStmt(statement) => self.call(statement)?,
            NodeEnum::DoStmt(_) => self.do_block(),
            NodeEnum::LoadStmt(s) => {
                self.walk.asked.on_database("sql:ExecuteCode", super::object("library", &s.filename));
                self.walk.asked.literals_matter();
                *self.walk.asked.effects_mut() = Effects { anything: true, ..Effects::default() };
                self.after = After::Unknown;
                "load"
            }

            NodeEnum::TruncateStmt(statement) => self.truncate(statement)?,
            NodeEnum::VacuumStmt(statement) => self.vacuum(statement)?,
            NodeEnum::ClusterStmt(s) => self.maintain(s.relation.as_ref()).map(|()| "cluster")?,
            NodeEnum::ReindexStmt(statement) => self.reindex(statement)?,
            NodeEnum::RefreshMatViewStmt(s) if s.relation.is_some() => {
                self.maintain(s.relation.as_ref()).map(|()| "refresh")?
            }
            NodeEnum::CheckPointStmt(_) => {
                self.walk.asked.on_database("sql:Maintain", vec![("objectType", "checkpoint".into())]);
                "checkpoint"
            }

            NodeEnum::CreateStmt(s) => self.create_table(s, RelationKind::Table).map(|()| "create_table")?,
            NodeEnum::CreateForeignTableStmt(s) => {
                let base = s.base_stmt.as_ref().ok_or_else(incomplete)?;
                self.create_table(base, RelationKind::ForeignTable)?;
                self.on_object("sql:Alter", "foreign_server", &nodes::written(&[&s.servername]));
                "create_foreign_table"
            }
            NodeEnum::CreateTableAsStmt(statement) => self.create_table_as(statement)?,
            NodeEnum::ViewStmt(statement) => self.create_view(statement)?,
            NodeEnum::CreateSeqStmt(statement) => self.create_sequence(statement)?,
            NodeEnum::IndexStmt(statement) => self.create_index(statement)?,
            NodeEnum::CreateStatsStmt(statement) => self.create_statistics(statement)?,
            NodeEnum::CreateTrigStmt(statement) => self.create_trigger(statement)?,
            NodeEnum::RuleStmt(statement) => self.create_rule(statement)?,
            NodeEnum::CreatePolicyStmt(statement) => self.create_policy(statement)?,
            NodeEnum::CreateFunctionStmt(statement) => self.create_function(statement)?,
            NodeEnum::CreateSchemaStmt(statement) => self.create_schema(statement)?,
            NodeEnum::CreateDomainStmt(statement) => self.create_domain(statement)?,
            NodeEnum::CreateEnumStmt(s) => self.create_type(&s.type_name, "type", Some('e')).map(|()| "create_type")?,
            NodeEnum::CreateRangeStmt(s) => {
                // Its options may name functions of subtype and of canonical form.
                self.defines_code();
                self.create_type(&s.type_name, "type", None).map(|()| "create_type")?
            }
            NodeEnum::CompositeTypeStmt(s) => {
                let range = s.typevar.as_ref().ok_or_else(incomplete)?;
                let parts = [&*range.schemaname, &*range.relname];
                let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
                let (schema, name) = self.to_create(&parts)?;
                self.walk.asked.on_schema("sql:Create", &schema, super::object("type", name));
                self.defines(After::Unknown);
                "create_type"
            }
            _ => return self.definition(node),
        })
    }

    fn query(&mut self, node: &NodeEnum, kind: &'static str) -> Result<&'static str, SqlRefusal> {
        self.walk.query(node)?;
        if self.walk.asked.effects_mut().any() {
            self.after = After::Unknown;
        }
        Ok(kind)
    }

    fn channel(&mut self, action: &'static str, channel: &str, kind: &'static str) -> &'static str {
        self.walk.asked.on_database(action, vec![("channel", super::super::names::cut(channel).into())]);
        self.walk.asked.literals_matter();
        kind
    }

    /// Definitions of what has no entity of its own, and what is done to any object.
    fn definition(&mut self, node: &NodeEnum) -> Result<&'static str, SqlRefusal> {
        use NodeEnum as N;
        const CREATE: &str = "sql:Create";
        const ALTER: &str = "sql:Alter";
        const DROP: &str = "sql:Drop";
        let name = |name: &str| nodes::written(&[name]);
        self.defines(After::Unknown);
        match node {
            N::DefineStmt(s) => return self.define(s.kind, &s.defnames),
            N::CreateRoleStmt(s) => self.on_object(CREATE, "role", &name(&s.role)),
            N::CreatedbStmt(s) => self.on_object(CREATE, "database", &name(&s.dbname)),
            N::CreateTableSpaceStmt(s) => self.on_object(CREATE, "tablespace", &name(&s.tablespacename)),
            N::CreateExtensionStmt(s) => self.on_object(CREATE, "extension", &name(&s.extname)),
            N::CreateFdwStmt(s) => return self.code(CREATE, "foreign_data_wrapper", &name(&s.fdwname)),
            N::CreateForeignServerStmt(s) => self.on_object(CREATE, "foreign_server", &name(&s.servername)),
            N::CreateUserMappingStmt(s) => self.on_object(CREATE, "user_mapping", &name(&s.servername)),
            N::CreateSubscriptionStmt(s) => self.on_object(CREATE, "subscription", &name(&s.subname)),
            N::CreatePublicationStmt(statement) => {
                self.after = After::Nothing;
                return self.create_publication(statement);
            }
            N::CreateConversionStmt(s) => {
                return self.code(CREATE, "conversion", &nodes::written(&nodes::parts(&s.conversion_name)?));
            }
            N::CreateAmStmt(s) => return self.code(CREATE, "access_method", &name(&s.amname)),
            N::CreateCastStmt(_) => return self.code(CREATE, "cast", ""),
            N::CreateTransformStmt(s) => return self.code(CREATE, "transform", &name(&s.lang)),
            N::CreateOpClassStmt(s) => {
                return self.code(CREATE, "operator_class", &nodes::written(&nodes::parts(&s.opclassname)?));
            }
            N::CreateOpFamilyStmt(s) => {
                return self.code(CREATE, "operator_family", &nodes::written(&nodes::parts(&s.opfamilyname)?));
            }
            N::CreatePlangStmt(s) => return self.code(CREATE, "language", &name(&s.plname)),
            N::CreateEventTrigStmt(s) => {
                self.executes(&nodes::parts(&s.funcname)?)?;
                return self.code(CREATE, "event_trigger", &name(&s.trigname));
            }
            N::ImportForeignSchemaStmt(s) => {
                self.walk.asked.on_schema(CREATE, &s.local_schema, super::object("foreign_table", ""));
                self.on_object(ALTER, "foreign_server", &name(&s.server_name));
                return Ok("import_foreign_schema");
            }

            N::AlterTableStmt(statement) => return self.alter_table(statement),
            N::AlterTableMoveAllStmt(s) => self.on_object(ALTER, "tablespace", &name(&s.orig_tablespacename)),
            N::AlterSeqStmt(statement) => return self.alter_sequence(statement),
            N::AlterPolicyStmt(statement) => return self.alter_policy(statement),
            N::AlterFunctionStmt(s) => {
                let function = s.func.as_ref().ok_or_else(incomplete)?;
                let kind = if s.objtype() == ObjectType::ObjectProcedure { "procedure" } else { "function" };
                let asked = self.on_functions(ALTER, kind, &nodes::parts(&function.objname)?, false);
                asked.map_err(|missing| super::signature::missing(missing, kind, function, self.names()))?;
                self.defines_code();
                return Ok("alter_function");
            }
            N::AlterTypeStmt(s) => return self.alter_type(&s.type_name, true),
            N::AlterEnumStmt(s) => return self.alter_type(&s.type_name, false),
            N::AlterDomainStmt(statement) => return self.alter_domain(statement),
            N::AlterPublicationStmt(s) => {
                self.on_object(ALTER, "publication", &name(&s.pubname));
                self.publication(&s.pubobjects)?;
                self.after = After::Nothing;
                return Ok("alter_publication");
            }
            N::AlterDefaultPrivilegesStmt(statement) => {
                self.after = After::Nothing;
                return self.default_privileges(statement);
            }
            N::AlterSystemStmt(s) => {
                let setting = s.setstmt.as_ref().map_or("", |set| &set.name).to_ascii_lowercase();
                let mut context = super::object("system", &setting);
                context.push(("setting", (&*setting).into()));
                self.walk.asked.on_database(ALTER, context);
                self.after = After::Nothing;
                return Ok("alter_system");
            }
            N::AlterRoleStmt(s) => self.on_object(ALTER, "role", &name(nodes::role(s.role.as_ref(), self.names()))),
            N::AlterRoleSetStmt(s) => {
                let role = s.role.as_ref().map_or("all", |role| nodes::role(Some(role), self.names()));
                let setting = s.setstmt.as_ref().map_or("", |set| &set.name).to_ascii_lowercase();
                let mut context = super::object("role", &name(role));
                context.push(("setting", (&*setting).into()));
                self.walk.asked.on_database(ALTER, context);
            }
            N::AlterDatabaseSetStmt(s) => {
                let setting = s.setstmt.as_ref().map_or("", |set| &set.name).to_ascii_lowercase();
                let mut context = super::object("database", &name(&s.dbname));
                context.push(("setting", (&*setting).into()));
                self.walk.asked.on_database(ALTER, context);
            }
            N::AlterDatabaseStmt(s) => self.on_object(ALTER, "database", &name(&s.dbname)),
            N::AlterDatabaseRefreshCollStmt(s) => self.on_object(ALTER, "database", &name(&s.dbname)),
            N::AlterTableSpaceOptionsStmt(s) => self.on_object(ALTER, "tablespace", &name(&s.tablespacename)),
            N::AlterExtensionStmt(s) => self.on_object(ALTER, "extension", &name(&s.extname)),
            N::AlterExtensionContentsStmt(s) => {
                self.on_object(ALTER, "extension", &name(&s.extname));
                self.on_any(ALTER, s.objtype, nodes::boxed(&s.object)?, false)?;
            }
            N::AlterFdwStmt(s) => return self.code(ALTER, "foreign_data_wrapper", &name(&s.fdwname)),
            N::AlterForeignServerStmt(s) => self.on_object(ALTER, "foreign_server", &name(&s.servername)),
            N::AlterUserMappingStmt(s) => self.on_object(ALTER, "user_mapping", &name(&s.servername)),
            N::AlterSubscriptionStmt(s) => self.on_object(ALTER, "subscription", &name(&s.subname)),
            N::AlterCollationStmt(s) => {
                self.on_object(ALTER, "collation", &nodes::written(&nodes::parts(&s.collname)?));
            }
            N::AlterStatsStmt(s) => {
                self.on_object(ALTER, "statistics", &nodes::written(&nodes::parts(&s.defnames)?));
            }
            N::AlterTsdictionaryStmt(s) => {
                self.on_object(ALTER, "text_search_dictionary", &nodes::written(&nodes::parts(&s.dictname)?));
            }
            N::AlterTsconfigurationStmt(s) => {
                self.on_object(ALTER, "text_search_configuration", &nodes::written(&nodes::parts(&s.cfgname)?));
            }
            N::AlterOperatorStmt(s) => {
                let operator = s.opername.as_ref().ok_or_else(incomplete)?;
                return self.code(ALTER, "operator", &nodes::written(&nodes::parts(&operator.objname)?));
            }
            N::AlterOpFamilyStmt(s) => {
                return self.code(ALTER, "operator_family", &nodes::written(&nodes::parts(&s.opfamilyname)?));
            }
            N::AlterEventTrigStmt(s) => return self.code(ALTER, "event_trigger", &name(&s.trigname)),
            N::AlterObjectDependsStmt(s) => match (&s.relation, &s.object) {
                (Some(range), _) => {
                    self.on_named(ALTER, "table", range, false, &[])?;
                }
                (None, other) => self.on_any(ALTER, s.object_type, nodes::boxed(other)?, false)?,
            },
            N::AlterObjectSchemaStmt(statement) => return self.set_schema(statement),
            N::AlterOwnerStmt(statement) => return self.set_owner(statement),
            N::RenameStmt(statement) => return self.rename(statement),
            N::CommentStmt(s) => {
                self.on_any(ALTER, s.objtype, nodes::boxed(&s.object)?, false)?;
                self.after = After::Nothing;
                return Ok("comment");
            }
            N::SecLabelStmt(s) => {
                self.on_any(ALTER, s.objtype, nodes::boxed(&s.object)?, false)?;
                self.after = After::Nothing;
                return Ok("security_label");
            }
            N::GrantStmt(statement) => return self.grant(statement),
            N::GrantRoleStmt(statement) => return self.grant_role(statement),

            N::DropStmt(statement) => return self.drop(statement),
            N::DropRoleStmt(s) => self.on_roles(DROP, "role", &s.roles),
            N::DropdbStmt(s) => self.on_object(DROP, "database", &name(&s.dbname)),
            N::DropTableSpaceStmt(s) => self.on_object(DROP, "tablespace", &name(&s.tablespacename)),
            N::DropSubscriptionStmt(s) => self.on_object(DROP, "subscription", &name(&s.subname)),
            N::DropUserMappingStmt(s) => self.on_object(DROP, "user_mapping", &name(&s.servername)),
            N::DropOwnedStmt(s) => {
                self.on_roles(DROP, "owned", &s.roles);
                return Ok("drop_owned");
            }
            N::ReassignOwnedStmt(s) => {
                self.on_roles(ALTER, "owned", &s.roles);
                self.on_roles("sql:Grant", "owned", &s.roles);
                return Ok("reassign_owned");
            }
            _ => return Err(refused("unknown-statement", "statement is of a kind that is not judged")),
        }
        let first = match node {
            N::CreateRoleStmt(_)
            | N::CreatedbStmt(_)
            | N::CreateTableSpaceStmt(_)
            | N::CreateExtensionStmt(_)
            | N::CreateForeignServerStmt(_)
            | N::CreateUserMappingStmt(_)
            | N::CreateSubscriptionStmt(_) => "create",
            N::DropRoleStmt(_)
            | N::DropdbStmt(_)
            | N::DropTableSpaceStmt(_)
            | N::DropSubscriptionStmt(_)
            | N::DropUserMappingStmt(_) => "drop",
            _ => "alter",
        };
        if first == "create" && !matches!(node, N::CreateExtensionStmt(_)) {
            self.after = After::Nothing;
        }
        Ok(first)
    }

    /// Something that makes the server run functions for whoever comes by.
    fn code(&mut self, action: &'static str, object_type: &str, name: &str) -> Result<&'static str, SqlRefusal> {
        self.on_object(action, object_type, name);
        self.defines_code();
        Ok(if action == "sql:Create" { "create_code" } else { "alter_code" })
    }

    /// CREATE AGGREGATE, OPERATOR, TYPE, COLLATION, TEXT SEARCH …: in a schema, and made of functions.
    fn define(&mut self, kind: i32, names: &[Node]) -> Result<&'static str, SqlRefusal> {
        use ObjectType as T;
        let object_type = match T::try_from(kind) {
            Ok(T::ObjectAggregate) => "aggregate",
            Ok(T::ObjectOperator) => "operator",
            Ok(T::ObjectType) => "type",
            Ok(T::ObjectCollation) => "collation",
            Ok(T::ObjectTsparser) => "text_search_parser",
            Ok(T::ObjectTsdictionary) => "text_search_dictionary",
            Ok(T::ObjectTstemplate) => "text_search_template",
            Ok(T::ObjectTsconfiguration) => "text_search_configuration",
            _ => return Err(incomplete()),
        };
        let parts = nodes::parts(names)?;
        let (schema, name) = self.to_create(&parts)?;
        self.walk.asked.on_schema("sql:Create", &schema, super::object(object_type, name));
        self.defines_code();
        Ok("define")
    }

    fn alter_type(&mut self, names: &[Node], code: bool) -> Result<&'static str, SqlRefusal> {
        let named = NodeEnum::List(List { items: names.to_vec() });
        self.on_any("sql:Alter", ObjectType::ObjectType as i32, &named, false)?;
        if code {
            self.defines_code();
        }
        Ok("alter_type")
    }
}
