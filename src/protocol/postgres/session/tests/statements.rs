//! Each rule about what goes over the wire.

use futures_util::FutureExt as _;

use super::super::messages::{put_bare, put_bind, put_execute, put_parse, put_target};
use super::super::session::{End, Step};
use super::fixture::*;
use crate::protocol::postgres::wire::{frame, parameter_status, ready_for_query};

fn words(tags: &str) -> Vec<String> {
    tags.split_whitespace().map(str::to_owned).collect()
}

fn failure(sqlstate: &str, message: &str, status: u8) -> bytes::Bytes {
    bytes(|out| {
        error(out, sqlstate, message);
        ready_for_query(out, status);
    })
}

fn refused_with(tested: &Tested) -> &str {
    match &tested.ended {
        Some(End::Refused { sqlstate, .. } | End::Failed { sqlstate, .. }) => sqlstate,
        other => panic!("not refused but {other:?}"),
    }
}

#[test]
fn the_client_is_told_to_go_on_only_when_the_facts_are_known() {
    let mut tested = Tested::raw();
    tested.client(&query("select t"));
    assert!(tested.at_client().is_empty());
    tested.answer_facts(&["public", "none", "app", "on", "UTF8"]);
    assert_eq!(tested.at_client(), ["Z"]);
    assert_eq!(tested.at_server(), ["Q"], "what came early goes on now");
}

#[test]
fn without_standard_conforming_strings_the_session_ends() {
    let mut tested = Tested::raw();
    tested.answer_facts(&["public", "none", "app", "off", "UTF8"]);
    assert_eq!(refused_with(&tested), "0A000");
    let mut tested = Tested::ready();
    tested.server(&bytes(|out| parameter_status(out, "standard_conforming_strings", "off")));
    assert_eq!(refused_with(&tested), "0A000");
}

#[test]
fn a_goodbye_waits_for_the_answers_that_are_owed() {
    let mut tested = Tested::ready();
    tested.client(&[extended("select t"), bare("X")].concat());
    assert_eq!(tested.at_server(), words("P B E H"), "what the server keeps back is asked for");
    assert_eq!(tested.ended, None);
    tested.server(&bytes(|out| {
        say(out, "12");
        complete(out, "SELECT 0");
    }));
    assert_eq!(tested.at_client(), words("1 2 C"));
    assert_eq!((tested.at_server(), &tested.ended), (words("X"), &Some(End::Goodbye)));
    assert_eq!(tested.records(), [("allowed".into(), "SELECT 0".into())]);
}

#[test]
fn a_bind_that_ends_early_ends_the_session_after_the_answers_that_are_owed() {
    let mut tested = Tested::ready();
    let bind = bytes(|out| frame(out, b'B', |out| out.extend_from_slice(b"\0\0\0\x01")));
    tested.client(&[query("select t"), bind, query("select t")].concat());
    assert_eq!((tested.at_server(), &tested.ended), (words("Q"), &None));
    tested.server(&done(b'I'));
    assert_eq!(tested.at_client(), words("C Z E08P01"));
    assert_eq!(refused_with(&tested), "08P01");
    assert!(tested.at_server().is_empty(), "nothing behind it is sent");
}

#[test]
fn a_permitted_query_goes_on_as_it_is_and_has_a_record() {
    let mut tested = Tested::ready();
    tested.client(&query("select t"));
    assert_eq!(tested.session.to_server.take(), query("select t"));
    tested.server(&bytes(|out| {
        say(out, "T");
        data_row(out, "a");
        complete(out, "SELECT 1");
        ready_for_query(out, b'I');
    }));
    assert_eq!(tested.at_client(), words("T D C Z"));
    assert_eq!(tested.records(), [("allowed".into(), "SELECT 1".into())]);
}

#[test]
fn an_answer_whose_record_cannot_be_written_is_not_sent_to_its_end() {
    let answer = bytes(|out| {
        say(out, "T");
        data_row(out, "a");
        complete(out, "SELECT 1");
        ready_for_query(out, b'I');
    });
    let mut tested = Tested::on_a_full_disk();
    tested.client(&query("select t"));
    tested.server(&answer);
    assert!(matches!(&tested.ended, Some(End::Failed { sqlstate: "58030", .. })), "{:?}", tested.ended);
    assert_eq!(tested.at_client(), words("T D E58030"), "no CommandComplete, no ReadyForQuery");
}

