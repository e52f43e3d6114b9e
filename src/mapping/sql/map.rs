//! From a text to what it asks.

use super::catalog::Catalog;
use super::{Mapped, PreparedTexts, SessionFacts, SqlRefusal};

/// Maps a text: everything it asks, or why that cannot be told.
///
/// # Errors
/// What cannot be parsed, resolved or judged.
pub fn map(
    _text: &str,
    _endpoint: &str,
    _catalog: &Catalog,
    _facts: &SessionFacts,
    _prepared: &dyn PreparedTexts,
) -> Result<Mapped, SqlRefusal> {
    Err(SqlRefusal {
        sqlstate: "0A000",
        rule: "not-judged",
        message: "statements are not judged".into(),
        position: None,
        stale: false,
    })
}
