-- # Columns: where they stand
SELECT id FROM people
--> sql:Select public.people[id]

SELECT id, name FROM public.people
--> sql:Select public.people[id,name]

SELECT * FROM people
--> sql:Select public.people[id,name,ssn]

TABLE people
--> sql:Select public.people[id,name,ssn]

SELECT people.* FROM people
--> sql:Select public.people[id,name,ssn]

SELECT p.* FROM people p
--> sql:Select public.people[id,name,ssn]

SELECT public.people.ssn FROM public.people
--> sql:Select public.people[ssn]

SELECT adversary.public.people.ssn FROM adversary.public.people
--> sql:Select public.people[ssn]

SELECT 1 FROM people
--> sql:Select public.people[]

SELECT count(*) FROM people
--> sql:Select public.people[]

SELECT FROM people
--> sql:Select public.people[]

SELECT name FROM people WHERE ssn = '123-45'
--> sql:Select public.people[name,ssn]

SELECT name FROM people WHERE ssn IS NULL
--> sql:Select public.people[name,ssn]

SELECT name FROM people WHERE ssn LIKE '1%'
--> sql:Select public.people[name,ssn]

SELECT name FROM people WHERE ssn BETWEEN '1' AND '2'
--> sql:Select public.people[name,ssn]

SELECT name FROM people WHERE ssn IN ('1', '2')
--> sql:Select public.people[name,ssn]

SELECT name FROM people WHERE ssn = ANY (ARRAY['1'])
--> sql:Select public.people[name,ssn]

SELECT name FROM people WHERE (id, ssn) = (1, '123-45')
--> sql:Select public.people[id,name,ssn]

SELECT name FROM people WHERE ssn SIMILAR TO '1%'
--> sql:Select public.people[name,ssn]

SELECT name FROM people ORDER BY ssn
--> sql:Select public.people[name,ssn]

SELECT name FROM people ORDER BY ssn USING <
--> sql:Select public.people[name,ssn]

SELECT count(*) FROM people GROUP BY ssn
--> sql:Select public.people[ssn]

SELECT count(*) FROM people GROUP BY GROUPING SETS ((ssn), (name))
--> sql:Select public.people[name,ssn]

SELECT count(*) FROM people GROUP BY ROLLUP (ssn)
--> sql:Select public.people[ssn]

SELECT name FROM people GROUP BY name HAVING max(ssn) > '1'
--> sql:Select public.people[name,ssn]

SELECT DISTINCT ON (ssn) name FROM people
--> sql:Select public.people[name,ssn]

SELECT name, row_number() OVER (ORDER BY ssn) FROM people
--> sql:Select public.people[name,ssn]

SELECT name, count(*) OVER w FROM people WINDOW w AS (PARTITION BY ssn)
--> sql:Select public.people[name,ssn]

SELECT name, first_value(ssn) OVER (ORDER BY id) FROM people
--> sql:Select public.people[id,name,ssn]

SELECT count(*) FILTER (WHERE ssn > '2') FROM people
--> sql:Select public.people[ssn]

SELECT string_agg(name, ',' ORDER BY ssn) FROM people
--> sql:Select public.people[name,ssn]

SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY ssn) FROM people
--> sql:Select public.people[ssn]

SELECT CASE WHEN ssn > '2' THEN 1 ELSE 0 END FROM people
--> sql:Select public.people[ssn]

SELECT CASE ssn WHEN '1' THEN 1 END FROM people
--> sql:Select public.people[ssn]

SELECT COALESCE(ssn, name) FROM people
--> sql:Select public.people[name,ssn]

SELECT NULLIF(ssn, '1'), GREATEST(ssn, 'a') FROM people
--> sql:Select public.people[ssn]

SELECT ARRAY[ssn] FROM people
--> sql:Select public.people[ssn]

SELECT ARRAY(SELECT ssn FROM people)
--> sql:Select public.people[ssn]

SELECT ROW(ssn, 1) FROM people
--> sql:Select public.people[ssn]

SELECT ssn COLLATE "C" FROM people
--> sql:Select public.people[ssn]

SELECT substring(ssn FROM 1 FOR 3), trim(both '1' from ssn) FROM people
--> sql:Select public.people[ssn]

SELECT ssn || name FROM people
--> sql:Select public.people[name,ssn]

SELECT (SELECT ssn FROM people WHERE id = 1)
--> sql:Select public.people[id,ssn]

SELECT name FROM people LIMIT (SELECT count(ssn) FROM people)
--> sql:Select public.people[name,ssn]