#[test]
fn a_denied_query_is_replaced_and_its_error_is_the_policys() {
    let mut tested = Tested::ready();
    tested.client(&query("select secret"));
    let poison = tested.poison();
    assert_eq!(tested.records(), [("forbidden".into(), "42501".into())], "recorded before it is answered");
    tested.server(&failure("42703", &format!("column \"{poison}\" does not exist"), b'I'));
    assert_eq!(tested.at_client(), words("E42501 Z"));
    tested.client(&query("select t"));
    assert_eq!(tested.at_server(), ["Q"], "the session lives on");
}

#[test]
fn of_several_statements_none_runs_if_one_is_denied() {
    let mut tested = Tested::ready();
    tested.client(&query("insert t; select secret"));
    let poison = tested.poison();
    tested.server(&failure("42703", &poison, b'I'));
    assert_eq!(tested.at_client(), words("E42501 Z"));
    assert_eq!(tested.records(), [("forbidden".into(), "42501".into())]);
}

#[test]
fn several_statements_have_a_record_each() {
    let mut tested = Tested::ready();
    tested.client(&query("insert t; select t; select u"));
    tested.server(&bytes(|out| complete(out, "INSERT 0 1")));
    tested.server(&failure("22012", "division by zero", b'I'));
    let end = tested.records();
    assert_eq!(end[0], ("allowed".into(), "INSERT 0 1".into()));
    assert_eq!(end[1], ("allowed".into(), "22012".into()));
    assert_eq!(end[2], ("allowed".into(), "an earlier statement of the text failed".into()));
}

#[test]
fn an_empty_text_passes_without_a_question() {
    let mut tested = Tested::ready();
    tested.client(&query(""));
    tested.server(&bytes(|out| {
        say(out, "I");
        ready_for_query(out, b'I');
    }));
    assert_eq!(tested.at_client(), words("I Z"));
    assert!(tested.records().is_empty());
}

#[test]
fn what_the_parser_does_not_understand_is_answered_in_its_words() {
    let mut tested = Tested::ready();
    tested.client(&query("nonsense"));
    let poison = tested.poison();
    tested.server(&failure("42703", &poison, b'I'));
    assert_eq!(tested.at_client(), words("E42601 Z"));
    assert_eq!(tested.records(), [("refused".into(), "42601".into())]);
}

#[test]
fn what_is_not_judged_is_not_shown_to_the_server_in_any_form() {
    for text in ["nonsense", "later t; later t", "later ddl"] {
        let mut tested = Tested::ready();
        tested.client(&query(text));
        let sent = tested.session.to_server.take();
        assert!(sent.first() == Some(&b'Q') && !String::from_utf8_lossy(&sent).contains(text), "{text}");
        let mut tested = Tested::ready();
        tested.client(&extended(text));
        assert!(!String::from_utf8_lossy(&tested.session.to_server.take()).contains(text), "{text}");
    }
}

#[test]
fn a_name_that_the_catalogue_does_not_have_is_looked_for_once_more() {
    let mut tested = Tested::ready();
    tested.client(&query("later t"));
    assert_eq!(tested.catalogs, (1, 1));
    let poison = tested.poison();
    tested.server(&failure("42703", &poison, b'I'));
    assert_eq!(tested.at_client(), words("E42P01 Z"));
}

#[test]
fn in_a_failed_transaction_a_denial_reads_like_the_servers_own() {
    let mut tested = Tested::ready();
    tested.client(&query("begin"));
    tested.server(&done(b'T'));
    tested.client(&query("select secret"));
    let poison = tested.poison();
    tested.server(&failure("42703", &poison, b'E'));
    assert_eq!(tested.at_client(), words("C Z E42501 Z"));
    tested.client(&query("select secret"));
    tested.poison();
    tested.server(&failure("25P02", "current transaction is aborted", b'E'));
    assert_eq!(tested.at_client(), words("E25P02 Z"));
}

