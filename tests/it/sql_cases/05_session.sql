-- # Nothing is touched
BEGIN
--> sql:Connect database

START TRANSACTION ISOLATION LEVEL SERIALIZABLE READ ONLY
--> sql:Connect database

COMMIT
--> sql:Connect database

ROLLBACK
--> sql:Connect database

SAVEPOINT a
--@ first BEGIN
--> sql:Connect database

ROLLBACK TO a
--@ first BEGIN
--@ first SAVEPOINT a
--> sql:Connect database

RELEASE a
--@ first BEGIN
--@ first SAVEPOINT a
--> sql:Connect database

SET CONSTRAINTS ALL DEFERRED
--> sql:Connect database

SET TRANSACTION READ ONLY
--> sql:Connect database

SELECT 1
--> sql:Connect database

VALUES (1, 'a'), (2, 'b')
--> sql:Connect database

SHOW search_path
--> sql:Connect database

SHOW ALL
--> sql:Connect database

CHECKPOINT
--> sql:Maintain database

-- # Settings
SET DateStyle = 'ISO'
--> sql:Connect database

SET extra_float_digits = 3
--> sql:Connect database

SET statement_timeout = '5s'
--> sql:Connect database

SET jit = off
--> sql:Connect database

SET TIME ZONE 'UTC'
--> sql:Connect database

SET application_name = 'mine'
--> sql:Connect database

SET client_min_messages = warning
--> sql:Connect database

SET search_path = traps
--> sql:Connect database

SELECT set_config('jit', 'off', false)
--> sql:Connect database

SELECT set_config('search_path', 'traps', false)
--> sql:Connect database

SELECT set_config(name, 'x', false) FROM people
--! 0A000

SELECT set_config('j' || 'it', 'off', false)
--! 0A000

SET session_replication_role = replica
--> sql:Set database setting=session_replication_role

SET row_security = off
--> sql:Connect database

SET LOCAL work_mem = '1MB'
--> sql:Connect database

SET mine.own = 'x'
--> sql:Set database setting=mine.own

UPDATE pg_settings SET setting = 'off' WHERE name = 'jit'
--! 0A000

UPDATE pg_catalog.pg_settings SET setting = name
--! 0A000

SET portcullis.spiffe_id = 'spiffe://pipeline.example/ns/other/sa/x'
--! refused

SET "portcullis.spiffe_id" = 'x'
--! refused

SET LOCAL Portcullis.Spiffe_Id = 'x'
--! refused

SELECT set_config('portcullis.spiffe_id', 'x', false)
--! refused

SELECT set_config('PORTCULLIS.SPIFFE_ID', 'x', true)
--! refused

RESET portcullis.spiffe_id
--> sql:Connect database

SET standard_conforming_strings = off
--! refused

SELECT set_config('standard_conforming_strings', 'off', false)
--! refused

UPDATE pg_settings SET setting = 'off' WHERE name = 'standard_conforming_strings'
--! refused

SET backslash_quote = on
--> sql:Connect database

SET client_encoding = 'SJIS'
--! 0A000

RESET ALL
--> sql:Connect database

DISCARD ALL
--@ alone
--> sql:Connect database

DISCARD PLANS
--> sql:Connect database

RESET jit
--> sql:Connect database

-- # Roles
SET ROLE other
--> sql:SetRole database requestedRole=other

SET ROLE "other"
--> sql:SetRole database requestedRole=other

SET LOCAL ROLE other
--> sql:SetRole database requestedRole=other

SET "ROLE" = 'other'
--> sql:SetRole database requestedRole=other

SET U&"\0072ole" = 'other'
--> sql:SetRole database requestedRole=other

SELECT set_config('role', 'other', false)
--> sql:SetRole database requestedRole=other

SELECT set_config('Role', 'other', true)
--> sql:SetRole database requestedRole=other

SET SESSION AUTHORIZATION other
--> sql:SetRole database requestedRole=other

SET session_authorization = other
--> sql:SetRole database requestedRole=other

UPDATE pg_settings SET setting = 'other' WHERE name = 'role'
--! 0A000

RESET ROLE
--> sql:Connect database

RESET SESSION AUTHORIZATION
--> sql:Connect database

SET SESSION AUTHORIZATION DEFAULT
--> sql:Connect database

SET ROLE NONE
--> sql:Connect database

ALTER ROLE CURRENT_USER SET role = 'other'
--> sql:Alter database

ALTER DATABASE adversary SET search_path = traps
--> sql:Alter database

GRANT other TO CURRENT_USER
--> sql:Grant database

CREATE ROLE intruder SUPERUSER
--> sql:Create database

-- # Prepared statements and cursors in SQL
PREPARE p AS SELECT ssn FROM people
--> sql:Select public.people[ssn]

PREPARE p (int) AS DELETE FROM orders WHERE id = $1
--> sql:Delete public.orders[] + sql:Select public.orders[id]

EXECUTE p
--@ first PREPARE p AS SELECT name FROM people
--> sql:Select public.people[name]

EXECUTE p (1)
--@ first PREPARE p (int) AS INSERT INTO orders (id) VALUES ($1)
--> sql:Insert public.orders[id]

EXECUTE p ((SELECT 1))
--@ first PREPARE p (int) AS INSERT INTO orders (id) VALUES ($1)
--> sql:Insert public.orders[id]
--@ may fail 0A000

