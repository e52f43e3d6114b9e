//! Shipped policies changed, and what is proved of the change; invariants, and what is proved of them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::*;

async fn policy(arguments: &[&str]) -> Output {
    let mut command = portcullis();
    command.arg("policy").args(arguments);
    Process::run(&arguments.join(" "), &mut command, "").await
}

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("policies").join(name)
}

/// A copy of shipped policies in which `from` stands as `to`.
fn changed(name: &str, file: &str, from: &str, to: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for entry in fs::read_dir(shipped(name)).expect("the policies are there") {
        let path = entry.expect("an entry").path();
        fs::copy(&path, folder.path().join(path.file_name().expect("a name"))).expect("a copy");
    }
    let path = folder.path().join(file);
    let text = fs::read_to_string(&path).expect("the file is there");
    assert!(text.contains(from), "`{from}` is not in {file}");
    fs::write(&path, text.replace(from, to)).expect("the file is writable");
    folder
}

async fn plan(old: &Path, new: &Path, more: &[&str]) -> Output {
    let (old, new) = (old.display().to_string(), new.display().to_string());
    policy(&[&["plan", &old, &new], more].concat()).await
}

#[tokio::test]
async fn no_shipped_policies_grow_by_themselves() {
    for name in ["break-glass", "deny-by-default", "http-service", "partners", "storage", "warehouse"] {
        let same = plan(&shipped(name), &shipped(name), &["--solver", "/nowhere"]).await;
        assert_eq!((same.code(), same.stdout.as_str()), (0, "access does not grow"), "{name}: {same:#?}");
    }
}

#[tokio::test]
async fn a_wider_prefix_is_growth_and_a_narrower_one_is_not() {
    let wide = changed("storage", "lake.cedar", "Prefix::\"lake/raw/landing\"", "Bucket::\"lake/raw\"");
    let grown = plan(&shipped("storage"), wide.path(), &["--output", "json"]).await;
    assert_eq!(grown.code(), 2, "{grown:#?}");
    let json: serde_json::Value = grown.json();
    let change = &json["grows"][0];
    assert_eq!(change["request"], "PUT s3://lake/raw/x", "{json:#}");
    assert_eq!(change["new"]["policies"], serde_json::json!(["ingest-writes-landing"]));
    assert_eq!(change["old"]["outcome"], "not_permitted");
    let principal = change["principal"].as_str().expect("a principal");

    // What the plan says is what explain says of the same request.
    let asked = ["--request", "PUT s3://lake/raw/x", "--as", principal];
    for (policies, code) in [(wide.path().to_owned(), 0), (shipped("storage"), 2)] {
        let policies = policies.display().to_string();
        let explained = policy(&[&["explain", "--policies", &policies][..], &asked].concat()).await;
        assert_eq!(explained.code(), code, "{explained:#?}");
    }

    let shrunk = plan(wide.path(), &shipped("storage"), &[]).await;
    assert_eq!(shrunk.code(), 0, "{shrunk:#?}");
    assert!(shrunk.stdout.contains("no longer allowed\n"), "{}", shrunk.stdout);
    assert!(shrunk.stdout.ends_with("access does not grow"), "{}", shrunk.stdout);
}

#[tokio::test]
async fn conditions_are_proved_by_the_solver_and_not_without() {
    let narrower = changed(
        "storage",
        "lake.cedar",
        "[\"UploadPart\", \"CompleteMultipartUpload\"].contains(context.operation)",
        "[\"UploadPart\"].contains(context.operation)",
    );
    let proved = plan(&shipped("storage"), narrower.path(), &[]).await;
    assert_eq!(proved.code(), 0, "{proved:#?}");
    let unproved = plan(&shipped("storage"), narrower.path(), &["--solver", "/nowhere/cvc5"]).await;
    assert_eq!(unproved.code(), 4, "{unproved:#?}");
    assert!(unproved.stdout.contains("apt-get install cvc5"), "{}", unproved.stdout);
    let wider = plan(narrower.path(), &shipped("storage"), &[]).await;
    assert_eq!(wider.code(), 2, "{wider:#?}");
    assert!(wider.stdout.contains("operation \"CompleteMultipartUpload\""), "{}", wider.stdout);
}

