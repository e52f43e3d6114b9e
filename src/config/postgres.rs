//! The options of `protocol: postgres`.

use std::time::Duration;

use thiserror::Error;

use super::ends::one_peer;
use super::errors::Advice;
use super::file::{
    CatalogKeys, DatabaseKeys, DurationKey, InboundDatabaseKeys, KeyPath, OutboundDatabaseKeys, Pairs, ProtocolKey,
    UpstreamTlsKey, nearest,
};
use super::reading::Reading;
use super::{
    CatalogConfig, PasswordSource, PostgresConfig, RoleConfig, RoleOf, SessionCaps, SqlInRecords, UpstreamCa,
    UpstreamTls,
};

const POSTGRES: &[ProtocolKey] = &[ProtocolKey::Postgres];

/// The keys that an inbound listener has for it.
pub(super) fn inbound_keys(keys: &InboundDatabaseKeys) -> Vec<(&'static str, &'static [ProtocolKey], bool)> {
    let is_set = [
        ("role", keys.role.is_some()),
        ("roles", keys.roles.is_some()),
        ("password_file", keys.password_file.is_some()),
        ("password_command", keys.password_command.is_some()),
        ("catalog", keys.catalog.is_some()),
        ("catalog_max_age", keys.catalog_max_age.is_some()),
        ("upstream_tls", keys.upstream_tls.is_some()),
        ("upstream_ca", keys.upstream_ca.is_some()),
        ("statement_timeout", keys.statement_timeout.is_some()),
        ("idle_in_transaction_timeout", keys.idle_in_transaction_timeout.is_some()),
        ("transaction_timeout", keys.transaction_timeout.is_some()),
        ("session_idle_timeout", keys.session_idle_timeout.is_some()),
        ("message_bytes", keys.message_bytes.is_some()),
        ("statement_bytes", keys.statement_bytes.is_some()),
    ];
    is_set.into_iter().map(|(key, is_set)| (key, POSTGRES, is_set)).collect()
}

/// The keys that an outbound listener has for it.
pub(super) fn outbound_keys(keys: &OutboundDatabaseKeys) -> Vec<(&'static str, &'static [ProtocolKey], bool)> {
    vec![
        ("local_certificate", POSTGRES, keys.local_certificate.is_some()),
        ("local_private_key", POSTGRES, keys.local_private_key.is_some()),
        ("sessions_per_connection", POSTGRES, keys.sessions_per_connection.is_some()),
    ]
}

/// What is in force where the file says nothing.
fn defaults(common: &DatabaseKeys) -> PostgresConfig {
    PostgresConfig {
        role: RoleConfig::Passthrough,
        password: None,
        catalog: None,
        catalog_max_age: Duration::from_secs(1),
        upstream_tls: UpstreamTls::Disable,
        local_certificate: None,
        sessions_per_connection: 16,
        caps: SessionCaps::default(),
        message_bytes: 16 * 1024 * 1024,
        statement_bytes: 1024 * 1024,
        authentication_timeout: common.authentication_timeout.map_or(Duration::from_secs(30), |key| key.0),
        sql: SqlInRecords::default(),
    }
}

pub(super) fn inbound(
    reading: &mut Reading<'_>,
    at: &KeyPath,
    keys: &InboundDatabaseKeys,
    common: &DatabaseKeys,
) -> Option<PostgresConfig> {
    let role = role(reading, at, keys);
    let password = password(reading, at, keys.password_file.as_deref(), keys.password_command.as_ref());
    if role == Some(RoleConfig::Passthrough) {
        for (key, is_set) in
            [("password_file", keys.password_file.is_some()), ("password_command", keys.password_command.is_some())]
        {
            if is_set {
                let error = PostgresError::PasswordOfPassthrough { key };
                reading.report.key(&at.key(key), error.to_string(), error.advice());
            }
        }
    }
    let catalog = keys.catalog.as_ref().map(|keys| catalog(reading, &at.key("catalog"), keys));
    let upstream_tls = upstream_tls(reading, at, keys);
    let defaults = defaults(common);
    let message_bytes = keys.message_bytes.unwrap_or(defaults.message_bytes);
    // A file that lowers the messages alone does not have to know the limit of statements.
    let statement_bytes = keys.statement_bytes.unwrap_or(defaults.statement_bytes.min(message_bytes));
    if statement_bytes > message_bytes {
        return reading.refuse(
            &at.key("statement_bytes"),
            PostgresError::StatementOverMessage { statement_bytes, message_bytes },
        );
    }
    let length = |key: Option<DurationKey>| key.map(|key| key.0);
    Some(PostgresConfig {
        role: role?,
        password: password?,
        catalog: catalog.map_or(Some(None), |catalog| catalog.map(Some))?,
        catalog_max_age: keys.catalog_max_age.map_or(defaults.catalog_max_age, |key| key.0),
        upstream_tls: upstream_tls?,
        caps: SessionCaps {
            statement: length(keys.statement_timeout),
            idle_in_transaction: length(keys.idle_in_transaction_timeout),
            transaction: length(keys.transaction_timeout),
            session_idle: length(keys.session_idle_timeout),
        },
        message_bytes,
        statement_bytes,
        ..defaults
    })
}

