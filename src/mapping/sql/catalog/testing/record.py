"""Writes rows.tsv: what a PostgreSQL 15 server answers to Catalog::QUERIES in a fresh database made by sample.sql.

    PGHOST=… PGUSER=… python3 record.py

Of what is built in, only common functions, operators, types and relations are kept.
"""

import pathlib
import re
import subprocess

HERE = pathlib.Path(__file__).parent
FUNCTIONS = """
abs age array_agg array_append array_cat array_length array_position array_to_json array_to_string avg bit_and bool_and bool_or btrim
cardinality ceil char_length clock_timestamp coalesce col_description concat concat_ws convert_from convert_to count currtid2 currval
current_database current_query current_schema current_schemas current_setting current_user cursor_to_xml database_to_xml date_part date_trunc
decode dense_rank encode every exp extract first_value floor format format_type gen_random_uuid generate_series greatest has_schema_privilege
has_table_privilege host inet_client_addr initcap isfinite json_agg json_array_elements json_build_object json_each json_object_agg
json_populate_record jsonb_agg jsonb_array_elements jsonb_build_object jsonb_each jsonb_extract_path_text jsonb_path_query jsonb_set
jsonb_to_recordset json_to_record jsonb_typeof json_typeof lag last_value lastval lead left length like_escape ln lo_creat lo_export lo_from_bytea lo_get lo_import lo_open lo_put
lo_unlink loread lowrite log lower lower_inc lpad ltrim make_date max md5 min mod mode nextval now ntile nth_value num_nulls obj_description octet_length overlaps overlay
parse_ident percent_rank percentile_cont percentile_disc pg_advisory_lock pg_advisory_unlock pg_advisory_unlock_all pg_advisory_xact_lock pg_backend_pid pg_blocking_pids
pg_cancel_backend pg_client_encoding pg_collation_for pg_column_size pg_current_xact_id pg_database_size pg_encoding_to_char
pg_export_snapshot pg_function_is_visible pg_get_constraintdef pg_get_expr pg_get_function_arguments pg_get_function_result pg_get_functiondef
pg_get_indexdef pg_get_keywords pg_get_partkeydef pg_get_ruledef pg_get_serial_sequence pg_get_statisticsobjdef_columns pg_get_triggerdef pg_get_userbyid
pg_get_viewdef pg_has_role pg_indexes_size pg_is_in_recovery pg_ls_dir pg_my_temp_schema pg_logical_slot_get_changes pg_notify pg_options_to_table pg_partition_ancestors pg_read_file pg_relation_size pg_relation_is_publishable pg_reload_conf
pg_sequence_last_value pg_size_pretty pg_sleep pg_stat_get_activity pg_stat_get_numscans pg_table_is_visible pg_table_size pg_terminate_backend
pg_total_relation_size pg_try_advisory_lock pg_type_is_visible pg_typeof pi plainto_tsquery position pow power query_to_xml query_to_xml_and_xmlschema query_to_xmlschema quote_ident
quote_literal quote_nullable random range_merge rank regexp_match regexp_matches regexp_replace regexp_split_to_array regexp_split_to_table
repeat replace reverse right round row_number row_to_json rpad rtrim schema_to_xml session_user set_config setseed setval shobj_description sign similar_to_escape
split_part sqrt starts_with statement_timestamp stddev string_agg string_to_array string_to_table strpos substr substring sum table_to_xml text timezone to_char to_date
to_json to_jsonb to_number to_regclass to_timestamp to_tsquery to_tsvector transaction_timestamp translate trim_array trunc ts_headline ts_rank ts_rewrite ts_stat
txid_current unnest upper upper_inc varchar variance version websearch_to_tsquery width_bucket xmlagg xpath bernoulli system date timestamptz timestamp int4 int8 numeric float8 bool
""".split()
TYPES = """
any anyarray anyelement anynonarray bit bool bpchar bytea char cid cstring date float4 float8 inet int2 int2vector int4 int4range int8 interval json
jsonb jsonpath money name numeric oid oidvector pg_lsn pg_node_tree point record refcursor regclass regconfig regnamespace regoper regoperator regproc regprocedure
regrole regtype text tid time timestamp timestamptz timetz tsquery tsrange tsvector unknown uuid varbit varchar void xid xml aclitem
""".split()
RELATIONS = """
pg_attrdef pg_attribute pg_authid pg_class pg_constraint pg_database pg_depend pg_description pg_enum pg_foreign_server pg_index pg_indexes pg_inherits
pg_largeobject pg_locks pg_namespace pg_proc pg_roles pg_sequence pg_sequences pg_settings pg_shadow pg_stat_activity pg_stat_user_tables pg_statistic
pg_statistic_ext pg_stats pg_subscription pg_tables pg_type pg_user pg_user_mapping pg_user_mappings pg_views pg_hba_file_rules
columns tables schemata key_column_usage table_constraints referential_constraints routines user_mapping_options foreign_server_options
""".split()
OPERATORS = ["+", "-", "*", "/", "%", "=", "<>", "<", "<=", ">", ">=", "||", "~", "!~", "~*", "!~*", "~~", "!~~", "~~*", "!~~*", "->", "->>", "#>",
             "#>>", "@>", "<@", "?", "&&", "@@", "^", "&", "|", "<<", ">>"]
