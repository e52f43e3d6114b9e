//! What calling a built-in function is.
//!
//! An IMMUTABLE function of the server itself sees nothing but its arguments. Of the others, those listed here see only the clock, the
//! session and settings, or are called so because they hang on TimeZone and the like. Everything that is on no list asks `sql:Execute`.
//! The lists were made by going through `SELECT DISTINCT proname FROM pg_proc WHERE provolatile <> 'i'` of PostgreSQL 15, and the release notes of
//! 16 to 18.

use super::catalog::{self, Function, Volatility};
use super::introspection;
use super::names::{Nature, PG_CATALOG};

/// Whether a function came with the server. A superuser can put others into `pg_catalog`, and extensions do.
pub(super) fn is_built_in(schema: &str, function: &Function) -> bool {
    matches!(schema, PG_CATALOG | "information_schema") && catalog::is_built_in(function.oid)
}

/// What calling a function is.
pub(super) fn nature(schema: &str, name: &str, function: &Function) -> Nature {
    if !is_built_in(schema, function) {
        return if runs_text_of_an_extension(name) { Nature::ExecutesText } else { Nature::Executes };
    }
    // What it is for beats what it is declared to be: never on the list of harmless ones.
    if let Some(special) = special(name, function) {
        return special;
    }
    if schema != PG_CATALOG || introspection::is_introspection_function(name) {
        Nature::Introspects
    } else if function.volatility == Volatility::Immutable || is_harmless(name) {
        Nature::Harmless
    } else {
        Nature::Executes
    }
}

fn special(name: &str, function: &Function) -> Option<Nature> {
    Some(match name {
        "set_config" => Nature::Setting,
        "nextval" | "currval" | "setval" => Nature::Sequence,
        "pg_notify" => Nature::Notify,
        // Files of the server: no large object permits these.
        "lo_import" | "lo_export" => Nature::Executes,
        "loread" | "lowrite" => Nature::LargeObject,
        _ if name.starts_with("lo_") => Nature::LargeObject,
        // Give back what the session itself holds: drivers do so whenever a pool takes a connection back.
        _ if name.starts_with("pg_advisory_unlock") => Nature::Harmless,
        _ if name.starts_with("pg_advisory_") || name.starts_with("pg_try_advisory_") => Nature::AdvisoryLock,
        // Runs a query: `ts_rewrite(tsquery, text)`. The one with three arguments does not.
        "ts_rewrite" if function.argument_types.len() == 2 => Nature::ExecutesText,
        "ts_stat" | "cursor_to_xml" | "cursor_to_xmlschema" => Nature::ExecutesText,
        // Reads a row of a table that a text or an oid names.
        "currtid" | "currtid2" => Nature::ExecutesText,
        _ if reads_as_xml(name) => Nature::ExecutesText,
        _ => return None,
    })
}

/// `query_to_xml`, `table_to_xmlschema`, `database_to_xml_and_xmlschema` …
fn reads_as_xml(name: &str) -> bool {
    let what = ["query_to_xml", "table_to_xml", "schema_to_xml", "database_to_xml"];
    what.iter().any(|what| name.starts_with(what))
}

/// Functions of well-known extensions that take a query or the name of a table. They are asked `sql:Execute` like all functions that
/// did not come with the server; who permits that need not mean every table.
fn runs_text_of_an_extension(name: &str) -> bool {
    name.starts_with("dblink") || name.starts_with("crosstab") || matches!(name, "connectby" | "xpath_table")
}

/// Whether a built-in function that is STABLE or VOLATILE sees nothing that is not everybody's.
fn is_harmless(name: &str) -> bool {
    const LISTS: [&[&str]; 9] =
        [CLOCK, CHANCE, SESSION, SERVER, TEXT, JSON_AND_XML, TEXT_SEARCH, SAMPLING, TRANSACTION];
    LISTS.iter().any(|list| list.contains(&name))
}

/// The clock, and arithmetic that hangs on TimeZone.
const CLOCK: &[&str] = &[
    "age",
    "clock_timestamp",
    "date",
    "date_add",
    "date_cmp_timestamptz",
    "date_eq_timestamptz",
    "date_ge_timestamptz",
    "date_gt_timestamptz",
    "date_le_timestamptz",
    "date_lt_timestamptz",
    "date_ne_timestamptz",
    "date_part",
    "date_subtract",
    "date_trunc",
    "extract",
    "generate_series",
    "in_range",
    "interval_pl_timestamptz",
    "make_timestamptz",
    "now",
    "overlaps",
    "statement_timestamp",
    "time",
    "timeofday",
    "timestamp",
    "timestamp_cmp_timestamptz",
    "timestamp_eq_timestamptz",
    "timestamp_ge_timestamptz",
    "timestamp_gt_timestamptz",
    "timestamp_le_timestamptz",
    "timestamp_lt_timestamptz",
    "timestamp_ne_timestamptz",
    "timestamptz",
    "timestamptz_cmp_date",
    "timestamptz_cmp_timestamp",
    "timestamptz_eq_date",
    "timestamptz_eq_timestamp",
    "timestamptz_ge_date",
    "timestamptz_ge_timestamp",
    "timestamptz_gt_date",
    "timestamptz_gt_timestamp",
    "timestamptz_le_date",
    "timestamptz_le_timestamp",
    "timestamptz_lt_date",
    "timestamptz_lt_timestamp",
    "timestamptz_mi_interval",
    "timestamptz_ne_date",
    "timestamptz_ne_timestamp",
    "timestamptz_pl_interval",
    "timetz",
    "timezone",
    "transaction_timestamp",
];

