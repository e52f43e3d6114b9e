//! Attacks on a session's statements, over the wire and against a real server: what is denied stays denied, whatever is sent in
//! which order, and what is not denied goes on as if nobody had looked.

use serde_json::Value;

use crate::support::pg_wire::*;
use crate::support::*;

/// Everything but `people.ssn`, `sales.secrets`, deleting people, and code of one's own.
const GUARDED: &str = r#"
@id("all") permit (principal, action, resource);
@id("no-ssn") forbid (principal, action in [Action::"sql:Select", Action::"sql:Update"], resource == Table::"wh/analytics.public.people")
  when { context.columns.contains("ssn") };
@id("no-delete") forbid (principal, action == Action::"sql:Delete", resource == Table::"wh/analytics.public.people");
@id("no-secrets") forbid (principal, action, resource == Table::"wh/analytics.sales.secrets");
@id("no-code") forbid (principal, action == Action::"sql:ExecuteCode", resource);
"#;

const SECRETS: [&str; 4] = ["123-45", "678-90", "246-80", "combination"];

/// Nothing that the policies protect is in what a client has read.
#[track_caller]
fn tells_nothing(what: &str, reply: &PgReply) {
    let read: Vec<u8> = reply.frames.iter().flat_map(|frame| frame.body.iter().copied()).collect();
    let read = String::from_utf8_lossy(&read);
    for secret in SECRETS {
        assert!(!read.contains(secret), "{what}: {reply:#?}");
    }
}

/// The one error is a policy's, and its record says so.
async fn denied(house: &Warehouse, what: &str, reply: &PgReply) -> Value {
    let error = reply.errors.first().unwrap_or_else(|| panic!("{what}: not denied: {reply:#?}"));
    assert_eq!(error.sqlstate(), "42501", "{what}: {reply:#?}");
    tells_nothing(what, reply);
    let record = house.inbound.records.of_decision(&error.decision_id()).await;
    assert!(["not_permitted", "forbidden"].contains(&record["outcome"].as_str().unwrap_or_default()), "{record:#}");
    assert_eq!(record["sql"]["sqlstate"], "42501", "{record:#}");
    record
}

async fn all(wire: &mut PgWire, texts: &[&str]) {
    for text in texts {
        wire.query(text).await.ok();
    }
}

// ------------------------------------------------------------------------------------------- what a name means, and when

/// A portal reads what its names meant when it was bound, whatever the path is when it runs.
#[tokio::test]
async fn a_portal_is_judged_by_what_its_names_meant_when_it_was_bound() {
    let world = World::new();
    let house = world.warehouse(GUARDED, "").await;
    let mut wire = house.session().await;
    all(&mut wire, &["CREATE TEMP TABLE people (id int, ssn text)", "INSERT INTO people VALUES (1, 'own')"]).await;
    wire.send([parse("s", "SELECT ssn FROM people ORDER BY id"), sync()].concat()).await;
    wire.reply().await.ok();
    for (what, middle) in [("simple", true), ("extended", false)] {
        wire.query("BEGIN").await.ok();
        wire.query("SET search_path = public, pg_temp").await.ok();
        wire.send([bind("p", "s", &[]), sync()].concat()).await;
        let bound = wire.reply().await;
        if middle {
            wire.query("SET search_path = pg_temp, public").await;
        } else {
            wire.extended("SET search_path = pg_temp, public", &[]).await;
        }
        wire.send([execute("p", 0), sync()].concat()).await;
        let reply = wire.reply().await;
        tells_nothing(what, &reply);
        denied(&house, what, if bound.errors.is_empty() { &reply } else { &bound }).await;
        wire.query("ROLLBACK").await.ok();
    }
    // The other way round it reads its own, and may.
    all(&mut wire, &["BEGIN"]).await;
    wire.send([bind("p", "s", &[]), execute("p", 0), sync()].concat()).await;
    assert_eq!(wire.reply().await.value(), "own");
    house.stop_with([wire]).await;
}

/// The end of one statement's transaction is not the end of what was sent behind it.
#[tokio::test]
async fn what_a_pipelined_transaction_changes_is_asked_again_when_it_is_rolled_back() {
    let world = World::new();
    let house = world.warehouse(GUARDED, "").await;
    let mut wire = house.session().await;
    all(&mut wire, &["CREATE TEMP TABLE people (id int, ssn text)", "SET search_path = public, pg_temp"]).await;
    for end in ["ROLLBACK", "COMMIT"] {
        let set = if end == "COMMIT" { "SET LOCAL" } else { "SET" };
        let begin = format!("BEGIN; {set} search_path = pg_temp, public");
        wire.send([query("SELECT 1"), query(&begin)].concat()).await;
        wire.reply().await.ok();
        assert_eq!(wire.reply().await.status, 'T');
        assert!(wire.query("SELECT ssn FROM people").await.ok().is_empty());
        wire.query(end).await.ok();
        denied(&house, end, &wire.query("SELECT ssn FROM people").await).await;
        // The same by extended messages.
        wire.send(
            [
                parse("", "SELECT 1"),
                bind("", "", &[]),
                execute("", 0),
                sync(),
                parse("", "BEGIN"),
                bind("", "", &[]),
                execute("", 0),
                parse("", &format!("{set} search_path = pg_temp, public")),
                bind("", "", &[]),
                execute("", 0),
                sync(),
            ]
            .concat(),
        )
        .await;
        wire.reply().await.ok();
        assert_eq!(wire.reply().await.status, 'T');
        wire.extended(end, &[]).await.ok();
        denied(&house, end, &wire.extended("SELECT ssn FROM people", &[]).await).await;
    }
    house.stop_with([wire]).await;
}

