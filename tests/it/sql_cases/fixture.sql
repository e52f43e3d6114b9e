-- The database of the adversarial table.
create schema sales;
create table people(id int primary key, name text not null, ssn text);
insert into people values (1,'ada','123-45'),(2,'grace','678-90');
create table orders(id int, customer int, amount numeric, day date);
insert into orders values (1,1,10,'2025-01-02'),(2,2,20,'2026-01-02');
create table sales.orders(id int, customer int, amount numeric, day date);
insert into sales.orders values (1,1,10,'2025-01-02');
create table sales.secrets(k text, v text);
insert into sales.secrets values ('k','s3cret');
create view people_names as select id, name from people;
create materialized view order_totals as select customer, sum(amount) as total from orders group by customer;
create table events(id int, day date, body text) partition by range(day);
create table events_2025 partition of events for values from ('2025-01-01') to ('2026-01-01');
create table events_2026 partition of events for values from ('2026-01-01') to ('2027-01-01');
insert into events values (1,'2025-05-05','a'),(2,'2026-05-05','b');
create table base_log(id int, note text);
create table audit_log(extra text) inherits (base_log);
insert into base_log values (1,'x'); insert into audit_log values (2,'y','z');
create sequence order_ids;
create function leak(people) returns text language sql as 'select $1.ssn';
create function add_one(int) returns int language sql as 'select $1+1';
create procedure wipe() language sql as 'delete from public.orders';
create domain positive as int check (value > 0);
-- Traps that are set only where a case steps into them.
-- Nothing here shadows a name on the default path, as that would change what every other case must ask.
CREATE SCHEMA traps;
-- The same names as in public, with other content.
CREATE TABLE traps.people (id int, name text, ssn text);
INSERT INTO traps.people VALUES (9, 'trapped', '999-99');
CREATE TABLE traps.orders (id int, secret text);
INSERT INTO traps.orders VALUES (9, 'secret');
-- A function and an operator that fit better than the server's own.
CREATE FUNCTION traps.lower(varchar) RETURNS text LANGUAGE sql AS 'SELECT ssn FROM public.people LIMIT 1';
CREATE FUNCTION traps.same(varchar, varchar) RETURNS boolean LANGUAGE sql AS 'SELECT true';
CREATE OPERATOR traps.= (LEFTARG = varchar, RIGHTARG = varchar, FUNCTION = traps.same);
CREATE FUNCTION traps.tilt(int) RETURNS int LANGUAGE sql AS 'SELECT $1';
CREATE OPERATOR traps.@@@ (RIGHTARG = int, FUNCTION = traps.tilt);
-- A type whose cast runs code.
CREATE TYPE traps.shown AS (shown text);
CREATE FUNCTION traps.to_shown(text) RETURNS traps.shown LANGUAGE sql AS 'SELECT ROW($1)::traps.shown';
CREATE CAST (text AS traps.shown) WITH FUNCTION traps.to_shown(text);

-- Names that need quotes, and one that an upper-case spelling must not reach.
CREATE TABLE public."Odd.Name" ("a b" int, "C""q" text);
INSERT INTO public."Odd.Name" VALUES (1, 'odd');
CREATE TABLE public."PEOPLE" (id int, ssn text);
CREATE TABLE sales.computed (a int, b int, c int GENERATED ALWAYS AS (a * 2) STORED);
INSERT INTO sales.computed VALUES (1, 2);
CREATE TABLE public.keyed (id int PRIMARY KEY, name text NOT NULL, secret text);
INSERT INTO public.keyed VALUES (1, 'one', 'k1');
CREATE TABLE public.keyed_child (id int REFERENCES public.keyed ON DELETE CASCADE, note text);
INSERT INTO public.keyed_child VALUES (1, 'child');
CREATE TABLE public.measured (n public.positive, label text);
CREATE VIEW public.ssns AS SELECT ssn FROM public.people;
CREATE VIEW public.nested AS SELECT name FROM public.people_names;
CREATE FUNCTION public.all_people() RETURNS SETOF public.people LANGUAGE sql AS 'SELECT * FROM public.people';
CREATE FUNCTION public.json_scalar(text) RETURNS text LANGUAGE sql AS 'SELECT ssn FROM public.people LIMIT 1';
CREATE AGGREGATE public.greatest_of (int) (SFUNC = int4larger, STYPE = int);
CREATE ROLE other NOLOGIN;

CREATE FUNCTION traps.fired() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE PROCEDURE traps.wipe() LANGUAGE sql AS 'DELETE FROM public.people';
-- The server checks its base tables for whoever reads it, also below a view that is none of the kind.
CREATE VIEW public.own_ssns WITH (security_invoker) AS SELECT id, ssn FROM public.people;
CREATE VIEW public.over_own AS SELECT id FROM public.own_ssns;
CREATE VIEW public.not_own WITH (security_invoker = off) AS SELECT id FROM public.people;
