//! The shape of entity ids: a policy about an id that no request can have would silently do nothing.

mod shape;
mod sql;
#[cfg(test)]
mod tests;

pub(super) use self::shape::{everything_below, form, form_above};
use self::shape::{shape, with_endpoint};
use self::sql::{sql, sql_parts};
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
