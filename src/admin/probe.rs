//! Asks a running sidecar how it is: what an exec probe does in a container without a shell, and `portcullis doctor`.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::config::{AdminConfig, HealthConfig};

fn question(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").into_bytes()
}

/// More than any answer has.
const MOST_ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// Where to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeTarget {
    /// The health or the admin listener.
    Tcp(SocketAddr),
    /// The admin socket.
    Unix(PathBuf),
}

impl ProbeTarget {
    /// The door of a configuration that tells most: socket, admin listener, health listener. A port 0 cannot be known from
    /// outside.
    #[must_use]
    pub fn of(health: Option<&HealthConfig>, admin: &AdminConfig) -> Option<Self> {
        let known = |address: &SocketAddr| address.port() != 0;
        let socket = admin.socket.clone().map(Self::Unix);
        let listener = || admin.listen.filter(known).map(Self::Tcp);
        let health = || health.map(|health| health.listen).filter(known).map(|address| Self::Tcp(from_inside(address)));
        socket.or_else(listener).or_else(health)
    }
}

impl fmt::Display for ProbeTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Asks `target`; `Ok` means ready.
///
/// # Errors
/// It is not ready, or did not say so within `timeout`.
pub fn probe_ready(target: &ProbeTarget, timeout: Duration) -> Result<(), ProbeError> {
    let deadline = Instant::now() + timeout;
    let answer =
        ask(target, "/ready", deadline).map_err(|source| ProbeError::Unreachable { target: target.clone(), source })?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    match head.split_ascii_whitespace().nth(1) {
        Some("200") => Ok(()),
        Some("503") => Err(ProbeError::NotReady { target: target.clone(), reasons: reasons(body) }),
        _ => {
            let answer = head.lines().next().unwrap_or_default().to_owned();
            Err(ProbeError::Foreign { target: target.clone(), answer })
        }
    }
}

/// The body of `path` at `target`.
///
/// # Errors
/// It does not say so within `timeout`.
pub fn read_from(target: &ProbeTarget, path: &str, timeout: Duration) -> Result<String, ProbeError> {
    let deadline = Instant::now() + timeout;
    let answer =
        ask(target, path, deadline).map_err(|source| ProbeError::Unreachable { target: target.clone(), source })?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    match head.split_ascii_whitespace().nth(1) {
        Some("200") => Ok(body.to_owned()),
        _ => {
            let answer = head.lines().next().unwrap_or_default().to_owned();
            Err(ProbeError::Foreign { target: target.clone(), answer })
        }
    }
}

/// Why a sidecar does not count as ready.
#[derive(Debug, Error)]
pub enum ProbeError {
    /// It says so.
    #[error("`{target}` is not ready: {reasons}")]
    NotReady {
        /// Who was asked.
        target: ProbeTarget,
        /// What it said, separated by semicolons.
        reasons: String,
    },
    /// Nothing came, or not in time.
    #[error("`{target}` does not answer: {source}")]
    Unreachable {
        /// Who was asked.
        target: ProbeTarget,
        /// Why.
        source: io::Error,
    },
    /// Something else listens there.
    #[error("`{target}` is no portcullis: it answers `{}`", answer.escape_debug())]
    Foreign {
        /// Who was asked.
        target: ProbeTarget,
        /// The first line of what came.
        answer: String,
    },
}

fn ask(target: &ProbeTarget, path: &str, deadline: Instant) -> io::Result<String> {
    let asked = question(path);
    match target {
        ProbeTarget::Tcp(address) => {
            let stream = TcpStream::connect_timeout(address, left(deadline)?)?;
            stream.set_write_timeout(Some(left(deadline)?))?;
            exchange(&stream, &asked, || stream.set_read_timeout(Some(left(deadline)?)))
        }
        ProbeTarget::Unix(path) => {
            let stream = UnixStream::connect(path)?;
            stream.set_write_timeout(Some(left(deadline)?))?;
            exchange(&stream, &asked, || stream.set_read_timeout(Some(left(deadline)?)))
        }
    }
}

fn exchange<S: Copy + Read + Write>(
    mut stream: S,
    question: &[u8],
    mut before_read: impl FnMut() -> io::Result<()>,
) -> io::Result<String> {
    stream.write_all(question)?;
    let mut answer = Vec::new();
    let mut some = [0; 4_096];
    while answer.len() < MOST_ANSWER_BYTES {
        before_read()?;
        match stream.read(&mut some) {
            Ok(0) => break,
            Ok(count) => answer.extend_from_slice(some.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // A timeout of the system reads "resource temporarily unavailable", which tells nobody anything.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(io::ErrorKind::TimedOut.into()),
            Err(error) => return Err(error),
        }
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

fn reasons(body: &str) -> String {
    let said: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    let reasons = said.get("reasons").and_then(serde_json::Value::as_array);
    let words = reasons
        .into_iter()
        .flatten()
        .filter_map(|reason| reason.get("message").or_else(|| reason.get("reason"))?.as_str());
    let words: Vec<_> = words.collect();
    if words.is_empty() { "it does not say why".to_owned() } else { words.join("; ") }
}

/// A listener on every address is reached on loopback from its own container.
fn from_inside(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_door_that_tells_most_is_asked() {
        let health = |listen: &str| HealthConfig { listen: listen.parse().unwrap(), metrics: true };
        let admin = |listen: Option<&str>, socket: Option<&str>| AdminConfig {
            listen: listen.map(|address| address.parse().unwrap()),
            socket: socket.map(PathBuf::from),
        };
        let of = |health: Option<&HealthConfig>, admin: &AdminConfig| {
            ProbeTarget::of(health, admin).map(|target| target.to_string())
        };
        let everywhere = health("0.0.0.0:15021");
        let all = of(Some(&everywhere), &admin(Some("127.0.0.1:15020"), Some("/run/admin.sock")));
        assert_eq!(all.as_deref(), Some("unix:/run/admin.sock"));
        assert_eq!(of(Some(&everywhere), &admin(Some("127.0.0.1:15020"), None)).as_deref(), Some("127.0.0.1:15020"));
        assert_eq!(of(Some(&everywhere), &admin(Some("127.0.0.1:0"), None)).as_deref(), Some("127.0.0.1:15021"));
        assert_eq!(of(Some(&health("[::]:15021")), &admin(None, None)).as_deref(), Some("[::1]:15021"));
        assert_eq!(of(Some(&health("10.0.0.7:15021")), &admin(None, None)).as_deref(), Some("10.0.0.7:15021"));
        assert_eq!(of(None, &admin(Some("127.0.0.1:0"), None)), None);
    }

    #[test]
    fn what_is_no_portcullis_is_said_to_be_none() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let target = ProbeTarget::Tcp(listener.local_addr().unwrap());
        let other = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.read_exact(&mut vec![0; question("/ready").len()]).unwrap();
            stream.write_all(b"SSH-2.0-\x1b[31mOther\r\n").unwrap();
        });
        let error = probe_ready(&target, Duration::from_secs(30)).unwrap_err();
        assert_eq!(error.to_string(), format!("`{target}` is no portcullis: it answers `SSH-2.0-\\u{{1b}}[31mOther`"));
        other.join().unwrap();
    }

    #[test]
    fn reasons_are_read_from_whatever_the_door_tells() {
        assert_eq!(
            reasons("{\"reasons\":[{\"reason\":\"identity\",\"message\":\"no SVID\"},{\"reason\":\"audit\"}]}"),
            "no SVID; audit"
        );
        assert_eq!(reasons("{\"ready\":false}"), "it does not say why");
        assert_eq!(reasons("<html>"), "it does not say why");
    }
}
