use proptest::prelude::*;

use super::*;

/// `KIND slot=… publications=… plugin=…`, `-` for SQL, the rule of a refusal.
fn told(text: &str) -> String {
    match parse(text) {
        Ok(None) => "-".to_owned(),
        Err(refusal) => refusal.sqlstate.to_owned(),
        Ok(Some(command)) => {
            let mut told = command.kind.to_owned();
            if let Some(slot) = &command.slot {
                told.push_str(&format!(" slot={slot}"));
            }
            if !command.publications.is_empty() {
                told.push_str(&format!(" publications={}", command.publications.join("|")));
            }
            if let Some(plugin) = &command.plugin {
                told.push_str(&format!(" plugin={plugin}"));
            }
            told
        }
    }
}

#[test]
fn commands_are_understood_as_the_server_understands_them() {
    for (text, expected) in [
        ("IDENTIFY_SYSTEM", "identify_system"),
        (" \n\tIDENTIFY_SYSTEM ;", "identify_system"),
        ("CREATE_REPLICATION_SLOT s LOGICAL pgoutput", "create_replication_slot slot=s plugin=pgoutput"),
        (
            "CREATE_REPLICATION_SLOT \"s\" TEMPORARY LOGICAL \"test_decoding\" (SNAPSHOT 'nothing')",
            "create_replication_slot slot=s plugin=test_decoding",
        ),
        (
            "CREATE_REPLICATION_SLOT S LOGICAL pgoutput NOEXPORT_SNAPSHOT TWO_PHASE",
            "create_replication_slot slot=s plugin=pgoutput",
        ),
        ("CREATE_REPLICATION_SLOT s PHYSICAL RESERVE_WAL", "create_replication_slot slot=s"),
        ("CREATE_REPLICATION_SLOT s PHYSICAL (RESERVE_WAL)", "create_replication_slot slot=s"),
        ("DROP_REPLICATION_SLOT s WAIT", "drop_replication_slot slot=s"),
        ("ALTER_REPLICATION_SLOT s ( FAILOVER true )", "alter_replication_slot slot=s"),
        ("READ_REPLICATION_SLOT \"Odd \"\" name\"", "read_replication_slot slot=Odd \" name"),
        ("START_REPLICATION 0/1", "start_replication"),
        ("START_REPLICATION SLOT s PHYSICAL 16/B374D848 TIMELINE 2", "start_replication slot=s"),
        ("START_REPLICATION SLOT \"s\" LOGICAL 0/0", "start_replication slot=s"),
        (
            "START_REPLICATION SLOT s LOGICAL 0/0 (proto_version '1', publication_names 'b,\"A\", b')",
            "start_replication slot=s publications=A|b",
        ),
        (
            "START_REPLICATION SLOT s LOGICAL 0/0 (\"proto_version\" '1', Publication_Names '\"it''s\"')",
            "start_replication slot=s publications=it's",
        ),
        (
            "START_REPLICATION SLOT s LOGICAL 0/0 (publication_names 'a', publication_names 'b')",
            "start_replication slot=s publications=a|b",
        ),
        (
            "START_REPLICATION SLOT s LOGICAL 0/0 (\"include-xids\" '0', \"skip-empty-xacts\")",
            "start_replication slot=s",
        ),
        ("TIMELINE_HISTORY 3", "timeline_history"),
        ("BASE_BACKUP", "base_backup"),
        ("BASE_BACKUP LABEL 'x' PROGRESS FAST MAX_RATE 32", "base_backup"),
        ("BASE_BACKUP ( LABEL 'x', PROGRESS, CHECKPOINT 'fast', WAIT 0, MANIFEST 'yes')", "base_backup"),
    ] {
        assert_eq!(told(text), expected, "{text}");
    }
}

