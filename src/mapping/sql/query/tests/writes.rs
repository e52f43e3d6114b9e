//! What writes.

use super::*;

pub(super) const WRITES: &[(&str, &str)] = &[
    ("INSERT INTO people (id, name) VALUES (1, 'a')", "sql:Insert public.people[id,name]"),
    ("INSERT INTO people VALUES (1, 'a')", "sql:Insert public.people[id,name,ssn]"),
    ("INSERT INTO people DEFAULT VALUES", "sql:Insert public.people[id,name,ssn]"),
    ("INSERT INTO people (nothing) VALUES (1)", "42703 unknown-name"),
    (
        "INSERT INTO people (id, name) SELECT id, note FROM orders",
        "sql:Insert public.people[id,name]; sql:Select public.orders[id,note]",
    ),
    (
        "INSERT INTO people (id) VALUES ((SELECT max(id) FROM orders))",
        "sql:Insert public.people[id]; sql:Select public.orders[id]",
    ),
    (
        "INSERT INTO people (id) VALUES (1) RETURNING *",
        "sql:Insert public.people[id]; sql:Select public.people[id,name,ssn]",
    ),
    (
        "INSERT INTO people AS p (id) VALUES (1) RETURNING p",
        "sql:Insert public.people[id]; sql:Select public.people[id,name,ssn]",
    ),
    ("INSERT INTO people (id) VALUES (1) ON CONFLICT DO NOTHING", "sql:Insert public.people[id]"),
    (
        "INSERT INTO people (id) VALUES (1) ON CONFLICT (id) DO NOTHING",
        "sql:Insert public.people[id]; sql:Select public.people[id]",
    ),
    (
        "INSERT INTO people (id) VALUES (1) ON CONFLICT ON CONSTRAINT people_pkey DO NOTHING",
        "sql:Insert public.people[id]; sql:Select public.people[id,name,ssn]",
    ),
    (
        "INSERT INTO people (id, name) VALUES (1, 'a') ON CONFLICT (id) DO UPDATE SET name = excluded.name WHERE people.ssn = 'x'",
        "sql:Insert public.people[id,name]; sql:Select public.people[id,name,ssn]; sql:Update public.people[name]",
    ),
    (
        "INSERT INTO people (id) VALUES (1) ON CONFLICT (lower(ssn)) WHERE name = 'a' DO NOTHING",
        "sql:Insert public.people[id]; sql:Select public.people[name,ssn]",
    ),
    ("WITH x AS (SELECT 1 AS id) INSERT INTO people (id) SELECT id FROM x", "sql:Insert public.people[id]"),
    ("WITH people AS (SELECT 1) INSERT INTO people (id) VALUES (1)", "sql:Insert public.people[id]"),
    ("INSERT INTO feelings (feels) VALUES ('ok')", "sql:Insert public.feelings[feels]"),
    ("INSERT INTO feelings (person, feels) VALUES (abs(1), $1)", "sql:Insert public.feelings[feels,person]"),
    ("INSERT INTO feelings (feels) VALUES (abs(1))", "sql:Execute public.mood_of(); sql:Insert public.feelings[feels]"),
    (
        "INSERT INTO feelings (feels) SELECT id FROM people",
        "sql:Execute public.mood_of(); sql:Insert public.feelings[feels]; sql:Select public.people[id]",
    ),
    (
        "INSERT INTO feelings (feels) SELECT feels FROM feelings",
        "sql:Insert public.feelings[feels]; sql:Select public.feelings[feels]",
    ),
    (
        "UPDATE feelings SET feels = person",
        "sql:Execute public.mood_of(); sql:Select public.feelings[person]; sql:Update public.feelings[feels]",
    ),
    ("UPDATE feelings SET feels = 'ok'", "sql:Update public.feelings[feels]"),
    ("INSERT INTO events_1a (id) VALUES (1)", "sql:Insert public.events_1a[id]"),
    ("UPDATE people SET name = 'x'", "sql:Update public.people[name]"),
    ("UPDATE people SET name = ssn", "sql:Select public.people[ssn]; sql:Update public.people[name]"),
    ("UPDATE people SET name = 'x' WHERE id = 1", "sql:Select public.people[id]; sql:Update public.people[name]"),
    ("UPDATE people SET name = 'x' RETURNING ssn", "sql:Select public.people[ssn]; sql:Update public.people[name]"),
    (
        "UPDATE people p SET name = o.note FROM orders o WHERE o.person = p.id",
        "sql:Select public.orders[note,person]; sql:Select public.people[id]; sql:Update public.people[name]",
    ),
    (
        "UPDATE people SET (name, ssn) = (SELECT note, amount FROM orders WHERE id = people.id)",
        "sql:Select public.orders[amount,id,note]; sql:Select public.people[id]; sql:Update public.people[name,ssn]",
    ),
    (
        "UPDATE people SET (name, ssn) = (ssn, name)",
        "sql:Select public.people[name,ssn]; sql:Update public.people[name,ssn]",
    ),
    ("UPDATE people SET name = DEFAULT WHERE CURRENT OF c", "sql:Update public.people[name]"),
    (
        "UPDATE parent SET shared = 'x'",
        "sql:Update public.child[shared]; sql:Update public.grandchild[shared]; sql:Update public.parent[shared]",
    ),
    ("UPDATE ONLY parent SET shared = 'x'", "sql:Update public.parent[shared]"),
    ("UPDATE names SET name = 'x' WHERE id = 1", "sql:Select public.names[id]; sql:Update public.names[name]"),
    ("UPDATE feelings SET at.city = 'x'", "sql:Update public.feelings[at]"),
    ("UPDATE pg_settings SET setting = 'off' WHERE name = 'x'", "0A000 settings-written"),
    ("UPDATE people SET nothing = 1", "42703 unknown-name"),
    ("DELETE FROM people", "sql:Delete public.people[]"),
    ("DELETE FROM people WHERE id = 1", "sql:Delete public.people[]; sql:Select public.people[id]"),
    ("DELETE FROM people RETURNING *", "sql:Delete public.people[]; sql:Select public.people[id,name,ssn]"),
    (
        "DELETE FROM people p USING orders o WHERE o.person = p.id",
        "sql:Delete public.people[]; sql:Select public.orders[person]; sql:Select public.people[id]",
    ),
    ("DELETE FROM people WHERE CURRENT OF c", "sql:Delete public.people[]"),
    (
        "MERGE INTO people p USING orders o ON p.id = o.person WHEN MATCHED AND p.ssn = 'x' THEN UPDATE SET name = o.note \
         WHEN NOT MATCHED THEN INSERT (id, name) VALUES (o.person, o.note)",
        "sql:Insert public.people[id,name]; sql:Merge public.people[]; sql:Select public.orders[note,person]; \
         sql:Select public.people[id,ssn]; sql:Update public.people[name]",
    ),
    // Whatever its branches do, a MERGE reads its target.
    (
        "MERGE INTO people USING (SELECT 1 AS x) s ON true WHEN MATCHED THEN DO NOTHING",
        "sql:Merge public.people[]; sql:Select public.people[]",
    ),
    (
        "MERGE INTO people p USING (SELECT 1 AS x) s ON p.id = s.x WHEN MATCHED THEN DELETE",
        "sql:Delete public.people[]; sql:Merge public.people[]; sql:Select public.people[id]",
    ),
    (
        "MERGE INTO people p USING orders o ON p.id = o.person WHEN MATCHED THEN DO NOTHING WHEN NOT MATCHED THEN INSERT DEFAULT VALUES",
        "sql:Insert public.people[id,name,ssn]; sql:Merge public.people[]; sql:Select public.orders[person]; sql:Select public.people[id]",
    ),
    (
        "MERGE INTO people p USING orders o ON p.id = o.person WHEN MATCHED THEN DELETE RETURNING p.id",
        "0A000 grammar-skew",
    ),
    ("UPDATE people SET name = 'x' RETURNING old.name", "42P01 unknown-name"),
    ("DELETE FROM people RETURNING WITH (OLD AS o) o.name", "0A000 grammar-skew"),
];

#[test]
fn each_change_asks_what_it_writes_and_what_it_reads() {
    check(&Catalog::sample(), WRITES);
}
