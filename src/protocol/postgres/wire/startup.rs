//! The startup packet.

use bytes::BytesMut;
use thiserror::Error;

use super::packets::untyped;
use super::{PacketError, split_options};
use crate::mapping::sql::setting_boolean;

/// What a session is to be, as its client asks: names and values in the order of the packet, no name twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::protocol::postgres) struct StartupPacket {
    /// Of protocol 3.MINOR.
    pub(in crate::protocol::postgres) minor: u16,
    parameters: Vec<(Box<str>, Box<str>)>,
}

/// Whether a session is to replicate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::protocol::postgres) enum Replication {
    /// An ordinary session.
    No,
    /// The whole cluster.
    Physical,
    /// One database, with SQL beside the replication commands.
    Database,
}

/// A setting that a session is to begin with: its name in lower case, as SET compares it, and the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::protocol::postgres) struct Setting {
    /// In lower case.
    pub(in crate::protocol::postgres) name: Box<str>,
    /// As it was written.
    pub(in crate::protocol::postgres) value: Box<str>,
}

/// Why a startup packet, read as such, cannot be judged.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(in crate::protocol::postgres) enum StartupError {
    #[error("no PostgreSQL user name specified in startup packet")]
    NoUser,
    #[error("`{name}` is {bytes} bytes long, longest is 63")]
    NameTooLong { name: &'static str, bytes: usize },
    #[error("option `{word}` is not supported, only `-c name=value` and `--name=value` are")]
    Option { word: String },
    #[error("invalid value for parameter \"replication\": \"{value}\"")]
    Replication { value: String },
    #[error("unrecognized configuration parameter \"{name}\"")]
    NoSetting { name: String },
}

impl StartupError {
    /// The rule, as records name it.
    pub(in crate::protocol::postgres) const fn rule(&self) -> &'static str {
        match self {
            Self::NoUser => "startup-user",
            Self::NameTooLong { .. } => "startup-name-length",
            Self::Option { .. } => "startup-option",
            Self::Replication { .. } => "startup-replication",
            Self::NoSetting { .. } => "startup-setting",
        }
    }

    /// What the client is told, as PostgreSQL would where it has words for it.
    pub(in crate::protocol::postgres) const fn sqlstate(&self) -> &'static str {
        match self {
            Self::NoUser => "28000",
            Self::NameTooLong { .. } => "42622",
            Self::Option { .. } => "0A000",
            Self::Replication { .. } => "22023",
            Self::NoSetting { .. } => "42704",
        }
    }
}

/// The server cuts longer names off (`NAMEDATALEN`), so that what was judged would not be what is used.
const LONGEST_NAME: usize = 63;

impl StartupPacket {
    /// A packet of protocol 3.`minor` without parameters.
    pub(in crate::protocol::postgres) const fn new(minor: u16) -> Self {
        Self { minor, parameters: Vec::new() }
    }

    pub(super) fn parse(minor: u16, rest: &[u8]) -> Result<Self, PacketError> {
        // Pairs of texts, each with its NUL, then one NUL more.
        let Some(pairs) = rest.strip_suffix(b"\0") else { return Err(PacketError::Terminator) };
        let pairs = std::str::from_utf8(pairs).map_err(|_| PacketError::Encoding)?;
        let mut texts = match pairs.strip_suffix('\0') {
            Some(pairs) => pairs.split('\0'),
            None if pairs.is_empty() => return Ok(Self::new(minor)),
            None => return Err(PacketError::Terminator),
        };
        let mut packet = Self::new(minor);
        while let Some(name) = texts.next() {
            if name.is_empty() {
                return Err(PacketError::EmptyName);
            }
            let value = texts.next().ok_or(PacketError::Terminator)?;
            // Settings are compared without case: of `a` and `A` the later one would win.
            if packet.parameters.iter().any(|(known, _)| known.eq_ignore_ascii_case(name)) {
                return Err(PacketError::Repeated { name: name.into() });
            }
            packet.parameters.push((name.into(), value.into()));
        }
        Ok(packet)
    }