#[tokio::test]
async fn each_kind_of_access_is_shown_as_the_request_that_it_is() {
    let permits = r#"
@id("a") permit (principal in Stage::"ingest", action == Action::"http:POST", resource in HttpPath::"api/orders");
@id("b") permit (principal in Stage::"ingest", action == Action::"sql:Select", resource == Table::"wh/an.sales.orders")
when { context.columns.contains("name") && !context.columns.contains("ssn") };
@id("c") permit (principal in Stage::"ingest", action == Action::"tcp:Connect", resource == Endpoint::"queue");
@id("d") permit (principal in Stage::"ingest", action == Action::"s3:ListBucket", resource == Prefix::"lake/raw/in");
@id("e") permit (principal in Stage::"ingest", action == Action::"s3:DeleteObject", resource == Object::"lake/raw/in/a");
@id("f") permit (principal in Stage::"ingest", action == Action::"http:GET", resource == HttpPath::"api/orders")
when { context.headers.hasTag("x-tenant") && context.headers.getTag("x-tenant").contains("a") };
"#;
    let (old, new) = (linted(""), linted(permits));
    let grown = plan(old.path(), new.path(), &[]).await;
    assert_eq!(grown.code(), 2, "{grown:#?}");
    for request in [
        "POST http://api/orders",
        "sql:Select columns name of Table::\"wh/an.sales.orders\"",
        "connect tcp://queue",
        "GET s3://lake/raw?list-type=2&prefix=in/",
        "DELETE s3://lake/raw/in/a",
        "GET http://api/orders as spiffe://one.example/ns/etl/sa/ingest\n      with headers {x-tenant: [\"a\"]}",
    ] {
        let line = format!("\n      {request}");
        assert!(grown.stdout.contains(&line), "no `{request}`:\n{}", grown.stdout);
    }
    let by_whom = grown.stdout.matches(" as spiffe://one.example/ns/etl/sa/ingest\n").count();
    assert_eq!(by_whom, 6, "{}", grown.stdout);
}

/// That nothing is found may be since there is nothing: a folder too high, or a stage that nobody is in.
#[tokio::test]
async fn what_is_odd_about_the_policies_is_said_beside_what_is_found() {
    let (empty, whole) = (tempfile::tempdir().expect("a folder"), linted(POLICIES));
    let said = "there are no *.cedar files";
    let invariants = whole.path().join("invariants.yaml");
    fs::write(&invariants, INVARIANTS).expect("is writable");
    let invariants = invariants.display().to_string();
    for (folder, is_empty) in [(empty.path(), true), (whole.path(), false)] {
        let outputs = [
            lint(folder, &[]).await,
            plan(whole.path(), folder, &[]).await,
            prove(folder, &["--invariants", &invariants]).await,
        ];
        for output in outputs {
            assert_eq!(output.stderr.contains(said), is_empty, "{output:#?}");
        }
        let problems =
            prove(folder, &["--invariants", &invariants, "--output", "json"]).await.json()["problems"].to_string();
        assert_eq!(problems.contains(said), is_empty, "{problems}");
    }
}

#[tokio::test]
async fn policies_that_do_not_load_are_not_compared() {
    let broken = changed("storage", "lake.cedar", "permit (", "permitt (");
    assert_eq!(plan(&shipped("storage"), broken.path(), &[]).await.code(), 3);
    assert_eq!(policy(&["plan", "only-one"]).await.code(), 1);
}

/// Policies of all kinds of conditions, each of which is another one in the version after.
fn of_many(count: usize, version: usize) -> String {
    let policy = |n: usize| {
        let (who, bucket) = (format!("principal in Stage::\"s{}\"", n % 20), format!("Bucket::\"lake/b{}\"", n % 40));
        let (hour, then) = (n % 12 + version, n + version);
        let rest = match n % 6 {
            0 => format!(
                "permit ({who}, action == Action::\"s3:PutObject\", resource in {bucket})\n\
                 when {{ context has contentLength && context.contentLength < {} }};",
                1000 + n + 1000 * version
            ),
            1 => format!(
                "permit ({who}, action in [Action::\"read\", Action::\"list\"], resource in Prefix::\"lake/b{}/d{n}/{version}\");",
                n % 40
            ),
            2 => format!(
                "permit ({who}, action == Action::\"sql:Select\", resource in Schema::\"wh/db.s{}\")\n\
                 unless {{ context.columns.containsAny([\"ssn\", \"c{then}\"]) }};",
                n % 40
            ),
            3 => format!(
                "permit ({who}, action == Action::\"http:GET\", resource in HttpPath::\"api/v{n}\")\n\
                 when {{ context.headers.hasTag(\"x-t\") && context.headers.getTag(\"x-t\").contains(\"{then}\") }};"
            ),
            4 => format!(
                "forbid (principal, action in Action::\"delete\", resource in Bucket::\"lake/b{n}\")\n\
                 unless {{ context.now.toTime() >= duration(\"{hour}h\") && context.now.toTime() < duration(\"{}h\") }};",
                hour + 8
            ),
            _ => format!(
                "permit ({who}, action in Action::\"write\", resource in {bucket})\n\
                 when {{ context has sourceIp && context.sourceIp.isInRange(ip(\"10.{}.{version}.0/24\")) }};",
                n % 250
            ),
        };
        format!("@id(\"p{n}\")\n{rest}\n")
    };
    (0..count).map(policy).collect()
}