#[test]
fn an_execute_that_is_denied_in_a_failed_transaction_reads_25p02() {
    let mut tested = Tested::ready();
    tested.client(&[&query("begin")[..], &query("declare t")].concat());
    tested.server(&done(b'T'));
    tested.server(&done(b'T'));
    tested.client(&query("select t"));
    tested.server(&failure("22012", "division by zero", b'E'));
    tested.at_client();
    tested.at_server();
    tested.client(&bytes(|out| {
        put_parse(out, b"s", "select secret");
        put_bare(out, b'S');
    }));
    let poison = tested.poison();
    tested.server(&bytes(|out| {
        error(out, "34000", &format!("portal \"{poison}\" does not exist"));
        ready_for_query(out, b'E');
    }));
    assert_eq!(tested.at_client(), words("E25P02 Z"));
}

#[test]
fn a_judgement_is_stored_only_when_parse_has_succeeded() {
    let mut tested = Tested::ready();
    tested.client(&bytes(|out| {
        put_parse(out, b"s", "select t");
        put_bare(out, b'S');
        put_bind(out, b"", b"s");
        put_execute(out, b"", 0);
        put_bare(out, b'S');
    }));
    assert_eq!(tested.at_server(), words("P S"), "what s means behind the Sync is not known yet");
    tested.server(&failure("42P05", "prepared statement \"s\" already exists", b'I'));
    assert_eq!(tested.at_server(), words("B E S"));
    let text = tested.session.owed.iter().map(|owed| owed.denied().is_some()).collect::<Vec<_>>();
    assert_eq!(text, [true, true, false], "nobody has judged what the server knows by that name");
}

#[test]
fn each_execute_is_decided_and_recorded() {
    let mut tested = Tested::ready();
    tested.client(&[&extended("select t")[..], &bare("S")].concat());
    assert_eq!(tested.at_server(), words("P B E S"));
    tested.server(&bytes(|out| {
        say(out, "12");
        data_row(out, "a");
        complete(out, "SELECT 1");
        ready_for_query(out, b'I');
    }));
    assert_eq!(tested.at_client(), words("1 2 D C Z"));
    assert_eq!(tested.records(), [("allowed".into(), "SELECT 1".into())]);
}

#[test]
fn a_denied_parse_is_replaced_under_its_own_name_and_the_rest_is_skipped() {
    let mut tested = Tested::ready();
    tested.client(&[&extended("select secret")[..], &bare("S")].concat());
    let poison = tested.poison();
    tested.server(&bytes(|out| {
        error(out, "42703", &format!("column \"{poison}\" does not exist"));
        ready_for_query(out, b'I');
    }));
    assert_eq!(tested.at_client(), words("E42501 Z"));
    assert_eq!(tested.records(), [("forbidden".into(), "42501".into())]);
}

#[test]
fn several_statements_cannot_be_prepared() {
    let mut tested = Tested::ready();
    tested.client(&[&extended("select t; select u")[..], &bare("S")].concat());
    let poison = tested.poison();
    tested.server(&failure("42703", &poison, b'I'));
    assert_eq!(tested.at_client(), words("E42601 Z"));
}

#[test]
fn what_a_pipeline_skips_owes_no_reply_and_is_recorded_as_not_run() {
    let mut tested = Tested::ready();
    tested.client(&[&extended("select t")[..], &extended("select u"), &bare("S"), &query("select t")].concat());
    assert_eq!(tested.at_server(), words("P B E P B E S Q"));
    tested.server(&bytes(|out| say(out, "12")));
    tested.server(&failure("22012", "division by zero", b'I'));
    tested.server(&done(b'I'));
    assert_eq!(tested.at_client(), words("1 2 E22012 Z C Z"));
    assert_eq!(tested.records()[1].1, "an earlier message of the pipeline failed");
}

#[test]
fn after_an_error_nothing_goes_on_until_sync() {
    let mut tested = Tested::ready();
    tested.client(&[&extended("select t")[..], &bare("H")].concat());
    tested.server(&bytes(|out| error(out, "22012", "division by zero")));
    tested.at_server();
    tested.client(&[&extended("select t")[..], &query("select t"), &bare("S")].concat());
    assert_eq!(tested.at_server(), ["S"]);
}

