//! How ids are written, for those who wrote another one.

use super::{is_endpoint, resource};

/// What to write for an id that begins with something else than an endpoint.
pub(super) fn with_endpoint(kind: &str, id: &str) -> String {
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
pub(super) fn shape(kind: &str) -> String {
    format!(
        "write `{kind}::\"{}\"`, where ENDPOINT is a listener's name, as in `{kind}::\"{}\"`",
        form(kind),
        example(kind)
    )
}

pub(super) fn example(kind: &str) -> &'static str {
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
pub(in crate::policy::load) fn form(kind: &str) -> &'static str {
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
pub(in crate::policy::load) fn form_above(kind: &str) -> &'static str {
    match kind {
        "HttpPath" => "HttpPath::\"ENDPOINT/PATH\"",
        "Prefix" | "Object" => "Prefix::\"ENDPOINT/BUCKET/FOLDER\"",
        "Schema" => "Database::\"ENDPOINT/DATABASE\"",
        "Table" | "Function" => "Schema::\"ENDPOINT/DATABASE.SCHEMA\"",
        _ => "Endpoint::\"ENDPOINT\"",
    }
}

/// How to say "all of it" for an id that ends with `/*`.
pub(in crate::policy::load) fn everything_below(kind: &str, above: &str) -> String {
    match (kind, above.matches('/').count()) {
        (_, 0) => format!("Endpoint::\"{above}\""),
        ("HttpPath", _) => format!("HttpPath::\"{above}\""),
        ("Bucket" | "Prefix" | "Object", 1) => format!("Bucket::\"{above}\""),
        ("Bucket" | "Prefix" | "Object", _) => format!("Prefix::\"{above}\""),
        _ => format!("Database::\"{above}\""),
    }
}
