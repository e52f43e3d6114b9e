//! What is refused, warned of and said of policies.

use super::*;

#[test]
fn a_policy_that_can_never_match_is_refused() {
    let (place, message, _) = refused(
        "@id(\"never\")\npermit (principal in Stage::\"transform\", action == Action::\"http:GET\", resource)\nwhen { context.direction == \"inbound\" && false };",
    );
    assert_eq!(place, "2:1");
    assert!(message.contains("`never` can never match"), "{message}");
    let (_, message, help) = refused(
        "@id(\"eq\") permit (principal in Stage::\"transform\", action == Action::\"s3:GetObject\", resource == Bucket::\"lake/raw\");",
    );
    assert!(message.contains("`eq` can never match"), "{message}");
    assert!(help.contains("replacing `==` with `in`"), "{help}");
}

#[test]
fn an_attribute_that_some_requests_lack_is_said_once_and_a_misspelt_one_finds_its_name() {
    let policy = |attribute: &str| {
        format!(
            "@id(\"p\") permit (principal in Stage::\"transform\", action in Action::\"read\", resource) when {{ context.{attribute} }};"
        )
    };
    let (_, message, help) = refused(&policy("byVersion"));
    assert!(message.contains("attribute `byVersion` in context"), "{message}");
    assert!(
        help.starts_with("only requests by actions `s3:…` and `s3express:…` have it")
            && help.contains("`context has byVersion && context.byVersion`"),
        "{help}"
    );
    let (_, _, help) = refused(&policy("direcion == \"inbound\""));
    assert_eq!(help, "did you mean `context.direction`?");
}

#[test]
fn every_policy_needs_an_id_of_its_own() {
    let (place, message, help) = refused("// first\npermit (principal in Stage::\"transform\", action, resource);");
    assert_eq!((place.as_str(), message.as_str()), ("2:1", "policy has no `@id`"));
    assert!(help.contains("@id(\"transform-reads-ingested\")"), "{help}");
    let (place, message, help) = refused(&format!("{READS}{READS}"));
    assert_eq!((place.as_str(), message.as_str()), ("2:14", "`@id(\"reads\")` is taken"));
    assert!(help.contains("a.cedar:1"), "{help}");
}

#[test]
fn all_problems_of_all_files_are_reported_at_once_with_file_line_and_column() {
    let directory = directory(&[
        ("a.cedar", "permit (principal, action, resource in Bucket::\"raw\");"),
        ("b.cedar", "@id(\"b\") permit (principal in Stage::\"transform\" action, resource);"),
        ("entities.json", "[{\"uid\": {\"type\": \"Workload\", \"id\": \"transform\"}}]"),
    ]);
    let errors = PolicyGeneration::load(&source(directory.path()), 1).expect_err("refused");
    let text = errors.to_string();
    let places = text.lines().map(|line| line.split(": ").next().expect("place"));
    let begin: Vec<_> = places.map(|place| place.rsplit('/').next().expect("name")).collect();
    assert_eq!(begin, ["a.cedar:1:1", "a.cedar:1:40", "b.cedar:1:50", "entities.json:1:2"], "{text}");
    let shown = errors.render(false);
    assert!(shown.contains("Bucket::\"raw\"") && shown.contains("help: "), "{shown}");
}

#[test]
fn a_type_that_the_endpoints_protocol_never_yields_is_refused() {
    let (_, message, _) = refused(
        "@id(\"p\") permit (principal in Stage::\"transform\", action == Action::\"s3:GetObject\", resource in Bucket::\"api/raw\");",
    );
    assert_eq!(
        message,
        "`Bucket::\"api/raw\"` can never be asked about: endpoint `api` speaks http, which has no Bucket"
    );
}

#[test]
fn policies_about_other_sidecars_are_inactive_and_unknown_names_are_warnings_or_errors() {
    let text = "@id(\"elsewhere\") permit (principal in Stage::\"transform\", action == Action::\"sql:Select\", resource in Schema::\"warehouse/a.b\");\n\
                @id(\"slip\") permit (principal in Stage::\"tranform\", action == Action::\"s3:GetObject\", resource in Bucket::\"lakes/raw\");";
    let policies = loaded(text);
    assert_eq!(policies.inactive().iter().map(|id| &**id).collect::<Vec<_>>(), ["elsewhere", "slip"]);
    let warnings: Vec<_> = policies.warnings().iter().map(|w| (w.message(), w.advice().unwrap_or_default())).collect();
    assert_eq!(
        warnings,
        [
            ("nothing is in `Stage::\"tranform\"`", "did you mean `Stage::\"transform\"`?"),
            ("there is no endpoint `lakes`", "did you mean `lake`?")
        ]
    );
    let directory = directory(&[("a.cedar", text), ("entities.json", ENTITIES)]);
    let strict = PolicySource { refuse_unknown_names: true, ..source(directory.path()) };
    assert_eq!(PolicyGeneration::load(&strict, 1).expect_err("refused").problems().len(), 2);
    let alone = PolicyGeneration::load(&PolicySource::of(directory.path()), 1).expect("loads");
    assert!(alone.inactive().is_empty(), "nothing is known about endpoints");
}

