//! The settings that a session begins with: each is judged as a SET of it would be.

use aws_lc_rs::digest;
use thiserror::Error;

use super::wire::Setting;
use crate::config::SessionCaps;
use crate::identity::SpiffeId;
use crate::mapping::sql::{setting_boolean, setting_is_harmless, timeout_milliseconds};

/// What is asked for one setting beyond the session itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Asks {
    /// `sql:Set`.
    Set,
    /// `sql:SetRole` with this role.
    SetRole(Box<str>),
}

/// The settings of a session, judged.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Judged {
    /// What the client calls itself.
    pub(super) application_name: Option<Box<str>>,
    /// All others, to be sent as they are.
    pub(super) settings: Vec<Setting>,
    /// What has to be permitted for some of them, by name.
    pub(super) asks: Vec<(Box<str>, Asks)>,
}

/// Why a setting is refused whatever the policies say.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum SettingRefusal {
    #[error("`{name}` is set by the proxy and by nobody else")]
    OfTheProxy { name: Box<str> },
    #[error("`standard_conforming_strings` has to be on")]
    NonconformingStrings,
    #[error("client_encoding `{value}` is not supported, only UTF8 and SQL_ASCII are")]
    Encoding { value: Box<str> },
}

impl SettingRefusal {
    /// The rule, as records name it.
    pub(super) const fn rule(&self) -> &'static str {
        match self {
            Self::OfTheProxy { .. } => "setting-of-the-proxy",
            Self::NonconformingStrings => "nonconforming-strings",
            Self::Encoding { .. } => "client-encoding",
        }
    }

    /// What the client is told.
    pub(super) const fn sqlstate(&self) -> &'static str {
        match self {
            Self::OfTheProxy { .. } => "28000",
            Self::NonconformingStrings | Self::Encoding { .. } => "0A000",
        }
    }
}

/// The setting that carries the asker's whole SPIFFE ID.
pub(super) const SPIFFE_ID: &str = "portcullis.spiffe_id";

/// Judges the settings of a session that is to run as `role`.
///
/// # Errors
/// The first one that nobody may make.
pub(super) fn judge(settings: Vec<Setting>, role: &str) -> Result<Judged, SettingRefusal> {
    let mut judged = Judged::default();
    for setting in settings {
        let Setting { name, value } = &setting;
        match &**name {
            "application_name" => {
                judged.application_name = Some(value.clone());
                continue;
            }
            name if name.starts_with("portcullis.") => return Err(SettingRefusal::OfTheProxy { name: name.into() }),
            "standard_conforming_strings" if setting_boolean(value) != Some(true) => {
                return Err(SettingRefusal::NonconformingStrings);
            }
            "client_encoding" if !is_judged(value) => return Err(SettingRefusal::Encoding { value: value.clone() }),
            // What the session has anyway: `none` is the role that it began with.
            "role" if **value == *role || &**value == "none" => {}
            "session_authorization" if **value == *role => {}
            "role" | "session_authorization" => judged.asks.push((name.clone(), Asks::SetRole(value.clone()))),
            "standard_conforming_strings" | "client_encoding" | "search_path" => {}
            name if setting_is_harmless(name) => {}
            _ => judged.asks.push((name.clone(), Asks::Set)),
        }
        judged.settings.push(setting);
    }
    Ok(judged)
}

/// Encodings whose statements can be judged. The server looks at letters and digits of the name only (`clean_encoding_name`, encnames.c).
fn is_judged(encoding: &str) -> bool {
    let letters: String =
        encoding.chars().filter(char::is_ascii_alphanumeric).map(|letter| letter.to_ascii_lowercase()).collect();
    matches!(letters.as_str(), "utf8" | "unicode" | "sqlascii")
}

/// Holds the timeouts of `settings` to their caps, and adds those that are not set.
pub(super) fn cap(settings: &mut Vec<Setting>, caps: &SessionCaps) {
    let caps =
        [("statement_timeout", caps.statement), ("idle_in_transaction_session_timeout", caps.idle_in_transaction)];
    for (name, most) in caps {
        let Some(most) = most.map(|most| u64::try_from(most.as_millis()).unwrap_or(u64::MAX)) else { continue };
        let own =
            settings.iter().find(|setting| *setting.name == *name).and_then(|own| timeout_milliseconds(&own.value));
        // 0 is no timeout at all, and what cannot be read is not trusted to be less.
        let least = own.filter(|own| *own != 0).map_or(most, |own| own.min(most));
        settings.retain(|setting| *setting.name != *name);
        settings.push(Setting { name: name.into(), value: least.to_string().into() });
    }
}

