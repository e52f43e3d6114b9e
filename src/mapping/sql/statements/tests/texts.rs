//! Texts: what statements do to each other, to transactions, names and cursors.

use super::cases::CASES;
use super::*;

#[test]
fn every_kind_is_in_the_table_and_every_action_in_the_schema() {
    let kinds: Vec<_> = super::super::kinds().map(|(kind, _)| kind).collect();
    let actions: Vec<_> = crate::mapping::sql::actions().map(|(action, _)| action).collect();
    for (text, _) in CASES {
        for statement in mapped(text).expect(text).statements {
            assert!(kinds.contains(&statement.kind), "{}", statement.kind);
            for operation in statement.operations.iter() {
                let action = operation.action.as_str();
                assert!(actions.contains(&action), "{action}");
                let on = crate::mapping::sql::resource_kinds(action);
                assert!(on.contains(&operation.resource.kind()), "{text}: {action} on {}", operation.resource);
            }
        }
    }
}

/// What all statements of a text ask.
fn all(text: &str) -> Result<Vec<String>, &'static str> {
    let mapped = mapped(text).map_err(|refusal| refusal.rule)?;
    Ok(mapped.statements.iter().map(asks).collect())
}

#[test]
fn a_text_is_judged_with_what_its_earlier_statements_change() {
    let asked = |text: &str| all(text).unwrap_or_else(|rule| panic!("{text}: {rule}"));
    let last = |text: &str| asked(text).pop().unwrap_or_default();
    assert_eq!(asked(""), [""; 0]);
    assert_eq!(asked("; -- nothing"), [""; 0]);
    assert_eq!(last("SET search_path = sales; SELECT id FROM orders"), "select | Select sales.orders(id)");
    assert_eq!(last("SET LOCAL search_path = sales; SELECT id FROM orders"), "select | Select sales.orders(id)");
    assert_eq!(last("CREATE TABLE n (a int, b int); INSERT INTO n VALUES (1)"), "insert | Insert public.n(a b)");
    assert_eq!(last("CREATE TABLE n AS SELECT id AS x FROM people; SELECT * FROM n"), "select | Select public.n(x)");
    assert_eq!(last("CREATE VIEW v (q) AS SELECT id FROM people; SELECT * FROM v"), "select | Select public.v(q)");
    assert_eq!(
        last("ALTER TABLE people ADD COLUMN x int; UPDATE people SET x = 1"),
        "update | Update public.people(x)"
    );
    assert_eq!(last("CREATE SCHEMA s; CREATE TABLE s.n (a int)"), "create_table | Create s table=n");
    assert_eq!(last("BEGIN; DELETE FROM orders; COMMIT; SELECT id FROM people"), "select | Select public.people(id)");
    assert_eq!(
        last("BEGIN; SET search_path = sales; COMMIT; SELECT id FROM orders"),
        "select | Select sales.orders(id)"
    );
    assert_eq!(
        last("DROP TABLE IF EXISTS orders; CREATE TABLE orders (q int); SELECT * FROM orders"),
        "select | Select public.orders(q)"
    );
    assert_eq!(last("DECLARE c CURSOR FOR SELECT id FROM people; FETCH c"), "fetch | Connect db");
    assert_eq!(last("PREPARE q AS SELECT ssn FROM people; EXECUTE q"), "execute | Select public.people(ssn)");
    assert_eq!(last("CREATE FUNCTION f(int) RETURNS int LANGUAGE sql AS ''; SELECT f(1)"), "select | Execute public.f");
    // What asyncpg sends when a connection goes back to its pool.
    let reset = asked("SELECT pg_advisory_unlock_all();\nCLOSE ALL;\nUNLISTEN *;\nRESET ALL;");
    assert!(reset.iter().skip(1).all(|asked| asked.ends_with("| Connect db")), "{reset:?}");
}