#[test]
fn header_names_in_upper_case_templates_and_modes_are_refused() {
    let (place, message, help) = refused(
        "@id(\"p\") permit (principal in Stage::\"transform\", action, resource is HttpPath)\nwhen { context.headers.hasTag(\"X-Tenant\") };",
    );
    assert_eq!((place.as_str(), help.as_str()), ("2:32", "write \"x-tenant\""), "{message}");
    let (_, message, _) = refused("@id(\"t\") permit (principal == ?principal, action, resource);");
    assert!(message.contains("templates are not supported"), "{message}");
    for (annotation, said) in [
        ("@mode(\"shaddow\")", "`@mode` is `shaddow`"),
        ("@mode(\"enforce\")", "`@mode` is `enforce`"),
        ("@mode(\"\")", "`@mode` is ``"),
        ("@mode(\"Shadow\")", "`@mode` is `Shadow`"),
        ("@moed(\"shadow\")", "`@moed` is no annotation"),
        ("@mdoe(\"shadow\")", "`@mdoe` is no annotation"),
        ("@Mode(\"shadow\")", "`@Mode` is no annotation"),
        ("@max_row(\"5\")", "`@max_row` is no annotation"),
    ] {
        let text = format!("@id(\"m\") {annotation} permit (principal in Stage::\"transform\", action, resource);");
        let (_, message, _) = refused(&text);
        assert!(message.contains(said), "{message}");
    }
}

#[test]
fn a_value_that_an_attribute_never_has_is_said_with_the_one_that_is_meant() {
    let warned = |condition: &str| {
        let text =
            format!("@id(\"p\") permit (principal in Stage::\"transform\", action, resource)\nwhen {{ {condition} }};");
        let policies = loaded(&text);
        let said = policies.warnings().iter().map(|warning| {
            let at = warning.position().map(|(line, column)| format!("{line}:{column}"));
            format!("{} {}: {}", at.unwrap_or_default(), warning.message(), warning.advice().unwrap_or_default())
        });
        said.collect::<Vec<_>>().join("; ")
    };
    for (condition, said) in [
        (
            "context.direction == \"INBOUND\"",
            "2:29 `context.direction` is never \"INBOUND\": write \"inbound\": case counts",
        ),
        (
            "\"Outbound\" != context.direction",
            "2:8 `context.direction` is never \"Outbound\": write \"outbound\": case counts",
        ),
        (
            "context.direction == \"both\"",
            "2:29 `context.direction` is never \"both\": it is \"inbound\" or \"outbound\"",
        ),
        (
            "context has tls.version && [\"TLSv1.3\", \"tlsv1.2\"].contains(context.tls.version)",
            "2:47 `context.tls.version` is never \"tlsv1.2\": write \"TLSv1.2\": case counts",
        ),
        ("context.direction == \"inbound\" && context.direction like \"IN*\"", ""),
    ] {
        assert_eq!(warned(condition), said, "{condition}");
    }
    let of = |action: &str, condition: &str| {
        let text = format!(
            "@id(\"p\") permit (principal in Stage::\"transform\", action == Action::\"{action}\", resource) when {{ {condition} }};"
        );
        loaded(&text)
            .warnings()
            .iter()
            .map(|w| format!("{}: {}", w.message(), w.advice().unwrap_or_default()))
            .collect::<Vec<_>>()
            .join("; ")
    };
    assert_eq!(of("s3:PutObject", "context.operation == \"CopyObject\""), "");
    assert_eq!(
        of("s3:PutObject", "context.operation == \"copyObject\""),
        "`context.operation` is never \"copyObject\": write \"CopyObject\": case counts"
    );
    assert_eq!(of("sql:Connect", "context.statement == \"connect\""), "");
    assert_eq!(
        of("sql:Select", "context.statement == \"SELECT\""),
        "`context.statement` is never \"SELECT\": write \"select\": case counts"
    );
}

