//! `portcullis policy test` and `format`, as a CI job of somebody who keeps policies runs them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::Value;

use crate::support::*;

const ENTITIES: &str =
    r#"[{"uid": {"type": "Workload", "id": "spiffe://a.test/etl"}, "parents": [{"type": "Stage", "id": "etl"}]}]"#;
const POLICIES: &str = "@id(\"writes\")\npermit (principal in Stage::\"etl\", action == Action::\"s3:PutObject\", resource in Bucket::\"lake/raw\")\n\
                        when { context has encryption && context.encryption == \"aws:kms\" };\n";
const CASES: &str = "endpoints: { lake: s3 }\ncases:\n  - name: etl writes <encrypted> & \"well\"\n    as: spiffe://a.test/etl\n    request: PUT s3://lake/raw/a\n    \
                     headers: { x-amz-server-side-encryption: \"aws:kms\" }\n    expect: allowed\n    by: [writes]\n";

async fn policy(arguments: &[&str]) -> Output {
    let mut command = portcullis();
    command.arg("policy").args(arguments);
    Process::run(&arguments.join(" "), &mut command, "").await
}

fn directory(world: &World, cases: &str) -> String {
    let folder = world.folder("policies");
    for (name, text) in [("p.cedar", POLICIES), ("entities.json", ENTITIES), ("cases.yaml", cases)] {
        fs::write(folder.join(name), text).expect("the folder is writable");
    }
    folder.display().to_string()
}

#[tokio::test]
async fn cases_say_what_they_do_not_show_and_ci_reads_the_results() {
    let world = World::new();
    let folder = directory(&world, CASES);
    let junit = world.path().join("junit.xml").display().to_string();
    let output = policy(&["test", &folder, "--junit", &junit]).await;
    assert_eq!(output.code(), 0, "{output:#?}");
    for said in [
        "no case shows what `writes` has denied",
        "`when context.encryption == \"aws:kms\"` false",
        "1 of 1 cases passed",
    ] {
        assert!(output.stdout.contains(said), "no `{said}`:\n{}", output.stdout);
    }
    let xml = fs::read_to_string(&junit).expect("it is written");
    assert!(xml.contains("tests=\"1\" failures=\"0\" errors=\"0\""), "{xml}");
    assert!(xml.contains("name=\"etl writes &lt;encrypted&gt; &amp; &quot;well&quot;\"/>"), "{xml}");
    assert_eq!(policy(&["test", &folder, "--strict", "--junit", &junit]).await.code(), 1);
    let xml = fs::read_to_string(&junit).expect("it is written");
    assert!(xml.contains("tests=\"2\" failures=\"1\" errors=\"0\"") && xml.contains("name=\"coverage\""), "{xml}");

    // The other side, and both are shown.
    let denied = "  - name: plain\n    as: spiffe://a.test/etl\n    request: PUT s3://lake/raw/a\n    headers: { x-amz-server-side-encryption: AES256 }\n    \
                  expect: not_permitted\n    about: [writes]\n";
    let folder = directory(&world, &format!("{CASES}{denied}"));
    let output = policy(&["test", &folder, "--strict"]).await;
    assert_eq!(output.code(), 0, "{output:#?}");
    assert!(!output.stdout.contains("note"), "{}", output.stdout);

    let folder = directory(&world, &CASES.replace("allowed", "forbidden"));
    let output = policy(&["test", &folder, "--junit", &junit]).await;
    assert_eq!(output.code(), 1, "{output:#?}");
    let xml = fs::read_to_string(&junit).expect("it is written");
    assert!(
        xml.contains("<failure message=\"expected forbidden by writes, got allowed by writes\">line 3</failure>"),
        "{xml}"
    );

    // Nor is what is not tested at all, beside what is.
    let folder = directory(&world, CASES);
    let none = world.folder("none").display().to_string();
    let missing = world.path().join("missing").display().to_string();
    for (other, said) in [(&none, "no cases.yaml in or below"), (&missing, "there is no directory")] {
        let output = policy(&["test", &folder, other]).await;
        assert_eq!(output.code(), 1, "{output:#?}");
        assert!(output.stderr.contains(said) && output.stderr.contains(other.as_str()), "{output:#?}");
    }
    assert_eq!(policy(&["test", &folder, &folder]).await.code(), 0);

    // What cannot be tested is no success for whoever reads the results alone.
    for (cases, said) in [
        (CASES.replace("expect:", "expct:"), "cases.yaml:3: unknown key `expct`, did you mean `expect`?"),
        (
            CASES.replace("cases:\n", "context: { sourceip: x }\ncases:\n"),
            "`context` has no attribute `sourceip`, did you mean `sourceIp`?",
        ),
        (CASES.replace("endpoints:", "endpoint:"), "unknown key `endpoint`, did you mean `endpoints`?"),
        (CASES.replace("lake: s3", "lake: s33"), "it is http, s3, tcp or postgres"),
        (CASES.replace("[writes]", "[write]"), "there is no policy `write`"),
        ("endpoints: { lake: s3 }\ncases: []\n".to_owned(), "`cases` has no case: nothing would be tested"),
    ] {
        let folder = directory(&world, &cases);
        let output = policy(&["test", &folder, "--junit", &junit]).await;
        assert_eq!(output.code(), 1, "{output:#?}");
        assert!(output.stderr.contains(said), "no `{said}`: {}", output.stderr);
        let xml = fs::read_to_string(&junit).expect("it is written");
        assert!(xml.contains("failures=\"0\" errors=\"1\"") && xml.contains("<error message="), "{xml}");
    }
}