/// Settings that something with a name of its own changes, so that no text tells.
#[tokio::test]
async fn a_setting_cannot_be_hidden_in_an_object() {
    let world = World::new();
    let house = world.warehouse(GUARDED, "").await;
    for (what, makes, runs) in [
        (
            "a view",
            "CREATE TEMP VIEW hidden AS SELECT set_config('search_path', 'public, pg_temp', false)",
            "SELECT * FROM hidden",
        ),
        (
            "a default",
            "CREATE TEMP TABLE hidden (n int, x text DEFAULT set_config('search_path', 'public, pg_temp', false))",
            "INSERT INTO hidden (n) VALUES (1)",
        ),
        (
            "a check",
            "CREATE TEMP TABLE hidden (n int CHECK (set_config('search_path', 'public, pg_temp', false) <> ''))",
            "INSERT INTO hidden VALUES (1)",
        ),
        (
            "a rule",
            "CREATE TEMP TABLE hidden (n int); CREATE RULE r AS ON INSERT TO hidden DO INSTEAD \
             SELECT set_config('search_path', 'public, pg_temp', false)",
            "INSERT INTO hidden VALUES (1)",
        ),
        (
            "a domain",
            "CREATE DOMAIN hidden AS int CHECK (set_config('search_path', 'public, pg_temp', false) <> '')",
            "SELECT 1::hidden",
        ),
        (
            "a cursor",
            "SELECT 1",
            "BEGIN; DECLARE c CURSOR FOR SELECT set_config('search_path', 'public, pg_temp', false); FETCH c; COMMIT",
        ),
        ("pg_settings", "SELECT 1", "UPDATE pg_settings SET setting = 'public, pg_temp' WHERE name = 'search_path'"),
        (
            "a view of pg_settings",
            "CREATE TEMP VIEW hidden AS SELECT * FROM pg_settings",
            "UPDATE hidden SET setting = 'public, pg_temp' WHERE name = 'search_path'",
        ),
        (
            "a view of a view of pg_settings",
            "CREATE TEMP VIEW inner_one AS SELECT * FROM pg_settings; CREATE TEMP VIEW hidden AS SELECT * FROM inner_one",
            "UPDATE hidden SET setting = 'public, pg_temp' WHERE name = 'search_path'",
        ),
        (
            "a view of pg_settings of the same text",
            "SELECT 1",
            "CREATE TEMP VIEW hidden AS SELECT * FROM pg_settings; \
             UPDATE hidden SET setting = 'public, pg_temp' WHERE name = 'search_path'",
        ),
        (
            "a prepared statement",
            "PREPARE hidden AS SELECT set_config('search_path', $1, false)",
            "EXECUTE hidden('public, pg_temp')",
        ),
    ] {
        let mut wire = house.session().await;
        all(&mut wire, &["SET search_path = pg_temp, public", "CREATE TEMP TABLE people (id int, ssn text)"]).await;
        wire.query(makes).await;
        wire.query(runs).await;
        tells_nothing(what, &wire.query("SELECT ssn FROM people").await);
        // In one pipeline.
        wire.query("RESET search_path; SET search_path = pg_temp, public").await;
        let first = [parse("", runs), bind("", "", &[]), execute("", 0)].concat();
        let second = [parse("", "SELECT ssn FROM people"), bind("", "", &[]), execute("", 0), sync()].concat();
        wire.send([first, second].concat()).await;
        tells_nothing(what, &wire.reply().await);
        wire.terminate().await;
    }
    house.stop().await;
}

