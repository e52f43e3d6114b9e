-- # Spelling: comments, quotes, escapes, dollar quoting
SELECT ssn/**/FROM/**/people
--> sql:Select public.people[ssn]

SELECT name /* FROM orders */ FROM people -- , sales.secrets
--> sql:Select public.people[name]

SELECT name /* outer /* inner */ still a comment */ , ssn FROM people
--> sql:Select public.people[name,ssn]

/* a comment */ DELETE /**/ FROM -- orders
orders
--> sql:Delete public.orders[]

SELECT '/*' , ssn FROM people --*/
--> sql:Select public.people[ssn]

SELECT 1 -- '
, ssn FROM people -- '
--> sql:Select public.people[ssn]

SeLeCt SSN fRoM PEOPLE
--> sql:Select public.people[ssn]

SELECT "ssn" FROM "people"
--> sql:Select public.people[ssn]

SELECT ssn FROM "PEOPLE"
--> sql:Select public."PEOPLE"[ssn]

SELECT "SSN" FROM people
--! 42703

SELECT U&"\0073sn" FROM U&"p\0065ople"
--> sql:Select public.people[ssn]

SELECT U&"!0073sn" UESCAPE '!' FROM people
--> sql:Select public.people[ssn]

SELECT U&"\+000073sn" FROM people
--> sql:Select public.people[ssn]

SELECT "a b" FROM "Odd.Name"
--> sql:Select public."Odd.Name"[a b]

