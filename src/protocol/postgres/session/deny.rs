//! Denying so that the server's state stays true: the message is replaced in place by one that fails by itself, and the error that
//! comes of it is put into the words that the client is to read.

use std::borrow::Cow;

use bytes::BytesMut;

use crate::audit::DecisionId;
use crate::mapping::sql::SqlRefusal;
use crate::protocol::postgres::wire::{self, ErrorReply, Severity};

/// What a client reads in place of the error that the poison caused.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    /// The name that nothing can have: `portcullis DECISION NONCE`. 54 bytes: identifiers are cut at 63.
    pub(super) poison: String,
    sqlstate: Cow<'static, str>,
    message: Cow<'static, str>,
    decision: Option<String>,
    position: Option<u32>,
    hint: Option<&'static str>,
    /// The client is told which decision it is.
    is_told: bool,
}

/// SQLSTATE of whatever a failed transaction is asked.
pub(super) const IN_FAILED_TRANSACTION: &str = "25P02";

/// The SQLSTATE of a denial: `DO` is no question of privileges, its code is what nobody can judge.
pub(super) fn denial(kind: &str) -> &'static str {
    if kind == "do" { "0A000" } else { "42501" }
}

impl Answer {
    /// A policy said no to a statement of this kind.
    pub(super) fn denied(id: DecisionId, kind: &str) -> Self {
        match denial(kind) {
            "42501" => Self::new(Some(id), "42501", "permission denied by policy"),
            sqlstate => {
                Self::new(Some(id), sqlstate, "code in a statement cannot be judged, and no policy permits to run it")
            }
        }
    }

    /// It cannot be judged.
    pub(super) fn refused(id: DecisionId, refusal: &SqlRefusal) -> Self {
        // What the server would refuse as well reads as if it had.
        let is_told = !refusal.stale && !["syntax", "unknown-statement-name"].contains(&refusal.rule);
        Self { position: refusal.position, is_told, ..Self::new(Some(id), refusal.sqlstate, refusal.message.clone()) }
    }

    /// The server would have said no.
    pub(super) fn of_server(sqlstate: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(None, sqlstate, message)
    }

    /// There are more rows than the policies allow.
    pub(super) fn too_many_rows(id: DecisionId, most: u64) -> Self {
        Self::new(Some(id), "42501", format!("permission denied by policy: more than {most} rows"))
    }

    /// What a failed transaction answers to anything.
    pub(super) fn in_failed_transaction() -> Self {
        let words = "current transaction is aborted, commands ignored until end of transaction block";
        Self::new(None, IN_FAILED_TRANSACTION, words)
    }

    fn new(id: Option<DecisionId>, sqlstate: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        let decision = id.map(|id| id.to_string());
        let poison = format!("portcullis {} {}", decision.as_deref().unwrap_or("-"), nonce());
        let (sqlstate, message) = (sqlstate.into(), message.into());
        let (position, hint) = (None, None);
        Self { poison, sqlstate, message, decision, position, hint, is_told: true }
    }

    /// A statement that cannot succeed: it names a column that cannot exist.
    pub(super) fn statement(&self) -> String {
        format!("SELECT \"{}\"", self.poison)
    }

    /// The same with a HINT.
    pub(super) fn hinting(self, hint: &'static str) -> Self {
        Self { hint: Some(hint), ..self }
    }

    /// Whether it is the answer to a decision, and not the server's own in other words.
    pub(super) const fn is_decision(&self) -> bool {
        self.decision.is_some()
    }

    /// Whether an ErrorResponse is the one that this poison caused.
    pub(super) fn caused(&self, body: &[u8]) -> bool {
        let poison = self.poison.as_bytes();
        wire::error_fields(body).any(|(code, value)| code == b'M' && memchr::memmem::find(value, poison).is_some())
    }

    /// The code that the client reads.
    pub(super) fn sqlstate(&self) -> &str {
        &self.sqlstate
    }

    /// Writes what the client is to read.
    pub(super) fn put(&self, out: &mut BytesMut) {
        wire::error(
            out,
            &ErrorReply {
                severity: Severity::Error,
                sqlstate: &self.sqlstate,
                message: Cow::Borrowed(&self.message),
                detail: self.decision.as_ref().filter(|_| self.is_told).map(|id| Cow::Owned(format!("decision {id}"))),
                hint: self.hint.map(Cow::Borrowed),
                position: self.position,
            },
        );
    }
}

/// 64 bits that nobody can guess: whoever could would write the error that is rewritten.
pub(super) fn nonce() -> String {
    let mut bytes = [0; 8];
    if aws_lc_rs::rand::fill(&mut bytes).is_err() {
        fastrand::Rng::new().fill(&mut bytes);
    }
    format!("{:016x}", u64::from_be_bytes(bytes))
}

/// One field of an ErrorResponse.
pub(super) fn field(body: &[u8], wanted: u8) -> Option<&str> {
    wire::error_fields(body).find(|(code, _)| *code == wanted).and_then(|(_, value)| str::from_utf8(value).ok())
}

/// Writes an ErrorResponse without its DETAIL: what a broken constraint says of a row can tell columns that the client may not read.
pub(super) fn put_without_detail(out: &mut BytesMut, body: &[u8]) {
    wire::frame(out, b'E', |out| {
        for (code, value) in wire::error_fields(body).filter(|(code, _)| *code != b'D') {
            out.extend_from_slice(&[code]);
            out.extend_from_slice(value);
            out.extend_from_slice(&[0]);
        }
        out.extend_from_slice(&[0]);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::new_decision_id;

    #[test]
    fn a_poison_is_no_longer_than_an_identifier_may_be() {
        let answer = Answer::denied(new_decision_id(), "select");
        assert!(answer.poison.len() <= 63, "PostgreSQL would cut `{}`", answer.poison);
        assert_ne!(answer.poison, Answer::denied(new_decision_id(), "select").poison);
    }

    #[test]
    fn only_an_error_that_names_the_poison_is_rewritten() {
        let answer = Answer::denied(new_decision_id(), "select");
        let body = |message: &str| [b"SERROR\0C42703\0M", message.as_bytes(), b"\0\0"].concat();
        assert!(answer.caused(&body(&format!("column \"{}\" does not exist", answer.poison))));
        assert!(!answer.caused(&body("column \"portcullis\" does not exist")));
    }

    #[test]
    fn what_a_broken_constraint_says_of_a_row_is_left_out() {
        let mut out = BytesMut::new();
        put_without_detail(&mut out, b"SERROR\0C23502\0Mnull value\0DFailing row contains (1, 123-45)\0tpeople\0\0");
        assert_eq!(out.get(5..), Some(b"SERROR\0C23502\0Mnull value\0tpeople\0\0".as_slice()));
    }
}
