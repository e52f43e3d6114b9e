//! How much a session keeps for its client.

use super::super::messages::{put_parse, put_target};
use super::super::room::MOST_NAMES;
use super::fixture::*;
use crate::protocol::postgres::wire::ready_for_query;

#[test]
fn names_of_prepared_statements_are_bounded_and_given_back() {
    let mut tested = Tested::ready();
    let prepare = |name: &str| bytes(|out| put_parse(out, name.as_bytes(), "select t"));
    for number in 0..MOST_NAMES {
        tested.client(&prepare(&number.to_string()));
        tested.server(&bytes(|out| say(out, "1")));
    }
    tested.at_client();
    tested.session.to_server.take();
    tested.client(&[&prepare("more")[..], &bare("S")].concat());
    let poison = tested.poison();
    tested.server(&bytes(|out| {
        error(out, "42703", &poison);
        ready_for_query(out, b'I');
    }));
    let told = String::from_utf8_lossy(&tested.session.to_client.take()).into_owned();
    assert!(told.contains("C53400") && told.contains("DEALLOCATE ALL"), "{told:?}");
    assert_eq!(tested.records(), [("refused".into(), "53400".into())]);
    // The unnamed one is always replaced, and a name that is closed is room for another.
    tested.client(&[&extended("select t")[..], &bare("S")].concat());
    assert_eq!(tested.at_server(), ["P", "B", "E", "S"]);
    tested.server(&bytes(|out| {
        say(out, "12");
        complete(out, "SELECT 0");
        ready_for_query(out, b'I');
    }));
    tested.client(&[&bytes(|out| put_target(out, b'C', b'S', b"7"))[..], &bare("S")].concat());
    tested.server(&bytes(|out| {
        say(out, "3");
        ready_for_query(out, b'I');
    }));
    tested.at_client();
    tested.at_server();
    tested.client(&[&prepare("more")[..], &bare("S")].concat());
    assert_eq!(tested.at_server(), ["P", "S"]);
}

#[test]
fn what_is_sent_and_not_confirmed_is_bounded_by_its_bytes() {
    let mut tested = Tested::ready();
    let long = format!("select {}", "t".repeat(900));
    let parse = bytes(|out| put_parse(out, b"", &long));
    let mut sent = 0;
    for _ in 0..4_000 {
        tested.client(&parse);
        let tags = tested.at_server();
        sent += tags.iter().filter(|tag| *tag == "P").count();
        if tags.last().is_some_and(|tag| tag == "H") {
            break;
        }
    }
    assert!((2_000..4_000).contains(&sent), "{sent} were sent before the server was asked to answer");
    tested.server(&bytes(|out| (0..sent).for_each(|_| say(out, "1"))));
    assert_eq!(tested.at_server(), ["P"], "the one that waited goes on");
}