BUILT_IN = 16384


def psql(database, *arguments):
    command = ["psql", "-X", "-v", "ON_ERROR_STOP=1", "-d", database, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def queries():
    text = (HERE.parent / "queries.rs").read_text()
    text = text[text.index("QUERIES:"):]
    for reading, body in re.findall(r'Reading::(\w+),\s*"((?:[^"\\]|\\.|\\\n)*)"', text):
        yield reading, re.sub(r"\\\n\s*", "", body)


def main():
    psql("postgres", "-c", "DROP DATABASE IF EXISTS shop")
    for role in ["app", "analyst", "outsider", "team"]:
        psql("postgres", "-c", f"DROP ROLE IF EXISTS {role}")
    psql("postgres", "-c", "CREATE DATABASE shop")
    psql("shop", "-f", str(HERE / "sample.sql"))
    answers = {}
    for reading, text in queries():
        out = psql("shop", "-At", "-F", "\t", "-P", "null=\\N", "-c", text)
        answers[reading] = [line.split("\t") for line in out.splitlines()]
    relations = {row[0] for row in answers["Relations"] if int(row[0]) >= BUILT_IN or row[2] in RELATIONS}
    types = {row[0] for row in answers["Types"]
             if int(row[0]) >= BUILT_IN or row[2] in TYPES or row[2].startswith("_") and row[2][1:] in TYPES or row[4] in relations}
    functions = {row[0] for row in answers["Functions"] if int(row[0]) >= BUILT_IN or row[2] in FUNCTIONS}
    keep = {
        "Relations": lambda row: row[0] in relations,
        "Columns": lambda row: row[0] in relations,
        "Views": lambda row: row[0] in relations and int(row[0]) >= BUILT_IN,
        "Types": lambda row: row[0] in types,
        "Functions": lambda row: row[0] in functions,
        "Operators": lambda row: row[4] in operators or row[4] in functions,
        "Casts": lambda row: row[1] in types and row[2] in types,
        "Roles": lambda row: not row[1].startswith("pg_") or row[0] in {"6171", "6181", "6182"},
    }
    operators = {row[4] for row in answers["Operators"] if row[1] in OPERATORS and row[2] in types | {"0"} and row[3] in types}
    functions |= operators
    with open(HERE / "rows.tsv", "w") as out:
        for reading, rows in answers.items():
            for row in filter(keep.get(reading, lambda row: True), rows):
                out.write("\t".join([reading, *row]) + "\n")


main()
