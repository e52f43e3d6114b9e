//! The accept loop of one listener on one data-path thread.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};
use tokio::time::sleep;

use super::Listener;
use super::bind::Acceptor;
use crate::drain::DrainWatch;
use crate::upstream::keep_alive;

/// How long the loop waits when the system has no descriptor or memory for one more connection: long enough for others to
/// end, short enough that serving goes on at once when they have.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// A connection that was accepted.
#[derive(Debug)]
pub(super) enum Accepted {
    Tcp(TcpStream, std::net::SocketAddr),
    Unix(UnixStream),
}

/// Accepts until the drain begins. Every connection has a task of its own; none can end or delay the loop.
pub async fn accept(listener: Arc<Listener>, acceptor: Acceptor, drain: DrainWatch) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = drain.draining() => return acceptor.close(),
            accepted = next(&acceptor) => accepted,
        };
        match accepted {
            Ok(Some(accepted)) => {
                let (listener, drain) = (Arc::clone(&listener), drain.clone());
                // Before the task first runs, or a drain could end without it.
                let open = drain.guard();
                tokio::spawn(async move {
                    let _open = open;
                    listener.connection(accepted, &drain).await;
                });
            }
            Ok(None) => listener.metrics().connection_refused("uid"),
            Err(error) if is_about_one_connection(&error) => {}
            Err(error) => {
                listener.metrics().connection_refused("accept");
                tracing::error!(listener = %listener.name(), %error, "cannot accept a connection; trying again");
                sleep(EXHAUSTED_PAUSE).await;
            }
        }
    }
}

/// The next connection; none for one from a user who may not connect.
async fn next(acceptor: &Acceptor) -> io::Result<Option<Accepted>> {
    match acceptor {
        Acceptor::Tcp(listener) => {
            let (stream, address) = listener.accept().await?;
            stream.set_nodelay(true)?;
            keep_alive(&stream)?;
            Ok(Some(Accepted::Tcp(stream, address)))
        }
        Acceptor::Unix { listener, allow_uids } => {
            let (stream, _) = listener.accept().await?;
            let allowed = allow_uids.is_empty() || allow_uids.contains(&stream.peer_cred()?.uid());
            Ok(allowed.then_some(Accepted::Unix(stream)))
        }
    }
}

/// The peer was gone before it was accepted: nothing is wrong with the listener.
fn is_about_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted, InvalidInput, NotConnected,
    };
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted | InvalidInput | NotConnected
    )
}