/// On the server these are the same name; nobody can tell before it has converted them.
#[tokio::test]
async fn names_that_the_server_converts_do_not_hide_what_they_stand_for() {
    let world = World::new();
    let house = world.warehouse(GUARDED, "").await;
    let mut wire = house.session().await;
    let named = |tag: u8, parts: &[&[u8]], rest: &[u8]| {
        let mut body = Vec::new();
        for part in parts {
            body.extend_from_slice(part);
            body.push(0);
        }
        body.extend_from_slice(rest);
        frame(tag, body)
    };
    wire.query("CREATE TEMP TABLE people (id int, ssn text)").await.ok();
    assert_eq!(wire.query("SET client_encoding = 'LATIN1'").await.error().sqlstate(), "0A000");
    wire.query("SET client_encoding = 'SQL_ASCII'").await;
    // As UTF-8 they are 81 bytes long and the same in the first 63.
    let (one, other) = ([&[0xe9; 40][..], b"a"].concat(), [&[0xe9; 40][..], b"b"].concat());
    wire.try_send(
        [
            named(b'P', &[&one, b"SELECT 'harmless'"], &[0, 0]),
            named(b'C', &[&[b"S", &other[..]].concat()], &[]),
            named(b'P', &[&other, b"SELECT ssn FROM people"], &[0, 0]),
            sync(),
        ]
        .concat(),
    )
    .await;
    let reply = wire.reply().await;
    if reply.status != '-' {
        wire.query("SET search_path = public, pg_temp").await;
        wire.try_send([named(b'B', &[b"", &one], &[0, 0, 0, 0, 0, 0]), execute("", 0), sync()].concat()).await;
        tells_nothing("a name of another encoding", &wire.reply().await);
    } else {
        assert_eq!(reply.errors.last().map(PgError::sqlstate), Some("0A000"), "{reply:#?}");
    }
    // In UTF-8 names of any letters work.
    let mut wire = house.session().await;
    wire.send([parse("größe", "SELECT 'ok'"), bind("größe", "größe", &[]), execute("größe", 0), sync()].concat()).await;
    assert_eq!(wire.reply().await.value(), "ok");
    house.stop_with([wire]).await;
}

#[tokio::test]
async fn strings_are_read_as_the_server_reads_them() {
    let world = World::new();
    let house = world.warehouse(GUARDED, "").await;
    let off = "UPDATE pg_settings SET setting = 'off' WHERE name = 'standard_conforming_strings'";
    let by_view = "UPDATE sales.settings SET setting = 'off' WHERE name = 'standard_conforming_strings'";
    let view = "CREATE VIEW sales.settings AS SELECT * FROM pg_settings; GRANT ALL ON sales.settings TO PUBLIC";
    house.server.sql(view).await;
    let extended = |text: &str| [parse("", text), bind("", "", &[]), execute("", 0)].concat();
    // The one tells without, the other with the backslash as an escape.
    for text in [r"SELECT '\' , ssn FROM people --'", r"SELECT '\'', ssn FROM people --'"] {
        for (what, sent) in [
            ("two Queries in one write", [query(off), query(text)].concat()),
            ("one pipeline", [extended(off), extended(text), sync()].concat()),
            ("a view, in one pipeline", [extended(by_view), extended(text), sync()].concat()),
            ("a view, in two pipelines", [extended(by_view), sync(), extended(text), sync()].concat()),
            ("two pipelines", [extended(off), sync(), extended(text), sync()].concat()),
            ("one text", query(&format!("{off}; {text}"))),
            ("SET", [query("SET standard_conforming_strings = off"), query(text)].concat()),
            (
                "set_config",
                [query("SELECT set_config('standard_conforming_strings', 'off', false)"), query(text)].concat(),
            ),
        ] {
            let mut wire = house.session().await;
            wire.try_send(&sent).await;
            wire.try_send(frame(b'X', b"")).await;
            let reply = wire.rest().await;
            tells_nothing(&format!("{what}: {text}"), &reply);
            assert!(!reply.errors.is_empty(), "{what}: {reply:#?}");
        }
    }
    house.stop().await;
}

// --------------------------------------------------------------------------------------------------- what errors and rows tell

#[tokio::test]
async fn a_broken_constraint_does_not_tell_the_row() {
    let world = World::new();
    let house = world.warehouse(GUARDED, "").await;
    let mut wire = house.session().await;
    let breaks = "UPDATE people SET name = NULL WHERE id = 1";
    let reply = wire.query(breaks).await;
    assert_eq!(reply.error().sqlstate(), "23502");
    tells_nothing("simple", &reply);
    let reply = wire.extended(breaks, &[]).await;
    assert_eq!(reply.error().sqlstate(), "23502");
    tells_nothing("extended", &reply);
    // Behind another transaction that ends first.
    for _ in 0..20 {
        wire.send([query("SELECT 1"), query(breaks), query("SELECT 2")].concat()).await;
        wire.reply().await.ok();
        let reply = wire.reply().await;
        assert_eq!(reply.error().sqlstate(), "23502");
        tells_nothing("piped", &reply);
        wire.reply().await.ok();
    }
    // Who may read the whole row is told.
    let reply = wire.query("INSERT INTO parent (note) VALUES ('x') RETURNING id, note").await;
    assert!(reply.error().detail().contains("Failing row"), "{reply:#?}");
    house.stop_with([wire]).await;
}

