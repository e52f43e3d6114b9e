//! Values that a text sets and that the proxy writes others for: of `application_name` only a part is the client's, and a timeout is not
//! raised above its cap.

use std::ops::Range;
use std::sync::Arc;

use super::SqlRefusal;

/// A value in a text, and what is sent in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewrite {
    /// The bytes of the text that say it, quotes included.
    pub at: Range<usize>,
    /// What is sent.
    pub instead: Instead,
}

/// What is sent in place of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Instead {
    /// A name that begins with the proxy's part; this is the client's.
    Name(Box<str>),
    /// This value.
    Value(Box<str>),
}

/// A value that is to be written anew, while nobody has looked how it is written.
#[derive(Debug, Clone)]
pub(super) struct Planned {
    /// The byte of the text that it begins at.
    pub(super) at: i32,
    /// What it says.
    pub(super) says: Box<str>,
    /// What is sent instead.
    pub(super) instead: Instead,
    /// What becomes of the text if it cannot be.
    pub(super) otherwise: Arc<SqlRefusal>,
}

impl Rewrite {
    /// The text with other values in place of those of `rewrites`; `name` makes a whole name of the client's part.
    #[must_use]
    pub fn written(rewrites: &[Self], text: &str, name: impl Fn(&str) -> String) -> Option<String> {
        let mut written = String::with_capacity(text.len() + rewrites.len() * 16);
        let mut done = 0;
        for rewrite in rewrites {
            written.push_str(text.get(done..rewrite.at.start)?);
            written.push('\'');
            match &rewrite.instead {
                Instead::Name(own) => written.push_str(&name(own).replace('\'', "''")),
                Instead::Value(value) => written.push_str(&value.replace('\'', "''")),
            }
            written.push('\'');
            done = rewrite.at.end;
        }
        written.push_str(text.get(done..)?);
        Some(written)
    }
}

/// Finds the values in the text, in its order.
///
/// # Errors
/// What was planned for one that is not written as a plain string, word or number: it could not be replaced.
pub(super) fn find(text: &str, planned: &[Planned]) -> Result<Vec<Rewrite>, SqlRefusal> {
    let Some(Planned { otherwise: first, .. }) = planned.first() else { return Ok(Vec::new()) };
    let tokens = pg_query::scan_tokens(text).map_err(|_| SqlRefusal::clone(first))?;
    let mut found = Vec::with_capacity(planned.len());
    for Planned { at, says, instead, otherwise } in planned {
        // They come in the order of the text.
        let token = tokens.binary_search_by_key(at, |token| token.start).ok().and_then(|place| tokens.get(place));
        let at = token.and_then(|token| Some(usize::try_from(token.start).ok()?..usize::try_from(token.end).ok()?));
        let at = at.filter(|at| text.get(at.clone()).is_some_and(|written| is_written(written, says)));
        // What cannot be replaced as it stands is not sent.
        let at = at.ok_or_else(|| SqlRefusal::clone(otherwise))?;
        found.push(Rewrite { at, instead: instead.clone() });
    }
    found.sort_by_key(|rewrite| rewrite.at.start);
    found.dedup();
    match found.is_sorted_by(|one, next| one.at.end <= next.at.start) {
        true => Ok(found),
        false => Err(SqlRefusal::clone(first)),
    }
}