/// Fifty policies here, and the five hundred that are promised by `make test-long`.
#[tokio::test]
async fn policies_that_are_all_changed_are_compared_within_thirty_seconds() {
    let count = std::env::var("PORTCULLIS_PLAN_POLICIES").map_or(50, |count| count.parse().expect("a number"));
    let workload = |n: usize| json!({"uid": {"type": "Workload", "id": format!("spiffe://one.example/s{n}")}, "parents": [{"type": "Stage", "id": format!("s{n}")}]});
    let entities: Vec<Value> = (0..20).map(workload).collect();
    let [old, new] = [0, 1].map(|version| {
        let folder = linted(&of_many(count, version));
        fs::write(folder.path().join("entities.json"), json!(entities).to_string()).expect("is writable");
        folder
    });
    let began = Instant::now();
    let output = plan(old.path(), new.path(), &["--output", "json"]).await;
    let took = began.elapsed();
    println!("{count} policies: {took:?}");
    assert_eq!(output.code(), 2, "{}", output.stderr);
    let json = output.json();
    assert_eq!((&json["verdict"], &json["not_proved"]), (&json!("grows"), &json!([])));
    // Those that forbid grow what others permit, which is nothing here.
    let grown = |id: &str| {
        json["grows"].as_array().is_some_and(|grows| {
            grows.iter().any(|change| change["new"]["policies"].to_string().contains(&format!("\"{id}\"")))
        })
    };
    let silent: Vec<String> =
        (0..count).filter(|n| n % 6 != 4).map(|n| format!("p{n}")).filter(|id| !grown(id)).collect();
    assert_eq!(silent, Vec::<String>::new());
    assert!(took < Duration::from_secs(30), "{took:?}");
}

// ---------------------------------------------------------------------------------------------------------------- invariants

const POLICIES: &str = r#"
@id("ingest-writes") permit (principal in Stage::"ingest", action in Action::"write", resource in Bucket::"lake/raw");
@id("archiver-deletes") permit (principal in Stage::"archiver", action in Action::"delete", resource in Bucket::"lake/raw");
@id("reads-inside") permit (principal in Stage::"ingest", action in Action::"read", resource in Bucket::"lake/raw")
when { context has sourceIp && context.sourceIp.isInRange(ip("10.0.0.0/8")) };
"#;

const ENTITIES: &str = r#"[
  {"uid": {"type": "Workload", "id": "spiffe://one.example/ns/etl/sa/ingest"}, "parents": [{"type": "Stage", "id": "ingest"}]},
  {"uid": {"type": "Workload", "id": "spiffe://one.example/ns/etl/sa/archiver"}, "parents": [{"type": "Stage", "id": "archiver"}]}
]"#;

/// Nobody but the archiver deletes: holds without a solver. Reads from within: needs one.
const INVARIANTS: &str = r#"
invariants:
  - name: deleted-by-the-archiver-alone
    reason: it is the only copy
    never:
      principals: '!(principal in Stage::"archiver")'
      actions: action in Action::"delete"
      resources: resource in Bucket::"lake/raw"
  - name: read-from-within
    never:
      actions: action in Action::"read"
      when: '!(context has sourceIp && context.sourceIp.isInRange(ip("10.0.0.0/8")))'
  - name: ingest-can-write
    always:
      principals: principal in Stage::"ingest"
      actions: action == Action::"s3:PutObject"
      resources: resource is Object in Bucket::"lake/raw"
"#;

fn directory(policies: &str, invariants: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in [("a.cedar", policies), ("entities.json", ENTITIES), ("invariants.yaml", invariants)] {
        fs::write(folder.path().join(name), text).expect("a file");
    }
    folder
}

async fn prove(directory: &Path, more: &[&str]) -> Output {
    policy(&[&["prove", "--policies", &directory.display().to_string()], more].concat()).await
}

fn verdicts(proving: &Value) -> Vec<&str> {
    let of = |invariant: &Value| invariant["verdict"].as_str().expect("a verdict").to_owned().leak() as &str;
    proving["invariants"].as_array().expect("invariants").iter().map(of).collect()
}

/// A program in the place of the solver.
fn program(text: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("solver");
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("a file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a mode");
    let shown = path.display().to_string();
    (folder, shown)
}