#[test]
fn behind_a_setting_nothing_is_judged_until_the_facts_are_asked_again() {
    let mut tested = Tested::ready();
    tested.client(&[&query("set x")[..], &query("select t")].concat());
    assert_eq!(tested.at_server(), ["Q"]);
    tested.server(&done(b'I'));
    assert_eq!(tested.at_client(), words("C Z"));
    tested.answer_facts(&["later", "none", "app", "on", "UTF8"]);
    assert!(tested.at_client().is_empty(), "the proxy's own answers are its own");
    assert_eq!(tested.at_server(), ["Q"]);
    assert_eq!(tested.session.facts.as_ref().unwrap().search_path, ["later".into()]);
}

#[test]
fn what_was_prepared_in_other_words_than_it_would_be_now_is_not_bound() {
    let mut tested = Tested::ready();
    tested.client(&bytes(|out| {
        put_parse(out, b"p", "renames t");
        put_bare(out, b'S');
    }));
    tested.server(&bytes(|out| {
        say(out, "1");
        ready_for_query(out, b'I');
    }));
    let runs = bytes(|out| {
        put_bind(out, b"", b"p");
        put_execute(out, b"", 0);
        put_bare(out, b'S');
    });
    tested.at_server();
    tested.client(&runs);
    assert!(tested.session.owed.iter().all(|owed| owed.denied().is_none()), "as long as it means the same");
    tested.server(&bytes(|out| {
        say(out, "2");
        complete(out, "SELECT 0");
        ready_for_query(out, b'I');
    }));
    tested.client(&query("set x"));
    tested.at_server();
    tested.server(&done(b'I'));
    tested.client(&runs);
    tested.answer_facts(&["later", "none", "app", "on", "UTF8"]);
    assert!(tested.session.owed.iter().any(|owed| owed.denied().is_some()));
    assert_eq!(tested.records().last(), Some(&("refused".into(), "0A000".into())));
}

#[test]
fn without_a_right_to_be_here_what_is_under_way_is_finished_and_nothing_is_begun() {
    let mut tested = Tested::ready();
    tested.client(&[&extended("select t")[..], &query("select t")].concat());
    tested.at_server();
    tested.session.begins_nothing = true;
    tested.client(&query("select t"));
    assert!(tested.at_server().is_empty() && !tested.session.has_answered());
    tested.server(&bytes(|out| {
        say(out, "12");
        complete(out, "SELECT 0");
    }));
    tested.server(&done(b'I'));
    assert!(tested.session.has_answered(), "what was asked since is not waited for");

    // What the server keeps back is asked for, and the end of a pipeline belongs to it.
    let mut tested = Tested::ready();
    tested.client(&extended("select t"));
    tested.at_server();
    tested.session.begins_nothing = true;
    tested.client(&bare("S"));
    assert_eq!(tested.at_server(), words("S"));
    let mut tested = Tested::ready();
    tested.client(&extended("select t"));
    tested.at_server();
    tested.session.begins_nothing = true;
    tested.client(&[&extended("select t")[..], &bare("S")].concat());
    assert_eq!(tested.at_server(), words("H"));
}

#[test]
fn within_a_pipeline_the_proxy_flushes_and_never_syncs() {
    let mut tested = Tested::ready();
    tested.client(&[&extended("set x")[..], &extended("select t"), &bare("S")].concat());
    assert_eq!(tested.at_server(), words("P B E H"));
    tested.server(&bytes(|out| {
        say(out, "12");
        complete(out, "SET");
    }));
    let asked = tested.session.to_server.take();
    assert_eq!(asked.last_chunk::<5>(), Some(b"H\0\0\0\x04"), "a Sync would commit half of the pipeline");
    tested.server(&bytes(|out| ["later", "none", "app", "on", "UTF8"].iter().for_each(|value| own_answer(out, value))));
    assert_eq!(tested.at_server(), words("P B E S"));
    assert_eq!(tested.at_client(), words("1 2 C"));
}

