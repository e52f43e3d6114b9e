//! JSON in which every name stands once.

use serde_json::{Map, Value};

use crate::identity::UniqueJson;

/// An object without a name twice in it, at any depth: parsers differ in which of two they take, so that one could verify what another
/// obeys (RFC 7519, section 4; RFC 8725, 2.5). Nesting is bounded by the parser.
pub(super) fn object(bytes: &[u8]) -> Result<Map<String, Value>, String> {
    match serde_json::from_slice::<UniqueJson>(bytes) {
        Ok(UniqueJson(Value::Object(object))) => Ok(object),
        Ok(_) => Err("is no object".to_owned()),
        // What the parser says of a place shows nothing of what is there.
        Err(error) if error.is_data() => Err("has a name twice".to_owned()),
        Err(_) => Err("is no JSON".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stands_once_however_it_is_written_and_however_deep() {
        for twice in
            [r#"{"a":1,"a":1}"#, r#"{"a":1,"b":2,"\u0061":3}"#, r#"{"a":{"b":1,"b":2}}"#, r#"{"a":[{"b":1,"b":2}]}"#]
        {
            assert_eq!(object(twice.as_bytes()), Err("has a name twice".to_owned()), "{twice}");
        }
        assert!(object(br#"{"a":1,"A":2,"b":{"a":3}}"#).is_ok());
    }

    #[test]
    fn what_is_no_object_is_none() {
        for (text, cause) in [
            ("[]", "is no object"),
            ("7", "is no object"),
            ("{}x", "is no JSON"),
            ("", "is no JSON"),
            ("{\"a\":\"\\ud800\"}", "is no JSON"),
            ("{\"a\":1e999}", "is no JSON"),
        ] {
            assert_eq!(object(text.as_bytes()), Err(cause.to_owned()), "{text}");
        }
        assert_eq!(object(b"{\"a\":\"\xff\"}"), Err("is no JSON".to_owned()));
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(5_000), "]".repeat(5_000));
        assert_eq!(object(deep.as_bytes()), Err("is no JSON".to_owned()));
    }
}
