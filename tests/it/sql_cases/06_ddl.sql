-- # Definitions
CREATE TABLE fresh (id int)
--> sql:Create public.*

CREATE TABLE sales.fresh (id int, n int DEFAULT 1, CHECK (n > 0))
--> sql:Create sales.*

CREATE TABLE fresh (id int DEFAULT add_one(1))
--> sql:Create public.* + sql:Execute public.add_one() + sql:ExecuteCode database

CREATE TABLE fresh (id int CHECK (add_one(id) > 0))
--> sql:Create public.* + sql:Execute public.add_one() + sql:ExecuteCode database

CREATE TABLE fresh (id int REFERENCES people)
--> sql:Create public.* + sql:Alter public.people

CREATE SCHEMA fresh
--> sql:Create database

CREATE SCHEMA fresh CREATE TABLE t (id int) CREATE VIEW v AS SELECT ssn FROM public.people
--> sql:Create database + sql:Create fresh.* + sql:Create fresh.* + sql:Select public.people[ssn]

CREATE INDEX ON people (ssn)
--> sql:Create public.people

CREATE INDEX ON people ((ssn || '!'))
--> sql:Create public.people + sql:Select public.people[ssn]

CREATE INDEX ON people (id) WHERE ssn > '2'
--> sql:Create public.people + sql:Select public.people[ssn]

CREATE STATISTICS ON (ssn || '!'), id FROM people
--> sql:Create public.people + sql:Select public.people[ssn]
--@ may fail 42601

ALTER TABLE people ADD CHECK (length(ssn) > 1)
--> sql:Alter public.people + sql:Select public.people[ssn]

ALTER TABLE people ADD COLUMN hint text GENERATED ALWAYS AS (ssn || '!') STORED
--> sql:Alter public.people + sql:Select public.people[ssn]

ALTER TABLE people ADD COLUMN size int CHECK (size > 0)
--> sql:Alter public.people

CREATE SEQUENCE fresh
--> sql:Create public.*

CREATE DOMAIN fresh AS int CHECK (VALUE > 0)
--> sql:Create public.*

CREATE TYPE fresh AS ENUM ('a')
--> sql:Create public.*

CREATE FUNCTION fresh() RETURNS text LANGUAGE sql AS 'SELECT ssn FROM people LIMIT 1'
--> sql:Create public.* + sql:ExecuteCode database

CREATE OR REPLACE FUNCTION add_one(int) RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'
--> sql:Create public.* + sql:Alter public.add_one() + sql:ExecuteCode database

CREATE PROCEDURE fresh() LANGUAGE sql AS 'DELETE FROM orders'
--> sql:Create public.* + sql:ExecuteCode database

CREATE TRIGGER t BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()
--> sql:Create public.orders + sql:ExecuteCode database
--@ may fail 0A000

CREATE RULE r AS ON INSERT TO orders DO INSTEAD DELETE FROM people
--> sql:Create public.orders + sql:ExecuteCode database

CREATE POLICY p ON people USING (ssn = current_user)
--> sql:Create public.people + sql:ExecuteCode database

CREATE OPERATOR public.=== (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq)
--> sql:Create public.* + sql:ExecuteCode database

CREATE CAST (text AS positive) WITH INOUT
--> sql:Create database + sql:ExecuteCode database
--@ may fail 42P17

CREATE AGGREGATE fresh (int) (SFUNC = int4larger, STYPE = int)
--> sql:Create public.* + sql:ExecuteCode database

CREATE EVENT TRIGGER t ON ddl_command_start EXECUTE FUNCTION no_such_function()
--! 42883

CREATE EXTENSION no_such_extension
--> sql:Create database
--@ may fail 0A000

CREATE DATABASE fresh
--@ alone
--@ may fail 42P04
--> sql:Create database

CREATE SUBSCRIPTION s CONNECTION 'dbname=nowhere' PUBLICATION p WITH (connect = false)
--> sql:Create database

CREATE PUBLICATION p FOR ALL TABLES
--> sql:Create database

ALTER TABLE people ADD COLUMN extra text
--> sql:Alter public.people

ALTER TABLE people DROP COLUMN name
--> sql:Alter public.people
--@ may fail 2BP01

ALTER TABLE people RENAME TO persons
--> sql:Alter public.people

ALTER TABLE people RENAME COLUMN name TO label
--> sql:Alter public.people

ALTER TABLE people SET SCHEMA sales
--> sql:Alter public.people + sql:Create sales.*

ALTER TABLE people OWNER TO other
--> sql:Alter public.people + sql:Grant public.people

ALTER TABLE people ALTER COLUMN name TYPE text USING ssn
--> sql:Alter public.people + sql:Select public.people[name,ssn]
--@ may fail 0A000

ALTER TABLE people DISABLE TRIGGER ALL
--> sql:Alter public.people

ALTER TABLE people ENABLE ROW LEVEL SECURITY
--> sql:Alter public.people

ALTER TABLE events ATTACH PARTITION orders DEFAULT
--> sql:Alter public.events + sql:Alter public.orders
--@ may fail 42804

ALTER VIEW people_names RENAME TO names
--> sql:Alter public.people_names