#[test]
fn a_text_whose_later_statements_hang_on_what_nobody_knows_is_refused() {
    for text in [
        "RESET ALL; SELECT id FROM people",
        "RESET search_path; SELECT id FROM people",
        "SET ROLE app; SELECT id FROM people",
        "DISCARD ALL; SELECT id FROM people",
        "SELECT set_config('search_path', 'sales', false); SELECT id FROM orders",
        "DO ''; SELECT id FROM people",
        "CALL close_month(1); SELECT id FROM people",
        "SELECT leak(people) FROM people; SELECT id FROM people",
        "DROP TABLE orders; SELECT id FROM orders",
        "DROP TABLE orders CASCADE; SELECT id FROM people",
        "ALTER TABLE people RENAME TO x; SELECT id FROM people",
        "ALTER TABLE people DROP COLUMN ssn; SELECT * FROM people",
        "BEGIN; SET search_path = sales; ROLLBACK; SELECT id FROM orders",
        "BEGIN; SET LOCAL search_path = sales; COMMIT; SELECT id FROM orders",
        "SAVEPOINT a; CREATE TABLE n (a int); ROLLBACK TO a; SELECT id FROM orders",
        "CREATE EXTENSION x; SELECT id FROM people",
        "FETCH loud; SELECT id FROM people",
    ] {
        assert_eq!(all(text), Err("depends-on-earlier"), "{text}");
    }
    // Nothing hangs on names here.
    assert!(all("DO ''; SELECT 1, 'two' AS b").is_ok());
    assert!(all("RESET ALL; SET datestyle = 'ISO'; BEGIN; SHOW ALL").is_ok());
}

#[test]
fn the_end_of_a_transaction_that_began_in_another_text_may_change_everything() {
    struct Changed;
    impl PreparedTexts for Changed {
        fn prepared(&self, _: &str) -> Option<(&str, usize)> {
            None
        }
        fn cursor(&self, _: &str) -> bool {
            false
        }
    }
    for end in ["COMMIT", "ROLLBACK", "ROLLBACK TO a"] {
        let text = format!("{end}; SELECT id FROM people");
        let refusal = map(&text, "wh", &SAMPLE, &facts(), &Changed).map(|_| ()).expect_err("refused");
        assert_eq!(refusal.rule, "depends-on-earlier");
    }
}

#[test]
fn effects_say_what_has_to_be_asked_again() {
    let effects = |text: &str| {
        let effects = mapped(text).expect(text).statements.pop().expect("one").effects;
        (effects.settings, effects.names, effects.anything)
    };
    for quiet in [
        "SELECT id FROM people",
        "BEGIN",
        "FETCH known",
        "LOCK people",
        "TRUNCATE orders",
        "NOTIFY c",
        "PREPARE p AS SELECT leak(people) FROM people",
    ] {
        assert_eq!(effects(quiet), (false, false, false), "{quiet}");
    }
    for settings in ["SET datestyle = 'ISO'", "RESET ALL", "SET ROLE app", "SELECT set_config('jit', 'on', true)"] {
        assert_eq!(effects(settings), (true, false, false), "{settings}");
    }
    for names in ["CREATE TABLE n (a int)", "DROP TABLE people", "ALTER TABLE people ADD x int", "GRANT app TO analyst"]
    {
        assert_eq!(effects(names), (false, true, false), "{names}");
    }
    assert_eq!(effects("DISCARD ALL"), (true, true, false));
    for anything in ["DO ''", "CALL close_month(1)", "FETCH loud", "SELECT leak(people) FROM people", "LOAD 'x'"] {
        assert!(effects(anything).2, "{anything}");
    }
}

