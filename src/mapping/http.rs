//! Generic HTTP: `http:METHOD` on the path.

use std::borrow::Cow;

use super::head::{JudgedHead, copied};
use super::http_path::JudgedPath;
use super::{Action, Context, Group, HeadersRead, Operation, Operations, Refusal, Resource, ResourceKind, TagsRead};
use crate::config::HttpConfig;

/// What a request to an HTTP service asks, and the target to forward.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpCall<'a> {
    /// `http:METHOD`; a WebSocket asks `http:Upgrade` and `http:GET`.
    pub operations: Operations,
    /// The judged path with the query as received. Borrowed if that is what was received.
    pub path_and_query: Cow<'a, str>,
}

/// The actions of this family, with the kind of resource and the group of each.
const ACTIONS: [(&str, Group); 8] = [
    ("http:GET", Group::Read),
    ("http:HEAD", Group::Read),
    ("http:OPTIONS", Group::Read),
    ("http:POST", Group::Write),
    ("http:PUT", Group::Write),
    ("http:PATCH", Group::Write),
    ("http:DELETE", Group::Delete),
    ("http:Upgrade", Group::Connect),
];

/// Every action that [`map`] can ask about and that the shipped schema names, with its group. A request by another method asks
/// about `http:METHOD` too; an action that no schema names is refused where it is decided.
pub fn actions() -> impl Iterator<Item = (&'static str, Group)> {
    ACTIONS.into_iter()
}

/// The kinds of resource that an action applies to.
#[must_use]
pub fn resource_kinds(_action: &str) -> &'static [ResourceKind] {
    &[ResourceKind::HttpPath]
}

/// Names what a request asks.
///
/// # Errors
/// The rules of [`JudgedPath::parse`], `fragment` and `control-character` for the query, `header-not-utf8`.
pub fn map<'a, 'r>(
    head: &JudgedHead<'a>,
    endpoint: &str,
    config: &HttpConfig,
    reads: impl Into<HeadersRead<'r>>,
) -> Result<HttpCall<'a>, Refusal> {
    let path = JudgedPath::parse(head.path(), config.merge_slashes)?;
    let query = head.query();
    if let Some(query) = query {
        judge_query(query)?;
    }
    let mut context = Context::default();
    context.set("host", &*head.host);
    context.set("headers", copied(head.headers, reads)?);
    let operation =
        |action, context| Operation { action, resource: Resource::http_path(endpoint, path.as_str()), context };
    let operations = if head.upgrade.is_some() {
        let mut operations = Operations::one(operation(Action::named("http:Upgrade"), context.clone()));
        operations.push(operation(Action::named("http:GET"), context));
        operations
    } else {
        Operations::one(operation(Action::http(head.method.as_str()), context))
    };
    let path_and_query = match (path.into_inner(), query) {
        (Cow::Borrowed(_), _) => Cow::Borrowed(head.target),
        (Cow::Owned(path), None) => Cow::Owned(path),
        (Cow::Owned(path), Some(query)) => Cow::Owned(format!("{path}?{query}")),
    };
    Ok(HttpCall { operations, path_and_query })
}

/// The query is no part of the resource and goes on as it is, but for what would end or split it.
fn judge_query(query: &str) -> Result<(), Refusal> {
    let rule = match query.bytes().find(|byte| matches!(byte, b'#' | 0..=0x20 | 0x7f)) {
        None => return Ok(()),
        Some(b'#') => "fragment",
        Some(_) => "control-character",
    };
    Err(Refusal::bad_request(rule, "query has a fragment, blank or control character"))
}

