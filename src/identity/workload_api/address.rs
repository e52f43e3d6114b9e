//! Where a Workload API is.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use thiserror::Error;

/// The address of a Workload API.
///
/// # Source
/// SPIFFE Workload Endpoint 4: `unix:` with an absolute path, or `tcp:` with an IP address and a port; nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkloadApiAddress {
    /// A Unix socket.
    Unix(PathBuf),
    /// TCP, without encryption: only on loopback or a link of its own.
    Tcp(SocketAddr),
}

/// Why a text is no address of a Workload API.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WorkloadApiAddressError {
    /// Neither scheme.
    #[error("`{0}` begins with neither `unix:` nor `tcp:`")]
    Scheme(String),
    /// A host or a relative path.
    #[error("`{0}` has no absolute path: write `unix:/run/spire/agent/api.sock`")]
    Path(String),
    /// A query or a fragment.
    #[error("`{0}` has a query or a fragment")]
    Suffix(String),
    /// A name, no port, or a path.
    #[error("`{0}` is not an IP address and a port: write `tcp:127.0.0.1:8081`")]
    IpAndPort(String),
}

impl FromStr for WorkloadApiAddress {
    type Err = WorkloadApiAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        use WorkloadApiAddressError as E;
        let own = || text.to_owned();
        if text.contains(['?', '#']) {
            return Err(E::Suffix(own()));
        }
        if let Some(rest) = text.strip_prefix("unix:") {
            let path = rest.strip_prefix("//").unwrap_or(rest);
            let absolute = path.starts_with('/') && path.len() > 1 && !path.starts_with("//");
            return if absolute { Ok(Self::Unix(path.into())) } else { Err(E::Path(own())) };
        }
        let rest = text.strip_prefix("tcp:").ok_or_else(|| E::Scheme(own()))?;
        let address = rest.strip_prefix("//").unwrap_or(rest).parse();
        address.map(Self::Tcp).map_err(|_| E::IpAndPort(own()))
    }
}

impl fmt::Display for WorkloadApiAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_of_both_schemes_are_read() {
        for (text, shown) in [
            ("unix:/run/spire/agent/api.sock", "unix:/run/spire/agent/api.sock"),
            ("unix:///run/spire/agent/api.sock", "unix:/run/spire/agent/api.sock"),
            ("unix:/run/a b.sock", "unix:/run/a b.sock"),
            ("tcp:127.0.0.1:8081", "tcp://127.0.0.1:8081"),
            ("tcp://127.0.0.1:8081", "tcp://127.0.0.1:8081"),
            ("tcp://[::1]:8081", "tcp://[::1]:8081"),
        ] {
            let address: WorkloadApiAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), shown);
            assert_eq!(shown.parse(), Ok(address));
        }
    }

    #[test]
    fn what_the_standard_does_not_allow_is_refused_with_the_reason() {
        use WorkloadApiAddressError as E;
        let own = str::to_owned;
        for (text, error) in [
            ("/run/api.sock", E::Scheme(own("/run/api.sock"))),
            ("http://127.0.0.1:1", E::Scheme(own("http://127.0.0.1:1"))),
            ("unix:run/api.sock", E::Path(own("unix:run/api.sock"))),
            ("unix://host/api.sock", E::Path(own("unix://host/api.sock"))),
            ("unix:////api.sock", E::Path(own("unix:////api.sock"))),
            ("unix:", E::Path(own("unix:"))),
            ("unix:///", E::Path(own("unix:///"))),
            ("unix:/api.sock?x=1", E::Suffix(own("unix:/api.sock?x=1"))),
            ("tcp:localhost:8081", E::IpAndPort(own("tcp:localhost:8081"))),
            ("tcp:127.0.0.1", E::IpAndPort(own("tcp:127.0.0.1"))),
            ("tcp://127.0.0.1:8000/foo", E::IpAndPort(own("tcp://127.0.0.1:8000/foo"))),
        ] {
            assert_eq!(text.parse::<WorkloadApiAddress>(), Err(error), "{text}");
        }
    }
}