#[test]
fn what_only_begins_like_a_command_is_refused() {
    for text in [
        "IDENTIFY_SYSTEM; SELECT 1",
        "IDENTIFY_SYSTEM SELECT 1",
        "IDENTIFY_SYSTEM -- x",
        "IDENTIFY_SYSTEM /* x */",
        "CREATE_REPLICATION_SLOT s",
        "CREATE_REPLICATION_SLOT LOGICAL LOGICAL pgoutput",
        "CREATE_REPLICATION_SLOT 's' LOGICAL pgoutput",
        "CREATE_REPLICATION_SLOT \"\" PHYSICAL",
        "CREATE_REPLICATION_SLOT é PHYSICAL",
        "START_REPLICATION LOGICAL 0/0",
        "START_REPLICATION SLOT s LOGICAL 0/0 (publication_names 'a b')",
        "START_REPLICATION SLOT s LOGICAL 0/0 (publication_names a)",
        "START_REPLICATION SLOT s LOGICAL 0/0 (publication_names 'a'",
        "START_REPLICATION SLOT s LOGICAL 0/0 ()",
        "START_REPLICATION SLOT s LOGICAL 0/000000001",
        "START_REPLICATION SLOT s LOGICAL 0/G",
        "START_REPLICATION SLOT s PHYSICAL 0/0 (publication_names 'a')",
        "TIMELINE_HISTORY x",
        "BASE_BACKUP LABEL 'x",
        "UPLOAD_MANIFEST",
    ] {
        assert_eq!(told(text), "42601", "{text}");
    }
    assert_eq!(told(&format!("IDENTIFY_SYSTEM {}", " ".repeat(LONGEST))), "0A000");
}

#[test]
fn everything_else_is_sql() {
    for text in [
        "",
        "SELECT 1",
        "SHOW wal_level",
        "identify_system",
        "IDENTIFY_SYSTEMS",
        "IDENTIFY_SYSTEM$",
        "\"IDENTIFY_SYSTEM\"",
        "/* */ IDENTIFY_SYSTEM",
        ";IDENTIFY_SYSTEM",
        "COPY t TO STDOUT",
    ] {
        assert_eq!(told(text), "-", "{text}");
    }
}

#[test]
fn records_do_not_show_what_a_plugin_is_told() {
    let text = "START_REPLICATION  SLOT s LOGICAL 0/0 (\"key\" 'secret', publication_names 'p')";
    let command = parse(text).unwrap().unwrap();
    assert_eq!(command.normalized, "START_REPLICATION SLOT s LOGICAL 0/0 ( \"key\" $1 , publication_names $2 )");
}

/// A name as a client would quote it.
fn quoted_name(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn names_come_back_as_they_were_quoted(slot in "[a-zA-Z_\" ,é'()]{1,20}", names in prop::collection::vec("[a-zA-Z\" ,é'()]{1,12}", 1..4)) {
        let list = names.iter().map(|name| quoted_name(name)).collect::<Vec<_>>().join(", ");
        let text = format!(
            "START_REPLICATION SLOT {} LOGICAL 0/0 (\"proto_version\" '1', \"publication_names\" '{}')",
            quoted_name(&slot),
            list.replace('\'', "''")
        );
        let command = parse(&text).unwrap().unwrap();
        let mut expected = names;
        expected.sort();
        expected.dedup();
        prop_assert_eq!(command.slot, Some(slot));
        prop_assert_eq!(command.publications, expected);
    }

    #[test]
    fn a_text_is_a_command_only_by_its_first_word(word in "[A-Z_]{0,24}", rest in "\\PC{0,40}") {
        let is_command = COMMANDS.iter().any(|(command, _)| *command == word);
        let text = format!("{word} {rest}");
        if !is_command && !word.is_empty() {
            prop_assert_eq!(parse(&text), Ok(None));
        }
    }

    #[test]
    fn no_text_makes_it_panic(command in 0..COMMANDS.len(), rest in "[ A-Z_a-z0-9/'\"(),;.$é]{0,60}") {
        let (word, kind) = COMMANDS[command];
        if let Ok(Some(found)) = parse(&format!("{word} {rest}")) {
            prop_assert_eq!(found.kind, kind);
        }
    }
}
