//! How many rows a permitted statement may give back, and how much a session keeps for its client.

use crate::support::pg_wire::{bind, close_statement, execute, parse, query, sync};
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

/// COPY by the simple protocol, and by the extended one.
async fn copies(wire: &mut PgWire, sql: &str) -> [PgReply; 2] {
    [wire.query(sql).await, wire.extended(sql, &[]).await]
}

#[tokio::test]
async fn copy_gives_no_more_rows_than_max_rows_in_any_format() {
    let world = World::new();
    let house = world.warehouse(&at_most_two(), "").await;
    let mut wire = house.session().await;
    for options in [
        "",
        "(FORMAT text, HEADER)",
        "(FORMAT csv)",
        "CSV HEADER",
        "(FORMAT csv, HEADER false, FORCE_QUOTE *)",
        "(FORMAT binary)",
    ] {
        // As many as allowed pass as they are.
        for from in ["(SELECT name, ssn FROM people WHERE id < 3 ORDER BY id)", "(SELECT ssn FROM people WHERE id > 9)"]
        {
            let sql = format!("COPY {from} TO STDOUT {options}");
            let direct = psql(house.server.address(), "admin_role", &["-c", &sql], "").await;
            for reply in copies(&mut wire, &sql).await {
                reply.ok();
                assert_eq!(reply.status, 'I', "{sql}: {reply:#?}");
                let given = String::from_utf8_lossy(&reply.copied);
                // Its lines are read without `\r`.
                assert_eq!(given.replace("\r", "").trim_end(), direct.stdout.trim_end(), "{sql}");
            }
        }
        for from in ["people", "people (ssn, id)", "(SELECT ssn, name FROM people ORDER BY id)", "(TABLE people)"] {
            let sql = format!("COPY {from} TO STDOUT {options}");
            for reply in copies(&mut wire, &sql).await {
                assert_eq!((reply.error().sqlstate(), reply.status), ("42501", 'I'), "{sql}: {reply:#?}");
                assert!(reply.error().message().ends_with("more than 2 rows"), "{sql}: {reply:#?}");
                let told = format!("{reply:?}");
                assert!(told.contains("123-45") && told.contains("678-90"), "two rows come: {sql}: {reply:#?}");
                assert!(!told.contains("246-80"), "the third is kept back: {sql}: {reply:#?}");
                assert!(!reply.kinds().contains('C'), "{sql}: {reply:#?}");
                let record = house.inbound.records.of_decision(&reply.error().decision_id()).await;
                assert_eq!(
                    (&record["sql"]["sqlstate"], &record["sql"]["rows"]),
                    (&"42501".into(), &2.into()),
                    "{record:#}"
                );
            }
        }
    }
    house.stop_with([wire]).await;
}

