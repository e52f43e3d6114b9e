-- # INSERT
INSERT INTO people VALUES (3, 'x', 'y')
--> sql:Insert public.people[id,name,ssn]

INSERT INTO people (id, name) VALUES (3, 'x')
--> sql:Insert public.people[id,name]

INSERT INTO people DEFAULT VALUES
--> sql:Insert public.people[id,name,ssn]
--@ may fail 23502

INSERT INTO people (id, name) SELECT id + 10, v FROM orders, sales.secrets
--> sql:Insert public.people[id,name] + sql:Select public.orders[id] + sql:Select sales.secrets[v]
--@ may fail 23505

INSERT INTO orders (customer) SELECT length(ssn) FROM people
--> sql:Insert public.orders[customer] + sql:Select public.people[ssn]

INSERT INTO orders (customer) VALUES ((SELECT length(max(ssn)) FROM people))
--> sql:Insert public.orders[customer] + sql:Select public.people[ssn]

INSERT INTO people (id, name) VALUES (3, 'x') RETURNING id
--> sql:Insert public.people[id,name] + sql:Select public.people[id]

INSERT INTO people (id, name) VALUES (3, 'x') RETURNING *
--> sql:Insert public.people[id,name] + sql:Select public.people[id,name,ssn]

INSERT INTO people AS p (id, name) VALUES (3, 'x') RETURNING p
--> sql:Insert public.people[id,name] + sql:Select public.people[id,name,ssn]

INSERT INTO people (id, name) VALUES (3, 'x') RETURNING leak(people)
--> sql:Insert public.people[id,name] + sql:Select public.people[id,name,ssn] + sql:Execute public.leak()

INSERT INTO people (id, name) VALUES (3, 'x') RETURNING (SELECT v FROM sales.secrets)
--> sql:Insert public.people[id,name] + sql:Select sales.secrets[v]

INSERT INTO people (id, name) VALUES (1, 'x') ON CONFLICT DO NOTHING
--> sql:Insert public.people[id,name]

INSERT INTO people (id, name) VALUES (1, 'x') ON CONFLICT (id) DO NOTHING
--> sql:Insert public.people[id,name] + sql:Select public.people[id]

INSERT INTO people (id, name) VALUES (1, 'x') ON CONFLICT ON CONSTRAINT people_pkey DO NOTHING
--> sql:Insert public.people[id,name] + sql:Select public.people[id,name,ssn]

INSERT INTO people (id, name) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET name = 'z'
--> sql:Insert public.people[id,name] + sql:Select public.people[id] + sql:Update public.people[name]

INSERT INTO people (id, name) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET name = people.ssn
--> sql:Insert public.people[id,name] + sql:Select public.people[id,ssn] + sql:Update public.people[name]

INSERT INTO people (id, name) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET ssn = excluded.name
--> sql:Insert public.people[id,name] + sql:Select public.people[id,name] + sql:Update public.people[ssn]

INSERT INTO people (id, name) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET name = 'z' WHERE people.ssn = '123-45'
--> sql:Insert public.people[id,name] + sql:Select public.people[id,ssn] + sql:Update public.people[name]

INSERT INTO people AS p (id, name) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET (name, ssn) = (SELECT k, v FROM sales.secrets) RETURNING p.id
--> sql:Insert public.people[id,name] + sql:Select public.people[id] + sql:Update public.people[name,ssn] + sql:Select sales.secrets[k,v]

WITH s AS (SELECT v FROM sales.secrets) INSERT INTO orders (customer) SELECT length(v) FROM s
--> sql:Insert public.orders[customer] + sql:Select sales.secrets[v]

INSERT INTO people_names (id, name) VALUES (3, 'x')
--> sql:Insert public.people_names[id,name] base=public.people,public.people.id,public.people.name

INSERT INTO events (id, day, body) VALUES (3, '2025-06-06', 'c')
--> sql:Insert public.events[body,day,id]

INSERT INTO sales.computed (a, b) VALUES (1, 2)
--> sql:Insert sales.computed[a,b]

INSERT INTO measured (n) VALUES (5)
--> sql:Insert public.measured[n]

-- # UPDATE
UPDATE people SET name = 'x'
--> sql:Update public.people[name]

UPDATE people SET name = 'x' WHERE id = 1
--> sql:Update public.people[name] + sql:Select public.people[id]

UPDATE people SET name = ssn
--> sql:Update public.people[name] + sql:Select public.people[ssn]

UPDATE people SET name = name || 'x' WHERE ssn LIKE '1%'
--> sql:Update public.people[name] + sql:Select public.people[name,ssn]

