use std::sync::Arc;

use super::*;

fn named(catalog: &Catalog, schema: &str, name: &str) -> Arc<Relation> {
    Arc::clone(&catalog.relations[&catalog.schemas[schema].relations[name]])
}

fn names(catalog: &Catalog, oids: &[u32]) -> Vec<String> {
    oids.iter().map(|oid| format!("{}.{}", catalog.relations[oid].schema, catalog.relations[oid].name)).collect()
}

fn fingerprint(built_in: &str, foreign: &str) -> Fingerprint {
    Fingerprint { built_in: built_in.into(), foreign: foreign.into() }
}

/// All queries about what did not come with the server.
fn all() -> Vec<&'static Asked> {
    Part::Foreign.queries().iter().collect()
}

fn in_parts() -> Catalog {
    let (built_in, foreign) = (testing::rows_of(Part::BuiltIn), testing::rows_of(Part::Foreign));
    Catalog::build_parts(built_in, foreign, fingerprint("1", "1")).unwrap()
}

fn base(catalog: &Catalog, view: &str) -> Vec<String> {
    let view = named(catalog, "public", view);
    let mut base: Vec<String> = view
        .base
        .iter()
        .map(|(oid, column)| {
            let relation = &catalog.relations[oid];
            let column = column.as_ref().map(|column| format!(".{column}")).unwrap_or_default();
            format!("{}.{}{column}", relation.schema, relation.name)
        })
        .collect();
    base.sort();
    base
}

#[test]
fn a_database_knows_its_name_and_version() {
    let catalog = Catalog::sample();
    assert_eq!((&*catalog.database, catalog.major), ("shop", 15));
    assert_ne!(Catalog::sample().generation, catalog.generation);
}

#[test]
fn columns_are_in_order_and_a_generated_one_tells_what_it_reads() {
    let catalog = Catalog::sample();
    let columns = |table| -> Vec<Arc<str>> {
        named(&catalog, "public", table).columns.iter().map(|column| Arc::clone(&column.name)).collect()
    };
    assert_eq!(columns("people").join(","), "id,name,ssn");
    assert_eq!(columns("generated").join(","), "first,second,hidden,joined");
    let generated = named(&catalog, "public", "generated");
    assert_eq!(generated.columns[3].generated_from.join(","), "first,second");
    assert!(generated.columns[0].generated_from.is_empty());
}

#[test]
fn a_partition_has_what_it_is_part_of_nearest_first() {
    let catalog = Catalog::sample();
    let part = named(&catalog, "public", "events_1a");
    assert_eq!(names(&catalog, &part.partition_of), ["public.events_1", "public.events"]);
    assert!(named(&catalog, "public", "events").inherited_by.is_empty(), "partitions are no plain children");
}

#[test]
fn a_parent_has_all_generations_of_its_children() {
    let catalog = Catalog::sample();
    let parent = named(&catalog, "public", "parent");
    assert_eq!(names(&catalog, &parent.inherited_by), ["public.child", "public.grandchild"]);
    assert!(parent.partition_of.is_empty());
}

#[test]
fn a_view_reads_columns_through_other_views() {
    let catalog = Catalog::sample();
    assert_eq!(base(&catalog, "names"), ["public.people.id", "public.people.name"]);
    assert_eq!(
        base(&catalog, "names_again"),
        ["public.names.name", "public.people.id", "public.people.name", "sales.orders.total"]
    );
    assert_eq!(base(&catalog, "totals"), ["sales.orders.customer", "sales.orders.total"]);
}

#[test]
fn a_view_of_whole_rows_reads_all_columns_though_the_server_notes_only_one() {
    let all = ["public.people.id", "public.people.name", "public.people.ssn"];
    assert_eq!(base(&Catalog::sample(), "whole"), all);
}

#[test]
fn a_view_on_a_parent_reads_its_children() {
    assert_eq!(
        base(&Catalog::sample(), "parents"),
        ["public.child.shared", "public.grandchild.shared", "public.parent.shared"]
    );
}

#[test]
fn truncate_cascade_reaches_who_references() {
    let catalog = Catalog::sample();
    assert_eq!(names(&catalog, &named(&catalog, "public", "people").referenced_by), ["public.orders"]);
    assert!(named(&catalog, "public", "orders").referenced_by.is_empty());
}

