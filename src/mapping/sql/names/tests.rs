use proptest::prelude::*;

use super::super::catalog::testing::{facts, facts_with};
use super::super::catalog::{Column, RelationKind};
use super::super::introspection::{is_introspection_relation, protected_columns};
use super::*;

fn found(names: &Names<'_>, schema: &str, name: &str) -> String {
    match names.relation("", schema, name) {
        Ok(relation) => format!("{}.{}", relation.schema, relation.name),
        Err(refusal) => format!("{} {}", refusal.sqlstate, refusal.message),
    }
}

fn relation(schema: &str, name: &str) -> Relation {
    let column = Column { name: "id".into(), type_oid: 23, generated_from: Vec::new() };
    Relation {
        oid: 0,
        schema: schema.into(),
        name: name.into(),
        kind: RelationKind::Table,
        columns: vec![column],
        partition_of: Vec::new(),
        inherited_by: Vec::new(),
        base: Vec::new(),
        as_caller: Vec::new(),
        referenced_by: Vec::new(),
        row_type: 0,
    }
}

fn nature(name: &[&str], arguments: usize) -> Nature {
    let (catalog, facts) = (Catalog::sample(), facts());
    Names::new("wh", &catalog, &facts).call(name, arguments).unwrap().nature
}

fn executed(call: &Call) -> Vec<String> {
    let mut all: Vec<_> = call.candidates.iter().map(|one| format!("{}.{}", one.schema, one.name)).collect();
    all.sort();
    all.dedup();
    all
}

#[test]
fn relations_are_found_along_the_path() {
    let catalog = Catalog::sample();
    for (path, name, expected) in [
        (&["$user", "public"][..], "orders", "public.orders"),
        (&["sales", "public"], "orders", "sales.orders"),
        (&["no_such_schema", "sales"], "orders", "sales.orders"),
        (&["sales"], "people", "42P01 relation \"people\" does not exist"),
        (&[], "pg_class", "pg_catalog.pg_class"),
        (&["public"], "pg_class", "pg_catalog.pg_class"),
    ] {
        let facts = facts_with(path);
        assert_eq!(found(&Names::new("wh", &catalog, &facts), "", name), expected, "{path:?}");
    }
}

#[test]
fn a_schema_that_the_role_may_not_use_is_skipped() {
    let catalog = Catalog::sample();
    let mut facts = facts_with(&["hidden", "public"]);
    let mut found_as = |role: &str| {
        facts.role = role.into();
        found(&Names::new("wh", &catalog, &facts), "", "people")
    };
    assert_eq!(found_as("analyst"), "hidden.people", "a member of team");
    assert_eq!(found_as("outsider"), "public.people", "a member that does not inherit");
    assert_eq!(found_as("postgres"), "hidden.people", "a superuser");
    assert_eq!(
        found_as("nobody"),
        "0A000 role \"nobody\" is not in the catalogue, so that its search path is not known"
    );
}

#[test]
fn the_users_own_schema_is_the_one_of_the_current_role() {
    let catalog = Catalog::sample();
    let mut facts = facts();
    assert_eq!(
        found(&Names::new("wh", &catalog, &facts), "", "settings"),
        "42P01 relation \"settings\" does not exist"
    );
    facts.role = "app".into();
    let names = Names::new("wh", &catalog, &facts);
    assert_eq!(found(&names, "", "settings"), "app.settings");
    assert_eq!(names.schema_for_creation(), Some("app"));
}

#[test]
fn temporary_relations_come_first_unless_the_path_says_where() {
    let catalog = Catalog::sample();
    let mut facts = facts_with(&["public"]);
    facts.temp_schema = Some("pg_temp_3".into());
    let mut names = Names::new("wh", &catalog, &facts);
    names.create(relation("pg_temp_3", "people"));
    names.create(relation("pg_temp_3", "pg_class"));
    assert_eq!(found(&names, "", "people"), "pg_temp_3.people");
    assert_eq!(found(&names, "", "pg_class"), "pg_temp_3.pg_class", "before pg_catalog");
    assert_eq!(found(&names, "pg_temp", "people"), "pg_temp_3.people");
    names.set_search_path(vec!["public".into(), "pg_temp".into()]);
    assert_eq!(found(&names, "", "people"), "public.people");
    assert_eq!(found(&names, "", "pg_class"), "pg_catalog.pg_class");
    names.set_search_path(vec!["pg_temp".into()]);
    assert_eq!(names.schema_for_creation(), Some("pg_temp_3"));
}

#[test]
fn functions_are_never_found_in_the_temporary_schema_unless_it_is_written() {
    let catalog = Catalog::sample();
    let mut facts = facts_with(&["pg_temp", "public"]);
    facts.temp_schema = Some("pg_temp_3".into());
    let mut names = Names::new("wh", &catalog, &facts);
    let leak = catalog.schemas["public"].functions["leak"][0].clone();
    names.create_function("pg_temp", "own", leak);
    assert_eq!(names.call(&["own"], 1).unwrap().nature, Nature::Unknown);
    assert_eq!(executed(&names.call(&["pg_temp", "own"], 1).unwrap()), ["pg_temp_3.own"]);
}