#[tokio::test]
async fn tests_of_cedars_own_command_line_are_asked_too() {
    let world = World::new();
    let folder = directory(&world, CASES);
    let test = |context: &str, decision: &str, reason: &str| {
        format!(
            r#"{{"name": "{decision}", "request": {{"principal": "Workload::\"spiffe://a.test/etl\"", "action": "Action::\"s3:PutObject\"",
                 "resource": "Object::\"lake/raw/a\"", "context": {context}}}, "entities": [], "decision": "{decision}", "reason": [{reason}], "num_errors": 0}}"#
        )
    };
    let (kms, plain) = (r#"{"encryption": "aws:kms"}"#, r#"{"encryption": "AES256"}"#);
    let good = format!("[{}, {}]", test(kms, "allow", "\"writes\""), test(plain, "deny", ""));
    let file = world.write("tests.json", &good).display().to_string();
    let output = policy(&["test", &folder, "--tests", &file, "--output", "json"]).await;
    assert_eq!(output.code(), 0, "{output:#?}");
    let json: Value = output.json();
    assert_eq!((&json[0]["passed"], json[0]["cases"].as_array().map(Vec::len)), (&Value::Bool(true), Some(2)));
    let wrong = world.write("tests.json", &format!("[{}]", test(plain, "allow", "\"writes\""))).display().to_string();
    let output = policy(&["test", &folder, "--tests", &wrong]).await;
    assert_eq!(output.code(), 1, "{output:#?}");
    assert!(output.stdout.contains("expected allowed by writes, got not_permitted"), "{}", output.stdout);
    let foreign = r#"[{"request": {"principal": "User::\"bob\"", "action": "a", "resource": "b"}, "decision": "deny", "reason": []}]"#;
    let foreign = world.write("tests.json", foreign).display().to_string();
    let output = policy(&["test", &folder, "--tests", &foreign]).await;
    assert_eq!(output.code(), 1, "{output:#?}");
    assert!(output.stderr.contains("test 1: principal `User::\"bob\"` is no Workload"), "{}", output.stderr);
    let none = world.write("tests.json", "[]").display().to_string();
    let output = policy(&["test", &folder, "--tests", &none]).await;
    assert_eq!(output.code(), 1, "{output:#?}");
    assert!(output.stderr.contains("tests.json: list has no test: nothing would be tested"), "{}", output.stderr);
}

/// Whoever reads the exit code alone takes what was not looked at for good.
#[tokio::test]
async fn a_folder_that_cannot_be_read_is_neither_tested_nor_formatted() {
    let world = World::new();
    let folder = directory(&world, CASES);
    assert_eq!(policy(&["format", &folder]).await.code(), 0);
    let link = Path::new(&folder).join("more");
    // What editors leave beside a file that is open is no policy.
    let lock = Path::new(&folder).join(".#p.cedar");
    symlink("somebody@host.1234", &lock).expect("the folder is writable");
    for arguments in [&["test", &folder][..], &["format", "--check", &folder]] {
        let output = policy(arguments).await;
        assert_eq!(output.code(), 0, "{output:#?}");
        symlink("/nonexistent/policies", &link).expect("the folder is writable");
        let output = policy(arguments).await;
        fs::remove_file(&link).expect("it is there");
        assert_eq!(output.code(), 1, "{output:#?}");
        let said = format!("cannot read `{}`: No such file or directory", link.display());
        assert!(output.stderr.contains(&said), "no `{said}`: {}", output.stderr);
    }
    // As `test` has it of cases: one without any beside a good one would pass for checked.
    let none = world.folder("none").display().to_string();
    let output = policy(&["format", "--check", &folder, &none]).await;
    assert_eq!(output.code(), 1, "{output:#?}");
    assert!(output.stderr.contains(&format!("there are no *.cedar files in or below `{none}`")), "{}", output.stderr);
}

#[tokio::test]
async fn policies_are_formatted_as_cedar_does_and_ci_can_check_it() {
    let world = World::new();
    let folder = directory(&world, CASES);
    let file = Path::new(&folder).join("p.cedar");
    let check = policy(&["format", "--check", &folder]).await;
    assert_eq!((check.code(), fs::read_to_string(&file).expect("it is there").as_str()), (1, POLICIES), "{check:#?}");
    assert!(check.stdout.contains("p.cedar would change"), "{}", check.stdout);
    let digest = |output: Output| output.stdout.split_whitespace().last().map(str::to_owned);
    let before = policy(&["validate", "--policies", &folder]).await;
    assert_eq!(policy(&["format", &folder]).await.code(), 0);
    assert_eq!(policy(&["format", "--check", &folder]).await.code(), 0);
    let written = fs::read_to_string(&file).expect("it is there");
    assert!(written.contains("permit (\n  principal in Stage::\"etl\","), "{written}");
    assert_ne!(digest(before), digest(policy(&["validate", "--policies", &folder]).await));
    assert_eq!(policy(&["test", &folder]).await.code(), 0);
    fs::write(&file, "permit (").expect("the folder is writable");
    let broken = policy(&["format", &folder]).await;
    assert_eq!(broken.code(), 1, "{broken:#?}");
    assert!(broken.stderr.contains("p.cedar"), "{}", broken.stderr);
    assert_eq!(fs::read_to_string(&file).expect("it is there"), "permit (");
    // What is shipped is written that way.
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let shipped = ["policies", "examples"].map(|folder| repository.join(folder).display().to_string());
    let output = policy(&["format", "--check", &shipped[0], &shipped[1]]).await;
    assert_eq!(output.code(), 0, "{output:#?}");
}
