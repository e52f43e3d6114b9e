//! The pages on policies are run as they are written: files are made, commands are run, and their output compared.
//!
//! A comment before a fenced block says what it is:
//! - `<!-- file: PATH -->`: the block is that file from here on, in a folder that has the repository's `policies` and `examples`.
//! - `<!-- add: PATH -->`: the block is what that file goes on with.
//! - `<!-- include: PATH -->`: the block is that file of the repository, word for word.
//! - `<!-- says -->`: the block is what `policy validate` says of the policy in the block before it.
//! - a `console` block is commands after `$ `, each with all that it prints; `…` stands for anything, alone on a line for any lines.
//!
//! With `BLESS=1` blocks of the last three kinds are written as they should be.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use portcullis::config::{Config, Overrides};

use crate::support::*;

/// Each page, and how many commands it shows at least.
const PAGES: [(&str, usize); 10] = [
    ("docs/policies.md", 10),
    ("docs/proving.md", 6),
    ("docs/policy-bundles.md", 10),
    ("docs/policy-reference.md", 2),
    ("docs/policy-cookbook.md", 10),
    ("docs/policy-mistakes.md", 70),
    ("editor/README.md", 2),
    // Policies only.
    ("README.md", 0),
    ("docs/tcp.md", 0),
    ("docs/postgres.md", 0),
];

/// A fenced block, with the comment before it.
#[derive(Debug)]
struct Block<'a> {
    comment: &'a str,
    language: &'a str,
    text: &'a str,
    /// Where `text` stands in the page.
    at: usize,
    /// How far the block is indented, in a list.
    indented: usize,
}

#[tokio::test]
async fn what_the_pages_on_policies_show_is_what_happens() {
    let blessed = std::env::var_os("BLESS").is_some();
    let mut wrong = Vec::new();
    for (page, least) in PAGES {
        let path = project(page);
        let text = fs::read_to_string(&path).expect("the page is there");
        let world = World::new();
        for folder in ["policies", "examples"] {
            copy(&project(folder), &world.path().join(folder));
        }
        let mut ran = 0;
        let mut replaced = text.clone();
        let mut before = None;
        for block in blocks(&text) {
            let expected = expected(&world, &block, before.take(), &mut ran).await;
            if let Some(expected) = expected.filter(|expected| !matches(block.text, expected)) {
                wrong.push(format!("{page}: expected\n{}\nis\n{expected}", block.text));
                let at = block.at + replaced.len() - text.len();
                replaced.replace_range(at..at + block.text.len(), &expected);
            }
            before = Some(block);
        }
        assert!(ran >= least, "{page} has {ran} commands: does this test still find them?");
        if blessed {
            fs::write(&path, replaced).expect("the page is writable");
        }
    }
    assert!(blessed || wrong.is_empty(), "to write the pages anew: BLESS=1\n{}", wrong.join("\n----\n"));
}

/// What the block should be, where that can be known.
async fn expected(world: &World, block: &Block<'_>, before: Option<Block<'_>>, ran: &mut usize) -> Option<String> {
    let (kind, path) = block.comment.split_once(": ").unwrap_or((block.comment, ""));
    match kind {
        "file" | "add" => {
            let file = world.path().join(path);
            fs::create_dir_all(file.parent().expect("it is in a folder")).expect("the folder is writable");
            let before = if kind == "add" { fs::read_to_string(&file).expect("it was begun") } else { String::new() };
            let unindented = |line: &str| line.get(block.indented..).unwrap_or("\n").to_owned();
            let text: String = block.text.split_inclusive('\n').map(unindented).collect();
            fs::write(file, before + &text).expect("the folder is writable");
            None
        }
        // Wrong on purpose: what is said of it comes next.
        "mistake" => None,
        "include" => Some(fs::read_to_string(project(path)).unwrap_or_else(|_| panic!("there is no {path}"))),
        "says" => {
            let policy = before.expect("a policy stands before what is said of it");
            let folder = world.folder("mistake/policies");
            fs::write(folder.join("lake.cedar"), policy.text).expect("the folder is writable");
            fs::write(folder.join("entities.json"), ENTITIES).expect("the folder is writable");
            *ran += 1;
            let command = "cd mistake && portcullis policy validate --policies policies";
            Some(without_digests(&shell(world, command).await))
        }
        _ if block.language == "console" => {
            let mut text = String::new();
            for command in commands(block.text) {
                *ran += 1;
                let _ = write!(text, "$ {command}\n{}", without_digests(&shell(world, &command).await));
            }
            Some(text)
        }
        // A policy that is shown without being part of the story is one all the same.
        _ if block.language == "cedar" => {
            let folder = world.folder("shown");
            fs::write(folder.join("shown.cedar"), block.text).expect("the folder is writable");
            let said = shell(world, "portcullis policy validate --policies shown; echo $?").await;
            assert!(said.ends_with("\n0\n"), "{}\n{said}", block.text);
            None
        }
        _ => None,
    }
}