SELECT name FROM people OFFSET (SELECT length(min(ssn)) - 6 FROM people)
--> sql:Select public.people[name,ssn]

SELECT name FROM people WHERE EXISTS (SELECT * FROM sales.secrets)
--> sql:Select public.people[name] + sql:Select sales.secrets[k,v]

SELECT name FROM people WHERE id IN (SELECT customer FROM orders)
--> sql:Select public.people[id,name] + sql:Select public.orders[customer]

SELECT name FROM people p WHERE EXISTS (SELECT 1 FROM orders o WHERE o.customer = length(p.ssn))
--> sql:Select public.people[name,ssn] + sql:Select public.orders[customer]

SELECT count(ssn) FROM people
--> sql:Select public.people[ssn]

SELECT xmlelement(name a, ssn) FROM people
--> sql:Select public.people[ssn]
--@ may fail 0A000

SELECT ssn AS name FROM people
--> sql:Select public.people[ssn]

SELECT name FROM (SELECT ssn AS name FROM people) s
--> sql:Select public.people[ssn]

VALUES ((SELECT ssn FROM people LIMIT 1))
--> sql:Select public.people[ssn]

SELECT name FROM people TABLESAMPLE SYSTEM (100)
--> sql:Select public.people[name]

SELECT name FROM people TABLESAMPLE BERNOULLI ((SELECT max(v)::real FROM sales.secrets))
--> sql:Select public.people[name] + sql:Select sales.secrets[v]
--@ may fail 22P02

-- # Whole rows
SELECT people FROM people
--> sql:Select public.people[id,name,ssn]

SELECT p FROM people p
--> sql:Select public.people[id,name,ssn]

SELECT (people).ssn FROM people
--> sql:Select public.people[id,name,ssn]

SELECT (p).* FROM people p
--> sql:Select public.people[id,name,ssn]

SELECT ssn(people) FROM people
--> sql:Select public.people[id,name,ssn]

SELECT name(people) FROM people
--> sql:Select public.people[id,name,ssn]

SELECT people::text FROM people
--> sql:Select public.people[id,name,ssn]

SELECT CAST(people AS text) FROM people
--> sql:Select public.people[id,name,ssn]

SELECT row_to_json(people) FROM people
--> sql:Select public.people[id,name,ssn]

SELECT to_jsonb(p) FROM people p
--> sql:Select public.people[id,name,ssn]

SELECT to_jsonb(p) - 'ssn' FROM people p
--> sql:Select public.people[id,name,ssn]

SELECT json_agg(people) FROM people
--> sql:Select public.people[id,name,ssn]

SELECT array_agg(people) FROM people
--> sql:Select public.people[id,name,ssn]

SELECT count(people) FROM people
--> sql:Select public.people[id,name,ssn]

SELECT count(people.*) FROM people
--> sql:Select public.people[id,name,ssn]

SELECT people IS NULL FROM people
--> sql:Select public.people[id,name,ssn]

SELECT people IS NOT DISTINCT FROM ROW(1, 'ada', '123-45')::people FROM people
--> sql:Select public.people[id,name,ssn]

SELECT 1 FROM people WHERE people IS NOT NULL
--> sql:Select public.people[id,name,ssn]

SELECT name FROM people ORDER BY people
--> sql:Select public.people[id,name,ssn]

SELECT count(*) FROM people GROUP BY people
--> sql:Select public.people[id,name,ssn]

SELECT rank() OVER (ORDER BY people) FROM people
--> sql:Select public.people[id,name,ssn]

SELECT ROW(people.*) FROM people
--> sql:Select public.people[id,name,ssn]

SELECT (x).ssn FROM (SELECT people AS x FROM people) s
--> sql:Select public.people[id,name,ssn]

SELECT (array_agg(people))[1].ssn FROM people
--> sql:Select public.people[id,name,ssn]

SELECT format('%s', people) FROM people
--> sql:Select public.people[id,name,ssn]

SELECT concat(people) FROM people
--> sql:Select public.people[id,name,ssn]

SELECT leak(people) FROM people
--> sql:Select public.people[id,name,ssn] + sql:Execute public.leak()

SELECT leak(people.*) FROM people
--> sql:Select public.people[id,name,ssn] + sql:Execute public.leak()

SELECT people.leak FROM people
--> sql:Select public.people[id,name,ssn] + sql:Execute public.leak()

SELECT p.leak FROM people p
--> sql:Select public.people[id,name,ssn] + sql:Execute public.leak()

