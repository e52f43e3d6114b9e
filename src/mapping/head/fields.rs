//! Header fields as the policies see them.

use http::{HeaderMap, header};

use super::strip::{Dropped, is_taken_for, joined_cookie};
use crate::mapping::refusal::shown;
use crate::mapping::{HeadersRead, Refusal, TagsRead, Value};

/// The fields that policies read, as `context.headers`: by lower-case name, in its order; several fields of one name are several
/// members. Only what reaches the upstream is copied, so that both see the same request.
///
/// # Errors
/// Rule `header-not-utf8`, if a field that a policy reads is not text: what cannot be compared must not pass for absent.
/// Rule `header-spelling`, if a field differs from one that a policy reads by `_` for `-` only: CGI and WSGI servers do not tell
/// the two apart, so the upstream would read what the policy has not. Only policies in force count for both: a candidate sees as
/// much of its headers as there is.
pub fn copied<'a>(headers: &HeaderMap, reads: impl Into<HeadersRead<'a>>) -> Result<Value, Refusal> {
    let HeadersRead { enforced, all } = reads.into();
    if let TagsRead::Only(names) = enforced {
        names.iter().try_for_each(|name| judge_spelling(headers, name))?;
    }
    let mut names: Vec<&str> = match all {
        TagsRead::All => headers.keys().map(header::HeaderName::as_str).collect(),
        TagsRead::Only(names) => names.iter().map(|name| &**name).filter(|name| headers.contains_key(*name)).collect(),
    };
    if names.is_empty() {
        return Ok(Value::Headers(Vec::new()));
    }
    let dropped = Dropped::of(headers);
    names.retain(|name| !dropped.drops(name));
    names.sort_unstable();
    let field = |name: &str| Ok((name.into(), members(headers, name, enforced.reads(name))?));
    names.into_iter().map(field).collect::<Result<_, _>>().map(Value::Headers)
}

/// Refuses a field that some servers take for `read`.
///
/// # Errors
/// Rule `header-spelling`.
pub fn judge_spelling(headers: &HeaderMap, read: &str) -> Result<(), Refusal> {
    let is_taken = |name: &&str| *name != read && is_taken_for(name, read);
    match headers.keys().map(header::HeaderName::as_str).find(is_taken) {
        None => Ok(()),
        Some(name) => Err(Refusal::bad_request(
            "header-spelling",
            format!("{} reads as {}, which counts here, on some servers", shown(name), shown(read)),
        )),
    }
}

fn members(headers: &HeaderMap, name: &str, is_enforced: bool) -> Result<Vec<Box<str>>, Refusal> {
    let text = |bytes: &[u8]| match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.into()),
        Err(_) if !is_enforced => Ok(String::from_utf8_lossy(bytes).into()),
        Err(_) => Err(Refusal::bad_request(
            "header-not-utf8",
            format!("a policy reads header {}, whose value is not UTF-8", shown(name)),
        )),
    };
    if name == "cookie"
        && let Some(joined) = joined_cookie(headers)
    {
        return Ok(vec![text(joined.as_bytes())?]);
    }
    headers.get_all(name).iter().map(|value| text(value.as_bytes())).collect()
}

