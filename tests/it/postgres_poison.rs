//! The catalogue that is read in a client's own session, as the client's own role: nothing that the client may make there changes what
//! is read.

use crate::support::pg_wire::{PROTOCOL_3, query, startup};
use crate::support::*;

/// Everything but `people.ssn` and a table of another name.
const GUARDED: &str = r#"
@id("all") permit (principal, action, resource);
@id("no-ssn") forbid (principal, action == Action::"sql:Select", resource == Table::"wh/analytics.public.people")
  when { context.columns.contains("ssn") };
@id("no-accents") forbid (principal, action, resource == Table::"wh/analytics.public.\"é\"");
"#;

/// What queries that are not qualified would call.
const SHADOWS: &str = "
    CREATE FUNCTION public.current_database() RETURNS name LANGUAGE sql AS $$SELECT 'other'::name$$;
    CREATE FUNCTION public.current_setting(text) RETURNS text LANGUAGE sql AS $$SELECT '140000'$$;
    CREATE FUNCTION public.pg_my_temp_schema() RETURNS oid LANGUAGE sql AS 'SELECT 0::oid';
    CREATE FUNCTION public.strpos(text, text) RETURNS int LANGUAGE sql AS 'SELECT 0';
    CREATE FUNCTION public.count(oid) RETURNS int LANGUAGE sql AS 'SELECT 0';
    CREATE FUNCTION public.never(name, name) RETURNS bool LANGUAGE sql AS 'SELECT false';
    CREATE FUNCTION public.never(oid, oid) RETURNS bool LANGUAGE sql AS 'SELECT false';
    CREATE FUNCTION public.never(int2, int4) RETURNS bool LANGUAGE sql AS 'SELECT false';
    CREATE FUNCTION public.never(\"char\", \"char\") RETURNS bool LANGUAGE sql AS 'SELECT false';
    CREATE OPERATOR public.= (LEFTARG = name, RIGHTARG = name, FUNCTION = public.never);
    CREATE OPERATOR public.= (LEFTARG = oid, RIGHTARG = oid, FUNCTION = public.never);
    CREATE OPERATOR public.= (LEFTARG = \"char\", RIGHTARG = \"char\", FUNCTION = public.never);
    CREATE OPERATOR public.> (LEFTARG = int2, RIGHTARG = int4, FUNCTION = public.never);
";

const CATALOGS: [&str; 12] = [
    "pg_class",
    "pg_attribute",
    "pg_attrdef",
    "pg_namespace",
    "pg_proc",
    "pg_type",
    "pg_operator",
    "pg_roles",
    "pg_database",
    "pg_inherits",
    "pg_rewrite",
    "pg_constraint",
];

#[tokio::test]
async fn a_client_cannot_poison_the_catalogue_that_is_read_in_its_session() {
    let world = World::new();
    let house = world.warehouse_with(PgPlan::new(), GUARDED, "role: passthrough\n").await;
    house.server.sql(SHADOWS).await;
    let mut wire = PgWire::session(house.address(), "app_role").await;
    for catalog in CATALOGS {
        wire.query(&format!("CREATE TEMP TABLE {catalog} (oid oid, relname name, ssn text)")).await.ok();
    }
    wire.query("SET search_path = pg_temp, public, pg_catalog").await.ok();
    for begin in ["SELECT 1", "BEGIN"] {
        wire.query(begin).await.ok();
        wire.query(&format!("CREATE TABLE made_{} (n int)", begin.len())).await.ok();
        let read =
            |line: &&String| line.contains("app_role LOG:  execute portcullis") && line.contains("pg_catalog.pg_class");
        assert!(house.server.log().iter().filter(read).count() > 0, "read in the session, by its role");
        assert_eq!(wire.query("SELECT name FROM public.people LIMIT 1").await.ok().len(), 1);
        assert!(wire.query("SELECT relname FROM pg_class").await.ok().is_empty(), "the client has its own");
        for sql in ["SELECT ssn FROM people", "SELECT p FROM public.people p", "TABLE people"] {
            // Each in a transaction of its own, or behind a savepoint.
            if begin == "BEGIN" {
                wire.query("SAVEPOINT s").await.ok();
            }
            for reply in [wire.query(sql).await, wire.extended(sql, &[]).await] {
                let sqlstate = reply.errors.first().map(PgError::sqlstate).unwrap_or_default().to_owned();
                assert!(["42501", "25P02"].contains(&sqlstate.as_str()), "{sql}: {reply:#?}");
                assert!(!format!("{reply:?}").contains("123-45"), "{sql}: {reply:#?}");
            }
            if begin == "BEGIN" {
                wire.query("ROLLBACK TO s").await.ok();
            }
        }
    }
    wire.query("ROLLBACK").await.ok();
    assert_eq!(wire.query("SELECT ssn FROM people").await.error().sqlstate(), "42501");
    house.stop_with([wire]).await;
}

#[tokio::test]
async fn bytes_of_another_encoding_do_not_spell_another_name() {
    let world = World::new();
    let house = world.warehouse(GUARDED, "").await;
    house.server.sql("CREATE TABLE \"é\" (ssn text); INSERT INTO \"é\" VALUES ('123-45')").await;
    house.server.sql("ALTER ROLE admin_role SET client_encoding = 'LATIN1'").await;
    let mut wire = PgWire::plain(house.address()).await;
    wire.send(startup(PROTOCOL_3, &[("user", "admin_role"), ("database", DATABASE)])).await;
    wire.reply().await.ok();
    // In LATIN1 its two letters are the bytes that one is in UTF-8.
    wire.try_send(query(r#"CREATE TEMP TABLE U&"\00C3\00A9" (ssn text)"#)).await;
    let _ = wire.reply().await;
    wire.try_send(query(r#"SELECT ssn FROM U&"\00E9""#)).await;
    let reply = wire.reply().await;
    assert!(!format!("{reply:?}").contains("123-45"), "{reply:#?}");
    house.server.sql("ALTER ROLE admin_role RESET client_encoding").await;
    let mut wire = house.session().await;
    assert_eq!(wire.query("SELECT ssn FROM \"é\"").await.error().sqlstate(), "42501");
    house.stop_with([wire]).await;
}
