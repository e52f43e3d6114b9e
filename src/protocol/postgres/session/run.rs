//! A session, from its first ReadyForQuery on.

use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;

use super::driver::Driver;
use super::session::Session;
use super::setup::Setup;
use crate::audit::DecisionId;
use crate::enforce::Asker;
use crate::mapping::sql::{map, map_replication, safe_key};
use crate::protocol::postgres::answer::{NOT_PERMITTED, last_words};
use crate::protocol::postgres::cancel::SessionKey;
use crate::protocol::postgres::listener::PostgresListener;
use crate::protocol::postgres::login::LoggedIn;
use crate::protocol::postgres::standing::Standing;
use crate::protocol::postgres::wire::{Replication, ready_for_query};
use crate::protocol::{Closed, Downstream, Last, Notice};
use crate::relay::apart;

/// What a session begins with.
#[derive(Debug)]
pub(in crate::protocol::postgres) struct SessionStart {
    /// The listener.
    pub(in crate::protocol::postgres) listener: Arc<PostgresListener>,
    /// Who asks.
    pub(in crate::protocol::postgres) asker: Arc<Asker>,
    /// What the session is called in its records.
    pub(in crate::protocol::postgres) id: Arc<str>,
    /// The decision that permitted it.
    pub(in crate::protocol::postgres) decision: DecisionId,
    /// The database.
    pub(in crate::protocol::postgres) database: Box<str>,
    /// The role that it runs as: what RESET ROLE goes back to.
    pub(in crate::protocol::postgres) role: Box<str>,
    /// The one that the client asked for.
    pub(in crate::protocol::postgres) requested_role: Box<str>,
    /// What it was permitted, and whether it still is.
    pub(in crate::protocol::postgres) standing: Standing,
    /// Whether it is to replicate; that was permitted.
    pub(in crate::protocol::postgres) replication: Replication,
    /// The protocol's minor version as agreed with the client.
    pub(in crate::protocol::postgres) minor: u16,
    /// The key of the client; says when a cancel may strike.
    pub(in crate::protocol::postgres) key: SessionKey,
}

/// Serves a session until it ends. The client has been told everything but ReadyForQuery.
pub(in crate::protocol::postgres) async fn run(
    client: Downstream,
    client_buffered: BytesMut,
    server: LoggedIn,
    mut start: SessionStart,
    ending: impl Future<Output = Notice> + Send,
) -> Closed {
    let listener = Arc::clone(&start.listener);
    let (asked, decision, minor) = (&start.requested_role, start.decision, start.minor);
    tracing::debug!(session = %start.id, role = %start.role, %asked, %decision, minor, "a session was opened");
    let reached = server.key.as_ref().map(|key| key.reached);
    let catalogue = listener.catalogues.of(&start.database, &start.role, reached);
    let mut ready = BytesMut::new();
    ready_for_query(&mut ready, b'I');
    let setup = Arc::new(setup(&start, &server));
    let session = Session::new(setup, client_buffered, server.buffered, ready.freeze(), Instant::now());
    let asker = Arc::clone(&start.asker);
    let ending = apart(|| async {
        tokio::select! {
            notice = ending => (notice, last_words(&notice)),
            () = start.standing.lost(&listener, &asker) => {
                let grace = listener.limits.grace;
                let notice = Notice { last: Last::InFlight, over_in: None, grace, reason: "no-longer-permitted" };
                (notice, NOT_PERMITTED)
            }
        }
    });
    let (caps, upstream) = (listener.config.caps, Some(Arc::clone(&listener.upstream)));
    let driver = Driver { session, client, server: server.io, caps, key: Some(start.key), upstream, patience: None };
    let catalog = |newest: bool| {
        let catalogue = Arc::clone(&catalogue);
        async move {
            // Before it is read: sessions share it, and its age began when somebody read it, not when this one took it.
            let as_of = if newest { Instant::now() } else { catalogue.as_of() };
            let read = if newest { catalogue.refreshed().await } else { catalogue.current().await };
            read.map(|catalog| (catalog, as_of)).map_err(|cause| cause.to_string())
        }
    };
    let ended = driver.serve(catalog, ending).await;
    // Closing the connection alone would leave the statement running until the server writes to it.
    if let (true, Some(key)) = (ended.running, &ended.key) {
        key.cancel(&listener.upstream).await;
    }
    ended.closed
}

fn setup(start: &SessionStart, server: &LoggedIn) -> Setup {
    let (listener, config) = (&start.listener, &start.listener.config);
    let replicates = start.replication != Replication::No;
    Setup {
        endpoint: Arc::clone(&listener.endpoint),
        point: Arc::clone(&listener.point),
        asker: Arc::clone(&start.asker),
        session: Arc::clone(&start.id),
        sql: config.sql,
        statement_bytes: config.statement_bytes,
        message_bytes: config.message_bytes,
        utf8_server: server.parameter("server_encoding").is_some_and(|encoding| encoding.eq_ignore_ascii_case("UTF8")),
        caps: config.caps,
        catalog_max_age: config.catalog_max_age,
        replicates,
        map: if replicates { map_replication } else { map },
        safe_key,
        reads_in_session: true,
    }
}