/// For fuzzing: whatever the target, no panic, and what is forwarded maps to what was judged.
pub fn fuzz(bytes: &[u8]) {
    let Ok(target) = std::str::from_utf8(bytes) else { return };
    let Ok(request) = http::Request::builder().uri(target).header("host", "h").body(()) else { return };
    let (mut parts, ()) = request.into_parts();
    let rules = super::head::HeadRules::http(&HttpConfig::default(), &crate::config::Limits::default());
    let none = TagsRead::Only(std::collections::HashSet::new());
    let config = HttpConfig { merge_slashes: bytes.len().is_multiple_of(2), ..HttpConfig::default() };
    let Ok(head) = super::head::judge(&parts, &rules) else { return };
    let Ok(call) = map(&head, "api", &config, &none) else { return };
    let (operations, forwarded) = (call.operations, call.path_and_query.into_owned());
    let Ok(uri) = forwarded.parse() else { unreachable!("what is forwarded is a target") };
    parts.uri = uri;
    let Ok(head) = super::head::judge(&parts, &rules) else { unreachable!("what is forwarded is a legal head") };
    let again = map(&head, "api", &HttpConfig::default(), &none);
    assert_eq!(again, Ok(HttpCall { operations, path_and_query: Cow::Borrowed(&forwarded) }));
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use http::Request;
    use proptest::prelude::*;

    use super::*;
    use crate::config::Limits;
    use crate::mapping::head::{HeadRules, judge};

    fn mapped(method: &str, target: &str, headers: &[(&str, &str)]) -> Result<(Vec<String>, String), &'static str> {
        let mut request = Request::builder().method(method).uri(target).header("host", "API.example:80");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let config = HttpConfig::default();
        let head = judge(&parts, &HeadRules::http(&config, &Limits::default())).map_err(|refusal| refusal.rule)?;
        let call = map(&head, "api", &config, &TagsRead::Only(HashSet::new())).map_err(|refusal| refusal.rule)?;
        assert_eq!(call.operations.first().context.get("host"), Some(&"api.example".into()));
        let asked = call
            .operations
            .iter()
            .map(|operation| format!("{} {}", operation.action, operation.resource.id()))
            .collect();
        Ok((asked, call.path_and_query.into_owned()))
    }

    #[test]
    fn a_request_asks_for_its_method_on_its_path() {
        assert_eq!(
            mapped("GET", "/orders/17?full=1", &[]),
            Ok((vec!["http:GET api/orders/17".to_owned()], "/orders/17?full=1".to_owned()))
        );
        assert_eq!(mapped("PURGE", "/x", &[]).unwrap().0, ["http:PURGE api/x"]);
        assert_eq!(
            mapped("get", "/x", &[]).unwrap().0,
            ["http:get api/x"],
            "another method than GET, and no schema names it"
        );
    }

    #[test]
    fn the_judged_path_is_the_one_that_is_forwarded() {
        assert_eq!(
            mapped("GET", "/%6frders/%c3%a9?q=%2e%2e//", &[]),
            Ok((vec!["http:GET api/orders/%C3%A9".to_owned()], "/orders/%C3%A9?q=%2e%2e//".to_owned()))
        );
        assert_eq!(mapped("GET", "/a/%2e%2e/b", &[]), Err("dot-segment"));
        assert_eq!(mapped("OPTIONS", "*", &[]), Err("asterisk-form"));
    }

    #[test]
    fn a_websocket_asks_to_upgrade_and_to_get() {
        let headers = [
            ("upgrade", "websocket"),
            ("connection", "upgrade"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        assert_eq!(mapped("GET", "/ws", &headers).unwrap().0, ["http:Upgrade api/ws", "http:GET api/ws"]);
    }

    #[test]
    fn every_method_with_an_action_of_its_own_is_in_the_published_list() {
        for (action, _) in actions().filter(|(action, _)| *action != "http:Upgrade") {
            assert_eq!(Action::http(action.trim_start_matches("http:")).as_str(), action);
        }
    }

    proptest! {
        #[test]
        fn what_is_forwarded_is_what_was_judged(target in "/[/.%a-zA-Z0-9?&=;+-]{0,24}|/(/|\\.|%2[0-9a-fA-F]|%[0-9a-f]{2}|[a-z?]){0,12}") {
            fuzz(target.as_bytes());
        }
    }
}
