-- # Functions
SELECT add_one(1)
--> sql:Execute public.add_one()

SELECT public.add_one(1)
--> sql:Execute public.add_one()

SELECT "public"."add_one"(1)
--> sql:Execute public.add_one()

SELECT name FROM people WHERE add_one(id) = 2
--> sql:Select public.people[id,name] + sql:Execute public.add_one()

SELECT * FROM add_one(1)
--> sql:Execute public.add_one()

SELECT * FROM all_people()
--> sql:Execute public.all_people()

SELECT (all_people()).ssn
--> sql:Execute public.all_people()

SELECT greatest_of(id) FROM people
--> sql:Select public.people[id] + sql:Execute public.greatest_of()

SELECT name FROM people ORDER BY add_one(id)
--> sql:Select public.people[id,name] + sql:Execute public.add_one()

INSERT INTO orders (id) VALUES (add_one(1))
--> sql:Insert public.orders[id] + sql:Execute public.add_one()

SELECT lower(name), length(name) FROM people
--> sql:Select public.people[name]

SELECT now(), current_user, current_database()
--> sql:Connect database

SELECT 1 + 1, 'a' || 'b', upper('x')
--> sql:Connect database

SELECT generate_series(1, 3)
--> sql:Connect database

CALL wipe()
--> sql:Execute public.wipe()

CALL public.wipe()
--> sql:Execute public.wipe()

SELECT pg_sleep(0)
--> sql:Execute pg_catalog.pg_sleep()

SELECT pg_read_file('/etc/hostname')
--> sql:Execute pg_catalog.pg_read_file()

SELECT pg_ls_dir('/')
--> sql:Execute pg_catalog.pg_ls_dir()

SELECT pg_terminate_backend(0)
--> sql:Execute pg_catalog.pg_terminate_backend()

SELECT pg_cancel_backend(0)
--> sql:Execute pg_catalog.pg_cancel_backend()

SELECT pg_reload_conf()
--> sql:Execute pg_catalog.pg_reload_conf()

SELECT query_to_xml('select ssn from people', true, false, '')
--> sql:Execute pg_catalog.query_to_xml() + sql:ExecuteCode database

SELECT table_to_xml('people', true, false, '')
--> sql:Execute pg_catalog.table_to_xml() + sql:ExecuteCode database

SELECT table_to_xml('people'::regclass, true, false, '')
--> sql:Introspect database + sql:Execute pg_catalog.table_to_xml() + sql:ExecuteCode database

SELECT schema_to_xml('public', true, false, '')
--> sql:Execute pg_catalog.schema_to_xml() + sql:ExecuteCode database

SELECT database_to_xml(true, false, '')
--> sql:Execute pg_catalog.database_to_xml() + sql:ExecuteCode database

SELECT ts_rewrite('a'::tsquery, 'select ''a''::tsquery, v::tsquery from sales.secrets')
--> sql:Execute pg_catalog.ts_rewrite() + sql:ExecuteCode database

SELECT * FROM ts_stat('select to_tsvector(ssn) from people')
--> sql:Execute pg_catalog.ts_stat() + sql:ExecuteCode database

SELECT pg_get_viewdef('people_names'::regclass)
--> sql:Introspect database

SELECT pg_catalog.lower('A')
--> sql:Connect database

SELECT pg_switch_wal()
--> sql:Execute pg_catalog.pg_switch_wal()

SELECT lo_create(0)
--> sql:LargeObject database

SELECT lo_from_bytea(0, '\x00')
--> sql:LargeObject database

SELECT lo_import('/etc/hostname')
--> sql:Execute pg_catalog.lo_import()

SELECT pg_notify('jobs', 'x')
--> sql:Notify database channel=jobs

SELECT pg_notify(name, ssn) FROM people
--> sql:Notify database + sql:Select public.people[name,ssn]
--@ or 0A000

SELECT dblink('dbname=adversary', 'select 1')
--! 42883

SELECT no_such_function(1)
--! 42883

SELECT people.no_such_column FROM people
--! 42703

SELECT no_such_column FROM people
--! 42703

SELECT missing(people) FROM people
--! 42883

SELECT 1 FROM no_such_table
--! 42P01

SELECT 1 FROM no_such_schema.people
--! 42P01
--@ or 3F000

