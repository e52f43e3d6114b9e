//! Texts that are deep, wide or both, on a stack as the data threads have it.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use super::catalog::Catalog;
use super::catalog::testing::facts;
use super::facts::NothingPrepared;
use super::{STACK, SqlRefusal, map};

static SAMPLE: LazyLock<Catalog> = LazyLock::new(Catalog::sample);

/// What became of a text, how many bytes of the stack were ever touched, and how long it took.
struct Outcome {
    mapped: Result<(), SqlRefusal>,
    touched: usize,
    took: Duration,
}

fn on_a_data_thread(text: String) -> Outcome {
    LazyLock::force(&SAMPLE);
    let thread = std::thread::Builder::new().stack_size(STACK);
    let judged = thread.spawn(move || {
        let catalog = &*SAMPLE;
        let started = Instant::now();
        let mapped = map(&text, "wh", catalog, &facts(), &NothingPrepared).map(drop);
        let took = started.elapsed();
        Outcome { mapped, touched: stack_touched(), took }
    });
    judged.expect("spawns").join().expect("no panic")
}

/// How much of this thread's stack is in memory: a new thread's is touched only where it was used.
fn stack_touched() -> usize {
    let here = 0_u8;
    let here = std::ptr::from_ref(&here).addr();
    let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let mut inside = false;
    for line in maps.lines() {
        if let Some((range, _)) = line.split_once(' ')
            && let Some((start, end)) = range.split_once('-')
        {
            let address = |text| usize::from_str_radix(text, 16).unwrap();
            inside = (address(start)..address(end)).contains(&here);
        } else if inside && let Some(rss) = line.strip_prefix("Rss:") {
            return rss.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024;
        }
    }
    panic!("this thread has no stack");
}

/// Every way to nest, `n` deep.
fn nested(n: usize) -> Vec<(&'static str, String)> {
    let around = |before: &str, inner: &str, after: &str| format!("{}{inner}{}", before.repeat(n), after.repeat(n));
    vec![
        ("||", format!("SELECT 'a'{}", "||'a'".repeat(n))),
        ("+", format!("SELECT 1{}", "+1".repeat(n))),
        ("NOT", format!("SELECT {}true", "NOT ".repeat(n))),
        ("unary -", format!("SELECT {}id FROM people", "- ".repeat(n))),
        ("cast", format!("SELECT name{} FROM people", "::text".repeat(n))),
        ("COLLATE", format!("SELECT 'a'{}", " COLLATE \"C\"".repeat(n))),
        ("IS NULL", format!("SELECT 1{}", " IS NULL".repeat(n))),
        ("ARRAY", format!("SELECT {}", around("ARRAY[", "1", "]"))),
        ("ROW", format!("SELECT {}", around("ROW(", "1", ")"))),
        ("subscript", format!("SELECT {} FROM people", around("(", "id", ")[1]"))),
        ("call", format!("SELECT {}", around("abs(", "1", ")"))),
        ("coalesce", format!("SELECT {}", around("coalesce(", "1", ")"))),
        ("FILTER", format!("SELECT {}", around("count(*) FILTER (WHERE ", "true", ")"))),
        ("AND OR", format!("SELECT {}", around("true AND (true OR (", "true", "))"))),
        ("BETWEEN", format!("SELECT {}", around("1 BETWEEN 0 AND (", "1", ")"))),
        ("CASE WHEN", format!("SELECT {}", around("CASE WHEN true THEN ", "1", " END"))),
        ("CASE ELSE", format!("SELECT {}", around("CASE WHEN true THEN 1 ELSE ", "1", " END"))),
        ("JSON", format!("SELECT {}", around("JSON_ARRAY(", "1", ")"))),
        ("XML", format!("SELECT {}", around("xmlconcat(", "'a'", ")"))),
        ("UNION", format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(n))),
        ("UNION (", around("SELECT 1 UNION ALL (", "SELECT 1", ")")),
        ("subquery", around("SELECT (", "SELECT 1", ")")),
        ("EXISTS", around("SELECT id FROM people WHERE EXISTS (", "SELECT 1", ")")),
        ("IN", around("SELECT id FROM people WHERE id IN (", "SELECT 1", ")")),
        ("FROM (", around("SELECT * FROM (", "SELECT id FROM people", ") AS x")),
        ("LATERAL", around("SELECT x.c FROM people p, LATERAL (", "SELECT 1 AS c", ") AS x")),
        ("WITH", around("WITH a AS (", "SELECT 1", ") SELECT 1")),
        ("JOIN", format!("SELECT 1 FROM people{}", " CROSS JOIN people".repeat(n))),
        ("JOIN ON", {
            let joins: String = (0..n).map(|i| format!(" JOIN people p{i} ON p{i}.id = p.id")).collect();
            format!("SELECT p.id FROM people p{joins}")
        }),
        ("JOIN (", format!("SELECT 1 FROM {}", around("(people CROSS JOIN ", "people", ")"))),
        ("GROUPING SETS", format!("SELECT 1 GROUP BY {}", around("GROUPING SETS (", "1", ")"))),
        ("EXPLAIN", format!("{}SELECT 1", "EXPLAIN ".repeat(n))),
        ("PREPARE", format!("PREPARE p AS SELECT 'a'{}", "||'a'".repeat(n))),
        ("CREATE VIEW", format!("CREATE VIEW n AS SELECT 'a'{} AS x", "||'a'".repeat(n))),
        ("DEFAULT", format!("CREATE TABLE n (a text DEFAULT 'a'{})", "||'a'".repeat(n))),
        ("CHECK", format!("CREATE TABLE n (a int CHECK ({}true))", "NOT ".repeat(n))),
    ]
}

