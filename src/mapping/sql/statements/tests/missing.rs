//! Names that do not exist.

use super::*;

#[test]
fn a_name_that_does_not_exist_is_told_in_postgresqls_words_and_with_its_place() {
    let cases = [
        ("SELECT nope FROM people", "42703", "column \"nope\" does not exist", Some(8)),
        ("SELECT 'é', nope FROM people", "42703", "column \"nope\" does not exist", Some(13)),
        ("SELECT 1 FROM nope", "42P01", "relation \"nope\" does not exist", Some(15)),
        ("SELECT nope(1)", "42883", "function nope does not exist", Some(8)),
        ("SELECT 1::nope", "42704", "type \"nope\" does not exist", Some(11)),
        ("SELECT 1 <=> 2", "42883", "operator does not exist: <=>", Some(10)),
        ("CREATE TABLE t (a nope)", "42704", "type \"nope\" does not exist", Some(19)),
        ("CREATE TABLE t (LIKE nope)", "42P01", "relation \"nope\" does not exist", Some(22)),
        ("SELECT 1; SELECT nope", "42703", "column \"nope\" does not exist", Some(18)),
        ("TRUNCATE nope", "42P01", "relation \"nope\" does not exist", None),
        ("DROP TABLE nope", "42P01", "table \"nope\" does not exist", None),
        ("DROP VIEW public.nope", "42P01", "view \"nope\" does not exist", None),
        ("DROP FUNCTION nope", "42883", "could not find a function named \"nope\"", None),
        ("DROP FUNCTION nope(int, text[])", "42883", "function nope(integer, text[]) does not exist", None),
        ("DROP FUNCTION nope(nada)", "42704", "type \"nada\" does not exist", None),
        ("DROP PROCEDURE nope()", "42883", "procedure nope() does not exist", None),
        ("ALTER FUNCTION nope() VOLATILE", "42883", "function nope() does not exist", None),
        ("COMMENT ON AGGREGATE nope(*) IS ''", "42883", "aggregate nope(*) does not exist", None),
        ("DROP INDEX nope", "42704", "index \"nope\" does not exist", None),
        ("DROP SEQUENCE nope.nope", "3F000", "schema \"nope\" does not exist", None),
    ];
    for (text, sqlstate, message, position) in cases {
        let refusal = mapped(text).expect_err(text);
        assert_eq!((refusal.sqlstate, &*refusal.message, refusal.position), (sqlstate, message, position), "{text}");
        assert!(refusal.stale, "{text}");
    }
}