#[test]
fn what_the_text_creates_is_found_in_the_rest_of_it() {
    let (catalog, facts) = (Catalog::sample(), facts_with(&["later", "public"]));
    let mut names = Names::new("wh", &catalog, &facts);
    assert_eq!(names.schema_for_creation(), Some("public"));
    names.create_schema("later");
    assert_eq!(names.schema_for_creation(), Some("later"));
    names.create(relation("later", "people"));
    let new = names.relation("", "", "people").unwrap();
    assert_eq!((&*new.schema, names.by_oid(new.oid).is_some()), ("later", true));
    assert_eq!(names.type_named(&["people"]).unwrap().known.relation, new.oid);
}

#[test]
fn names_that_mean_nothing_are_refused_in_the_servers_words() {
    let (catalog, facts) = (Catalog::sample(), facts());
    let names = Names::new("wh", &catalog, &facts);
    let told = |refusal: SqlRefusal| format!("{} {} {}", refusal.sqlstate, refusal.message, refusal.stale);
    assert_eq!(told(names.relation("", "sales", "x").unwrap_err()), "42P01 relation \"sales.x\" does not exist true");
    assert_eq!(
        told(names.relation("other", "public", "people").unwrap_err()),
        "0A000 cross-database references are not implemented: \"other.public.people\" false"
    );
    assert_eq!(names.relation("shop", "public", "people").unwrap().oid, names.relation("", "", "people").unwrap().oid);
    assert_eq!(told(names.call(&["nosuch", "f"], 0).unwrap_err()), "3F000 schema \"nosuch\" does not exist true");
    assert_eq!(told(names.type_named(&["nosuch"]).unwrap_err()), "42704 type \"nosuch\" does not exist true");
    assert_eq!(names.call(&["nosuch"], 0).unwrap().nature, Nature::Unknown);
    assert_eq!(names.operator(&["<=!=>"]).unwrap().nature, Nature::Unknown);
}

#[test]
fn built_in_functions_are_what_the_lists_say() {
    use Nature::*;
    for (name, arguments, expected) in [
        ("lower", 1, Harmless),
        ("count", 0, Harmless),
        ("now", 0, Harmless),
        ("current_setting", 1, Harmless),
        ("timezone", 2, Harmless),
        ("overlay", 3, Harmless),
        ("pg_collation_for", 1, Harmless),
        ("like_escape", 2, Harmless),
        ("json_agg", 1, Harmless),
        ("string_agg", 2, Harmless),
        ("percentile_cont", 2, Harmless),
        ("format_type", 2, Introspects),
        ("pg_get_viewdef", 1, Introspects),
        ("pg_table_is_visible", 1, Introspects),
        ("has_table_privilege", 2, Introspects),
        ("current_schemas", 1, Introspects),
        ("pg_total_relation_size", 1, Introspects),
        ("pg_stat_get_numscans", 1, Introspects),
        ("pg_stat_get_activity", 1, Executes),
        ("pg_read_file", 1, Executes),
        ("pg_terminate_backend", 1, Executes),
        ("pg_logical_slot_get_changes", 3, Executes),
        ("pg_sequence_last_value", 1, Executes),
        ("lo_export", 2, Executes),
        ("pg_sleep", 1, Executes),
        ("query_to_xml", 4, ExecutesText),
        ("table_to_xml", 4, ExecutesText),
        ("database_to_xml", 3, ExecutesText),
        ("cursor_to_xml", 5, ExecutesText),
        ("ts_stat", 1, ExecutesText),
        ("ts_rewrite", 2, ExecutesText),
        ("ts_rewrite", 3, Harmless),
        ("currtid2", 2, ExecutesText),
        ("set_config", 3, Setting),
        ("nextval", 1, Sequence),
        ("lastval", 0, Executes),
        ("lo_get", 1, LargeObject),
        ("loread", 2, LargeObject),
        ("pg_advisory_xact_lock", 1, AdvisoryLock),
        ("pg_try_advisory_lock", 2, AdvisoryLock),
        ("pg_notify", 2, Notify),
        ("upper", 1, Executes),
        ("leak", 1, Executes),
    ] {
        assert_eq!(nature(&[name], arguments), expected, "{name}");
        if !matches!(name, "leak" | "upper") {
            assert_eq!(nature(&["pg_catalog", name], arguments), expected, "pg_catalog.{name}");
        }
    }
}

#[test]
fn a_function_of_somebody_on_the_path_takes_the_harmlessness_away() {
    let catalog = Catalog::sample();
    let call = |path: &[&str], name: &[&str]| {
        let facts = facts_with(path);
        let call = Names::new("wh", &catalog, &facts).call(name, 1).unwrap();
        (call.nature, executed(&call))
    };
    let nothing: Vec<String> = Vec::new();
    assert_eq!(call(&["public"], &["lower"]), (Nature::Harmless, nothing.clone()));
    assert_eq!(call(&["pg_catalog", "hijack"], &["lower"]), (Nature::Executes, vec!["hijack.lower".into()]));
    assert_eq!(call(&["hijack"], &["pg_catalog", "lower"]), (Nature::Harmless, nothing));
}

