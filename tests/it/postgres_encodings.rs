//! Texts that the judge and the server could read in two ways: other encodings, quotes and backslashes, NUL, and paths that something else
//! than the text sets.

use crate::support::pg_wire::*;
use crate::support::*;

const GUARDED: &str = r#"
@id("all") permit (principal, action, resource);
@id("no-ssn") forbid (principal, action in [Action::"sql:Select", Action::"sql:Update"], resource == Table::"wh/analytics.public.people")
  when { context.columns.contains("ssn") };
@id("no-code") forbid (principal, action == Action::"sql:ExecuteCode", resource);
"#;

#[track_caller]
fn tells_nothing(what: &str, reply: &PgReply) {
    let read = format!("{reply:?}");
    for secret in ["123-45", "678-90", "246-80"] {
        assert!(!read.contains(secret), "{what}: {reply:#?}");
    }
}

fn raw_query(bytes: &[u8]) -> Vec<u8> {
    frame(b'Q', [bytes, b"\0"].concat())
}

fn raw_parse(bytes: &[u8]) -> Vec<u8> {
    frame(b'P', [b"\0", bytes, b"\0\0\0"].concat())
}

/// Bytes whose second is a quote or a backslash in one encoding and part of a letter in another.
const TEXTS: [&[u8]; 6] = [
    b"SELECT '\xbf\x5c' , ssn FROM people --'",
    b"SELECT '\xbf\x27 , ssn FROM people --'",
    b"SELECT E'\xbf\x5c' , ssn FROM people --'",
    b"SELECT E'\x95\x5c' , ssn FROM people --'",
    b"SELECT \"\x81\x22 , ssn FROM people --\"",
    b"SELECT 'x\xc0\xa7 , ssn FROM people --'",
];

#[tokio::test]
async fn no_encoding_hides_where_a_string_ends() {
    let world = World::new();
    let house = world.warehouse(GUARDED, "").await;
    for encoding in
        ["GBK", "BIG5", "SJIS", "GB18030", "UHC", "JOHAB", "EUC_JP", "LATIN1", "WIN1252", "SQL_ASCII", "UTF8"]
    {
        for (how, set) in [
            ("SET", format!("SET client_encoding = '{encoding}'")),
            ("SET NAMES", format!("SET NAMES '{encoding}'")),
            ("set_config", format!("SELECT set_config('client_encoding', '{encoding}', false)")),
            (
                "UPDATE pg_settings",
                format!("UPDATE pg_settings SET setting = '{encoding}' WHERE name = 'client_encoding'"),
            ),
        ] {
            let what = format!("{how} {encoding}");
            let mut wire = house.session().await;
            // In one write: nobody has seen the outcome when the text comes.
            let mut sent = query(&set);
            for text in TEXTS {
                sent.extend(raw_query(text));
                sent.extend([raw_parse(text), bind("", "", &[]), execute("", 0), sync()].concat());
            }
            wire.try_send([sent, frame(b'X', b"")].concat()).await;
            let reply = wire.rest().await;
            tells_nothing(&what, &reply);
            assert!(
                reply.errors.len() >= TEXTS.len() || !reply.errors.is_empty() && reply.status == '-',
                "{what}: {reply:#?}"
            );
        }
    }
    // At login.
    for (name, value) in
        [("client_encoding", "GBK"), ("client_encoding", "SJIS"), ("options", "-c client_encoding=GBK")]
    {
        let mut wire = PgWire::plain(house.address()).await;
        let begun = wire.login(&[("user", "admin_role"), ("database", DATABASE), (name, value)]).await;
        if begun.is_ok() {
            for text in TEXTS {
                wire.try_send(raw_query(text)).await;
            }
            wire.try_send(frame(b'X', b"")).await;
            tells_nothing(value, &wire.rest().await);
        }
    }
    // ASCII and UTF-8 mean the same to all.
    let mut wire = house.session().await;
    assert_eq!(wire.query("SELECT 'größer' || name FROM people WHERE id = 1").await.value(), "größerAda");
    house.stop_with([wire]).await;
}

