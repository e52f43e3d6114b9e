//! The shape of entity ids: a policy about an id that no request can have would silently do nothing.

use crate::identity::{SpiffeId, TrustDomain};
use crate::mapping::http_path::JudgedPath;

/// What is wrong with an id, and what to write.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadId {
    pub(super) message: String,
    pub(super) help: String,
}

/// Checks the id of an entity of a shipped type. Types of the operator's own are not judged.
pub(super) fn check(kind: &str, id: &str) -> Result<(), BadId> {
    match kind {
        "Workload" => workload(id),
        "TrustDomain" => trust_domain(id),
        "Stage" | "Group" if id.is_empty() => Err(bad(kind, id, "is empty".to_owned(), format!("give it a name: `{kind}::\"transform\"`"))),
        "Headers" => Err(BadId {
            message: "entities of type `Headers` have no name of their own".to_owned(),
            help: "read a header by `context.headers.hasTag(\"x-tenant\") && context.headers.getTag(\"x-tenant\").contains(\"a\")`".to_owned(),
        }),
        "Claims" => Err(BadId {
            message: "entities of type `Claims` have no name of their own".to_owned(),
            help: "read a claim by `context has token && context.token.claims.hasTag(\"groups\") && context.token.claims.getTag(\"groups\").contains(\"a\")`".to_owned(),
        }),
        _ => match endpoint(kind, id) {
            Some(name) => resource(kind, id, name),
            None => Ok(()),
        },
    }
}

/// The endpoint that a resource id begins with; none for entities that are no resources.
pub(super) fn endpoint<'a>(kind: &str, id: &'a str) -> Option<&'a str> {
    match kind {
        "Endpoint" | "HttpPath" | "Bucket" | "Prefix" | "Object" | "Database" | "Schema" | "Table" | "Function" => {
            Some(id.split_once('/').map_or(id, |(endpoint, _)| endpoint))
        }
        _ => None,
    }
}

/// Whether an endpoint of this protocol ever asks about resources of this type. Of an unknown protocol nothing is said.
pub(super) fn yields(protocol: &str, kind: &str) -> bool {
    kind == "Endpoint"
        || match protocol {
            "http" => kind == "HttpPath",
            "s3" => matches!(kind, "Bucket" | "Prefix" | "Object"),
            "postgres" => matches!(kind, "Database" | "Schema" | "Table" | "Function"),
            // Who relays bytes may relay them to an endpoint whose own sidecar understands them: one directory serves both.
            "tcp" => true,
            _ => true,
        }
}

/// Everything that an entity is in by its id alone, nearest first: of the shipped types only.
pub(in crate::policy) fn ancestors_above(kind: &str, id: &str) -> Vec<(&'static str, String)> {
    let mut above = Vec::new();
    match kind {
        "Workload" => {
            if let Ok(id) = SpiffeId::parse(id) {
                let root = id.as_str().len() - id.path().len();
                above.extend(
                    cuts(id.as_str(), '/').filter(|cut| cut.len() > root).map(|cut| ("Workload", cut.to_owned())),
                );
                above.push(("TrustDomain", id.trust_domain().to_owned()));
            }
            return above;
        }
        "HttpPath" => above.extend(below(id, 1).map(|cut| ("HttpPath", cut.to_owned()))),
        "Prefix" | "Object" => {
            above.extend(below(id, 2).map(|cut| ("Prefix", cut.to_owned())));
            above.extend(below(id, 1).last().map(|bucket| ("Bucket", bucket.to_owned())));
        }
        "Schema" | "Table" | "Function" => {
            let parts = id.split_once('/').and_then(|(_, name)| sql_parts(name)).unwrap_or_default();
            let mut cut = id.len();
            for (part, up) in parts.iter().skip(1).rev().zip(if kind == "Schema" {
                &["Database"][..]
            } else {
                &["Schema", "Database"][..]
            }) {
                cut = cut.saturating_sub(part.len() + 1);
                above.extend(id.get(..cut).map(|id| (*up, id.to_owned())));
            }
        }
        "Bucket" | "Database" => {}
        _ => return above,
    }
    above.extend(endpoint(kind, id).map(|name| ("Endpoint", name.to_owned())));
    above
}

