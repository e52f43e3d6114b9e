-- The database that `Catalog::sample()` describes; `record.py` makes the rows from it.
CREATE ROLE app;
CREATE ROLE analyst;
CREATE ROLE team;
CREATE ROLE outsider NOINHERIT;
GRANT team TO analyst, outsider;

CREATE TABLE public.people (id int4 PRIMARY KEY, name text NOT NULL, ssn text);
CREATE TABLE public.orders (id int4 PRIMARY KEY, person int4 REFERENCES public.people, amount numeric, note text);
CREATE SEQUENCE public.numbers;

CREATE SCHEMA sales;
GRANT USAGE ON SCHEMA sales TO PUBLIC;
CREATE TABLE sales.orders (id int4, customer text, total numeric, secret text);

-- Only members of team may use it: for others the search path skips it.
CREATE SCHEMA hidden;
GRANT USAGE ON SCHEMA hidden TO team;
CREATE TABLE hidden.people (id int4, name text, salary numeric);
CREATE SCHEMA app AUTHORIZATION app;
CREATE TABLE app.settings (key text, value text);

CREATE VIEW public.names AS SELECT id, name FROM public.people;
CREATE VIEW public.whole AS SELECT p.id, p::text AS everything FROM public.people p;
CREATE VIEW public.names_again AS SELECT n.name, o.total FROM public.names n, sales.orders o;
CREATE MATERIALIZED VIEW public.totals AS SELECT customer, sum(total) AS total FROM sales.orders GROUP BY customer;

CREATE TABLE public.events (id int4, at timestamptz, kind text) PARTITION BY RANGE (id);
CREATE TABLE public.events_1 PARTITION OF public.events FOR VALUES FROM (0) TO (100) PARTITION BY RANGE (id);
CREATE TABLE public.events_1a PARTITION OF public.events_1 FOR VALUES FROM (0) TO (50);
CREATE TABLE public.parent (id int4, shared text);
CREATE TABLE public.child (extra text) INHERITS (public.parent);
CREATE TABLE public.grandchild (more text) INHERITS (public.child);
CREATE VIEW public.parents AS SELECT shared FROM public.parent;

CREATE TABLE public.generated (first text, second text, hidden text, joined text GENERATED ALWAYS AS (first || second) STORED);
CREATE TABLE public."Odd Name" ("Col" int4, plain int4);

CREATE FUNCTION public.leak(public.people) RETURNS text LANGUAGE sql AS 'SELECT $1.ssn';
CREATE FUNCTION public.add(int4, int4 DEFAULT 1) RETURNS int4 LANGUAGE sql IMMUTABLE AS 'SELECT $1 + $2';
CREATE FUNCTION public.many(VARIADIC text[]) RETURNS int4 LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION public.pair(OUT a int4, OUT "B" text) LANGUAGE sql AS 'SELECT 1, ''x''';
CREATE FUNCTION public.upper(varchar) RETURNS text LANGUAGE sql AS 'SELECT $1::text';
CREATE PROCEDURE public.close_month(int4) LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION public.text_same(text, text) RETURNS bool LANGUAGE sql AS 'SELECT true';
CREATE OPERATOR public.=== (LEFTARG = text, RIGHTARG = text, FUNCTION = public.text_same);
CREATE SCHEMA hijack;
GRANT USAGE ON SCHEMA hijack TO PUBLIC;
CREATE FUNCTION public.varchar_same(varchar, varchar) RETURNS bool LANGUAGE sql AS 'SELECT true';
CREATE OPERATOR hijack.= (LEFTARG = varchar, RIGHTARG = varchar, FUNCTION = public.varchar_same);
CREATE FUNCTION hijack.lower(varchar) RETURNS text LANGUAGE sql AS 'SELECT $1::text';

CREATE TYPE public.mood AS ENUM ('sad', 'ok');
CREATE DOMAIN public.positive AS int4 CHECK (VALUE > 0);
CREATE TYPE public.place AS (street text, city text);
CREATE FUNCTION public.mood_of(int4) RETURNS public.mood LANGUAGE sql AS 'SELECT ''ok''::public.mood';
CREATE CAST (int4 AS public.mood) WITH FUNCTION public.mood_of(int4) AS ASSIGNMENT;
CREATE TABLE public.feelings (person int4, feels public.mood, age public.positive, at public.place);
