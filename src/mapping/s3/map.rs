//! The walk of one request: address, query, headers, row of the table, operations.

use http::{HeaderMap, Method};

use super::address::{self, Address, S3Address};
use super::body::{DeleteObjects, RestoreObject, Rewritable};
use super::headers::Deciding;
use super::operations::Matched;
use super::query::Query;
use super::table::{Level, Row, Source, TABLE, Verb};
use crate::config::S3Config;
use crate::mapping::head::{JudgedHead, copied};
use crate::mapping::refusal::shown;
use crate::mapping::{HeadersRead, Operations, Refusal, TagsRead};

/// What a request to an S3 store asks.
#[derive(Debug, Clone, PartialEq)]
pub struct S3Call {
    /// The operation of the S3 API: `PutObject`, `UploadPart` …
    pub operation: &'static str,
    /// What the request is addressed to.
    pub address: S3Address,
    /// What is asked.
    pub asked: Asked,
}

/// What is asked, as far as the head says it.
#[derive(Debug, Clone, PartialEq)]
pub enum Asked {
    /// All of it.
    Operations(Operations),
    /// The body names the keys.
    DeleteObjects(DeleteObjects),
    /// The body may name a place to write to.
    RestoreObject(RestoreObject),
}

/// Names what a request asks. Its target is forwarded unchanged.
///
/// # Errors
/// Rule `upgrade`; of the address: `unknown-host`, `host-spelling`, `bucket-name`, `encoded-bucket`, `path-character`, `asterisk-form`, `key-length`,
/// `dot-segment`, `empty-segment`, `encoded-nul`, `invalid-utf8`, `invalid-percent`; of the query: `query-separator`,
/// `query-character`, `query-key`, `empty-query-pair`, `repeated-query-key`, `unsigned-hoisted-header`, `version-id`; of the
/// headers: `repeated-header`, `header-value`, `header-spelling`, `unknown-header`, `copy-source`, `copy-source-arn`, `decoded-length`,
/// `encoded-body`, `header-not-utf8`; of the operation: `unknown-method`, `unknown-query-key`, `post-form`, `no-operation`.
pub fn map<'r>(
    head: &JudgedHead<'_>,
    endpoint: &str,
    config: &S3Config,
    reads: impl Into<HeadersRead<'r>>,
) -> Result<S3Call, Refusal> {
    if head.upgrade.is_some() {
        return Err(Refusal::bad_request("upgrade", "the S3 API knows no upgrade"));
    }
    let address = address::address(head, config)?;
    let query = Query::parse(head.query())?;
    let deciding = Deciding::collect(head.headers, &query)?;
    let row = find_row(head.method, head.headers, &address, &query, &deciding)?;
    let headers = copied(head.headers, reads)?;
    let matched =
        Matched { endpoint, head, config, address: &address, query: &query, deciding: &deciding, headers, row };
    let asked = match row.operation {
        "DeleteObjects" => Asked::DeleteObjects(delete_objects(&matched)?),
        "RestoreObject" => {
            judge_body_is_plain(&deciding)?;
            Asked::RestoreObject(RestoreObject::new(matched.operations()?))
        }
        _ => Asked::Operations(matched.operations()?),
    };
    Ok(S3Call { operation: row.operation, address: S3Address::from(&address), asked })
}

