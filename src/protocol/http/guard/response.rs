//! The framing of an upstream's response, judged from its parsed head.

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, Version, response};

use super::head::{content_length, transfer_encoding};
use super::verdict::HeadRefusal;

/// Refuses (502) an HTTP/1 response whose body's end hyper's client had to choose: it takes Content-Length with
/// Transfer-Encoding (and keeps both fields), equal Content-Lengths as fields or as a list, several Transfer-Encodings, of
/// which it reads the last, and other codings (to the end of the connection). The fields are all still in the head when
/// hyper gives it out, so no byte guard is needed on this side: nobody else reads these bytes, and unlike a
/// request nothing was decided from them. Bare LF, which hyper takes too, can then only add fields, and added framing
/// is caught here. Responses of other versions pass: h2 has checked them.
///
/// # Errors
/// The first rule broken: `content-length`, `content-length-repeated`, `content-length-with-transfer-encoding`,
/// `transfer-encoding`, `transfer-encoding-repeated`.
pub fn judge_upstream_head(head: &response::Parts) -> Result<(), HeadRefusal> {
    if head.version > Version::HTTP_11 {
        return Ok(());
    }
    judge(&head.headers).map_err(|refusal| HeadRefusal { status: 502, ..refusal })
}

fn judge(headers: &HeaderMap) -> Result<(), HeadRefusal> {
    let length = only(headers, &CONTENT_LENGTH, "content-length-repeated")?;
    let encoding = only(headers, &TRANSFER_ENCODING, "transfer-encoding-repeated")?;
    match (length, encoding) {
        (Some(_), Some(_)) => {
            let rule = "content-length-with-transfer-encoding";
            Err(HeadRefusal::bad(rule, "upstream sent both content-length and transfer-encoding"))
        }
        (Some(length), None) => content_length(length).map(|_| ()),
        (None, Some(encoding)) => transfer_encoding(encoding),
        (None, None) => Ok(()),
    }
}

fn only<'a>(headers: &'a HeaderMap, name: &HeaderName, rule: &'static str) -> Result<Option<&'a [u8]>, HeadRefusal> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(HeadRefusal::bad(rule, format!("upstream sent more than one {name} field")));
    }
    Ok(first.map(http::HeaderValue::as_bytes))
}
