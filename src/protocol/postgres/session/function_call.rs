//! FunctionCall: a function named by its oid.

use super::client::{Handled, Wait};
use super::deny::Answer;
use super::judge::{Came, Look, refusal};
use super::messages;
use super::query::not_bounded;
use super::session::Session;
use crate::protocol::postgres::wire::Frame;

impl Session {
    /// A function by its oid: judged as the SELECT that calls it by name, so by all functions of the name.
    pub(super) fn function(&mut self, frame: &Frame) -> Handled {
        let oid = messages::function(frame.body())?;
        self.note_activity();
        let came = Came { protocol: "function-call", prepared: b"" };
        let Some(text) = self.call_text(oid) else {
            if !self.newest_catalog && !self.private {
                return Ok(Some(Wait::Catalog));
            }
            let refused = refusal("42883", "unknown-function", format!("function with OID {oid} does not exist"));
            let answer = self.refuse(b"", &refused, came)?;
            return self.deny_query(answer);
        };
        let judged = match self.look(text.as_bytes()) {
            Look::NeedsCatalog => return Ok(Some(Wait::Catalog)),
            Look::Refused(refused) => {
                let answer = self.refuse(text.as_bytes(), &refused, came)?;
                return self.deny_query(answer);
            }
            Look::Judged(judged) if self.only_the_end(&judged) => {
                return self.deny_query(Answer::in_failed_transaction());
            }
            Look::Judged(judged) => judged,
        };
        match self.permit_all(&judged, came)? {
            Err(answer) => self.deny_query(answer),
            Ok(running) if running.iter().any(|running| running.permit.max_rows("sql:Select").is_some()) => {
                let refused = not_bounded(0);
                let answer = self.refuse(text.as_bytes(), &refused, came)?;
                self.deny_query(answer)
            }
            Ok(running) => self.send_query(frame, &judged, running),
        }
    }

    fn call_text(&self, oid: u32) -> Option<String> {
        let catalog = self.catalog.as_ref()?;
        let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        catalog.schemas.iter().find_map(|(schema, content)| {
            let (function, overload) = content
                .functions
                .iter()
                .find_map(|(name, all)| all.iter().find(|function| function.oid == oid).map(|found| (name, found)))?;
            let arguments = vec!["NULL"; overload.argument_types.len()].join(", ");
            Some(format!("SELECT {}.{}({arguments})", quoted(schema), quoted(function)))
        })
    }
}
