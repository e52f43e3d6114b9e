//! SET, RESET, SHOW and DISCARD.

use std::sync::Arc;

use pg_query::NodeEnum;
use pg_query::protobuf::{DiscardMode, DiscardStmt, VariableSetKind, VariableSetStmt};

use super::super::asked::{Asked, refused};
use super::super::names::{Names, cut};
use super::super::rewrite::Planned;
use super::super::{Cursor, Instead, Naming, SqlRefusal};
use super::{After, Judge, nodes, timeouts};

/// Settings that change how the client is answered and how a statement is run, never what it means or what it may do.
///
/// # Source
/// PostgreSQL, chapter 20, and what drivers send: libpq, JDBC, npgsql, psycopg, asyncpg, pg_dump, pgbench.
const HARMLESS: &[&str] = &[
    "backslash_quote",
    "bytea_output",
    "client_connection_check_interval",
    "client_min_messages",
    "cpu_index_tuple_cost",
    "cpu_operator_cost",
    "cpu_tuple_cost",
    "cursor_tuple_fraction",
    "datestyle",
    "debug_pretty_print",
    "default_statistics_target",
    "default_transaction_deferrable",
    "default_transaction_isolation",
    "default_transaction_read_only",
    "effective_cache_size",
    "effective_io_concurrency",
    "escape_string_warning",
    "extra_float_digits",
    "from_collapse_limit",
    "geqo",
    "gin_fuzzy_search_limit",
    "gin_pending_list_limit",
    "hash_mem_multiplier",
    "icu_validation_level",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "intervalstyle",
    "jit",
    "join_collapse_limit",
    "lc_messages",
    "lc_monetary",
    "lc_numeric",
    "lc_time",
    "lock_timeout",
    "logical_decoding_work_mem",
    "maintenance_work_mem",
    "max_parallel_maintenance_workers",
    "max_parallel_workers",
    "max_parallel_workers_per_gather",
    "plan_cache_mode",
    "quote_all_identifiers",
    "random_page_cost",
    "restrict_nonsystem_relation_kind",
    // Off makes the server refuse what policies would filter; it never lifts them. pg_dump sends it.
    "row_security",
    "seq_page_cost",
    "statement_timeout",
    "synchronize_seqscans",
    "synchronous_commit",
    "temp_buffers",
    "timezone",
    "timezone_abbreviations",
    "transaction_deferrable",
    "transaction_isolation",
    "transaction_read_only",
    "transaction_timeout",
    "vacuum_cost_delay",
    "vacuum_cost_limit",
    "work_mem",
    "xmlbinary",
    "xmloption",
];

/// What a setting is to be set to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::mapping::sql) enum SettingValue<'v> {
    /// This text, written at that byte of the statement's text.
    Constant(&'v str, i32),
    /// What the session began with.
    Default,
    /// Only known when it runs: a parameter, an expression.
    Unknown,
}

/// Asks for a setting to be changed, by whatever way: SET, `set_config`, startup options. What the search path is afterwards is for the
/// caller.
///
/// Back to what the session began with is always allowed: the proxy pinned that.
///
/// # Errors
/// `42501` for what is pinned, `0A000` for what would make every later text mean something else.
pub(in crate::mapping::sql) fn set(
    asked: &mut Asked,
    names: &Names<'_>,
    name: &str,
    value: SettingValue<'_>,
) -> Result<(), SqlRefusal> {
    // Names of settings are compared without case: `guc_name_compare` in guc.c folds ASCII letters only.
    let name = name.to_ascii_lowercase();
    asked.effects_mut().settings = true;
    asked.literals_matter();
    if value == SettingValue::Default {
        return Ok(());
    }
    if let Some(most) = timeouts::cap(&name, &names.facts().caps) {
        return timeouts::set(asked, &name, value, most);
    }
    match &*name {
        "role" | "session_authorization" => {
            let wanted = match value {
                SettingValue::Constant(wanted, _) => cut(wanted),
                _ => "",
            };
            let own = &*names.facts().session_role == wanted || (name == "role" && wanted == "none");
            if !own {
                let mut context = vec![("setting", (&*name).into())];
                if !wanted.is_empty() {
                    context.push(("requestedRole", wanted.into()));
                }
                asked.on_database("sql:SetRole", context);
            }
        }
        "standard_conforming_strings" => match value {
            SettingValue::Constant(value, _) if boolean(value) == Some(true) => {}
            _ => return Err(refused("strings", "`standard_conforming_strings` stays on")),
        },
        "client_encoding" => match value {
            SettingValue::Constant(value, _) if is_utf8(value) => {}
            _ => return Err(refused("encoding", "`client_encoding` stays UTF8")),
        },
        "search_path" if matches!(value, SettingValue::Constant(..)) => {}
        "search_path" => return Err(refused("search-path", "`search_path` is set to what only the server knows")),
        "application_name" => match value {
            SettingValue::Constant(own, at) => {
                let otherwise =
                    refused("name-not-constant", "`application_name` is judged only as a plain string: '...'");
                let (says, instead) = (own.into(), Instead::Name(own.into()));
                asked.rewrite(Planned { at, says, instead, otherwise: Arc::new(otherwise) });
            }
            _ => return Err(refused("name-not-constant", "`application_name` is set to what only the server knows")),
        },
        pinned if pinned.starts_with("portcullis.") => {
            let message = format!("permission denied to set parameter \"{pinned}\"");
            return Err(SqlRefusal { sqlstate: "42501", ..refused("pinned-setting", message) });
        }
        harmless if is_harmless(harmless) => {}
        other => asked.on_database("sql:Set", vec![("setting", other.into())]),
    }
    Ok(())
}

