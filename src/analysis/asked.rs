//! A case's question becomes what a listener would ask: requests go through the mappers themselves.

use std::time::{SystemTime, UNIX_EPOCH};

use http::Request;
use http::request::Parts;
use serde_json::{Map, Value as Json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::question::{Question, Texts};
use crate::config::{Direction, HttpConfig, Limits, ListenerConfig, ProtocolConfig, S3Config, nearest};
use crate::mapping::head::{HeadRules, judge};
use crate::mapping::s3::{self, Asked};
use crate::mapping::{
    Action, Context, HeadersRead, Operation, Operations, Resource, Tags, Value, http as http_mapping, sql,
};

/// The context attributes that all questions share.
const FACTS: [&str; 5] = ["now", "sourceIp", "direction", "tls", "token"];
/// The others.
const OWN: [&str; 28] = [
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

/// What a case asks, or the refusal that its request meets.
#[derive(Debug)]
pub(super) struct AskedOf {
    pub(super) facts: Context,
    pub(super) operations: Result<Operations, String>,
}

impl Question {
    /// # Errors
    /// The case is not written as one.
    pub(super) fn asked(&self, reads: HeadersRead<'_>) -> Result<AskedOf, String> {
        let mut facts = context(&self.context, &FACTS)?;
        if facts.get("now").is_none() {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
            facts.set("now", Value::Datetime(i64::try_from(now).unwrap_or(i64::MAX)));
        }
        if facts.get("direction").is_none() {
            facts.set("direction", "inbound");
        }
        let own = context(&self.context, &OWN)?;
        if let Some(unknown) =
            self.context.keys().find(|key| !FACTS.contains(&key.as_str()) && !OWN.contains(&key.as_str()))
        {
            let meant = nearest(unknown, FACTS.into_iter().chain(OWN))
                .map(|name| format!(", did you mean `{name}`?"))
                .unwrap_or_default();
            return Err(format!("`context` has no attribute `{unknown}`{meant}"));
        }
        if (self.request.is_some() || self.sql.is_some()) && own.iter().next().is_some() {
            return Err(format!(
                "with `request` or `sql` the context comes from what is asked: `context` may have {}",
                FACTS.join(", ")
            ));
        }
        if let Some(sql) = &self.sql {
            return Ok(AskedOf { facts, operations: sql.operations()? });
        }
        let operations = match (&self.request, &self.action, &self.resource) {
            (Some(request), ..) => self.map(request, reads)?,
            (None, Some(name), Some(id)) => {
                let context = with_what_is_always_there(name, own);
                Ok(Operations::one(Operation { action: action(name)?, resource: self.placed(id)?, context }))
            }
            _ => return Err("what is asked? `request`, `sql`, or `action` and `resource`".to_owned()),
        };
        Ok(AskedOf { facts, operations })
    }

    /// The resource of that id, with the tables that it is a partition of.
    pub(super) fn placed(&self, id: &str) -> Result<Resource, String> {
        let wholes = self.partition_of.iter().map(|whole| resource(whole));
        Ok(resource(id)?.partition_of(wholes.collect::<Result<Vec<_>, _>>()?))
    }

    /// `GET s3://ENDPOINT/BUCKET/KEY?QUERY` or `POST http://ENDPOINT/PATH`.
    fn map(&self, request: &str, reads: HeadersRead<'_>) -> Result<Result<Operations, String>, String> {
        let (method, url) =
            request.split_once(' ').ok_or("`request` is `METHOD s3://ENDPOINT/…` or `METHOD http://ENDPOINT/…`")?;
        let (scheme, rest) = url.split_once("://").ok_or("`request` has no `s3://` or `http://`")?;
        let at = rest.find(['/', '?']).unwrap_or(rest.len());
        let (endpoint, target) = rest.split_at_checked(at).unwrap_or((rest, ""));
        if !self.endpoints.is_empty() && self.endpoints.get(endpoint).map(String::as_str) != Some(scheme) {
            return Err(format!("`endpoints` has no `{endpoint}: {scheme}`"));
        }
        let listener = self.listener(endpoint, scheme)?;
        let limits = listener.map_or_else(Limits::default, |listener| listener.limits.clone());
        let hosts = match listener.map(|listener| &listener.protocol) {
            Some(ProtocolConfig::Http(http)) => http.hosts.as_slice(),
            _ => &[],
        };
        let host = hosts.first().map_or("localhost", String::as_str);
        let parts = self.parts(method, if target.is_empty() { "/" } else { target }, host)?;
        let refused = |refusal: crate::mapping::Refusal| format!("{}: {}", refusal.rule, refusal.message);
        match scheme {
            "s3" => {
                let config = match listener.map(|listener| &listener.protocol) {
                    Some(ProtocolConfig::S3(config)) => config.clone(),
                    _ => S3Config::default(),
                };
                let head = match judge(&parts, &HeadRules::s3(&limits)) {
                    Ok(head) => head,
                    Err(refusal) => return Ok(Err(refused(refusal))),
                };
                match s3::map(&head, endpoint, &config, reads).map(|call| call.asked) {
                    Ok(Asked::Operations(operations)) => Ok(Ok(operations)),
                    Ok(Asked::DeleteObjects(delete)) => {
                        let body = self.body.as_deref().ok_or("DeleteObjects needs a `body`")?;
                        Ok(delete.parse(body.as_bytes()).map(|delete| delete.operations()).map_err(refused))
                    }
                    Ok(Asked::RestoreObject(restore)) => {
                        Ok(restore.judge(self.body.as_deref().unwrap_or_default().as_bytes()).map_err(refused))
                    }
                    Err(refusal) => Ok(Err(refused(refusal))),
                }
            }
            "http" => {
                let config = match listener.map(|listener| &listener.protocol) {
                    Some(ProtocolConfig::Http(config)) => config.clone(),
                    _ => HttpConfig::default(),
                };
                Ok(judge(&parts, &HeadRules::http(&config, &limits))
                    .and_then(|head| http_mapping::map(&head, endpoint, &config, reads).map(|call| call.operations))
                    .map_err(refused))
            }
            other => Err(format!("`request` has `{other}://`, it is `s3://` or `http://`")),
        }
    }

    /// The listener of that name, inbound before outbound; none if nothing is known of any.
    fn listener(&self, endpoint: &str, scheme: &str) -> Result<Option<&ListenerConfig>, String> {
        if self.listeners.is_empty() {
            return Ok(None);
        }
        let wanted = match self.context.get("direction").and_then(Json::as_str) {
            Some("outbound") => Direction::Outbound,
            _ => Direction::Inbound,
        };
        let named = || self.listeners.iter().filter(|listener| *listener.name == *endpoint);
        let found = named().find(|listener| listener.direction == wanted).or_else(|| named().next());
        let Some(found) = found else {
            let names = self.listeners.iter().map(|listener| &*listener.name);
            let meant = nearest(endpoint, names).map(|name| format!(", did you mean `{name}`?")).unwrap_or_default();
            return Err(format!("the configuration has no listener `{endpoint}`{meant}"));
        };
        let speaks = found.protocol.as_str();
        if speaks == scheme {
            Ok(Some(found))
        } else {
            Err(format!("the listener `{endpoint}` has `protocol: {speaks}`, not {scheme}"))
        }
    }

    fn parts(&self, method: &str, target: &str, host: &str) -> Result<Parts, String> {
        let mut builder = Request::builder().method(method).uri(target);
        let says = |header: &str| self.headers.keys().any(|name| name.eq_ignore_ascii_case(header));
        if let (Some(body), false) = (&self.body, says("content-length") || says("transfer-encoding")) {
            builder = builder.header("content-length", body.len());
        }
        if !says("host") {
            builder = builder.header("host", host);
        }
        for (name, values) in &self.headers {
            let values = match values {
                Texts::One(value) => std::slice::from_ref(value),
                Texts::Several(values) => values,
            };
            for value in values {
                builder = builder.header(name, value);
            }
        }
        Ok(builder.body(()).map_err(|cause| format!("`request`: {cause}"))?.into_parts().0)
    }
}

fn action(name: &str) -> Result<Action, String> {
    if let Some(method) = name.strip_prefix("http:").filter(|method| *method != "Upgrade") {
        return Ok(Action::http(method));
    }
    let known = || {
        s3::actions()
            .map(|(name, _)| name)
            .chain(sql::actions().map(|(name, _)| name))
            .chain(["http:Upgrade", "tcp:Connect"])
    };
    known().find(|known| *known == name).map(Action::named).ok_or_else(|| {
        let meant = nearest(name, known()).map(|name| format!(", did you mean `{name}`?")).unwrap_or_default();
        format!("there is no action `{name}`{meant}")
    })
}

/// The context of a family's operations always has these: what is not said is the least that a request can be.
fn with_what_is_always_there(action: &str, mut context: Context) -> Context {
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

/// `Object::"lake/raw/a"`
pub(super) fn resource(text: &str) -> Result<Resource, String> {
    let wrong =
        || format!("`{text}` is no resource: write `Object::\"ENDPOINT/BUCKET/KEY\"`, `HttpPath::\"ENDPOINT/PATH\"` …");
    let (kind, id) = text.split_once("::").ok_or_else(wrong)?;
    let id = id.strip_prefix('"').and_then(|id| id.strip_suffix('"')).and_then(as_written).ok_or_else(wrong)?;
    let id = id.as_str();
    let mut parts = id.splitn(3, '/');
    let (endpoint, bucket, rest) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
    match (kind, bucket, rest) {
        ("Endpoint", None, None) => Ok(Resource::endpoint(endpoint)),
        ("Bucket", Some(bucket), None) => Ok(Resource::bucket(endpoint, bucket)),
        ("Prefix", Some(bucket), Some(prefix)) => Ok(Resource::prefix(endpoint, bucket, prefix)),
        ("Object", Some(bucket), Some(key)) => Ok(Resource::object(endpoint, bucket, key)),
        ("HttpPath", Some(_), _) => {
            id.get(endpoint.len()..).map(|path| Resource::http_path(endpoint, path)).ok_or_else(wrong)
        }
        ("Database" | "Schema" | "Table" | "Function", Some(_), _) => {
            let names = id.get(endpoint.len() + 1..).and_then(sql_names).ok_or_else(wrong)?;
            match (kind, names.as_slice()) {
                ("Database", [database]) => Ok(Resource::database(endpoint, database)),
                ("Schema", [database, schema]) => Ok(Resource::schema(endpoint, database, schema)),
                ("Table", [database, schema, table]) => Ok(Resource::table(endpoint, database, schema, table)),
                ("Function", [database, schema, name]) => Ok(Resource::function(endpoint, database, schema, name)),
                _ => Err(wrong()),
            }
        }
        _ => Err(wrong()),
    }
}

/// An id without its escapes, if it has any. Quotes need none here: people write `Table::"wh/a.b."C""` as it is read.
///
/// # Source
/// Cedar's strings: `\n`, `\r`, `\t`, `\\`, `\0`, `\"`, `\'`, `\xHH`, `\u{H…}` (<https://docs.cedarpolicy.com/policies/syntax-grammar.html>).
fn as_written(id: &str) -> Option<String> {
    let mut written = String::with_capacity(id.len());
    let mut rest = id.chars();
    while let Some(character) = rest.next() {
        if character != '\\' {
            written.push(character);
            continue;
        }
        written.push(match rest.next()? {
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            '0' => '\0',
            same @ ('\\' | '"' | '\'') => same,
            'x' => {
                let digits: String = rest.by_ref().take(2).collect();
                char::from(u8::from_str_radix(&digits, 16).ok().filter(u8::is_ascii)?)
            }
            'u' => {
                rest.next().filter(|brace| *brace == '{')?;
                let digits: String = rest.by_ref().take_while(|digit| *digit != '}').collect();
                char::from_u32(u32::from_str_radix(&digits, 16).ok()?)?
            }
            _ => return None,
        });
    }
    Some(written)
}

/// `analytics.public."a.b"` taken apart: names in quotes may hold dots, and hold quotes twice.
pub(super) fn sql_names(text: &str) -> Option<Vec<String>> {
    let mut names = Vec::new();
    let mut rest = text;
    loop {
        let (name, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_name(quoted)?,
            None => {
                let (name, after) = rest.split_at_checked(rest.find('.').unwrap_or(rest.len()))?;
                (name.to_owned(), after)
            }
        };
        names.push(Some(name).filter(|name| !name.is_empty())?);
        match after.strip_prefix('.') {
            Some(more) => rest = more,
            None => return after.is_empty().then_some(names),
        }
    }
}

/// The name up to its closing quote, and what follows that.
pub(super) fn quoted_name(mut rest: &str) -> Option<(String, &str)> {
    let mut name = String::new();
    loop {
        let (part, after) = rest.split_once('"')?;
        name.push_str(part);
        match after.strip_prefix('"') {
            Some(more) => rest = more,
            None => return Some((name, after)),
        }
        name.push('"');
    }
}

/// The attributes of `json` that are among `names`.
fn context(json: &Map<String, Json>, names: &[&'static str]) -> Result<Context, String> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sql_resources_are_read_as_ids_write_them() {
        for (text, expected) in [
            ("Database::\"wh/a\"", Resource::database("wh", "a")),
            ("Schema::\"wh/a.b\"", Resource::schema("wh", "a", "b")),
            ("Table::\"wh/a.b.c\"", Resource::table("wh", "a", "b", "c")),
            ("Table::\"wh/a.b.\"x.\"\"y\"\"", Resource::table("wh", "a", "b", "x.\"y")),
            ("Function::\"wh/\"A\".b.c\"", Resource::function("wh", "A", "b", "c")),
            ("Table::\"wh/a.b.\\\"C\\\"\"", Resource::table("wh", "a", "b", "C")),
            ("Object::\"lake/raw/it\\'s\\u{1f980}\\x41\"", Resource::object("lake", "raw", "it's🦀A")),
        ] {
            assert_eq!(resource(text), Ok(expected), "{text}");
        }
        for text in [
            "Object::\"lake/raw/\\q\"",
            "Object::\"lake/raw/\\xff\"",
            "Table::\"wh/a.b\"",
            "Schema::\"wh/a..b\"",
            "Database::\"wh\"",
            "Table::\"wh/a.b.\"c\"",
        ] {
            assert!(resource(text).is_err_and(|error| error.contains("is no resource")), "{text}");
        }
    }
}