SELECT "C""q" FROM public."Odd.Name"
--> sql:Select public."Odd.Name"[C"q]

SELECT 1 FROM "public.people"
--! 42P01

SELECT 1 FROM "Odd"."Name"
--! 42P01

SELECT $$ FROM sales.secrets $$, ssn FROM people
--> sql:Select public.people[ssn]

SELECT $a$ $$ ' $b$ $a$, ssn FROM people
--> sql:Select public.people[ssn]

SELECT '''', ssn FROM people
--> sql:Select public.people[ssn]

SELECT E'\'', ssn FROM people --'
--> sql:Select public.people[ssn]

SELECT '\', ssn FROM people
--> sql:Select public.people[ssn]

SELECT 'a'
'b', ssn FROM people
--> sql:Select public.people[ssn]

SELECT E'\x27 FROM sales.secrets --', name FROM people
--> sql:Select public.people[name]

SELECT U&'\0027 FROM sales.secrets', name FROM people
--> sql:Select public.people[name]

SELECT B'1', X'1F', N'x', ssn FROM people
--> sql:Select public.people[ssn]

SELECT 1a, ssn FROM people
--! 42601

SELECT ssn FROM people;
--> sql:Select public.people[ssn]

;;; SELECT ssn FROM people ;;
--@ simple
--> sql:Select public.people[ssn]

SELECT ssn FROM people WHERE
--! 42601

SELEC 1
--! 42601

SELECT 'unterminated
--! 42601

SELECT "" FROM people
--! 42601

SELECT ssn FROM people /* unterminated
--! 42601

SELECT ٠ FROM people
--! 42703

SELECT 1 AS "portcullis", ssn FROM people
--> sql:Select public.people[ssn]

-- Longer than 63 bytes: the server cuts it, so it must be cut here too.
SELECT p12345678901234567890123456789012345678901234567890123456789012345.ssn FROM people AS p12345678901234567890123456789012345678901234567890123456789012345
--> sql:Select public.people[ssn]

SELECT p123456789012345678901234567890123456789012345678901234567890123.ssn FROM people AS p12345678901234567890123456789012345678901234567890123456789012399
--> sql:Select public.people[ssn]

-- # Several statements in one text
SELECT 1; SELECT ssn FROM people
--@ simple
--> sql:Connect database + sql:Select public.people[ssn]

SELECT id FROM people; DELETE FROM orders
--@ simple
--> sql:Select public.people[id] + sql:Delete public.orders[]

DELETE FROM orders; SELECT v FROM sales.secrets
--@ simple
--> sql:Delete public.orders[] + sql:Select sales.secrets[v]

SELECT 1; DELETE FROM orders -- ; SELECT 2
--@ simple
--> sql:Connect database + sql:Delete public.orders[]

UPDATE people SET name = 'x'; UPDATE orders SET id = 1; SELECT 1
--@ simple
--> sql:Update public.people[name] + sql:Update public.orders[id] + sql:Connect database

INSERT INTO orders (id) VALUES (7); INSERT INTO sales.secrets VALUES ('a', 'b')
--@ simple
--> sql:Insert public.orders[id] + sql:Insert sales.secrets[k,v]

SELECT 1; SELEC 2
--@ simple
--! 42601

DELETE FROM orders; SELECT 1 FROM no_such_table
--@ simple
--! 42P01

SELECT 1; SELECT 2
--! 42601
--@ extended

CREATE TABLE fresh (id int, note text); INSERT INTO fresh VALUES (1, 'a'); SELECT note FROM fresh
--@ simple
--> sql:Create public.* + sql:Insert public.fresh[id,note] + sql:Select public.fresh[note]

CREATE TABLE fresh (id int, n positive); SELECT id FROM fresh, people
--@ simple
--> sql:Create public.* + sql:Select public.fresh[id] + sql:Select public.people[id]
--@ may fail 42702

SET search_path = traps; SELECT secret FROM orders
--@ simple
--> sql:Connect database + sql:Select traps.orders[secret]

SET LOCAL search_path TO traps, public; SELECT ssn FROM people
--@ simple
--> sql:Connect database + sql:Select traps.people[ssn]

CREATE TEMP TABLE people (id int, ssn text); SELECT ssn FROM people
--@ simple
--> sql:Create pg_temp.* + sql:Select pg_temp.people[ssn]

CREATE TEMP TABLE people (id int, ssn text); SELECT ssn FROM public.people
--@ simple
--> sql:Create pg_temp.* + sql:Select public.people[ssn]

ALTER TABLE orders RENAME TO orders_old; SELECT id FROM orders
--@ simple
--! 0A000

DROP TABLE orders; SELECT id FROM orders
--@ simple
--! 0A000

ALTER TABLE traps.people SET SCHEMA sales; SELECT ssn FROM sales.people
--@ simple
--! 0A000

DO 'begin perform 1; end'; SELECT ssn FROM people
--@ simple
--! 0A000

SELECT set_config('search_path', 'traps', false); SELECT ssn FROM people
--@ simple
--! 0A000

SELECT set_config('search_path', name, false) FROM people; SELECT ssn FROM people
--@ simple
--! 0A000

-- # The search path by every route
SELECT ssn FROM people
--@ first SET search_path = traps
--> sql:Select traps.people[ssn]

SELECT ssn FROM people
--@ first SET search_path TO 'traps', "public"
--> sql:Select traps.people[ssn]

SELECT ssn FROM people
--@ first SET SESSION search_path = traps, public
--> sql:Select traps.people[ssn]

SELECT ssn FROM people
--@ first BEGIN
--@ first SET LOCAL search_path = traps
--> sql:Select traps.people[ssn]

SELECT ssn FROM people
--@ first BEGIN
--@ first SET LOCAL search_path = traps
--@ first ROLLBACK
--> sql:Select public.people[ssn]

SELECT ssn FROM people
--@ first BEGIN
--@ first SAVEPOINT s
--@ first SET LOCAL search_path = traps
--@ first ROLLBACK TO s
--> sql:Select public.people[ssn]

SELECT ssn FROM people
--@ first SELECT set_config('search_path', 'traps', false)
--> sql:Select traps.people[ssn]

SELECT ssn FROM people
--@ first SET SCHEMA 'traps'
--> sql:Select traps.people[ssn]

UPDATE pg_settings SET setting = 'traps' WHERE name = 'search_path'
--! 0A000

SELECT ssn FROM people
--@ first SET search_path = traps
--@ first RESET search_path
--> sql:Select public.people[ssn]

SELECT ssn FROM people
--@ first SET search_path = traps
--@ first RESET ALL
--> sql:Select public.people[ssn]

SELECT ssn FROM people
--@ first SET search_path = traps
--@ first DISCARD ALL
--@ alone
--> sql:Select public.people[ssn]

SELECT ssn FROM people
--@ first SET search_path = traps
--@ first SET search_path TO DEFAULT
--> sql:Select public.people[ssn]

SELECT ssn FROM people
--@ options -c search_path=traps
--> sql:Select traps.people[ssn]

SELECT ssn FROM people
--@ first SET search_path = nowhere, traps
--> sql:Select traps.people[ssn]

SELECT ssn FROM people
--@ first SET search_path = nowhere
--! 42P01

SELECT v FROM secrets
--@ first SET search_path = "$user", sales
--> sql:Select sales.secrets[v]

SELECT ssn FROM people
--@ first CREATE TEMP TABLE people (id int, ssn text)
--> sql:Select pg_temp.people[ssn]

SELECT ssn FROM public.people
--@ first CREATE TEMP TABLE people (id int, ssn text)
--> sql:Select public.people[ssn]

SELECT ssn FROM pg_temp.people
--@ first CREATE TEMP TABLE people (id int, ssn text)
--> sql:Select pg_temp.people[ssn]

SELECT ssn FROM people
--@ first CREATE TEMP TABLE people (id int, ssn text)
--@ first DISCARD TEMP
--> sql:Select public.people[ssn]

SELECT ssn FROM people
--@ first CREATE TEMP TABLE people (id int, ssn text)
--@ first SET search_path = public, pg_temp
--> sql:Select public.people[ssn]

SELECT ssn FROM people
--@ first CREATE TEMP VIEW people AS SELECT v AS ssn FROM sales.secrets
--> sql:Select pg_temp.people[ssn] base=sales.secrets,sales.secrets.v

SELECT note FROM fresh
--@ first BEGIN
--@ first CREATE TABLE fresh (note text)
--> sql:Select public.fresh[note]

SELECT v FROM people
--@ first BEGIN
--@ first ALTER TABLE traps.people RENAME COLUMN ssn TO v
--@ first SET LOCAL search_path = traps
--> sql:Select traps.people[v]

SELECT relname FROM pg_class LIMIT 1
--@ first CREATE TEMP TABLE pg_class (relname text)
--> sql:Select pg_temp.pg_class[relname]

SELECT ssn FROM people
--@ options -csearch_path=traps
--> sql:Select traps.people[ssn]

SELECT ssn FROM people
--@ options --search_path=traps
--> sql:Select traps.people[ssn]

SELECT ssn FROM people
--@ options -c search_path=public -c search_path=nowhere,traps
--> sql:Select traps.people[ssn]

SELECT ssn FROM people
--@ first SET "search_path" = traps
--> sql:Select traps.people[ssn]

SELECT ssn FROM people
--@ first SET Search_Path TO "traps"
--> sql:Select traps.people[ssn]

SELECT ssn FROM people
--@ first SELECT pg_catalog.set_config('SEARCH_PATH', 'traps, public', false)
--> sql:Select traps.people[ssn]

SELECT ssn FROM people
--@ first SELECT set_config(U&'search\005fpath', 'traps', false)
--> sql:Select traps.people[ssn]

SELECT ssn FROM people
--@ first WITH s AS (SELECT set_config('search_path', 'traps', false)) SELECT * FROM s
--> sql:Select traps.people[ssn]

SELECT ssn FROM people
--@ first DO 'begin perform set_config(''search_path'', ''traps'', false); end'
--> sql:Select traps.people[ssn]

SELECT ssn FROM people
--@ first BEGIN
--@ first SET LOCAL search_path = traps
--@ first COMMIT
--> sql:Select public.people[ssn]

SELECT ssn FROM people
--@ first BEGIN
--@ first SET search_path = traps
--@ first ROLLBACK
--> sql:Select public.people[ssn]

SELECT ssn FROM people
--@ first BEGIN
--@ first SAVEPOINT s
--@ first CREATE TEMP TABLE people (id int, ssn text)
--@ first ROLLBACK TO s
--> sql:Select public.people[ssn]

EXECUTE p
--@ first PREPARE p AS SELECT ssn FROM people
--@ first CREATE TEMP TABLE people (id int, ssn text)
--> sql:Select pg_temp.people[ssn]

EXECUTE p
--@ first PREPARE p AS SELECT id FROM orders
--@ first DEALLOCATE p
--@ first PREPARE p AS SELECT v FROM sales.secrets
--> sql:Select sales.secrets[v]

EXECUTE "P"
--@ first PREPARE p AS SELECT id FROM orders
--! 26000

