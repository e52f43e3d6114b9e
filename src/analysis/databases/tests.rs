//! Cases with SQL texts.

use std::path::Path;

use crate::analysis::{PolicyTest, test_directory};
use crate::mapping::sql::catalog::{Catalog, Reading, Snapshot};
use crate::policy::Outcome;

const POLICIES: &str = r#"
@id("people-without-ssn")
permit (principal, action == Action::"sql:Select", resource in Schema::"wh/shop.public") unless { context.columns.contains("ssn") || context has base && context.base.contains("public.people.ssn") };
@id("orders") permit (principal, action == Action::"sql:Insert", resource == Table::"wh/shop.public.orders");
@id("months") permit (principal, action == Action::"sql:Execute", resource == Function::"wh/shop.public.close_month");
"#;

const HEAD: &str = r#"
endpoints: { wh: postgres }
databases:
  wh/shop:
    role: analyst
    tables:
      public.people: [id int8, name text, "ssn varchar(11)"]
      public.orders: [id bigint, '"at" timestamp with time zone', 'tags text[]']
    partitions: { public.orders_2026: public.orders }
    views:
      public.names: { columns: [id int8, name text], reads: { public.people: [id, name] } }
      public.secrets: { columns: [n text], reads: { public.people: [ssn] } }
    functions:
      public.close_month: { arguments: [date], returns: void }
"#;

fn directory(head: &str, cases: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("p.cedar"), POLICIES).unwrap();
    std::fs::write(directory.path().join("cases.yaml"), format!("{head}cases:\n{cases}")).unwrap();
    directory
}

fn run(head: &str, cases: &str) -> Result<PolicyTest, String> {
    test_directory(directory(head, cases).path()).map_err(|error| error.to_string())
}

fn case(sql: &str, rest: &str) -> String {
    format!("  - {{name: n, as: 'spiffe://a.test/x', sql: {sql:?}, {rest}}}\n")
}

#[test]
fn a_sql_text_is_judged_as_the_listener_judges_it() {
    for (sql, expect) in [
        ("SELECT name FROM people", "allowed, by: [people-without-ssn]"),
        ("SELECT lower(p.name) || 'x', count(*) FROM public.people p WHERE id = 7 GROUP BY 1", "allowed"),
        ("SELECT * FROM people", "not_permitted, about: [people-without-ssn]"),
        ("SELECT 1 FROM people WHERE ssn LIKE '1%'", "not_permitted"),
        ("WITH p AS (SELECT * FROM people) SELECT id FROM p", "not_permitted"),
        ("SELECT * FROM names", "allowed"),
        ("SELECT * FROM secrets", "not_permitted"),
        ("SELECT id FROM orders_2026", "allowed"),
        ("INSERT INTO orders VALUES (1, now(), '{a}')", "allowed, by: [orders]"),
        ("INSERT INTO orders (id) SELECT id FROM people; SELECT id FROM people", "allowed"),
        ("INSERT INTO orders (id) SELECT ssn::int8 FROM people", "not_permitted"),
        ("DELETE FROM orders", "not_permitted"),
        ("SELECT close_month(current_date)", "allowed, by: [months]"),
        ("DO $$ BEGIN END $$", "not_permitted"),
        ("SELEC 1", "refused"),
        ("SELECT nextval(concat('a', 'b')::regclass)", "refused"),
    ] {
        let test = run(HEAD, &case(sql, &format!("expect: {expect}"))).unwrap_or_else(|error| panic!("{sql}: {error}"));
        assert!(test.passed(), "{sql}: {:#?}", test.results);
    }
}

#[test]
fn what_the_catalogue_does_not_say_is_not_guessed() {
    for (sql, rest, said) in [
        ("SELECT * FROM nowhere", "expect: refused", "relation \"nowhere\" does not exist"),
        ("SELECT nothing FROM people", "expect: refused", "nothing"),
        ("SELECT no_such_function(1)", "expect: refused", "no_such_function"),
        ("SELECT * FROM sales.people", "expect: refused", "relation \"sales.people\" does not exist"),
        ("SELECT 1", "expect: allowed, database: wh/shp", "did you mean `wh/shop`?"),
        ("-- nothing", "expect: allowed", "the text has no statement"),
        ("SELECT 1", "expect: allowed, search_path: 'a b'", "`a b` is no search path"),
        ("SELECT 1", "expect: allowed, resource: 'Table::\"wh/a.b.c\"'", "either `request`, or `sql`"),
        ("SELECT 1", "expect: allowed, context: {role: a}", "the context comes from what is asked"),
        ("SELECT 1", "expect: allowed, headers: {a: b}", "`headers` and `body` are keys of cases with `request`"),
        ("SELECT 1", "expect: allowed, rol: a", "unknown key `rol`, did you mean `role`?"),
    ] {
        let error = run(HEAD, &case(sql, rest)).expect_err(sql);
        assert!(error.contains(said) && error.contains("cases.yaml:1"), "{sql}: {error}");
    }
    let request = "  - {name: n, as: 'spiffe://a.test/x', request: GET s3://lake/raw/a, role: a, expect: allowed}\n";
    assert!(run("", request).unwrap_err().contains("`role` is a key of cases with `sql`"));
    assert!(run("", &case("SELECT 1", "expect: allowed")).unwrap_err().contains("portcullis policy catalog"));
}

