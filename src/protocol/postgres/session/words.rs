//! What is no SQL and names that do not exist, in the server's own words.
//!
//! A text that the grammar does not take, or that names what the catalogue does not have, is not judged, so it never runs. But which error its
//! author expects, with types of arguments, a position and a hint, only the server can tell. It is asked by Parse: that looks names up and
//! reads literals, and runs nothing. Poison stands behind it, so that the message fails in its place whatever the server finds. The words
//! tell what there is: only those hear them who may introspect.

use super::client::Handled;
use super::deny::{self, Answer};
use super::messages::{put_bare, put_parse, put_parse_as, put_target};
use super::session::Session;
use crate::mapping::sql::{SqlRefusal, introspection, is_analysed_when_prepared};
use crate::protocol::postgres::wire::Frame;

impl Session {
    /// Whether the server is to say itself what is wrong with a text.
    pub(super) fn server_knows_better(&self, text: &[u8], refused: &SqlRefusal) -> bool {
        let (Some(catalog), Some(facts)) = (&self.catalog, &self.facts) else { return false };
        let Ok(text) = str::from_utf8(text) else { return false };
        let looks = match refused.rule {
            // What a newer grammar takes may be no SQL to this server.
            "syntax" | "grammar-skew" => true,
            _ => refused.stale && is_analysed_when_prepared(text),
        };
        looks
            && !self.setup.replicates
            && self.setup.point.would_permit(
                &self.setup.point.policies_in_force(),
                &self.setup.asker,
                &introspection(&self.setup.endpoint, catalog, facts),
            )
    }

    /// A Query that is refused in the server's own words. Not behind extended messages without their Sync: if one of them fails the server
    /// ignores a Query, but not the Sync that stands for its end.
    pub(super) fn refuse_query(&mut self, text: &[u8], refused: &SqlRefusal, answer: Answer) -> Handled {
        if self.pipeline_open || !self.server_knows_better(text, refused) {
            return self.deny_query(answer);
        }
        let text = String::from_utf8_lossy(text);
        let (answer, name) = (answer.after_the_servers(), Self::reserved_name());
        self.to_server.put(|out| {
            put_parse(out, name.as_bytes(), &text);
            put_target(out, b'C', b'S', name.as_bytes());
            put_parse(out, b"", &answer.statement());
            put_bare(out, b'S');
        });
        self.owes_refusal(answer);
        Ok(None)
    }

    /// A Parse that is refused in the server's own words.
    pub(super) fn refuse_parse(&mut self, frame: &Frame, answer: Answer) -> Handled {
        let (statement, _) = super::messages::parse(frame.body())?;
        let (answer, name) = (answer.after_the_servers(), Self::reserved_name());
        self.to_server.put(|out| {
            put_parse_as(out, name.as_bytes(), frame.body());
            put_target(out, b'C', b'S', name.as_bytes());
        });
        self.deny_parse(statement, answer)
    }

    /// The answer to something that the server was asked before a denied message: it found nothing wrong.
    pub(super) fn is_before_poison(&self, tag: u8) -> bool {
        let denied = self.owed.front().and_then(super::pipeline::Owed::denied);
        matches!(tag, b'1' | b'3') && denied.is_some_and(Answer::is_after_the_servers)
    }
}

/// Whether an error is about how the server was asked, and not about the text.
///
/// # Source
/// `exec_parse_message` in postgres.c.
pub(super) fn of_preparing(body: &[u8]) -> bool {
    deny::field(body, b'M') == Some("cannot insert multiple commands into a prepared statement")
}