/// Whether a setting, its name in lower case, can be changed without asking, to whatever value.
#[must_use]
pub fn is_harmless(name: &str) -> bool {
    HARMLESS.binary_search(&name).is_ok()
        || name.starts_with("enable_")
        || name.starts_with("geqo_")
        || name.starts_with("jit_") && name.ends_with("_cost")
}

/// A boolean as the server reads it; none if it is none.
///
/// # Source
/// `parse_bool_with_len` (bool.c), which takes unique beginnings of its words.
#[must_use]
pub fn boolean(value: &str) -> Option<bool> {
    let begins = |word: &str, least: usize| {
        value.len() >= least && word.get(..value.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(value))
    };
    if begins("true", 1) || begins("yes", 1) || begins("on", 2) || value == "1" {
        Some(true)
    } else if begins("false", 1) || begins("no", 1) || begins("off", 2) || value == "0" {
        Some(false)
    } else {
        None
    }
}

/// # Source
/// PostgreSQL `pg_char_to_encoding` in encnames.c: only letters and digits count, without case; `unicode` is an alias.
fn is_utf8(value: &str) -> bool {
    let plain: String = value.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    plain == "utf8" || plain == "unicode"
}

impl Judge<'_, '_> {
    pub(super) fn set(&mut self, set: &VariableSetStmt) -> Result<&'static str, SqlRefusal> {
        self.walk.asked.literals_matter();
        match VariableSetKind::try_from(set.kind) {
            Ok(VariableSetKind::VarSetValue) => self.set_value(set)?,
            // SET TRANSACTION, SET SESSION CHARACTERISTICS: isolation and modes.
            Ok(VariableSetKind::VarSetMulti) => {}
            Ok(VariableSetKind::VarResetAll) => {
                self.walk.asked.effects_mut().settings = true;
                self.after = After::Unknown;
                return Ok("reset");
            }
            Ok(kind @ (VariableSetKind::VarSetDefault | VariableSetKind::VarReset)) => {
                set_default(&mut self.walk.asked, self.walk.names, &set.name)?;
                if matters(&set.name) {
                    self.after = After::Unknown;
                }
                return Ok(if kind == VariableSetKind::VarReset { "reset" } else { "set" });
            }
            _ => return Err(refused("unknown-statement", "SET of a form that is not known")),
        }
        Ok("set")
    }

    fn set_value(&mut self, set: &VariableSetStmt) -> Result<(), SqlRefusal> {
        let values: Option<Vec<String>> = set.args.iter().map(nodes::constant).collect();
        let at = match set.args.first().and_then(|first| first.node.as_ref()) {
            Some(NodeEnum::AConst(constant)) => constant.location,
            _ => -1,
        };
        let value = match values.as_deref() {
            Some([value]) => SettingValue::Constant(value, at),
            Some(_) => SettingValue::Constant("", -1),
            None => SettingValue::Unknown,
        };
        self::set(&mut self.walk.asked, self.walk.names, &set.name, value)?;
        if set.name.eq_ignore_ascii_case("search_path") {
            // Each is one name as it stands: `flatten_set_variable_args` quotes it.
            let path = values.unwrap_or_default().into_iter().map(Into::into).collect();
            self.after = After::Path { path, local: set.is_local };
        } else if matters(&set.name) {
            self.after = After::Unknown;
        }
        Ok(())
    }

    pub(super) fn discard(&mut self, discard: &DiscardStmt) -> Result<&'static str, SqlRefusal> {
        let effects = self.walk.asked.effects_mut();
        match DiscardMode::try_from(discard.target) {
            Ok(DiscardMode::DiscardAll) => {
                effects.settings = true;
                effects.names = true;
                self.naming = Naming::ForgetsAll;
                self.cursor = Cursor::ClosesAll;
                self.after = After::Unknown;
            }
            Ok(DiscardMode::DiscardTemp) => {
                effects.names = true;
                self.after = After::Unknown;
            }
            Ok(DiscardMode::DiscardPlans | DiscardMode::DiscardSequences) => {}
            _ => return Err(refused("unknown-statement", "DISCARD of a form that is not known")),
        }
        Ok("discard")
    }
}

fn set_default(asked: &mut Asked, names: &Names<'_>, name: &str) -> Result<(), SqlRefusal> {
    set(asked, names, name, SettingValue::Default)
}

/// Whether names mean something else by it.
fn matters(name: &str) -> bool {
    ["search_path", "role", "session_authorization"].iter().any(|known| name.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn harmless_settings_are_in_order() {
        assert!(HARMLESS.is_sorted());
    }

    #[test]
    fn spellings_of_on_and_of_utf8_are_known() {
        assert!(["on", "ON", "true", "t", "yes", "Y", "1"].into_iter().all(|value| boolean(value) == Some(true)));
        assert!(["off", "of", "false", "F", "no", "0"].into_iter().all(|value| boolean(value) == Some(false)));
        assert!(["", "o", "truee", "2", "on "].into_iter().all(|value| boolean(value).is_none()));
        assert!(["UTF8", "utf-8", "Unicode"].into_iter().all(is_utf8) && !is_utf8("LATIN1"));
    }
}