#[test]
fn an_operator_of_somebody_on_the_path_takes_the_harmlessness_away() {
    let catalog = Catalog::sample();
    let operator = |path: &[&str], name: &[&str]| {
        let facts = facts_with(path);
        let call = Names::new("wh", &catalog, &facts).operator(name).unwrap();
        (call.nature, executed(&call))
    };
    assert_eq!(operator(&["public"], &["="]).0, Nature::Harmless);
    assert_eq!(operator(&["hijack"], &["="]), (Nature::Executes, vec!["public.varchar_same".into()]));
    assert_eq!(operator(&["hijack"], &["pg_catalog", "="]).0, Nature::Harmless);
    assert_eq!(operator(&["public"], &["==="]), (Nature::Executes, vec!["public.text_same".into()]));
    assert_eq!(operator(&["sales"], &["public", "==="]).0, Nature::Executes);
}

#[test]
fn a_cast_to_a_type_of_somebody_may_call_its_function() {
    let (catalog, facts) = (Catalog::sample(), facts());
    let names = Names::new("wh", &catalog, &facts);
    let cast = |name: &str| executed(&names.cast_to(&names.type_named(&[name]).unwrap()));
    assert_eq!(cast("mood"), ["public.mood_of"]);
    assert_eq!(cast("_mood"), ["public.mood_of"]);
    assert!(cast("int4").is_empty());
    let mood = names.type_named(&["public", "mood"]).unwrap();
    assert_eq!(executed(&names.implicit_casts(mood.oid)), ["public.mood_of"], "storing an int4 casts it");
    assert!(mood.literal_matters() && !mood.is_reg());
    let regclass = names.type_named(&["pg_catalog", "regclass"]).unwrap();
    assert!(regclass.literal_matters() && regclass.is_reg() && regclass.is_built_in());
    assert!(!names.type_named(&["int4"]).unwrap().literal_matters());
}

#[test]
fn introspection_is_the_catalogue_without_data_and_secrets() {
    let (catalog, facts) = (Catalog::sample(), facts());
    let names = Names::new("wh", &catalog, &facts);
    let is = |schema: &str, name: &str| is_introspection_relation(&names.relation("", schema, name).unwrap());
    for name in
        ["pg_class", "pg_attribute", "pg_statistic_ext", "pg_settings", "pg_roles", "pg_stat_activity", "pg_sequences"]
    {
        assert!(is("pg_catalog", name), "{name}");
    }
    for name in [
        "pg_stats",
        "pg_statistic",
        "pg_authid",
        "pg_shadow",
        "pg_user_mapping",
        "pg_user_mappings",
        "pg_subscription",
        "pg_largeobject",
        "pg_hba_file_rules",
    ] {
        assert!(!is("pg_catalog", name), "{name}");
    }
    assert!(is("information_schema", "columns"));
    assert!(!is("information_schema", "user_mapping_options") && !is("public", "people"));
    let activity = names.relation("", "", "pg_stat_activity").unwrap();
    assert_eq!(protected_columns(&activity), ["query"]);
}

#[test]
fn search_paths_are_read_as_the_server_reads_them() {
    let read = |text: &str| parse_search_path(text).map(|names| names.join("|"));
    assert_eq!(read("\"$user\", public").as_deref(), Some("$user|public"));
    assert_eq!(read("  A ,\"B c\"\t, \"d\"\"e\" ").as_deref(), Some("a|B c|d\"e"));
    assert_eq!(read("$user").as_deref(), Some("$user"));
    assert_eq!(read("\"a,b\"").as_deref(), Some("a,b"));
    assert_eq!(read("").as_deref(), Some(""));
    assert_eq!(read("\"\"").as_deref(), Some(""));
    for malformed in ["a,", ",a", "a b", "\"a", "a,,b", "\"a\"b"] {
        assert_eq!(read(malformed), None, "{malformed}");
    }
}

proptest! {
    #[test]
    fn a_name_is_cut_at_63_bytes_and_never_within_a_character(name in ".{0,90}") {
        let short = cut(&name);
        prop_assert!(name.starts_with(short) && short.len() <= 63);
        prop_assert!(short.len() == name.len() || short.len() > 63 - 4);
        prop_assert_eq!(cut(short), short);
    }

    #[test]
    fn quoted_names_of_a_path_come_back_as_they_were(names in proptest::collection::vec("[^\\x00]{0,20}", 1..5)) {
        let written: Vec<String> = names.iter().map(|name| format!("\"{}\"", name.replace('"', "\"\""))).collect();
        let read = parse_search_path(&written.join(", ")).unwrap();
        let expected: Vec<Box<str>> = names.iter().map(|name| cut(name).into()).collect();
        prop_assert_eq!(read, expected);
    }
}
