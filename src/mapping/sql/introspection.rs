//! What tells only what the catalogue says: one `sql:Introspect` on the database.

use super::catalog::{self, Relation};

/// Whether reading a relation is introspection: `pg_catalog` and `information_schema`, without what holds data, secrets or what
/// other sessions do.
pub(super) fn is_introspection_relation(relation: &Relation) -> bool {
    if !catalog::is_built_in(relation.oid) {
        return false;
    }
    match &*relation.schema {
        "pg_catalog" => !NEVER.contains(&&*relation.name) && !relation.name.starts_with("pg_user_mapping"),
        "information_schema" => !NEVER_OF_THE_STANDARD.contains(&&*relation.name),
        _ => false,
    }
}

/// Columns of an introspection relation that are none: reading one of them is an ordinary `sql:Select`.
pub(super) fn protected_columns(relation: &Relation) -> &'static [&'static str] {
    if !catalog::is_built_in(relation.oid) || *relation.schema != *"pg_catalog" {
        return &[];
    }
    match &*relation.name {
        // What other sessions of the same role are running, literals included.
        "pg_stat_activity" => &["query"],
        // Hosts, file names and passwords of people who put them there.
        "pg_foreign_server" => &["srvoptions"],
        "pg_foreign_data_wrapper" => &["fdwoptions"],
        // What was counted, not what there is.
        "pg_sequences" => &["last_value"],
        _ => &[],
    }
}

/// Whether calling a built-in function is introspection.
pub(super) fn is_introspection_function(name: &str) -> bool {
    if NEVER_CALLED.contains(&name) {
        return false;
    }
    name.starts_with("pg_stat_get_")
        || name.ends_with("_is_visible")
        || (name.starts_with("has_") && name.ends_with("_privilege"))
        || FUNCTIONS.contains(&name)
}

/// Relations of `pg_catalog` that hold more than names.
///
/// `pg_statistic_ext` is not among them: it says which statistics there are, `\d` of psql reads it; the values are in `pg_statistic_ext_data`.
const NEVER: &[&str] = &[
    // Values of the tables: pg_stats.most_common_vals gave away a protected column.
    "pg_statistic",
    "pg_statistic_ext_data",
    "pg_stats",
    "pg_stats_ext",
    "pg_stats_ext_exprs",
    "pg_largeobject",
    // Passwords and connection strings.
    "pg_authid",
    "pg_shadow",
    "pg_subscription",
    "pg_stat_wal_receiver",
    // Files of the server.
    "pg_config",
    "pg_file_settings",
    "pg_hba_file_rules",
    "pg_ident_file_mappings",
    // Memory of the server.
    "pg_backend_memory_contexts",
    "pg_shmem_allocations",
    "pg_shmem_allocations_numa",
];

/// The same of `information_schema`.
const NEVER_OF_THE_STANDARD: &[&str] = &[
    "_pg_foreign_data_wrappers",
    "_pg_foreign_servers",
    "_pg_user_mappings",
    "foreign_data_wrapper_options",
    "foreign_server_options",
    "user_mapping_options",
];

/// Functions that the patterns would let in: what other sessions run, and how the server reaches another one.
const NEVER_CALLED: &[&str] = &["pg_stat_get_activity", "pg_stat_get_backend_activity", "pg_stat_get_wal_receiver"];

/// Functions that tell what the catalogue says, how large things are, and what is running where.
const FUNCTIONS: &[&str] = &[
    // Definitions as SQL.
    "format_type",
    "pg_get_catalog_foreign_keys",
    "pg_get_constraintdef",
    "pg_get_expr",
    "pg_get_function_arg_default",
    "pg_get_function_arguments",
    "pg_get_function_identity_arguments",
    "pg_get_function_result",
    "pg_get_function_sqlbody",
    "pg_get_functiondef",
    "pg_get_indexdef",
    "pg_get_keywords",
    "pg_get_partition_constraintdef",
    "pg_get_partkeydef",
    "pg_get_publication_tables",
    "pg_get_replica_identity_index",
    "pg_get_ruledef",
    "pg_get_serial_sequence",
    "pg_get_statisticsobjdef",
    "pg_get_statisticsobjdef_columns",
    "pg_get_statisticsobjdef_expressions",
    "pg_get_triggerdef",
    "pg_get_userbyid",
    "pg_get_viewdef",
    // Comments.
    "col_description",
    "obj_description",
    "shobj_description",
    // Names and oids.
    "pg_basetype",
    "pg_describe_object",
    "pg_filenode_relation",
    "pg_get_object_address",
    "pg_identify_object",
    "pg_identify_object_as_address",
    "pg_is_other_temp_schema",
    "pg_my_temp_schema",
    "regclass",
    "to_regclass",
    "to_regcollation",
    "to_regnamespace",
    "to_regoper",
    "to_regoperator",
    "to_regproc",
    "to_regprocedure",
    "to_regrole",
    "to_regtype",
    "to_regtypemod",
    // Privileges.
    "aclexplode",
    "acldefault",
    "makeaclitem",
    "pg_get_acl",
    "pg_has_role",
    "row_security_active",
    // Structure.
    "current_schemas",
    "pg_available_extension_versions",
    "pg_available_extensions",
    "pg_collation_actual_version",
    "pg_column_is_updatable",
    "pg_database_collation_actual_version",
    "pg_extension_update_paths",
    "pg_index_column_has_property",
    "pg_index_has_property",
    "pg_indexam_has_property",
    "pg_options_to_table",
    "pg_partition_ancestors",
    "pg_partition_root",
    "pg_partition_tree",
    "pg_relation_filenode",
    "pg_relation_filepath",
    "pg_relation_is_publishable",
    "pg_relation_is_updatable",
    "pg_sequence_parameters",
    "pg_tablespace_databases",
    "pg_tablespace_location",
    // Sizes.
    "pg_database_size",
    "pg_indexes_size",
    "pg_relation_size",
    "pg_table_size",
    "pg_tablespace_size",
    "pg_total_relation_size",
    // Settings, and what the session has open.
    "pg_cursor",
    "pg_listening_channels",
    "pg_prepared_statement",
    "pg_prepared_xact",
    "pg_settings_get_flags",
    "pg_show_all_settings",
    // Who waits for whom.
    "pg_blocking_pids",
    "pg_get_replication_slots",
    "pg_lock_status",
    "pg_safe_snapshot_blocking_pids",
    "pg_stat_have_stats",
];
