//! A file on its way to a [`Config`](super::Config): what has been found so far.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use http::Uri;
use thiserror::Error;

use super::errors::{Advice, Report};
use super::file::KeyPath;
use super::{Direction, address};

/// What one value may have to be compared with another.
#[derive(Debug)]
pub(super) struct Reading<'a> {
    pub(super) report: Report<'a>,
    /// Where relative paths start.
    pub(super) base: PathBuf,
    /// The trust domains that have a bundle; none if the file does not say so rightly.
    pub(super) trust_domains: Option<Vec<String>>,
    addresses: Vec<(KeyPath, SocketAddr)>,
    sockets: Vec<(KeyPath, PathBuf)>,
    names: Vec<(KeyPath, Direction, String)>,
}

impl<'a> Reading<'a> {
    /// Paths in `file` start at its folder.
    pub(super) fn new(report: Report<'a>, file: &Path) -> Self {
        let base = file.parent().unwrap_or(Path::new("")).to_owned();
        Self { report, base, trust_domains: None, addresses: vec![], sockets: vec![], names: vec![] }
    }

    /// Reports, and has no value.
    pub(super) fn refuse<T>(&mut self, path: &KeyPath, error: impl Advice) -> Option<T> {
        self.report.value(path, error.to_string(), error.advice());
        None
    }

    /// An address to listen on that nobody before has.
    pub(super) fn address(&mut self, path: &KeyPath, text: &str) -> Option<SocketAddr> {
        let address = self.report.check(path, address::parse(text))?;
        let taken = self.addresses.iter().find(|(_, other)| address::clash(address, *other)).cloned();
        self.addresses.push((path.clone(), address));
        match taken {
            Some((by, _)) => {
                let taken = Taken::Address { text: text.into(), line: self.report.line(&by), by: by.to_string() };
                self.refuse(path, taken)
            }
            None => Some(address),
        }
    }

    /// A Unix socket that nobody before has.
    pub(super) fn socket(&mut self, path: &KeyPath, text: &str) -> Option<PathBuf> {
        if text.is_empty() {
            return self.refuse(path, Taken::NoPath);
        }
        let socket = self.path(text);
        let taken = self.sockets.iter().find(|(_, other)| *other == socket).cloned();
        self.sockets.push((path.clone(), socket.clone()));
        match taken {
            Some((by, _)) => {
                let taken = Taken::Socket { text: text.into(), line: self.report.line(&by), by: by.to_string() };
                self.refuse(path, taken)
            }
            None => Some(socket),
        }
    }

    /// The name of a listener, which no other of its direction has.
    pub(super) fn listener_name(&mut self, direction: Direction, path: &KeyPath, name: String) -> Option<String> {
        self.report.check(path, endpoint_name(&name))?;
        let taken = self.names.iter().find(|(_, other, taken)| *other == direction && *taken == name).cloned();
        match taken {
            Some((by, _, _)) => {
                let direction = direction.as_str();
                let line = self.report.line(&by);
                self.refuse(path, NameError::Taken { name, direction, by: by.to_string(), line })
            }
            None => {
                self.names.push((path.clone(), direction, name.clone()));
                Some(name)
            }
        }
    }

    /// A path, from the folder of the configuration file on.
    pub(super) fn path(&self, text: &str) -> PathBuf {
        self.base.join(text)
    }
}

/// Checks the name of an endpoint.
pub(super) fn endpoint_name(name: &str) -> Result<(), NameError> {
    const LONGEST: usize = 63;
    let allowed = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '.' | '-');
    if name.len() > LONGEST {
        return Err(NameError::TooLong { bytes: name.len(), longest: LONGEST });
    }
    if let Some(character) = name.chars().find(|c| !allowed(*c)) {
        let plain: String = name.to_lowercase().chars().map(|c| if allowed(c) { c } else { '-' }).collect();
        return Err(NameError::Character { name: name.into(), character, plain });
    }
    match name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        true => Ok(()),
        false => Err(NameError::Start { name: name.into() }),
    }
}

/// An address that documents are fetched from.
///
/// # Source
/// SPIFFE Federation, 5.2: an HTTPS URL without userinfo.
pub(super) fn https_url(text: &str) -> Result<Uri, &'static str> {
    if text.contains('#') {
        return Err("it has a fragment");
    }
    let url: Uri = text.parse().map_err(|_| "it is no URL")?;
    match (url.scheme_str(), url.authority()) {
        (Some("https"), Some(authority)) if authority.as_str().contains('@') => Err("it has a user name in it"),
        (Some("https"), Some(authority)) if !authority.host().is_empty() => Ok(url),
        (Some("https"), _) => Err("it has no host"),
        (_, _) => Err("it does not begin with `https://`"),
    }
}

/// What is wrong with a name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum NameError {
    #[error("name has {bytes} bytes, at most {longest} are allowed")]
    TooLong { bytes: usize, longest: usize },
    #[error("name `{name}` has the character `{}`, only a-z 0-9 . - are allowed", character.escape_default())]
    Character { name: String, character: char, plain: String },
    #[error("name `{name}` does not begin with a letter or digit")]
    Start { name: String },
    #[error("`{by}` in line {line} has the name `{name}` too, names are unique among {direction} listeners")]
    Taken { name: String, direction: &'static str, by: String, line: usize },
}

impl Advice for NameError {
    fn advice(&self) -> Option<String> {
        Some(match self {
            Self::TooLong { .. } => "choose a shorter name".into(),
            Self::Character { plain, .. } if endpoint_name(plain).is_ok() => format!("for example `{plain}`"),
            Self::Character { .. } | Self::Start { .. } => "for example `lake` or `orders-api`".into(),
            Self::Taken { .. } => "give one of the two another name".into(),
        })
    }
}

/// What two parts of the file cannot share.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
enum Taken {
    #[error("address `{text}` is taken by `{by}` in line {line}")]
    Address { text: String, by: String, line: usize },
    #[error("socket `{text}` is taken by `{by}` in line {line}")]
    Socket { text: String, by: String, line: usize },
    #[error("the socket has no path")]
    NoPath,
}

impl Advice for Taken {
    fn advice(&self) -> Option<String> {
        Some(match self {
            Self::Address { .. } => "choose another port".into(),
            Self::Socket { .. } => "choose another path".into(),
            Self::NoPath => "for example `unix:/run/portcullis/lake.sock`".into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_the_design_allows() {
        for name in ["a", "lake", "0", "a.b-c", &"a".repeat(63)] {
            assert_eq!(endpoint_name(name), Ok(()), "{name}");
        }
        assert_eq!(endpoint_name(&"a".repeat(64)), Err(NameError::TooLong { bytes: 64, longest: 63 }));
        assert_eq!(endpoint_name("-a"), Err(NameError::Start { name: "-a".into() }));
        assert_eq!(endpoint_name(""), Err(NameError::Start { name: "".into() }));
        let error = endpoint_name("My_Lake").unwrap_err();
        assert_eq!(error.to_string(), "name `My_Lake` has the character `M`, only a-z 0-9 . - are allowed");
        assert_eq!(error.advice().as_deref(), Some("for example `my-lake`"));
    }
}