/// What `application_name` becomes: a digest of the asker's ID, then what the client calls itself; at most 63 ASCII bytes, as the server
/// would cut more off with a notice. A client that reads the whole and sets it again gets the same.
pub(super) fn application_name(asker: &SpiffeId, own: &str) -> String {
    const LONGEST: usize = 63;
    const DIGEST_BYTES: usize = 6;
    let digest = digest::digest(&digest::SHA256, asker.as_str().as_bytes());
    let mut name: String = digest.as_ref().iter().take(DIGEST_BYTES).map(|byte| format!("{byte:02x}")).collect();
    let own = match own.strip_prefix(&*name) {
        Some("") => "",
        Some(rest) => rest.strip_prefix(' ').unwrap_or(own),
        None => own,
    };
    if !own.is_empty() {
        name.push(' ');
        // As the server does it (`pg_clean_ascii`).
        name.extend(own.chars().map(|c| if matches!(c, ' '..='~') { c } else { '?' }));
        name.truncate(LONGEST);
    }
    name
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> Vec<Setting> {
        pairs.iter().map(|(name, value)| Setting { name: (*name).into(), value: (*value).into() }).collect()
    }

    #[test]
    fn what_changes_who_one_is_or_what_names_mean_is_asked_and_what_is_harmless_is_not() {
        let given =
            [("datestyle", "ISO"), ("search_path", "a"), ("application_name", "psql"), ("lo_compat_privileges", "on")];
        let judged = judge(settings(&given), "app").unwrap();
        assert_eq!(judged.application_name.as_deref(), Some("psql"));
        assert_eq!(judged.asks, [("lo_compat_privileges".into(), Asks::Set)]);
        assert_eq!(
            judged.settings,
            settings(&[("datestyle", "ISO"), ("search_path", "a"), ("lo_compat_privileges", "on")])
        );
        let judged = judge(settings(&[("role", "adm"), ("session_authorization", "boss")]), "app").unwrap();
        let expected = [("role", "adm"), ("session_authorization", "boss")];
        assert_eq!(judged.asks, expected.map(|(name, role)| (name.into(), Asks::SetRole(role.into()))));
        let same = judge(settings(&[("role", "app"), ("session_authorization", "app")]), "app").unwrap();
        assert_eq!(same.asks, []);
    }

    #[test]
    fn what_nobody_may_set_is_refused() {
        for (name, value, rule) in [
            ("portcullis.spiffe_id", "spiffe://td/forged", "setting-of-the-proxy"),
            ("standard_conforming_strings", "off", "nonconforming-strings"),
            ("standard_conforming_strings", "of", "nonconforming-strings"),
            ("client_encoding", "SJIS", "client-encoding"),
        ] {
            assert_eq!(judge(settings(&[(name, value)]), "app").map_err(|refusal| refusal.rule()), Err(rule), "{name}");
        }
        for (name, value) in [("standard_conforming_strings", "on"), ("client_encoding", "'utf-8'")] {
            assert!(judge(settings(&[(name, value)]), "app").is_ok(), "{name}");
        }
    }

    #[test]
    fn a_client_can_shorten_its_timeouts_but_not_lengthen_them() {
        let caps = SessionCaps { statement: Some(Duration::from_secs(60)), ..SessionCaps::default() };
        for (own, expected) in [
            ("5s", "5000"),
            ("2min", "60000"),
            ("0", "60000"),
            ("100", "100"),
            ("1e9", "60000"),
            ("-1", "60000"),
            ("9d", "60000"),
        ] {
            let mut given = settings(&[("statement_timeout", own)]);
            cap(&mut given, &caps);
            assert_eq!(given, settings(&[("statement_timeout", expected)]), "{own}");
        }
        let mut none = Vec::new();
        cap(&mut none, &caps);
        assert_eq!(none, settings(&[("statement_timeout", "60000")]));
    }

    #[test]
    fn application_name_tells_who_it_is_and_is_never_cut_by_the_server() {
        let id = SpiffeId::parse("spiffe://td/ns/load").unwrap();
        let own = application_name(&id, "psql – \u{1}");
        assert!(own.ends_with(" psql ? ?"), "{own}");
        assert_eq!(own.find(' '), Some(12));
        assert_eq!(application_name(&id, &"x".repeat(100)).len(), 63);
        assert_eq!(application_name(&id, "").len(), 12);
        assert_eq!(application_name(&id, &own), own, "set again as it was read");
    }
}