#[test]
fn a_bound_on_rows_is_a_number_and_stands_on_a_permit() {
    let with = |annotated: &str| load(&format!("@id(\"bounded\") {annotated} (principal, action, resource);"));
    with("@max_rows(\"5\") permit").expect("loads");
    for (annotated, message) in [
        ("@max_rows(\"5\") forbid", "`@max_rows` has no effect on a forbid"),
        ("@max_rows(\"0\") permit", "`@max_rows` is no number of rows from 1 on"),
        ("@max_rows(\"lots\") permit", "`@max_rows` is no number of rows from 1 on"),
    ] {
        let refused = with(annotated).expect_err(annotated);
        assert_eq!(refused.problems()[0].message(), message, "{annotated}");
    }
}

#[test]
fn of_policies_that_are_alike_each_faulty_one_is_reported() {
    let policy = |n: usize, what: &str| {
        format!(
            "@id(\"p{n}\")\npermit (principal in Stage::\"transform\", action == Action::\"s3:GetObject\", resource {what});\n"
        )
    };
    let text: String = (0..3)
        .map(|n| policy(n, &format!("== Bucket::\"lake/b{n}\"")))
        .chain([policy(3, "in Bucket::\"lake/raw\"")])
        .collect();
    let errors = load(&text).expect_err("refused");
    let lines: Vec<_> = errors.problems().iter().filter_map(|p| p.position()).map(|(line, _)| line).collect();
    assert_eq!(lines, [2, 4, 6], "{errors}");
    // One entity twice is not two entities.
    for (second, is_refused) in [("lake/raw", true), ("lake/b", false)] {
        let policy = format!(
            "@id(\"a\") permit (principal in Stage::\"transform\", action, resource) when {{ Bucket::\"lake/a\" != Bucket::\"lake/b\" }};\n\
             @id(\"b\") permit (principal in Stage::\"transform\", action, resource) when {{ Bucket::\"lake/raw\" != Bucket::\"{second}\" }};"
        );
        assert_eq!(load(&policy).is_err(), is_refused, "{second}");
    }
}

#[test]
fn a_role_table_that_names_a_stage_that_nobody_is_in_is_a_warning_or_refused() {
    let directory = directory(&[("a.cedar", READS), ("entities.json", ENTITIES)]);
    let named = |stage: &str| PolicySource { stages: vec![stage.to_owned()], ..source(directory.path()) };
    assert!(PolicyGeneration::load(&named("transform"), 1).expect("loads").warnings().is_empty());
    let policies = PolicyGeneration::load(&named("tranform"), 1).expect("loads");
    let warnings: Vec<_> = policies.warnings().iter().map(|w| (w.message(), w.advice().unwrap_or_default())).collect();
    let message = "`roles` of a listener names `Stage::\"tranform\"`, and nothing is in it";
    assert_eq!(warnings, [(message, "did you mean `Stage::\"transform\"`?")]);
    let strict = PolicySource { refuse_unknown_names: true, ..named("tranform") };
    assert_eq!(PolicyGeneration::load(&strict, 1).expect_err("refused").problems()[0].message(), message);
}

#[test]
fn what_is_asked_for_and_never_there_is_a_warning() {
    let warned = |condition: &str| -> Vec<(String, String)> {
        let policy = format!(
            "@id(\"p\") forbid (principal, action == Action::\"s3:PutObject\", resource in Bucket::\"lake/raw\") unless {{ {condition} }};"
        );
        let directory = directory(&[("a.cedar", &policy)]);
        let policies = PolicyGeneration::load(&source(directory.path()), 1).expect(condition);
        let said =
            |warning: &PolicyProblem| (warning.message().to_owned(), warning.advice().unwrap_or_default().to_owned());
        policies.warnings().iter().map(said).collect()
    };
    for (condition, message, help) in [
        (
            "context has kmsKeyID && context.kmsKeyID == \"k\"",
            "`context has kmsKeyID`",
            "did you mean `context has kmsKeyId`?",
        ),
        ("principal has name_space", "`principal has name_space`", "did you mean `principal has namespace`?"),
        (
            "principal has team",
            "`principal has team`",
            "what entities.json adds are tags: `principal.hasTag(\"team\")`",
        ),
        (
            "context.headers has tenant",
            "`context.headers has tenant`",
            "these are tags: `context.headers.hasTag(\"tenant\")`",
        ),
    ] {
        let said = warned(condition);
        let [(first, advice)] = said.as_slice() else { panic!("{condition}: {said:?}") };
        assert!(first.starts_with(message) && first.contains("never true") && advice == help, "{condition}: {said:?}");
    }
    for condition in [
        "context has kmsKeyId && context.kmsKeyId == \"k\"",
        "principal has namespace && principal.namespace == \"etl\"",
        "context has tls && context.tls.version == \"TLSv1.3\"",
        // Not of these requests, but of others.
        "context has columns",
    ] {
        assert_eq!(warned(condition), [], "{condition}");
    }
}
