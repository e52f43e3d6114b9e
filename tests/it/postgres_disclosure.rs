//! What errors of the server tell of rows: only to those who may read them.

use std::collections::BTreeSet;

use crate::support::*;

/// Constraints of every kind, and a trigger that writes elsewhere.
const CONSTRAINTS: &str = "
    CREATE UNIQUE INDEX ON events_2026 (id);
    CREATE TABLE booked (room text, hours int4range, note text, EXCLUDE USING gist (hours WITH &&));
    INSERT INTO booked VALUES ('red', '[1,5)', 'board meeting');
    CREATE TABLE late (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, note text);
    INSERT INTO late VALUES (7, 'seventh');
    CREATE VIEW early AS SELECT id, name FROM people WHERE id < 100 WITH CHECK OPTION;
    CREATE FUNCTION spill() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN INSERT INTO sales.secrets VALUES (1, NULL); RETURN NEW; END';
    CREATE TRIGGER spill BEFORE INSERT ON parent FOR EACH ROW EXECUTE FUNCTION spill();
    CREATE TABLE moody (id int PRIMARY KEY);
    CREATE FUNCTION raise_it() RETURNS trigger LANGUAGE plpgsql AS
        $$BEGIN RAISE unique_violation USING DETAIL = 'raised detail'; END$$;
    CREATE TRIGGER raise_it BEFORE INSERT ON moody FOR EACH ROW EXECUTE FUNCTION raise_it();
    ANALYZE;
";

/// A statement, the SQLSTATE that it ends with, what of a row DETAIL tells, and whole rows of which tables that is told for.
const BROKEN: [(&str, &str, &str, &[&str]); 11] = [
    ("INSERT INTO people VALUES (1, 'New', 'x')", "23505", "Key (id)=(1)", &["public.people"]),
    ("UPDATE people SET name = NULL WHERE id = 1", "23502", "(1, null, 123-45)", &["public.people"]),
    ("INSERT INTO orders VALUES (9, 1, -1)", "23514", "(9, 1, -1, 2026-01-01)", &["public.orders"]),
    ("INSERT INTO orders VALUES (9, 77, 1)", "23503", "(customer)=(77)", &["public.orders"]),
    ("DELETE FROM people WHERE id = 1", "23503", "Key (id)=(1)", &["public.people", "public.orders"]),
    ("UPDATE people SET id = 50 WHERE id = 1", "23503", "Key (id)=(1)", &["public.people", "public.orders"]),
    ("INSERT INTO events VALUES (1, '2030-01-01', 'x')", "23514", "(2030-01-01)", &["public.events"]),
    ("INSERT INTO booked VALUES ('red', '[4,6)')", "23P01", "existing key (hours)=([1,5))", &["public.booked"]),
    ("INSERT INTO late VALUES (7, 'again')", "23505", "Key (id)=(7)", &["public.late"]),
    ("INSERT INTO early VALUES (200, 'Late')", "44000", "(200, Late, null)", &["public.people"]),
    ("INSERT INTO parent VALUES (5, 'x')", "23502", "(1, null)", &["sales.secrets"]),
];

/// All of the tables can be written, and these columns read that statements look rows up by; whole rows of some of them too.
fn policies(whole: &[&str]) -> String {
    let mut policies = only(&whole.iter().map(|table| ("sql:Select", *table)).collect::<Vec<_>>());
    policies.push_str(
        "@id(\"writes\") permit (principal, action in [Action::\"sql:Insert\", Action::\"sql:Update\", \
         Action::\"sql:Delete\", Action::\"sql:Maintain\", Action::\"sql:Create\"], resource);\n\
         @id(\"lookups\") permit (principal, action == Action::\"sql:Select\", resource) \
         when { [\"id\", \"room\", \"day\"].containsAll(context.columns) };\n",
    );
    policies
}

/// Other policies are in force.
async fn change(house: &Warehouse, policies: &str) {
    let before = house.inbound.status().await["policy"]["generation"].clone();
    house.inbound.replace("policies/test.cedar", policies);
    house.inbound.status_with("the next generation", |status| status["policy"]["generation"] != before).await;
}

#[tokio::test]
async fn detail_of_a_broken_constraint_is_for_those_who_may_read_whole_rows() {
    let world = World::new();
    let all: BTreeSet<&str> = BROKEN.iter().flat_map(|broken| broken.3).copied().collect();
    let house = world.warehouse(&policies(&all.iter().copied().collect::<Vec<_>>()), "").await;
    house.server.sql(CONSTRAINTS).await;
    let mut wire = house.session().await;
    for missing in std::iter::once("none").chain(all.iter().copied()) {
        let others: Vec<_> = all.iter().copied().filter(|table| *table != missing).collect();
        change(&house, &format!("// without {missing}\n{}", policies(&others))).await;
        for (sql, sqlstate, told, tables) in BROKEN {
            for reply in [wire.query(sql).await, wire.extended(sql, &[]).await] {
                let (error, without) = (reply.error(), format!("{sql} without {missing}: {reply:#?}"));
                assert_eq!(error.sqlstate(), sqlstate, "{without}");
                if tables.contains(&missing) {
                    assert_eq!(error.detail(), "", "{without}");
                    assert!(!format!("{error:?}").contains(told), "{without}");
                } else {
                    assert!(error.detail().contains(told), "{without}");
                }
            }
        }
    }
    let records = house.inbound.records.all();
    assert!(records.iter().all(|record| record["outcome"] == "allowed"), "nobody asked to read, so no record says so");
    house.stop_with([wire]).await;
}