/// Whether this is how `says` is written, as a string without escapes, as a word or as a number.
fn is_written(written: &str, says: &str) -> bool {
    match written.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')) {
        Some(quoted) => quoted.replace("''", "'") == says,
        None => {
            written.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
                && written.eq_ignore_ascii_case(says)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::SessionCaps;
    use crate::mapping::sql::catalog::{Catalog, testing};
    use crate::mapping::sql::{PreparedTexts, SessionFacts, map};

    struct Prepared;

    impl PreparedTexts for Prepared {
        fn prepared(&self, name: &str) -> Option<(&str, usize)> {
            match name {
                "timeout" => Some(("SELECT set_config('statement_timeout', '0', false)", 0)),
                _ => Some(("SELECT set_config('application_name', 'x', false)", 0)),
            }
        }

        fn cursor(&self, _: &str) -> bool {
            false
        }
    }

    fn sent(text: &str) -> Result<String, &'static str> {
        let caps = SessionCaps { statement: Some(Duration::from_secs(60)), ..SessionCaps::default() };
        let facts = SessionFacts { caps, ..testing::facts() };
        let mapped = map(text, "wh", &Catalog::sample(), &facts, &Prepared).map_err(|no| no.rule)?;
        Ok(Rewrite::written(&mapped.rewrites, text, |name| format!("D {name}")).unwrap())
    }

    fn are_sent(table: &[(&str, &str)]) {
        for (text, expected) in table {
            assert_eq!(sent(text).unwrap_or_else(str::to_owned), *expected, "{text}");
        }
    }

    #[test]
    fn names_are_replaced_where_they_are_written_and_nothing_else_is() {
        are_sent(&[
            ("SET application_name = 'x'", "SET application_name = 'D x'"),
            ("set \"application_name\" to 'it''s'", "set \"application_name\" to 'D it''s'"),
            ("SET LOCAL application_name=Loader;", "SET LOCAL application_name='D loader';"),
            ("SET APPLICATION_NAME TO ''", "SET APPLICATION_NAME TO 'D '"),
            ("/* é */ SET application_name = 'é'", "/* é */ SET application_name = 'D é'"),
            (
                "SELECT set_config('application_name', 'x', false)",
                "SELECT set_config('application_name', 'D x', false)",
            ),
            (
                "SET application_name = 'a'; SELECT 1; SET application_name = 'b'",
                "SET application_name = 'D a'; SELECT 1; SET application_name = 'D b'",
            ),
            ("SET application_name = DEFAULT", "SET application_name = DEFAULT"),
            ("RESET application_name", "RESET application_name"),
            ("SET application_name = 'a'\n 'b' ;", "name-not-constant"),
            ("SET application_name = E'x'", "name-not-constant"),
            ("SET application_name = $$x$$", "name-not-constant"),
            ("SET application_name = 5", "SET application_name = 'D 5'"),
            ("SET application_name = a, b", "name-not-constant"),
            ("SELECT set_config('application_name', $1, false)", "name-not-constant"),
            ("SELECT set_config('application_name', 'x'::text, false)", "name-not-constant"),
            ("EXECUTE p", "name-not-constant"),
        ]);
    }

    #[test]
    fn timeouts_are_capped_where_they_are_written_and_nothing_else_is() {
        are_sent(&[
            ("SET statement_timeout = 0", "SET statement_timeout = '60000'"),
            ("set session STATEMENT_timeout to '2min' ;", "set session STATEMENT_timeout to '60000' ;"),
            ("SET LOCAL \"Statement_Timeout\"=60001", "SET LOCAL \"Statement_Timeout\"='60000'"),
            ("SET U&\"st\\0061tement_timeout\" TO '1h'", "SET U&\"st\\0061tement_timeout\" TO '60000'"),
            ("SET/*0*/statement_timeout/*0*/TO--0\n0--0", "SET/*0*/statement_timeout/*0*/TO--0\n'60000'--0"),
            ("SET statement_timeout = ' 00 '", "SET statement_timeout = '60000'"),
            (
                "SET statement_timeout = 0; SELECT '0'; SET application_name = 'x'; SET statement_timeout = '1 d'",
                "SET statement_timeout = '60000'; SELECT '0'; SET application_name = 'D x'; SET statement_timeout = '60000'",
            ),
            (
                "PREPARE p AS SELECT pg_catalog.set_config('Statement_Timeout', '0', true)",
                "PREPARE p AS SELECT pg_catalog.set_config('Statement_Timeout', '60000', true)",
            ),
            ("SET statement_timeout = 59999", "SET statement_timeout = 59999"),
            ("SET statement_timeout = '1min'", "SET statement_timeout = '1min'"),
            ("SET statement_timeout TO DEFAULT", "SET statement_timeout TO DEFAULT"),
            ("RESET statement_timeout", "RESET statement_timeout"),
            ("SET lock_timeout = 0", "SET lock_timeout = 0"),
            // Of these nobody caps: the proxy measures the time itself, or the listener has no cap.
            ("SET transaction_timeout = 0", "SET transaction_timeout = 0"),
            ("SET idle_session_timeout = 0", "SET idle_session_timeout = 0"),
            ("SET idle_in_transaction_session_timeout = 0", "SET idle_in_transaction_session_timeout = 0"),
            ("SET statement_timeout = -1", "setting-capped"),
            ("SET statement_timeout = 0.0", "setting-capped"),
            ("SET statement_timeout = 1e9", "setting-capped"),
            ("SET statement_timeout = off", "setting-capped"),
            ("SET statement_timeout = 1, 2", "setting-capped"),
            ("SET statement_timeout = E'0'", "setting-capped"),
            ("SET statement_timeout = U&'\\0030'", "setting-capped"),
            ("SET statement_timeout = $$0$$", "setting-capped"),
            ("SET statement_timeout = '0'\n'0'", "setting-capped"),
            ("SET statement_timeout = 0x1000000", "setting-capped"),
            ("SELECT set_config('statement_timeout', $1, false)", "setting-capped"),
            ("SELECT set_config('statement_timeout', '0'::text, false)", "setting-capped"),
            ("SELECT set_config('statement_timeout', '0' || '', false)", "setting-capped"),
            ("EXECUTE timeout", "setting-capped"),
        ]);
    }

    #[test]
    fn a_statement_whose_timeout_is_capped_says_so_and_no_other_does() {
        let caps = SessionCaps { statement: Some(Duration::from_secs(60)), ..SessionCaps::default() };
        let facts = SessionFacts { caps, ..testing::facts() };
        let text = "SET statement_timeout = 0; SET statement_timeout = 5";
        let mapped = map(text, "wh", &Catalog::sample(), &facts, &Prepared).unwrap();
        let told: Vec<_> = mapped.statements.iter().map(|statement| statement.capped.as_deref()).collect();
        assert_eq!(told, [Some("\"statement_timeout\" is capped: set to 60000 ms"), None]);
    }
}