#[test]
fn a_database_that_is_written_wrongly_says_what_is_wrong() {
    let select = case("SELECT 1", "expect: allowed");
    for (from, to, said) in [
        ("wh/shop:", "shop:", "`ENDPOINT/DATABASE`"),
        ("{ wh: postgres }", "{ wh: s3 }", "`endpoints` has no `wh: postgres`"),
        ("tables:", "table:", "unknown key `table`, did you mean `tables`?"),
        ("databases:", "database:", "unknown key `database`, did you mean `databases`?"),
        ("id int8, name text, \"ssn", "id, name text, \"ssn", "`id` is no column: write its name and its type"),
        ("ssn varchar(11)", "ssn varcar(11)", "PostgreSQL has no type `varcar(11)`, did you mean `varchar`?"),
        ("ssn varchar(11)", "name text", "it has the column `name` twice"),
        ("public.people: [id", "people: [id", "table `people`: it is written `SCHEMA.NAME`"),
        ("public.orders }", "public.order }", "there is no table `public.order`"),
        ("reads: { public.people: [ssn] }", "reads: { public.people: [sn] }", "`public.people` has no column `sn`"),
        ("reads: { public.people: [ssn] }", "reads: { public.peple: [ssn] }", "there is no `public.peple`"),
        ("returns: void", "return: void", "unknown field `return`"),
        ("    role: analyst\n", "", "which `role`?"),
        ("    role: analyst\n", "    role: analyst\n    catalog: c.tsv\n", "either `catalog`, or `tables`"),
    ] {
        assert!(HEAD.contains(from), "{from}");
        let error = run(&HEAD.replacen(from, to, 1), &select).expect_err(from);
        assert!(error.contains(said) && error.contains("cases.yaml"), "{to}: {error}");
    }
}

#[test]
fn a_catalogue_in_a_file_stands_for_the_database() {
    let mut snapshot = Snapshot::built_in().unwrap();
    snapshot.push(Reading::Database, &[Some("shop"), Some("10"), Some("170002")]);
    snapshot.push(Reading::Roles, &[Some("20000"), Some("analyst"), Some("f"), Some("t")]);
    snapshot.push(Reading::Relations, &["20001", "2200", "people", "r", "20002", "f"].map(Some));
    snapshot.push(Reading::Columns, &["20001", "1", "name", "25", ""].map(Some));
    let head = "databases: { wh/shop: { role: analyst, catalog: shop.tsv } }\n";
    let cases = case("SELECT name FROM people", "expect: allowed") + &case("SELECT ssn FROM people", "expect: refused");
    let folder = directory(head, &cases);
    let test = |folder: &Path| test_directory(folder).map_err(|error| error.to_string());
    assert!(test(folder.path()).unwrap_err().contains("shop.tsv"));
    std::fs::write(folder.path().join("shop.tsv"), snapshot.text()).unwrap();
    let outcomes: Vec<Outcome> = test(folder.path()).unwrap().results.iter().map(|result| result.outcome).collect();
    // Here the server has said everything: what it does not name is not there.
    assert_eq!(outcomes, [Outcome::Allowed, Outcome::Refused]);
    let renamed = std::fs::read_to_string(folder.path().join("cases.yaml")).unwrap().replace("wh/shop", "wh/store");
    std::fs::write(folder.path().join("cases.yaml"), renamed).unwrap();
    assert!(test(folder.path()).unwrap_err().contains("the database `shop`, not of `store`"));
    assert_eq!(snapshot.catalog().map(|catalog: Catalog| catalog.major).unwrap(), 17);
}

#[test]
fn the_cases_on_the_pages_pass() {
    let mut shown = 0;
    for page in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs")).unwrap() {
        let page = page.unwrap().path();
        let text = if page.is_file() { std::fs::read_to_string(&page).unwrap() } else { String::new() };
        let blocks = text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
        for block in blocks.filter(|block| block.contains("\ndatabases:")) {
            shown += 1;
            let folder = directory("", "");
            std::fs::write(folder.path().join("cases.yaml"), block).unwrap();
            let mut snapshot = Snapshot::built_in().unwrap();
            snapshot.push(Reading::Database, &[Some("sales"), Some("10"), Some("180000")]);
            std::fs::write(folder.path().join("sales.tsv"), snapshot.text()).unwrap();
            let test = test_directory(folder.path()).unwrap_or_else(|error| panic!("{}: {error}", page.display()));
            assert!(test.passed() && !test.results.is_empty(), "{}: {:#?}", page.display(), test.results);
        }
    }
    assert_eq!(shown, 1);
}
