//! Each kind of statement with what it asks, on the sample database.

use std::sync::LazyLock;

use crate::mapping::sql::catalog::Catalog;
use crate::mapping::sql::catalog::testing::facts;
use crate::mapping::sql::facts::NothingPrepared;
use crate::mapping::sql::{
    Copying, Cursor, Mapped, MappedStatement, Naming, PreparedTexts, SessionFacts, SqlRefusal, Transaction, map,
};
use crate::mapping::{Operation, Value};

static SAMPLE: LazyLock<Catalog> = LazyLock::new(Catalog::sample);

/// What this session has prepared and declared.
struct Session;

impl PreparedTexts for Session {
    fn prepared(&self, name: &str) -> Option<(&str, usize)> {
        match name {
            "by_protocol" => Some(("SELECT name FROM people", 0)),
            "by_sql" => Some(("PREPARE by_sql AS DELETE FROM orders", 0)),
            "loop" => Some(("EXECUTE loop", 0)),
            _ => None,
        }
    }
    fn cursor(&self, name: &str) -> bool {
        matches!(name, "known" | "loud")
    }
    fn quiet_cursor(&self, name: &str) -> bool {
        name == "known"
    }
    fn transaction_matters(&self) -> bool {
        false
    }
}

fn mapped(text: &str) -> Result<Mapped, SqlRefusal> {
    map(text, "wh", &SAMPLE, &facts(), &Session)
}

/// `Select public.people(id name)`, `Create public index=i`.
fn short(operation: &Operation) -> String {
    let id = operation.resource.id().strip_prefix("wh/").unwrap_or_default();
    let id = id.split_once('.').map_or("db", |(_, rest)| rest);
    let mut short = format!("{} {id}", operation.action.as_str().trim_start_matches("sql:"));
    for (name, value) in operation.context.iter() {
        match (name, value) {
            ("columns", Value::Strings(columns)) if columns.is_empty() => {}
            ("columns", Value::Strings(columns)) => short.push_str(&format!("({})", columns.join(" "))),
            ("statement" | "role" | "base", _) => {}
            ("objectType", Value::String(kind)) => short.push_str(&format!(" {kind}=")),
            ("objectName", Value::String(name)) => short.push_str(name),
            (name, Value::String(value)) => short.push_str(&format!(" {name}:{value}")),
            other => panic!("{other:?}"),
        }
    }
    short
}

fn asks(statement: &MappedStatement) -> String {
    let mut all: Vec<_> = statement.operations.iter().map(short).collect();
    all.sort();
    format!("{} | {}", statement.kind, all.join(", "))
}