#[tokio::test]
async fn shipped_policies_keep_to_their_invariants_and_changed_ones_do_not() {
    let proved = prove(&shipped("storage"), &[]).await;
    assert_eq!(proved.code(), 0, "{proved:#?}");
    assert!(proved.stdout.ends_with("all 4 invariants are proved"), "{proved:#?}");
    assert!(!shipped("storage").join("proof.json").exists(), "a proof was written unasked");

    let permit = "action in [Action::\"read\", Action::\"write\", Action::\"delete\", Action::\"list\"],\n  resource in Bucket::\"lake/scratch\"";
    let everywhere =
        changed("storage", "lake.cedar", permit, &permit.replace("Bucket::\"lake/scratch\"", "Endpoint::\"lake\""));
    let forbid = "action in Action::\"delete\",\n  resource in Bucket::\"lake/raw\"";
    let lake = everywhere.path().join("lake.cedar");
    let text =
        fs::read_to_string(&lake).expect("policies").replace(forbid, &forbid.replace("lake/raw", "lake/raw-too"));
    fs::write(&lake, text).expect("policies");
    let refuted = prove(everywhere.path(), &["--output", "json"]).await;
    assert_eq!(refuted.code(), 2, "{refuted:#?}");
    let json = refuted.json();
    assert_eq!(verdicts(&json), ["refuted", "proved", "refuted", "proved"], "{json:#}");
    let witness = &json["invariants"][0]["witnesses"][0];
    assert_eq!(witness["principal"], "spiffe://pipeline.example/ns/etl/sa/transform", "{json:#}");
    assert_eq!(witness["policies"], json!(["transform-cleans-up-scratch"]), "{json:#}");

    // What the proof says is what explain says of the same request.
    let request = witness["request"].as_str().expect("a request");
    let principal = witness["principal"].as_str().expect("a principal");
    let policies = everywhere.path().display().to_string();
    let explained = policy(&["explain", "--policies", &policies, "--request", request, "--as", principal]).await;
    assert_eq!(explained.code(), 0, "{explained:#?}");
}

#[tokio::test]
async fn an_invariant_is_refuted_beside_its_proved_twin() {
    let good = directory(POLICIES, INVARIANTS);
    let proved = prove(good.path(), &["--output", "json"]).await;
    assert_eq!((proved.code(), verdicts(&proved.json())), (0, vec!["proved"; 3]), "{proved:#?}");
    assert_eq!(proved.json()["problems"], json!([]), "{proved:#?}");

    for (number, from, to, says) in [
        (0, "Stage::\"archiver\", action", "Stage::\"ingest\", action", "is allowed by archiver-deletes"),
        (1, "10.0.0.0/8", "0.0.0.0/0", "is allowed by reads-inside"),
        (2, "action in Action::\"write\"", "action == Action::\"s3:PutObjectAcl\"", "is not_permitted"),
    ] {
        let bad = directory(&POLICIES.replace(from, to), INVARIANTS);
        let refuted = prove(bad.path(), &["--output", "json"]).await;
        assert_eq!(refuted.code(), 2, "{refuted:#?}");
        let mut expected = vec!["proved"; 3];
        expected[number] = "refuted";
        assert_eq!(verdicts(&refuted.json()), expected, "{refuted:#?}");
        let text = prove(bad.path(), &[]).await;
        assert!(text.stdout.contains(says), "{says}: {text:#?}");
        assert!(text.stdout.ends_with("2 of 3 invariants are proved, 1 refuted, 0 not proved"), "{text:#?}");
    }
}

#[tokio::test]
async fn without_an_honest_solver_nothing_that_hangs_on_conditions_is_proved() {
    let folder = directory(POLICIES, INVARIANTS);
    let (_hangs, hangs) = program("exec sleep 1000");
    let (_rubbish, rubbish) = program("while read -r line; do echo rubbish; done");
    let (_ends, ends) = program("exit 1");
    // Says that there is a counterexample to everything, and shows one that is none.
    let (_liar, liar) = program(
        "while read -r line; do case \"$line\" in *check-sat*) echo sat;; *get-model*) echo '()';; *set-*|*declare*|*define*|*assert*) echo success;; esac; done",
    );
    for (what, solver) in
        [("missing", "/nowhere/cvc5"), ("hangs", &hangs), ("rubbish", &rubbish), ("ends", &ends), ("lies", &liar)]
    {
        let began = Instant::now();
        let output = prove(folder.path(), &["--solver", solver, "--timeout", "1", "--output", "json", "--write"]).await;
        assert_eq!(output.code(), 4, "{what}: {output:#?}");
        assert_eq!(verdicts(&output.json()), ["proved", "not_proved", "proved"], "{what}: {output:#?}");
        assert!(!folder.path().join("proof.json").exists(), "{what}");
        assert!(began.elapsed() < Duration::from_secs(120), "{what}");
    }
    let missing = prove(folder.path(), &["--solver", "/nowhere/cvc5"]).await;
    assert!(missing.stdout.contains("apt-get install cvc5"), "{missing:#?}");
}

