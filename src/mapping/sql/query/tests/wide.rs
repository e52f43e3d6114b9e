//! Texts that are short and mean much: the work for them is bounded.

use std::time::{Duration, Instant};

use super::*;
use crate::mapping::sql::STACK;
use crate::mapping::sql::catalog::{Column, Relation};

/// The sample, where `people` has this many columns more.
fn with_columns(more: usize) -> Catalog {
    let mut catalog = Catalog::sample();
    let oid = catalog.schemas["public"].relations["people"];
    let mut people = Relation::clone(&catalog.relations[&oid]);
    let column = |n: usize| Column { name: format!("c{n}").into(), type_oid: 25, generated_from: Vec::new() };
    people.columns.extend((0..more).map(column));
    catalog.relations.insert(oid, people.into());
    catalog
}

#[test]
fn a_query_returns_as_many_columns_as_the_server_lets_it() {
    let doubled = |times: usize| {
        let steps: String = (1..times).map(|n| format!(", c{n} AS (SELECT * FROM c{0} a, c{0} b)", n - 1)).collect();
        asks(&Catalog::sample(), &format!("WITH c0 AS (SELECT * FROM people){steps} SELECT 1"))
    };
    assert_eq!(doubled(10), "sql:Select public.people[id,name,ssn]", "1,536 columns");
    // Each step has twice the columns of the one before: 60 of them would not fit into any memory.
    assert_eq!(doubled(11), "54011 too-many-columns", "3,072 columns");
    assert_eq!(doubled(60), "54011 too-many-columns");
    let stars = |n: usize| asks(&Catalog::sample(), &format!("SELECT {} FROM people", vec!["*"; n].join(",")));
    assert_eq!(stars(554), "sql:Select public.people[id,name,ssn]", "1,662 columns");
    assert_eq!(stars(555), "54011 too-many-columns", "1,665 columns");
}

#[test]
fn wide_tables_are_joined_and_named_often_in_little_time() {
    let catalog = with_columns(1_000);
    let joins: String = (0..300).map(|n| format!(" JOIN people p{n} ON p{n}.id = p.id")).collect();
    let using: String = (0..300).map(|n| format!(" JOIN people p{n} USING (id)")).collect();
    for text in [
        format!("SELECT 1 FROM people p{joins}"),
        format!("SELECT 1 FROM people p{using}"),
        format!("SELECT 1 FROM people p WHERE true{}", " AND p IS NULL".repeat(3_000)),
        format!("SELECT 1 FROM people p WHERE true{}", " AND p.id = 1".repeat(3_000)),
    ] {
        let bytes = text.len();
        let started = Instant::now();
        let asked = std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().stack_size(STACK);
            thread.spawn_scoped(scope, || asks(&catalog, &text)).unwrap().join().unwrap()
        });
        assert!(asked.starts_with("sql:Select public.people["), "{bytes} bytes: {asked}");
        // Unoptimised and on a busy machine; copying the columns at each join took minutes.
        assert!(started.elapsed() < Duration::from_secs(60), "{bytes} bytes: {:?}", started.elapsed());
    }
}
