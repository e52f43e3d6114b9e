//! Ids that requests can have, and those that they cannot.

use super::*;
use crate::mapping::Resource;

#[test]
fn an_endpoint_that_is_only_relayed_may_be_spoken_of_in_the_words_of_any_protocol() {
    assert!(["Endpoint", "HttpPath", "Bucket", "Table"].into_iter().all(|kind| yields("tcp", kind)));
    assert!(yields("postgres", "Table") && !yields("postgres", "Bucket") && !yields("s3", "HttpPath"));
}

proptest::proptest! {
    #[test]
    fn any_id_is_judged_and_has_only_ancestors_that_are_ids(kind in 0..KINDS.len(), id in "[a-z/.\"*%]{0,30}|.{0,30}") {
        let kind = KINDS[kind];
        if check(kind, &id).is_ok() {
            // A folder may be called `*` or nothing at all, but who writes such an id does not mean it: it is refused there.
            let is_meant = |above: &String| !above.ends_with("/*") && !above.ends_with('/');
            for (kind, above) in ancestors_above(kind, &id).into_iter().filter(|(_, above)| is_meant(above)) {
                proptest::prop_assert_eq!(check(kind, &above), Ok(()), "{} above {}", kind, id);
            }
        }
    }

    #[test]
    fn the_id_of_any_path_that_is_judged_is_accepted(path in "/[a-zA-Z0-9/%.~é-]{0,30}") {
        if let Ok(judged) = JudgedPath::parse(&path, false) {
            let resource = Resource::http_path("api", judged.as_str());
            proptest::prop_assert_eq!(check("HttpPath", resource.id()), Ok(()));
            let above: Vec<_> = resource.ancestors().map(|(kind, id)| (kind.as_str(), id.to_owned())).collect();
            proptest::prop_assert_eq!(ancestors_above("HttpPath", resource.id()), above);
        }
    }
}

const KINDS: [&str; 10] =
    ["Workload", "TrustDomain", "HttpPath", "Bucket", "Prefix", "Object", "Database", "Schema", "Table", "Endpoint"];

#[test]
fn ids_that_requests_can_have_are_accepted() {
    for (kind, id) in [
        ("Workload", "spiffe://pipeline.example/ns/etl"),
        ("TrustDomain", "pipeline.example"),
        ("Stage", "transform"),
        ("Endpoint", "lake-2.eu"),
        ("HttpPath", "api/"),
        ("HttpPath", "api/orders/17"),
        ("HttpPath", "api/x/"),
        ("HttpPath", "api/caf%C3%A9"),
        ("Bucket", "lake/raw"),
        ("Prefix", "lake/raw/ingest"),
        ("Object", "lake/raw/ingest/"),
        ("Object", "lake/raw/a b"),
        ("Database", "warehouse/analytics"),
        ("Schema", "warehouse/analytics.\"Sales 2026\""),
        ("Table", "warehouse/analytics.sales.\"a.b\"\"c\""),
        ("Mine", "anything"),
    ] {
        assert_eq!(check(kind, id), Ok(()), "{kind}::{id}");
    }
}