/// Random numbers. `setseed` changes only what `random` says to the same session.
const CHANCE: &[&str] =
    &["array_sample", "array_shuffle", "gen_random_uuid", "random", "random_normal", "setseed", "uuidv4", "uuidv7"];

/// What the session knows of itself.
const SESSION: &[&str] = &[
    "current_database",
    "current_query",
    "current_schema",
    "current_setting",
    "current_user",
    "getpgusername",
    "inet_client_addr",
    "inet_client_port",
    "inet_server_addr",
    "inet_server_port",
    "pg_backend_pid",
    "pg_client_encoding",
    "pg_stat_clear_snapshot",
    "pg_trigger_depth",
    "session_user",
    "system_user",
];

/// What everybody may know of the server.
const SERVER: &[&str] = &[
    "getdatabaseencoding",
    "icu_unicode_version",
    "pg_char_to_encoding",
    "pg_conf_load_time",
    "pg_encoding_to_char",
    "pg_is_in_recovery",
    "pg_jit_available",
    "pg_notification_queue_usage",
    "pg_postmaster_start_time",
    "pg_timezone_abbrevs",
    "pg_timezone_abbrevs_abbrevs",
    "pg_timezone_abbrevs_zone",
    "pg_timezone_names",
    "unicode_version",
    "version",
];

/// Text: STABLE because an output function, a collation or an encoding might be; enumerations and arrays with it.
const TEXT: &[&str] = &[
    "anytextcat",
    "array_to_string",
    "concat",
    "concat_ws",
    "convert",
    "convert_from",
    "convert_to",
    "enum_first",
    "enum_last",
    "enum_range",
    "format",
    "length",
    "money",
    "numeric",
    "oidvectortypes",
    "pg_collation_for",
    "pg_column_compression",
    "pg_column_size",
    "pg_input_error_info",
    "pg_input_is_valid",
    "pg_typeof",
    "quote_literal",
    "quote_nullable",
    "textanycat",
    "textsend",
    "to_char",
    "to_date",
    "to_number",
    "to_timestamp",
    "varcharsend",
];

/// JSON and XML made of values, and values of them.
const JSON_AND_XML: &[&str] = &[
    "array_to_json",
    "json_agg",
    "json_agg_strict",
    "json_build_array",
    "json_build_object",
    "json_object_agg",
    "json_object_agg_strict",
    "json_object_agg_unique",
    "json_object_agg_unique_strict",
    "json_populate_record",
    "json_populate_recordset",
    "json_to_record",
    "json_to_recordset",
    "jsonb_agg",
    "jsonb_agg_strict",
    "jsonb_build_array",
    "jsonb_build_object",
    "jsonb_object_agg",
    "jsonb_object_agg_strict",
    "jsonb_object_agg_unique",
    "jsonb_object_agg_unique_strict",
    "jsonb_path_exists_tz",
    "jsonb_path_match_tz",
    "jsonb_path_query_array_tz",
    "jsonb_path_query_first_tz",
    "jsonb_path_query_tz",
    "jsonb_populate_record",
    "jsonb_populate_record_valid",
    "jsonb_populate_recordset",
    "jsonb_to_record",
    "jsonb_to_recordset",
    "row_to_json",
    "to_json",
    "to_jsonb",
    "xml",
    "xml_is_well_formed",
];

/// Text search with the default configuration.
const TEXT_SEARCH: &[&str] = &[
    "get_current_ts_config",
    "json_to_tsvector",
    "jsonb_to_tsvector",
    "phraseto_tsquery",
    "plainto_tsquery",
    "to_tsquery",
    "to_tsvector",
    "ts_debug",
    "ts_headline",
    "ts_match_tq",
    "ts_match_tt",
    "ts_parse",
    "ts_token_type",
    "websearch_to_tsquery",
];

/// Methods of TABLESAMPLE, and triggers that look only at the row they are given.
const SAMPLING: &[&str] = &[
    "bernoulli",
    "suppress_redundant_updates_trigger",
    "system",
    "tsvector_update_trigger",
    "tsvector_update_trigger_column",
];

/// Numbers of transactions and places in the log.
const TRANSACTION: &[&str] = &[
    "mxid_age",
    "pg_current_snapshot",
    "pg_current_wal_flush_lsn",
    "pg_current_wal_insert_lsn",
    "pg_current_wal_lsn",
    "pg_current_xact_id",
    "pg_current_xact_id_if_assigned",
    "pg_last_wal_receive_lsn",
    "pg_last_wal_replay_lsn",
    "pg_last_xact_replay_timestamp",
    "pg_xact_status",
    "txid_current",
    "txid_current_if_assigned",
    "txid_current_snapshot",
    "txid_status",
];