ALTER SEQUENCE order_ids RESTART
--> sql:Alter public.order_ids

ALTER FUNCTION leak(people) SECURITY DEFINER
--> sql:Alter public.leak() + sql:ExecuteCode database

ALTER SYSTEM SET jit = off
--@ alone
--> sql:Alter database

ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC
--> sql:Grant database

DROP TABLE orders
--> sql:Drop public.orders
--@ may fail 2BP01

DROP TABLE IF EXISTS no_such_table
--> sql:Drop public.*

DROP TABLE sales.orders, sales.secrets
--> sql:Drop sales.orders + sql:Drop sales.secrets

DROP VIEW people_names CASCADE
--> sql:Drop public.people_names

DROP SCHEMA sales CASCADE
--> sql:Drop sales.*

DROP FUNCTION leak(people)
--> sql:Drop public.leak()

DROP SEQUENCE order_ids
--> sql:Drop public.order_ids

DROP OWNED BY other
--> sql:Drop database

REASSIGN OWNED BY other TO CURRENT_USER
--> sql:Alter database + sql:Grant database

GRANT SELECT ON people TO PUBLIC
--> sql:Grant public.people

GRANT SELECT (ssn) ON people TO other
--> sql:Grant public.people

GRANT SELECT ON ALL TABLES IN SCHEMA sales TO other
--> sql:Grant sales.*

GRANT EXECUTE ON FUNCTION leak(people) TO PUBLIC
--> sql:Grant public.leak()

REVOKE ALL ON people FROM PUBLIC
--> sql:Grant public.people

COMMENT ON TABLE people IS 'x'
--> sql:Alter public.people

SECURITY LABEL ON TABLE people IS 'x'
--> sql:Alter public.people
--@ may fail 22023

VACUUM people
--@ alone
--> sql:Maintain public.people

ANALYZE people
--> sql:Maintain public.people

ANALYZE people (ssn)
--> sql:Maintain public.people

VACUUM
--@ alone
--> sql:Maintain database

CLUSTER people USING people_pkey
--> sql:Maintain public.people

REINDEX TABLE people
--> sql:Maintain public.people

REFRESH MATERIALIZED VIEW order_totals
--> sql:Maintain public.order_totals

DO $$ BEGIN DELETE FROM orders; END $$
--> sql:ExecuteCode database

DO LANGUAGE plpgsql 'begin perform 1; end'
--> sql:ExecuteCode database

LOAD 'auto_explain'
--> sql:ExecuteCode database

PREPARE TRANSACTION 'x'
--@ first BEGIN
--> sql:Alter database
--@ may fail 55000

COMMIT PREPARED 'no such transaction'
--@ alone
--> sql:Alter database
--@ may fail 42704

IMPORT FOREIGN SCHEMA public FROM SERVER nowhere INTO public
--> sql:Create public.* + sql:Alter database
--@ may fail 42704

CREATE FOREIGN DATA WRAPPER fresh
--> sql:Create database + sql:ExecuteCode database

CREATE TABLESPACE fresh LOCATION '/nowhere'
--@ alone
--> sql:Create database
--@ may fail 58P01

CREATE TRIGGER t BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION traps.fired()
--> sql:Create public.orders + sql:ExecuteCode database + sql:Execute traps.fired()

CREATE POLICY p ON people USING (EXISTS (SELECT FROM sales.secrets WHERE v = ssn))
--> sql:Create public.people + sql:ExecuteCode database + sql:Select sales.secrets[v]

CREATE INDEX ON people (add_one(id))
--> sql:Create public.people + sql:Execute public.add_one() + sql:ExecuteCode database + sql:Select public.people[id]
--@ may fail 42P17

CREATE INDEX ON people (id) WHERE leak(people) = 'x'
--> sql:Create public.people + sql:Execute public.leak() + sql:ExecuteCode database + sql:Select public.people[id,name,ssn]
--@ may fail 42P17

ALTER TABLE people ADD CHECK (add_one(id) > 0)
--> sql:Alter public.people + sql:Execute public.add_one() + sql:ExecuteCode database + sql:Select public.people[id]

ALTER TABLE people ALTER COLUMN id SET DEFAULT add_one(1)
--> sql:Alter public.people + sql:Execute public.add_one() + sql:ExecuteCode database

ALTER DOMAIN positive ADD CHECK (add_one(VALUE) > 0)
--> sql:Alter public.* + sql:Execute public.add_one() + sql:ExecuteCode database + sql:Select public.measured[n]

-- # Several in one text, as pg_restore sends them
REVOKE ALL ON SCHEMA public FROM PUBLIC; GRANT ALL ON SCHEMA public TO PUBLIC
--@ simple
--> sql:Grant public.*

GRANT USAGE ON SCHEMA sales TO other; GRANT SELECT ON TABLE sales.orders TO other; GRANT EXECUTE ON FUNCTION public.leak(public.people) TO other
--@ simple
--> sql:Grant sales.* + sql:Grant sales.orders[] + sql:Grant public.leak()

REVOKE USAGE ON SCHEMA sales FROM other; SELECT 1 FROM orders
--@ simple
--! 0A000