/// Longer than what is read ahead.
#[tokio::test]
async fn long_messages_of_the_server_pass() {
    let world = World::new();
    let policies = format!(
        "{GUARDED}@id(\"few\") @max_rows(\"2\") permit (principal, action == Action::\"sql:Select\", resource == \
         Table::\"wh/analytics.public.parent\");\n"
    );
    let house = world.warehouse(&policies, "").await;
    house.server.sql("INSERT INTO parent SELECT g, repeat('x', 1000000) FROM generate_series(10, 11) g").await;
    let mut wire = house.session().await;
    let long = "z".repeat(700_000);
    let reply = wire.query(&format!("SELECT '{long}'::int")).await;
    assert_eq!(reply.error().sqlstate(), "22P02");
    assert!(reply.error().message().len() > 700_000);
    let reply = wire.query("SELECT note FROM ONLY parent WHERE id > 9").await;
    assert_eq!(reply.ok().len(), 2);
    assert_eq!(wire.query("SELECT 1").await.value(), "1");
    house.stop_with([wire]).await;
}

// ------------------------------------------------------------------------------------------------------------ replies in step

#[tokio::test]
async fn an_error_behind_a_setting_leaves_the_session_in_step() {
    let world = World::new();
    let house = world.warehouse(GUARDED, "").await;
    let mut wire = house.session().await;
    for begin in ["SELECT 1", "BEGIN"] {
        wire.query(begin).await.ok();
        let status = if begin == "BEGIN" { 'E' } else { 'I' };
        wire.send(
            [
                parse("", "SET search_path = sales"),
                bind("", "", &[]),
                execute("", 0),
                describe_statement("no such"),
                parse("", "SELECT 1"),
                bind("", "", &[]),
                execute("", 0),
                sync(),
            ]
            .concat(),
        )
        .await;
        let reply = wire.reply().await;
        assert_eq!((reply.error().sqlstate(), reply.status), ("26000", status), "{reply:#?}");
        wire.query("ROLLBACK").await.ok();
        assert_eq!(wire.query("SHOW search_path").await.value(), "\"$user\", public");
    }
    house.stop_with([wire]).await;
}

/// What may run in no transaction block runs behind a setting too: the proxy's own questions are not in its way.
#[tokio::test]
async fn the_proxys_own_questions_open_no_transaction() {
    let world = World::new();
    let house = world.warehouse(GUARDED, "").await;
    let mut wire = house.session().await;
    let extended = |text: &str| [parse("", text), bind("", "", &[]), execute("", 0), sync()].concat();
    wire.send([extended("SET search_path = public"), extended("VACUUM parent"), query("VACUUM parent")].concat()).await;
    wire.reply().await.ok();
    wire.reply().await.ok();
    wire.reply().await.ok();
    // Nor do they take a snapshot.
    wire.query("BEGIN").await.ok();
    wire.query("SET search_path = public, sales").await.ok();
    wire.query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ").await.ok();
    wire.query("SHOW transaction_isolation").await.ok();
    house.server.sql("INSERT INTO parent VALUES (77, 'later')").await;
    assert_eq!(wire.query("SELECT count(*) FROM ONLY parent").await.value(), "2");
    house.server.sql("INSERT INTO parent VALUES (78, 'too late')").await;
    assert_eq!(wire.query("SELECT count(*) FROM ONLY parent").await.value(), "2");
    wire.query("COMMIT").await.ok();
    // Half of a pipeline is not committed by them.
    wire.send(
        [
            parse("", "INSERT INTO parent VALUES (79, 'half')"),
            bind("", "", &[]),
            execute("", 0),
            parse("", "SET search_path = public"),
            bind("", "", &[]),
            execute("", 0),
            parse("", "SELECT 1 / 0"),
            bind("", "", &[]),
            execute("", 0),
            sync(),
        ]
        .concat(),
    )
    .await;
    assert_eq!(wire.reply().await.error().sqlstate(), "22012");
    assert_eq!(house.server.value("SELECT count(*) FROM parent WHERE id = 79").await, "0");
    house.stop_with([wire]).await;
}

#[tokio::test]
async fn a_client_that_says_goodbye_at_once_is_answered_first() {
    let world = World::new();
    let house = world.warehouse(GUARDED, "").await;
    let mut wire = house.session().await;
    let insert = query("INSERT INTO parent SELECT 60, 'said goodbye' FROM pg_sleep(0.3)");
    wire.send([insert, query("SELECT ssn FROM people"), query("SELECT 2"), frame(b'X', b"")].concat()).await;
    let reply = wire.rest().await;
    assert_eq!((reply.tags.len(), reply.errors.len()), (2, 1), "{reply:#?}");
    assert_eq!(house.server.value("SELECT count(*) FROM parent WHERE id = 60").await, "1");
    house.stop().await;
}