EXECUTE p (add_one(1))
--@ first PREPARE p (int) AS SELECT name FROM people WHERE id = $1
--> sql:Select public.people[id,name] + sql:Execute public.add_one()

CREATE TABLE copied AS EXECUTE p
--@ first PREPARE p AS SELECT name FROM people
--> sql:Create public.* + sql:Select public.people[name]

EXPLAIN ANALYZE EXECUTE p
--@ first PREPARE p AS DELETE FROM orders
--> sql:Delete public.orders[]

EXECUTE p
--@ first PREPARE p AS SELECT id FROM orders
--@ first SET search_path = traps
--> sql:Select traps.orders[id]

EXECUTE no_such_statement
--! 26000

DEALLOCATE p
--@ first PREPARE p AS SELECT 1
--> sql:Connect database

DEALLOCATE ALL
--> sql:Connect database

DECLARE c CURSOR FOR SELECT ssn FROM people
--@ first BEGIN
--> sql:Select public.people[ssn]

DECLARE c SCROLL CURSOR WITH HOLD FOR SELECT v FROM sales.secrets
--@ first BEGIN
--> sql:Select sales.secrets[v]

FETCH ALL FROM c
--@ first BEGIN
--@ first DECLARE c CURSOR FOR SELECT name FROM people
--> sql:Connect database

MOVE 1 FROM c
--@ first BEGIN
--@ first DECLARE c CURSOR FOR SELECT name FROM people
--> sql:Connect database

CLOSE c
--@ first BEGIN
--@ first DECLARE c CURSOR FOR SELECT name FROM people
--> sql:Connect database

UPDATE people SET name = 'x' WHERE CURRENT OF c
--@ first BEGIN
--@ first DECLARE c CURSOR FOR SELECT name FROM people FOR UPDATE
--@ first FETCH 1 FROM c
--> sql:Update public.people[name]

-- # Channels and large objects
LISTEN jobs
--> sql:Listen database channel=jobs

UNLISTEN *
--> sql:Connect database

NOTIFY jobs, 'x'
--> sql:Notify database channel=jobs

NOTIFY "Jobs"
--> sql:Notify database channel=Jobs

-- # The catalogue
SELECT relname FROM pg_class
--> sql:Introspect database

SELECT c.relname, a.attname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid
--> sql:Introspect database

SELECT table_name FROM information_schema.tables
--> sql:Introspect database

SELECT relname, name FROM pg_class, people
--> sql:Introspect database + sql:Select public.people[name]

SELECT most_common_vals FROM pg_stats
--> sql:Select pg_catalog.pg_stats[most_common_vals]

SELECT stavalues1 FROM pg_statistic
--> sql:Select pg_catalog.pg_statistic[stavalues1]

SELECT rolpassword FROM pg_authid
--> sql:Select pg_catalog.pg_authid[rolpassword]

SELECT passwd FROM pg_shadow
--> sql:Select pg_catalog.pg_shadow[passwd]

SELECT data FROM pg_largeobject
--> sql:Select pg_catalog.pg_largeobject[data]

SELECT umoptions FROM pg_user_mapping
--> sql:Select pg_catalog.pg_user_mapping[umoptions]

SELECT * FROM pg_hba_file_rules
--> sql:Select pg_catalog.pg_hba_file_rules[address,auth_method,database,error,line_number,netmask,options,type,user_name]

SELECT sourceline FROM pg_file_settings
--> sql:Select pg_catalog.pg_file_settings[sourceline]

SELECT query FROM pg_stat_activity
--> sql:Introspect database + sql:Select pg_catalog.pg_stat_activity[query]

SELECT rolname FROM pg_roles
--> sql:Introspect database

DELETE FROM pg_class WHERE relname = 'people'
--> sql:Delete pg_catalog.pg_class[] + sql:Introspect database

UPDATE pg_class SET relrowsecurity = false
--> sql:Update pg_catalog.pg_class[relrowsecurity]

-- # Roles in more spellings
SET SESSION ROLE other
--> sql:SetRole database requestedRole=other

SET role TO 'other'
--> sql:SetRole database requestedRole=other

SET LOCAL SESSION AUTHORIZATION 'other'
--> sql:SetRole database requestedRole=other

SET LOCAL "SESSION_AUTHORIZATION" TO other
--> sql:SetRole database requestedRole=other

SELECT pg_catalog.set_config('ROLE', 'other', false)
--> sql:SetRole database requestedRole=other

SELECT set_config('session_authorization', 'other', true)
--> sql:SetRole database requestedRole=other

SELECT name FROM people WHERE set_config('role', 'other', true) = 'x'
--> sql:SetRole database requestedRole=other + sql:Select public.people[name]

WITH s AS (SELECT set_config('role', 'other', true)) SELECT * FROM s
--> sql:SetRole database requestedRole=other

SELECT set_config('role', name, true) FROM people
--> sql:SetRole database + sql:Select public.people[name]
--@ may fail 22023

EXPLAIN ANALYZE SELECT set_config('role', 'other', true)
--> sql:SetRole database requestedRole=other

ALTER USER CURRENT_USER SET session_authorization = other
--> sql:Alter database

ALTER ROLE ALL SET search_path = traps
--> sql:Alter database

ALTER ROLE CURRENT_USER REPLICATION
--> sql:Alter database

SET client_encoding = 'LATIN1'
--! 0A000

SET NAMES 'BIG5'
--! 0A000

SET NAMES 'UTF8'
--> sql:Connect database