fn find_row(
    method: &Method,
    headers: &HeaderMap,
    address: &Address<'_>,
    query: &Query<'_>,
    deciding: &Deciding<'_>,
) -> Result<&'static Row, Refusal> {
    let Some(verb) = Verb::of(method) else {
        return Err(Refusal::with_status(
            501,
            "unknown-method",
            format!("method {} is not of the S3 API", shown(method.as_str())),
        ));
    };
    let level = match address {
        Address::Root => Level::Service,
        Address::Bucket { .. } => Level::Bucket,
        Address::Object { .. } => Level::Object,
    };
    let source = match (deciding.copy_source, deciding.rename_source) {
        (None, None) => Source::No,
        (Some(_), None) => Source::Copied,
        (None, Some(_)) => Source::Renamed,
        (Some(_), Some(_)) => {
            return Err(Refusal::with_status(501, "no-operation", "request copies and renames at once"));
        }
    };
    // Some stores take any POST with such a body for a form upload, whatever its query says.
    if verb == Verb::Post && headers.get_all(http::header::CONTENT_TYPE).iter().any(is_form) {
        let message = "a form upload has its key in the body, where it is not judged";
        return Err(Refusal::with_status(501, "post-form", message));
    }
    TABLE.iter().find(|row| row.fits(verb, level, source, query)).ok_or_else(|| {
        if let Some(unknown) =
            query.parameters.iter().find(|parameter| !TABLE.iter().any(|row| row.knows(parameter.key)))
        {
            let message = format!("query key {} is not one of the S3 API", shown(unknown.key));
            return Refusal::with_status(501, "unknown-query-key", message);
        }
        let keys: Vec<&str> = query.parameters.iter().map(|parameter| parameter.key).collect();
        let message = format!("no S3 operation is {method} of a {level:?} with query keys {}", shown(keys.join(", ")));
        Refusal::with_status(501, "no-operation", message)
    })
}

fn is_form(content_type: &http::HeaderValue) -> bool {
    const FORM: &[u8] = b"multipart/form-data";
    content_type.as_bytes().get(..FORM.len()).is_some_and(|start| start.eq_ignore_ascii_case(FORM))
}

fn delete_objects(matched: &Matched<'_>) -> Result<DeleteObjects, Refusal> {
    judge_body_is_plain(matched.deciding)?;
    let Address::Bucket { bucket } = matched.address else {
        return Err(Refusal::with_status(501, "no-operation", "DeleteObjects without a bucket"));
    };
    Ok(DeleteObjects {
        endpoint: matched.endpoint.into(),
        bucket: (*bucket).into(),
        contexts: [matched.context(false, None)?, matched.context(true, None)?],
        bypass_retention: matched.deciding.bypass_retention,
        allow_dot_segments: matched.config.unsafe_allow_dot_segments,
        rewritable: Rewritable::of(matched.head.headers, matched.query, matched.deciding),
    })
}

/// A body that must be read to be judged is read as it is.
fn judge_body_is_plain(deciding: &Deciding<'_>) -> Result<(), Refusal> {
    let is_plain =
        deciding.content_encoding.is_none_or(|coding| coding.is_empty() || coding.eq_ignore_ascii_case("identity"));
    if is_plain && !deciding.is_aws_chunked() {
        return Ok(());
    }
    Err(Refusal::with_status(501, "encoded-body", "the body decides what is asked, and is encoded"))
}

impl Asked {
    /// Whether the body must be read before anything is decided.
    #[must_use]
    pub const fn needs_body(&self) -> bool {
        !matches!(self, Self::Operations(_))
    }
}

/// For fuzzing: lines of method, target, then header fields. No panic, and equal requests ask equally.
pub fn fuzz(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut lines = text.lines();
    let (Some(method), Some(target)) = (lines.next(), lines.next()) else { return };
    let mut request = http::Request::builder().method(method).uri(target).header("host", "localhost");
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        request = request.header(name, value);
    }
    let Ok(request) = request.body(()) else { return };
    let (parts, ()) = request.into_parts();
    let config = S3Config::default();
    let rules = crate::mapping::head::HeadRules::s3(&crate::config::Limits::default());
    let Ok(head) = crate::mapping::head::judge(&parts, &rules) else { return };
    let call = map(&head, "lake", &config, &TagsRead::All);
    assert_eq!(call, map(&head, "lake", &config, &TagsRead::All));
}

#[cfg(test)]
mod tests {
    use super::super::table::About;
    use super::*;

    #[test]
    fn rows_that_wait_for_a_body_are_the_two_that_the_walk_knows() {
        let waiting: Vec<_> = TABLE.iter().filter(|row| row.about == About::Body).map(|row| row.operation).collect();
        assert_eq!(waiting, ["RestoreObject", "DeleteObjects"]);
    }
}
