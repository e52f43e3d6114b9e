//! How many rows a permitted statement may give back: up to `@max_rows`.

use crate::support::pg_wire::{bind, execute, parse, query, sync};
use crate::support::*;

/// Sessions, writes to `people`, and reads of it up to two rows. It has three.
fn at_most_two() -> String {
    let people = format!("resource == Table::\"{WAREHOUSE}/{DATABASE}.public.people\"");
    let mut policies = only(&[("sql:Insert", "public.people"), ("sql:Update", "public.people")]);
    policies.push_str(&format!(
        "@id(\"few\") @max_rows(\"2\") permit (principal, action == Action::\"sql:Select\", {people});\n"
    ));
    policies
}

#[tokio::test]
async fn no_protocol_gives_more_rows_than_max_rows() {
    let world = World::new();
    let house = world.warehouse(&at_most_two(), "").await;
    let mut wire = house.session().await;
    let (all, two) = ("SELECT ssn FROM people ORDER BY id", "SELECT ssn FROM people WHERE id < 3 ORDER BY id");

    for sql in [two, "TABLE people LIMIT 2", "SELECT count(*) FROM people"] {
        let (simple, extended) = (wire.query(sql).await, wire.extended(sql, &[]).await);
        assert_eq!(simple.ok(), extended.ok(), "{sql}");
    }
    let prepared = |name: &str, sql: &str| [parse(name, sql), bind("", name, &[]), execute("", 0), sync()].concat();
    let in_parts = [parse("", all), bind("", "", &[]), execute("", 1), execute("", 1), execute("", 0), sync()].concat();
    for (how, bytes) in [
        ("simple", query(all)),
        ("extended", prepared("", all)),
        ("prepared", prepared("p", all)),
        ("prepared earlier", [bind("", "p", &[]), execute("", 0), sync()].concat()),
        ("in parts", in_parts),
        ("by SQL", query("PREPARE s AS SELECT ssn FROM people; EXECUTE s")),
        ("of a cursor", query("BEGIN; DECLARE c CURSOR FOR SELECT ssn FROM people; FETCH ALL FROM c; COMMIT")),
        ("of a cursor WITH HOLD", query("DECLARE h CURSOR WITH HOLD FOR SELECT ssn FROM people; FETCH ALL FROM h")),
        ("COPY", query("COPY people TO STDOUT")),
        ("COPY of a query", query("COPY (SELECT ssn FROM people) TO STDOUT")),
        ("one of two", query("SELECT 1; SELECT ssn FROM people")),
        ("into a table", query("CREATE TEMP TABLE taken AS SELECT ssn FROM people")),
    ] {
        wire.send(bytes).await;
        let reply = wire.reply().await;
        let error = reply.errors.first().unwrap_or_else(|| panic!("{how}: {reply:#?}"));
        assert!(["42501", "0A000"].contains(&error.sqlstate()), "{how}: {reply:#?}");
        assert!(reply.rows.len() <= 2, "{how}: {reply:#?}");
        assert!(!format!("{reply:?}").contains("246-80"), "{how}: the third row is kept back: {reply:#?}");
        assert_eq!(reply.status, 'I', "{how}: {reply:#?}");
    }
    house.stop_with([wire]).await;
}

#[tokio::test]
async fn a_statement_that_writes_is_not_begun_under_max_rows() {
    let world = World::new();
    let house = world.warehouse(&at_most_two(), "").await;
    let mut wire = house.session().await;
    let before = house.server.value("SELECT string_agg(p::text, ',' ORDER BY id) FROM people p").await;
    for sql in [
        "INSERT INTO people VALUES (9, 'Nine', 'x') RETURNING ssn",
        "UPDATE people SET name = 'x' WHERE id = 1 RETURNING ssn",
        "WITH w AS (UPDATE people SET name = 'x' RETURNING ssn) SELECT * FROM w",
    ] {
        for reply in [wire.query(sql).await, wire.extended(sql, &[]).await] {
            assert_eq!(reply.error().sqlstate(), "0A000", "{sql}: {reply:#?}");
            assert!(reply.rows.is_empty(), "{sql}: {reply:#?}");
        }
    }
    let after = house.server.value("SELECT string_agg(p::text, ',' ORDER BY id) FROM people p").await;
    assert_eq!(after, before, "nothing was written");
    wire.query("INSERT INTO people VALUES (9, 'Nine', 'x')").await.ok();
    assert_eq!(
        house.server.value("SELECT name FROM people WHERE id = 9").await,
        "Nine",
        "without a read it is no matter of rows"
    );
    house.stop_with([wire]).await;
}
