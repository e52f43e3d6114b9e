//! Where the Workload API is.

use std::net::SocketAddr;
use std::path::PathBuf;

use thiserror::Error;

use crate::config::address;
use crate::config::errors::Advice;
use crate::identity::workload_api::WorkloadApiAddress;

/// Reads an address as `SPIFFE_ENDPOINT_SOCKET` has it, and without the slashes of a URI too.
///
/// # Source
/// SPIFFE Workload Endpoint, section 4: `unix` with an absolute path and without authority, or `tcp` with an IP address and a port
/// and without a path; no query, no fragment.
pub(super) fn parse(text: &str, is_off_loopback_allowed: bool) -> Result<WorkloadApiAddress, EndpointError> {
    if let Some(rest) = text.strip_prefix("unix:") {
        let path = match rest.strip_prefix("//") {
            Some(path) if !path.starts_with('/') => return Err(EndpointError::Authority { text: text.into() }),
            Some(path) => path,
            None => rest,
        };
        return match path.starts_with('/') && !path.contains(['?', '#', '\0']) {
            true => Ok(WorkloadApiAddress::Unix(PathBuf::from(path))),
            false => Err(EndpointError::Path { text: text.into() }),
        };
    }
    let Some(rest) = text.strip_prefix("tcp:") else {
        return Err(EndpointError::Scheme { text: text.into() });
    };
    let address: SocketAddr =
        rest.strip_prefix("//").unwrap_or(rest).parse().map_err(|_| EndpointError::Tcp { text: text.into() })?;
    match address::is_loopback(address.ip()) || is_off_loopback_allowed {
        true if address.port() != 0 => Ok(WorkloadApiAddress::Tcp(address)),
        true => Err(EndpointError::Tcp { text: text.into() }),
        false => Err(EndpointError::OffLoopback { address }),
    }
}

/// Why a text is no address of the Workload API.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum EndpointError {
    #[error("`{text}` begins neither with `unix:` nor with `tcp:`")]
    Scheme { text: String },
    #[error("`{text}` has a host between the slashes, and a Unix socket is on this machine")]
    Authority { text: String },
    #[error("`{text}` has no absolute path")]
    Path { text: String },
    #[error("`{text}` is not `tcp:IP:PORT`")]
    Tcp { text: String },
    #[error("`{address}` is not on loopback: private keys would cross the network in plain")]
    OffLoopback { address: SocketAddr },
}

impl Advice for EndpointError {
    fn advice(&self) -> Option<String> {
        Some(match self {
            Self::Scheme { text } if text.starts_with('/') => format!("write `unix:{text}`"),
            Self::Scheme { .. } | Self::Authority { .. } | Self::Path { .. } => {
                "write for example `unix:/run/spire/agent/api.sock`".into()
            }
            Self::Tcp { .. } => "write an IP address and a port, for example `tcp:127.0.0.1:8081`".into(),
            Self::OffLoopback { .. } => {
                "run the agent on this machine, or set `unsafe_address_off_loopback: true`".into()
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Result<String, EndpointError> {
        parse(text, false).map(|address| address.to_string())
    }

    #[test]
    fn addresses_are_read_as_the_standard_and_as_people_write_them() {
        for (text, read) in [
            ("unix:/run/spire/agent/api.sock", "unix:/run/spire/agent/api.sock"),
            ("unix:///run/spire/agent/api.sock", "unix:/run/spire/agent/api.sock"),
            ("tcp:127.0.0.1:8081", "tcp://127.0.0.1:8081"),
            ("tcp://127.0.0.1:8081", "tcp://127.0.0.1:8081"),
            ("tcp://[::1]:8081", "tcp://[::1]:8081"),
        ] {
            assert_eq!(shown(text).as_deref(), Ok(read), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_its_reason() {
        let own = str::to_owned;
        for text in ["/run/api.sock", "http://127.0.0.1:1", "UNIX:/run/api.sock", "api.sock"] {
            assert_eq!(shown(text), Err(EndpointError::Scheme { text: own(text) }));
        }
        for text in ["unix://host/run/api.sock", "unix://run/api.sock"] {
            assert_eq!(shown(text), Err(EndpointError::Authority { text: own(text) }));
        }
        for text in ["unix:", "unix:run/api.sock", "unix:/run/api.sock?a=b", "unix:/run/api.sock#a"] {
            assert_eq!(shown(text), Err(EndpointError::Path { text: own(text) }));
        }
        for text in ["tcp:localhost:1", "tcp:127.0.0.1", "tcp:127.0.0.1:0", "tcp://127.0.0.1:1/path", "tcp:"] {
            assert_eq!(shown(text), Err(EndpointError::Tcp { text: own(text) }));
        }
    }

    #[test]
    fn another_machine_is_refused_unless_that_is_asked_for() {
        let address = "10.0.0.1:8081".parse().unwrap();
        assert_eq!(parse("tcp:10.0.0.1:8081", false), Err(EndpointError::OffLoopback { address }));
        assert_eq!(parse("tcp:10.0.0.1:8081", true), Ok(WorkloadApiAddress::Tcp(address)));
    }
}