#[test]
fn statements_say_what_they_do_to_transactions_names_and_cursors() {
    let one = |text: &str| mapped(text).expect(text).statements.pop().expect("one");
    assert_eq!(one("COMMIT AND CHAIN").transaction, Transaction::Commits { chain: true });
    assert_eq!(one("ABORT").transaction, Transaction::RollsBack { chain: false });
    assert_eq!(one("ROLLBACK TO a").transaction, Transaction::RollsBackTo);
    assert_eq!(one("PREPARE TRANSACTION 'x'").transaction, Transaction::Commits { chain: false });
    assert_eq!(one("PREPARE p AS SELECT 1").naming, Naming::Prepares("p".into()));
    assert_eq!(one("EXECUTE by_sql").naming, Naming::Executes("by_sql".into()));
    assert_eq!(one("DEALLOCATE ALL").naming, Naming::ForgetsAll);
    assert_eq!(one("DECLARE c CURSOR FOR SELECT 1").cursor, Cursor::Declares { name: "c".into(), holds: false });
    assert_eq!(
        one("DECLARE c SCROLL CURSOR WITH HOLD FOR SELECT 1").cursor,
        Cursor::Declares { name: "c".into(), holds: true }
    );
    assert_eq!(one("CLOSE ALL").cursor, Cursor::ClosesAll);
    assert_eq!(one("COPY people FROM STDIN").copying, Some(Copying::In));
    for (options, header) in [
        ("", false),
        ("(FORMAT binary)", false),
        ("CSV HEADER", true),
        ("(FORMAT csv, HEADER)", true),
        ("(FORMAT csv, HEADER true)", true),
        ("(FORMAT csv, HEADER 'On')", true),
        ("(FORMAT csv, HEADER 1)", true),
        ("(FORMAT csv, HEADER off)", false),
        ("(FORMAT csv, HEADER 0)", false),
        ("(FORMAT csv, HEADER 'no one knows')", false),
    ] {
        let copy = one(&format!("COPY people TO STDOUT {options}"));
        assert_eq!((copy.copying, copy.only_reads), (Some(Copying::Out { header }), true), "{options}");
    }
    assert!(one("COPY (SELECT id FROM people) TO STDOUT").only_reads && !one("COPY people TO '/x'").only_reads);
    assert!(!one("COPY (DELETE FROM orders RETURNING id) TO STDOUT").only_reads);
    assert!(!one("COPY (SELECT id FROM people FOR UPDATE) TO STDOUT").only_reads);
    assert!(
        !one("COPY (SELECT leak(people) FROM people) TO STDOUT").only_reads
            && !one("COPY people FROM STDIN").only_reads
    );
    assert_eq!(one("COPY people TO '/x'").copying, None);
    assert!(one("SELECT id FROM people").only_reads && one("VALUES (1)").only_reads);
    assert!(!one("DELETE FROM orders").only_reads && !one("EXPLAIN SELECT 1").only_reads);
    assert!(!one("SELECT leak(people) FROM people").only_reads && !one("SELECT 1 INTO n").only_reads);
}

#[test]
fn what_is_not_utf8_on_both_sides_is_judged_only_as_far_as_it_means_the_same() {
    let with = |text: &str, client: bool, server: bool| {
        let facts = SessionFacts { utf8_client: client, utf8_server: server, ..facts() };
        map(text, "wh", &SAMPLE, &facts, &Session).map(|_| ()).map_err(|refusal| refusal.rule)
    };
    assert_eq!(with("SELECT 'é'", true, true), Ok(()));
    assert_eq!(with("SELECT 'e'", false, false), Ok(()));
    assert_eq!(with("SELECT 'é'", false, true), Err("encoding"));
    assert_eq!(with("SELECT 'é' -- ü", true, false), Ok(()));
    assert_eq!(with("SELECT é", true, false), Err("encoding"));
    assert_eq!(with("SELECT 1\0", true, true), Err("nul"));
}

#[test]
fn the_end_of_a_transaction_hides_names_only_if_the_transaction_may_have_changed_them() {
    let text = "COMMIT; SELECT id FROM people";
    assert_eq!(mapped(text).map(|mapped| mapped.statements.len()), Ok(2));
    // Whoever does not say that nothing was changed is taken to have changed it.
    let refused = map(text, "wh", &SAMPLE, &facts(), &NothingPrepared).map(|_| ()).map_err(|refused| refused.rule);
    assert_eq!(refused, Err("depends-on-earlier"));
}

#[test]
fn execute_leads_to_no_more_text_than_one_statement_may_have() {
    let long = format!("PREPARE p AS SELECT '{}';", "x".repeat(1_000_000));
    assert!(all(&format!("{long}{}", "EXECUTE p;".repeat(15))).is_ok());
    assert_eq!(all(&format!("{long}{}", "EXECUTE p;".repeat(17))), Err("text-too-long"));
}

#[test]
fn values_for_parameters_may_be_cast_to_what_nobody_has_written() {
    let last = |text: &str| all(text).unwrap().pop().unwrap();
    let prepared = "PREPARE p (mood) AS SELECT name FROM people; ";
    assert_eq!(last(&format!("{prepared}EXECUTE p('ok')")), "execute | Select public.people(name)");
    assert_eq!(
        last(&format!("{prepared}EXECUTE p(1)")),
        "execute | Execute public.mood_of, Select public.people(name)"
    );
}

#[test]
fn a_column_of_another_type_casts_what_is_stored() {
    let last = |text: &str| all(text).unwrap().pop().unwrap();
    assert!(last("ALTER TABLE feelings ALTER person TYPE mood").contains("Execute public.mood_of"));
    assert!(!last("ALTER TABLE feelings ALTER person TYPE bigint").contains("Execute"));
}
