//! A token as policies see it.

use std::time::UNIX_EPOCH;

use crate::identity::Token;
use crate::mapping::{TagsRead, Value};

/// `context.token`, with those further claims that some policy can see.
pub(super) fn value(token: &Token, reads: &TagsRead) -> Value {
    let expires = token.expires().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    let mut fields = vec![
        ("iss", Value::from(token.issuer())),
        ("sub", token.subject().into()),
        ("aud", Value::Strings(token.audiences().to_vec())),
    ];
    let listed = [("amr", token.authentication_methods()), ("scope", token.scopes())];
    fields.extend(listed.into_iter().filter_map(|(name, values)| Some((name, Value::Strings(values?.to_vec())))));
    fields.push(("expires", Value::Datetime(i64::try_from(expires).unwrap_or(i64::MAX))));
    let claims = token.claims().filter(|(name, _)| reads.reads(name));
    fields.push(("claims", Value::Claims(claims.map(|(name, values)| (name.into(), values.to_vec())).collect())));
    Value::Record(fields)
}