/// Statement, kind, and what it asks.
const CASES: &[(&str, &str)] = &[
    ("BEGIN", "begin | Connect db"),
    ("START TRANSACTION ISOLATION LEVEL SERIALIZABLE READ ONLY", "begin | Connect db"),
    ("COMMIT AND CHAIN", "commit | Connect db"),
    ("ROLLBACK", "rollback | Connect db"),
    ("SAVEPOINT a", "savepoint | Connect db"),
    ("RELEASE a", "release | Connect db"),
    ("ROLLBACK TO a", "rollback_to | Connect db"),
    ("PREPARE TRANSACTION 'x'", "prepare_transaction | Alter db prepared_transaction=x"),
    ("COMMIT PREPARED 'x'", "commit_prepared | Alter db prepared_transaction=x"),
    ("ROLLBACK PREPARED 'x'", "rollback_prepared | Alter db prepared_transaction=x"),
    ("SET TRANSACTION READ ONLY", "set | Connect db"),
    ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", "set | Connect db"),
    ("SET datestyle = 'ISO'", "set | Connect db"),
    ("SET TIME ZONE 'UTC'", "set | Connect db"),
    ("SET TIME ZONE INTERVAL '-08:00' HOUR TO MINUTE", "set | Connect db"),
    ("SET NAMES 'utf-8'", "set | Connect db"),
    ("SET extra_float_digits TO 3", "set | Connect db"),
    ("SET search_path = sales, public", "set | Connect db"),
    ("SET SCHEMA 'sales'", "set | Connect db"),
    ("SET enable_seqscan = off", "set | Connect db"),
    ("SET session_replication_role = replica", "set | Set db setting:session_replication_role"),
    ("SET row_security = off", "set | Connect db"),
    ("SET ROLE app", "set | SetRole db setting:role requestedRole:app"),
    ("SET \"ROLE\" = 'app'", "set | SetRole db setting:role requestedRole:app"),
    ("SET U&\"\\0072ole\" = app", "set | SetRole db setting:role requestedRole:app"),
    ("SET role TO 'analyst'", "set | Connect db"),
    ("SET ROLE NONE", "set | Connect db"),
    ("RESET ROLE", "reset | Connect db"),
    ("SET SESSION AUTHORIZATION app", "set | SetRole db setting:session_authorization requestedRole:app"),
    ("SET SESSION AUTHORIZATION DEFAULT", "set | Connect db"),
    ("SET SESSION AUTHORIZATION analyst", "set | Connect db"),
    ("RESET ALL", "reset | Connect db"),
    ("DISCARD ALL", "discard | Connect db"),
    ("DISCARD PLANS", "discard | Connect db"),
    ("SHOW search_path", "show | Connect db"),
    ("SHOW ALL", "show | Connect db"),
    ("SELECT set_config('jit', 'off', false)", "select | Connect db"),
    ("SELECT set_config('role', 'app', false)", "select | SetRole db setting:role requestedRole:app"),
    ("SELECT set_config('app.x', $1, false)", "select | Set db setting:app.x"),
    ("SET CONSTRAINTS ALL DEFERRED", "set_constraints | Connect db"),
    ("PREPARE p AS SELECT name FROM people", "prepare | Select public.people(name)"),
    (
        "PREPARE p (int) AS UPDATE people SET name = 'x' WHERE id = $1",
        "prepare | Select public.people(id), Update public.people(name)",
    ),
    ("EXECUTE by_protocol", "execute | Select public.people(name)"),
    ("EXECUTE by_sql", "execute | Delete public.orders"),
    ("EXPLAIN EXECUTE by_sql", "explain | Delete public.orders"),
    (
        "CREATE TEMP TABLE x AS EXECUTE by_protocol",
        "create_table_as | Create pg_temp table=x, Select public.people(name)",
    ),
    ("DEALLOCATE p", "deallocate | Connect db"),
    ("DEALLOCATE ALL", "deallocate | Connect db"),
    ("DECLARE c CURSOR FOR SELECT ssn FROM people", "declare | Select public.people(ssn)"),
    ("FETCH 10 FROM known", "fetch | Connect db"),
    ("FETCH FROM elsewhere", "fetch | ExecuteCode db"),
    ("MOVE known", "move | Connect db"),
    ("CLOSE c", "close | Connect db"),
    ("CLOSE ALL", "close | Connect db"),
    ("EXPLAIN SELECT ssn FROM people", "explain | Select public.people(ssn)"),
    ("EXPLAIN ANALYZE DELETE FROM orders", "explain | Delete public.orders"),
    (
        "EXPLAIN (ANALYZE) CREATE TABLE n AS SELECT id FROM people",
        "explain | Create public table=n, Select public.people(id)",
    ),
    ("LISTEN ch", "listen | Listen db channel:ch"),
    ("UNLISTEN *", "unlisten | Connect db"),
    ("NOTIFY ch, 'payload'", "notify | Notify db channel:ch"),
    ("LOCK TABLE people, sales.orders IN SHARE MODE", "lock | Lock public.people, Lock sales.orders"),
    ("COPY people TO STDOUT", "copy | Select public.people(id name ssn)"),
    ("COPY people (id, name) TO STDOUT WITH (FORMAT csv)", "copy | Select public.people(id name)"),
    ("COPY people FROM STDIN", "copy | Insert public.people(id name ssn)"),
    ("COPY people (id) FROM STDIN WHERE id > 3", "copy | Insert public.people(id), Select public.people(id)"),
    ("COPY (SELECT ssn FROM people) TO STDOUT", "copy | Select public.people(ssn)"),
    ("COPY (DELETE FROM orders RETURNING note) TO STDOUT", "copy | Delete public.orders, Select public.orders(note)"),
    ("COPY people TO '/tmp/x'", "copy | CopyFile db file=/tmp/x, Select public.people(id name ssn)"),
    ("COPY people FROM PROGRAM 'cat'", "copy | CopyProgram db, Insert public.people(id name ssn)"),
    ("COPY generated TO STDOUT", "copy | Select public.generated(first hidden second)"),
    ("CALL close_month(3)", "call | Execute public.close_month"),
    ("CALL close_month((SELECT id FROM people))", "call | Execute public.close_month, Select public.people(id)"),
    ("DO $$ BEGIN NULL; END $$", "do | ExecuteCode db"),
    ("LOAD 'x'", "load | ExecuteCode db library=x"),
    ("TRUNCATE orders", "truncate | Truncate public.orders"),
    ("TRUNCATE people CASCADE", "truncate | Truncate public.orders, Truncate public.people"),
    ("TRUNCATE ONLY parent", "truncate | Truncate public.parent"),
    (
        "TRUNCATE parent RESTART IDENTITY",
        "truncate | Truncate public.child, Truncate public.grandchild, Truncate public.parent",
    ),
    ("VACUUM", "vacuum | Maintain db"),
    ("VACUUM (FULL, ANALYZE) people (name)", "vacuum | Maintain public.people(name)"),
    ("ANALYZE people", "analyze | Maintain public.people"),
    ("CLUSTER", "cluster | Maintain db"),
    ("CLUSTER people USING people_pkey", "cluster | Maintain public.people"),
    ("REINDEX TABLE people", "reindex | Maintain public.people"),
    ("REINDEX INDEX people_pkey", "reindex | Maintain public index=people_pkey"),
    ("REINDEX SCHEMA sales", "reindex | Maintain sales"),
    ("REINDEX DATABASE shop", "reindex | Maintain db"),
    ("REFRESH MATERIALIZED VIEW totals", "refresh | Maintain public.totals"),
    ("CHECKPOINT", "checkpoint | Maintain db checkpoint="),
    (
        "CREATE TABLE n (id int PRIMARY KEY, who int REFERENCES people (id), at text DEFAULT 'x' CHECK (at <> ''))",
        "create_table | Alter public.people(id), Create public table=n",
    ),
    (
        "CREATE TABLE n (a int DEFAULT add(1))",
        "create_table | Create public table=n, Execute public.add, ExecuteCode db",
    ),
    ("CREATE TABLE n (a serial)", "create_table | Create public table=n"),
    (
        "CREATE TABLE n (LIKE people INCLUDING ALL)",
        "create_table | Create public table=n, Select public.people(id name ssn)",
    ),
    ("CREATE TABLE n (c int) INHERITS (parent)", "create_table | Alter public.parent, Create public table=n"),
    (
        "CREATE TABLE n PARTITION OF events FOR VALUES FROM (200) TO (300)",
        "create_table | Alter public.events, Create public table=n",
    ),
    (
        "CREATE TABLE n (a int) PARTITION BY RANGE (add(a))",
        "create_table | Create public table=n, Execute public.add, ExecuteCode db",
    ),
    ("CREATE TABLE n (a int, EXCLUDE USING gist (a WITH =))", "create_table | Create public table=n"),
    ("CREATE TABLE n OF place", "create_table | Create public table=n"),
    ("CREATE TEMP TABLE n (a int)", "create_table | Create pg_temp table=n"),
    ("CREATE TABLE sales.n (a int, b mood, c text[])", "create_table | Create sales table=n"),
    ("CREATE TABLE IF NOT EXISTS people (a int)", "create_table | Create public table=people"),
    (
        "CREATE FOREIGN TABLE n (a int) SERVER s",
        "create_foreign_table | Alter db foreign_server=s, Create public table=n",
    ),
    (
        "CREATE TABLE n AS SELECT id, ssn FROM people",
        "create_table_as | Create public table=n, Select public.people(id ssn)",
    ),
    (
        "CREATE TABLE n (a, b) AS SELECT id, ssn FROM people WITH NO DATA",
        "create_table_as | Create public table=n, Select public.people(id ssn)",
    ),
    ("SELECT id INTO n FROM people", "select_into | Create public table=n, Select public.people(id)"),
    (
        "SELECT id INTO n FROM people UNION SELECT id FROM orders",
        "select_into | Create public table=n, Select public.orders(id), Select public.people(id)",
    ),
    (
        "CREATE MATERIALIZED VIEW n AS SELECT name FROM people",
        "create_materialized_view | Create public materialized_view=n, Select public.people(name)",
    ),
    ("CREATE VIEW n AS SELECT name FROM people", "create_view | Create public view=n, Select public.people(name)"),
    (
        "CREATE OR REPLACE VIEW names AS SELECT id, name FROM people",
        "create_view | Alter public.names, Create public view=names, Select public.people(id name)",
    ),
    (
        "CREATE VIEW n AS SELECT leak(people) FROM people",
        "create_view | Create public view=n, Execute public.leak, ExecuteCode db, Select public.people(id name ssn)",
    ),
    ("CREATE VIEW n AS SELECT set_config('jit', 'off', false)", "create_view | Create public view=n, ExecuteCode db"),
    (
        "CREATE TABLE n (a text DEFAULT set_config('jit', 'off', false))",
        "create_table | Create public table=n, ExecuteCode db",
    ),
    ("CREATE RECURSIVE VIEW n (a) AS SELECT 1", "create_view | Create public view=n"),
    ("CREATE SEQUENCE sales.s OWNED BY orders.id", "create_sequence | Alter public.orders, Create sales sequence=s"),
    ("ALTER SEQUENCE numbers RESTART", "alter_sequence | Alter public.numbers"),
    ("CREATE INDEX i ON people (name)", "create_index | Create public.people index=i"),
    (
        "CREATE UNIQUE INDEX CONCURRENTLY ON people (leak(people)) WHERE id > 1",
        "create_index | Create public.people index=, Execute public.leak, ExecuteCode db, Select public.people(id name ssn)",
    ),
    ("CREATE INDEX i ON people ((ssn::int))", "create_index | Create public.people index=i, Select public.people(ssn)"),
    (
        "CREATE INDEX i ON people (id) WHERE ssn::int > 0",
        "create_index | Create public.people index=i, Select public.people(ssn)",
    ),
    (
        "CREATE STATISTICS st ON (ssn::int), id FROM people",
        "create_statistics | Create public.people statistics=st, Select public.people(ssn)",
    ),
    ("CREATE STATISTICS st ON id, name FROM people", "create_statistics | Create public.people statistics=st"),
    (
        "CREATE TRIGGER t BEFORE INSERT ON people FOR EACH ROW EXECUTE FUNCTION mood_of()",
        "create_trigger | Create public.people trigger=t, Execute public.mood_of, ExecuteCode db",
    ),
    (
        "CREATE RULE r AS ON INSERT TO people DO INSTEAD NOTHING",
        "create_rule | Create public.people rule=r, ExecuteCode db",
    ),
    ("CREATE POLICY p ON people USING (id = 1)", "create_policy | Create public.people policy=p, ExecuteCode db"),
    ("ALTER POLICY p ON people USING (true)", "alter_policy | Alter public.people policy=p, ExecuteCode db"),
    (
        "CREATE FUNCTION f(a int DEFAULT add(1)) RETURNS int LANGUAGE sql AS 'select 1'",
        "create_function | Create public function=f, Execute public.add, ExecuteCode db",
    ),
    (
        "CREATE OR REPLACE FUNCTION leak(people) RETURNS text LANGUAGE sql AS 'select 1'",
        "create_function | Alter public.leak, Create public function=leak, ExecuteCode db",
    ),
    ("CREATE PROCEDURE p() LANGUAGE sql AS ''", "create_function | Create public procedure=p, ExecuteCode db"),
    ("ALTER FUNCTION leak(people) SECURITY DEFINER", "alter_function | Alter public.leak, ExecuteCode db"),
    ("CREATE TYPE e AS ENUM ('a')", "create_type | Create public type=e"),
    ("CREATE TYPE c AS (a int)", "create_type | Create public type=c"),
    ("CREATE TYPE r AS RANGE (subtype = float8)", "create_type | Create public type=r, ExecuteCode db"),
    ("CREATE DOMAIN d AS int CHECK (VALUE > 0)", "create_domain | Create public domain=d"),
    (
        "CREATE DOMAIN d AS int CHECK (add(VALUE) > 0)",
        "create_domain | Create public domain=d, Execute public.add, ExecuteCode db",
    ),
    (
        "ALTER DOMAIN positive ADD CHECK (VALUE > 1)",
        "alter_domain | Alter public domain=positive, Select public.feelings(age)",
    ),
    ("ALTER TYPE mood ADD VALUE 'x'", "alter_type | Alter public type=mood"),
    ("CREATE SCHEMA s", "create_schema | Create db schema=s"),
    ("CREATE SCHEMA AUTHORIZATION app", "create_schema | Create db schema=app"),
    ("CREATE AGGREGATE a (int) (sfunc = int4pl, stype = int)", "define | Create public aggregate=a, ExecuteCode db"),
    (
        "CREATE OPERATOR @@@ (LEFTARG = text, RIGHTARG = text, FUNCTION = text_same)",
        "define | Create public operator=@@@, ExecuteCode db",
    ),
    ("CREATE CAST (text AS mood) WITH INOUT", "create_code | Create db cast=, ExecuteCode db"),
    ("CREATE ROLE r LOGIN PASSWORD 'x'", "create | Create db role=r"),
    ("CREATE USER \"Some One\"", "create | Create db role=\"Some One\""),
    ("ALTER ROLE CURRENT_USER SET role = 'app'", "alter | Alter db role=analyst setting:role"),
    ("ALTER ROLE app PASSWORD 'x'", "alter | Alter db role=app"),
    ("ALTER DATABASE shop SET search_path = x", "alter | Alter db database=shop setting:search_path"),
    ("DROP ROLE a, b", "drop | Drop db role=a, Drop db role=b"),
    ("GRANT app TO analyst", "grant_role | Grant db role=app requestedRole:analyst"),
    ("GRANT SELECT (name), UPDATE ON people TO analyst", "grant | Grant public.people(name)"),
    ("REVOKE ALL ON SEQUENCE numbers FROM PUBLIC", "revoke | Grant public.numbers"),
    ("GRANT EXECUTE ON FUNCTION leak(people) TO app", "grant | Grant public.leak"),
    ("GRANT USAGE ON SCHEMA sales TO app", "grant | Grant sales"),
    ("GRANT CONNECT ON DATABASE shop TO app", "grant | Grant db database=shop"),
    ("GRANT SELECT ON ALL TABLES IN SCHEMA sales TO app", "grant | Grant sales"),
    (
        "ALTER DEFAULT PRIVILEGES IN SCHEMA sales GRANT SELECT ON TABLES TO app",
        "alter_default_privileges | Grant sales default_privileges=",
    ),
    ("CREATE DATABASE d", "create | Create db database=d"),
    ("DROP DATABASE d", "drop | Drop db database=d"),
    ("CREATE TABLESPACE t LOCATION '/x'", "create | Create db tablespace=t"),
    ("CREATE EXTENSION dblink", "create | Create db extension=dblink"),
    ("ALTER EXTENSION x UPDATE", "alter | Alter db extension=x"),
    ("CREATE FOREIGN DATA WRAPPER w", "create_code | Create db foreign_data_wrapper=w, ExecuteCode db"),
    ("CREATE SERVER s FOREIGN DATA WRAPPER w", "create | Create db foreign_server=s"),
    ("CREATE USER MAPPING FOR app SERVER s OPTIONS (password 'x')", "create | Create db user_mapping=s"),
    (
        "IMPORT FOREIGN SCHEMA f FROM SERVER s INTO sales",
        "import_foreign_schema | Alter db foreign_server=s, Create sales foreign_table=",
    ),
    ("CREATE SUBSCRIPTION s CONNECTION 'x' PUBLICATION p", "create | Create db subscription=s"),
    (
        "CREATE PUBLICATION p FOR TABLE people (id, name) WHERE (id > 1)",
        "create_publication | Alter public.people, Create db publication=p, Select public.people(id name)",
    ),
    ("CREATE PUBLICATION p FOR ALL TABLES", "create_publication | Create db publication=p"),
    ("CREATE PUBLICATION p FOR TABLES IN SCHEMA sales", "create_publication | Alter sales, Create db publication=p"),
    (
        "ALTER PUBLICATION p ADD TABLE orders",
        "alter_publication | Alter db publication=p, Alter public.orders, Select public.orders(amount id note person)",
    ),
    (
        "CREATE EVENT TRIGGER e ON ddl_command_start EXECUTE FUNCTION mood_of()",
        "create_code | Create db event_trigger=e, Execute public.mood_of, ExecuteCode db",
    ),
    ("CREATE LANGUAGE l", "create | Create db extension=l"),
    ("CREATE COLLATION c (locale = 'C')", "define | Create public collation=c, ExecuteCode db"),
    (
        "CREATE TEXT SEARCH CONFIGURATION t (parser = \"default\")",
        "define | Create public text_search_configuration=t, ExecuteCode db",
    ),
    ("ALTER SYSTEM SET work_mem = '1GB'", "alter_system | Alter db system=work_mem setting:work_mem"),
    (
        "ALTER TABLE people ADD COLUMN x int DEFAULT add(1)",
        "alter_table | Alter public.people, Execute public.add, ExecuteCode db",
    ),
    ("ALTER TABLE people DROP COLUMN ssn CASCADE", "alter_table | Alter public.people(ssn)"),
    (
        "ALTER TABLE people ALTER name SET DEFAULT 'x', ALTER COLUMN ssn TYPE int USING add(id)",
        "alter_table | Alter public.people(name ssn), Execute public.add, ExecuteCode db, Select public.people(id ssn)",
    ),
    ("ALTER TABLE people ADD CHECK (ssn::int > 0)", "alter_table | Alter public.people, Select public.people(ssn)"),
    ("ALTER TABLE people ADD COLUMN x int CHECK (x > 0)", "alter_table | Alter public.people"),
    (
        "ALTER TABLE people ADD COLUMN x int GENERATED ALWAYS AS (ssn::int) STORED",
        "alter_table | Alter public.people, Select public.people(ssn)",
    ),
    (
        "ALTER TABLE people ADD EXCLUDE USING btree ((ssn::int) WITH =) WHERE (id::bool)",
        "alter_table | Alter public.people, Select public.people(id ssn)",
    ),
    (
        "ALTER TABLE people ADD CONSTRAINT c FOREIGN KEY (id) REFERENCES orders",
        "alter_table | Alter public.orders, Alter public.people",
    ),
    ("ALTER TABLE people OWNER TO app", "alter_table | Alter public.people, Grant public.people requestedRole:app"),
    ("ALTER TABLE people ENABLE ROW LEVEL SECURITY", "alter_table | Alter public.people"),
    ("ALTER TABLE people DISABLE TRIGGER ALL", "alter_table | Alter public.people"),
    (
        "ALTER TABLE events ATTACH PARTITION orders FOR VALUES FROM (1) TO (2)",
        "alter_table | Alter public.events, Alter public.orders",
    ),
    (
        "ALTER TABLE child NO INHERIT parent",
        "alter_table | Alter public.child, Alter public.grandchild, Alter public.parent",
    ),
    ("ALTER TABLE IF EXISTS nowhere ADD COLUMN a int", "alter_table | Alter public table=nowhere"),
    ("ALTER TABLE people RENAME COLUMN ssn TO x", "rename | Alter public.people(ssn)"),
    ("ALTER TABLE people RENAME TO y", "rename | Alter public.people"),
    ("ALTER INDEX people_pkey RENAME TO z", "rename | Alter public index=people_pkey"),
    ("ALTER TABLE people SET SCHEMA sales", "set_schema | Alter public.people, Create sales"),
    (
        "ALTER FUNCTION leak(people) OWNER TO app",
        "set_owner | Alter public.leak, Grant db function=leak requestedRole:app",
    ),
    ("ALTER SCHEMA sales RENAME TO s2", "rename | Alter sales"),
    ("ALTER ROLE app RENAME TO b", "rename | Alter db role=app"),
    ("COMMENT ON TABLE people IS 'x'", "comment | Alter public.people"),
    ("COMMENT ON COLUMN people.ssn IS 'x'", "comment | Alter public.people(ssn)"),
    ("COMMENT ON FUNCTION leak(people) IS 'x'", "comment | Alter public.leak"),
    ("COMMENT ON ROLE app IS 'x'", "comment | Alter db role=app"),
    ("SECURITY LABEL ON TABLE people IS 'x'", "security_label | Alter public.people"),
    ("DROP TABLE people, sales.orders", "drop | Drop public.people, Drop sales.orders"),
    ("DROP TABLE IF EXISTS nowhere", "drop | Drop public table=nowhere"),
    ("DROP TABLE IF EXISTS sales.nowhere", "drop | Drop sales table=nowhere"),
    ("DROP INDEX people_pkey", "drop | Drop public index=people_pkey"),
    ("DROP FUNCTION leak", "drop | Drop public.leak"),
    ("DROP FUNCTION IF EXISTS nothing(int)", "drop | Drop public function=nothing"),
    ("DROP PROCEDURE close_month(int)", "drop | Drop public.close_month"),
    ("DROP SCHEMA sales CASCADE", "drop | Drop sales"),
    ("DROP TYPE mood", "drop | Drop public type=mood"),
    ("DROP TRIGGER t ON people", "drop | Drop public.people trigger=t"),
    ("DROP POLICY p ON people", "drop | Drop public.people policy=p"),
    ("DROP EXTENSION x", "drop | Drop db extension=x"),
    ("DROP SEQUENCE numbers", "drop | Drop public.numbers"),
    ("DROP VIEW names", "drop | Drop public.names"),
    ("DROP OPERATOR === (text, text)", "drop | Drop db operator=\"===\""),
    ("DROP CAST (int AS mood)", "drop | Drop db cast=pg_catalog.int4.mood"),
    ("DROP USER MAPPING FOR app SERVER s", "drop | Drop db user_mapping=s"),
    ("DROP OWNED BY app", "drop_owned | Drop db owned=app"),
    ("REASSIGN OWNED BY app TO analyst", "reassign_owned | Alter db owned=app, Grant db owned=app"),
    ("CREATE TABLE shop.sales.n (a int)", "create_table | Create sales table=n"),
];