#[test]
fn in_a_failed_transaction_nothing_is_asked_and_its_end_passes() {
    let mut tested = Tested::ready();
    tested.client(&query("begin"));
    tested.server(&done(b'T'));
    tested.client(&query("set x"));
    tested.server(&done(b'T'));
    tested.client(&query("select t"));
    tested.answer_facts(&["later", "none", "app", "on", "UTF8"]);
    tested.server(&failure("22012", "division by zero", b'E'));
    tested.at_client();
    tested.at_server();
    tested.client(&query("select t"));
    tested.poison();
    tested.server(&failure("25P02", "current transaction is aborted", b'E'));
    assert_eq!(tested.at_client(), words("E25P02 Z"));
    tested.client(&[&query("rollback")[..], &query("select t")].concat());
    assert_eq!(tested.session.to_server.take(), query("rollback"));
    tested.server(&done(b'I'));
    assert!(tested.at_server().len() > 5, "what was rolled back is asked");
}

#[test]
fn names_that_change_have_the_catalogue_read_anew() {
    let mut tested = Tested::ready();
    tested.client(&query("create t"));
    tested.server(&done(b'I'));
    let before = tested.catalogs;
    tested.client(&query("select t"));
    tested.answer_facts(&["public", "none", "app", "on", "UTF8"]);
    assert_eq!(tested.catalogs, (before.0, before.1 + 1));
    assert_eq!(tested.at_server(), ["Q"]);
}

#[test]
fn sql_and_protocol_share_the_names_of_prepared_statements() {
    let mut tested = Tested::ready();
    tested.client(&query("prepare p as select t"));
    tested.server(&done(b'I'));
    tested.at_server();
    tested.client(&bytes(|out| {
        put_bind(out, b"", b"p");
        put_execute(out, b"", 0);
        put_bare(out, b'S');
    }));
    assert_eq!(tested.at_server(), words("B E S"));
    assert!(tested.session.owed.iter().all(|owed| owed.denied().is_none()));
    tested.server(&bytes(|out| {
        say(out, "2");
        complete(out, "SELECT 0");
        ready_for_query(out, b'I');
    }));
    tested.client(&query("discard all"));
    tested.server(&done(b'I'));
    tested.client(&query("execute p"));
    tested.poison();
}

#[test]
fn in_copy_the_server_discards_sync_and_so_do_we() {
    let mut tested = Tested::ready();
    let data = bytes(|out| frame(out, b'd', |out| out.extend_from_slice(b"1\n")));
    tested.client(&[&extended("copyin t")[..], &bare("S"), &data, &bare("cS")].concat());
    assert_eq!(tested.at_server(), words("P B E H"), "nothing passes until COPY has begun");
    tested.server(&bytes(|out| say(out, "12G")));
    assert_eq!(tested.at_server(), words("d c S"));
    tested.server(&bytes(|out| {
        complete(out, "COPY 1");
        ready_for_query(out, b'I');
    }));
    assert_eq!(tested.at_client(), words("1 2 G C Z"), "two Syncs, one ReadyForQuery");
    assert_eq!(tested.records(), [("allowed".into(), "COPY 1".into())]);
}

#[test]
fn a_query_during_copy_ends_the_session() {
    let mut tested = Tested::ready();
    tested.client(&query("copyin t"));
    tested.server(&bytes(|out| say(out, "G")));
    tested.at_server();
    tested.client(&query("select secret"));
    assert_eq!(refused_with(&tested), "08P01");
    assert!(tested.at_server().is_empty());
}

#[test]
fn data_that_comes_after_copy_has_failed_is_dropped() {
    let mut tested = Tested::ready();
    tested.client(&query("copyin t"));
    tested.server(&bytes(|out| say(out, "G")));
    tested.server(&failure("22P04", "extra data", b'I'));
    tested.at_server();
    let data = bytes(|out| frame(out, b'd', |out| out.extend_from_slice(b"1\n")));
    tested.client(&[&data[..], &bare("c"), &query("select t")].concat());
    assert_eq!(tested.at_server(), ["Q"]);
}

#[test]
fn copy_out_passes_as_it_comes() {
    let mut tested = Tested::ready();
    tested.client(&query("copyout t"));
    tested.server(&bytes(|out| {
        say(out, "Hddc");
        complete(out, "COPY 2");
        ready_for_query(out, b'I');
    }));
    assert_eq!(tested.at_client(), words("H d d c C Z"));
}