UPDATE people SET name = 'x' RETURNING ssn
--> sql:Update public.people[name] + sql:Select public.people[ssn]

UPDATE people p SET name = 'x' RETURNING p.*
--> sql:Update public.people[name] + sql:Select public.people[id,name,ssn]

UPDATE people SET name = 'x' RETURNING people
--> sql:Update public.people[name] + sql:Select public.people[id,name,ssn]

UPDATE people SET (name, ssn) = ('a', 'b')
--> sql:Update public.people[name,ssn]

UPDATE people SET (name, ssn) = (SELECT k, v FROM sales.secrets)
--> sql:Update public.people[name,ssn] + sql:Select sales.secrets[k,v]

UPDATE people SET name = s.v FROM sales.secrets s
--> sql:Update public.people[name] + sql:Select sales.secrets[v]

UPDATE orders SET customer = length(p.ssn) FROM people p WHERE p.id = orders.customer
--> sql:Update public.orders[customer] + sql:Select public.people[id,ssn] + sql:Select public.orders[customer]

UPDATE people SET name = DEFAULT
--> sql:Update public.people[name]
--@ may fail 23502

UPDATE ONLY base_log SET note = 'z'
--> sql:Update public.base_log[note]

UPDATE base_log SET note = 'z'
--> sql:Update public.base_log[note] + sql:Update public.audit_log[note]

WITH c AS (SELECT ssn FROM people) UPDATE orders SET customer = (SELECT length(max(ssn)) FROM c)
--> sql:Update public.orders[customer] + sql:Select public.people[ssn]

UPDATE people SET name = (SELECT 'x' WHERE people.ssn IS NOT NULL)
--> sql:Update public.people[name] + sql:Select public.people[ssn]
--@ may fail 23502

-- # DELETE and TRUNCATE
DELETE FROM orders
--> sql:Delete public.orders[]

DELETE FROM people WHERE ssn = '123-45'
--> sql:Delete public.people[] + sql:Select public.people[ssn]

DELETE FROM people RETURNING *
--> sql:Delete public.people[] + sql:Select public.people[id,name,ssn]

DELETE FROM orders USING people p WHERE p.ssn = '123-45' AND p.id = orders.customer
--> sql:Delete public.orders[] + sql:Select public.people[id,ssn] + sql:Select public.orders[customer]

DELETE FROM base_log
--> sql:Delete public.base_log[] + sql:Delete public.audit_log[]

DELETE FROM ONLY base_log
--> sql:Delete public.base_log[]

DELETE FROM events_2025
--> sql:Delete public.events_2025[]

DELETE FROM people_names WHERE id = 1
--> sql:Delete public.people_names[] base=public.people,public.people.id,public.people.name + sql:Select public.people_names[id] base=public.people,public.people.id,public.people.name

DELETE FROM keyed
--> sql:Delete public.keyed[]

DELETE FROM people WHERE people.leak = '123-45'
--> sql:Delete public.people[] + sql:Select public.people[id,name,ssn] + sql:Execute public.leak()

TRUNCATE orders
--> sql:Truncate public.orders[]

TRUNCATE TABLE orders, sales.orders
--> sql:Truncate public.orders[] + sql:Truncate sales.orders[]

TRUNCATE keyed CASCADE
--> sql:Truncate public.keyed[] + sql:Truncate public.keyed_child[]

TRUNCATE base_log
--> sql:Truncate public.base_log[] + sql:Truncate public.audit_log[]

TRUNCATE ONLY base_log
--> sql:Truncate public.base_log[]

TRUNCATE orders RESTART IDENTITY
--> sql:Truncate public.orders[]

-- # Writes that hide
WITH d AS (DELETE FROM orders RETURNING id) SELECT id FROM d
--> sql:Delete public.orders[] + sql:Select public.orders[id]

WITH d AS (DELETE FROM orders) SELECT 1
--> sql:Delete public.orders[]

WITH i AS (INSERT INTO people (id, name) VALUES (3, 'x') RETURNING ssn) SELECT * FROM i
--> sql:Insert public.people[id,name] + sql:Select public.people[ssn]

WITH u AS (UPDATE people SET ssn = NULL RETURNING *) SELECT count(*) FROM u
--> sql:Update public.people[ssn] + sql:Select public.people[id,name,ssn]

WITH moved AS (DELETE FROM orders RETURNING *) INSERT INTO sales.orders SELECT * FROM moved
--> sql:Delete public.orders[] + sql:Select public.orders[amount,customer,day,id] + sql:Insert sales.orders[amount,customer,day,id]

