//! What is known about an operation, in plain values.

use std::collections::HashSet;
use std::fmt;
use std::net::IpAddr;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::redact::{REDACTED, is_secret_header};

/// Names with their values: tags of a Cedar entity, each a `Set<String>`.
pub type Tags = Vec<(Box<str>, Vec<Box<str>>)>;

/// A value of the context. The decision point makes Cedar values of these, the record JSON.
#[derive(Debug, Clone, PartialEq, Hash)]
pub enum Value {
    /// Cedar `Bool`.
    Bool(bool),
    /// Cedar `Long`.
    Long(i64),
    /// Cedar `String`.
    String(Box<str>),
    /// Cedar `Set<String>`.
    Strings(Vec<Box<str>>),
    /// Cedar `ipaddr`.
    Ip(IpAddr),
    /// Cedar `datetime`, in milliseconds since 1970-01-01T00:00:00Z.
    Datetime(i64),
    /// Cedar record.
    Record(Vec<(&'static str, Value)>),
    /// The request's headers by lower-case name: a Cedar entity of type `Headers` whose tags are `Set<String>`.
    Headers(Tags),
    /// A token's further claims by name: a Cedar entity of type `Claims` whose tags are `Set<String>`.
    Claims(Tags),
}

/// For people: as policies write it, but for datetimes, which are as RFC 3339 has them.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => value.fmt(f),
            Self::Long(value) => value.fmt(f),
            Self::String(value) => write!(f, "\"{}\"", value.escape_debug()),
            Self::Strings(values) => strings(f, values),
            Self::Ip(address) => write!(f, "{}", address.to_canonical()),
            Self::Datetime(millis) => {
                let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(*millis) * 1_000_000);
                match at.ok().and_then(|at| at.format(&Rfc3339).ok()) {
                    Some(at) => f.write_str(&at),
                    None => write!(f, "{millis} ms"),
                }
            }
            Self::Record(fields) => separated(f, ("{", "}"), fields, |f, (name, value)| write!(f, "{name}: {value}")),
            Self::Headers(fields) | Self::Claims(fields) => separated(f, ("{", "}"), fields, |f, (name, values)| {
                write!(f, "{name}: ")?;
                // As in records: what is shown is copied into tickets.
                if is_secret_header(name) { write!(f, "{REDACTED}") } else { strings(f, values) }
            }),
        }
    }
}

fn strings(f: &mut fmt::Formatter<'_>, values: &[Box<str>]) -> fmt::Result {
    separated(f, ("[", "]"), values, |f, value| write!(f, "\"{}\"", value.escape_debug()))
}

fn separated<T>(
    f: &mut fmt::Formatter<'_>,
    (begin, end): (&str, &str),
    items: &[T],
    each: impl Fn(&mut fmt::Formatter<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    f.write_str(begin)?;
    for (position, item) in items.iter().enumerate() {
        if position > 0 {
            f.write_str(", ")?;
        }
        each(f, item)?;
    }
    f.write_str(end)
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Long(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::String(value.into())
    }
}

/// The attributes of an operation's context, in the order of the schema. An absent attribute is not there at all.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Context(Vec<(&'static str, Value)>);

impl Context {
    /// Adds an attribute. Each is added once.
    pub fn set(&mut self, name: &'static str, value: impl Into<Value>) {
        debug_assert!(self.get(name).is_none(), "context attribute `{name}` is set twice");
        self.0.push((name, value.into()));
    }

    /// Adds an attribute if there is a value for it.
    pub fn set_some(&mut self, name: &'static str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.set(name, value);
        }
    }

    /// The value of an attribute.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// All attributes.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Value)> {
        self.0.iter().map(|(name, value)| (*name, value))
    }
}

/// Which tags of an entity that a request brings (its headers, the claims of its token) the policies in force can see, so that no others
/// are copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TagsRead {
    /// A policy asks for one whose name is only known when it runs.
    All,
    /// Only these; headers in lower case.
    Only(HashSet<Box<str>>),
}

/// The request headers that policies can see.
#[derive(Debug, Clone, Copy)]
pub struct HeadersRead<'a> {
    /// Those that policies in force read: a request in which they cannot be told for certain is refused.
    pub enforced: &'a TagsRead,
    /// Those and what candidates read besides, for which nothing is ever refused.
    pub all: &'a TagsRead,
}

impl<'a> From<&'a TagsRead> for HeadersRead<'a> {
    fn from(reads: &'a TagsRead) -> Self {
        Self { enforced: reads, all: reads }
    }
}

impl TagsRead {
    /// What others can see besides.
    pub fn add(&mut self, other: &Self) {
        match (&mut *self, other) {
            (Self::Only(names), Self::Only(more)) => names.extend(more.iter().cloned()),
            _ => *self = Self::All,
        }
    }

    /// Whether one of this name can matter.
    #[must_use]
    pub fn reads(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(names) => names.contains(name),
        }
    }

    /// Whether all that `other` reads is among these.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::All, _) => true,
            (Self::Only(_), Self::All) => false,
            (Self::Only(these), Self::Only(others)) => others.is_subset(these),
        }
    }
}