#[test]
fn one_row_too_many_fails_a_simple_query() {
    let mut tested = Tested::ready();
    tested.client(&query("select many"));
    assert_eq!(tested.at_server(), words("P B D E H"));
    tested.server(&bytes(|out| {
        say(out, "12T");
        (0..3).for_each(|_| data_row(out, "a"));
        say(out, "s");
    }));
    assert_eq!(tested.at_client(), words("T D D"), "the third row is kept back");
    let poison = tested.poison();
    tested.server(&failure("34000", &format!("portal \"{poison}\" does not exist"), b'I'));
    assert_eq!(tested.at_client(), words("E42501 Z"));
}

#[test]
fn a_bounded_copy_counts_rows_and_neither_header_nor_end() {
    let binary = |rows: usize| {
        let row = |data: &[u8]| [data, b"\0\x01\0\0\0\x01a"].concat();
        let mut all: Vec<_> =
            (0..rows).map(|at| row(if at == 0 { b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0" } else { b"" })).collect();
        match rows {
            0 => all.push(b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0\xff\xff".to_vec()),
            _ => all.push(b"\xff\xff".to_vec()),
        }
        all
    };
    let lines = |rows: usize| vec![b"a\n".to_vec(); rows];
    for (text, format, data, passes) in [
        ("copyout many", 0, lines(2), 2),
        ("copyout many", 0, lines(3), 2),
        ("copycsv many", 0, lines(3), 3),
        ("copycsv many", 0, lines(4), 3),
        ("copyout many", 1, binary(0), 1),
        ("copyout many", 1, binary(2), 3),
        ("copyout many", 1, binary(3), 2),
    ] {
        let mut tested = Tested::ready();
        tested.client(&query(text));
        assert_eq!(tested.at_server(), words("P B D E H"));
        tested.server(&bytes(|out| {
            say(out, "12n");
            frame(out, b'H', |out| out.extend_from_slice(&[format, 0, 0]));
            data.iter().for_each(|data| frame(out, b'd', |out| out.extend_from_slice(data)));
        }));
        let copied = tested.at_client();
        assert_eq!(copied.len(), passes + 1, "{text} in format {format} of {}: {copied:?}", data.len());
        assert_eq!(tested.session.cut_short, passes < data.len());
    }
}

#[test]
fn a_copy_that_was_cut_short_reads_as_denied_whether_or_not_the_cancel_came_in_time() {
    for in_time in [true, false] {
        let mut tested = Tested::ready();
        tested.client(&query("copyout many"));
        tested.at_server();
        tested.server(&bytes(|out| say(out, "12nHddd")));
        assert_eq!(tested.at_client(), words("H d d"));
        if in_time {
            tested.server(&bytes(|out| error(out, "57014", "canceling statement due to user request")));
            assert_eq!(tested.at_server(), ["S"]);
            tested.server(&bytes(|out| ready_for_query(out, b'I')));
        } else {
            tested.server(&bytes(|out| {
                say(out, "dc");
                complete(out, "COPY 4");
            }));
            assert!(!tested.session.cut_short, "there is nothing to cancel any more");
            let poison = tested.poison();
            tested.server(&failure("34000", &format!("portal \"{poison}\" does not exist"), b'I'));
        }
        assert_eq!(tested.at_client(), words("E42501 Z"), "in time: {in_time}");
        assert_eq!(tested.records(), [("allowed".into(), "42501".into())]);
    }
}

#[test]
fn as_many_rows_as_allowed_end_a_simple_query_as_ever() {
    let mut tested = Tested::ready();
    tested.client(&query("select many"));
    tested.at_server();
    tested.server(&bytes(|out| {
        say(out, "12T");
        (0..2).for_each(|_| data_row(out, "a"));
        complete(out, "SELECT 2");
    }));
    assert_eq!(tested.at_server(), ["S"]);
    tested.server(&bytes(|out| ready_for_query(out, b'I')));
    assert_eq!(tested.at_client(), words("T D D C Z"));
}

#[test]
fn a_bounded_execute_holds_the_sync_back_until_its_rows_are_counted() {
    let mut tested = Tested::ready();
    tested.client(&[&extended("select many")[..], &bare("S")].concat());
    assert_eq!(tested.at_server(), words("P B E H"));
    tested.server(&bytes(|out| {
        say(out, "12");
        (0..3).for_each(|_| data_row(out, "a"));
        say(out, "s");
    }));
    let poison = tested.poison();
    tested.server(&bytes(|out| error(out, "34000", &format!("portal \"{poison}\" does not exist"))));
    assert_eq!(tested.at_server(), ["S"]);
    tested.server(&bytes(|out| ready_for_query(out, b'I')));
    assert_eq!(tested.at_client(), words("1 2 D D E42501 Z"));
}

#[test]
fn what_writes_cannot_be_bounded() {
    let mut tested = Tested::ready();
    tested.client(&query("writes many"));
    let poison = tested.poison();
    tested.server(&failure("42703", &poison, b'I'));
    assert_eq!(tested.at_client(), words("E0A000 Z"));
}

#[test]
fn bytes_behind_the_text_end_the_session() {
    let mut tested = Tested::ready();
    tested.client(&bytes(|out| frame(out, b'Q', |out| out.extend_from_slice(b"select t\0select secret\0"))));
    assert_eq!(refused_with(&tested), "08P01");
    assert!(tested.at_server().is_empty());
}

#[test]
fn a_statement_that_is_too_long_is_refused_and_the_session_lives_on() {
    let mut tested = Tested::ready();
    tested.client(&query(&format!("select {}", "t".repeat(2_000))));
    let poison = tested.poison();
    tested.server(&failure("42703", &poison, b'I'));
    assert_eq!(tested.at_client(), words("E54000 Z"));
}

#[test]
fn a_statement_that_its_server_does_not_end_has_a_record() {
    let mut tested = Tested::ready();
    tested.client(&query("select t"));
    let end = End::Failed { sqlstate: "08006", message: "the connection to the server was lost".into() };
    tested.session.end(end);
    tested.session.write_records().unwrap();
    assert_eq!(tested.at_client(), ["E08006"]);
    assert_eq!(tested.records(), [("allowed".into(), "the session ended".into())]);
}

#[test]
fn nothing_is_said_in_the_middle_of_a_row() {
    let mut tested = Tested::ready();
    tested.client(&query("select t"));
    let begun = b"D\0\0\x01\0\0\x01\0\0\0\xf8abc";
    tested.server(begun);
    let end = End::Failed { sqlstate: "57P01", message: "terminating connection".into() };
    tested.session.end(end);
    assert_eq!(tested.session.to_client.take(), begun, "words would be taken for a part of the row");
}

#[test]
fn replication_that_nobody_permitted_ends_the_session() {
    let mut tested = Tested::ready();
    tested.client(&query("select t"));
    tested.server(&bytes(|out| say(out, "W")));
    assert_eq!(refused_with(&tested), "08P01");
}

#[test]
fn what_was_sent_behind_a_transaction_outlives_its_end() {
    let mut tested = Tested::ready();
    tested.client(&[&query("select t")[..], &query("begin; set x")].concat());
    assert_eq!(tested.at_server(), words("Q Q"));
    tested.server(&done(b'I'));
    tested.server(&bytes(|out| {
        complete(out, "BEGIN");
        complete(out, "SET");
        ready_for_query(out, b'T');
    }));
    tested.client(&query("rollback"));
    tested.answer_facts(&["later", "none", "app", "on", "UTF8"]);
    tested.at_server();
    tested.server(&done(b'I'));
    tested.client(&query("select t"));
    assert!(tested.at_server().len() > 5, "what was rolled back is asked again");
}

#[test]
fn a_question_that_the_server_ignores_is_asked_again() {
    let mut tested = Tested::ready();
    tested.client(
        &[&extended("set x")[..], &bytes(|out| put_target(out, b'D', b'S', b"none")), &extended("select t")].concat(),
    );
    tested.server(&bytes(|out| {
        say(out, "12");
        complete(out, "SET");
    }));
    assert!(tested.session.own.is_some());
    tested.server(&bytes(|out| error(out, "26000", "no such statement")));
    tested.at_server();
    tested.client(&bare("S"));
    assert_eq!(tested.at_server(), ["S"], "the session does not wait for what nobody will answer");
    tested.server(&bytes(|out| ready_for_query(out, b'I')));
    tested.client(&query("select t"));
    assert!(tested.at_server().len() > 5);
}

#[test]
fn questions_wait_for_the_answer_to_a_sync() {
    let mut tested = Tested::ready();
    tested.client(&[&extended("set x")[..], &bare("S"), &query("select t")].concat());
    assert_eq!(tested.at_server(), words("P B E S"));
    tested.server(&bytes(|out| {
        say(out, "12");
        complete(out, "SET");
    }));
    assert!(tested.at_server().is_empty(), "asked now they would begin a transaction");
    tested.server(&bytes(|out| ready_for_query(out, b'I')));
    assert_eq!(tested.at_server().last().map(String::as_str), Some("S"));
}

#[test]
fn a_goodbye_waits_for_the_answers_to_what_came_before_it() {
    let mut tested = Tested::ready();
    tested.client(&[&query("select t")[..], &bare("X")].concat());
    assert_eq!((tested.at_server(), &tested.ended), (words("Q"), &None));
    tested.server(&done(b'I'));
    assert_eq!((tested.at_client(), &tested.ended), (words("C Z"), &Some(End::Goodbye)));
}

#[test]
fn a_client_that_closes_behind_its_last_message_gets_its_answers_first() {
    let mut tested = Tested::ready();
    tested.client(&[query("select t"), extended("select t")].concat());
    tested.session.client_done = true;
    tested.advance();
    assert_eq!(tested.ended, None);
    assert_eq!(tested.at_server(), ["Q", "P", "B", "E", "H"], "what is kept back is asked for");
    tested.server(&done(b'I'));
    assert_eq!((tested.at_client(), &tested.ended), (words("C Z"), &None));
    tested.server(&bytes(|out| {
        say(out, "12");
        complete(out, "SELECT 0");
    }));
    assert_eq!((tested.at_client(), &tested.ended), (words("1 2 C"), &Some(End::Goodbye)));
    assert_eq!(tested.at_server(), ["X"]);
}

#[test]
fn a_client_that_closes_with_nothing_under_way_or_in_the_middle_of_a_copy_is_gone() {
    let mut idle = Tested::ready();
    idle.session.client_done = true;
    idle.advance();
    assert_eq!(idle.ended, Some(End::Goodbye));
    let mut copying = Tested::ready();
    copying.client(&query("copyin t"));
    copying.server(&bytes(|out| say(out, "G")));
    copying.session.client_done = true;
    copying.advance();
    assert_eq!(copying.ended, Some(End::Goodbye));
    assert_eq!(copying.at_server(), ["Q", "X"]);
}

#[test]
fn without_a_catalogue_only_the_end_of_a_transaction_passes() {
    let mut tested = Tested::ready();
    tested.client(&query("begin"));
    tested.server(&done(b'T'));
    tested.at_server();
    for (text, passes) in [("select t", false), ("commit", true)] {
        tested.session.catalog_until = None;
        let mut bytes = &query(text)[..];
        while !bytes.is_empty() {
            tested.session.from_client.fill(&mut bytes).now_or_never().unwrap().unwrap();
        }
        let step = tested.session.advance(std::time::Instant::now());
        assert!(matches!(step, Step::Catalog { .. }), "{step:?}");
        tested.session.catalog_failed("it is down").unwrap();
        let sent = tested.session.to_server.take();
        assert_eq!(sent == query(text), passes, "{text}");
        tested.session.owed.clear();
    }
    assert_eq!(tested.records()[1], ("refused".into(), "0A000".into()));
}

#[test]
fn each_pipelined_query_is_a_transaction_of_its_own_unless_a_block_is_open() {
    let mut tested = Tested::ready();
    let numbers = |tested: &mut Tested, texts: &[&str]| {
        texts
            .iter()
            .map(|text| {
                tested.client(&query(text));
                tested.session.transaction
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(
        numbers(&mut tested, &["select t", "select t", "begin", "select t", "select t", "commit", "select t"]),
        [1, 2, 3, 3, 3, 3, 4]
    );
}