#[tokio::test]
async fn rows_of_a_partition_are_for_those_who_may_read_it_or_the_whole() {
    let world = World::new();
    let house = world.warehouse(&policies(&[]), "").await;
    house.server.sql(CONSTRAINTS).await;
    let mut wire = house.session().await;
    for (readable, told) in [(&[][..], false), (&["public.events"][..], true), (&["public.events_2026"][..], true)] {
        change(&house, &format!("// {readable:?}\n{}", policies(readable))).await;
        for table in ["events", "events_2026"] {
            let reply = wire.query(&format!("INSERT INTO {table} VALUES (2, '2026-06-01', 'x')")).await;
            assert_eq!(reply.error().sqlstate(), "23505", "{table}: {reply:#?}");
            assert_eq!(
                reply.error().detail().contains("(id)=(2)"),
                told,
                "{table}, {readable:?} can be read: {reply:#?}"
            );
        }
    }
    house.stop_with([wire]).await;
}

#[tokio::test]
async fn detail_is_kept_where_no_table_is_named_or_names_have_changed() {
    let world = World::new();
    let house = world.warehouse(&format!("{}{ALLOW_ALL}", policies(&[])), "").await;
    house.server.sql(CONSTRAINTS).await;
    let mut wire = house.session().await;
    let moody = wire.query("INSERT INTO moody VALUES (1)").await;
    assert_eq!((moody.error().sqlstate(), moody.error().detail()), ("23505", ""), "whose rows it tells nobody knows");

    let reply = wire.query("ALTER TABLE late ADD COLUMN more text; INSERT INTO people VALUES (1, 'a', 'b')").await;
    assert_eq!((reply.error().sqlstate(), reply.error().detail()), ("23505", ""), "{reply:#?}");
    // Sent one after the other, names are asked again between.
    wire.query("BEGIN; ALTER TABLE late ADD COLUMN more text").await.ok();
    let reply = wire.query("INSERT INTO late VALUES (8, 'a', 'b'), (8, 'c', 'd'); SET CONSTRAINTS ALL IMMEDIATE").await;
    assert!(reply.error().detail().contains("Key (id)=(8)"), "{reply:#?}");
    wire.query("ROLLBACK").await.ok();
    // A session's own temporary table.
    wire.query("CREATE TEMP TABLE mine (id int PRIMARY KEY)").await.ok();
    let reply = wire.query("INSERT INTO mine VALUES (3), (3)").await;
    assert!(reply.error().detail().contains("Key (id)=(3)"), "{reply:#?}");
    house.stop_with([wire]).await;
}

#[tokio::test]
async fn detail_at_the_end_of_a_transaction_is_judged_as_within_it() {
    let world = World::new();
    let house = world.warehouse(&policies(&[]), "").await;
    house.server.sql(CONSTRAINTS).await;
    let mut wire = house.session().await;
    for (tables, told) in [(&[][..], ""), (&["public.late"][..], "Key (id)=(7) already exists.")] {
        change(&house, &format!("// {told}\n{}", policies(tables))).await;
        wire.query("BEGIN; INSERT INTO late VALUES (7, 'again')").await.ok();
        let reply = wire.query("COMMIT").await;
        assert_eq!((reply.error().sqlstate(), reply.error().detail()), ("23505", told), "{reply:#?}");
        // By the Sync of an implicit transaction.
        let reply = wire.extended("INSERT INTO late VALUES (7, 'again')", &[]).await;
        assert_eq!((reply.error().sqlstate(), reply.error().detail()), ("23505", told), "{reply:#?}");
    }
    house.stop_with([wire]).await;
}

#[tokio::test]
async fn detail_is_kept_where_only_some_rows_may_be_read() {
    let world = World::new();
    let few = format!(
        "@id(\"few\") @max_rows(\"2\") permit (principal, action == Action::\"sql:Select\", resource == Table::\"{WAREHOUSE}/{DATABASE}.public.people\");\n"
    );
    let house = world.warehouse(&format!("{}{few}", policies(&[])), "").await;
    let mut wire = house.session().await;
    let reply = wire.query("INSERT INTO people VALUES (1, 'New', 'x')").await;
    assert_eq!((reply.error().sqlstate(), reply.error().detail()), ("23505", ""), "a guessed key counts no rows");
    change(&house, &policies(&["public.people"])).await;
    let reply = wire.query("INSERT INTO people VALUES (1, 'New', 'x')").await;
    assert!(reply.error().detail().contains("Key (id)=(1)"), "{reply:#?}");
    house.stop_with([wire]).await;
}
