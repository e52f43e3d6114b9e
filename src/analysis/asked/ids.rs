//! Ids as people and records write them.

use crate::mapping::Resource;
use crate::mapping::http_path::JudgedPath;

/// `Object::"lake/raw/a"`
pub(in crate::analysis) fn resource(text: &str) -> Result<Resource, String> {
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
            let path = id.get(endpoint.len()..).ok_or_else(wrong)?;
            judged(endpoint, path)?;
            Ok(Resource::http_path(endpoint, path))
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

/// No request has a path of another form: what policies say of it would be true of nothing.
fn judged(endpoint: &str, path: &str) -> Result<(), String> {
    match JudgedPath::parse(path, false) {
        Ok(judged) if judged.as_str() == path => Ok(()),
        Ok(judged) => Err(format!(
            "`HttpPath::\"{endpoint}{path}\"` is never asked about: requests are judged in one form, `HttpPath::\"{endpoint}{}\"`",
            judged.as_str()
        )),
        Err(refusal) => Err(format!(
            "`HttpPath::\"{endpoint}{path}\"` is never asked about, since no request has such a path: {}; write the path alone, without \
             query, as it is after normalising",
            refusal.message
        )),
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
pub(in crate::analysis) fn sql_names(text: &str) -> Option<Vec<String>> {
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
pub(in crate::analysis) fn quoted_name(mut rest: &str) -> Option<(String, &str)> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_no_request_has_are_refused() {
        for id in ["api/", "api/a/b", "api/a/b/", "api/caf%C3%A9"] {
            assert!(resource(&format!("HttpPath::\"{id}\"")).is_ok(), "{id}");
        }
        for (id, said) in [
            ("api/a//b", "empty segment"),
            ("api/a/../b", "no request has such a path"),
            ("api/a?x=1", "without query"),
            ("api/%7Euser", "HttpPath::\"api/~user\""),
            ("api/caf%c3%a9", "HttpPath::\"api/caf%C3%A9\""),
        ] {
            let refused = resource(&format!("HttpPath::\"{id}\"")).unwrap_err();
            assert!(refused.contains(said) && refused.contains(id), "{refused}");
        }
    }

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