/// What is in invariants.yaml in place of the first invariant's fields, and what has to be said about it and where.
const WRONG: &[(&str, &str, &[&str])] = &[
    (
        "principals: '!(principal in Stage::\"archiver\")'",
        "principal: principal in Stage::\"archiver\"",
        &["unknown key `principal`", "did you mean `principals`?", ":6:7"],
    ),
    (
        "action in Action::\"delete\"",
        "action in Action::\"delet\"",
        &["there is no action `Action::\"delet\"`", "did you mean `Action::\"delete\"`?", ":7:26"],
    ),
    (
        "action in Action::\"delete\"",
        "[Action::\"delete\"]",
        &["`actions` is not one Cedar expression", "action in [Action::\"delete\""],
    ),
    ("action in Action::\"delete\"", "Action::\"delete\"", &["says nothing of `action`", ":7:16"]),
    (
        "resource in Bucket::\"lake/raw\"",
        "resource in Buket::\"lake/raw\"",
        &["Buket", "did you mean `Bucket`?", ":8:30"],
    ),
    ("resource in Bucket::\"lake/raw\"", "resource in Bucket::\"lake\"", &["ENDPOINT/BUCKET", ":8:30"]),
    (
        "resource in Bucket::\"lake/raw\"",
        "principal in Stage::\"archiver\"",
        &["`resources` speaks of `principal`", "`when`"],
    ),
    ("resource in Bucket::\"lake/raw\"", "resource in Bucket::", &[":8:"]),
    (
        "resource in Bucket::\"lake/raw\"",
        "resource is HttpPath && resource in Bucket::\"lake/raw\"",
        &["invariant `deleted-by-the-archiver-alone` can never match"],
    ),
    ("resources: resource in Bucket::\"lake/raw\"", "when: context.hots == \"x\"", &["hots", ":8:13"]),
    ("never:\n      principals", "nevr:\n      principals", &["unknown key `nevr`", "did you mean `never`?", ":5:5"]),
    ("name: deleted-by-the-archiver-alone", "name: read-from-within", &["name `read-from-within` is taken"]),
    ("reason: it is the only copy", "reason: [a]", &["`reason` is not text"]),
    ("invariants:", "invariant:", &["unknown key `invariant`", "has no list `invariants`"]),
];

#[tokio::test]
async fn invariants_that_are_not_right_are_said_to_be_with_their_place() {
    for (from, to, said) in WRONG {
        assert!(INVARIANTS.contains(from), "{from}");
        let folder = directory(POLICIES, &INVARIANTS.replacen(from, to, 1));
        let output = prove(folder.path(), &[]).await;
        assert_eq!(output.code(), 3, "{to}: {output:#?}");
        let stderr = output.stderr.replace("\n  │ ", " ").replace("\n  │", "");
        for part in *said {
            assert!(stderr.contains(part), "{to}\ndoes not say `{part}`:\n{}", output.stderr);
        }
    }
    let folder = directory(POLICIES, INVARIANTS);
    fs::remove_file(folder.path().join("invariants.yaml")).expect("is there");
    let output = prove(folder.path(), &[]).await;
    assert_eq!(output.code(), 3, "{output:#?}");
    assert!(output.stderr.contains("there are no invariants to be proved"), "{output:#?}");
}

#[tokio::test]
async fn an_invariant_about_what_does_not_exist_holds_and_is_warned_of() {
    for (from, to, said) in [
        (
            "resource in Bucket::\"lake/raw\"",
            "resource in Bucket::\"lake/rwa\"",
            "did you mean `Bucket::\"lake/raw\"`?",
        ),
        (
            "'!(principal in Stage::\"archiver\")'",
            "principal in Stage::\"ingets\"",
            "did you mean `Stage::\"ingest\"`?",
        ),
    ] {
        let folder = directory(POLICIES, &INVARIANTS.replacen(from, to, 1));
        let output = prove(folder.path(), &[]).await;
        assert_eq!(output.code(), 0, "{output:#?}");
        assert!(output.stderr.replace("\n  │ ", " ").contains(said), "{said}: {output:#?}");
    }
    let folder = directory(
        POLICIES,
        &INVARIANTS.replacen("'!(principal in Stage::\"archiver\")'", "principal in Stage::\"nobody\"", 1),
    );
    let output = prove(folder.path(), &["--output", "json"]).await;
    let json = output.json();
    assert_eq!(
        (&json["invariants"][0]["vacuous"], &json["invariants"][1]["vacuous"]),
        (&json!(true), &json!(false)),
        "{json:#}"
    );
}