/// What is before each `separator`, longest first.
fn cuts(id: &str, separator: char) -> impl Iterator<Item = &str> {
    id.rmatch_indices(separator).filter_map(|(at, _)| id.get(..at))
}

/// What is before each slash after the first `skip` ones, longest first.
fn below(id: &str, skip: usize) -> impl Iterator<Item = &str> {
    cuts(id, '/').filter(move |cut| cut.matches('/').count() >= skip)
}

fn bad(kind: &str, id: &str, what: String, help: String) -> BadId {
    BadId { message: format!("`{kind}::\"{}\"` {what}", id.escape_debug()), help }
}

fn workload(id: &str) -> Result<(), BadId> {
    if let Some(above) = id.strip_suffix("/*") {
        return Err(bad(
            "Workload",
            id,
            "has a `*`, and ids have no patterns".to_owned(),
            format!("write `principal in Workload::\"{above}\"` for all workloads below it"),
        ));
    }
    match SpiffeId::parse(id) {
        Ok(id) if id.is_workload() => Ok(()),
        Ok(domain) => Err(bad(
            "Workload",
            id,
            "names a trust domain, no workload".to_owned(),
            format!("write `principal in TrustDomain::\"{}\"`", domain.trust_domain()),
        )),
        Err(cause) => Err(bad(
            "Workload",
            id,
            format!("is not a SPIFFE ID: {cause}"),
            match id.contains(['/', ':']) || id.is_empty() {
                true => "write the whole ID: `Workload::\"spiffe://TRUST-DOMAIN/PATH\"`".to_owned(),
                false => format!(
                    "write the whole ID: `Workload::\"spiffe://TRUST-DOMAIN/PATH\"`, or the name that entities.json gives to it: \
                     `principal in Stage::\"{id}\"`"
                ),
            },
        )),
    }
}

fn trust_domain(id: &str) -> Result<(), BadId> {
    TrustDomain::parse(id.strip_prefix("spiffe://").unwrap_or(id))
        .map_err(|cause| cause.to_string())
        .and_then(
            |name| {
                if id.starts_with("spiffe://") { Err(format!("write `TrustDomain::\"{name}\"`")) } else { Ok(()) }
            },
        )
        .map_err(|cause| bad("TrustDomain", id, "is not a trust domain".to_owned(), cause))
}

fn resource(kind: &str, id: &str, endpoint: &str) -> Result<(), BadId> {
    let rest = id.get(endpoint.len() + 1..);
    if !is_endpoint(endpoint) {
        let what = match endpoint {
            "" => "begins with a slash, not with the name of an endpoint".to_owned(),
            other => format!("does not begin with the name of an endpoint: `{other}` is none"),
        };
        return Err(bad(kind, id, what, with_endpoint(kind, id)));
    }
    let wrong = |what: &str, help: String| Err(bad(kind, id, what.to_owned(), help));
    let missing = || wrong("does not say what of the endpoint", shape(kind));
    let rest = match (kind, rest) {
        ("Endpoint", None) => return Ok(()),
        ("Endpoint", Some(_)) => {
            return wrong(
                "has a slash",
                "an endpoint is a listener's name; what is below it is a Bucket, HttpPath, Database …".to_owned(),
            );
        }
        (_, None | Some("")) if kind != "HttpPath" => return missing(),
        (_, None) => return missing(),
        (_, Some(rest)) => rest,
    };
    if let Some(above) = id.strip_suffix("/*") {
        return wrong(
            "has a `*`, and ids have no patterns",
            format!("write `resource in {}`", everything_below(kind, above)),
        );
    }
    match kind {
        "HttpPath" => http_path(endpoint, rest).or_else(|(what, help)| wrong(&what, help)),
        "Bucket" => match rest.split_once('/') {
            None => Ok(()),
            Some((bucket, "")) => wrong("has a slash at the end", format!("write `Bucket::\"{endpoint}/{bucket}\"`")),
            Some(_) => wrong(
                "has more than ENDPOINT/BUCKET",
                format!("keys below a folder are `Prefix::\"{id}\"`, one key is `Object::\"{id}\"`"),
            ),
        },
        "Prefix" | "Object" => key(kind, id, rest).or_else(|(what, help)| wrong(&what, help)),
        _ => sql(kind, endpoint, rest).or_else(|(what, help)| wrong(&what, help)),
    }
}