/// Whether a field holds what must never be written anywhere: passwords, signatures, tokens, keys.
#[must_use]
pub fn is_secret(name: &str) -> bool {
    matches!(
        name,
        "authorization"
            | "cookie"
            | "proxy-authorization"
            | "set-cookie"
            | "x-amz-copy-source-server-side-encryption-customer-key"
            | "x-amz-mfa"
            | "x-amz-s3session-token"
            | "x-amz-security-token"
            | "x-amz-server-side-encryption-customer-key"
            | "x-api-key"
            | "x-auth-token"
    )
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &[u8])]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_bytes(value).unwrap());
        }
        headers
    }

    fn only(names: &[&str]) -> TagsRead {
        TagsRead::Only(names.iter().map(|name| (*name).into()).collect())
    }

    #[test]
    fn nothing_is_refused_for_what_only_candidates_read() {
        let headers = headers(&[("x-role", b"user"), ("x-odd", b"\xff"), ("x_new", b"1"), ("x-new", b"2")]);
        let enforced = only(&["x-role"]);
        for all in [only(&["x-role", "x-odd", "x-new"]), TagsRead::All] {
            let Value::Headers(seen) = copied(&headers, HeadersRead { enforced: &enforced, all: &all }).unwrap() else {
                panic!("headers")
            };
            let odd = seen.iter().find(|(name, _)| &**name == "x-odd").map(|(_, values)| values[0].to_string());
            assert_eq!(odd.as_deref(), Some("\u{fffd}"));
            assert!(copied(&headers, HeadersRead { enforced: &all, all: &all }).is_err());
        }
    }

    #[test]
    fn each_value_of_a_repeated_field_is_a_member_and_lists_are_not_split() {
        let headers = headers(&[("x-role", b"user"), ("x-role", b"admin, root"), ("x-other", b"1")]);
        let expected = Value::Headers(vec![("x-role".into(), vec!["user".into(), "admin, root".into()])]);
        assert_eq!(copied(&headers, &only(&["x-role", "x-absent"])).unwrap(), expected);
    }

    #[test]
    fn what_does_not_reach_the_upstream_is_not_seen_by_policies() {
        let headers = headers(&[
            ("connection", b"x-tenant"),
            ("x-tenant", b"a"),
            ("x-forwarded-client-cert", b"URI=spiffe://x/y"),
            ("x-portcullis-decision", b"1"),
            ("authorization", b"t"),
        ]);
        let expected = Value::Headers(vec![("authorization".into(), vec!["t".into()])]);
        assert_eq!(copied(&headers, &TagsRead::All).unwrap(), expected);
    }

    #[test]
    fn a_field_that_is_read_but_not_text_refuses_the_request() {
        let headers = headers(&[("x-tenant", b"a\xff")]);
        assert_eq!(copied(&headers, &only(&["x-tenant"])).unwrap_err().rule, "header-not-utf8");
        assert!(copied(&headers, &only(&["x-other"])).is_ok());
    }

    #[test]
    fn a_field_that_some_servers_take_for_one_that_is_read_refuses_the_request() {
        let rule = |given: &'static str, read: &str| {
            copied(&headers(&[(given, b"a")]), &only(&[read])).map_err(|refusal| refusal.rule)
        };
        for (given, read) in
            [("x_role", "x-role"), ("x-role", "x_role"), ("x_user-role", "x-user-role"), ("x-user_role", "x_user-role")]
        {
            assert_eq!(rule(given, read), Err("header-spelling"), "{given} for {read}");
        }
        for (given, read) in [
            ("x-role", "x-role"),
            ("x_role", "x_role"),
            ("xrole", "x-role"),
            ("x_roles", "x-role"),
            ("x_rule", "x-role"),
        ] {
            assert!(rule(given, read).is_ok(), "{given} beside {read}");
        }
    }

    #[test]
    fn policies_see_exactly_the_fields_that_are_forwarded() {
        let mut received = headers(&[
            ("connection", b"close, x-a, cookie"),
            ("cookie", b"a=1"),
            ("cookie", b"b=2"),
            ("x-a", b"1"),
            ("x-b", b"2"),
            ("x-b", b"3"),
            ("upgrade", b"websocket"),
        ]);
        let Value::Headers(seen) = copied(&received, &TagsRead::All).unwrap() else { panic!("headers") };
        super::super::strip_for_upstream(&mut received);
        let mut forwarded: Vec<_> =
            received.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
        forwarded.sort();
        let seen: Vec<_> = seen
            .iter()
            .flat_map(|(name, values)| values.iter().map(|value| (name.to_string(), value.to_string())))
            .collect();
        assert_eq!(seen, forwarded);
    }
}