/// Statement, SQLSTATE, rule.
const REFUSED: &[(&str, &str, &str)] = &[
    ("SET portcullis.spiffe_id = 'x'", "42501", "pinned-setting"),
    ("SET \"Portcullis.X\" = 1", "42501", "pinned-setting"),
    ("SELECT set_config('portcullis.spiffe_id', 'x', false)", "42501", "pinned-setting"),
    ("SET standard_conforming_strings = off", "0A000", "strings"),
    ("SET client_encoding = 'LATIN1'", "0A000", "encoding"),
    ("SET NAMES 'SQL_ASCII'", "0A000", "encoding"),
    ("EXECUTE nothing", "26000", "unknown-statement-name"),
    ("EXECUTE loop", "0A000", "too-deep"),
    ("SELECT * FROM nowhere", "42P01", "unknown-relation"),
    ("DROP TABLE nowhere", "42P01", "unknown-relation"),
    ("DROP SCHEMA nowhere", "3F000", "unknown-name"),
    ("COPY people (nothing) TO STDOUT", "42703", "unknown-name"),
    ("CREATE SCHEMA s CREATE TABLE t (a int)", "0A000", "schema-elements"),
    ("CREATE TABLE nowhere.n (a int)", "3F000", "unknown-name"),
    ("CREATE TABLE n (a nothing)", "42704", "unknown-type"),
    ("CALL nothing()", "42883", "unknown-name"),
    ("SELECT * FROM other.public.people", "0A000", "cross-database"),
    ("SELECT 1 +", "42601", "syntax"),
];

