//! What an error tells of rows: its DETAIL is for those only who may read them.

use super::deny::field;
use super::pipeline::Owed;
use super::session::Session;
use crate::mapping::sql::{ToldRows, whole_rows};

/// Classes of errors whose DETAIL shows rows or keys.
///
/// # Source
/// PostgreSQL: class 23 in `ExecConstraints` (execMain.c), `_bt_check_unique` (nbtinsert.c), `check_exclusion_or_unique_constraint`
/// (execIndexing.c), `ri_ReportViolation` (ri_triggers.c); 44 in `ExecWithCheckOptions` (execMain.c); 21 in `refresh_by_match_merge`
/// (matview.c), without a name.
const TELL_ROWS: [&str; 3] = ["21", "23", "44"];

/// Who reports a broken foreign key, and how it begins if the row at fault is one of the table that the error names. Otherwise, or in
/// another language, the key may be one of a table that is referenced, which it does not name.
const FOREIGN_KEY: (&str, &str) = ("ri_ReportViolation", "insert or update on table \"");
/// Who reports a broken CHECK OPTION, and how: a row of the table behind a view.
const CHECK_OPTION: (&str, &str) = ("ExecWithCheckOptions", "new row violates check option for view \"");

impl Session {
    /// Whether the client may be told the DETAIL of an error: it may read whole rows of the table that the error is about. Nothing is
    /// recorded of this question: nothing was asked by the client.
    pub(super) fn may_be_told_detail(&self, sqlstate: &str, body: &[u8]) -> bool {
        if !TELL_ROWS.iter().any(|class| sqlstate.starts_with(class)) {
            return true;
        }
        let (Some(catalog), Some(facts)) = (&self.catalog, &self.facts) else { return false };
        // What a name is converted to for another encoding may spell another name.
        let is_read = body.is_ascii() || (facts.utf8_client && facts.utf8_server);
        if !is_read || self.names_may_have_changed() {
            return false;
        }
        let Some(told) = told_rows(sqlstate, body) else { return false };
        let point = &self.setup.point;
        let policies = point.policies_in_force();
        whole_rows(&self.setup.endpoint, catalog, facts, told).is_some_and(|reads| {
            reads.iter().all(|ways| ways.iter().any(|read| point.would_permit(&policies, &self.setup.asker, read)))
        })
    }

    /// Whether the server may know other tables by now than the catalogue: since it was read, something has changed names or settings, or an earlier
    /// statement of the same text may have.
    fn names_may_have_changed(&self) -> bool {
        let earlier = match self.owed.front() {
            Some(Owed::Query(queried)) => {
                let several = queried.running.front().is_some_and(|running| running.judged.mapped.statements.len() > 1);
                several && queried.effects.any()
            }
            _ => false,
        };
        earlier || self.stale.any()
    }
}

/// Whose rows an error tells, as far as it says.
fn told_rows<'a>(sqlstate: &str, body: &'a [u8]) -> Option<ToldRows<'a>> {
    // What code of a trigger's owner raises comes from another function of the server.
    let said_by = |(function, words): (&str, &str)| {
        field(body, b'R').filter(|said| *said == function).and_then(|_| field(body, b'M')?.strip_prefix(words))
    };
    if let Some(view) = said_by(CHECK_OPTION) {
        return view.strip_suffix('"').map(|view| ToldRows::Behind { view });
    }
    let (schema, table) = (field(body, b's')?, field(body, b't')?);
    match sqlstate {
        "23503" if said_by(FOREIGN_KEY).is_none() => Some(ToldRows::OfOrReferencedBy { schema, table }),
        _ => Some(ToldRows::Of { schema, table }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rows_of_a_foreign_key_are_those_of_either_side_unless_the_server_says() {
        let body = |words: &str, function: &str| format!("C23503\0M{words}\0spublic\0torders\0R{function}\0\0");
        let (schema, table) = ("public", "orders");
        for (words, function, own) in [
            ("insert or update on table \"orders\" violates …", "ri_ReportViolation", true),
            ("insert or update on table \"orders\" violates …", "exec_stmt_raise", false),
            ("update or delete on table \"people\" violates …", "ri_ReportViolation", false),
            ("Einfügen oder Aktualisieren in Tabelle »orders« verletzt …", "ri_ReportViolation", false),
        ] {
            let wanted =
                if own { ToldRows::Of { schema, table } } else { ToldRows::OfOrReferencedBy { schema, table } };
            assert_eq!(told_rows("23503", body(words, function).as_bytes()), Some(wanted), "{words}");
        }
    }

    #[test]
    fn an_error_that_names_no_table_tells_rows_that_nobody_knows() {
        assert_eq!(told_rows("21000", b"C21000\0Mnew data contains duplicate rows\0DRow: (1)\0\0"), None);
        assert_eq!(told_rows("23505", b"C23505\0Mduplicate\0DKey (id)=(1)\0tpeople\0\0"), None);
        let view = b"C44000\0Mnew row violates check option for view \"a\"b\"\0RExecWithCheckOptions\0\0";
        assert_eq!(told_rows("44000", view), Some(ToldRows::Behind { view: "a\"b" }));
    }
}
