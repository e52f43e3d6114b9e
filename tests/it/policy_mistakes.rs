//! The commonest mistakes in policies, wherever an operator meets what is said about them. `docs/policy-mistakes.md` shows many more, as
//! `policy validate` prints them, and is held by `pages.rs`.

use std::fs;

use serde_json::json;

use crate::support::*;

/// A mistake, where it is, and what has to be written instead. The endpoints are `lake` (S3) and `api` (HTTP).
const MISTAKES: [(&str, &str, &str); 6] = [
    (
        "@id(\"p\")\npermit (principal in Stage::\"transform\", action == Action::\"s3:GetObjects\", resource in Bucket::\"lake/raw\");\n",
        "lake.cedar:2:52",
        "did you mean `Action::\"s3:GetObject\"`?",
    ),
    (
        "@id(\"p\")\npermit (principal in Stage::\"transform\", action in Action::\"read\", resource in Bucket::\"raw\");\n",
        "lake.cedar:2:80",
        "write `Bucket::\"lake/raw\"`",
    ),
    (
        "@id(\"p\")\npermit (principal in Stage::\"transform\", action == Action::\"s3:PutObject\", resource in Bucket::\"lake/raw\")\n\
         when { context.encryption == \"aws:kms\" };\n",
        "lake.cedar:3:8",
        "it may not be there: ask first, `context has encryption && context.encryption == \"aws:kms\"`",
    ),
    (
        "@id(\"p\")\npermit (principal in Stage::\"transform\", action == Action::\"s3:GetObject\", resource in Bucket::\"lake/raw\")\n\
         when { resource like \"lake/raw/in/*\" };\n",
        "lake.cedar:3:8",
        "For everything below write `resource in Prefix::\"lake/raw/in\"`",
    ),
    (
        "@id(\"p\")\npermit (principal in Stage::\"transform\", action == Action::\"http:GET\", resource in HttpPath::\"/orders\");\n",
        "lake.cedar:2:84",
        "write `HttpPath::\"api/orders\"`",
    ),
    (
        "@id(\"p\")\npermit (principal in Stage::\"transform\", action in Action::\"read\", resource in Bucket::\"lake/raw\")\n",
        "lake.cedar:2:99",
        "a `;` is missing at the end of the policy that begins on line 1",
    ),
];

/// Not an error, but seldom meant.
const OPEN: (&str, &str, &str) = (
    "@id(\"p\")\npermit (principal, action in Action::\"read\", resource in Bucket::\"lake/raw\");\n",
    "lake.cedar:2:1",
    "say who: `principal in Stage::\"transform\"`",
);

fn entities() -> serde_json::Value {
    json!([{ "uid": { "type": "Workload", "id": "spiffe://pipeline.example/ns/etl/sa/transform" },
             "parents": [{ "type": "Stage", "id": "transform" }] }])
}

fn lake(world: &World, policy: &str) -> SidecarPlan {
    let plan =
        world.sidecar("lake").yaml("reload_interval: 100ms").entities(&entities()).policy_file("lake.cedar", policy);
    plan.inbound("lake", "s3", "http://127.0.0.1:1", "").inbound("api", "http", "http://127.0.0.1:1", "")
}

/// As a report has it, with the place beside the source, or as one line.
fn holds(said: &str, place: &str, advice: &str) {
    assert!(said.contains(place) && said.contains(advice), "no {place} with `{advice}` in\n{said}");
}

#[tokio::test]
async fn the_commonest_mistakes_say_what_to_write_before_and_at_the_start() {
    let world = World::new();
    for (policy, place, advice) in MISTAKES {
        let checked = lake(&world, policy).check().await;
        assert_eq!(checked.code(), 3, "{checked:#?}");
        holds(&checked.stderr, place, advice);
        let started = lake(&world, policy).run_to_end().await;
        assert_eq!(started.code(), 3, "{started:#?}");
        holds(&started.stderr, place, advice);

        let folder = world.folder("cases");
        fs::write(folder.join("lake.cedar"), policy).expect("the folder is writable");
        fs::write(folder.join("entities.json"), entities().to_string()).expect("the folder is writable");
        let cases = "endpoints: { lake: s3, api: http }\ncases: [{ name: a, as: 'spiffe://a.test/a', request: GET s3://lake/raw/a, expect: allowed }]\n";
        fs::write(folder.join("cases.yaml"), cases).expect("the folder is writable");
        let tested = Process::run("policy test", portcullis().args(["policy", "test"]).arg(&folder), "").await;
        assert_eq!(tested.code(), 3, "{tested:#?}");
        holds(&tested.stderr, place, advice);
        let validate = ["policy", "validate", "--output", "json", "--policies"];
        let validated = Process::run("policy validate", portcullis().args(validate).arg(&folder), "").await;
        assert_eq!(validated.code(), 3, "{validated:#?}");
        assert!(validated.json()["problems"][0]["help"].is_string(), "{validated:#?}");
    }
}

#[tokio::test]
async fn a_running_sidecar_says_in_log_and_status_what_to_write_and_goes_on() {
    let world = World::new();
    let good = "@id(\"good\")\npermit (principal in Stage::\"transform\", action in Action::\"read\", resource in Bucket::\"lake/raw\");\n";
    let service = lake(&world, good).start().await;
    for (policy, place, advice) in MISTAKES {
        service.replace("policies/lake.cedar", policy);
        let wrong =
            |status: &serde_json::Value| status["policy"]["last_error"].as_str().unwrap_or_default().contains(advice);
        let status = service.status_with(place, wrong).await;
        holds(status["policy"]["last_error"].as_str().expect("it is a text"), place, advice);
        assert_eq!(status["policy"]["generation"], 1, "{status:#}");
        // The log writes quotes in its own way.
        service.logged(advice.split('"').next().unwrap_or_default()).await;
    }
    let (policy, place, advice) = OPEN;
    service.replace("policies/lake.cedar", policy);
    let in_force = |status: &serde_json::Value| status["policy"]["generation"] == 2;
    let status = service.status_with("the open policy", in_force).await;
    holds(status["policy"]["warnings"][0].as_str().expect("it is a text"), place, advice);
    service.stop().await;
}

#[tokio::test]
async fn a_permit_for_everybody_is_a_warning_everywhere() {
    let world = World::new();
    let (policy, place, advice) = OPEN;
    let checked = lake(&world, policy).check().await;
    assert_eq!(checked.code(), 0, "{checked:#?}");
    holds(&checked.stdout, place, advice);
    let service = lake(&world, policy).start().await;
    let logged = service.logged("policies are in force with a warning").await;
    assert!(logged.contains(place) && logged.contains("say who"), "{logged}");
    service.stop().await;
    // The allowed twin: who says who is not warned.
    let bounded = policy.replace("principal,", "principal in Stage::\"transform\",");
    let checked = lake(&world, &bounded).check().await;
    assert!(!checked.stdout.contains("note  policy"), "{}", checked.stdout);
}