/// What to write for an id that begins with something else than an endpoint.
fn with_endpoint(kind: &str, id: &str) -> String {
    if let Some((_, rest)) = id.split_once("://") {
        let endpoint = rest.split('/').next().unwrap_or_default();
        if is_endpoint(endpoint) && resource(kind, rest, endpoint).is_ok() {
            return format!("write `{kind}::\"{rest}\"`, where `{endpoint}` is a listener's name");
        }
    }
    let bare = id.strip_prefix("arn:aws:s3:::").unwrap_or(id).trim_start_matches('/');
    let whole = format!("endpoint/{bare}");
    match resource(kind, &whole, "endpoint") {
        Ok(()) if bare.len() < id.len() => {
            format!(
                "write `{kind}::\"ENDPOINT/{bare}\"`, where ENDPOINT is a listener's name, as in `{kind}::\"{}\"`",
                example(kind)
            )
        }
        _ => shape(kind),
    }
}

/// How ids of a type are written, with an example.
fn shape(kind: &str) -> String {
    format!(
        "write `{kind}::\"{}\"`, where ENDPOINT is a listener's name, as in `{kind}::\"{}\"`",
        form(kind),
        example(kind)
    )
}

fn example(kind: &str) -> &'static str {
    match kind {
        "HttpPath" => "api/orders",
        "Bucket" => "lake/raw",
        "Prefix" => "lake/raw/ingest",
        "Object" => "lake/raw/ingest/a.parquet",
        "Database" => "warehouse/analytics",
        "Schema" => "warehouse/analytics.sales",
        "Table" => "warehouse/analytics.sales.orders",
        "Function" => "warehouse/analytics.sales.close_month",
        _ => "lake",
    }
}

/// How ids of a type are written.
pub(super) fn form(kind: &str) -> &'static str {
    match kind {
        "HttpPath" => "ENDPOINT/PATH",
        "Bucket" => "ENDPOINT/BUCKET",
        "Prefix" => "ENDPOINT/BUCKET/FOLDER",
        "Object" => "ENDPOINT/BUCKET/KEY",
        "Database" => "ENDPOINT/DATABASE",
        "Schema" => "ENDPOINT/DATABASE.SCHEMA",
        "Table" => "ENDPOINT/DATABASE.SCHEMA.TABLE",
        "Function" => "ENDPOINT/DATABASE.SCHEMA.FUNCTION",
        _ => "ENDPOINT",
    }
}

/// What a resource of a type is in, as it is written.
pub(super) fn form_above(kind: &str) -> &'static str {
    match kind {
        "HttpPath" => "HttpPath::\"ENDPOINT/PATH\"",
        "Prefix" | "Object" => "Prefix::\"ENDPOINT/BUCKET/FOLDER\"",
        "Schema" => "Database::\"ENDPOINT/DATABASE\"",
        "Table" | "Function" => "Schema::\"ENDPOINT/DATABASE.SCHEMA\"",
        _ => "Endpoint::\"ENDPOINT\"",
    }
}

/// How to say "all of it" for an id that ends with `/*`.
pub(super) fn everything_below(kind: &str, above: &str) -> String {
    match (kind, above.matches('/').count()) {
        (_, 0) => format!("Endpoint::\"{above}\""),
        ("HttpPath", _) => format!("HttpPath::\"{above}\""),
        ("Bucket" | "Prefix" | "Object", 1) => format!("Bucket::\"{above}\""),
        ("Bucket" | "Prefix" | "Object", _) => format!("Prefix::\"{above}\""),
        _ => format!("Database::\"{above}\""),
    }
}

/// As the configuration has it: `[a-z0-9][a-z0-9.-]*`, at most 63 bytes.
fn is_endpoint(name: &str) -> bool {
    name.len() <= 63
        && name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '.' || c == '-')
}