#[tokio::test]
async fn what_is_no_text_is_refused_and_the_session_or_the_protocol_ends_in_order() {
    let world = World::new();
    let house = world.warehouse(GUARDED, "").await;
    let mut wire = house.session().await;
    for (what, bytes) in [
        ("a byte that begins nothing", &b"SELECT '\xff'"[..]),
        ("a letter that is cut", b"SELECT '\xe2\x82'"),
        ("a long form of a quote", b"SELECT '\xc0\xa7'"),
        ("half of a pair", b"SELECT '\xed\xa0\x80'"),
        ("beyond Unicode", b"SELECT '\xf4\x90\x80\x80'"),
    ] {
        for sent in [raw_query(bytes), [raw_parse(bytes), bind("", "", &[]), execute("", 0), sync()].concat()] {
            wire.send(sent).await;
            let reply = wire.reply().await;
            assert_eq!((reply.error().sqlstate(), reply.status), ("0A000", 'I'), "{what}: {reply:#?}");
            let record = house.inbound.records.of_decision(&reply.error().decision_id()).await;
            assert_eq!((&record["outcome"], &record["reason"]), (&"refused".into(), &"encoding".into()), "{record:#}");
        }
    }
    assert_eq!(wire.query("SELECT '€'").await.value(), "€");
    for bytes in [&b"SELECT 1\0, ssn FROM people"[..], b"\0SELECT ssn FROM people", b"SELECT 1;\0\0"] {
        let mut wire = house.session().await;
        wire.try_send([raw_query(bytes), query("SELECT 'next'")].concat()).await;
        let reply = wire.rest().await;
        assert_eq!(reply.errors.last().map(PgError::sqlstate), Some("08P01"), "{reply:#?}");
        tells_nothing("NUL", &reply);
        assert!(reply.rows.is_empty(), "{reply:#?}");
    }
    house.stop_with([wire]).await;
}

/// The quotes and comments of PostgreSQL's lexer, read by its own lexer: what follows a string is no part of it.
#[tokio::test]
async fn strings_and_comments_end_where_the_server_ends_them() {
    let world = World::new();
    let house = world.warehouse(GUARDED, "").await;
    let mut wire = house.session().await;
    for setting in ["off", "on", "safe_encoding"] {
        wire.query(&format!("SET backslash_quote = {setting}; SET escape_string_warning = off")).await;
        for text in [
            r"SELECT E'\'', ssn FROM people --'",
            r"SELECT E'\\', ssn FROM people --'",
            r"SELECT '\', ssn FROM people --'",
            "SELECT 'a'\n'b', ssn FROM people",
            "SELECT 'a' --\n'b', ssn FROM people",
            "SELECT 1 /* /* */ , '*/' */, ssn FROM people",
            "SELECT 1 -- '\r, ssn FROM people --'",
            "SELECT 1 -- '\u{b}\n, ssn FROM people",
            "SELECT $a$ $b$ $a$, ssn FROM people --$a$",
            "SELECT $$'$$, ssn FROM people --'",
            r"SELECT U&'\0027', ssn FROM people --'",
            r"SELECT U&'!0027' UESCAPE '!', ssn FROM people --'",
            r#"SELECT 1 AS "'", ssn FROM people --'"#,
            r#"SELECT U&"\0073sn" FROM people"#,
            r#"SELECT U&"!0073sn" UESCAPE '!' FROM people"#,
            "SELECT N'x', ssn FROM people",
            "SELECT B'1', X'1', ssn FROM people",
            "SELECT 1 AS a\u{a0}, ssn FROM people",
            "SELECT SSN FROM PEOPLE",
            "SELECT \"ssn\" FROM \"people\"",
        ] {
            for reply in [wire.query(text).await, wire.extended(text, &[]).await] {
                tells_nothing(text, &reply);
                assert!(!reply.errors.is_empty(), "{text}: {reply:#?}");
            }
        }
        for (text, value) in [
            (r"SELECT '\, ssn FROM people --'", r"\, ssn FROM people --"),
            ("SELECT $$ ssn FROM people $$", " ssn FROM people "),
            ("SELECT /* ssn FROM people */ 'x'", "x"),
            ("SELECT 'a'\n'b'", "ab"),
        ] {
            assert_eq!(wire.query(text).await.value(), value, "{text}");
        }
    }
    house.stop_with([wire]).await;
}