#[test]
fn ids_that_no_request_can_have_are_refused_with_what_to_write() {
    for (kind, id, help) in [
        ("Workload", "transform", "write the whole ID"),
        ("Workload", "spiffe://pipeline.example", "TrustDomain::\"pipeline.example\""),
        (
            "Workload",
            "spiffe://pipeline.example/ns/etl/*",
            "principal in Workload::\"spiffe://pipeline.example/ns/etl\"",
        ),
        ("Workload", "spiffe://pipeline.example/ns/etl/", "write the whole ID"),
        ("TrustDomain", "spiffe://pipeline.example", "TrustDomain::\"pipeline.example\""),
        ("TrustDomain", "Pipeline.example", "character"),
        ("Endpoint", "lake/raw", "listener's name"),
        ("Bucket", "lake", "ENDPOINT/BUCKET"),
        ("Bucket", "lake/", "ENDPOINT/BUCKET"),
        ("Bucket", "lake/raw/", "Bucket::\"lake/raw\""),
        ("Bucket", "lake/raw/ingest", "Prefix::\"lake/raw/ingest\""),
        ("Bucket", "s3://raw", "ENDPOINT/BUCKET"),
        ("Bucket", "s3://lake/raw", "write `Bucket::\"lake/raw\"`"),
        ("Bucket", "arn:aws:s3:::raw", "ENDPOINT/raw"),
        ("Prefix", "lake/raw", "Bucket::\"lake/raw\""),
        ("Prefix", "lake/raw/ingest/", "Prefix::\"lake/raw/ingest\""),
        ("Prefix", "lake/raw/ingest/*", "resource in Prefix::\"lake/raw/ingest\""),
        ("Object", "lake/raw/*", "resource in Bucket::\"lake/raw\""),
        ("HttpPath", "/orders", "ENDPOINT/orders"),
        ("HttpPath", "api", "ENDPOINT/PATH"),
        ("HttpPath", "api/a//b", "normalising"),
        ("HttpPath", "api/a/../b", "normalising"),
        ("HttpPath", "api/orders/*", "resource in HttpPath::\"api/orders\""),
        ("HttpPath", "api/orders?x=1", "without query"),
        ("HttpPath", "api/%7Euser", "HttpPath::\"api/~user\""),
        ("HttpPath", "api/caf%c3%a9", "HttpPath::\"api/caf%C3%A9\""),
        ("HttpPath", "api/a%2Fb", "normalising"),
        ("Table", "warehouse/sales.orders", "warehouse/DATABASE.sales.orders"),
        ("Table", "warehouse/analytics.sales.Orders", "quoted"),
        ("Table", "warehouse/analytics.sales.\"orders\"", "quoted"),
        ("Schema", "warehouse/analytics", "warehouse/DATABASE.analytics"),
        ("Table", "warehouse/orders", "warehouse/DATABASE.SCHEMA.TABLE"),
        ("Headers", "x", "context.headers.hasTag"),
        ("Claims", "x", "context.token.claims.hasTag"),
    ] {
        let refused = check(kind, id).expect_err(id);
        assert!(refused.help.contains(help), "{kind}::{id}: {refused:?}");
    }
}

#[test]
fn what_an_id_is_in_agrees_with_the_resources_that_requests_have() {
    for resource in [
        Resource::http_path("api", "/a/b/"),
        Resource::http_path("api", "/"),
        Resource::bucket("lake", "raw"),
        Resource::prefix("lake", "raw", "a/b"),
        Resource::object("lake", "raw", "a/b/c"),
        Resource::endpoint("lake"),
    ] {
        let above: Vec<_> = resource.ancestors().map(|(kind, id)| (kind.as_str(), id.to_owned())).collect();
        assert_eq!(ancestors_above(resource.kind().as_str(), resource.id()), above, "{resource}");
    }
}

#[test]
fn a_workload_is_in_every_id_above_it_and_a_table_in_its_schema() {
    let above =
        |kind, id| ancestors_above(kind, id).into_iter().map(|(kind, id)| format!("{kind} {id}")).collect::<Vec<_>>();
    assert_eq!(
        above("Workload", "spiffe://pipeline.example/ns/etl/sa/t"),
        [
            "Workload spiffe://pipeline.example/ns/etl/sa",
            "Workload spiffe://pipeline.example/ns/etl",
            "Workload spiffe://pipeline.example/ns",
            "TrustDomain pipeline.example"
        ]
    );
    assert_eq!(above("Table", "w/a.\"s.t\".o"), ["Schema w/a.\"s.t\"", "Database w/a", "Endpoint w"]);
    assert_eq!(above("Schema", "w/a.s"), ["Database w/a", "Endpoint w"]);
}