WITH a AS (UPDATE people SET name = 'x' WHERE id = 1), b AS (DELETE FROM orders WHERE id = 1) SELECT 1
--> sql:Update public.people[name] + sql:Select public.people[id] + sql:Delete public.orders[] + sql:Select public.orders[id]

EXPLAIN DELETE FROM orders
--> sql:Delete public.orders[]

EXPLAIN ANALYZE DELETE FROM orders
--> sql:Delete public.orders[]

EXPLAIN (ANALYZE, VERBOSE) UPDATE people SET name = ssn
--> sql:Update public.people[name] + sql:Select public.people[ssn]

EXPLAIN SELECT ssn FROM people WHERE ssn = '123-45'
--> sql:Select public.people[ssn]

EXPLAIN ANALYZE CREATE TABLE copied AS SELECT ssn FROM people
--> sql:Create public.* + sql:Select public.people[ssn]

EXPLAIN (ANALYZE false) WITH d AS (DELETE FROM orders RETURNING id) SELECT id FROM d
--> sql:Delete public.orders[] + sql:Select public.orders[id]

-- # SELECT that makes or locks something
SELECT ssn INTO copied FROM people
--> sql:Create public.* + sql:Select public.people[ssn]

SELECT * INTO TEMP copied FROM people
--> sql:Create pg_temp.* + sql:Select public.people[id,name,ssn]

CREATE TABLE copied AS SELECT ssn FROM people
--> sql:Create public.* + sql:Select public.people[ssn]

CREATE TABLE sales.copied AS TABLE people
--> sql:Create sales.* + sql:Select public.people[id,name,ssn]

CREATE TEMP TABLE copied AS TABLE people
--> sql:Create pg_temp.* + sql:Select public.people[id,name,ssn]

CREATE TABLE copied (a, b) AS WITH d AS (SELECT v FROM sales.secrets) SELECT p.ssn, d.v FROM people p, d
--> sql:Create public.* + sql:Select public.people[ssn] + sql:Select sales.secrets[v]

CREATE MATERIALIZED VIEW copied AS SELECT ssn FROM people
--> sql:Create public.* + sql:Select public.people[ssn]

CREATE VIEW seen AS SELECT ssn FROM people
--> sql:Create public.* + sql:Select public.people[ssn]

CREATE TABLE copied (LIKE people INCLUDING ALL)
--> sql:Create public.* + sql:Select public.people[id,name,ssn]

CREATE TABLE copied () INHERITS (people)
--> sql:Create public.* + sql:Alter public.people

SELECT name FROM people FOR UPDATE
--> sql:Select public.people[name] + sql:Lock public.people[]

SELECT name FROM people FOR SHARE
--> sql:Select public.people[name] + sql:Lock public.people[]

SELECT p.name FROM people p, orders o FOR UPDATE OF o NOWAIT
--> sql:Select public.people[name] + sql:Select public.orders[] + sql:Lock public.orders[]
--@ may fail 55P03

SELECT s.name FROM (SELECT name FROM people) s FOR NO KEY UPDATE SKIP LOCKED
--> sql:Select public.people[name] + sql:Lock public.people[]

LOCK TABLE people
--> sql:Lock public.people[]

LOCK TABLE people, sales.secrets IN ACCESS SHARE MODE
--> sql:Lock public.people[] + sql:Lock sales.secrets[]

SELECT pg_advisory_lock(1)
--> sql:Lock database

SELECT pg_try_advisory_xact_lock(1, 2)
--> sql:Lock database

-- # MERGE
MERGE INTO people p USING keyed k ON p.id = k.id WHEN MATCHED THEN UPDATE SET name = k.name
--> sql:Merge public.people[] + sql:Select public.people[id] + sql:Select public.keyed[id,name] + sql:Update public.people[name]

MERGE INTO people p USING keyed k ON p.ssn = k.secret WHEN NOT MATCHED THEN INSERT (id, name) VALUES (k.id + 10, k.name)
--> sql:Merge public.people[] + sql:Select public.people[ssn] + sql:Select public.keyed[id,name,secret] + sql:Insert public.people[id,name]

MERGE INTO people p USING keyed k ON p.id = k.id WHEN MATCHED AND p.ssn IS NULL THEN DELETE
--> sql:Merge public.people[] + sql:Select public.people[id,ssn] + sql:Select public.keyed[id] + sql:Delete public.people[]

