//! Whatever a client sends, and however the bytes are cut: it reads what it would have read from the server itself.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::super::messages::{put_bind, put_execute, put_parse, put_target};
use super::fixture::{Tested, bare, bytes, query, tags};
use super::model::Model;
use crate::protocol::postgres::wire::Side;

const TEXTS: [&str; 10] = [
    "select t",
    "select secret",
    "insert t; select secret",
    "insert t; select t",
    "select fails",
    "begin",
    "commit",
    "rollback",
    "set x",
    "",
];
const NAMES: [&[u8]; 2] = [b"", b"s"];

fn message() -> impl Strategy<Value = Bytes> {
    let text = || prop::sample::select(&TEXTS[..]);
    let one = || {
        prop::sample::select(vec![
            "select t",
            "select secret",
            "select fails",
            "begin",
            "rollback",
            "set x",
            "create t",
        ])
    };
    let named = || prop::sample::select(&NAMES[..]);
    prop_oneof![
        2 => text().prop_map(query),
        3 => (named(), one()).prop_map(|(name, text)| bytes(|out| put_parse(out, name, text))),
        3 => (named(), named()).prop_map(|(portal, name)| bytes(|out| put_bind(out, portal, name))),
        3 => named().prop_map(|portal| bytes(|out| put_execute(out, portal, 0))),
        1 => named().prop_map(|name| bytes(|out| put_target(out, b'D', b'S', name))),
        1 => named().prop_map(|name| bytes(|out| put_target(out, b'C', b'S', name))),
        3 => Just(bare("S")),
        1 => Just(bare("H")),
    ]
}

/// Types of messages; which error it is, is another test's business.
fn kinds(bytes: &[u8]) -> Vec<u8> {
    tags(Side::Server, bytes).iter().map(|tag| tag.as_bytes()[0]).collect()
}

fn directly(messages: &[Bytes]) -> Vec<u8> {
    let mut server = Model::new();
    kinds(&messages.iter().flat_map(|message| server.answer(message)).collect::<Vec<u8>>())
}

fn through(messages: &[Bytes], cuts: &[usize]) -> Vec<u8> {
    let (mut tested, mut server) = (Tested::raw(), Model::new());
    let mut sent: &[u8] = &messages.concat();
    let mut pending = BytesMut::new();
    let mut read = Vec::new();
    let mut cuts = cuts.iter().cycle();
    let mut still = 0;
    while still < 4 {
        let cut = *cuts.next().unwrap();
        let (piece, rest) = sent.split_at(cut.min(sent.len()));
        sent = rest;
        tested.client(piece);
        pending.extend_from_slice(&server.answer(&tested.session.to_server.take()));
        let answered = pending.split_to((cut * 3).min(pending.len()));
        tested.server(&answered);
        assert_eq!(tested.ended, None);
        read.extend(tested.session.to_client.take());
        let moved = !piece.is_empty() || !answered.is_empty() || tested.session.to_server.len() > 0;
        still = if moved { 0 } else { still + 1 };
    }
    assert!(tested.session.held.is_none(), "a message was left lying");
    let mut read = kinds(&read);
    assert_eq!(read.remove(0), b'Z', "the first ReadyForQuery");
    read
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]
    #[test]
    fn a_client_reads_what_it_would_have_read_from_the_server(
        mut messages in prop::collection::vec(message(), 1..24),
        cuts in prop::collection::vec(1_usize..80, 1..8),
    ) {
        messages.push(bare("S"));
        prop_assert_eq!(through(&messages, &cuts), directly(&messages));
    }
}
