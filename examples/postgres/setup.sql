-- As the superuser, in a new database `analytics`. The roles' password is in `role-password`.
CREATE ROLE owner LOGIN PASSWORD 'change-me';
CREATE ROLE loader LOGIN PASSWORD 'change-me';
CREATE ROLE analyst LOGIN PASSWORD 'change-me';
GRANT CREATE, USAGE ON SCHEMA public TO owner;

CREATE TABLE people (id int PRIMARY KEY, name text NOT NULL, ssn text);
INSERT INTO people VALUES (1, 'Ada', '123-45-6789'), (2, 'Grace', '987-65-4321');
CREATE TABLE orders (id int PRIMARY KEY, customer int REFERENCES people, amount numeric NOT NULL);

-- A policy takes away, it cannot give: what the roles may do at most is PostgreSQL's to say.
GRANT SELECT ON people, orders TO analyst;
GRANT SELECT, INSERT ON orders TO loader;