SELECT 1 FROM other_database.public.people
--! 0A000

-- # Sequences
SELECT nextval('order_ids')
--> sql:Update public.order_ids[]

SELECT setval('order_ids', 100)
--> sql:Update public.order_ids[]

SELECT currval('public.order_ids')
--> sql:Select public.order_ids[]
--@ or sql:Select public.order_ids[last_value]
--@ may fail 55000

SELECT nextval('order' || '_ids')
--! 0A000

SELECT nextval((SELECT 'order_ids'::text)::regclass)
--! 0A000

-- # Names in text
SELECT 'people'::regclass
--> sql:Introspect database
--@ or sql:Connect database

SELECT 'people'::regclass::oid, to_regclass('sales.secrets')
--> sql:Introspect database
--@ or sql:Connect database

SELECT has_table_privilege('people', 'select')
--> sql:Introspect database

SELECT pg_relation_size('people')
--> sql:Introspect database

SELECT 'public.leak'::regproc
--> sql:Introspect database
--@ or sql:Connect database

-- # Operators and casts that run code
SELECT traps.lower('A')
--> sql:Execute traps.lower()

SELECT lower('A'::varchar)
--@ first SET search_path = traps, public
--> sql:Execute traps.lower()

SELECT lower('A'::varchar)
--@ first SET search_path = pg_catalog, traps
--> sql:Execute traps.lower()

SELECT name::varchar = 'x'::varchar FROM public.people
--@ first SET search_path = traps, public
--> sql:Select public.people[name] + sql:Execute traps.same()

SELECT 1 FROM public.people WHERE name::varchar IN ('x'::varchar)
--@ first SET search_path = traps, public
--> sql:Select public.people[name] + sql:Execute traps.same()

SELECT CASE 'x'::varchar WHEN 'y'::varchar THEN 1 END
--@ first SET search_path = traps, public
--> sql:Execute traps.same()

SELECT NULLIF('x'::varchar, 'y'::varchar)
--@ first SET search_path = traps, public
--> sql:Execute traps.same()

SELECT 1 FROM public.people a JOIN public.keyed b USING (name)
--@ first SET search_path = traps, public
--> sql:Select public.people[name] + sql:Select public.keyed[name] + sql:Execute traps.same()

SELECT 'x'::varchar = ANY (ARRAY['x'::varchar])
--@ first SET search_path = traps, public
--> sql:Execute traps.same()

SELECT 'a' OPERATOR(traps.=) 'b'
--> sql:Execute traps.same()

SELECT 'a'::varchar OPERATOR(pg_catalog.=) 'b'
--@ first SET search_path = traps, public
--> sql:Connect database

SELECT OPERATOR(traps.@@@) 1
--> sql:Execute traps.tilt()

SELECT @@@ 1
--> sql:Connect database
--@ may fail 42883

SELECT name::traps.shown FROM people
--> sql:Select public.people[name] + sql:Execute traps.to_shown()

SELECT CAST(ssn AS traps.shown) FROM people
--> sql:Select public.people[ssn] + sql:Execute traps.to_shown()

SELECT traps.shown(name) FROM people
--> sql:Select public.people[name] + sql:Execute traps.to_shown()
--@ may fail 42883

SELECT 5::positive
--> sql:Connect database

SELECT 'x'::no_such_type
--! 42704

-- # Grammar of a newer server than this one
SELECT json_scalar('x')
--> sql:Execute public.json_scalar()
--@ or 0A000

SELECT json('{}')
--! 42883
--@ or 0A000

SELECT json_serialize('{}')
--! 42883
--@ or 0A000

SELECT merge_action()
--! 42883
--@ or 0A000
--@ or 42601

SELECT JSON_VALUE(jsonb '{"a": 1}', '$.a')
--! 0A000
--@ or 42601

SELECT * FROM JSON_TABLE(jsonb '[]', '$[*]' COLUMNS (a int PATH '$.a')) t
--! 0A000
--@ or 42601

SELECT JSON_OBJECT('a': 1)
--! 0A000
--@ or 42601

SELECT 'a' IS JSON
--! 0A000
--@ or 42601

UPDATE people SET name = 'x' RETURNING old.ssn, new.name
--! 0A000
--@ or 42703
--@ or 42P01
