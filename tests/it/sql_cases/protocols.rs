//! Texts that nobody wrote: by either protocol they ask the same, or are refused alike.

use std::fmt::Write as _;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use super::case::{self, Protocol};
use super::records::asked;
use super::{USER, Warehouse};
use crate::support::ALLOW_ALL;

const TEXTS: usize = 160;

/// Words of one text of the table exchanged for words of another, or one text put into another.
fn texts() -> impl Strategy<Value = String> {
    let queries = ["SELECT", "WITH", "TABLE", "VALUES"];
    let begins = |text: &str, words: &[&str]| words.iter().any(|word| text.starts_with(word));
    let plain = case::all().into_iter().filter(|case| {
        let bare = case.only.is_none() && case.first.is_empty() && case.options.is_none() && !case.alone;
        bare && !case.text.contains(';')
    });
    let plain: Vec<String> = plain.map(|case| case.text).collect();
    let reads: Vec<String> = plain.iter().filter(|text| begins(text, &queries)).cloned().collect();
    let all: Vec<String> = plain
        .into_iter()
        .filter(|text| begins(text, &[&queries[..], &["INSERT", "UPDATE", "DELETE"]].concat()))
        .collect();
    assert!(reads.len() > 50 && all.len() > reads.len(), "the table is read");
    let (read, one) = (move || prop::sample::select(reads.clone()), prop::sample::select(all));
    let places = (any::<prop::sample::Index>(), any::<prop::sample::Index>());
    let swapped = (one.clone(), one.clone(), places).prop_map(|(one, other, (at, from))| {
        let mut one: Vec<_> = one.split(' ').collect();
        let other: Vec<_> = other.split(' ').collect();
        let (at, from) = (at.index(one.len()), from.index(other.len()));
        one[at] = other[from];
        one.join(" ")
    });
    prop_oneof![
        2 => swapped,
        1 => one,
        1 => (read(), read()).prop_map(|(one, other)| format!("WITH one AS ({one}) {other}")),
        1 => read().prop_map(|one| format!("SELECT one, count(*) FROM ({one}) one GROUP BY 1")),
        1 => read().prop_map(|one| format!("EXPLAIN {one}")),
        1 => read().prop_map(|one| format!("CREATE TEMP TABLE made AS {one}")),
    ]
}

#[tokio::test]
async fn texts_that_nobody_wrote_ask_the_same_by_both_protocols() {
    let warehouse = Warehouse::start(ALLOW_ALL).await;
    let (mut tail, mut runner, texts) = (warehouse.tail(), TestRunner::deterministic(), texts());
    let (mut wrong, mut compared, mut refused) = (String::new(), 0, 0);
    for _ in 0..TEXTS {
        let text = texts.new_tree(&mut runner).expect("none is filtered out").current();
        let mut both = Vec::new();
        for protocol in [Protocol::Simple, Protocol::Extended] {
            let mut session = warehouse.session_as(USER, Some("-c statement_timeout=2s")).await;
            session.run("BEGIN", Protocol::Simple).await;
            let _before = tail.statements();
            let came = session.run(&text, protocol).await;
            let records = tail.statements();
            let is_refused = records.iter().any(|record| record["outcome"] == "refused");
            both.push((is_refused, came.code().to_owned(), asked(&records)));
        }
        let [simple, extended] = both.as_slice() else { unreachable!("two protocols") };
        // What fails in the server's analysis has been asked about as a query, and is never executed as a prepared statement.
        let alike = match simple.0 || extended.0 {
            true => (simple.0, &simple.1) == (extended.0, &extended.1),
            false if simple.1.is_empty() => simple == extended,
            false => simple.1 == extended.1 && (extended.2.is_empty() || simple.2 == extended.2),
        };
        compared += usize::from(!simple.0 && simple.1.is_empty());
        refused += usize::from(simple.0);
        if !alike {
            let _ = writeln!(wrong, "`{text}`\n    simple {simple:?}\n    extended {extended:?}");
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    assert!(compared > TEXTS / 4 && refused > 5, "{compared} ran, {refused} were refused: too few to tell");
}
