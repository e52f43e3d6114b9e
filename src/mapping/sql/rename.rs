//! Where a text says what `application_name` is to be: the client may choose only a part of it, so the proxy writes the whole in its
//! place.

use std::ops::Range;

use super::SqlRefusal;
use super::asked::refused;

/// A name that a text gives to its application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rename {
    /// The bytes of the text that say it, quotes included.
    pub at: Range<usize>,
    /// The name.
    pub name: Box<str>,
}

impl Rename {
    /// The text with other names in place of those of `renames`.
    #[must_use]
    pub fn written(renames: &[Self], text: &str, other: impl Fn(&str) -> String) -> Option<String> {
        let mut written = String::with_capacity(text.len() + renames.len() * 16);
        let mut done = 0;
        for rename in renames {
            written.push_str(text.get(done..rename.at.start)?);
            written.push('\'');
            written.push_str(&other(&rename.name).replace('\'', "''"));
            written.push('\'');
            done = rename.at.end;
        }
        written.push_str(text.get(done..)?);
        Some(written)
    }
}

/// Finds the names in the text, in its order.
///
/// # Errors
/// `0A000` for one that is not written as a plain string or a plain word: it could not be replaced.
pub(super) fn find(text: &str, renames: &[(i32, String)]) -> Result<Vec<Rename>, SqlRefusal> {
    if renames.is_empty() {
        return Ok(Vec::new());
    }
    let unclear = || refused("name-not-constant", "`application_name` is judged only as a plain string: '...'");
    let tokens = pg_query::scan_tokens(text).map_err(|_| unclear())?;
    let mut found = Vec::with_capacity(renames.len());
    for (at, name) in renames {
        // They come in the order of the text.
        let token = tokens.binary_search_by_key(at, |token| token.start).ok().and_then(|place| tokens.get(place));
        let token = token.ok_or_else(unclear)?;
        let at = usize::try_from(token.start).ok().zip(usize::try_from(token.end).ok()).ok_or_else(unclear)?;
        let at = at.0..at.1;
        let says = text.get(at.clone()).is_some_and(|written| is_written(written, name));
        // What cannot be replaced as it stands is not sent.
        if !says {
            return Err(unclear());
        }
        found.push(Rename { at, name: name.as_str().into() });
    }
    found.sort_by_key(|rename| rename.at.start);
    found.dedup();
    match found.is_sorted_by(|one, next| one.at.end <= next.at.start) {
        true => Ok(found),
        false => Err(unclear()),
    }
}

/// Whether this is how `name` is written, as a string without escapes or as a word.
fn is_written(written: &str, name: &str) -> bool {
    match written.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')) {
        Some(quoted) => quoted.replace("''", "'") == name,
        None => {
            written.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
                && written.eq_ignore_ascii_case(name)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping::sql::catalog::{Catalog, testing};
    use crate::mapping::sql::{PreparedTexts, map};

    struct Prepared;

    impl PreparedTexts for Prepared {
        fn prepared(&self, _: &str) -> Option<(&str, usize)> {
            Some(("SELECT set_config('application_name', 'x', false)", 0))
        }

        fn cursor(&self, _: &str) -> bool {
            false
        }
    }

    fn sent(text: &str) -> Result<String, &'static str> {
        let mapped = map(text, "wh", &Catalog::sample(), &testing::facts(), &Prepared).map_err(|no| no.rule)?;
        Ok(Rename::written(&mapped.renames, text, |name| format!("D {name}")).unwrap())
    }

    #[test]
    fn names_are_replaced_where_they_are_written_and_nothing_else_is() {
        for (text, expected) in [
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
        ] {
            assert_eq!(sent(text).unwrap_or_else(str::to_owned), expected, "{text}");
        }
    }
}