/// Unoptimised, on a machine that does other things as well: what takes longer is not linear.
const WIDE: Duration = Duration::from_secs(300);

fn well_below_the_stack(name: &str, outcome: &Outcome) {
    let touched = outcome.touched;
    assert!(touched < STACK / 4, "{name}: {} KiB of stack", touched / 1024);
}

#[test]
fn a_hundred_levels_of_anything_are_judged() {
    for (name, text) in nested(100) {
        // A server of version 15 has no JSON_ARRAY; the others are nested in a way that is no SQL.
        if matches!(name, "JSON" | "EXPLAIN") {
            continue;
        }
        let outcome = on_a_data_thread(text);
        assert_eq!(outcome.mapped, Ok(()), "{name}");
        well_below_the_stack(name, &outcome);
    }
}

#[test]
fn chains_as_programs_write_them_are_judged() {
    let chain = |n: usize, wanted: &str| nested(n).into_iter().find(|(name, _)| *name == wanted).unwrap().1;
    for (name, n) in [("||", 1_000), ("+", 1_000), ("cast", 1_000), ("UNION", 500), ("JOIN", 200), ("JOIN ON", 200)] {
        let outcome = on_a_data_thread(chain(n, name));
        assert_eq!(outcome.mapped, Ok(()), "{name}");
        well_below_the_stack(name, &outcome);
    }
}

#[test]
fn what_is_deeper_is_refused_and_uses_little_of_the_stack() {
    for n in [1_500, 2_500, 5_000, 12_000, 100_000] {
        for (name, text) in nested(n) {
            let outcome = on_a_data_thread(text);
            well_below_the_stack(name, &outcome);
            let known = matches!(&outcome.mapped, Ok(()))
                || outcome.mapped.as_ref().is_err_and(|refused| {
                    (refused.sqlstate, refused.rule) == ("54001", "too-deep")
                        || refused.sqlstate == "42601"
                        || refused.rule == "grammar-skew"
                });
            assert!(known, "{n} {name}: {:?}", outcome.mapped);
            assert!(n < 2_500 || outcome.mapped.is_err(), "{n} {name} is too deep");
            assert!(outcome.took < WIDE, "{n} {name}: {:?}", outcome.took);
        }
    }
}

#[test]
fn the_deepest_tree_that_the_parser_gives_is_decoded_on_the_stack() {
    // Past the look at the tokens, which is what bounds memory: this is what bounds the stack.
    for n in [3_000, 4_900, 5_000, 9_900, 20_000] {
        for (name, text) in nested(n).into_iter().filter(|(name, _)| !name.starts_with("JOIN ON")) {
            let thread = std::thread::Builder::new().stack_size(STACK);
            let touched = thread.spawn(move || {
                drop(pg_query::parse(&text, 0));
                stack_touched()
            });
            let touched = touched.expect("spawns").join().expect("no panic");
            assert!(touched < STACK / 2, "{n} {name}: {} KiB of stack", touched / 1024);
        }
    }
}

#[test]
fn what_is_only_wide_is_judged() {
    let wide = 100_000;
    for (name, text) in [
        ("IN", format!("SELECT id FROM people WHERE id IN (0{})", ",-1".repeat(wide))),
        ("VALUES", format!("INSERT INTO people (id, name) VALUES (1,'a'){}", ",(1+1,lower('a'))".repeat(wide / 2))),
        ("OR", format!("SELECT id FROM people WHERE false{}", " OR (id = 1 AND name = 'a')".repeat(10_000))),
        ("CASE", format!("SELECT CASE{} END FROM people", " WHEN id = 1 THEN 'a' || 'b'".repeat(10_000))),
        ("columns", format!("SELECT id{} FROM people", ", id + 1 AS x".repeat(1_600))),
        ("statements", "SELECT 1;".repeat(10_000)),
    ] {
        let outcome = on_a_data_thread(text);
        assert_eq!(outcome.mapped, Ok(()), "{name}");
        assert!(outcome.touched < 2 * 1024 * 1024, "{name}: {} KiB of stack", outcome.touched / 1024);
        assert!(outcome.took < WIDE, "{name}: {:?}", outcome.took);
    }
}