MERGE INTO people p USING (SELECT v FROM sales.secrets) s ON p.name = s.v WHEN MATCHED THEN DO NOTHING
--> sql:Merge public.people[] + sql:Select public.people[name] + sql:Select sales.secrets[v]

MERGE INTO people p USING keyed k ON p.id = k.id WHEN MATCHED THEN UPDATE SET name = p.ssn WHEN NOT MATCHED THEN INSERT VALUES (k.id, k.name, k.secret)
--> sql:Merge public.people[] + sql:Select public.people[id,ssn] + sql:Select public.keyed[id,name,secret] + sql:Update public.people[name] + sql:Insert public.people[id,name,ssn]

WITH s AS (SELECT v FROM sales.secrets) MERGE INTO people p USING s ON p.name = s.v WHEN MATCHED THEN DELETE
--> sql:Merge public.people[] + sql:Select public.people[name] + sql:Select sales.secrets[v] + sql:Delete public.people[]

MERGE INTO people p USING keyed k ON p.id = k.id WHEN NOT MATCHED BY SOURCE THEN DELETE
--! 0A000

-- # COPY
COPY people TO STDOUT
--> sql:Select public.people[id,name,ssn]

COPY people (name) TO STDOUT
--> sql:Select public.people[name]

COPY (SELECT ssn FROM people) TO STDOUT
--> sql:Select public.people[ssn]

COPY (SELECT people FROM people) TO STDOUT WITH (FORMAT csv, HEADER)
--> sql:Select public.people[id,name,ssn]

COPY (WITH d AS (DELETE FROM orders RETURNING *) SELECT * FROM d) TO STDOUT
--> sql:Delete public.orders[] + sql:Select public.orders[amount,customer,day,id]

COPY (DELETE FROM orders RETURNING id) TO STDOUT
--> sql:Delete public.orders[] + sql:Select public.orders[id]

COPY people FROM STDIN
--> sql:Insert public.people[id,name,ssn]

COPY people (id, name) FROM STDIN
--> sql:Insert public.people[id,name]

COPY people (id, name) FROM STDIN WHERE ssn IS NULL
--> sql:Insert public.people[id,name] + sql:Select public.people[ssn]

COPY sales.secrets FROM STDIN WITH (FORMAT binary)
--> sql:Insert sales.secrets[k,v]
--@ may fail 22P04

COPY people TO '/dev/null'
--> sql:Select public.people[id,name,ssn] + sql:CopyFile database

COPY people (id, name) FROM '/dev/null'
--> sql:Insert public.people[id,name] + sql:CopyFile database

COPY people TO PROGRAM 'cat'
--> sql:Select public.people[id,name,ssn] + sql:CopyProgram database

COPY orders FROM PROGRAM 'true'
--> sql:Insert public.orders[amount,customer,day,id] + sql:CopyProgram database

COPY (SELECT ssn FROM people) TO PROGRAM 'cat'
--> sql:Select public.people[ssn] + sql:CopyProgram database

-- # More spellings of what hides
EXPLAIN (ANALYZE, FORMAT JSON, BUFFERS) INSERT INTO orders (id) VALUES (3)
--> sql:Insert public.orders[id]

EXPLAIN ANALYZE SELECT ssn FROM people
--> sql:Select public.people[ssn]

EXPLAIN (COSTS off) SELECT name FROM people WHERE EXISTS (SELECT FROM sales.secrets WHERE v = people.ssn)
--> sql:Select public.people[name,ssn] + sql:Select sales.secrets[v]

EXPLAIN ANALYZE SELECT add_one(id) FROM people
--> sql:Select public.people[id] + sql:Execute public.add_one()

EXPLAIN ANALYZE MERGE INTO people p USING keyed k ON p.id = k.id WHEN MATCHED THEN DELETE
--> sql:Merge public.people[] + sql:Select public.people[id] + sql:Select public.keyed[id] + sql:Delete public.people[]

EXPLAIN ANALYZE DECLARE c CURSOR FOR SELECT ssn FROM people
--> sql:Select public.people[ssn]

SELECT name, ssn INTO UNLOGGED TABLE sales.copied FROM people
--> sql:Create sales.* + sql:Select public.people[name,ssn]

WITH c AS (SELECT ssn FROM people) SELECT * INTO copied FROM c
--> sql:Create public.* + sql:Select public.people[ssn]

CREATE UNLOGGED TABLE copied AS SELECT v FROM sales.secrets WITH NO DATA
--> sql:Create public.* + sql:Select sales.secrets[v]

CREATE TABLE IF NOT EXISTS copied AS SELECT people FROM people
--> sql:Create public.* + sql:Select public.people[id,name,ssn]