/// Who is in which Stage, for the page of mistakes.
const ENTITIES: &str = r#"[
  {"uid": {"type": "Workload", "id": "spiffe://pipeline.example/ns/etl/sa/transform"}, "parents": [{"type": "Stage", "id": "transform"}]}
]
"#;

/// All that a command prints.
async fn shell(world: &World, command: &str) -> String {
    let binary = PathBuf::from(portcullis().get_program());
    let bin = binary.parent().expect("it is in a folder").display();
    let path = format!("{bin}:{}", std::env::var("PATH").unwrap_or_default());
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("exec 2>&1; {command}")]).current_dir(world.path()).env("PATH", path);
    shell.env_remove("PORTCULLIS_CONFIG").env("NO_COLOR", "1");
    let said = Process::run(command, &mut shell, "").await.stdout;
    if said.is_empty() || said.ends_with('\n') { said } else { said + "\n" }
}

/// The commands of a block: lines after `$ `, and those that they go on in after a `\`.
fn commands(block: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut goes_on = false;
    for line in block.lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            found.push(command.to_owned());
        } else if let (true, Some(last)) = (goes_on, found.last_mut()) {
            let _ = write!(last, "\n{line}");
        }
        goes_on = line.ends_with('\\') && (goes_on || line.starts_with("$ "));
    }
    found
}

fn without_digests(text: &str) -> String {
    let mut parts = text.split("sha256:");
    let mut shorter = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(|c: char| c.is_ascii_hexdigit());
        let _ = write!(shorter, "sha256:…{rest}");
    }
    shorter
}

/// Whether `actual` is what `shown` says, with `…` for what it leaves out.
fn matches(shown: &str, actual: &str) -> bool {
    fn lines(shown: &[&str], actual: &[&str]) -> bool {
        match (shown.split_first(), actual.split_first()) {
            (None, None) => true,
            (Some((&"…", rest)), _) => (0..=actual.len()).any(|skipped| lines(rest, &actual[skipped..])),
            (Some((one, shown)), Some((other, actual))) => line(one, other) && lines(shown, actual),
            _ => false,
        }
    }
    fn line(shown: &str, actual: &str) -> bool {
        match shown.split_once('…') {
            None => shown == actual,
            Some((before, after)) => actual.strip_prefix(before).is_some_and(|rest| {
                rest.char_indices()
                    .map(|(at, _)| at)
                    .chain([rest.len()])
                    .any(|at| line(after, rest.get(at..).unwrap_or_default()))
            }),
        }
    }
    lines(&shown.lines().collect::<Vec<_>>(), &actual.lines().collect::<Vec<_>>())
}