/// The folder of a bundle's copy on disk has no policies: of none nearly anything holds.
#[tokio::test]
async fn of_a_bundle_the_policies_in_it_are_proved() {
    let at = Bundles::new().await;
    let never = |method: &str| {
        format!("invariants: [{{name: never, never: {{actions: 'action == Action::\"http:{method}\"'}}}}]\n")
    };
    let reads = "@id(\"p\") permit (principal, action == Action::\"http:GET\", resource in Endpoint::\"endpoint\");\n";
    at.server.serve(at.signer.bundle(7, reads));
    let service = at.sidecar("").start().await;
    in_force(&service, 7).await;
    let config = service.directory().join("portcullis.yaml").display().to_string();
    for (method, code) in [("PUT", 0), ("GET", 2)] {
        let file = at.world.write("invariants.yaml", &never(method)).display().to_string();
        let output = policy(&["prove", "--config", &config, "--invariants", &file]).await;
        assert_eq!(output.code(), code, "{method}: {output:#?}");
    }
    let none = policy(&["prove", "--config", &config]).await;
    assert_eq!(none.code(), 3, "{none:#?}");
    assert!(none.stderr.contains("there are no invariants to be proved"), "{none:#?}");
    // A bundle may bring its own. What is signed is not written to.
    fs::write(at.signer.folder.join("invariants.yaml"), never("GET")).expect("is writable");
    at.server.serve(at.signer.bundle(8, reads));
    in_force(&service, 8).await;
    service.stop().await;
    assert_eq!(policy(&["prove", "--config", &config]).await.code(), 2);
    let write = policy(&["prove", "--config", &config, "--write"]).await;
    assert_eq!(write.code(), 1, "{write:#?}");
    assert!(write.stderr.contains("prove it before `policy bundle` packs it"), "{write:#?}");
}

#[tokio::test]
async fn a_required_proof_is_of_these_policies_entities_and_invariants() {
    let (world, upstream) = (World::new(), Recorder::start());
    let policies = world.folder("service/policies");
    let allow =
        "@id(\"p\") permit (principal in TrustDomain::\"one.test\", action, resource in Endpoint::\"endpoint\");\n";
    let weak =
        "invariants: [{name: a, never: {principals: '!(principal is Workload in TrustDomain::\"one.test\")'}}]\n";
    let write = |name: &str, text: &str| fs::write(policies.join(name), text).expect("the folder is writable");
    write("test.cedar", allow);
    write("entities.json", "[]");
    write("invariants.yaml", weak);
    let plan = || {
        let plan = world.sidecar("service").yaml("reload_interval: 100ms").policy_yaml("require_proof: true");
        plan.inbound("endpoint", "http", &upstream.url(), "")
    };
    let unproved = plan().run_to_end().await;
    assert_eq!(unproved.code(), 3, "{unproved:#?}");
    assert!(unproved.stderr.contains("there is no `proof.json`"), "{unproved:#?}");
    assert!(unproved.stderr.contains("portcullis policy prove"), "{unproved:#?}");
    let checked = plan().check().await;
    assert_ne!(checked.code(), 0, "{checked:#?}");
    assert!(checked.stderr.contains("there is no `proof.json`"), "{checked:#?}");

    let proved = prove(&policies, &["--write"]).await;
    assert_eq!(proved.code(), 0, "{proved:#?}");
    let service = plan().start().await;
    let digest = service.status().await["policy"]["digest"].clone();
    let refused = async |what: &str| {
        let said = |status: &Value| status["policy"]["last_error"].as_str().is_some_and(|error| error.contains(what));
        let status = service.status_with(what, said).await;
        assert_eq!(status["policy"]["digest"], digest, "{what}: {status:#}");
    };
    let good = async || {
        service.status_with("good", |status| status["policy"]["last_error"].is_null()).await["policy"]["digest"].clone()
    };

    // Other policies, other entities, weaker invariants, none at all: the last good policies stay.
    write("test.cedar", &allow.replace("one.test", "two.test"));
    refused("proof is of other policies").await;
    write("test.cedar", allow);
    assert_eq!(good().await, digest);
    write(
        "entities.json",
        "[{\"uid\": {\"type\": \"Workload\", \"id\": \"spiffe://two.test/a\"}, \"tags\": {\"a\": [\"b\"]}}]",
    );
    refused("proof is of other policies").await;
    write("entities.json", "[]");
    assert_eq!(good().await, digest);
    write("invariants.yaml", &weak.replace("one.test", "two.test"));
    refused("proof is of other invariants").await;
    fs::remove_file(policies.join("invariants.yaml")).expect("is there");
    refused("proof is of invariants that are gone").await;
    write("invariants.yaml", weak);
    assert_eq!(good().await, digest);
    write("proof.json", "{}");
    refused("file is no proof").await;

    // What is proved again comes into force.
    write("test.cedar", &allow.replace("\"p\"", "\"q\""));
    let proved = prove(&policies, &["--write"]).await;
    assert_eq!(proved.code(), 0, "{proved:#?}");
    let status = service.status_with("new", |status| status["policy"]["digest"] != digest).await;
    assert!(status["policy"]["last_error"].is_null(), "{status:#}");

    // A refuted invariant leaves no proof of what stands there.
    write("test.cedar", &allow.replace("principal in TrustDomain::\"one.test\"", "principal"));
    let refuted = prove(&policies, &["--write"]).await;
    assert_eq!(refuted.code(), 2, "{refuted:#?}");
    let config = world.path().join("service/portcullis.yaml").display().to_string();
    let validated = policy(&["validate", "--config", &config]).await;
    assert_eq!(validated.code(), 3, "{validated:#?}");
    assert!(validated.stderr.contains("proof is of other policies"), "{validated:#?}");
    service.stop().await;
}