/// Only a path in the form in which requests are judged can be asked about. `rest` is without the first slash.
fn http_path(endpoint: &str, rest: &str) -> Result<(), (String, String)> {
    let path = format!("/{rest}");
    match JudgedPath::parse(&path, false) {
        Ok(judged) if judged.as_str() == path => Ok(()),
        Ok(judged) => Err((
            "is not in the form that is judged".to_owned(),
            format!(
                "write `HttpPath::\"{endpoint}{}\"`: what need not be percent-encoded is not, the rest is in upper case",
                judged.as_str()
            ),
        )),
        Err(refusal) => Err((
            format!("is a path that no request has: {}", refusal.message),
            "write the path alone, without query, as it is after normalising".to_owned(),
        )),
    }
}

fn key(kind: &str, id: &str, rest: &str) -> Result<(), (String, String)> {
    let Some((_, key)) = rest.split_once('/').filter(|(bucket, key)| !bucket.is_empty() && !key.is_empty()) else {
        let bucket = id.trim_end_matches('/');
        return Err((
            "names a bucket".to_owned(),
            format!("write `Bucket::\"{bucket}\"`, or `{kind}::\"{}\"`", form(kind)),
        ));
    };
    if kind == "Prefix" && key.ends_with('/') {
        return Err(("has a slash at the end".to_owned(), format!("write `Prefix::\"{}\"`", id.trim_end_matches('/'))));
    }
    Ok(())
}

fn sql(kind: &str, endpoint: &str, name: &str) -> Result<(), (String, String)> {
    let wanted = match kind {
        "Database" => 1,
        "Schema" => 2,
        _ => 3,
    };
    let parts = sql_parts(name).unwrap_or_default();
    if parts.len() == wanted {
        return Ok(());
    }
    if parts.len() + 1 == wanted {
        return Err((
            format!("is not {}", form(kind)),
            format!("write `{kind}::\"{endpoint}/DATABASE.{name}\"`, as in `{kind}::\"{}\"`", example(kind)),
        ));
    }
    Err((
        format!("is not {}", form(kind)),
        format!(
            "write `{kind}::\"{}\"`; names that SQL would quote are quoted here too: `{endpoint}/db.\\\"Sales 2026\\\"`",
            form(kind).replacen("ENDPOINT", endpoint, 1)
        ),
    ))
}

/// The parts of a dotted SQL name as they are written; none if a part is neither plain nor quoted as SQL does it, or quoted without need.
fn sql_parts(name: &str) -> Option<Vec<&str>> {
    let mut parts = Vec::new();
    let mut rest = name;
    loop {
        let end = sql_part_end(rest)?;
        parts.push(rest.get(..end)?);
        rest = match rest.get(end..)?.strip_prefix('.') {
            Some(rest) => rest,
            None if end == rest.len() => return Some(parts),
            None => return None,
        };
    }
}

fn sql_part_end(name: &str) -> Option<usize> {
    let plain = |s: &str| {
        s.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
            && s.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '$')
    };
    let Some(quoted) = name.strip_prefix('"') else {
        let end = name.find('.').unwrap_or(name.len());
        return name.get(..end).filter(|part| plain(part)).map(str::len);
    };
    let mut quotes = quoted.match_indices('"').peekable();
    while let Some((at, _)) = quotes.next() {
        if quotes.next_if(|(next, _)| *next == at + 1).is_none() {
            let inner = quoted.get(..at)?;
            return (!inner.is_empty() && !plain(inner)).then_some(at + 2);
        }
    }
    None
}

#[cfg(test)]
mod tests {
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

    const KINDS: [&str; 10] = [
        "Workload",
        "TrustDomain",
        "HttpPath",
        "Bucket",
        "Prefix",
        "Object",
        "Database",
        "Schema",
        "Table",
        "Endpoint",
    ];

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
        let above = |kind, id| {
            ancestors_above(kind, id).into_iter().map(|(kind, id)| format!("{kind} {id}")).collect::<Vec<_>>()
        };
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
}
