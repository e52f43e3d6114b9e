//! The text of a statement as records have it: literals replaced, so that no value and no secret is in it.

use std::sync::Arc;

/// What stands for a text that cannot be normalized: its fingerprint says what it was like.
const UNKNOWN: &str = "<not normalized>";

/// The text with each literal replaced by `$1`, `$2` …
///
/// libpg_query leaves some strings of utility statements as they are: after it, every string that is still quoted is replaced too, and what a
/// comment says is taken out, so that no password is in a record whatever the grammar calls it.
pub(super) fn normalized(text: &str) -> Arc<str> {
    let Ok(normalized) = pg_query::normalize(text) else { return UNKNOWN.into() };
    redacted(&normalized).map_or_else(|| UNKNOWN.into(), Into::into)
}

/// libpg_query's fingerprint: 16 hex digits, none for what it cannot take.
pub(super) fn fingerprint(text: &str) -> Arc<str> {
    pg_query::fingerprint(text, 0, 0).map_or_else(|_| "".into(), |fingerprint| fingerprint.hex.into())
}

/// Replaces what is still quoted and takes out comments. None for a text that PostgreSQL's scanner does not take.
fn redacted(text: &str) -> Option<String> {
    use pg_query::protobuf::Token;
    // The usual case: nothing is left that could be a string or a comment.
    if !text.contains(['\'', '$']) && !text.contains("--") && !text.contains("/*") {
        return Some(text.to_owned());
    }
    let tokens = pg_query::scan_tokens(text).ok()?;
    let mut redacted = String::with_capacity(text.len());
    let mut upto = 0;
    for token in &tokens {
        let (start, end) = (usize::try_from(token.start).ok()?, usize::try_from(token.end).ok()?);
        let replacement = match Token::try_from(token.token) {
            Ok(Token::Sconst | Token::Usconst | Token::Bconst | Token::Xconst) => "'…'",
            Ok(Token::SqlComment | Token::CComment) => "",
            _ => continue,
        };
        redacted.push_str(text.get(upto..start)?);
        redacted.push_str(replacement);
        upto = end;
    }
    redacted.push_str(text.get(upto..)?);
    Some(redacted.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_replaced() {
        assert_eq!(&*normalized("SELECT a FROM t WHERE b = 'x' AND c = 7"), "SELECT a FROM t WHERE b = $1 AND c = $2");
        assert_eq!(&*normalized("SELECT 1 -- hunter2"), "SELECT $1");
        assert_eq!(fingerprint("SELECT 1").len(), 16);
    }

    #[test]
    fn no_secret_is_left_in_any_statement() {
        for text in [
            "CREATE ROLE a LOGIN PASSWORD 'hunter2'",
            "ALTER ROLE a PASSWORD 'hunter2'",
            "ALTER ROLE a WITH ENCRYPTED PASSWORD 'hunter2' VALID UNTIL 'infinity'",
            "CREATE USER a PASSWORD E'hunter2'",
            "CREATE USER a PASSWORD U&'hunter2'",
            "CREATE USER a PASSWORD $$hunter2$$",
            "CREATE USER a PASSWORD $x$hunter2$x$",
            "CREATE USER MAPPING FOR a SERVER s OPTIONS (user 'a', password 'hunter2')",
            "ALTER USER MAPPING FOR a SERVER s OPTIONS (SET password 'hunter2')",
            "CREATE SERVER s FOREIGN DATA WRAPPER w OPTIONS (password 'hunter2')",
            "ALTER SERVER s OPTIONS (SET password 'hunter2')",
            "CREATE FOREIGN DATA WRAPPER w OPTIONS (password 'hunter2')",
            "CREATE FOREIGN TABLE t (a int) SERVER s OPTIONS (password 'hunter2')",
            "ALTER FOREIGN TABLE t OPTIONS (SET password 'hunter2')",
            "IMPORT FOREIGN SCHEMA s FROM SERVER x INTO y OPTIONS (password 'hunter2')",
            "CREATE SUBSCRIPTION s CONNECTION 'host=a password=hunter2' PUBLICATION p",
            "ALTER SUBSCRIPTION s CONNECTION 'host=a password=hunter2'",
            "ALTER SYSTEM SET primary_conninfo = 'password=hunter2'",
            "ALTER ROLE a SET x.y = 'hunter2'",
            "SET x.y = 'hunter2'",
            "SELECT set_config('x.y', 'hunter2', false)",
            "DO $$ BEGIN PERFORM dblink('password=hunter2'); END $$",
            "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'select ''hunter2'''",
            "CREATE FUNCTION f() RETURNS text LANGUAGE sql BEGIN ATOMIC SELECT 'hunter2'; END",
            "COMMENT ON TABLE t IS 'hunter2'",
            "SECURITY LABEL ON TABLE t IS 'hunter2'",
            "NOTIFY c, 'hunter2'",
            "PREPARE p AS SELECT 'hunter2'",
            "EXECUTE p('hunter2')",
            "COPY t TO PROGRAM 'curl hunter2'",
            "CREATE VIEW v AS SELECT 'hunter2'",
            "CREATE TABLE t (a text DEFAULT 'hunter2')",
            "CREATE POLICY p ON t USING (a = 'hunter2')",
            "SELECT 1 /* hunter2 */",
            "SELECT X'1F' -- hunter2",
            "ALTER DATABASE d SET x.y TO 'hunter2'",
            "PREPARE TRANSACTION 'hunter2'",
            "LOAD 'hunter2'",
        ] {
            let normalized = normalized(text);
            assert!(!normalized.contains("hunter2"), "{text}: {normalized}");
            assert_ne!(&*normalized, UNKNOWN, "{text}");
        }
    }
}