#[tokio::test]
async fn ten_thousand_pipelined_messages_have_ten_thousand_answers() {
    let world = World::new();
    let house = world.warehouse(GUARDED, "").await;
    let mut wire = house.session().await;
    let before = house.inbound.resident_bytes();
    wire.send([parse("s", "SELECT name FROM people WHERE id = 1"), sync()].concat()).await;
    wire.reply().await.ok();
    let one = [bind("", "s", &[]), execute("", 0)].concat();
    let asked = [one.repeat(500), describe_statement("s").repeat(9_000)].concat();
    wire.send([asked, parse("", "DELETE FROM people"), one.repeat(10), sync()].concat()).await;
    let reply = wire.reply().await;
    assert_eq!((reply.rows.len(), reply.tags.len()), (500, 500));
    assert_eq!((reply.error().sqlstate(), reply.status), ("42501", 'I'));
    // Nothing but Syncs, whose answers nobody reads for a while.
    wire.send(sync().repeat(20_000)).await;
    for _ in 0..20_000 {
        assert_eq!(wire.read().await.map(|frame| frame.tag), Some(b'Z'));
    }
    assert_eq!(wire.query("SELECT 1").await.value(), "1");
    let grown = house.inbound.resident_bytes().saturating_sub(before);
    assert!(grown < 32 * 1024 * 1024, "{grown} bytes more");
    house.stop_with([wire]).await;
}

