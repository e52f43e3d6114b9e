//! What a table of texts cannot say: DETAIL of constraint errors, and definitions by somebody else between two statements.

use std::time::{Duration, Instant};

use super::case::Protocol;
use super::records::asked;
use super::wire::Session;
use super::{USER, Warehouse};
use crate::support::*;

const BOTH: [Protocol; 2] = [Protocol::Simple, Protocol::Extended];

/// Statements that the server fails with an error of class 23 whose DETAIL tells of a row.
const BROKEN: [(&str, &str); 6] = [
    ("UPDATE people SET name = NULL", "23502"),
    ("UPDATE people SET name = NULL WHERE id = 1", "23502"),
    ("UPDATE people SET id = 2 WHERE id = 1", "23505"),
    ("INSERT INTO people (id, name) VALUES (1, 'x')", "23505"),
    ("WITH u AS (UPDATE people SET name = NULL RETURNING id) SELECT count(*) FROM u", "23502"),
    ("MERGE INTO people p USING keyed k ON p.id = k.id WHEN MATCHED THEN UPDATE SET name = NULL", "23502"),
];

/// Everything may be done, and one column not be read.
const ONE_COLUMN_HIDDEN: &str = r#"
    @id("all") permit (principal, action, resource);
    @id("no-ssn") forbid (principal, action == Action::"sql:Select", resource) when { context.columns.contains("ssn") };
"#;

#[tokio::test]
async fn detail_of_a_constraint_error_does_not_show_what_may_not_be_read() {
    let warehouse = Warehouse::start(ONE_COLUMN_HIDDEN).await;
    let mut direct = warehouse.direct().await;
    let mut session = warehouse.session_as(USER, None).await;
    for (text, code) in BROKEN {
        for protocol in BOTH {
            let shown = direct.run(text, protocol).await.error.expect(text);
            assert_eq!((shown.code.as_str(), shown.detail.is_empty()), (code, false), "{text}: {shown:?}");
            let fault = session.run(text, protocol).await.error.expect(text);
            assert_eq!((fault.code, fault.message), (shown.code, shown.message), "{text}");
            assert_eq!(fault.detail, "", "{text}");
        }
    }
}

#[tokio::test]
async fn detail_of_a_constraint_error_is_shown_to_who_may_read_the_whole_row() {
    let warehouse = Warehouse::start(ALLOW_ALL).await;
    let mut direct = warehouse.direct().await;
    let mut session = warehouse.session_as(USER, None).await;
    for (text, _) in BROKEN {
        for protocol in BOTH {
            let shown = direct.run(text, protocol).await.error.expect(text);
            let fault = session.run(text, protocol).await.error.expect(text);
            assert_eq!((fault.code, fault.detail), (shown.code, shown.detail), "{text}");
        }
    }
}

/// Two tables change places: the same text means something else.
const SWAP: &str = "BEGIN; ALTER TABLE public.orders RENAME TO orders_before; ALTER TABLE sales.secrets SET SCHEMA public; \
                    ALTER TABLE public.secrets RENAME TO orders; COMMIT";

async fn columns(session: &mut Session, tail: &mut super::Tail, protocol: Protocol) -> (Vec<String>, usize) {
    let _before = tail.statements();
    let came = session.run("SELECT * FROM public.orders", protocol).await;
    let mut asked = asked(&tail.statements());
    let one = asked.pop_first().unwrap_or_else(|| panic!("nothing asked: {came:?}"));
    assert!(asked.is_empty() && one.resource == "public.orders", "{one:?} {asked:?}");
    let width = came.rows.first().map_or(0, Vec::len);
    (one.columns.into_iter().flatten().collect(), width)
}

/// After `limit` whatever is judged is judged by what it means now. What is sent before may be judged by what it meant: the race
/// that the documentation admits.
async fn follows_within(limit: Duration, catalog_max_age: &str) {
    let warehouse = Warehouse::start_with(ALLOW_ALL, &format!("catalog_max_age: {catalog_max_age}\n")).await;
    let (mut direct, mut tail) = (warehouse.direct().await, warehouse.tail());
    let mut session = warehouse.session_as(USER, None).await;
    let (before, width) = columns(&mut session, &mut tail, Protocol::Extended).await;
    assert_eq!((before.as_slice(), width), (["amount", "customer", "day", "id"].map(str::to_owned).as_slice(), 4));
    let came = direct.run(SWAP, Protocol::Simple).await;
    assert!(came.error.is_none(), "{came:?}");
    let since = Instant::now();
    for turn in 0.. {
        let late = since.elapsed();
        let (now, width) = columns(&mut session, &mut tail, BOTH[turn % 2]).await;
        assert_eq!(width, 2);
        if now == ["k", "v"] {
            break;
        }
        assert_eq!(now, before);
        assert!(late < limit, "judged by the old name {late:?} after the change");
    }
}

#[tokio::test]
async fn a_table_that_somebody_else_renames_is_judged_by_its_new_name_after_catalog_max_age() {
    follows_within(Duration::from_millis(1100), "1s").await;
    follows_within(Duration::from_millis(60), "0s").await;
}
