//! What a session says of itself, asked in the session.
//!
//! Only SHOW: it takes no snapshot, so REPEATABLE READ and SET TRANSACTION go on as if nobody had asked. By extended messages with
//! reserved names, so that the client's unnamed statement and portal stay as they are.

use bytes::Bytes;

use crate::mapping::sql::SessionFacts;

/// The questions, in the order of the answers.
pub(super) const QUESTIONS: [&str; 5] = [
    "SHOW search_path",
    "SHOW role",
    "SHOW session_authorization",
    "SHOW standard_conforming_strings",
    "SHOW client_encoding",
];

/// Asked too where a snapshot has been taken already.
pub(super) const TEMP_SCHEMA: &str =
    "SELECT n.nspname FROM pg_catalog.pg_namespace n WHERE n.oid OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()";

/// Why nothing can be judged in a session any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unjudgeable(pub(super) &'static str);

/// The answers' meaning. `temp` is the answer to [`TEMP_SCHEMA`]: none if it was not asked, empty if there is no such schema.
pub(super) fn read(
    answers: &[Option<Bytes>],
    temp: Option<Option<&str>>,
    before: Option<&SessionFacts>,
    utf8_server: bool,
) -> Result<SessionFacts, Unjudgeable> {
    let answer = |at: usize| {
        let bytes = answers.get(at).and_then(Option::as_ref).ok_or(Unjudgeable("the session did not tell its settings"))?;
        str::from_utf8(bytes).map_err(|_| Unjudgeable("the session's settings are not UTF-8"))
    };
    if answer(3)? != "on" {
        return Err(Unjudgeable("standard_conforming_strings is off: statements cannot be judged"));
    }
    let session_role = answer(2)?;
    let role = match answer(1)? {
        "none" => session_role,
        role => role,
    };
    Ok(SessionFacts {
        role: role.into(),
        session_role: session_role.into(),
        search_path: search_path(answer(0)?).ok_or(Unjudgeable("search_path cannot be read"))?,
        temp_schema: match temp {
            Some(temp) => temp.map(Into::into),
            None => before.and_then(|before| before.temp_schema.clone()),
        },
        utf8_client: answer(4)?.eq_ignore_ascii_case("UTF8"),
        utf8_server,
    })
}

/// The names of a search_path.
///
/// # Source
/// `SplitIdentifierString` (varlena.c): names between commas, quoted ones with `""` for `"`, others folded to lower case; both cut at
/// 63 bytes. Which letters of an unquoted name that is not ASCII are folded hangs on the server's locale, so there is no answer.
pub(super) fn search_path(text: &str) -> Option<Vec<Box<str>>> {
    let mut path = Vec::new();
    let mut rest = text.trim_matches(is_space);
    if rest.is_empty() {
        return Some(path);
    }
    loop {
        let name = match rest.strip_prefix('"') {
            Some(quoted) => {
                let (name, after) = quoted_name(quoted)?;
                rest = after;
                name
            }
            None => {
                let end = rest.find(|c| c == ',' || is_space(c)).unwrap_or(rest.len());
                let (name, after) = rest.split_at_checked(end)?;
                rest = after;
                if name.is_empty() || !name.is_ascii() {
                    return None;
                }
                name.to_ascii_lowercase()
            }
        };
        path.push(cut(&name).into());
        rest = rest.trim_start_matches(is_space);
        match rest.strip_prefix(',') {
            Some(more) => rest = more.trim_start_matches(is_space),
            None if rest.is_empty() => return Some(path),
            None => return None,
        }
    }
}

fn quoted_name(text: &str) -> Option<(String, &str)> {
    let mut name = String::new();
    let mut rest = text;
    loop {
        let (part, after) = rest.split_once('"')?;
        name.push_str(part);
        match after.strip_prefix('"') {
            Some(more) => {
                name.push('"');
                rest = more;
            }
            None => return Some((name, after)),
        }
    }
}

/// As `truncate_identifier`: at most 63 bytes, whole characters.
fn cut(name: &str) -> &str {
    let end = (0..=name.len().min(63)).rev().find(|at| name.is_char_boundary(*at)).unwrap_or(0);
    name.get(..end).unwrap_or(name)
}

/// `scanner_isspace` (scansup.c).
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\u{b}' | '\u{c}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Option<Vec<String>> {
        search_path(text).map(|path| path.iter().map(|name| name.to_string()).collect())
    }

    #[test]
    fn a_search_path_is_read_as_the_server_reads_it() {
        let some = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(path("\"$user\", public"), some(&["$user", "public"]));
        assert_eq!(path("Sales , \"We\"\"ird\",\"a,b\""), some(&["sales", "We\"ird", "a,b"]));
        assert_eq!(path(""), some(&[]));
        assert_eq!(path("\"\""), some(&[""]));
        assert_eq!(path("a b"), None);
        assert_eq!(path("a,"), None);
        assert_eq!(path("É"), None, "how it is folded hangs on the server's locale");
        assert_eq!(path(&format!("\"{}\"", "x".repeat(70))), some(&[&"x".repeat(63)]));
    }

    fn answers(texts: [&str; 5]) -> Vec<Option<Bytes>> {
        texts.iter().map(|text| Some(Bytes::copy_from_slice(text.as_bytes()))).collect()
    }

    #[test]
    fn the_role_is_the_sessions_own_until_it_is_set() {
        let facts = read(&answers(["public", "none", "app", "on", "UTF8"]), None, None, true).unwrap();
        assert_eq!((&*facts.role, &*facts.session_role), ("app", "app"));
        let facts = read(&answers(["public", "admin", "app", "on", "LATIN1"]), None, None, true).unwrap();
        assert_eq!((&*facts.role, &*facts.session_role, facts.utf8_client), ("admin", "app", false));
    }

    #[test]
    fn without_standard_conforming_strings_nothing_can_be_judged() {
        let refused = read(&answers(["public", "none", "app", "off", "UTF8"]), None, None, true);
        assert!(refused.is_err_and(|why| why.0.starts_with("standard_conforming_strings")));
    }
}
