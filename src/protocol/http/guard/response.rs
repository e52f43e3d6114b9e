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

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(version: Version, fields: &[(&str, &str)]) -> Option<(u16, &'static str)> {
        let mut response = http::Response::builder().version(version);
        for (name, value) in fields {
            response = response.header(*name, *value);
        }
        let (head, ()) = response.body(()).unwrap().into_parts();
        judge_upstream_head(&head).err().map(|refusal| (refusal.status, refusal.rule))
    }

    #[test]
    fn a_response_whose_end_is_ambiguous_is_a_bad_gateway_and_a_plain_one_is_not() {
        let http1 = |fields: &[_]| rule(Version::HTTP_11, fields);
        let (length, chunked) = (("content-length", "3"), ("transfer-encoding", "chunked"));
        assert_eq!(http1(&[]), None);
        assert_eq!(http1(&[length]), None);
        assert_eq!(http1(&[chunked]), None);
        assert_eq!(http1(&[length, chunked]), Some((502, "content-length-with-transfer-encoding")));
        assert_eq!(http1(&[length, length]), Some((502, "content-length-repeated")));
        assert_eq!(http1(&[chunked, chunked]), Some((502, "transfer-encoding-repeated")));
        assert_eq!(http1(&[("content-length", "3, 3")]), Some((502, "content-length")));
        assert_eq!(http1(&[("content-length", "+3")]), Some((502, "content-length")));
        assert_eq!(http1(&[("transfer-encoding", "gzip, chunked")]), Some((502, "transfer-encoding")));
        assert_eq!(rule(Version::HTTP_2, &[length]), None);
    }
}
