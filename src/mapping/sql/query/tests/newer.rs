//! What only newer servers have, and what hangs on the path or on what is beyond the list of operations.

use super::*;
use crate::mapping::sql::asked::Asked;

fn sample(major: u32) -> Catalog {
    Catalog { major, ..Catalog::sample() }
}

#[test]
fn a_newer_server_has_the_syntax_that_an_older_one_takes_for_a_function() {
    check(
        &sample(18),
        &[
            ("SELECT JSON_OBJECT('a': ssn) FROM people", "sql:Select public.people[ssn]"),
            ("SELECT JSON_ARRAY(ssn, name) FROM people", "sql:Select public.people[name,ssn]"),
            ("SELECT JSON_ARRAY(SELECT ssn FROM people)", "sql:Select public.people[ssn]"),
            (
                "SELECT JSON_ARRAYAGG(name ORDER BY ssn), JSON_OBJECTAGG(id: 1) FILTER (WHERE id > 1) FROM people",
                "sql:Select public.people[id,name,ssn]",
            ),
            (
                "SELECT JSON(ssn), JSON_SCALAR(name), JSON_SERIALIZE(id) FROM people",
                "sql:Select public.people[id,name,ssn]",
            ),
            (
                "SELECT JSON_VALUE(ssn, '$' PASSING name AS n RETURNING int DEFAULT id ON EMPTY) FROM people",
                "sql:Select public.people[id,name,ssn]",
            ),
            (
                "SELECT t.a, t.b FROM people p, JSON_TABLE(p.ssn, '$' PASSING p.name AS n \
                 COLUMNS (a int PATH '$', NESTED PATH '$[*]' COLUMNS (b text PATH '$')))  t",
                "sql:Select public.people[name,ssn]",
            ),
            ("SELECT ssn IS JSON FROM people", "sql:Select public.people[ssn]"),
            (
                "UPDATE people SET name = 'x' RETURNING old.ssn",
                "sql:Select public.people[ssn]; sql:Update public.people[name]",
            ),
            (
                "DELETE FROM people RETURNING WITH (OLD AS o) o.name",
                "sql:Delete public.people[]; sql:Select public.people[name]",
            ),
            ("DELETE FROM people RETURNING new", "sql:Delete public.people[]; sql:Select public.people[id,name,ssn]"),
            (
                "MERGE INTO people p USING orders o ON p.id = o.person WHEN NOT MATCHED BY SOURCE THEN DELETE \
                 RETURNING merge_action(), o.note",
                "sql:Delete public.people[]; sql:Merge public.people[]; sql:Select public.orders[note,person]; \
                 sql:Select public.people[id]",
            ),
        ],
    );
}

#[test]
fn an_operator_somewhere_on_the_path_may_be_meant_by_every_syntax_that_uses_it() {
    let catalog = Catalog::sample();
    for text in [
        "SELECT 1 FROM people WHERE name = 'a'",
        "SELECT 1 FROM people WHERE name IN ('a')",
        "SELECT 1 FROM people WHERE name IS DISTINCT FROM 'a'",
        "SELECT NULLIF(name, 'a') FROM people",
        "SELECT CASE name WHEN 'a' THEN 1 END FROM people",
        "SELECT 1 FROM people WHERE name IN (SELECT 'a')",
        "SELECT 1 FROM people WHERE name = ANY (ARRAY['a'])",
        "SELECT 1 FROM people WHERE (name, id) = ('a', 1)",
        "SELECT 1 FROM people a JOIN people b USING (name)",
    ] {
        let walked = walk_with(&catalog, Some(&["public", "hijack"]), text).unwrap();
        let execute = "sql:Execute public.varchar_same()".to_owned();
        assert!(walked.operations.contains(&execute), "{text}: {:?}", walked.operations);
        assert!(walked.effects.anything, "{text} runs code that nobody has judged");
    }
}

#[test]
fn a_view_names_what_it_is_made_of() {
    let (catalog, facts) = (Catalog::sample(), facts());
    let names = Names::new("wh", &catalog, &facts);
    let mut asked = Asked::default();
    asked.read(&names.relation("", "", "names").unwrap(), ["name".into()]);
    asked.read(&names.relation("", "", "events_1a").unwrap(), []);
    let (operations, _, _) = asked.finish(&names, "select");
    let first = operations.first();
    let base = ["public.people", "public.people.id", "public.people.name"].map(Box::from).to_vec();
    assert_eq!(first.context.get("base"), Some(&Value::Strings(base)));
    assert_eq!(first.context.get("statement"), Some(&Value::from("select")));
    assert_eq!(first.context.get("role"), Some(&Value::from("analyst")));
    let part = operations.iter().nth(1).unwrap();
    let above: Vec<_> = part.resource.ancestors().map(|(_, id)| id.to_owned()).collect();
    let expected =
        ["wh/shop.public.events_1", "wh/shop.public.events", "wh/shop.public", "wh/shop", "wh"].map(str::to_owned);
    assert_eq!(above, expected, "whoever may read the whole may read its parts");
}