#[test]
fn each_statement_asks_what_the_table_says() {
    for (text, expected) in CASES {
        let mapped = mapped(text).unwrap_or_else(|refusal| panic!("{text}: {refusal:?}"));
        let found: Vec<_> = mapped.statements.iter().map(asks).collect();
        assert_eq!(found, [*expected], "{text}");
    }
}

#[test]
fn what_cannot_be_judged_is_refused_by_its_rule() {
    for (text, sqlstate, rule) in REFUSED {
        let refusal = mapped(text).map(|mapped| mapped.statements.len()).expect_err(text);
        assert_eq!((refusal.sqlstate, refusal.rule), (*sqlstate, *rule), "{text}: {refusal}");
    }
}

#[test]
fn every_kind_is_in_the_table_and_every_action_in_the_schema() {
    let kinds: Vec<_> = super::kinds().map(|(kind, _)| kind).collect();
    let actions: Vec<_> = crate::mapping::sql::actions().map(|(action, _)| action).collect();
    for (text, _) in CASES {
        for statement in mapped(text).expect(text).statements {
            assert!(kinds.contains(&statement.kind), "{}", statement.kind);
            for operation in statement.operations.iter() {
                let action = operation.action.as_str();
                assert!(actions.contains(&action), "{action}");
                let on = crate::mapping::sql::resource_kinds(action);
                assert!(on.contains(&operation.resource.kind()), "{text}: {action} on {}", operation.resource);
            }
        }
    }
}

