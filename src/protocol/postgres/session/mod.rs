//! A session, from its first ReadyForQuery on.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;

use super::answer::fatal;
use super::cancel::SessionKey;
use super::listener::PostgresListener;
use super::login::LoggedIn;
use super::wire::{ErrorReply, Replication};
use crate::audit::DecisionId;
use crate::enforce::Asker;
use crate::protocol::{Closed, Downstream, Last};

/// What a session begins with.
#[derive(Debug)]
pub(super) struct SessionStart {
    /// The listener.
    pub(super) listener: Arc<PostgresListener>,
    /// Who asks.
    pub(super) asker: Arc<Asker>,
    /// What the session is called in its records.
    pub(super) id: Arc<str>,
    /// The decision that permitted it.
    pub(super) decision: DecisionId,
    /// The database.
    pub(super) database: Box<str>,
    /// The role that it runs as: what RESET ROLE goes back to.
    pub(super) role: Box<str>,
    /// The one that the client asked for.
    pub(super) requested_role: Box<str>,
    /// Whether it is to replicate; that was permitted.
    pub(super) replication: Replication,
    /// The protocol's minor version as agreed with the client.
    pub(super) minor: u16,
    /// The key of the client; says when a cancel may strike.
    pub(super) key: SessionKey,
}

/// Serves a session until it ends. The client has been told ReadyForQuery.
pub(super) async fn run(
    mut client: Downstream,
    _client_buffered: BytesMut,
    server: LoggedIn,
    session: SessionStart,
    ending: impl Future<Output = Last>,
    _grace: Duration,
) -> Closed {
    let _ending = pin!(ending);
    tracing::debug!(session = %session.id, "a session was opened");
    drop(server);
    fatal(&mut client, &ErrorReply::fatal("0A000", "statements are not judged yet")).await;
    Closed::InOrder
}
