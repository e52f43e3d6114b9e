//! What a session says of itself, asked in the session.
//!
//! Only SHOW: it takes no snapshot, so REPEATABLE READ and SET TRANSACTION go on as if nobody had asked. By extended messages with
//! reserved names, so that the client's unnamed statement and portal stay as they are.

use bytes::Bytes;

use crate::config::SessionCaps;
use crate::mapping::sql::{SessionFacts, parse_search_path};

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
    caps: SessionCaps,
) -> Result<SessionFacts, Unjudgeable> {
    let answer = |at: usize| {
        let bytes =
            answers.get(at).and_then(Option::as_ref).ok_or(Unjudgeable("the session did not tell its settings"))?;
        str::from_utf8(bytes).map_err(|_| Unjudgeable("the session's settings are not UTF-8"))
    };
    let utf8_client = answer(4)?.eq_ignore_ascii_case("UTF8");
    // In another encoding the bytes of one name can be those of another in UTF-8.
    if !utf8_client && !answers.iter().flatten().all(|answer| answer.is_ascii()) {
        return Err(Unjudgeable("the session's settings are not ASCII, and `client_encoding` is not UTF8"));
    }
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
        search_path: parse_search_path(answer(0)?).ok_or(Unjudgeable("search_path cannot be read"))?,
        temp_schema: match temp {
            Some(temp) => temp.map(Into::into),
            None => before.and_then(|before| before.temp_schema.clone()),
        },
        utf8_client,
        utf8_server,
        caps,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(texts: [&str; 5]) -> Vec<Option<Bytes>> {
        texts.iter().map(|text| Some(Bytes::copy_from_slice(text.as_bytes()))).collect()
    }

    #[test]
    fn the_role_is_the_sessions_own_until_it_is_set() {
        let facts =
            read(&answers(["public", "none", "app", "on", "UTF8"]), None, None, true, SessionCaps::default()).unwrap();
        assert_eq!((&*facts.role, &*facts.session_role), ("app", "app"));
        let facts =
            read(&answers(["public", "admin", "app", "on", "LATIN1"]), None, None, true, SessionCaps::default())
                .unwrap();
        assert_eq!((&*facts.role, &*facts.session_role, facts.utf8_client), ("admin", "app", false));
    }

    #[test]
    fn names_in_another_encoding_are_not_taken_for_those_that_their_bytes_spell() {
        let of = |path, encoding| {
            read(&answers([path, "none", "app", "on", encoding]), None, None, true, SessionCaps::default())
        };
        assert_eq!(of("é", "UTF8").unwrap().search_path, ["é".into()]);
        assert!(of("é", "LATIN1").is_err_and(|why| why.0.contains("ASCII")));
        assert!(of("public", "LATIN1").is_ok());
    }

    #[test]
    fn without_standard_conforming_strings_nothing_can_be_judged() {
        let refused =
            read(&answers(["public", "none", "app", "off", "UTF8"]), None, None, true, SessionCaps::default());
        assert!(refused.is_err_and(|why| why.0.starts_with("standard_conforming_strings")));
    }
}