pub(super) fn outbound(
    reading: &mut Reading<'_>,
    at: &KeyPath,
    keys: &OutboundDatabaseKeys,
    common: &DatabaseKeys,
) -> Option<PostgresConfig> {
    let local_certificate = match (&keys.local_certificate, &keys.local_private_key) {
        (None, None) => None,
        (Some(certificate), Some(key)) => Some((reading.path(certificate), reading.path(key))),
        (Some(_), None) => {
            let (key, other) = ("local_certificate", "local_private_key");
            return reading.refuse(&at.key(key), PostgresError::HalfOfPair { key, other });
        }
        (None, Some(_)) => {
            let (key, other) = ("local_private_key", "local_certificate");
            return reading.refuse(&at.key(key), PostgresError::HalfOfPair { key, other });
        }
    };
    let defaults = defaults(common);
    let sessions_per_connection = keys.sessions_per_connection.unwrap_or(defaults.sessions_per_connection);
    Some(PostgresConfig { local_certificate, sessions_per_connection, ..defaults })
}

fn role(reading: &mut Reading<'_>, at: &KeyPath, keys: &InboundDatabaseKeys) -> Option<RoleConfig> {
    let path = at.key("role");
    let role = match &keys.role {
        None => RoleConfig::Passthrough,
        Some(text) => reading.report.check(&path, parse_role(text))?,
    };
    match (role, &keys.roles) {
        (RoleConfig::ByIdentity(_), Some(table)) => {
            role_table(reading, &at.key("roles"), table).map(RoleConfig::ByIdentity)
        }
        (RoleConfig::ByIdentity(_), None) if reading.report.is_wrong(&at.key("roles")) => None,
        (RoleConfig::ByIdentity(_), None) => reading.refuse(&path, PostgresError::NoTable),
        (_, Some(_)) => {
            let error = PostgresError::TableOfOther;
            reading.report.key(&at.key("roles"), error.to_string(), error.advice());
            None
        }
        (role, None) => Some(role),
    }
}

/// Reads `passthrough`, `fixed NAME` or `by_identity`, the last without its table yet.
fn parse_role(text: &str) -> Result<RoleConfig, PostgresError> {
    let (word, name) = text.split_once(' ').map_or((text, ""), |(word, name)| (word, name.trim()));
    match (word, name) {
        ("passthrough", "") => Ok(RoleConfig::Passthrough),
        ("by_identity", "") => Ok(RoleConfig::ByIdentity(Vec::new())),
        ("fixed", "") => Err(PostgresError::FixedWithoutName),
        ("fixed", name) => role_name(name).map(RoleConfig::Fixed),
        _ => {
            let near = nearest(word, ["passthrough", "fixed", "by_identity"]).map(str::to_owned);
            Err(PostgresError::Role { text: text.into(), near })
        }
    }
}

/// Reads the name of a role.
///
/// # Source
/// PostgreSQL cuts names at NAMEDATALEN - 1 = 63 bytes (`src/include/pg_config_manual.h`): a longer one would be another role.
fn role_name(name: &str) -> Result<Box<str>, PostgresError> {
    const LONGEST: usize = 63;
    match name {
        "" => Err(PostgresError::EmptyRole),
        _ if name.len() > LONGEST => Err(PostgresError::RoleTooLong { bytes: name.len(), longest: LONGEST }),
        _ if name.contains(char::is_control) => Err(PostgresError::RoleCharacter { name: name.into() }),
        _ => Ok(name.into()),
    }
}

fn role_table(reading: &mut Reading<'_>, at: &KeyPath, table: &Pairs) -> Option<Vec<(RoleOf, Box<str>)>> {
    let mut entries = Some(Vec::new());
    for (whom, name) in &table.0 {
        let path = at.key(whom);
        let of = role_of(reading, &path, whom);
        let name = reading.report.check(&path, role_name(name));
        entries = match (entries, of, name) {
            (Some(mut entries), Some(of), Some(name)) => {
                entries.push((of, name));
                Some(entries)
            }
            _ => None,
        };
    }
    entries
}

fn role_of(reading: &mut Reading<'_>, path: &KeyPath, whom: &str) -> Option<RoleOf> {
    let Some(stage) = whom.strip_prefix("Stage::") else {
        if whom.starts_with("spiffe://") {
            return one_peer(reading, path, whom).map(RoleOf::Workload);
        }
        let error = PostgresError::Whom { text: whom.into() };
        reading.report.key(path, error.to_string(), error.advice());
        return None;
    };
    let bare = stage.strip_prefix('"').and_then(|stage| stage.strip_suffix('"')).unwrap_or(stage);
    if bare.is_empty() || bare.contains(['"', '\\']) || bare.contains(char::is_control) {
        let error = PostgresError::Stage { text: whom.into() };
        reading.report.key(path, error.to_string(), error.advice());
        return None;
    }
    Some(RoleOf::Stage(bare.into()))
}