fn blocks(page: &str) -> Vec<Block<'_>> {
    let mut found = Vec::new();
    let mut inside: Option<(&str, &str, usize, usize)> = None;
    let (mut at, mut comment) = (0, "");
    for line in page.split_inclusive('\n') {
        let written = line.trim();
        match (inside, written.strip_prefix("```")) {
            (None, Some(language)) => {
                let indented = line.len() - line.trim_start().len();
                inside = Some((std::mem::take(&mut comment), language, at + line.len(), indented));
            }
            (Some((comment, language, start, indented)), Some("")) => {
                found.push(Block {
                    comment,
                    language,
                    text: page.get(start..at).unwrap_or_default(),
                    at: start,
                    indented,
                });
                inside = None;
            }
            (None, None) => {
                comment = written.strip_prefix("<!-- ").and_then(|rest| rest.strip_suffix(" -->")).unwrap_or_default();
            }
            _ => {}
        }
        at += line.len();
    }
    found
}

/// What a part of a configuration on a page is a part of.
const WHOLE: [(&str, &str); 3] = [
    (
        "identity:\n",
        "  certificate: svid.pem\n  private_key: svid.key\n  trust_bundles:\n    pipeline.example: bundle.pem\n",
    ),
    ("policy:\n", "  directory: policies\n"),
    (
        "outbound:\n",
        "  - name: lake\n    listen: 127.0.0.1:0\n    protocol: http\n    upstream: lake.data.svc:8443\n    \
         peer: spiffe://pipeline.example/ns/data/sa/lake\n",
    ),
];

#[test]
fn every_part_of_a_configuration_on_a_page_is_one() {
    let folder = tempfile::tempdir().expect("the temporary folder is writable");
    let file = folder.path().join("portcullis.yaml");
    let pages = [
        "README.md",
        "docs/admin.md",
        "docs/federation.md",
        "docs/policies.md",
        "docs/policy-bundles.md",
        "docs/proving.md",
        "docs/revocation.md",
        "docs/tcp.md",
    ];
    for page in pages {
        let text = fs::read_to_string(project(page)).expect("the page is there");
        let blocks = blocks(&text).into_iter().filter(|block| block.language == "yaml" && block.comment.is_empty());
        let mut parts = 0;
        for block in blocks {
            parts += 1;
            let mut whole = block.text.to_owned();
            for (key, rest) in WHOLE {
                let is_whole = key == "policy:\n" && ["  directory:", "  url:"].iter().any(|key| whole.contains(key));
                match whole.find(key) {
                    Some(_) if is_whole => {}
                    Some(at) => whole.insert_str(at + key.len(), rest),
                    None => whole = format!("{whole}{key}{rest}"),
                }
            }
            fs::write(&file, &whole).expect("the folder is writable");
            if let Err(errors) = Config::load(&file, &Overrides::default()) {
                panic!("{page}:\n{whole}\n{}", errors.render(false));
            }
        }
        assert!(parts > 0, "{page} has no part of a configuration: does this test still find them?");
    }
}

#[test]
fn outputs_are_compared_but_for_what_they_leave_out() {
    assert!(matches("a\n…\nc …d\n", "a\nb\nb\nc 1d\n") && matches("a\n…\n", "a\n") && matches("x…y…\n", "xayb\n"));
    assert!(!matches("a\n…\nc\n", "a\nb\n") && !matches("a\n", "a\nb\n") && !matches("x…y\n", "xz\n"));
    assert_eq!(commands("$ a \\\n  b\nout\n$ c\n"), ["a \\\n  b", "c"]);
    let page = "<!-- file: x -->\n```cedar\na\n```\n\n```\nb\n```\n";
    let found: Vec<_> = blocks(page).into_iter().map(|b| (b.comment, b.language, b.text)).collect();
    assert_eq!(found, [("file: x", "cedar", "a\n"), ("", "", "b\n")]);
}

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("the temporary folder is writable");
    for entry in fs::read_dir(from).expect("the project can be read") {
        let path = entry.expect("the project can be read").path();
        let target = to.join(path.file_name().expect("has a name"));
        match path.is_dir() {
            true => copy(&path, &target),
            false => drop(fs::copy(&path, &target).expect("the temporary folder is writable")),
        }
    }
}
