//! Definitions that are computed over rows: their errors tell values, and so do their successes, one bit at a time.

use crate::support::*;

/// A stage that migrates: definitions, and of the rows only names.
const MIGRATES: &str = r#"
@id("defines") permit (principal, action in [Action::"sql:Connect", Action::"sql:Introspect", Action::"sql:Create", Action::"sql:Alter",
  Action::"sql:Drop", Action::"sql:Maintain"], resource);
@id("names") permit (principal, action == Action::"sql:Select", resource == Table::"wh/analytics.public.people")
  unless { context.columns.contains("ssn") };
"#;

/// Each tells a value of `ssn` in its error, or would copy it, on a server that nobody guards.
const COMPUTED: [&str; 12] = [
    "CREATE INDEX ON people ((ssn::int))",
    "CREATE INDEX ON people (id) WHERE ssn::int > 0",
    "CREATE UNIQUE INDEX CONCURRENTLY ON people (id, (1 / (length(ssn) - 6)))",
    "CREATE STATISTICS told ON (ssn::int), id FROM people",
    "ALTER TABLE people ADD CHECK (ssn::int > 0)",
    "ALTER TABLE people ADD CONSTRAINT told CHECK (ssn::int > 0) NOT VALID",
    "ALTER TABLE people ADD COLUMN told int GENERATED ALWAYS AS (ssn::int) STORED",
    "ALTER TABLE people ADD COLUMN told int CHECK (ssn::int > 0)",
    "ALTER TABLE people ADD EXCLUDE USING btree ((ssn::int) WITH =)",
    "ALTER TABLE people ALTER ssn TYPE int USING ssn::int",
    "ALTER TABLE people ALTER name TYPE text USING ssn",
    "ALTER TABLE people ALTER ssn TYPE regclass",
];

/// The same where only columns are computed that may be read, or none.
const PERMITTED: [&str; 9] = [
    "CREATE INDEX ON people (ssn)",
    "CREATE INDEX ON people ((upper(name)))",
    "CREATE INDEX ON people (id) WHERE length(name) > 3",
    "CREATE STATISTICS untold ON (upper(name)), id FROM people",
    "ALTER TABLE people ADD CHECK (length(name) > 0)",
    "ALTER TABLE people ADD COLUMN shout text GENERATED ALWAYS AS (upper(name)) STORED",
    "ALTER TABLE people ADD COLUMN age int CHECK (age > 0)",
    "ALTER TABLE people ALTER age TYPE bigint USING age + 1",
    "CREATE TABLE fresh (ssn text CHECK (ssn::int > 0), n int GENERATED ALWAYS AS (length(ssn)) STORED, UNIQUE (ssn))",
];

#[tokio::test]
async fn a_definition_does_not_tell_the_rows_that_it_is_computed_over() {
    let world = World::new();
    let house = world.warehouse(MIGRATES, "").await;
    let mut wire = house.session().await;
    for sql in COMPUTED {
        for reply in [wire.query(sql).await, wire.extended(sql, &[]).await] {
            assert_eq!(reply.error().sqlstate(), "42501", "{sql}: {reply:#?}");
            let record = house.inbound.records.of_decision(&reply.error().decision_id()).await;
            assert_eq!(record["outcome"], "not_permitted", "{sql}: {record:#}");
            assert!(asks(&record, "sql:Select", "public.people"), "{sql}: {record:#}");
        }
    }
    assert!(
        !house.server.log().iter().any(|line| line.contains("told") || line.contains("ssn::int")),
        "none reached the server"
    );
    for sql in PERMITTED {
        wire.query(sql).await.ok();
    }
    house.stop_with([wire]).await;
}

/// A domain's new check is computed over every column of that type, a new domain over the column that becomes one.
#[tokio::test]
async fn the_check_of_a_domain_does_not_tell_the_columns_of_its_type() {
    let world = World::new();
    let house = world.warehouse(MIGRATES, "").await;
    house.server.sql("CREATE DOMAIN number AS text; CREATE TABLE numbered (id int, secret number)").await;
    house.server.sql("INSERT INTO numbered VALUES (1, '123-45')").await;
    let mut wire = house.session().await;
    house.server.sql("CREATE TYPE unused AS (it number)").await;
    let reply = wire.query("ALTER DOMAIN number ADD CHECK (VALUE::int > 0)").await;
    assert_eq!(reply.error().sqlstate(), "42501", "{reply:#?}");
    let record = house.inbound.records.of_decision(&reply.error().decision_id()).await;
    assert!(asks(&record, "sql:Select", "public.numbered"), "{record:#}");
    wire.query("CREATE DOMAIN digits AS text CHECK (VALUE::int > 0)").await.ok();
    let reply = wire.query("ALTER TABLE people ALTER ssn TYPE digits").await;
    assert_eq!(reply.error().sqlstate(), "42501", "{reply:#?}");
    assert!(!format!("{reply:?}").contains("123-45"));
    // A domain over it, arrays and rows with it, at any depth; a check that is there already is computed by VALIDATE.
    for sql in [
        "CREATE DOMAIN within AS number",
        "CREATE TYPE pair AS (id int, part within)",
        "CREATE DOMAIN deeper AS text",
        "CREATE DOMAIN deep AS deeper",
        "CREATE TYPE boxed AS (it deep[])",
        "CREATE TABLE domains (it within)",
        "CREATE TABLE arrays (it number[])",
        "CREATE TABLE pairs (it pair)",
        "CREATE TABLE boxes (it boxed[])",
        "CREATE INDEX ON domains (it)",
    ] {
        wire.query(sql).await.ok();
    }
    house.server.sql("ALTER DOMAIN number ADD CONSTRAINT later CHECK (VALUE::int > 0) NOT VALID").await;
    for (sql, reached) in [
        ("ALTER DOMAIN number ADD CHECK (VALUE::int > 1)", &["numbered", "domains", "arrays", "pairs"][..]),
        ("ALTER DOMAIN number VALIDATE CONSTRAINT later", &["numbered", "domains", "arrays", "pairs"]),
        ("ALTER DOMAIN within ADD CHECK (VALUE::int > 1)", &["domains", "pairs"]),
        ("ALTER DOMAIN deeper ADD CHECK (VALUE::int > 1)", &["boxes"]),
    ] {
        let reply = wire.query(sql).await;
        assert_eq!(reply.error().sqlstate(), "42501", "{sql}: {reply:#?}");
        let record = house.inbound.records.of_decision(&reply.error().decision_id()).await;
        for table in ["numbered", "domains", "arrays", "pairs", "boxes"] {
            let asked = asks(&record, "sql:Select", &format!("public.{table}"));
            assert_eq!(asked, reached.contains(&table), "{sql}, {table}: {record:#}");
        }
        assert!(!record.to_string().contains("domains_it_idx"), "an index is no table: {record:#}");
    }
    wire.query("ALTER DOMAIN number DROP CONSTRAINT later").await.ok();
    // Of a domain that nothing is made of yet.
    wire.query("ALTER DOMAIN digits ADD CHECK (VALUE::int > 1)").await.ok();
    wire.query("ALTER DOMAIN short_text ADD CHECK (VALUE <> '')").await.ok();
    house.stop_with([wire]).await;
}
