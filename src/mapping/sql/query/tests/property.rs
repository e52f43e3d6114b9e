//! No text that parses makes the walk panic, whatever is put together.

use proptest::prelude::*;

use super::reads::READS;
use super::writes::WRITES;
use super::*;

fn statement() -> impl Strategy<Value = &'static str> {
    let all: Vec<_> = READS.iter().chain(WRITES).map(|(text, _)| *text).collect();
    prop::sample::select(all)
}

/// Statements in each other, words of one exchanged for words of another.
fn mixed() -> impl Strategy<Value = String> {
    let words = (statement(), statement(), any::<prop::sample::Index>(), any::<prop::sample::Index>());
    let swapped = words.prop_map(|(one, other, at, from)| {
        let mut one: Vec<_> = one.split(' ').collect();
        let other: Vec<_> = other.split(' ').collect();
        let (at, from) = (at.index(one.len()), from.index(other.len()));
        one[at] = other[from];
        one.join(" ")
    });
    prop_oneof![
        swapped,
        (statement(), statement()).prop_map(|(a, b)| format!("WITH cte AS ({a}) {b}")),
        (statement(), statement()).prop_map(|(a, b)| format!("({a}) UNION ({b})")),
        (statement(), statement())
            .prop_map(|(a, b)| format!("SELECT (SELECT * FROM ({a}) x), y.* FROM ({b}) y FOR UPDATE")),
        statement().prop_map(|a| format!("SELECT * FROM people JOIN LATERAL ({a}) x USING (id)")),
        statement().prop_map(|a| format!("INSERT INTO people {a} RETURNING (people).name")),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn no_text_that_parses_panics(text in mixed(), major in 14_u32..=18) {
        thread_local!(static CATALOG: std::cell::RefCell<Catalog> = std::cell::RefCell::new(Catalog::sample()));
        CATALOG.with_borrow_mut(|catalog| {
            catalog.major = major;
            if pg_query::parse(&text, 0).is_ok() {
                drop(walk_with(catalog, None, &text));
            }
        });
    }
}