SELECT (people).leak FROM people
--> sql:Select public.people[id,name,ssn] + sql:Execute public.leak()

SELECT name FROM people WHERE people.leak = '123-45'
--> sql:Select public.people[id,name,ssn] + sql:Execute public.leak()

SELECT public.leak(p) FROM people p ORDER BY p.name
--> sql:Select public.people[id,name,ssn] + sql:Execute public.leak()

SELECT name FROM people WHERE EXISTS (SELECT people.*)
--> sql:Select public.people[id,name,ssn]

-- # Aliases
SELECT y FROM people AS p (x, y)
--> sql:Select public.people[name]

SELECT b FROM people p (x, y, b)
--> sql:Select public.people[ssn]

SELECT p.ssn FROM people p (ssn, y, b)
--> sql:Select public.people[id]

SELECT z FROM (people a JOIN orders b ON a.id = b.customer) AS j (x, y, z)
--> sql:Select public.people[id,ssn] + sql:Select public.orders[customer]

SELECT j.ssn FROM (people a JOIN orders b ON a.id = b.customer) AS j (ssn, y, z)
--> sql:Select public.people[id] + sql:Select public.orders[customer]

SELECT j FROM (people a CROSS JOIN sales.secrets b) AS j
--> sql:Select public.people[id,name,ssn] + sql:Select sales.secrets[k,v]
--@ may fail 42703

SELECT u.ssn FROM people JOIN keyed USING (id) AS u
--! 42703

SELECT u.id FROM people JOIN keyed USING (id) AS u
--> sql:Select public.people[id] + sql:Select public.keyed[id]

SELECT people.id FROM orders people
--> sql:Select public.orders[id]

SELECT orders.name FROM people orders, orders people
--> sql:Select public.people[name] + sql:Select public.orders[]

SELECT c.y FROM (SELECT id, ssn FROM people) AS c (x, y)
--> sql:Select public.people[id,ssn]

WITH c (x, y) AS (SELECT id, ssn FROM people) SELECT y FROM c
--> sql:Select public.people[id,ssn]

SELECT people.ssn FROM (SELECT 1 AS ssn) people
--> sql:Connect database

-- # Joins
SELECT * FROM people JOIN orders ON people.id = orders.customer
--> sql:Select public.people[id,name,ssn] + sql:Select public.orders[amount,customer,day,id]

SELECT name FROM people JOIN keyed USING (id, name)
--> sql:Select public.people[id,name] + sql:Select public.keyed[id,name]

SELECT p.id FROM people p NATURAL JOIN keyed k
--> sql:Select public.people[id,name] + sql:Select public.keyed[id,name]

SELECT 1 FROM people p NATURAL JOIN people q
--> sql:Select public.people[id,name,ssn]

SELECT 1 FROM sales.secrets s JOIN people p ON p.ssn = s.v
--> sql:Select sales.secrets[v] + sql:Select public.people[ssn]

SELECT name FROM people LEFT JOIN sales.secrets ON true
--> sql:Select public.people[name] + sql:Select sales.secrets[]

SELECT o.id, x.name FROM orders o, LATERAL (SELECT p.name FROM people p WHERE p.id = o.customer) x
--> sql:Select public.orders[customer,id] + sql:Select public.people[id,name]

SELECT x.s FROM people p CROSS JOIN LATERAL (SELECT p.ssn AS s) x
--> sql:Select public.people[ssn]

SELECT x FROM people p, LATERAL unnest(ARRAY[p.ssn]) x
--> sql:Select public.people[ssn]

SELECT g FROM people p, generate_series(1, length(p.ssn)) g
--> sql:Select public.people[ssn]

SELECT x.* FROM ROWS FROM (unnest(ARRAY(SELECT ssn FROM people)), generate_series(1, 2)) AS x (a, b)
--> sql:Select public.people[ssn]

SELECT a.name FROM people a, people b WHERE a.id = b.id AND b.ssn > '2'
--> sql:Select public.people[id,name,ssn]

-- # Set operations and CTEs
SELECT name FROM people UNION ALL SELECT v FROM sales.secrets
--> sql:Select public.people[name] + sql:Select sales.secrets[v]

SELECT name FROM people EXCEPT SELECT ssn FROM people
--> sql:Select public.people[name,ssn]

(SELECT ssn FROM people INTERSECT SELECT v FROM sales.secrets) ORDER BY 1
--> sql:Select public.people[ssn] + sql:Select sales.secrets[v]

SELECT 'a' UNION (TABLE sales.secrets LIMIT 0)
--> sql:Select sales.secrets[k,v]
--@ may fail 42601

