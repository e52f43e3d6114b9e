//! What errors tell of rows.

use super::fixture::*;
use crate::protocol::postgres::wire::{frame, ready_for_query};
use bytes::Bytes;

/// An error about a row of a table, and what follows it.
fn broken(sqlstate: &str, table: &str) -> Bytes {
    bytes(|out| {
        let fields = format!("SERROR\0VERROR\0C{sqlstate}\0Mbroken\0Drow (1, 123-45)\0spublic\0t{table}\0\0");
        frame(out, b'E', |out| out.extend_from_slice(fields.as_bytes()));
        ready_for_query(out, b'I');
    })
}

fn tells(tested: &mut Tested) -> bool {
    tested.session.to_client.take().windows(6).any(|bytes| bytes == b"123-45")
}

#[test]
fn what_a_broken_constraint_says_of_a_row_is_for_those_who_may_read_it() {
    for (table, told) in [("t", true), ("secret", false), ("many", false), ("unheard_of", false)] {
        for sqlstate in ["23502", "44000", "21000"] {
            let mut tested = Tested::ready();
            tested.client(&query("insert t"));
            tested.server(&broken(sqlstate, table));
            assert_eq!(tells(&mut tested), told, "{sqlstate} of {table}");
            assert_eq!(tested.records(), [("allowed".into(), sqlstate.into())], "the question has no record");
        }
    }
    let mut tested = Tested::ready();
    tested.client(&query("insert t"));
    tested.server(&broken("22012", "secret"));
    assert!(tells(&mut tested), "other errors tell no rows");
}

#[test]
fn a_row_is_not_told_by_a_name_that_the_same_text_may_have_changed() {
    for (text, told) in [
        ("select t; insert t", true),
        ("set x; insert t", false),
        ("create t; insert t", false),
        ("call f; insert t", false),
    ] {
        let mut tested = Tested::ready();
        tested.client(&query(text));
        tested.server(&bytes(|out| complete(out, "ANY")));
        tested.server(&broken("23505", "t"));
        assert_eq!(tells(&mut tested), told, "{text}");
    }
}
