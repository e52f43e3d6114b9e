//! What kubelet, Prometheus and operators ask the process: health, metrics, status, shutdown, log level.
//!
//! Three doors (`docs/admin.md`): the health listener, the admin listener on loopback, the admin socket. All run on the control
//! thread and never on the data path. Knows plain snapshots only; the app fills them.

mod door;
mod probe;
mod routes;
mod server;
mod socket;
mod status;

pub use probe::{ProbeError, ProbeTarget, probe_ready, read_from};
pub use server::{Addresses, AdminError, AdminServer};
pub use status::{
    AdminState, AuditStatus, BundleStatus, CrlStatus, FaultStatus, IdentityStatus, ListenerStatus, NotReady,
    PartStatus, PolicyStatus, Status,
};