/// What all statements of a text ask.
fn all(text: &str) -> Result<Vec<String>, &'static str> {
    let mapped = mapped(text).map_err(|refusal| refusal.rule)?;
    Ok(mapped.statements.iter().map(asks).collect())
}

#[test]
fn a_text_is_judged_with_what_its_earlier_statements_change() {
    let asked = |text: &str| all(text).unwrap_or_else(|rule| panic!("{text}: {rule}"));
    let last = |text: &str| asked(text).pop().unwrap_or_default();
    assert_eq!(asked(""), [""; 0]);
    assert_eq!(asked("; -- nothing"), [""; 0]);
    assert_eq!(last("SET search_path = sales; SELECT id FROM orders"), "select | Select sales.orders(id)");
    assert_eq!(last("SET LOCAL search_path = sales; SELECT id FROM orders"), "select | Select sales.orders(id)");
    assert_eq!(last("CREATE TABLE n (a int, b int); INSERT INTO n VALUES (1)"), "insert | Insert public.n(a b)");
    assert_eq!(last("CREATE TABLE n AS SELECT id AS x FROM people; SELECT * FROM n"), "select | Select public.n(x)");
    assert_eq!(last("CREATE VIEW v (q) AS SELECT id FROM people; SELECT * FROM v"), "select | Select public.v(q)");
    assert_eq!(
        last("ALTER TABLE people ADD COLUMN x int; UPDATE people SET x = 1"),
        "update | Update public.people(x)"
    );
    assert_eq!(last("CREATE SCHEMA s; CREATE TABLE s.n (a int)"), "create_table | Create s table=n");
    assert_eq!(last("BEGIN; DELETE FROM orders; COMMIT; SELECT id FROM people"), "select | Select public.people(id)");
    assert_eq!(
        last("BEGIN; SET search_path = sales; COMMIT; SELECT id FROM orders"),
        "select | Select sales.orders(id)"
    );
    assert_eq!(
        last("DROP TABLE IF EXISTS orders; CREATE TABLE orders (q int); SELECT * FROM orders"),
        "select | Select public.orders(q)"
    );
    assert_eq!(last("DECLARE c CURSOR FOR SELECT id FROM people; FETCH c"), "fetch | Connect db");
    assert_eq!(last("PREPARE q AS SELECT ssn FROM people; EXECUTE q"), "execute | Select public.people(ssn)");
    assert_eq!(last("CREATE FUNCTION f(int) RETURNS int LANGUAGE sql AS ''; SELECT f(1)"), "select | Execute public.f");
    // What asyncpg sends when a connection goes back to its pool.
    let reset = asked("SELECT pg_advisory_unlock_all();\nCLOSE ALL;\nUNLISTEN *;\nRESET ALL;");
    assert!(reset.iter().skip(1).all(|asked| asked.ends_with("| Connect db")), "{reset:?}");
}