/// The catalogue cannot be read for a while: statements are refused, sessions stay.
#[tokio::test]
async fn without_a_catalogue_statements_are_refused_and_sessions_live_on() {
    let world = World::new();
    let house = world.warehouse(GUARDED, "").await;
    let mut wire = house.session().await;
    all(&mut wire, &["BEGIN", "INSERT INTO parent VALUES (61, 'kept')"]).await;
    house.server.sql("ALTER ROLE catalog_role NOLOGIN").await;
    house.server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'catalog_role'").await;
    let refused = async |wire: &mut PgWire| {
        let began = std::time::Instant::now();
        loop {
            let reply = wire.query("SELECT name FROM people").await;
            if !reply.errors.is_empty() {
                return reply;
            }
            assert!(began.elapsed() < DEADLINE, "the catalogue grows old");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    wire.query("SAVEPOINT s").await.ok();
    let reply = refused(&mut wire).await;
    assert_eq!((reply.error().sqlstate(), reply.status), ("0A000", 'E'), "{reply:#?}");
    let record = house.inbound.records.of_decision(&reply.error().decision_id()).await;
    assert_eq!((&record["outcome"], &record["reason"]), (&"refused".into(), &"catalogue".into()), "{record:#}");
    // A transaction can be ended.
    wire.query("ROLLBACK TO s").await.ok();
    assert_eq!(wire.query("COMMIT").await.tags, ["COMMIT"]);
    assert_eq!(house.server.value("SELECT count(*) FROM parent WHERE id = 61").await, "1");
    let reply = wire.extended("SELECT name FROM people", &[]).await;
    assert_eq!((reply.error().sqlstate(), reply.status), ("0A000", 'I'), "{reply:#?}");
    house.server.sql("ALTER ROLE catalog_role LOGIN").await;
    assert_eq!(wire.query("SELECT name FROM people WHERE id = 1").await.value(), "Ada");
    house.stop_with([wire]).await;
}

// ------------------------------------------------------------------------------------------------ denied in every kind of message

#[tokio::test]
async fn a_denial_in_a_pipeline_commits_nothing() {
    let world = World::new();
    let house = world.warehouse(GUARDED, "").await;
    let mut wire = house.session().await;
    let insert = [parse("", "INSERT INTO parent VALUES (70, 'implicit')"), bind("", "", &[]), execute("", 0)].concat();
    let delete = [parse("", "DELETE FROM people"), bind("", "", &[]), execute("", 0)].concat();
    wire.send([&insert[..], &delete, &insert, &sync()].concat()).await;
    let reply = wire.reply().await;
    denied(&house, "Parse", &reply).await;
    assert_eq!((reply.status, reply.tags.len()), ('I', 1), "{reply:#?}");
    // An Execute of what was permitted when it was parsed.
    wire.query("CREATE TEMP TABLE victims (ssn text)").await.ok();
    wire.send([parse("x", "SELECT ssn FROM victims"), sync()].concat()).await;
    wire.reply().await.ok();
    wire.query("BEGIN").await.ok();
    wire.send([insert.clone(), delete.clone(), sync()].concat()).await;
    let reply = wire.reply().await;
    denied(&house, "in a block", &reply).await;
    assert_eq!(reply.status, 'E');
    wire.send([delete.clone(), sync()].concat()).await;
    assert_eq!(wire.reply().await.error().sqlstate(), "25P02");
    assert_eq!(wire.query("COMMIT").await.tags, ["ROLLBACK"]);
    // Two Queries in one write stand for themselves.
    wire.send(
        [query("INSERT INTO parent VALUES (71, 'own')"), query("DELETE FROM people"), query("SELECT 1")].concat(),
    )
    .await;
    wire.reply().await.ok();
    denied(&house, "piped", &wire.reply().await).await;
    assert_eq!(wire.reply().await.value(), "1");
    assert_eq!(house.server.value("SELECT count(*) FROM parent WHERE id = 70").await, "0");
    assert_eq!(house.server.value("SELECT count(*) FROM parent WHERE id = 71").await, "1");
    assert_eq!(house.server.value("SELECT count(*) FROM people").await, "3");
    house.stop_with([wire]).await;
}

#[tokio::test]
async fn copy_is_judged_and_what_comes_with_it_stays_in_step() {
    let world = World::new();
    let house = world.warehouse(GUARDED, "").await;
    let mut wire = house.session().await;
    for what in ["COPY people TO STDOUT", "COPY (SELECT ssn FROM people) TO STDOUT", "COPY sales.secrets FROM STDIN"] {
        denied(&house, what, &wire.query(what).await).await;
        denied(&house, what, &wire.extended(what, &[]).await).await;
    }
    // By extended messages: the server reads no Sync within COPY, so that two are answered by one.
    wire.send(
        [
            parse("", "COPY parent (id, note) FROM STDIN"),
            bind("", "", &[]),
            execute("", 0),
            sync(),
            copy_data("72\tcopied\n"),
            copy_done(),
            sync(),
        ]
        .concat(),
    )
    .await;
    let reply = wire.reply().await;
    assert_eq!(reply.tags, ["COPY 1"], "{reply:#?}");
    assert_eq!(wire.query("SELECT id FROM ONLY parent WHERE id = 72").await.value(), "72");
    // A statement within COPY ends the session, as the server would end it, and runs nothing.
    for within in [query("DELETE FROM people"), parse("", "DELETE FROM people"), query("SELECT ssn FROM people")] {
        let mut wire = house.session().await;
        wire.send([query("COPY parent (id, note) FROM STDIN"), copy_data("73\tx\n"), within, copy_done()].concat())
            .await;
        let reply = wire.rest().await;
        tells_nothing("within COPY", &reply);
        assert_eq!(reply.errors.last().map(PgError::sqlstate), Some("08P01"), "{reply:#?}");
    }
    assert_eq!(house.server.value("SELECT count(*) FROM people").await, "3");
    assert_eq!(house.server.value("SELECT count(*) FROM parent WHERE id = 73").await, "0");
    house.stop_with([wire]).await;
}

#[tokio::test]
async fn a_function_call_is_judged_by_its_name() {
    let world = World::new();
    let policies = format!(
        "{GUARDED}@id(\"no-function\") forbid (principal, action == Action::\"sql:Execute\", resource == \
         Function::\"wh/analytics.public.add_one\");\n"
    );
    let house = world.warehouse(&policies, "").await;
    let oid = |text: String| text.parse::<u32>().expect("is an oid");
    let add_one = oid(house.server.value("SELECT 'add_one(int)'::regprocedure::oid").await);
    let md5 = oid(house.server.value("SELECT 'md5(text)'::regprocedure::oid").await);
    let mut wire = house.session().await;
    let call = |oid: u32, argument: &str| {
        let length = u32::try_from(argument.len()).expect("is short").to_be_bytes();
        let head = [&oid.to_be_bytes()[..], &[0, 0, 0, 1], &length].concat();
        frame(b'F', [&head[..], argument.as_bytes(), &[0, 0]].concat())
    };
    wire.send(call(md5, "ABC")).await;
    let reply = wire.reply().await;
    assert_eq!((reply.kinds().as_str(), reply.errors.len()), ("VZ", 0), "{reply:#?}");
    wire.send(call(add_one, "1")).await;
    denied(&house, "a function", &wire.reply().await).await;
    wire.send(call(4_000_000, "1")).await;
    assert_eq!(wire.reply().await.error().sqlstate(), "42883");
    house.stop_with([wire]).await;
}

#[tokio::test]
async fn sql_and_protocol_share_the_names_of_prepared_statements() {
    let world = World::new();
    let policies = format!(
        "{GUARDED}@id(\"few\") @max_rows(\"1\") permit (principal, action == Action::\"sql:Select\", resource == \
         Table::\"wh/analytics.public.parent\");\n"
    );
    let house = world.warehouse(&policies, "").await;
    house.server.sql("INSERT INTO parent VALUES (80, 'second')").await;
    let mut wire = house.session().await;
    wire.query("PREPARE p AS SELECT name FROM people WHERE id = $1").await.ok();
    wire.send([bind("", "p", &["1"]), execute("", 0), sync()].concat()).await;
    assert_eq!(wire.reply().await.value(), "Ada");
    wire.send([parse("q", "SELECT 'by protocol'"), sync()].concat()).await;
    wire.reply().await.ok();
    assert_eq!(wire.query("EXECUTE q").await.value(), "by protocol");
    denied(&house, "PREPARE", &wire.query("PREPARE r AS SELECT ssn FROM people").await).await;
    assert_eq!(wire.query("EXECUTE r").await.error().sqlstate(), "26000");
    // An EXECUTE that was parsed long ago runs what its name stands for now.
    wire.send([parse("e", "EXECUTE q"), sync()].concat()).await;
    wire.reply().await.ok();
    wire.query("DEALLOCATE q").await.ok();
    assert_eq!(wire.query("PREPARE q AS SELECT id FROM ONLY parent").await.error().sqlstate(), "0A000");
    wire.query("PREPARE q AS SELECT 'another'").await.ok();
    wire.send([bind("", "e", &[]), execute("", 0), sync()].concat()).await;
    assert_eq!(wire.reply().await.value(), "another");
    wire.query("DISCARD ALL").await.ok();
    wire.send([bind("", "p", &["1"]), execute("", 0), sync()].concat()).await;
    assert_eq!(wire.reply().await.error().sqlstate(), "26000");
    house.stop_with([wire]).await;
}

#[tokio::test]
async fn rows_are_bounded_over_a_whole_portal() {
    let world = World::new();
    let policies = format!(
        "{GUARDED}@id(\"few\") @max_rows(\"5\") permit (principal, action, resource == Table::\"wh/analytics.public.parent\");\n"
    );
    let house = world.warehouse(&policies, "").await;
    house.server.sql("INSERT INTO parent SELECT g, 'n' FROM generate_series(100, 199) g").await;
    let mut wire = house.session().await;
    let many = "SELECT id FROM ONLY parent WHERE id >= 100";
    assert_eq!(wire.query(&format!("{many} LIMIT 5")).await.ok().len(), 5);
    let reply = wire.query(many).await;
    assert_eq!((reply.error().sqlstate(), reply.rows.len(), reply.status), ("42501", 5, 'I'), "{reply:#?}");
    wire.query("BEGIN").await.ok();
    wire.send([parse("", many), bind("p", "", &[]), execute("p", 3), sync()].concat()).await;
    assert_eq!(wire.reply().await.ok().len(), 3);
    wire.send([execute("p", 3), sync()].concat()).await;
    let reply = wire.reply().await;
    assert_eq!((reply.error().sqlstate(), reply.rows.len(), reply.status), ("42501", 2, 'E'), "{reply:#?}");
    wire.query("ROLLBACK").await.ok();
    // What writes has written before anybody could count, and what is fetched elsewhere is not counted.
    for text in [
        "INSERT INTO child (id) SELECT id FROM ONLY parent RETURNING id",
        "BEGIN; DECLARE c CURSOR FOR SELECT id FROM ONLY parent",
        "COPY (INSERT INTO child (id) SELECT id FROM ONLY parent RETURNING id) TO STDOUT",
        "CREATE TEMP TABLE copied AS SELECT id FROM ONLY parent",
        "SELECT 1; SELECT id FROM ONLY parent",
    ] {
        let reply = wire.query(text).await;
        assert_eq!(reply.error().sqlstate(), "0A000", "{text}: {reply:#?}");
        assert!(reply.rows.is_empty() && reply.copied.is_empty(), "{text}: {reply:#?}");
    }
    assert_eq!(house.server.value("SELECT count(*) FROM child").await, "1");
    house.stop_with([wire]).await;
}

// -------------------------------------------------------------------------------------------------------- who one is

#[tokio::test]
async fn a_role_is_changed_by_no_spelling_and_resets_go_back_to_what_was_pinned() {
    let world = World::new();
    let policies =
        format!("{GUARDED}@id(\"no-role\") forbid (principal, action == Action::\"sql:SetRole\", resource);\n");
    let house =
        world.warehouse_with(PgPlan::new(), &policies, "role: fixed app_role\ncatalog:\n  user: catalog_role\n").await;
    let mut wire = house.session().await;
    for text in [
        "SET ROLE analyst_role",
        "SET role = analyst_role",
        "SET \"ROLE\" = analyst_role",
        r#"SET U&"\0072ole" = analyst_role"#,
        "SELECT set_config('role', 'analyst_role', false)",
        "SET LOCAL ROLE analyst_role",
        "SET SESSION AUTHORIZATION analyst_role",
    ] {
        denied(&house, text, &wire.query(text).await).await;
        denied(&house, text, &wire.extended(text, &[]).await).await;
        assert_eq!(wire.query("SELECT current_user").await.value(), "app_role", "{text}");
    }
    let id = world.id("app");
    for text in [
        "RESET ALL",
        "RESET ROLE",
        "RESET portcullis.spiffe_id",
        "SET SESSION AUTHORIZATION DEFAULT",
        "SET ROLE NONE",
        "DISCARD ALL",
    ] {
        let reply = wire.query(text).await;
        reply.ok();
        assert_eq!(wire.query("SELECT current_user").await.value(), "app_role", "{text}");
        assert_eq!(wire.query("SHOW portcullis.spiffe_id").await.value(), id, "{text}");
    }
    for text in ["SET portcullis.spiffe_id = 'forged'", "SELECT set_config('portcullis.spiffe_id', 'forged', true)"] {
        let reply = wire.query(text).await;
        assert!(["42501", "0A000"].contains(&reply.error().sqlstate()), "{text}: {reply:#?}");
        assert_eq!(wire.query("SHOW portcullis.spiffe_id").await.value(), id, "{text}");
    }
    house.stop_with([wire]).await;
}

/// Whatever a client writes of poison, only the proxy's own errors are put into other words.
#[tokio::test]
async fn poison_that_a_client_writes_is_the_servers_business() {
    let world = World::new();
    let house = world.warehouse(GUARDED, "").await;
    let mut wire = house.session().await;
    let told = wire.query("SELECT ssn FROM people").await;
    let id = told.error().decision_id();
    for text in [
        format!("SELECT \"portcullis {id} 0123456789abcdef\""),
        format!("SELECT 'portcullis {id} 0123456789abcdef'::int"),
    ] {
        let reply = wire.query(&text).await;
        assert!(["42703", "22P02"].contains(&reply.error().sqlstate()), "{reply:#?}");
    }
    for name in ["portcullis - 0", "portcullis 0123456789abcdef"] {
        wire.send([parse(name, "SELECT 'mine'"), bind(name, name, &[]), execute(name, 0), sync()].concat()).await;
        assert_eq!(wire.reply().await.value(), "mine");
        wire.query("SET search_path = public").await.ok();
        wire.send([bind("", name, &[]), execute("", 0), close_statement(name), sync()].concat()).await;
        assert_eq!(wire.reply().await.value(), "mine");
    }
    house.stop_with([wire]).await;
}

#[tokio::test]
async fn what_is_cut_into_bytes_is_judged_as_a_whole() {
    let world = World::new();
    let house = world.warehouse(GUARDED, "").await;
    let mut wire = house.session().await;
    let sent = [
        query("SELECT name FROM people WHERE id = 1"),
        query("SELECT ssn FROM people"),
        parse("", "DELETE FROM people"),
        bind("", "", &[]),
        execute("", 0),
        sync(),
        query("SELECT 'end'"),
    ]
    .concat();
    for byte in sent {
        wire.send([byte]).await;
    }
    assert_eq!(wire.reply().await.value(), "Ada");
    denied(&house, "Query", &wire.reply().await).await;
    denied(&house, "Parse", &wire.reply().await).await;
    assert_eq!(wire.reply().await.value(), "end");
    house.stop_with([wire]).await;
}

/// What a rolled back savepoint or a chained transaction leaves of the path is what the proxy judges by.
#[tokio::test]
async fn savepoints_and_chains_leave_the_path_that_the_server_has() {
    let world = World::new();
    let house = world.warehouse(GUARDED, "").await;
    let mut wire = house.session().await;
    all(&mut wire, &["CREATE TEMP TABLE people (id int, ssn text)", "SET search_path = public, pg_temp"]).await;
    let own = "SET LOCAL search_path = pg_temp, public";
    for (what, steps) in [
        ("ROLLBACK TO", &["BEGIN", "SAVEPOINT s", own, "ROLLBACK TO s"][..]),
        ("COMMIT AND CHAIN", &["BEGIN", own, "COMMIT AND CHAIN"]),
        ("ROLLBACK AND CHAIN", &["BEGIN", own, "ROLLBACK AND CHAIN"]),
        ("in one text", &["BEGIN; SAVEPOINT s; SET LOCAL search_path = pg_temp, public; ROLLBACK TO s"]),
    ] {
        for extended in [false, true] {
            for step in steps {
                let reply =
                    if extended && steps.len() > 1 { wire.extended(step, &[]).await } else { wire.query(step).await };
                reply.ok();
            }
            let reply = wire.query("SELECT ssn FROM people").await;
            denied(&house, what, &reply).await;
            wire.query("ROLLBACK").await.ok();
        }
    }
    house.stop_with([wire]).await;
}

#[tokio::test]
async fn what_no_parser_takes_is_recorded_without_its_literals() {
    let world = World::new();
    let house = world.warehouse(ALLOW_ALL, "").await;
    let mut wire = house.session().await;
    for (count, text) in (1..).zip(["SELECT 1 'secret'", "SELECT 'secret"]) {
        let answer = wire.query(text).await;
        let error = answer.error();
        assert_eq!(error.sqlstate(), "42601", "{text}: {error:?}");
        assert!(error.message().contains("secret"), "the client is told at what: {error:?}");
        // It has been written before the client hears of it.
        let records = house.inbound.records.all();
        let of_syntax: Vec<_> = records.iter().filter(|record| record["reason"] == "syntax").collect();
        assert_eq!(of_syntax.len(), count, "{records:#?}");
        let record = of_syntax[count - 1];
        assert_eq!(
            (&record["outcome"], &record["sql"]["sqlstate"]),
            (&"refused".into(), &"42601".into()),
            "{record:#}"
        );
        assert!(record["error"].as_str().is_some_and(|error| !error.is_empty()), "{record:#}");
        assert!(!record.to_string().contains("secret"), "{text}: {record:#}");
    }
    house.stop_with([wire]).await;
}
