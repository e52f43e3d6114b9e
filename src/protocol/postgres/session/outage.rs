//! When the catalogue cannot be read: statements are refused, sessions live on.

use std::sync::Arc;

use super::judge::{Came, Look, SIMPLE, refusal};
use super::messages::{self, name};
use super::prepared::Meaning;
use super::query::ends;
use super::session::{End, Session};
use crate::protocol::postgres::wire::Frame;

impl Session {
    /// The catalogue could not be read: the message that waits for it is refused, unless it only ends the transaction.
    pub(super) fn catalog_failed(&mut self, cause: &str) -> Result<(), End> {
        tracing::warn!(cause, "the catalogue cannot be read");
        let Some(frame) = self.held.take() else { return Ok(()) };
        let words = "the catalogue cannot be read: the statement cannot be judged now";
        let unread = refusal("0A000", "catalogue", words);
        match frame.tag() {
            b'Q' => {
                let text = messages::query(frame.body())?;
                if self.ends_transaction(text) {
                    return self.query(&frame).map(|_| ());
                }
                let answer = self.refuse(text, &unread, SIMPLE)?;
                self.deny_query(answer)
            }
            b'P' => {
                let (statement, text) = messages::parse(frame.body())?;
                if self.ends_transaction(text) {
                    return self.parse(&frame).map(|_| ());
                }
                let came = Came { protocol: "extended", prepared: statement };
                let answer = self.refuse(text, &unread, came)?;
                self.deny_parse(statement, answer)
            }
            b'B' => {
                let (portal, statement) = messages::bind(frame.body())?;
                let judged = match self.statements.meaning(&name(statement), self.segment) {
                    Meaning::Is(judged) => judged,
                    // Nobody has to be asked about what does not exist, and what hangs on answers is asked again.
                    Meaning::Nothing | Meaning::Unknown => return self.again(frame),
                };
                if self.ends_transaction(judged.text.as_bytes()) {
                    return self.bind(&frame).map(|_| ());
                }
                let came = Came { protocol: "extended", prepared: statement };
                let answer = self.refuse(judged.text.as_bytes(), &unread, came)?;
                self.deny_bind(portal, answer)
            }
            b'E' => {
                let (portal, _) = messages::execute(frame.body())?;
                let judged = match self.portals.meaning(&name(portal), self.segment) {
                    Meaning::Is(portal) => Some(Arc::clone(&portal.judged)),
                    Meaning::Nothing => self.cursors.get(&name(portal)).map(|declared| Arc::clone(&declared.judged)),
                    Meaning::Unknown => return self.again(frame),
                };
                let Some(judged) = judged else { return self.again(frame) };
                if self.ends_transaction(judged.text.as_bytes()) {
                    return self.execute(&frame).map(|_| ());
                }
                let came = Came { protocol: "extended", prepared: b"" };
                let answer = self.refuse(judged.text.as_bytes(), &unread, came)?;
                self.deny_execute(answer)
            }
            _ => {
                let came = Came { protocol: "function-call", prepared: b"" };
                let answer = self.refuse(b"", &unread, came)?;
                self.deny_query(answer)
            }
        }
        .map(|_| ())
    }

    /// What is denied or waits whatever the catalogue says: dealt with as ever.
    fn again(&mut self, frame: Frame) -> Result<(), End> {
        if self.handle(&frame)?.is_some() {
            self.flush();
            self.held = Some(frame);
        }
        Ok(())
    }

    /// A text that ends the transaction and does nothing else: it names nothing.
    fn ends_transaction(&mut self, text: &[u8]) -> bool {
        match self.look(text) {
            Look::Judged(judged) => matches!(judged.mapped.statements.as_slice(), [only] if ends(only)),
            Look::Refused(_) | Look::NeedsCatalog => false,
        }
    }
}
