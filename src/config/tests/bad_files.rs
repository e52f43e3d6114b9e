//! Bad files as a whole: YAML that is no configuration, and how problems are shown.

use super::{GOOD, good_but, parse};
use crate::config::{Config, ConfigErrors, ConfigProblem, Overrides};

/// One thing changed in the good file: what is replaced and by what; line, column and key of the one problem; its message and its help.
pub(super) type Row = (&'static str, &'static str, (usize, usize, &'static str), &'static str, &'static str);

#[track_caller]
pub(super) fn the_only_problem(text: &str) -> ConfigProblem {
    let errors = parse(text).expect_err(text);
    assert_eq!(errors.problems().len(), 1, "{errors}\n{text}");
    errors.problems()[0].clone()
}

pub(super) fn assert_rows(rows: &[Row]) {
    for (part, replacement, (line, column, key), message, help) in rows {
        let problem = the_only_problem(&good_but(part, replacement));
        let place = problem.place.expect("a place in the file");
        assert_eq!(
            (problem.message.as_str(), problem.help.as_deref().unwrap_or("")),
            (*message, *help),
            "{replacement}"
        );
        assert_eq!((place.line, place.column, problem.key.as_str()), (*line, *column, *key), "{replacement}");
    }
}

#[test]
fn yaml_that_is_not_a_configuration_is_refused_with_its_reason() {
    const INDENTATION: &str =
        "look at the indentation of this line and the one above, and for a quote or bracket that is not closed";
    assert_rows(&[
        (
            "workers: 1",
            "workers: 1\nworkers: 2",
            (23, 1, ""),
            "key `workers` is repeated",
            "it stands in line 22 already: remove one of the two",
        ),
        ("workers: 1", "workers: &w 1", (22, 10, ""), "anchors (`&name`) are not supported", "remove the anchor"),
        (
            "workers: 1",
            "workers: !!int 1",
            (22, 10, ""),
            "tags (`!!int`) are not supported",
            "remove the tag; quotes make a value text",
        ),
        ("workers: 1", "? [a]\n: 1", (22, 3, ""), "a key must be text", "write `key: value`"),
        (
            "workers: 1",
            "workers: 1\n---\nworkers: 2",
            (23, 1, ""),
            "a second document begins here, a configuration is one",
            "remove the `---`, or keep each document in its own file",
        ),
        (
            "    protocol: s3",
            "\tprotocol: s3",
            (11, 1, ""),
            "not valid YAML: while scanning a plain scalar, found a tab",
            "YAML is indented by spaces: replace the tab",
        ),
        (
            "workers: 1",
            "workers: @1",
            (22, 10, ""),
            "not valid YAML: unexpected character: `@'",
            "put the value in quotes: `\"@1\"`",
        ),
        (
            "directory: policies",
            "directory: a: b",
            (7, 15, ""),
            "not valid YAML: mapping values are not allowed in this context",
            "put the value in quotes: `\"a: b\"`",
        ),
        (
            "   upstream: lake",
            "  upstream: lake",
            (18, 4, ""),
            "not valid YAML: while parsing a block collection, did not find expected '-' indicator",
            INDENTATION,
        ),
        ("[s3.example]", "[s3.example", (14, 9, ""), "not valid YAML: illegal placement of ':' indicator", INDENTATION),
    ]);
}

fn problem_of(text: &str) -> String {
    the_only_problem(text).message
}

#[test]
fn files_that_are_no_mapping_of_listeners_are_refused() {
    for empty in ["", "\n\n", "# only a comment\n"] {
        assert_eq!(problem_of(empty), "the file is empty", "{empty:?}");
    }
    assert_eq!(problem_of("just text"), "expected a block of keys, found `just text`");
    assert_eq!(problem_of("- a\n"), "expected a block of keys, found a list");
    let (no_listener, _) = GOOD.split_once("inbound:").unwrap();
    assert_eq!(problem_of(no_listener), "the file has no listener");
    assert_eq!(problem_of(&format!("{no_listener}inbound: []\n")), "the file has no listener");
    assert_eq!(
        problem_of(&"a".repeat(1024 * 1024 + 1)),
        "the file has 1048577 bytes, a configuration has at most 1048576"
    );
    assert_eq!(problem_of(&format!("a: {}", "[".repeat(100))), "nested deeper than 32 levels");
}

#[test]
fn an_alias_bomb_is_refused_where_it_begins() {
    let text = "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n";
    let errors = parse(text).unwrap_err().to_string();
    assert!(errors.starts_with("portcullis.yaml:1:1: identity: key `identity` is missing"), "{errors}");
    assert!(
        errors.contains("portcullis.yaml:2:8: aliases (`*name`) are not supported (write the value out)"),
        "{errors}"
    );
}

const MANY: &str = "\
identity:
  source: file
  certificate: svid.pem
  trust_bundles:
    pipeline.example: bundle.pem
policy:
  directory: policies
inbound:
  - name: Lake
    listen: 0.0.0.0:8443
    protocl: s3
    upstream: http://10.0.0.1:9000
outbound:
  - name: lake
    listen: 0.0.0.0:8443
    protocol: http
    upstream: lake.data.svc
    peer: spiffe://pipelin.example/lake
    limits:
      idle_timeout: 10
wrokers: 1
";

fn many() -> ConfigErrors {
    Config::parse(MANY, "deploy/portcullis.yaml", &Overrides::default()).unwrap_err()
}

#[test]
fn all_problems_are_reported_at_once_in_the_order_of_the_file() {
    let found: Vec<(usize, usize, String)> = many()
        .problems()
        .iter()
        .map(|problem| (problem.place.unwrap().line, problem.place.unwrap().column, problem.key.clone()))
        .collect();
    let expected = [
        (1, 1, "identity.private_key"),
        (2, 11, "identity.source"),
        (9, 11, "inbound[0].name"),
        (11, 5, "inbound[0].protocl"),
        (12, 15, "inbound[0].upstream"),
        (15, 13, "outbound[0].listen"),
        (17, 15, "outbound[0].upstream"),
        (18, 11, "outbound[0].peer"),
        (20, 21, "outbound[0].limits.idle_timeout"),
        (21, 1, "wrokers"),
    ];
    assert_eq!(found, expected.map(|(line, column, key)| (line, column, key.to_owned())));
}

#[test]
fn the_source_line_is_shown_with_a_caret() {
    let shown = many().render(false);
    let expected = "  × unknown key `protocl`
    ╭─[deploy/portcullis.yaml:11:5]
 10 │     listen: 0.0.0.0:8443
 11 │     protocl: s3
    ·     ^^^^^^^
    ·        ╰── inbound[0].protocl
 12 │     upstream: http://10.0.0.1:9000
    ╰────
  help: did you mean `protocol`?
";
    assert!(shown.contains(expected), "{shown}");
    assert!(shown.ends_with("deploy/portcullis.yaml: 10 problems\n"), "{shown}");
    assert!(!shown.contains('\u{1b}'));
    assert!(many().render(true).contains('\u{1b}'));
}

#[test]
fn a_line_of_display_names_file_line_column_key_message_and_help() {
    let errors = many().to_string();
    assert_eq!(
        errors.lines().nth(3),
        Some("deploy/portcullis.yaml:11:5: inbound[0].protocl: unknown key `protocl` (did you mean `protocol`?)")
    );
}

#[test]
fn a_file_of_garbage_does_not_fill_the_screen() {
    let garbage: String = (0..5_000).map(|number| format!("key{number}: {number}\n")).collect();
    let errors = parse(&garbage).unwrap_err();
    assert_eq!(errors.problems().len(), ConfigErrors::MOST_SHOWN);
    assert!(errors.omitted() > 4_000);
    assert!(errors.to_string().ends_with("not shown"), "{errors}");
}