// --------------------------------------------------------------------------------------------------------------------- lints

const LINTED: &str = r#"@id("everything")
permit (principal, action, resource);
@id("admin-for-all")
permit (principal in TrustDomain::"one.example", action in [Action::"read", Action::"admin"], resource in Bucket::"lake/raw");
@id("admin-on-all")
permit (principal in Stage::"archiver", action in Action::"admin", resource);
@id("anybody")
permit (principal, action in Action::"read", resource in Bucket::"lake/open");
@id("contradicts")
permit (principal in Stage::"ingest", action in Action::"write", resource in Bucket::"lake/raw")
when { context.now > datetime("2027-01-01") && context.now < datetime("2026-01-01") };
@id("hidden")
permit (principal in Stage::"ingest", action == Action::"s3:DeleteObject", resource in Bucket::"lake/raw");
@id("hides")
forbid (principal, action in Action::"delete", resource in Bucket::"lake/raw");
@id("overflows")
permit (principal in Stage::"ingest", action == Action::"s3:PutObject", resource in Bucket::"lake/raw")
when { context has contentLength && context.contentLength * 8 < 1000 };
@id("fine")
permit (principal in Stage::"ingest", action == Action::"s3:PutObject", resource in Bucket::"lake/raw")
when { context has contentLength && context.contentLength < 1000 && context.contentLength * 8 < 7000 };
"#;

fn linted(policies: &str) -> tempfile::TempDir {
    let folder = directory(policies, INVARIANTS);
    fs::remove_file(folder.path().join("invariants.yaml")).expect("is there");
    folder
}

async fn lint(directory: &Path, more: &[&str]) -> Output {
    policy(&[&["lint", "--policies", &directory.display().to_string()], more].concat()).await
}

#[tokio::test]
async fn what_is_seldom_meant_is_found_and_what_is_meant_is_not() {
    let folder = linted(LINTED);
    let output = lint(folder.path(), &["--format", "json"]).await;
    assert_eq!(output.code(), 2, "{output:#?}");
    let json = output.json();
    let found: Vec<(String, String, u64)> = json["findings"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|finding| {
            let text = |name: &str| finding[name].as_str().expect("a text").to_owned();
            (text("rule"), text("policy"), finding["line"].as_u64().expect("a line"))
        })
        .collect();
    let expected = [
        ("unconstrained", "everything", 2),
        ("wide-admin", "admin-for-all", 4),
        ("wide-admin", "admin-on-all", 6),
        ("any-principal", "anybody", 8),
        ("never-matches", "contradicts", 10),
        ("shadowed", "hidden", 13),
        ("can-error", "overflows", 17),
    ];
    let found: Vec<(&str, &str, u64)> = found.iter().map(|(rule, policy, line)| (&**rule, &**policy, *line)).collect();
    assert_eq!(found, expected, "{json:#}");
    assert_eq!(json["not_checked"], json!([]), "{json:#}");

    // Actions that no policy names are not told apart, and some of them administer.
    let any = r#"@id("any") permit (principal in TrustDomain::"one.example", action, resource in Bucket::"lake/raw");"#;
    let any = lint(linted(any).path(), &[]).await;
    assert_eq!(any.code(), 2, "{any:#?}");
    let said = "policy `any` permits `s3:BypassGovernanceRetention`, `s3:CreateBucketMetadataTableConfiguration`";
    assert!(any.stdout.contains(said) && any.stdout.contains("[wide-admin]"), "{}", any.stdout);
    assert!(any.stdout.ends_with("\n1 error"), "{}", any.stdout);
    let some = r#"@id("some") permit (principal in TrustDomain::"one.example", action in [Action::"read", Action::"write"], resource in Bucket::"lake/raw");"#;
    assert_eq!(lint(linted(some).path(), &[]).await.code(), 0);

    let good = LINTED.lines().skip(18).collect::<Vec<_>>().join("\n");
    let nothing = lint(linted(&good).path(), &[]).await;
    assert_eq!((nothing.code(), nothing.stdout.as_str()), (0, "nothing found"), "{nothing:#?}");
    // Only errors count, and there are none.
    let warned = LINTED.lines().skip(11).collect::<Vec<_>>().join("\n");
    let warned = linted(&warned);
    assert_eq!(lint(warned.path(), &["--deny", "error"]).await.code(), 0);
    assert_eq!(lint(warned.path(), &["--deny", "warning"]).await.code(), 2);
}