#[test]
fn a_text_whose_later_statements_hang_on_what_nobody_knows_is_refused() {
    for text in [
        "RESET ALL; SELECT id FROM people",
        "RESET search_path; SELECT id FROM people",
        "SET ROLE app; SELECT id FROM people",
        "DISCARD ALL; SELECT id FROM people",
        "SELECT set_config('search_path', 'sales', false); SELECT id FROM orders",
        "DO ''; SELECT id FROM people",
        "CALL close_month(1); SELECT id FROM people",
        "SELECT leak(people) FROM people; SELECT id FROM people",
        "DROP TABLE orders; SELECT id FROM orders",
        "DROP TABLE orders CASCADE; SELECT id FROM people",
        "ALTER TABLE people RENAME TO x; SELECT id FROM people",
        "ALTER TABLE people DROP COLUMN ssn; SELECT * FROM people",
        "BEGIN; SET search_path = sales; ROLLBACK; SELECT id FROM orders",
        "BEGIN; SET LOCAL search_path = sales; COMMIT; SELECT id FROM orders",
        "SAVEPOINT a; CREATE TABLE n (a int); ROLLBACK TO a; SELECT id FROM orders",
        "CREATE EXTENSION x; SELECT id FROM people",
        "FETCH loud; SELECT id FROM people",
    ] {
        assert_eq!(all(text), Err("depends-on-earlier"), "{text}");
    }
    // Nothing hangs on names here.
    assert!(all("DO ''; SELECT 1, 'two' AS b").is_ok());
    assert!(all("RESET ALL; SET datestyle = 'ISO'; BEGIN; SHOW ALL").is_ok());
}