WITH c AS (SELECT * FROM people) SELECT name FROM c
--> sql:Select public.people[id,name,ssn]

WITH c AS (SELECT ssn FROM people) SELECT 1
--> sql:Select public.people[ssn]

WITH people AS (SELECT 1 AS ssn) SELECT ssn FROM people
--> sql:Connect database

WITH people AS (SELECT ssn FROM people) SELECT ssn FROM people
--> sql:Select public.people[ssn]

WITH people AS (SELECT 1 AS ssn) SELECT ssn FROM public.people
--> sql:Select public.people[ssn]

WITH a AS (SELECT ssn FROM b), b AS (SELECT 1 AS ssn) SELECT * FROM a
--! 42P01

WITH RECURSIVE a AS (SELECT ssn FROM b), b AS (SELECT 1 AS ssn) SELECT * FROM a
--> sql:Connect database

WITH RECURSIVE r (n, s) AS (SELECT 1, ssn FROM people UNION ALL SELECT n + 1, s FROM r WHERE n < 2) SELECT s FROM r
--> sql:Select public.people[ssn]

WITH RECURSIVE r (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r JOIN sales.secrets ON v = 's3cret' WHERE n < 2) SELECT n FROM r
--> sql:Select sales.secrets[v]

WITH c AS (SELECT id FROM people), d AS (WITH c AS (SELECT v FROM sales.secrets) SELECT * FROM c) SELECT * FROM d
--> sql:Select public.people[id] + sql:Select sales.secrets[v]

SELECT (WITH s AS (SELECT v FROM sales.secrets) SELECT v FROM s)
--> sql:Select sales.secrets[v]

WITH s AS MATERIALIZED (SELECT v FROM sales.secrets) SELECT count(*) FROM s
--> sql:Select sales.secrets[v]

WITH RECURSIVE t (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 2) SEARCH DEPTH FIRST BY n SET o SELECT o FROM t
--> sql:Connect database

-- # System columns and generated columns
SELECT ctid FROM people
--> sql:Select public.people[ctid]

SELECT xmin, tableoid::regclass FROM people
--> sql:Select public.people[tableoid,xmin] + sql:Introspect database

SELECT c FROM sales.computed
--> sql:Select sales.computed[a,c]

SELECT b FROM sales.computed
--> sql:Select sales.computed[b]

-- # Views, partitions, inheritance, sequences
SELECT name FROM people_names
--> sql:Select public.people_names[name] base=public.people,public.people.id,public.people.name

SELECT * FROM ssns
--> sql:Select public.ssns[ssn] base=public.people,public.people.ssn

SELECT name FROM nested
--> sql:Select public.nested[name] base=public.people,public.people.id,public.people.name,public.people_names,public.people_names.name

SELECT total FROM order_totals
--> sql:Select public.order_totals[total] base=public.orders,public.orders.amount,public.orders.customer

SELECT body FROM events
--> sql:Select public.events[body]

SELECT body FROM events_2025
--> sql:Select public.events_2025[body]

SELECT body FROM ONLY events
--> sql:Select public.events[body]

SELECT note FROM base_log
--> sql:Select public.base_log[note] + sql:Select public.audit_log[note]

SELECT note FROM base_log *
--> sql:Select public.base_log[note] + sql:Select public.audit_log[note]

SELECT note FROM ONLY base_log
--> sql:Select public.base_log[note]

SELECT note FROM ONLY (base_log) TABLESAMPLE SYSTEM (100)
--> sql:Select public.base_log[note]

SELECT * FROM audit_log
--> sql:Select public.audit_log[extra,id,note]

SELECT last_value FROM order_ids
--> sql:Select public.order_ids[last_value]

SELECT * FROM order_ids
--> sql:Select public.order_ids[is_called,last_value,log_cnt]

-- # Views with security_invoker
SELECT id FROM own_ssns
--> sql:Select public.own_ssns[id] base=public.people,public.people.id,public.people.ssn + sql:Select public.people[id,ssn]

SELECT count(*) FROM own_ssns
--> sql:Select public.own_ssns[] base=public.people,public.people.id,public.people.ssn + sql:Select public.people[id,ssn]

SELECT id FROM over_own
--> sql:Select public.over_own[id] base=public.own_ssns,public.own_ssns.id,public.people,public.people.id,public.people.ssn + sql:Select public.people[id,ssn]

SELECT id FROM not_own
--> sql:Select public.not_own[id] base=public.people,public.people.id