CREATE RECURSIVE VIEW seen (s) AS SELECT ssn FROM people
--> sql:Create public.* + sql:Select public.people[ssn]

CREATE OR REPLACE VIEW people_names AS SELECT id, ssn AS name FROM people
--> sql:Create public.* + sql:Alter public.people_names + sql:Select public.people[id,ssn]

WITH a AS (WITH b AS (DELETE FROM sales.secrets RETURNING v) SELECT v FROM b) SELECT * FROM a
--> sql:Delete sales.secrets[] + sql:Select sales.secrets[v]
--@ may fail 0A000

SELECT * FROM (DELETE FROM orders RETURNING id) d
--! 42601

INSERT INTO orders (id) WITH d AS (SELECT length(ssn) AS n FROM people) SELECT n FROM d
--> sql:Insert public.orders[id] + sql:Select public.people[ssn]

INSERT INTO orders TABLE sales.orders
--> sql:Insert public.orders[amount,customer,day,id] + sql:Select sales.orders[amount,customer,day,id]

INSERT INTO people OVERRIDING USER VALUE SELECT id + 10, ssn, ssn FROM people RETURNING (SELECT count(*) FROM sales.secrets WHERE v = people.ssn)
--> sql:Insert public.people[id,name,ssn] + sql:Select public.people[id,ssn] + sql:Select sales.secrets[v]

copy public.people (ssn) to stdout with (format binary)
--> sql:Select public.people[ssn]

COPY "people" ("ssn", name) TO STDOUT (FORMAT csv, FORCE_QUOTE *)
--> sql:Select public.people[name,ssn]

COPY (TABLE people) TO STDOUT
--> sql:Select public.people[id,name,ssn]

COPY (VALUES ((SELECT ssn FROM people LIMIT 1))) TO STDOUT
--> sql:Select public.people[ssn]

COPY (UPDATE people SET name = 'x' RETURNING ssn) TO STDOUT
--> sql:Update public.people[name] + sql:Select public.people[ssn]

COPY (INSERT INTO orders (id) VALUES (9) RETURNING id) TO PROGRAM 'cat > /dev/null'
--> sql:Insert public.orders[id] + sql:Select public.orders[id] + sql:CopyProgram database

COPY people (id, name) FROM STDIN WHERE add_one(id) > 1
--> sql:Insert public.people[id,name] + sql:Select public.people[id] + sql:Execute public.add_one()

-- # Views are asked as themselves
SELECT s FROM ssns s
--> sql:Select public.ssns[ssn] base=public.people,public.people.ssn

SELECT x.* FROM (TABLE ssns) x
--> sql:Select public.ssns[ssn] base=public.people,public.people.ssn

SELECT 1 FROM ssns WHERE ssns.ssn LIKE '1%'
--> sql:Select public.ssns[ssn] base=public.people,public.people.ssn

UPDATE ssns SET ssn = 'x'
--> sql:Update public.ssns[ssn] base=public.people,public.people.ssn

COPY (SELECT ssn FROM ssns) TO STDOUT
--> sql:Select public.ssns[ssn] base=public.people,public.people.ssn

-- # Constraint errors
INSERT INTO people (id, name) VALUES (1, 'x')
--> sql:Insert public.people[id,name]
--@ may fail 23505

UPDATE people SET name = NULL
--> sql:Update public.people[name]
--@ may fail 23502

INSERT INTO measured VALUES (-1, 'x')
--> sql:Insert public.measured[label,n]
--@ may fail 23514

INSERT INTO keyed_child (id) VALUES (77)
--> sql:Insert public.keyed_child[id]
--@ may fail 23503

INSERT INTO events (day) VALUES ('1999-01-01')
--> sql:Insert public.events[day]
--@ may fail 23514

-- # Views with security_invoker
UPDATE own_ssns SET ssn = 'x'
--> sql:Update public.own_ssns[ssn] base=public.people,public.people.id,public.people.ssn + sql:Select public.people[id,ssn] + sql:Update public.people

DELETE FROM own_ssns
--> sql:Delete public.own_ssns[] base=public.people,public.people.id,public.people.ssn + sql:Select public.people[id,ssn] + sql:Delete public.people[]

INSERT INTO own_ssns (id, ssn) VALUES (7, 'x')
--> sql:Insert public.own_ssns[id,ssn] base=public.people,public.people.id,public.people.ssn + sql:Select public.people[id,ssn] + sql:Insert public.people
--@ may fail 23502

-- # What pools send
SELECT pg_advisory_unlock_all()
--> sql:Connect database
