//! Casts that nobody has written: what they call is asked. Each denied to a role without EXECUTE on PostgreSQL 15.

use super::*;
use crate::mapping::sql::catalog::Cast;

/// The sample with a way back: a mood becomes a number wherever one is wanted.
fn catalog() -> Catalog {
    let mut catalog = Catalog::sample();
    let mood = catalog.schemas["public"].types["mood"];
    let function = Some(("public".into(), "add".into()));
    catalog.foreign_casts.push(Cast { source: mood, target: 23, function, implicit: true });
    catalog
}

fn asks_the_cast(text: &str) -> bool {
    asks(&catalog(), text).contains("sql:Execute public.add()")
}

#[test]
fn a_value_of_somebodys_type_is_cast_wherever_something_is_done_with_it() {
    for text in [
        "SELECT feels + 1 FROM feelings",
        "SELECT coalesce(CASE WHEN true THEN feels END, NULL) + 1 FROM feelings",
        "SELECT (ARRAY[feels])[1] + 1 FROM feelings",
        "SELECT (ARRAY(SELECT feels FROM feelings))[1] + 1",
        "SELECT ('{}'::mood[])[1] + 1",
        "SELECT m + 1 FROM (SELECT feels AS m FROM feelings) s",
        "SELECT person FROM feelings f JOIN (SELECT 1 AS feels) s USING (feels)",
        "SELECT mood_of(1) + 1",
    ] {
        assert!(asks_the_cast(text), "{text}: {}", asks(&catalog(), text));
    }
}

#[test]
fn what_is_only_passed_on_is_not_cast() {
    for text in [
        "SELECT feels FROM feelings",
        "SELECT 1 + 1, 'a' || 'b', (ARRAY[1])[1] + 1, coalesce(NULL, 1) + 1",
        "SELECT key FROM jsonb_each('{}')",
        "SELECT ('{a}'::text[])[1] || 'b'",
        "SELECT id FROM people JOIN (SELECT 1 AS id) s USING (id)",
    ] {
        assert!(!asks_the_cast(text), "{text}: {}", asks(&catalog(), text));
    }
}

#[test]
fn what_a_merge_inserts_is_cast_to_the_columns_type() {
    let merge = |value: &str| {
        let text =
            format!("MERGE INTO feelings USING orders ON false WHEN NOT MATCHED THEN INSERT (feels) VALUES ({value})");
        asks(&Catalog::sample(), &text).contains("sql:Execute public.mood_of()")
    };
    assert!(merge("orders.id") && merge("1"));
    assert!(!merge("'ok'") && !merge("DEFAULT"));
}
