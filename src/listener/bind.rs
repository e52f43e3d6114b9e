//! Sockets: bound once, before any thread runs, and then accepted from on every data-path thread.

use std::fs::{self, Permissions};
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockRef, Socket as Socket2, Type};
use thiserror::Error;

use crate::config::ListenAddress;

/// Connections that may wait to be accepted; the system lowers it to its own limit (`net.core.somaxconn`).
const BACKLOG: i32 = 4096;

/// A bound socket that nothing accepts from yet.
#[derive(Debug)]
pub struct Bound {
    socket: Socket,
    address: String,
}

#[derive(Debug)]
enum Socket {
    Tcp(std::net::TcpListener),
    Unix { listener: std::os::unix::net::UnixListener, allow_uids: Vec<u32> },
}

/// Why an address cannot be listened on.
#[derive(Debug, Error)]
pub enum BindError {
    /// The system refuses the TCP address.
    #[error("cannot listen on `{address}`: {source}")]
    Tcp {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The system refuses the socket's path.
    #[error("cannot listen on `unix:{}`: {source}", path.display())]
    Unix {
        /// The path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Something that is no socket has the path; it is not removed.
    #[error("cannot listen on `unix:{}`: there is a file that is no socket", path.display())]
    NoSocket {
        /// The path.
        path: PathBuf,
    },
}

impl Bound {
    /// Binds an address.
    ///
    /// # Errors
    /// The system refuses it.
    pub fn bind(address: &ListenAddress) -> Result<Self, BindError> {
        match address {
            ListenAddress::Tcp(address) => tcp(*address).map_err(|source| BindError::Tcp { address: *address, source }),
            ListenAddress::Unix { path, mode, allow_uids } => unix(path, *mode, allow_uids),
        }
    }

    /// The address that was bound: with the port that the system chose where 0 was asked for.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// This thread's end of the socket.
    ///
    /// # Errors
    /// The system has no descriptor left, or there is no runtime.
    pub fn acceptor(&self) -> io::Result<Acceptor> {
        Ok(match &self.socket {
            Socket::Tcp(listener) => Acceptor::Tcp(tokio::net::TcpListener::from_std(listener.try_clone()?)?),
            Socket::Unix { listener, allow_uids } => Acceptor::Unix {
                listener: tokio::net::UnixListener::from_std(listener.try_clone()?)?,
                allow_uids: allow_uids.clone(),
            },
        })
    }
}

/// One thread's end of a bound socket.
#[derive(Debug)]
pub enum Acceptor {
    /// TCP.
    Tcp(tokio::net::TcpListener),
    /// Unix.
    Unix {
        /// The socket.
        listener: tokio::net::UnixListener,
        /// Who may connect; empty: whoever the socket's mode lets in.
        allow_uids: Vec<u32>,
    },
}

impl Acceptor {
    /// Stops listening, for every thread: who connects from now on is turned away at once, rather than put in a queue that nobody
    /// serves. Closing this thread's descriptor would not do that, as others hold the socket too.
    pub(super) fn close(&self) {
        let socket = match self {
            Self::Tcp(listener) => SockRef::from(listener),
            Self::Unix { listener, .. } => SockRef::from(listener),
        };
        // Fails if another thread was first.
        let _ = socket.shutdown(Shutdown::Both);
    }
}

fn tcp(address: SocketAddr) -> io::Result<Bound> {
    let socket = Socket2::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    // A restarted sidecar must not wait for the connections of the one before to be forgotten.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    let listener = std::net::TcpListener::from(socket);
    let address = listener.local_addr()?.to_string();
    Ok(Bound { socket: Socket::Tcp(listener), address })
}

fn unix(path: &Path, mode: u32, allow_uids: &[u32]) -> Result<Bound, BindError> {
    let failed = |source| BindError::Unix { path: path.to_owned(), source };
    if fs::symlink_metadata(path).is_ok_and(|found| !found.file_type().is_socket()) {
        return Err(BindError::NoSocket { path: path.to_owned() });
    }
    // Made under another name, given its mode, then moved into place: at no time can somebody connect whom the mode keeps
    // out, and the socket that a killed process left behind is replaced.
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
    let fresh = path.with_file_name(name);
    let _ = fs::remove_file(&fresh);
    let listener = std::os::unix::net::UnixListener::bind(&fresh).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    fs::set_permissions(&fresh, Permissions::from_mode(mode)).map_err(failed)?;
    fs::rename(&fresh, path).map_err(failed)?;
    let address = format!("unix:{}", path.display());
    Ok(Bound { socket: Socket::Unix { listener, allow_uids: allow_uids.to_vec() }, address })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unix_socket_has_its_mode_and_replaces_the_one_of_a_killed_process() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lake.sock");
        let address = ListenAddress::Unix { path: path.clone(), mode: 0o600, allow_uids: Vec::new() };
        for _ in 0..2 {
            let bound = Bound::bind(&address).unwrap();
            assert_eq!(bound.address(), format!("unix:{}", path.display()));
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn a_file_that_is_no_socket_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("precious");
        fs::write(&path, "data").unwrap();
        let address = ListenAddress::Unix { path: path.clone(), mode: 0o600, allow_uids: Vec::new() };
        assert!(matches!(Bound::bind(&address), Err(BindError::NoSocket { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "data");
    }
}
