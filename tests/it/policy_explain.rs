//! `portcullis policy explain`: what a client was told, a request, an action, a SQL text.

use http::StatusCode;
use serde_json::Value;

use crate::support::*;

async fn explain(arguments: &[&str]) -> Output {
    let mut command = portcullis();
    command.args(["policy", "explain"]).args(arguments);
    Process::run(&format!("explain {}", arguments.join(" ")), &mut command, "").await
}

fn path(path: &std::path::Path) -> String {
    path.display().to_string()
}

const POLICIES: &str = r#"
@id("app-reads-orders")
@reason("orders are for the app")
@owner("team-orders")
@runbook("https://wiki.example/orders")
permit (principal == Workload::"spiffe://pipeline.example/ns/test/sa/app", action in Action::"read", resource in HttpPath::"endpoint/orders")
when { context has host && context.host == "service.example" };

@id("nothing-is-deleted")
forbid (principal, action in Action::"delete", resource);
"#;

#[tokio::test]
async fn a_decision_that_a_client_was_told_is_explained_from_its_record() {
    let (world, upstream) = (World::new(), Recorder::start());
    let service = world.sidecar("service").policies(POLICIES);
    let service = service.inbound("endpoint", "http", &upstream.url(), "").start().await;
    let svid = world.ca.issue("/ns/test/sa/app");
    let stream = TlsClient::with(&svid).connect(service.inbound("endpoint")).await.expect("the handshake succeeds");
    let mut app = http1(stream).await;
    let denied = app.send(request("GET", "other.example", "/orders/1", &[], "")).await;
    let forbidden = app.send(request("DELETE", "service.example", "/orders/1", &[], "")).await;
    assert_eq!((denied.status, forbidden.status), (StatusCode::FORBIDDEN, StatusCode::FORBIDDEN));
    upstream.assert_untouched();
    let allowed = app.send(request("GET", "service.example", "/orders/1", &[], "")).await;
    assert_eq!(allowed.status, StatusCode::OK);
    let allowed = service.records.with_outcome("allowed").await;

    let config = path(&service.directory().join("portcullis.yaml"));
    let output = explain(&[denied.decision(), "--config", &config]).await;
    assert_eq!(output.code(), 2, "{output:#?}");
    for said in [
        "denied: not_permitted",
        "in HttpPath::\"endpoint/orders\", Endpoint::\"endpoint\"",
        "app-reads-orders (permit, ",
        "@reason: orders are for the app",
        "@owner: team-orders",
        "@runbook: https://wiki.example/orders",
        "no   when context.host == \"service.example\"",
        "`context.host` is \"other.example\"",
        "resource == HttpPath::\"endpoint/orders/1\"",
        "says `not_permitted`",
    ] {
        assert!(output.stdout.contains(said), "no `{said}`:\n{}", output.stdout);
    }
    // A request is judged by the settings of its listener.
    let id = world.id("app");
    for (request, code, said) in [
        ("GET http://endpoint/orders/1", 2, "no   when context.host == \"service.example\""),
        ("GET http://endpont/orders/1", 1, "the configuration has no listener `endpont`, did you mean `endpoint`?"),
        ("GET s3://endpoint/orders/1", 1, "the listener `endpoint` has `protocol: http`, not s3"),
    ] {
        let output = explain(&["--config", &config, "--as", &id, "--request", request]).await;
        assert_eq!(output.code(), code, "{output:#?}");
        assert!(output.stdout.contains(said) || output.stderr.contains(said), "no `{said}`: {output:#?}");
    }
    let output = explain(&[forbidden.decision(), "--config", &config, "--output", "json"]).await;
    assert_eq!(output.code(), 2, "{output:#?}");
    let json: Value = output.json();
    assert_eq!(
        (&json["outcome"], &json["operations"][0]["decided_by"][0]),
        (&"forbidden".into(), &"nothing-is-deleted".into())
    );
    assert_eq!(json["operations"][0]["smallest_permit"], Value::Null);

    let id = allowed["decision_id"].as_str().expect("it has one");
    let output = explain(&[id, "--config", &config]).await;
    assert_eq!(output.code(), 0, "{output:#?}");
    assert!(output.stdout.contains("| permit (principal == Workload::"), "{}", output.stdout);
    // Other policies, other answer, and it says that they are others.
    let candidate = world.folder("candidate");
    std::fs::write(candidate.join("none.cedar"), "@id(\"none\") forbid (principal, action, resource);")
        .expect("it is writable");
    let output = explain(&[id, "--config", &config, "--policies", &path(&candidate)]).await;
    assert_eq!(output.code(), 2, "{output:#?}");
    assert!(output.stdout.contains("other policies decided then"), "{}", output.stdout);
    service.stop().await;
}

