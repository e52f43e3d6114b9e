//! Directories: entities, schemas, candidates, reloads.

use super::*;

#[test]
fn a_policy_in_shadow_mode_is_tried_and_never_enforced() {
    let directory = directory(&[(
        "a.cedar",
        "@id(\"tried\") @mode(\"shadow\") permit (principal, action == Action::\"http:GET\", resource);
         @id(\"in-force\") @ticket(\"OPS-1\") permit (principal, action == Action::\"http:PUT\", resource);
         @id(\"errs\") @mode(\"shadow\") forbid (principal, action == Action::\"http:PUT\", resource) when { 9223372036854775807 + 1 == 0 };",
    )]);
    let generation = PolicyGeneration::load(&PolicySource::of(directory.path()), 1).expect("loads");
    let principal = generation.principal(&SpiffeId::parse("spiffe://a.example/x").expect("an ID"));
    let mut facts = Context::default();
    facts.set("now", Value::Datetime(0));
    facts.set("direction", "inbound");
    let tried = |method: &'static str| {
        let mut context = Context::default();
        context.set("headers", Value::Headers(Vec::new()));
        let operation = Operation { action: Action::http(method), resource: Resource::http_path("api", "/x"), context };
        let decided = generation.decide(&principal, &operation, &facts);
        let trials = generation.trials(&principal, std::iter::once(&operation), &facts);
        assert_eq!(trials.len(), 1);
        let trial = &trials[0].decisions[0];
        ((decided.outcome, decided.policies), (trial.outcome, trial.policies.clone()))
    };
    let by = |id: &str| vec![Arc::<str>::from(id)];
    assert_eq!(tried("GET"), ((Outcome::NotPermitted, vec![]), (Outcome::Allowed, by("tried"))));
    assert_eq!(tried("PUT"), ((Outcome::Allowed, by("in-force")), (Outcome::Error, by("errs"))));
    assert_eq!(tried("POST"), ((Outcome::NotPermitted, vec![]), (Outcome::NotPermitted, vec![])));
}

#[test]
fn a_candidate_that_does_not_load_takes_nothing_from_what_is_in_force() {
    let allow = "@id(\"allow\") permit (principal, action, resource);";
    let (active, candidate) = (directory(&[("a.cedar", allow)]), directory(&[("a.cedar", "permit (")]));
    let source = PolicySource { shadow: Some(candidate.path().to_owned()), ..PolicySource::of(active.path()) };
    let store = PolicyStore::open(source).expect("the active ones load");
    let now = store.current();
    assert!(!now.has_candidates() && now.shadow_fault().is_some_and(|fault| fault.contains("a.cedar")));
    assert_eq!(store.reload().expect("nothing changed"), Reloaded::Unchanged);
    std::fs::write(candidate.path().join("a.cedar"), "@id(\"none\") forbid (principal, action, resource);")
        .expect("written");
    assert_eq!(store.reload().expect("it loads"), Reloaded::Swapped(2));
    let good = store.current().shadow_digest().expect("a candidate").to_owned();
    assert_eq!(store.current().digest(), now.digest());
    std::fs::write(candidate.path().join("a.cedar"), "broken").expect("written");
    assert_eq!(store.reload().expect("the active ones load"), Reloaded::Swapped(3));
    let last = store.current();
    assert_eq!((last.shadow_digest(), last.shadow_fault().is_some()), (Some(good.as_str()), true));
    assert!(last.has_candidates());
}

#[test]
fn entities_give_only_parents_and_tags() {
    for (entities, expected) in [
        (r#"[{"uid": {"type": "Workload", "id": "spiffe://a.example/x"}, "attrs": {"path": "/y"}}]"#, "has `attrs`"),
        (
            r#"[{"uid": {"type": "Workload", "id": "spiffe://a.example/x"}, "parents": [{"type": "TrustDomain", "id": "b.example"}]}]"#,
            "has the parent",
        ),
        (r#"[{"uid": {"type": "Bucket", "id": "lake/raw"}, "parents": [{"type": "Stage", "id": "s"}]}]"#, "Stage"),
        (
            r#"[{"uid": {"type": "Workload", "id": "spiffe://a.example/x"}, "tags": {"team": "data"}}]"#,
            "not lists of strings",
        ),
        (r#"[{"uid": {"type": "Workload", "id": "spiffe://a.example/x/"}}]"#, "not a SPIFFE ID"),
        (r#"[{"uid": {"type": "Stage", "id": "s"}}, {"uid": {"type": "Stage", "id": "s"}}]"#, "is there twice"),
        (r#"[{"uid": {"type": "Group", "id": "a"}, "parents": [{"type": "Group", "id": "a"}]}]"#, "is in itself"),
        (r#"[{"uid": {"type": "Stage", "id": "s"}, "parent": []}]"#, "unknown key `parent`"),
        (r#"[{"uid": {"type": "Stages", "id": "s"}}]"#, "there is no entity type `Stages`"),
        (
            r#"[{"uid": {"type": "Workload", "id": "spiffe://a.example/x"}, "parents": [{"type": "stage", "id": "s"}]}]"#,
            "there is no entity type `stage`",
        ),
        (
            r#"[{"uid": {"type": "Workload", "id": "spiffe://a.example/x"}, "parents": [{"type": "Stage", "id": "s"}], "parents": []}]"#,
            "key `parents` is there twice",
        ),
        (r#"[{"uid": {"type": "Action", "id": "read"}}]"#, "is of type Action"),
        ("[{\"uid\": {\"type\": \"Stage\", \"id\": \"s\"}},\n  oops]", "not a JSON list"),
        (r#"{"uid": {"type": "Stage", "id": "s"}}"#, "not a JSON list"),
    ] {
        // That nothing is in the stage follows from it, and is not said.
        let names = "@id(\"a\") permit (principal in Stage::\"s\", action == Action::\"http:GET\", resource in Endpoint::\"api\");";
        let directory = directory(&[("a.cedar", names), ("entities.json", entities)]);
        let errors = PolicyGeneration::load(&source(directory.path()), 1).expect_err(entities);
        let [only] = errors.problems() else { panic!("{entities}: {errors}") };
        assert!(only.message().contains(expected), "{entities}: {errors}");
        assert!(only.position().is_some(), "{entities}: {errors}");
    }
}

#[test]
fn entities_stand_in_one_file_or_in_many_that_are_read_as_one() {
    let (list, rest) = (ENTITIES.trim(), "[]");
    let one = directory(&[("a.cedar", READS), ("entities.json", list)]);
    let many = directory(&[("a.cedar", READS), ("entities.json", rest)]);
    std::fs::create_dir(many.path().join("entities")).expect("writes");
    let write = |name: &str, text: &str| std::fs::write(many.path().join("entities").join(name), text).expect("writes");
    let items: Vec<serde_json::Value> = serde_json::from_str(list).expect("is a list");
    for (number, item) in items.iter().enumerate() {
        write(&format!("{number}.json"), &serde_json::json!([item]).to_string());
    }
    // Neither is ours.
    write(".hidden.json", "oops");
    write("README.md", "oops");
    let asked = s3("s3:GetObject", raw("in/a"));
    let decided = |directory: &Path| {
        let policies = PolicyGeneration::load(&source(directory), 1);
        decide(&policies.unwrap_or_else(|errors| panic!("{errors}")), TRANSFORM, &asked)
    };
    assert_eq!(decided(many.path()), decided(one.path()));
    assert_eq!(decided(many.path()).0, Outcome::Allowed);

    let store = PolicyStore::open(source(many.path())).expect("opens");
    write("z.json", "[\n]");
    assert_eq!(store.reload().expect("loads"), Reloaded::Swapped(2), "a file more is another generation");
    let again = items.last().expect("has some");
    write("z.json", &format!("[\n  {again}\n]"));
    let errors = store.reload().expect_err("an entity is there twice");
    let [only] = errors.problems() else { panic!("{errors}") };
    assert!(only.message().contains("is there twice") && only.position() == Some((2, 3)), "{errors}");
    let first = format!("entities/{}.json:1", items.len() - 1);
    assert!(
        only.file().ends_with("entities/z.json") && only.advice().is_some_and(|help| help.contains(&first)),
        "{errors:?}"
    );
    // A mount that is not there is not the same as no entities.
    let elsewhere = directory(&[("a.cedar", READS)]);
    std::os::unix::fs::symlink("/nowhere/at/all", elsewhere.path().join("entities")).expect("links");
    let errors = PolicyGeneration::load(&source(elsewhere.path()), 1).expect_err("leads nowhere").to_string();
    assert!(errors.contains("`entities`"), "{errors}");
    write("z.json", "[{\"uid\": 7}]");
    let errors = store.reload().expect_err("no entity").to_string();
    assert!(errors.contains("entities/z.json:1:2: "), "{errors}");
}

#[test]
fn an_entity_of_an_endpoint_that_is_misspelt_or_speaks_otherwise_is_said_where_it_stands() {
    let with = |uid: &str| {
        let entities = format!("[\n  {{\"uid\": {uid}, \"parents\": [{{\"type\": \"Group\", \"id\": \"g\"}}]}}\n]");
        directory(&[("a.cedar", ""), ("entities.json", &entities)])
    };
    let dir = with(r#"{"type": "Bucket", "id": "lkae/raw"}"#);
    let policies = PolicyGeneration::load(&source(dir.path()), 1).expect("loads");
    let warnings: Vec<_> = policies.warnings().iter().filter(|warning| warning.position().is_some()).collect();
    let [only] = warnings[..] else { panic!("{warnings:?}") };
    assert_eq!((only.message(), only.advice()), ("there is no endpoint `lkae`", Some("did you mean `lake`?")));
    assert_eq!(only.position(), Some((2, 3)));
    assert!(
        PolicyGeneration::load(&strict_of(dir.path()), 1)
            .expect_err("refused")
            .to_string()
            .contains("there is no endpoint `lkae`")
    );
    let dir = with(r#"{"type": "Bucket", "id": "lake/raw"}"#);
    assert!(PolicyGeneration::load(&strict_of(dir.path()), 1).is_ok());
    let dir = with(r#"{"type": "HttpPath", "id": "lake/raw"}"#);
    let errors = PolicyGeneration::load(&source(dir.path()), 1).expect_err("no such thing").to_string();
    assert!(errors.contains("entities.json:2:3: `HttpPath::\"lake/raw\"` can never be asked about"), "{errors}");
}

fn strict_of(directory: &Path) -> PolicySource {
    PolicySource { refuse_unknown_names: true, ..source(directory) }
}

#[test]
fn what_was_refused_is_refused_again_without_being_compiled_again_until_it_changes() {
    let dir = directory(&[("a.cedar", READS), ("entities.json", ENTITIES)]);
    let store = PolicyStore::open(source(dir.path())).expect("opens");
    std::fs::write(dir.path().join("a.cedar"), "permit").expect("writes");
    // What was compiled again speaks of files that were read again.
    let is_of_one_look =
        |one: &PolicyErrors, other: &PolicyErrors| std::ptr::eq(one.problems()[0].file(), other.problems()[0].file());
    let first = store.reload().expect_err("bad");
    let again = store.reload().expect_err("still bad");
    assert!(is_of_one_look(&first, &again) && first.to_string() == again.to_string(), "{again}");
    std::fs::write(dir.path().join("a.cedar"), "forbid (principal, action, resource);").expect("writes");
    let other = store.reload().expect_err("otherwise bad");
    assert!(!is_of_one_look(&first, &other) && first.to_string() != other.to_string(), "{other}");
    std::fs::write(dir.path().join("a.cedar"), READS).expect("writes");
    assert_eq!(store.reload().expect("as at first"), Reloaded::Unchanged);
    std::fs::write(dir.path().join("a.cedar"), "forbid").expect("writes");
    assert!(store.reload().is_err(), "it is looked at anew");
}

#[test]
fn further_schema_files_add_types_and_actions_and_cannot_change_ours() {
    let own = (
        "own.cedarschema",
        "entity Team = { size: Long };\naction \"own:Ask\" in [Action::\"read\"] appliesTo { principal: [Workload], resource: [Team] };",
    );
    let policy = (
        "a.cedar",
        "@id(\"p\") permit (principal in Stage::\"transform\", action, resource) when { Team::\"a\".size > 3 };",
    );
    let team = (
        "entities.json",
        "[{\"uid\": {\"type\": \"Team\", \"id\": \"a\"}, \"attrs\": {\"size\": 7}}, \
                 {\"uid\": {\"type\": \"Workload\", \"id\": \"spiffe://pipeline.example/ns/etl/sa/transform\"}, \"parents\": [{\"type\": \"Stage\", \"id\": \"transform\"}]}]",
    );
    let dir = directory(&[own, policy, team, ("portcullis.cedarschema", SHIPPED_SCHEMA)]);
    let policies =
        PolicyGeneration::load(&source(dir.path()), 1).unwrap_or_else(|errors| panic!("{}", errors.render(false)));
    assert_eq!(decide(&policies, TRANSFORM, &s3("s3:GetObject", raw("a"))), outcome(Outcome::Allowed, &["p"]));

    let dir = directory(&[("own.cedarschema", "entity Bucket;")]);
    let errors = PolicyGeneration::load(&source(dir.path()), 1).expect_err("refused").to_string();
    assert!(errors.contains("own.cedarschema") && errors.contains("Bucket"), "{errors}");
    let dir = directory(&[("portcullis.cedarschema", "entity Bucket;")]);
    let errors = PolicyGeneration::load(&source(dir.path()), 1).expect_err("refused").to_string();
    assert!(errors.contains("is not the schema that this version of portcullis ships"), "{errors}");
}

#[test]
fn a_reload_takes_only_what_changed_and_a_bad_one_leaves_the_last_good_in_force() {
    let dir = directory(&[("a.cedar", READS), ("entities.json", ENTITIES)]);
    let store = PolicyStore::open(source(dir.path())).expect("opens");
    let first = store.current();
    let principal = first.principal(&SpiffeId::parse(TRANSFORM).expect("id"));
    assert_eq!(store.reload().expect("reads"), Reloaded::Unchanged);

    std::fs::write(dir.path().join("a.cedar"), "permit").expect("writes");
    assert!(store.reload().expect_err("bad").to_string().contains("a.cedar:1:"));
    assert_eq!((store.current().number(), store.current().digest()), (1, first.digest()));

    std::fs::write(dir.path().join("a.cedar"), READS.replace("lake/raw/in", "lake/raw/out")).expect("writes");
    assert_eq!(store.reload().expect("loads"), Reloaded::Swapped(2));
    let second = store.current();
    assert_ne!(second.digest(), first.digest());
    // A principal of the generation before is made anew, never misread.
    let asked = s3("s3:GetObject", raw("out/a"));
    assert_eq!(second.decide(&principal, &asked, &facts()).outcome, Outcome::Allowed);
    assert_eq!(first.decide(&principal, &asked, &facts()).outcome, Outcome::NotPermitted);
}

#[test]
fn an_empty_directory_denies_and_warns_and_a_missing_one_is_an_error() {
    let dir = directory(&[]);
    let policies = PolicyGeneration::load(&source(dir.path()), 1).expect("loads");
    assert_eq!(decide(&policies, TRANSFORM, &s3("s3:GetObject", raw("a"))), outcome(Outcome::NotPermitted, &[]));
    assert!(policies.warnings()[0].message().contains("everything is denied"));
    let errors = PolicyGeneration::load(&source(&dir.path().join("none")), 1).expect_err("missing").to_string();
    assert!(errors.contains("policy directory cannot be read"), "{errors}");
}

#[test]
fn policies_for_every_protocol_stand_in_one_directory() {
    let policies = loaded(
        "@id(\"encrypted\") permit (principal in Stage::\"transform\", action == Action::\"s3:PutObject\", resource in Bucket::\"lake/curated\")
         when { [\"UploadPart\", \"CompleteMultipartUpload\"].contains(context.operation) || (context has encryption && context.encryption == \"aws:kms\") };
         @id(\"no-pii\") permit (principal in Stage::\"transform\", action in [Action::\"sql:Select\", Action::\"sql:Insert\"], resource in Schema::\"warehouse/analytics.sales\")
         unless { context.columns.containsAny([\"ssn\", \"date_of_birth\"]) };
         @id(\"kept\") forbid (principal, action in Action::\"delete\", resource in Database::\"warehouse/analytics\");
         @id(\"dial\") permit (principal in Stage::\"transform\", action == Action::\"tcp:Connect\", resource == Endpoint::\"lake\");",
    );
    assert_eq!(policies.inactive().iter().map(|id| &**id).collect::<Vec<_>>(), ["no-pii", "kept"]);
    let dial = Operation {
        action: Action::named("tcp:Connect"),
        resource: Resource::endpoint("lake"),
        context: Context::default(),
    };
    assert_eq!(decide(&policies, TRANSFORM, &dial), outcome(Outcome::Allowed, &["dial"]));
    assert_eq!(decide(&policies, STRANGER, &dial), outcome(Outcome::NotPermitted, &[]));
    let mut part = s3("s3:PutObject", Resource::object("lake", "curated", "a"));
    assert_eq!(decide(&policies, TRANSFORM, &part), outcome(Outcome::NotPermitted, &[]));
    part.context.set("encryption", "aws:kms");
    assert_eq!(decide(&policies, TRANSFORM, &part), outcome(Outcome::Allowed, &["encrypted"]));
}