#[test]
fn the_end_of_a_transaction_that_began_in_another_text_may_change_everything() {
    struct Changed;
    impl PreparedTexts for Changed {
        fn prepared(&self, _: &str) -> Option<(&str, usize)> {
            None
        }
        fn cursor(&self, _: &str) -> bool {
            false
        }
    }
    for end in ["COMMIT", "ROLLBACK", "ROLLBACK TO a"] {
        let text = format!("{end}; SELECT id FROM people");
        let refusal = map(&text, "wh", &SAMPLE, &facts(), &Changed).map(|_| ()).expect_err("refused");
        assert_eq!(refusal.rule, "depends-on-earlier");
    }
}

#[test]
fn effects_say_what_has_to_be_asked_again() {
    let effects = |text: &str| {
        let effects = mapped(text).expect(text).statements.pop().expect("one").effects;
        (effects.settings, effects.names, effects.anything)
    };
    for quiet in [
        "SELECT id FROM people",
        "BEGIN",
        "FETCH known",
        "LOCK people",
        "TRUNCATE orders",
        "NOTIFY c",
        "PREPARE p AS SELECT leak(people) FROM people",
    ] {
        assert_eq!(effects(quiet), (false, false, false), "{quiet}");
    }
    for settings in ["SET datestyle = 'ISO'", "RESET ALL", "SET ROLE app", "SELECT set_config('jit', 'on', true)"] {
        assert_eq!(effects(settings), (true, false, false), "{settings}");
    }
    for names in ["CREATE TABLE n (a int)", "DROP TABLE people", "ALTER TABLE people ADD x int", "GRANT app TO analyst"]
    {
        assert_eq!(effects(names), (false, true, false), "{names}");
    }
    assert_eq!(effects("DISCARD ALL"), (true, true, false));
    for anything in ["DO ''", "CALL close_month(1)", "FETCH loud", "SELECT leak(people) FROM people", "LOAD 'x'"] {
        assert!(effects(anything).2, "{anything}");
    }
}