#[tokio::test]
async fn requests_and_actions_are_explained_without_any_sidecar() {
    let repository = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let policies = path(&repository.join("policies/storage"));
    let transform = "spiffe://pipeline.example/ns/etl/sa/transform";
    let get = ["--policies", &policies, "--as", transform, "--request", "GET s3://lake/raw/ingest/a.parquet"];
    let output = explain(&get).await;
    assert_eq!((output.code(), output.stdout.lines().next()), (0, Some("allowed")), "{output:#?}");
    let other = ["--policies", &policies, "--as", transform, "--request", "GET s3://lake/curated/a.parquet"];
    let output = explain(&other).await;
    assert_eq!(output.code(), 2, "{output:#?}");
    let clause = "no   resource in Bucket::\"lake/raw\"\n             resource is in `Bucket::\"lake/curated\"`";
    assert!(output.stdout.contains(clause), "{}", output.stdout);

    let principal = format!("Workload::\"{transform}\"");
    let put = |context: &'static str| {
        let (policies, principal) = (policies.clone(), principal.clone());
        async move {
            let resource = "Object::\"lake/curated/a\"";
            let action = "Action::\"s3:PutObject\"";
            explain(&[
                "--policies",
                &policies,
                "--principal",
                &principal,
                "--action",
                action,
                "--resource",
                resource,
                "--context",
                context,
            ])
            .await
        }
    };
    assert_eq!(put(r#"{"encryption": "aws:kms"}"#).await.code(), 0);
    let output = put(r#"{"encryption": "AES256"}"#).await;
    assert_eq!(output.code(), 2, "{output:#?}");
    assert!(output.stdout.contains("`context.encryption` is \"AES256\""), "{}", output.stdout);

    for (arguments, code, said) in [
        (&["--policies", &policies][..], 1, "what is to be explained?"),
        (&["--policies", &policies, "--as", "transform", "--request", "GET s3://lake/a/b"], 1, "`--as transform`"),
        (&["--policies", &policies, "--as", transform, "--request", "GET lake/a/b"], 1, "s3://"),
        (
            &["--policies", &policies, "--as", transform, "--action", "s3:GetObjct", "--resource", "Object::\"a/b/c\""],
            1,
            "did you mean `s3:GetObject`?",
        ),
        (
            &["--policies", &policies, "--as", transform, "--action", "s3:GetObject", "--resource", "Objct::\"a/b/c\""],
            1,
            "is no resource",
        ),
        (&["--policies", &policies, "01NOSUCH"], 1, "--audit FILE"),
        (&["--policies", "/nonexistent", "--as", transform, "--request", "GET s3://lake/a/b"], 3, "/nonexistent"),
    ] {
        let output = explain(arguments).await;
        assert_eq!(output.code(), code, "{arguments:?}\n{output:#?}");
        assert!(output.stderr.contains(said), "{arguments:?} does not say `{said}`:\n{}", output.stderr);
    }
}

#[tokio::test]
async fn a_sql_text_is_explained_with_the_tables_that_the_database_has() {
    let world = World::new();
    let house = world.warehouse(&format!("{}@id(\"no-ssn\") permit (principal, action == Action::\"sql:Select\", resource in Schema::\"wh/{DATABASE}.public\") unless {{ context.columns.contains(\"ssn\") }};", only(&[])), "").await;
    let config = path(&house.inbound.directory().join("portcullis.yaml"));
    let app = world.id("app");
    let ask = |text: &'static str| {
        let (config, app) = (config.clone(), app.clone());
        async move {
            explain(&[
                "--config",
                &config,
                "--as",
                &app,
                "--endpoint",
                WAREHOUSE,
                "--database",
                DATABASE,
                "--sql",
                text,
            ])
            .await
        }
    };
    let output = ask("SELECT name FROM people").await;
    assert_eq!(output.code(), 0, "{output:#?}");
    let output = ask("SELECT * FROM people").await;
    assert_eq!(output.code(), 2, "{output:#?}");
    assert!(output.stdout.contains("no   unless context.columns.contains(\"ssn\")"), "{}", output.stdout);
    assert!(output.stdout.contains("Table::\"wh/analytics.public.people\""), "{}", output.stdout);
    let output = ask("SELECT * FROM nowhere").await;
    assert_eq!(output.code(), 2, "{output:#?}");
    assert!(output.stdout.contains("42P01"), "{}", output.stdout);

    // What the database says can be taken along: to cases, and to where it cannot be asked.
    let mut command = portcullis();
    command.args(["policy", "catalog", "--config", &config, "--endpoint", WAREHOUSE, "--database", DATABASE]);
    let written = Process::run("policy catalog", &mut command, "").await;
    assert_eq!(written.code(), 0, "{}", written.stderr);
    let policies = house.inbound.directory().join("policies");
    house.stop().await;
    std::fs::write(policies.join("analytics.tsv"), &written.stdout).expect("the folder is writable");
    let catalog = path(&policies.join("analytics.tsv"));
    let policies = path(&policies);
    let offline = |text: &'static str, context: &'static str| {
        let (policies, catalog, app) = (policies.clone(), catalog.clone(), app.clone());
        async move {
            let database = ["--endpoint", WAREHOUSE, "--database", DATABASE, "--role", "admin_role"];
            let asked =
                ["--policies", &policies, "--as", &app, "--sql", text, "--catalog", &catalog, "--context", context];
            explain(&[&asked[..], &database].concat()).await
        }
    };
    for (text, context, code, said) in [
        ("SELECT name FROM people", "{}", 0, "allowed"),
        ("SELECT * FROM events_2026", "{\"sourceIp\": \"10.1.2.3\"}", 0, "sourceIp: 10.1.2.3"),
        ("SELECT * FROM people", "{}", 2, "no   unless context.columns.contains(\"ssn\")"),
        ("SELECT * FROM people", "{}", 2, "[\"id\", \"name\", \"ssn\"].containsAll(context.columns)"),
        ("SELECT * FROM nowhere", "{}", 2, "42P01"),
    ] {
        let output = offline(text, context).await;
        assert_eq!(output.code(), code, "{text}: {output:#?}");
        assert!(output.stdout.contains(said), "{text}: no `{said}`:\n{}", output.stdout);
    }
    let output = offline("SELECT 1", "{\"role\": \"x\"}").await;
    assert_eq!(output.code(), 1, "{output:#?}");
    let cases = format!(
        "databases: {{ {WAREHOUSE}/{DATABASE}: {{ role: admin_role, catalog: analytics.tsv }} }}\ncases:\n  - {{ name: n, as: '{app}', sql: 'SELECT ssn FROM people', expect: not_permitted }}\n  \
         - {{ name: o, as: '{app}', sql: 'TABLE people_names', expect: allowed }}\n"
    );
    std::fs::write(std::path::Path::new(&policies).join("cases.yaml"), cases).expect("the folder is writable");
    let mut command = portcullis();
    let test = Process::run("policy test", command.args(["policy", "test", &policies]), "").await;
    assert_eq!(test.code(), 0, "{test:#?}");
}