    /// Sets a parameter, in the place of the one that has this name.
    pub(in crate::protocol::postgres) fn set(&mut self, name: &str, value: &str) {
        // A text with a NUL would be read as several.
        let value: Box<str> = value.split('\0').next().unwrap_or_default().into();
        match self.parameters.iter_mut().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
            Some((_, known)) => *known = value,
            None => self.parameters.push((name.into(), value)),
        }
    }

    /// A parameter's value.
    pub(in crate::protocol::postgres) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| &**known == name).map(|(_, value)| &**value)
    }

    /// All parameters in order.
    pub(in crate::protocol::postgres) fn parameters(&self) -> impl Iterator<Item = (&str, &str)> {
        self.parameters.iter().map(|(name, value)| (&**name, &**value))
    }

    /// The role that is asked for.
    ///
    /// # Errors
    /// There is none, or it is too long.
    pub(in crate::protocol::postgres) fn user(&self) -> Result<&str, StartupError> {
        let user = self.parameter("user").filter(|user| !user.is_empty()).ok_or(StartupError::NoUser)?;
        short("user", user)
    }

    /// The database that is asked for: the user's name unless one is given.
    ///
    /// # Errors
    /// There is no user either, or the name is too long.
    pub(in crate::protocol::postgres) fn database(&self) -> Result<&str, StartupError> {
        match self.parameter("database").filter(|database| !database.is_empty()) {
            Some(database) => short("database", database),
            None => self.user(),
        }
    }

    /// Whether it is to replicate.
    ///
    /// # Errors
    /// The value says neither.
    ///
    /// # Source
    /// `ProcessStartupPacket` (backend_startup.c).
    pub(in crate::protocol::postgres) fn replication(&self) -> Result<Replication, StartupError> {
        let Some(value) = self.parameter("replication") else { return Ok(Replication::No) };
        match (value, setting_boolean(value)) {
            ("database", _) => Ok(Replication::Database),
            (_, Some(true)) => Ok(Replication::Physical),
            (_, Some(false)) => Ok(Replication::No),
            (_, None) => Err(StartupError::Replication { value: value.into() }),
        }
    }

    /// The settings that the session is to begin with, each once: those of `options` first, a later one in the place of an earlier, as the
    /// server does it.
    ///
    /// # Errors
    /// An option is not understood, or sets what is no setting.
    pub(in crate::protocol::postgres) fn settings(&self) -> Result<Vec<Setting>, StartupError> {
        let options = self.parameter("options").unwrap_or_default();
        let options = split_options(options).map_err(|word| StartupError::Option { word })?;
        let own = self.parameters().filter(|(name, _)| !is_of_protocol(name));
        let mut settings: Vec<Setting> = Vec::new();
        for (name, value) in options.iter().map(|(name, value)| (name.as_str(), value.as_str())).chain(own) {
            let name = name.to_ascii_lowercase();
            // `-c user=…` and `USER` too: in the packet that is sent on, it would stand for the one of the protocol.
            if is_of_protocol(&name) {
                return Err(StartupError::NoSetting { name });
            }
            settings.retain(|setting| *setting.name != *name);
            settings.push(Setting { name: name.into(), value: value.into() });
        }
        Ok(settings)
    }

    /// Protocol options (`_pq_.…`), of which we know none.
    pub(in crate::protocol::postgres) fn protocol_options(&self) -> impl Iterator<Item = &str> {
        self.parameters().map(|(name, _)| name).filter(|name| name.starts_with("_pq_."))
    }

    /// The packet as it is sent.
    pub(in crate::protocol::postgres) fn to_bytes(&self) -> BytesMut {
        let mut body = Vec::new();
        for text in self.parameters.iter().flat_map(|(name, value)| [name, value]) {
            body.extend_from_slice(text.as_bytes());
            body.push(0);
        }
        body.push(0);
        untyped(3 << 16 | u32::from(self.minor), &body)
    }
}

/// Parameters that are no settings. Their names are compared with case (`ProcessStartupPacket`).
fn is_of_protocol(name: &str) -> bool {
    matches!(name, "user" | "database" | "options" | "replication") || name.starts_with("_pq_.")
}

fn short<'a>(name: &'static str, value: &'a str) -> Result<&'a str, StartupError> {
    match value.len() {
        0..=LONGEST_NAME => Ok(value),
        bytes => Err(StartupError::NameTooLong { name, bytes }),
    }
}
