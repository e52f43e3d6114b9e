//! When a connection has to end though its peer would go on.

use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::sleep;

use crate::drain::DrainWatch;
use crate::tls::{Peer, ServerTls};

/// The wall clock is looked at this often: it may be set while a connection lives.
const CLOCK_CHECK: Duration = Duration::from_secs(60);

/// Why a connection has to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ending {
    /// The process drains.
    Drain,
    /// The peer's certificate has expired.
    PeerExpired,
    /// The bundles in force no longer vouch for the peer's certificate.
    Distrusted { rule: &'static str, message: String },
}

/// Ready when the process drains.
pub(super) async fn of_local(drain: &DrainWatch) -> Ending {
    drain.draining().await;
    Ending::Drain
}

/// Ready when the process drains or the peer's right to be here has ended.
pub(super) async fn of_peer(
    drain: &DrainWatch,
    peer: &Peer,
    tls: &ServerTls,
    mut trust: watch::Receiver<u64>,
) -> Ending {
    let expires = peer.svid().not_after();
    loop {
        let now = SystemTime::now();
        let Ok(left) = expires.duration_since(now) else { return Ending::PeerExpired };
        tokio::select! {
            () = drain.draining() => return Ending::Drain,
            changed = trust.changed() => {
                if changed.is_err() {
                    // Nobody can change the trust any more: what remains is the clock and the drain.
                    return until_expiry(drain, expires).await;
                }
                if let Err(refusal) = tls.reverify(peer, SystemTime::now()) {
                    return Ending::Distrusted { rule: refusal.rule, message: refusal.message };
                }
            }
            () = sleep(left.min(CLOCK_CHECK)) => {}
        }
    }
}

async fn until_expiry(drain: &DrainWatch, expires: SystemTime) -> Ending {
    while let Ok(left) = expires.duration_since(SystemTime::now()) {
        tokio::select! {
            () = drain.draining() => return Ending::Drain,
            () = sleep(left.min(CLOCK_CHECK)) => {}
        }
    }
    Ending::PeerExpired
}