/// A path that no text of this session sets: of the role, of the database, by functions of others.
#[tokio::test]
async fn a_path_that_something_else_sets_is_followed() {
    let world = World::new();
    let house = world.warehouse(GUARDED, "").await;
    let own = "CREATE SCHEMA own; CREATE TABLE own.people (id int, ssn text); INSERT INTO own.people VALUES (1, 'own')";
    house.server.sql(own).await;
    let functions = "CREATE FUNCTION own.hop(p text) RETURNS text LANGUAGE sql AS 'SELECT set_config(''search_path'', p, false)'; \
         CREATE FUNCTION own.local_hop(p text) RETURNS text LANGUAGE sql AS 'SELECT set_config(''search_path'', p, true)'; \
         CREATE FUNCTION own.stays() RETURNS text LANGUAGE sql SET search_path = own AS 'SELECT 1::text'";
    house.server.sql(functions).await;
    let ssn = "SELECT ssn FROM people WHERE id = 1";
    for (what, alter, reset) in [
        ("the role", "ALTER ROLE admin_role SET search_path = own", "ALTER ROLE admin_role RESET ALL"),
        ("the database", "ALTER DATABASE analytics SET search_path = own", "ALTER DATABASE analytics RESET ALL"),
        (
            "both",
            "ALTER ROLE admin_role IN DATABASE analytics SET search_path = own",
            "ALTER ROLE admin_role IN DATABASE analytics RESET ALL",
        ),
    ] {
        house.server.sql(alter).await;
        let mut wire = house.session().await;
        assert_eq!(wire.query(ssn).await.value(), "own", "{what}");
        wire.query("SET search_path = public").await.ok();
        assert_eq!(wire.query(ssn).await.error().sqlstate(), "42501", "{what}");
        // What RESET goes back to is the role's own.
        for back in ["RESET search_path", "RESET ALL", "DISCARD ALL", "SET search_path TO DEFAULT"] {
            wire.query(back).await.ok();
            assert_eq!(wire.query(ssn).await.value(), "own", "{what}, {back}");
            wire.query("SET search_path = public").await.ok();
        }
        wire.terminate().await;
        house.server.sql(reset).await;
    }
    let mut wire = house.session().await;
    for hop in ["own.hop", "own.local_hop"] {
        wire.query("BEGIN").await.ok();
        wire.query(&format!("SELECT {hop}('own')")).await.ok();
        assert_eq!(wire.query(ssn).await.value(), "own", "{hop}");
        // Away and back in one write, the text between them prepared before.
        let away = [query(&format!("SELECT {hop}('public')")), query(ssn), query("ROLLBACK")].concat();
        wire.send(away).await;
        wire.reply().await.ok();
        let reply = wire.reply().await;
        assert_eq!((reply.error().sqlstate(), reply.status), ("42501", 'E'), "{hop}: {reply:#?}");
        tells_nothing(hop, &reply);
        wire.reply().await.ok();
        assert_eq!(wire.query(ssn).await.error().sqlstate(), "42501", "{hop}");
    }
    // Within one text nobody knows what a function leaves behind.
    for text in ["SELECT own.hop('own'); SELECT ssn FROM people", "SELECT own.stays(); SELECT ssn FROM people"] {
        let reply = wire.query(text).await;
        assert!(["0A000", "42501"].contains(&reply.error().sqlstate()), "{text}: {reply:#?}");
        assert!(reply.rows.is_empty(), "{text}: {reply:#?}");
    }
    wire.query("SELECT own.stays()").await.ok();
    assert_eq!(wire.query(ssn).await.error().sqlstate(), "42501");
    house.stop_with([wire]).await;
}

/// Another session gives a name to another table between Parse and Execute.
#[tokio::test]
async fn a_name_that_others_give_away_is_judged_by_what_it_means_now() {
    let world = World::new();
    let house = world.warehouse(GUARDED, "catalog_max_age: 0s\n").await;
    house.server.sql("CREATE TABLE open_data (id int, ssn text); INSERT INTO open_data VALUES (1, 'open')").await;
    house.server.sql("CREATE VIEW seen AS SELECT id, ssn FROM open_data").await;
    let mut wire = house.session().await;
    let run = |name: &str| [bind("", name, &[]), execute("", 0), sync()].concat();
    let both = [parse("t", "SELECT ssn FROM open_data"), parse("v", "SELECT ssn FROM seen"), sync()].concat();
    wire.send(both).await;
    wire.reply().await.ok();
    for name in ["t", "v"] {
        wire.send(run(name)).await;
        assert_eq!(wire.reply().await.value(), "open", "{name}");
    }
    house.server.sql("ALTER TABLE open_data RENAME TO aside; ALTER TABLE people RENAME TO open_data").await;
    house.server.sql("CREATE TABLE people (id int)").await;
    // The catalogue that was read for the last statement serves for 50 ms.
    let began = std::time::Instant::now();
    let reply = loop {
        wire.send(run("t")).await;
        let reply = wire.reply().await;
        if reply.rows.len() != 1 {
            break reply;
        }
        assert!(began.elapsed() < DEADLINE, "{reply:#?}");
    };
    // `people` is another table now, and what was people is called otherwise: policies know names.
    assert_eq!(reply.ok().len(), 3, "{reply:#?}");
    house
        .server
        .sql("DROP TABLE people; ALTER TABLE open_data RENAME TO people; ALTER TABLE aside RENAME TO open_data")
        .await;
    house.server.sql("ALTER TABLE open_data RENAME TO gone; CREATE VIEW open_data AS SELECT * FROM people").await;
    let with_base = format!(
        "{GUARDED}@id(\"base\") forbid (principal, action, resource) when {{ context has base && context.base.contains(\"public.people.ssn\") }};"
    );
    house.inbound.replace("policies/test.cedar", &with_base);
    house.inbound.status_with("the second generation", |status| status["policy"]["generation"] == 2).await;
    // The policies took longer than 50 ms to be in force.
    wire.send(run("t")).await;
    let reply = wire.reply().await;
    assert_eq!(reply.error().sqlstate(), "42501", "{reply:#?}");
    tells_nothing("a view in place of a table", &reply);
    wire.send(run("v")).await;
    assert_eq!(wire.reply().await.value(), "open", "a view follows its table, whatever that is called");
    house.stop_with([wire]).await;
}