#[test]
fn functions_know_how_many_arguments_they_take() {
    let catalog = Catalog::sample();
    let one = |name: &str| catalog.schemas["public"].functions[name][0].clone();
    assert_eq!((one("add").arguments_least, one("add").arguments_most), (1, Some(2)));
    assert_eq!((one("many").arguments_least, one("many").arguments_most), (0, None));
    assert_eq!(one("pair").output_names.join(","), "a,B");
    assert_eq!(one("close_month").kind, FunctionKind::Procedure);
}

#[test]
fn only_casts_of_somebody_are_kept() {
    let catalog = Catalog::sample();
    let mood = catalog.schemas["public"].types["mood"];
    let [cast] = &*catalog.foreign_casts else { panic!("{:?}", catalog.foreign_casts) };
    assert_eq!((cast.source, cast.target, cast.implicit), (23, mood, true));
    assert_eq!(cast.function, Some(("public".into(), "mood_of".into())));
}

#[test]
fn domains_arrays_and_composite_types_know_what_they_are_made_of() {
    let catalog = Catalog::sample();
    let of = |name: &str| Arc::clone(&catalog.types[&catalog.schemas["public"].types[name]]);
    assert_eq!((of("positive").kind, of("positive").inner), ('d', 23));
    assert_eq!(of("_mood").inner, of("mood").oid);
    assert_eq!(of("place").relation, named(&catalog, "public", "place").oid);
    assert_eq!(of("people").oid, named(&catalog, "public", "people").row_type);
}

#[test]
fn roles_have_the_privileges_that_they_inherit() {
    let catalog = Catalog::sample();
    let team = catalog.roles["team"].oid;
    assert!(catalog.roles["analyst"].privileges_of.contains(&team));
    assert!(!catalog.roles["outsider"].privileges_of.contains(&team), "NOINHERIT");
    assert!(catalog.roles["postgres"].privileges_of.contains(&6171), "the owner of the database");
    assert_eq!(catalog.schemas["public"].usage, Usage::Everyone);
    assert_eq!(catalog.schemas["app"].usage, Usage::Only(vec![catalog.roles["app"].oid]));
}

#[test]
fn an_old_or_unknown_server_makes_no_catalogue() {
    assert_eq!(Catalog::build(&CatalogRows::default()).unwrap_err(), CatalogError::NoDatabase);
    for (version, major) in [("130004", 13), ("190000", 19)] {
        let mut rows = CatalogRows::default();
        rows.push(Reading::Database, &[Some("shop"), Some("10"), Some(version)]).unwrap();
        assert_eq!(Catalog::build(&rows).unwrap_err(), CatalogError::Version(major));
    }
}

#[test]
fn in_parts_or_at_once_a_catalogue_says_the_same() {
    let (whole, parts) = (Catalog::sample(), in_parts());
    assert_eq!(parts.said(), whole.said());
    let again = parts.built_over(testing::rows_of(Part::Foreign), &all(), fingerprint("1", "2")).unwrap().unwrap();
    assert_eq!(again.said(), whole.said());
    let of = |catalog: &Catalog| Arc::as_ptr(catalog.built_in().unwrap());
    assert!(of(&again) == of(&parts) && again.generation != parts.generation);
}

#[test]
fn only_what_has_changed_is_asked_again_and_the_rest_is_as_it_was() {
    let parts = |changed: &str| {
        let tables = ["attrdef", "attribute", "cast", "class", "constraint", "depend", "inherits", "operator", "proc"];
        let tables = tables.into_iter().chain(["rewrite", "type", "auth_members", "namespace", "database", "roles"]);
        let all: Vec<_> = tables.map(|table| if changed.contains(table) { "1:2" } else { "1:1" }).collect();
        fingerprint("1", &all.join("/"))
    };
    let (built_in, foreign) = (testing::rows_of(Part::BuiltIn), testing::rows_of(Part::Foreign));
    let before = Catalog::build_parts(built_in, foreign, parts("")).unwrap();
    let asked = |now: &Fingerprint| -> Vec<Reading> {
        before.changed(now).unwrap().iter().map(|(reading, _)| *reading).collect()
    };
    assert_eq!(asked(&parts("")), []);
    assert_eq!(asked(&parts("proc")), [Reading::Functions]);
    assert_eq!(asked(&parts("depend")), [Reading::Generated, Reading::Views]);
    assert_eq!(asked(&parts("attrdef")), [Reading::Generated]);
    assert_eq!(asked(&parts("namespace")), [Reading::Schemas, Reading::Usage]);
    assert_eq!(asked(&fingerprint("1", "1:1")).len(), Catalog::QUERIES.len(), "not known by table");
    let now = parts("class attribute");
    let queries = before.changed(&now).unwrap();
    let mut rows = testing::rows_of(Part::Foreign);
    rows.columns.iter_mut().find(|column| &*column.name == "ssn").unwrap().name = "number".into();
    (rows.functions, rows.roles, rows.types) = Default::default();
    let after = before.built_over(rows, &queries, now).unwrap().unwrap();
    assert_eq!(&*named(&after, "public", "people").columns[2].name, "number");
    assert_eq!(after.types, before.types);
    assert_eq!(after.roles, before.roles);
    assert_eq!(after.schemas["public"].functions, before.schemas["public"].functions);
}