#[test]
fn literals_matter_where_they_are_names_or_reach_code() {
    let catalog = Catalog::sample();
    let matter = |text| walk_with(&catalog, None, text).unwrap().literals_matter;
    for text in [
        "SELECT 'people'::regclass",
        "SELECT 'ok'::mood",
        "SELECT add(1)",
        "SELECT nextval('numbers')",
        "SELECT set_config('jit', 'on', true)",
    ] {
        assert!(matter(text), "{text}");
    }
    for text in
        ["SELECT name FROM people WHERE id = 5", "SELECT 'a'::text", "UPDATE people SET name = 'a' WHERE id = 1"]
    {
        assert!(!matter(text), "{text}");
    }
}

#[test]
fn settings_by_function_have_the_effects_of_a_set() {
    let walked = walk_with(&Catalog::sample(), None, "SELECT set_config('search_path', 'sales', false)").unwrap();
    assert!(walked.effects.settings && !walked.effects.anything);
    let walked = walk_with(&Catalog::sample(), None, "SELECT name FROM people").unwrap();
    assert!(!walked.effects.any());
}

#[test]
fn what_is_nested_too_deep_is_refused_and_not_walked() {
    let walk = || {
        let (catalog, facts) = (Catalog::sample(), facts());
        let names = Names::new("wh", &catalog, &facts);
        let mut node = pg_query::protobuf::Node { node: None };
        for _ in 0..10_000 {
            let expression = pg_query::protobuf::BoolExpr { args: vec![node], ..Default::default() };
            node = pg_query::protobuf::Node { node: Some(pg_query::NodeEnum::BoolExpr(Box::new(expression))) };
        }
        let refusal = Walk::new(&names).expression(&node).unwrap_err();
        assert_eq!((refusal.sqlstate, refusal.rule), ("54001", "too-deep"));
        // Dropping it would go as deep.
        std::mem::forget(node);
    };
    let thread = std::thread::Builder::new().stack_size(crate::mapping::sql::STACK);
    thread.spawn(walk).unwrap().join().unwrap();
}

#[test]
fn a_node_that_nobody_knows_is_refused() {
    let (catalog, facts) = (Catalog::sample(), facts());
    let names = Names::new("wh", &catalog, &facts);
    for node in [
        pg_query::NodeEnum::CreateStmt(pg_query::protobuf::CreateStmt::default()),
        pg_query::NodeEnum::Query(Box::default()),
    ] {
        assert_eq!(Walk::new(&names).query(&node).unwrap_err().rule, "unknown-node");
        let node = pg_query::protobuf::Node { node: Some(node) };
        assert_eq!(Walk::new(&names).expression(&node).unwrap_err().rule, "unknown-node");
    }
}

#[test]
fn definitions_name_columns_without_reading_them() {
    let (catalog, facts) = (Catalog::sample(), facts());
    let names = Names::new("wh", &catalog, &facts);
    let people = names.relation("", "", "people").unwrap();
    let parsed = pg_query::parse("SELECT 1 WHERE ssn > 'a' AND ctid IS NOT NULL", 0).unwrap();
    let Some(pg_query::NodeEnum::SelectStmt(select)) = parsed.protobuf.stmts[0].stmt.as_ref().unwrap().node.as_ref()
    else {
        panic!("no SELECT")
    };
    let condition = select.where_clause.as_ref().unwrap();
    let asked = |over: bool| {
        let mut walk = Walk::new(&names);
        if over { walk.expression_over(condition, &people) } else { walk.expression_about(condition, &people) }
            .unwrap();
        walk.asked.finish(&names, "x").0.iter().map(written).collect::<Vec<_>>().join("; ")
    };
    assert_eq!(asked(true), "sql:Select public.people[ctid,ssn]");
    assert_eq!(asked(false), "sql:Connect db");
}

#[test]
fn the_columns_that_a_query_returns_are_known_by_name() {
    let (catalog, facts) = (Catalog::sample(), facts());
    let names = Names::new("wh", &catalog, &facts);
    let columns = |text: &str| {
        let parsed = pg_query::parse(text, 0).unwrap();
        let node = parsed.protobuf.stmts[0].stmt.as_ref().unwrap().node.as_ref().unwrap();
        let pg_query::NodeEnum::SelectStmt(select) = node else { panic!("no SELECT") };
        let columns = Walk::new(&names).query_columns(select).unwrap();
        columns.iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>().join(",")
    };
    assert_eq!(columns("SELECT * FROM people"), "id,name,ssn");
    assert_eq!(columns("SELECT * FROM generate_series(1, 9) g"), "g");
    assert_eq!(columns("SELECT id::text, abs(id), 1, CASE WHEN true THEN 1 END FROM people"), "id,abs,?column?,case");
    assert_eq!(columns("SELECT (SELECT * FROM (SELECT 1 AS ssn) x), EXISTS (SELECT 1), ARRAY[1]"), "ssn,exists,array");
    assert_eq!(columns("VALUES (1, 2) UNION SELECT 3, 4"), "column1,column2");
    assert_eq!(columns("SELECT * FROM people NATURAL JOIN orders"), "id,name,ssn,person,amount,note");
    assert_eq!(columns("SELECT * FROM people JOIN orders USING (id) WHERE true"), "id,name,ssn,person,amount,note");
    assert_eq!(columns("SELECT p.*, o.note AS x FROM people p, orders o"), "id,name,ssn,x");
    assert_eq!(
        columns("SELECT current_user, NULLIF(1, 2), COALESCE(1), (p).name FROM people p"),
        "current_user,nullif,coalesce,name"
    );
}