#[tokio::test]
async fn what_needs_a_solver_is_said_to_be_not_checked_without_one() {
    // Actions that no policy names are not told apart, and some of them administer.
    let any = r#"@id("any") permit (principal in TrustDomain::"one.example", action, resource in Bucket::"lake/raw");"#;
    let any = lint(linted(any).path(), &[]).await;
    assert_eq!(any.code(), 2, "{any:#?}");
    let said = "policy `any` permits `s3:BypassGovernanceRetention`, `s3:CreateBucketMetadataTableConfiguration`";
    assert!(any.stdout.contains(said) && any.stdout.contains("[wide-admin]"), "{}", any.stdout);
    assert!(any.stdout.ends_with("\n1 error"), "{}", any.stdout);
    let some = r#"@id("some") permit (principal in TrustDomain::"one.example", action in [Action::"read", Action::"write"], resource in Bucket::"lake/raw");"#;
    assert_eq!(lint(linted(some).path(), &[]).await.code(), 0);

    let good = LINTED.lines().skip(18).collect::<Vec<_>>().join("\n");
    let folder = linted(&good);
    let output = lint(folder.path(), &["--solver", "/nowhere/cvc5"]).await;
    assert_eq!(output.code(), 4, "{output:#?}");
    assert!(output.stdout.contains("not checked: can-error of policy `fine`"), "{output:#?}");
    // What was found is worse than what was not looked at.
    assert_eq!(lint(linted(LINTED).path(), &["--solver", "/nowhere/cvc5"]).await.code(), 2);
    for name in ["break-glass", "deny-by-default", "http-service", "humans", "partners", "storage", "warehouse"] {
        let output = lint(&shipped(name), &["--deny", "error"]).await;
        assert_eq!(output.code(), 0, "{name}: {output:#?}");
    }
}

#[tokio::test]
async fn sarif_says_where_each_finding_stands() {
    let folder = linted(LINTED);
    let output = lint(folder.path(), &["--format", "sarif", "--solver", "/nowhere/cvc5"]).await;
    let sarif = output.json();
    assert_eq!(sarif["version"], "2.1.0");
    let run = &sarif["runs"][0];
    let rules = run["tool"]["driver"]["rules"].as_array().expect("rules");
    let results = run["results"].as_array().expect("results");
    assert!(!results.is_empty());
    for result in results {
        let rule = &rules[usize::try_from(result["ruleIndex"].as_u64().expect("an index")).expect("small")];
        assert_eq!(rule["id"], result["ruleId"]);
        assert!(["error", "warning", "note"].contains(&result["level"].as_str().expect("a level")));
        assert!(result["message"]["text"].is_string());
        let place = &result["locations"][0]["physicalLocation"];
        let uri = place["artifactLocation"]["uri"].as_str().expect("a URI");
        let path = uri.strip_prefix("file://").expect("absolute");
        let line = usize::try_from(place["region"]["startLine"].as_u64().expect("a line")).expect("small");
        let text = fs::read_to_string(path).expect("the file is there");
        let line = text.lines().nth(line - 1).expect("the line is there");
        assert!(line.starts_with("permit"), "{line}");
        assert_eq!(place["region"]["startColumn"], 1);
    }
    // What was not checked is no result, and no success either.
    let invocation = &run["invocations"][0];
    assert_eq!(invocation["executionSuccessful"], false);
    assert!(
        invocation["toolExecutionNotifications"][0]["message"]["text"]
            .as_str()
            .is_some_and(|text| text.contains("cvc5")),
        "{sarif:#}"
    );
    let whole = lint(folder.path(), &["--format", "sarif"]).await.json();
    assert_eq!(whole["runs"][0]["invocations"][0]["executionSuccessful"], true, "{whole:#}");
}
