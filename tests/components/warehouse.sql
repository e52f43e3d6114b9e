-- What the tests find in database `analytics`. Run as the superuser `postgres`.
CREATE ROLE admin_role LOGIN SUPERUSER PASSWORD 'admin-secret';
CREATE ROLE app_role LOGIN PASSWORD 'app-secret';
CREATE ROLE analyst_role LOGIN PASSWORD 'analyst-secret';
CREATE ROLE loader_role LOGIN PASSWORD 'loader-secret';
CREATE ROLE catalog_role LOGIN PASSWORD 'catalog-secret';
SET password_encryption = 'md5';
CREATE ROLE legacy_role LOGIN PASSWORD 'legacy-secret';
RESET password_encryption;
GRANT analyst_role TO app_role;

CREATE SCHEMA sales;

CREATE TABLE people (id int PRIMARY KEY, name text NOT NULL, ssn text);
INSERT INTO people VALUES (1, 'Ada', '123-45'), (2, 'Grace', '678-90'), (3, 'Edsger', '246-80');

CREATE TABLE orders (
    id int PRIMARY KEY,
    customer int NOT NULL REFERENCES people (id),
    amount numeric NOT NULL CHECK (amount > 0),
    day date NOT NULL DEFAULT '2026-01-01'
);
CREATE INDEX orders_by_day ON orders (day);
INSERT INTO orders VALUES (1, 1, 10, '2026-01-01'), (2, 1, 20.5, '2026-01-02'), (3, 2, 7, '2026-02-01');

CREATE TABLE sales.orders (id int PRIMARY KEY, region text NOT NULL, total numeric NOT NULL);
INSERT INTO sales.orders VALUES (1, 'north', 100), (2, 'south', 200);
CREATE TABLE sales.secrets (id int PRIMARY KEY, value text NOT NULL);
INSERT INTO sales.secrets VALUES (1, 'the combination is 1-2-3');

CREATE VIEW people_names AS SELECT id, name FROM people;
CREATE MATERIALIZED VIEW sales.totals AS SELECT region, sum(total) AS total FROM sales.orders GROUP BY region;

CREATE TABLE events (id int NOT NULL, day date NOT NULL, what text) PARTITION BY RANGE (day);
CREATE TABLE events_2025 PARTITION OF events FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE events_2026 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
INSERT INTO events VALUES (1, '2025-06-01', 'signed up'), (2, '2026-06-01', 'bought');

CREATE TABLE parent (id int NOT NULL, note text);
CREATE TABLE child (more text) INHERITS (parent);
INSERT INTO parent VALUES (1, 'of the parent');
INSERT INTO child VALUES (2, 'of the child', 'more');

CREATE SEQUENCE tickets;
CREATE DOMAIN short_text AS text CHECK (length(VALUE) <= 20);

CREATE FUNCTION leak(people) RETURNS text LANGUAGE sql STABLE AS 'SELECT $1.ssn';
CREATE FUNCTION add_one(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 + 1';
CREATE PROCEDURE log_event(int, text) LANGUAGE sql AS 'INSERT INTO events VALUES ($1, ''2026-01-01'', $2)';

GRANT USAGE ON SCHEMA public, sales TO PUBLIC;
GRANT ALL ON ALL TABLES IN SCHEMA public, sales TO app_role, analyst_role, loader_role, legacy_role;
GRANT ALL ON ALL SEQUENCES IN SCHEMA public, sales TO app_role, analyst_role, loader_role, legacy_role;
GRANT CREATE ON SCHEMA public, sales TO app_role, loader_role;