#[test]
fn what_came_with_the_server_is_not_taken_for_another_one() {
    let parts = in_parts();
    let again = |change: &dyn Fn(&mut CatalogRows), built_in| {
        let mut rows = testing::rows_of(Part::Foreign);
        change(&mut rows);
        parts.built_over(rows, &all(), fingerprint(built_in, "2")).unwrap().is_some()
    };
    let pg_catalog =
        |rows: &mut CatalogRows| rows.schemas.iter().position(|schema| &*schema.name == "pg_catalog").unwrap();
    assert!(again(&|_| (), "1"));
    assert!(!again(&|_| (), "2"), "another fingerprint");
    assert!(!again(&|rows| rows.usage.retain(|(schema, _)| *schema != 11), "1"), "other privileges");
    assert!(
        !again(
            &|rows| {
                let at = pg_catalog(rows);
                rows.schemas[at].name = "other".into()
            },
            "1"
        ),
        "another name"
    );
    assert!(!again(&|rows| rows.inheritance.push((20_000, 1259)), "1"), "a child of a table of the server's");
    assert!(!again(&|rows| rows.foreign_keys.push((20_000, 1259)), "1"), "a reference to one");
}

#[test]
fn parts_that_are_tied_together_are_put_together_as_one() {
    let mut foreign = testing::rows_of(Part::Foreign);
    let child = foreign.relations.iter().find(|relation| &*relation.name == "people").unwrap().oid;
    foreign.inheritance.push((child, 1259));
    let catalog = Catalog::build_parts(testing::rows_of(Part::BuiltIn), foreign, fingerprint("1", "1")).unwrap();
    assert_eq!(catalog.relations[&1259].inherited_by, [child]);
    assert!(catalog.built_in().is_none());
    assert!(catalog.built_over(testing::rows_of(Part::Foreign), &all(), fingerprint("1", "1")).unwrap().is_none());
}

#[test]
fn a_view_reads_through_views_that_came_with_the_server() {
    let mut rows = testing::rows_of(Part::BuiltIn);
    let view = rows.relations.iter().find(|relation| &*relation.name == "pg_tables").unwrap().oid;
    rows.push(Reading::Views, &[Some(&view.to_string()), Some("1259"), Some("2"), Some("f")]).unwrap();
    let mut foreign = testing::rows_of(Part::Foreign);
    let names = foreign.relations.iter().find(|relation| &*relation.name == "totals").unwrap().oid;
    foreign.push(Reading::Views, &[Some(&names.to_string()), Some(&view.to_string()), Some("1"), Some("f")]).unwrap();
    let catalog = Catalog::build_parts(rows, foreign, fingerprint("1", "1")).unwrap();
    assert_eq!(
        base(&catalog, "totals"),
        [
            "pg_catalog.pg_class.relname",
            "pg_catalog.pg_tables.schemaname",
            "sales.orders.customer",
            "sales.orders.total"
        ]
    );
}

#[test]
fn an_unknown_fingerprint_is_never_still_the_same() {
    assert!(fingerprint("1", "2").is_still(&fingerprint("1", "2")));
    assert!(!fingerprint("1", "2").is_still(&fingerprint("1", "3")));
    assert!(!fingerprint("1", "").is_still(&fingerprint("1", "")));
}

#[test]
fn a_row_of_another_shape_is_an_error() {
    let mut rows = CatalogRows::default();
    let push = |rows: &mut CatalogRows, values: &[Option<&str>]| rows.push(Reading::ForeignKeys, values).unwrap_err();
    assert_eq!(push(&mut rows, &[Some("1")]), RowError::Missing { reading: Reading::ForeignKeys, column: 1 });
    assert_eq!(push(&mut rows, &[None, None]), RowError::Malformed { reading: Reading::ForeignKeys, column: 0 });
}