fn catalog(reading: &mut Reading<'_>, at: &KeyPath, keys: &CatalogKeys) -> Option<CatalogConfig> {
    let password = password(reading, at, keys.password_file.as_deref(), keys.password_command.as_ref());
    let user = reading.report.check(&at.key("user"), role_name(keys.user.as_deref()?));
    Some(CatalogConfig { user: user?, password: password? })
}

#[expect(clippy::option_option, reason = "the outer one is whether the keys are right, as everywhere in this folder")]
fn password(
    reading: &mut Reading<'_>,
    at: &KeyPath,
    file: Option<&str>,
    command: Option<&Vec<String>>,
) -> Option<Option<PasswordSource>> {
    match (file, command) {
        (None, None) => Some(None),
        (Some(file), None) => Some(Some(PasswordSource::File(reading.path(file)))),
        (None, Some(command)) => {
            let mut command = command.clone();
            // A bare name is looked up in PATH, everything else is a path as the others in the file.
            if let Some(program) = command.first_mut().filter(|program| program.contains('/')) {
                *program = reading.path(program).display().to_string();
            }
            Some(Some(PasswordSource::Command(command)))
        }
        (Some(_), Some(_)) => {
            let error = PostgresError::TwoPasswords;
            reading.report.key(&at.key("password_command"), error.to_string(), error.advice());
            None
        }
    }
}

fn upstream_tls(reading: &mut Reading<'_>, at: &KeyPath, keys: &InboundDatabaseKeys) -> Option<UpstreamTls> {
    let key = keys.upstream_tls.unwrap_or(UpstreamTlsKey::Disable);
    let ca = match keys.upstream_ca.as_deref() {
        None | Some("system") => UpstreamCa::System,
        Some(file) => UpstreamCa::File(reading.path(file)),
    };
    match key {
        UpstreamTlsKey::Disable if ca != UpstreamCa::System => {
            reading.refuse(&at.key("upstream_ca"), PostgresError::CaWithoutTls)
        }
        UpstreamTlsKey::Disable => Some(UpstreamTls::Disable),
        UpstreamTlsKey::Request => Some(UpstreamTls::Request(ca)),
        UpstreamTlsKey::Direct => Some(UpstreamTls::Direct(ca)),
    }
}

/// What is wrong about the options of `protocol: postgres`.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
enum PostgresError {
    #[error("`{text}` is not one of `passthrough`, `fixed NAME`, `by_identity`")]
    Role { text: String, near: Option<String> },
    #[error("`fixed` names no role")]
    FixedWithoutName,
    #[error("the name of the role is empty")]
    EmptyRole,
    #[error("the name of the role has {bytes} bytes, PostgreSQL cuts it after {longest}")]
    RoleTooLong { bytes: usize, longest: usize },
    #[error("the name of the role, `{}`, has a control character", name.escape_default())]
    RoleCharacter { name: String },
    #[error("`role: by_identity` has no table `roles`")]
    NoTable,
    #[error("`roles` is for `role: by_identity`")]
    TableOfOther,
    #[error("`{text}` is neither a SPIFFE ID nor a stage")]
    Whom { text: String },
    #[error("`{text}` is not a stage")]
    Stage { text: String },
    #[error("`{key}` has no effect with `role: passthrough`: the client proves itself to the server")]
    PasswordOfPassthrough { key: &'static str },
    #[error("both `password_file` and `password_command` say what the password is")]
    TwoPasswords,
    #[error("`upstream_ca` has no effect with `upstream_tls: disable`")]
    CaWithoutTls,
    #[error("`{key}` is of no use without `{other}`")]
    HalfOfPair { key: &'static str, other: &'static str },
    #[error("`statement_bytes` ({statement_bytes}) must be at most `message_bytes` ({message_bytes})")]
    StatementOverMessage { statement_bytes: usize, message_bytes: usize },
}

impl Advice for PostgresError {
    fn advice(&self) -> Option<String> {
        Some(match self {
            Self::Role { near: Some(near), .. } => format!("did you mean `{near}`?"),
            Self::Role { text, near: None } => format!("write `role: fixed {text}` if that is the role's name"),
            Self::FixedWithoutName | Self::EmptyRole => "for example `role: fixed etl`".into(),
            Self::RoleTooLong { .. } | Self::RoleCharacter { .. } => "write the name as `\\du` of psql shows it".into(),
            Self::NoTable => "add for example `roles: {\"spiffe://pipeline.example/ns/etl/sa/load\": etl}`".into(),
            Self::TableOfOther => "remove it, or write `role: by_identity`".into(),
            Self::Whom { .. } => {
                "write `spiffe://TRUST-DOMAIN/PATH`, `spiffe://TRUST-DOMAIN/PATH/*` or `Stage::NAME`".into()
            }
            Self::Stage { .. } => "write for example `Stage::analyst`".into(),
            Self::PasswordOfPassthrough { .. } => "move it below `catalog`, or write `role: fixed NAME`".into(),
            Self::TwoPasswords => "keep one of the two".into(),
            Self::CaWithoutTls => "add `upstream_tls: request`, or remove it".into(),
            Self::HalfOfPair { other, .. } => format!("add `{other}`"),
            Self::StatementOverMessage { .. } => "raise `message_bytes` or lower `statement_bytes`".into(),
        })
    }
}