#[tokio::test]
async fn copy_that_is_cut_short_leaves_the_transaction_failed_and_the_session_in_step() {
    let world = World::new();
    let server = PgPlan::new().setting("log_min_messages", "error");
    let house = world.warehouse_with(server, &at_most_two(), AS_ADMIN).await;
    let mut wire = house.session().await;
    for piped in [false, true] {
        wire.query("BEGIN").await.ok();
        wire.query("UPDATE people SET name = 'changed'").await.ok();
        let copy = "COPY people (ssn) TO STDOUT";
        if piped {
            let behind =
                [parse("", "UPDATE people SET name = 'behind'"), bind("", "", &[]), execute("", 0), sync()].concat();
            wire.send([parse("", copy), bind("", "", &[]), execute("", 0), behind].concat()).await;
        } else {
            wire.send(query(copy)).await;
        }
        let reply = wire.reply().await;
        assert_eq!((reply.error().sqlstate(), reply.status), ("42501", 'E'), "{reply:#?}");
        assert_eq!(wire.query("SELECT 1").await.error().sqlstate(), "25P02");
        wire.query("ROLLBACK").await.ok();
        assert_eq!(wire.query("SELECT 1").await.value(), "1", "no cancel strikes what comes next");
    }
    assert_eq!(house.server.value("SELECT name FROM people WHERE id = 1").await, "Ada");
    // It would give gigabytes: the server is told to stop.
    let gigabytes = "COPY (SELECT repeat(ssn, 1000) FROM people, generate_series(1, 1000000) ORDER BY id) TO STDOUT";
    for reply in copies(&mut wire, gigabytes).await {
        assert_eq!((reply.error().sqlstate(), reply.status), ("42501", 'I'), "{reply:#?}");
    }
    let log = house.server.log();
    let canceled = log.iter().filter(|line| line.contains("canceling statement due to user request"));
    assert!(canceled.count() >= 2, "{log:#?}");
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
        "COPY (UPDATE people SET name = 'x' RETURNING ssn) TO STDOUT",
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

#[tokio::test]
async fn prepared_statements_are_bounded_in_number_and_in_bytes() {
    let world = World::new();
    let house = world.warehouse(ALLOW_ALL, "").await;
    let mut wire = house.session().await;
    let full = |what: &str, reply: &PgReply, hint: &str| {
        let error = reply.errors.first().unwrap_or_else(|| panic!("{what}: {reply:#?}"));
        assert_eq!(error.sqlstate(), "53400", "{what}: {reply:#?}");
        assert!(error.message().starts_with("too many ") && error.field('H').contains(hint), "{what}: {error:?}");
        error.decision_id()
    };
    for part in 0..10 {
        let parses = (0..1_000).map(|number| parse(&format!("p{part}-{number}"), "SELECT $1::int"));
        wire.send([parses.collect::<Vec<_>>().concat(), sync()].concat()).await;
        wire.reply().await.ok();
    }
    wire.send([parse("more", "SELECT 1"), sync()].concat()).await;
    let id = full("Parse", &wire.reply().await, "DEALLOCATE ALL");
    let record = house.inbound.records.of_decision(&id).await;
    assert_eq!(record["reason"], "too-many-prepared-statements", "{record:#}");
    full("PREPARE", &wire.query("PREPARE more AS SELECT 1").await, "DEALLOCATE ALL");
    full("PREPARE by Execute", &wire.extended("PREPARE more AS SELECT 1", &[]).await, "DEALLOCATE ALL");
    assert_eq!(wire.extended("SELECT $1", &["unnamed"]).await.value(), "unnamed");
    // What is closed is room for others, and none of those that were refused is there.
    wire.send(
        [close_statement("p0-0"), parse("more", "SELECT 'more'"), bind("", "more", &[]), execute("", 0), sync()]
            .concat(),
    )
    .await;
    assert_eq!(wire.reply().await.value(), "more");
    wire.query("DEALLOCATE ALL").await.ok();
    wire.query("PREPARE q AS SELECT 'q'").await.ok();
    assert_eq!(wire.query("EXECUTE q").await.value(), "q");

    let long = format!("SELECT 1 /* {} */", "x".repeat(1_000_000));
    let mut kept = 0;
    let refused = loop {
        wire.send([parse(&format!("long{kept}"), &long), sync()].concat()).await;
        let reply = wire.reply().await;
        if !reply.errors.is_empty() {
            break reply;
        }
        kept += 1;
        assert!(kept < 40, "texts of 1 MB are kept without end");
    };
    full("long texts", &refused, "DEALLOCATE ALL");
    assert!(kept > 10, "{kept} were kept");
    house.stop_with([wire]).await;
}

#[tokio::test]
async fn portals_and_cursors_are_bounded_and_go_with_their_transaction() {
    let world = World::new();
    let house = world.warehouse(ALLOW_ALL, "").await;
    let mut wire = house.session().await;
    wire.query("BEGIN").await.ok();
    wire.send([parse("one", "SELECT 1"), sync()].concat()).await;
    wire.reply().await.ok();
    for part in 0..10 {
        let binds = (0..1_000).map(|number| bind(&format!("p{part}-{number}"), "one", &[]));
        wire.send([binds.collect::<Vec<_>>().concat(), sync()].concat()).await;
        wire.reply().await.ok();
    }
    wire.send([bind("more", "one", &[]), sync()].concat()).await;
    let reply = wire.reply().await;
    assert_eq!((reply.error().sqlstate(), reply.status), ("53400", 'E'), "{reply:#?}");
    assert!(reply.error().field('H').contains("end the transaction"), "{reply:#?}");
    wire.query("ROLLBACK").await.ok();
    wire.query("BEGIN").await.ok();
    wire.send([bind("more", "one", &[]), execute("more", 0), sync()].concat()).await;
    assert_eq!(wire.reply().await.value(), "1", "the others went with their transaction");
    wire.query("COMMIT").await.ok();

    wire.query("BEGIN; DECLARE goes CURSOR FOR SELECT 1; DECLARE stays CURSOR WITH HOLD FOR SELECT 2; COMMIT")
        .await
        .ok();
    assert_eq!(wire.query("FETCH stays").await.value(), "2");
    assert_eq!(wire.query("FETCH goes").await.error().sqlstate(), "34000");
    house.stop_with([wire]).await;
}

#[tokio::test]
async fn a_portal_is_read_in_parts_and_each_part_is_decided() {
    let world = World::new();
    let house = world.warehouse(&only(&[("sql:Select", "public.people")]), "").await;
    let mut wire = house.session().await;
    wire.query("BEGIN").await.ok();
    let all = "SELECT id FROM people ORDER BY id";
    wire.send([parse("", all), bind("p", "", &[]), bind("q", "", &[]), execute("p", 2), sync()].concat()).await;
    let reply = wire.reply().await;
    assert_eq!((reply.ok().len(), reply.kinds().as_str()), (2, "122DDsZ"), "suspended: {reply:#?}");
    wire.send([execute("p", 2), execute("q", 1), sync()].concat()).await;
    let reply = wire.reply().await;
    assert_eq!((reply.ok().len(), reply.kinds().as_str()), (2, "DCDsZ"), "the one ends, the other goes on: {reply:#?}");
    wire.query("DECLARE c CURSOR FOR SELECT id FROM people ORDER BY id").await.ok();
    assert_eq!(wire.query("FETCH 2 FROM c").await.ok().len(), 2);

    house.inbound.replace("policies/test.cedar", &only(&[]));
    house.inbound.status_with("the second generation", |status| status["policy"]["generation"] == 2).await;
    wire.query("SAVEPOINT s").await.ok();
    assert_eq!(wire.query("FETCH 1 FROM c").await.error().sqlstate(), "42501");
    wire.query("ROLLBACK TO s").await.ok();
    wire.send([execute("q", 1), sync()].concat()).await;
    let reply = wire.reply().await;
    assert_eq!((reply.error().sqlstate(), reply.rows.len(), reply.status), ("42501", 0, 'E'), "{reply:#?}");
    house.stop_with([wire]).await;
}

#[tokio::test]
async fn do_is_refused_as_what_cannot_be_judged_and_call_is_denied() {
    let world = World::new();
    let house = world.warehouse(&only(&[]), "").await;
    let mut wire = house.session().await;
    let texts = ["DO $$BEGIN DELETE FROM events; END$$", "CALL log_event(9, 'called')"];
    for (sql, sqlstate) in texts.into_iter().zip(["0A000", "42501"]) {
        for reply in copies(&mut wire, sql).await {
            assert_eq!((reply.error().sqlstate(), reply.status), (sqlstate, 'I'), "{sql}: {reply:#?}");
        }
    }
    assert_eq!(house.server.value("SELECT count(*) FROM events").await, "2", "neither ran");
    house.inbound.replace("policies/test.cedar", ALLOW_ALL);
    house.inbound.status_with("the second generation", |status| status["policy"]["generation"] == 2).await;
    for sql in ["CALL log_event(9, 'called')", "DO $$BEGIN DELETE FROM events WHERE id < 9; END$$"] {
        wire.query(sql).await.ok();
    }
    assert_eq!(house.server.value("SELECT string_agg(what, ',') FROM events").await, "called");
    house.stop_with([wire]).await;
}
