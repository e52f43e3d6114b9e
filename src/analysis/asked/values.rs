//! Context as people and records write it.

use serde_json::{Map, Value as Json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::mapping::{Context, Tags, Value};

/// The context attributes that all questions share.
pub(super) const FACTS: [&str; 5] = ["now", "sourceIp", "direction", "tls", "token"];
/// The others.
pub(super) const OWN: [&str; 28] = [
    "host",
    "headers",
    "operation",
    "encryption",
    "kmsKeyId",
    "contentLength",
    "storageClass",
    "acl",
    "byVersion",
    "presigned",
    "copySource",
    "ifMatch",
    "ifNoneMatch",
    "prefix",
    "delimiter",
    // Of SQL statements.
    "columns",
    "statement",
    "role",
    "base",
    "setting",
    "channel",
    "objectType",
    "objectName",
    "requestedRole",
    "applicationName",
    "options",
    "publication",
    "slot",
];

/// The context of a family's operations always has these: what is not said is the least that a request can be.
pub(super) fn with_what_is_always_there(action: &str, mut context: Context) -> Context {
    let (family, name) = action.split_once(':').unwrap_or_default();
    let required: &[(&'static str, Value)] = match family {
        "sql" => &[
            ("columns", Value::Strings(Vec::new())),
            ("statement", Value::String("select".into())),
            ("role", Value::String("postgres".into())),
        ],
        "http" => &[("headers", Value::Headers(Vec::new()))],
        "s3" | "s3express" => &[
            ("headers", Value::Headers(Vec::new())),
            ("operation", Value::String(name.into())),
            ("byVersion", Value::Bool(false)),
            ("presigned", Value::Bool(false)),
        ],
        _ => &[],
    };
    for (name, value) in required {
        if context.get(name).is_none() {
            context.set(name, value.clone());
        }
    }
    context
}

/// The attributes of `json` that are among `names`.
pub(super) fn context(json: &Map<String, Json>, names: &[&'static str]) -> Result<Context, String> {
    let mut context = Context::default();
    for name in names {
        if let Some(json) = json.get(*name) {
            context.set(name, value(name, json).ok_or_else(|| format!("`context.{name}` is not of its type"))?);
        }
    }
    Ok(context)
}

fn value(name: &str, json: &Json) -> Option<Value> {
    Some(match name {
        "now" => Value::Datetime(millis(json)?),
        "sourceIp" => Value::Ip(json.as_str()?.parse().ok()?),
        "tls" => Value::Record(vec![
            ("version", json.get("version")?.as_str()?.into()),
            ("certificateExpiry", Value::Datetime(millis(json.get("certificateExpiry")?)?)),
        ]),
        "headers" => Value::Headers(tags(json)?),
        "token" => token(json.as_object()?)?,
        "columns" | "base" | "options" | "publication" => Value::Strings(strings(json)?),
        _ => match json {
            Json::Bool(value) => Value::Bool(*value),
            Json::Number(number) => Value::Long(number.as_i64()?),
            Json::String(text) => text.as_str().into(),
            _ => return None,
        },
    })
}

fn tags(json: &Json) -> Option<Tags> {
    // In records `null` is one that policies looked for and that was not there.
    let tags = json.as_object()?.iter().filter(|(_, values)| !values.is_null());
    tags.map(|(name, values)| Some((name.as_str().into(), strings(values)?))).collect()
}

/// A token, of which a case says at least `iss` and `sub`: a listener has verified it.
fn token(json: &Map<String, Json>) -> Option<Value> {
    const FIELDS: [&str; 7] = ["iss", "sub", "aud", "amr", "scope", "expires", "claims"];
    if json.keys().any(|name| !FIELDS.contains(&name.as_str())) {
        return None;
    }
    let mut fields = vec![("iss", json.get("iss")?.as_str()?.into()), ("sub", json.get("sub")?.as_str()?.into())];
    fields.push(("aud", Value::Strings(json.get("aud").map_or(Some(Vec::new()), strings)?)));
    for name in ["amr", "scope"] {
        if let Some(values) = json.get(name) {
            fields.push((name, Value::Strings(strings(values)?)));
        }
    }
    fields.push(("expires", Value::Datetime(json.get("expires").map_or(Some(NEVER), millis)?)));
    fields.push(("claims", Value::Claims(json.get("claims").map_or(Some(Vec::new()), tags)?)));
    Some(Value::Record(fields))
}

/// 9999-12-31T23:59:59Z: a case that says nothing of a token's end is not about it.
const NEVER: i64 = 253_402_300_799_000;

fn strings(json: &Json) -> Option<Vec<Box<str>>> {
    json.as_array()?.iter().map(|value| value.as_str().map(Into::into)).collect()
}

fn millis(json: &Json) -> Option<i64> {
    let at = OffsetDateTime::parse(json.as_str()?, &Rfc3339).ok()?;
    i64::try_from(at.unix_timestamp_nanos() / 1_000_000).ok()
}
