//! Addresses to listen on: free, or held by a portcullis that runs. Nothing is accepted, nothing is taken away.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use socket2::{Domain, Socket, Type};

use super::report::Report;
use crate::config::{Config, ListenAddress};

/// Every address that the configuration names.
pub(super) fn sockets(report: &mut Report, config: &Config) {
    for listener in &config.listeners {
        let name = format!("{} {}", listener.direction.as_str(), listener.name);
        match &listener.listen {
            ListenAddress::Tcp(address) => tcp(report, &name, *address),
            ListenAddress::Unix { path, .. } => unix(report, &name, path),
        }
    }
    if let Some(health) = &config.health {
        tcp(report, "health", health.listen);
    }
    if let Some(address) = config.admin.listen {
        tcp(report, "admin", address);
    }
    // Where one is there, the admin check asks it.
    if let Some(path) = config.admin.socket.as_ref().filter(|path| !path.exists()) {
        unix(report, "admin", path);
    }
}

fn tcp(report: &mut Report, name: &str, address: SocketAddr) {
    match free(address) {
        Ok(()) => report.good("listener", format!("{name} on {address}: free")),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => match holder_of_port(address.port()) {
            Some(holder) if holder.is_portcullis() => {
                report.good(
                    "listener",
                    format!("{name} on {address}: held by the portcullis that runs (pid {})", holder.pid),
                );
            }
            Some(Holder { pid, name: program }) => {
                let advice = format!("end `{program}` (pid {pid}), or listen elsewhere");
                report.bad("listener", format!("{name} on {address}: held by `{program}` (pid {pid})"), &advice);
            }
            None => {
                let advice = "look for it as root: `ss -ltnp`";
                report.bad("listener", format!("{name} on {address}: held by a process of another user"), advice);
            }
        },
        Err(error) => {
            let advice = match error.kind() {
                io::ErrorKind::PermissionDenied => "use a port above 1023, or give the process CAP_NET_BIND_SERVICE",
                io::ErrorKind::AddrNotAvailable => "write an address of this machine, or 0.0.0.0",
                _ => "see the address",
            };
            report.bad("listener", format!("{name} on {address}: {error}"), advice);
        }
    }
}

/// Binds without listening: nobody can connect in the meantime, and a sidecar that starts now gets the address all the same.
fn free(address: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // As the listeners themselves do: connections of a process that is gone are no hindrance.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())
}

fn unix(report: &mut Report, name: &str, path: &Path) {
    let shown = format!("{name} on unix:{}", path.display());
    let Some(folder) = path.parent().filter(|folder| folder.is_dir()) else {
        return report.bad(
            "listener",
            format!("{shown}: its folder is not there"),
            "make the folder, or mount the volume",
        );
    };
    if fs::symlink_metadata(path).is_ok_and(|found| !found.file_type().is_socket()) {
        return report.bad("listener", format!("{shown}: a file that is no socket is there"), "remove it");
    }
    if let Some(holder) = holder_of_socket(path).filter(Holder::is_portcullis) {
        return report.good("listener", format!("{shown}: held by the portcullis that runs (pid {})", holder.pid));
    }
    if let Err(error) = tempfile::Builder::new().prefix(".portcullis-doctor").tempfile_in(folder) {
        let advice = "let this user write to the folder: the socket is made there under another name, then renamed";
        return report.bad("listener", format!("{shown}: {error}"), advice);
    }
    report.good("listener", format!("{shown}: free"));
}

/// A process.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Holder {
    pid: u32,
    name: String,
}

impl Holder {
    fn of(pid: u32) -> Option<Self> {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim_end().to_owned();
        Some(Self { pid, name })
    }

    fn is_portcullis(&self) -> bool {
        self.name == "portcullis"
    }
}

/// Who listens on a TCP port, as far as /proc tells this user (proc(5): `/proc/net/tcp`, `/proc/PID/fd`).
fn holder_of_port(port: u16) -> Option<Holder> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    let inodes: Vec<String> = tables.iter().flat_map(|table| listening(table, port)).collect();
    let links: Vec<String> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    let pids = fs::read_dir("/proc").ok()?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let holds = |pid: &u32| {
        let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().filter_map(Result::ok);
        let mut targets = open.filter_map(|entry| fs::read_link(entry.path()).ok());
        targets.any(|target| target.to_str().is_some_and(|target| links.iter().any(|link| link == target)))
    };
    pids.filter(holds).find_map(Holder::of)
}

/// The inodes of the sockets in a table that listen on a port.
fn listening(table: &str, port: u16) -> Vec<String> {
    const LISTEN: &str = "0A";
    let inode = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let (_, local) = fields.nth(1)?.rsplit_once(':')?;
        let is_it = u16::from_str_radix(local, 16) == Ok(port) && fields.nth(1)? == LISTEN;
        is_it.then(|| fields.nth(5)).flatten().map(str::to_owned)
    };
    table.lines().skip(1).filter_map(inode).collect()
}

/// Who bound a Unix socket. A listener's is bound as `NAME.PID`, then renamed, and keeps its first name in the kernel's table.
fn holder_of_socket(path: &Path) -> Option<Holder> {
    let path = path.to_str()?;
    let table = fs::read_to_string("/proc/net/unix").ok()?;
    let names = table.lines().filter_map(|line| line.split_ascii_whitespace().nth(7));
    let pids = names.filter_map(|name| name.strip_prefix(path)?.strip_prefix('.')?.parse().ok());
    pids.filter_map(Holder::of).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_held_is_found_with_its_process_and_goes_on_listening() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(free(address).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert_eq!(holder_of_port(address.port()).unwrap().pid, std::process::id());
        let connected = std::net::TcpStream::connect(address).unwrap();
        assert_eq!(listener.accept().unwrap().1, connected.local_addr().unwrap());
        drop((connected, listener));
        free(address).unwrap();
    }

    #[test]
    fn the_kernels_table_is_read_by_port_and_state() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0\n\
             1: 0100007F:1F90 0100007F:AAAA 01 00000000:00000000 00:00000000 00000000  1000        0 4712 1 0\n";
        assert_eq!(listening(table, 8080), ["4711"]);
        assert!(listening(table, 8081).is_empty());
    }
}