#[test]
fn statements_say_what_they_do_to_transactions_names_and_cursors() {
    let one = |text: &str| mapped(text).expect(text).statements.pop().expect("one");
    assert_eq!(one("COMMIT AND CHAIN").transaction, Transaction::Commits { chain: true });
    assert_eq!(one("ABORT").transaction, Transaction::RollsBack { chain: false });
    assert_eq!(one("ROLLBACK TO a").transaction, Transaction::RollsBackTo);
    assert_eq!(one("PREPARE TRANSACTION 'x'").transaction, Transaction::Commits { chain: false });
    assert_eq!(one("PREPARE p AS SELECT 1").naming, Naming::Prepares("p".into()));
    assert_eq!(one("EXECUTE by_sql").naming, Naming::Executes("by_sql".into()));
    assert_eq!(one("DEALLOCATE ALL").naming, Naming::ForgetsAll);
    assert_eq!(one("DECLARE c CURSOR FOR SELECT 1").cursor, Cursor::Declares { name: "c".into(), holds: false });
    assert_eq!(
        one("DECLARE c SCROLL CURSOR WITH HOLD FOR SELECT 1").cursor,
        Cursor::Declares { name: "c".into(), holds: true }
    );
    assert_eq!(one("CLOSE ALL").cursor, Cursor::ClosesAll);
    assert_eq!(one("COPY people FROM STDIN").copying, Some(Copying::In));
    for (options, header) in [
        ("", false),
        ("(FORMAT binary)", false),
        ("CSV HEADER", true),
        ("(FORMAT csv, HEADER)", true),
        ("(FORMAT csv, HEADER true)", true),
        ("(FORMAT csv, HEADER 'On')", true),
        ("(FORMAT csv, HEADER 1)", true),
        ("(FORMAT csv, HEADER off)", false),
        ("(FORMAT csv, HEADER 0)", false),
        ("(FORMAT csv, HEADER 'no one knows')", false),
    ] {
        let copy = one(&format!("COPY people TO STDOUT {options}"));
        assert_eq!((copy.copying, copy.only_reads), (Some(Copying::Out { header }), true), "{options}");
    }
    assert!(one("COPY (SELECT id FROM people) TO STDOUT").only_reads && !one("COPY people TO '/x'").only_reads);
    assert!(!one("COPY (DELETE FROM orders RETURNING id) TO STDOUT").only_reads);
    assert!(!one("COPY (SELECT id FROM people FOR UPDATE) TO STDOUT").only_reads);
    assert!(
        !one("COPY (SELECT leak(people) FROM people) TO STDOUT").only_reads
            && !one("COPY people FROM STDIN").only_reads
    );
    assert_eq!(one("COPY people TO '/x'").copying, None);
    assert!(one("SELECT id FROM people").only_reads && one("VALUES (1)").only_reads);
    assert!(!one("DELETE FROM orders").only_reads && !one("EXPLAIN SELECT 1").only_reads);
    assert!(!one("SELECT leak(people) FROM people").only_reads && !one("SELECT 1 INTO n").only_reads);
}

#[test]
fn what_is_not_utf8_on_both_sides_is_judged_only_as_far_as_it_means_the_same() {
    let with = |text: &str, client: bool, server: bool| {
        let facts = SessionFacts { utf8_client: client, utf8_server: server, ..facts() };
        map(text, "wh", &SAMPLE, &facts, &Session).map(|_| ()).map_err(|refusal| refusal.rule)
    };
    assert_eq!(with("SELECT 'é'", true, true), Ok(()));
    assert_eq!(with("SELECT 'e'", false, false), Ok(()));
    assert_eq!(with("SELECT 'é'", false, true), Err("encoding"));
    assert_eq!(with("SELECT 'é' -- ü", true, false), Ok(()));
    assert_eq!(with("SELECT é", true, false), Err("encoding"));
    assert_eq!(with("SELECT 1\0", true, true), Err("nul"));
}

#[test]
fn the_end_of_a_transaction_hides_names_only_if_the_transaction_may_have_changed_them() {
    let text = "COMMIT; SELECT id FROM people";
    assert_eq!(mapped(text).map(|mapped| mapped.statements.len()), Ok(2));
    // Whoever does not say that nothing was changed is taken to have changed it.
    let refused = map(text, "wh", &SAMPLE, &facts(), &NothingPrepared).map(|_| ()).map_err(|refused| refused.rule);
    assert_eq!(refused, Err("depends-on-earlier"));
}

#[test]
fn a_name_that_does_not_exist_is_told_in_postgresqls_words_and_with_its_place() {
    let cases = [
        ("SELECT nope FROM people", "42703", "column \"nope\" does not exist", Some(8)),
        ("SELECT 'é', nope FROM people", "42703", "column \"nope\" does not exist", Some(13)),
        ("SELECT 1 FROM nope", "42P01", "relation \"nope\" does not exist", Some(15)),
        ("SELECT nope(1)", "42883", "function nope does not exist", Some(8)),
        ("SELECT 1::nope", "42704", "type \"nope\" does not exist", Some(11)),
        ("SELECT 1 <=> 2", "42883", "operator does not exist: <=>", Some(10)),
        ("CREATE TABLE t (a nope)", "42704", "type \"nope\" does not exist", Some(19)),
        ("CREATE TABLE t (LIKE nope)", "42P01", "relation \"nope\" does not exist", Some(22)),
        ("SELECT 1; SELECT nope", "42703", "column \"nope\" does not exist", Some(18)),
        ("TRUNCATE nope", "42P01", "relation \"nope\" does not exist", None),
        ("DROP TABLE nope", "42P01", "table \"nope\" does not exist", None),
        ("DROP VIEW public.nope", "42P01", "view \"nope\" does not exist", None),
        ("DROP FUNCTION nope", "42883", "could not find a function named \"nope\"", None),
        ("DROP FUNCTION nope(int, text[])", "42883", "function nope(integer, text[]) does not exist", None),
        ("DROP FUNCTION nope(nada)", "42704", "type \"nada\" does not exist", None),
        ("DROP PROCEDURE nope()", "42883", "procedure nope() does not exist", None),
        ("ALTER FUNCTION nope() VOLATILE", "42883", "function nope() does not exist", None),
        ("COMMENT ON AGGREGATE nope(*) IS ''", "42883", "aggregate nope(*) does not exist", None),
        ("DROP INDEX nope", "42P01", "index \"nope\" does not exist", None),
        ("DROP SEQUENCE nope.nope", "3F000", "schema \"nope\" does not exist", None),
    ];
    for (text, sqlstate, message, position) in cases {
        let refusal = mapped(text).expect_err(text);
        assert_eq!((refusal.sqlstate, &*refusal.message, refusal.position), (sqlstate, message, position), "{text}");
        assert!(refusal.stale, "{text}");
    }
}
