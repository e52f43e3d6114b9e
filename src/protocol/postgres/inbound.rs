//! A session from a peer: its startup packet, the decision, the login, and then its statements.

use std::pin::pin;
use std::sync::Arc;

use bytes::BytesMut;
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

use super::answer::{NoPacket, decision, fatal, first_packet, malformed, of_failure, of_notice};
use super::asked::{Asked, asked};
use super::cancel::SessionKey;
use super::listener::PostgresListener;
use super::login::{LoggedIn, LoginError, login, pass_through};
use super::relayed::Relayed;
use super::roles::role;
use super::session::{self, SessionStart};
use super::settings::{SPIFFE_ID, application_name, cap};
use super::standing::Standing;
use super::wire::{
    ErrorReply, FirstPacket, FrameReader, Replication, Side, StartupPacket, authentication_ok, backend_key_data,
    negotiate_protocol_version, parameter_status, ready_for_query,
};
use crate::audit::new_decision_id;
use crate::config::RoleConfig;
use crate::enforce::{Asker, Denied, Permit, Settlement};
use crate::failure::Failure;
use crate::protocol::{Closed, Downstream, Notice};
use crate::relay::apart;
use crate::upstream::UpstreamIo;

/// The newest minor version that we speak to clients: 3.2, which has long cancel keys. To the server it is always 3.0: nothing but the
/// length of its key would change, and poolers refuse newer ones.
const NEWEST_MINOR: u16 = 2;

/// Serves a connection until it ends.
pub(super) async fn serve(
    mut client: Downstream,
    listener: Arc<PostgresListener>,
    asker: Arc<Asker>,
    ending: impl Future<Output = Notice> + Send,
) -> Closed {
    let mut ending = pin!(ending);
    let starting = apart(|| start(&mut client, &listener, &asker));
    let starting = timeout(listener.config.authentication_timeout, starting);
    let started = tokio::select! {
        // Who has no right to be here any more is asked nothing and answered nothing.
        biased;
        notice = ending.as_mut() => {
            fatal(&mut client, &of_notice(&notice)).await;
            return Closed::InOrder;
        }
        started = starting => started,
    };
    match started {
        Ok(Ok(Started::Statements { client_buffered, server, session })) => {
            apart(|| session::run(client, client_buffered, server, *session, ending)).await
        }
        Ok(Ok(Started::Replication { relayed, server, key, mut standing })) => {
            // All that it does is what it may be cancelled in.
            key.begin_statement();
            let lost = pin!(standing.lost(&listener, &asker));
            let idle = listener.limits.idle_timeout;
            apart(|| relayed.relay(client, server, idle, ending, (lost, None))).await
        }
        Ok(Err(closed)) => closed,
        Err(_elapsed) => {
            fatal(&mut client, &ErrorReply::fatal("57014", "canceling authentication due to timeout")).await;
            let limit = listener.config.authentication_timeout.as_secs();
            let message = format!("no session was open within {limit} s");
            Closed::Refused { rule: "authentication-timeout", message }
        }
    }
}

/// A session that is open.
enum Started {
    /// Its statements are judged. The client waits for ReadyForQuery.
    Statements { client_buffered: BytesMut, server: LoggedIn, session: Box<SessionStart> },
    /// `replication=true`: everything in the cluster or nothing, and no SQL (`exec_replication_command` in walsender.c). It was permitted,
    /// so nobody looks into it.
    Replication { relayed: Relayed, server: UpstreamIo, key: SessionKey, standing: Box<Standing> },
}

async fn start(
    client: &mut Downstream,
    listener: &Arc<PostgresListener>,
    asker: &Arc<Asker>,
) -> Result<Started, Closed> {
    let startup = match first_packet(client).await {
        Ok(FirstPacket::Startup(startup)) => startup,
        Ok(FirstPacket::Cancel(request)) => {
            listener.cancels.cancel(&request, asker.peer().id(), &listener.upstream).await;
            // Answered by nothing: whoever asks learns of no session. PostgreSQL does the same.
            let _ = client.shutdown().await;
            return Err(Closed::InOrder);
        }
        Ok(FirstPacket::SslRequest | FirstPacket::GssEncRequest) => {
            let message = "encryption was asked for inside TLS";
            fatal(client, &ErrorReply::fatal("08P01", message)).await;
            return Err(Closed::Refused { rule: "repeated-request", message: message.into() });
        }
        Err(NoPacket::Gone) => return Err(Closed::InOrder),
        Err(NoPacket::Malformed(broken)) => return Err(malformed(client, broken).await),
    };
    let id: Arc<str> = new_decision_id().to_string().into();
    let (permit, asked, role) = decide(client, listener, asker, &startup, &id).await?;
    let decision = permit.decision_id();

    let mut reader = FrameReader::new(Side::Client { message_bytes: listener.config.message_bytes }, BytesMut::new());
    let rebuilt = rebuild(listener, asker, &asked, &role);
    let server = match open_session(client, &mut reader, listener, &permit, &rebuilt).await {
        Ok(server) => server,
        Err(unopened) => return Err(unopened.answer(client, listener, permit).await),
    };
    let minor = startup.minor.min(NEWEST_MINOR);
    let key = match listener.cancels.register(asker.peer().id(), minor, server.key.clone()) {
        Ok(key) => key,
        Err(error) => return Err(Unopened::Login(LoginError::Io(error)).answer(client, listener, permit).await),
    };
    let standing =
        Standing { asked: permit.standing(), role: Some((asked.requested_role.clone(), role.as_str().into())) };
    if asked.replication == Replication::Physical {
        let greeting = greeting(&startup, minor, &server, (key.pid(), key.secret()));
        let (relayed, server) = replicate(client, Relayed::new(permit), &greeting, reader, server).await?;
        return Ok(Started::Replication { relayed, server, key, standing: Box::new(standing) });
    }
    // The record comes before the answer.
    if permit.settle(&Settlement::default()).is_err() {
        fatal(client, &of_failure(&Failure::Audit).with_detail(self::decision(decision))).await;
        return Err(Closed::InOrder);
    }
    let greeting = greeting(&startup, minor, &server, (key.pid(), key.secret()));
    let told = async {
        client.write_all(&greeting).await?;
        client.flush().await
    };
    told.await.map_err(|error: std::io::Error| Closed::Failed { cause: error.to_string() })?;
    let session = Box::new(SessionStart {
        listener: Arc::clone(listener),
        asker: Arc::clone(asker),
        id,
        decision,
        database: asked.database,
        standing,
        role: role.into(),
        requested_role: asked.requested_role,
        replication: asked.replication,
        minor,
        key,
    });
    Ok(Started::Statements { client_buffered: reader.into_buffered(), server, session })
}

/// The record of its beginning, then the answer, and what both sides have said ahead of time.
async fn replicate(
    client: &mut Downstream,
    mut relayed: Relayed,
    greeting: &[u8],
    reader: FrameReader,
    mut server: LoggedIn,
) -> Result<(Relayed, UpstreamIo), Closed> {
    if relayed.begin().is_err() {
        fatal(client, &of_failure(&Failure::Audit)).await;
        return Err(Closed::InOrder);
    }
    let mut told = BytesMut::from(greeting);
    ready_for_query(&mut told, b'I');
    told.extend_from_slice(&server.buffered);
    let said = reader.into_buffered();
    let passed = async {
        client.write_all(&told).await?;
        client.flush().await?;
        server.io.write_all(&said).await?;
        server.io.flush().await
    };
    passed.await.map_err(|error: std::io::Error| Closed::Failed { cause: error.to_string() })?;
    relayed.passed(&said, &server.buffered);
    Ok((relayed, server.io))
}

/// Asks the policies; a refusal has been answered.
async fn decide(
    client: &mut Downstream,
    listener: &Arc<PostgresListener>,
    asker: &Arc<Asker>,
    startup: &StartupPacket,
    id: &str,
) -> Result<(Permit, Asked, String), Closed> {
    let point = &listener.point;
    if !point.records_can_be_written() {
        fatal(client, &of_failure(&Failure::Audit)).await;
        return Err(Closed::InOrder);
    }
    let generation = point.policies_in_force();
    let exchange = listener.exchange(id);
    let requested = startup.user().unwrap_or_default();
    let Some(role) = role(&listener.config.role, requested, asker.peer().id(), &generation) else {
        let message = "no role of this database is configured for this workload".to_owned();
        let denied = point.refuse(asker, exchange, "no-role", message.clone());
        return Err(deny(client, denied, ErrorReply::fatal("28000", message)).await);
    };
    let asked = match asked(startup, &listener.endpoint, role) {
        Ok(asked) => asked,
        Err(refusal) => {
            let message = refusal.to_string();
            let denied = point.refuse(asker, exchange, refusal.rule(), message.clone());
            return Err(deny(client, denied, ErrorReply::fatal(refusal.sqlstate(), message)).await);
        }
    };
    match point.enforce(generation, asker, exchange, asked.operations.clone()) {
        Ok(permit) => Ok((permit, asked, role.to_owned())),
        Err(denied) => {
            let message = format!("access to database \"{}\" as role \"{role}\" is denied", asked.database);
            Err(deny(client, denied, ErrorReply::fatal("28000", message)).await)
        }
    }
}

/// Records and answers a denial.
pub(super) async fn deny(client: &mut Downstream, denied: Denied, reply: ErrorReply<'_>) -> Closed {
    let id = denied.decision_id();
    match denied.settle(&Settlement::default()) {
        Ok(()) => fatal(client, &reply.with_detail(decision(id))).await,
        Err(_unwritten) => fatal(client, &of_failure(&Failure::Audit)).await,
    }
    Closed::InOrder
}

/// Why a permitted session was not opened.
enum Unopened {
    Upstream(Failure),
    Login(LoginError),
}

impl Unopened {
    /// Records and answers it.
    async fn answer(self, client: &mut Downstream, listener: &PostgresListener, permit: Permit) -> Closed {
        let id = permit.decision_id();
        let (error, reply) = match &self {
            Self::Upstream(failure) => {
                listener.point.metrics.upstream_failure(failure.stage());
                (failure.to_string(), of_failure(failure))
            }
            Self::Login(error) => {
                if !error.is_of_client() {
                    listener.point.metrics.upstream_failure("login");
                }
                (error.to_string(), error.reply(listener.config.role == RoleConfig::Passthrough))
            }
        };
        match &self {
            // Many clients first look whether they need a password, and come back with it.
            Self::Login(LoginError::ClientLeft) => {}
            _ => {
                tracing::warn!(listener = %listener.endpoint, error, decision_id = %id, "a permitted session was not opened")
            }
        }
        let settled = permit.settle(&Settlement { error: Some(error), ..Settlement::default() });
        match settled {
            Ok(()) => fatal(client, &reply.with_detail(decision(id))).await,
            Err(_unwritten) => fatal(client, &of_failure(&Failure::Audit)).await,
        }
        Closed::InOrder
    }
}

/// Logs in at the first server that takes sessions.
async fn open_session(
    client: &mut Downstream,
    reader: &mut FrameReader,
    listener: &PostgresListener,
    permit: &Permit,
    startup: &StartupPacket,
) -> Result<LoggedIn, Unopened> {
    let mut position = 0;
    loop {
        let io = listener.upstream.connect_from(position, permit).await.map_err(Unopened::Upstream)?;
        let (next, mut asked) = (listener.upstream.behind(&io), false);
        let logged_in = match listener.config.role {
            RoleConfig::Passthrough => pass_through(client, reader, io, startup, &mut asked).await,
            RoleConfig::Fixed(_) | RoleConfig::ByIdentity(_) => {
                login(io, &listener.upstream, startup, listener.config.password.as_ref()).await
            }
        };
        match (logged_in, next) {
            // A client that has been asked for something by one server has nothing to say to another.
            (Err(error), Some(next)) if error.passes_over() && !asked => {
                tracing::warn!(listener = %listener.endpoint, %error, "the next upstream is tried");
                position = next;
            }
            (logged_in, _) => return logged_in.map_err(Unopened::Login),
        }
    }
}

/// The packet for the server: everything in it was judged or is the proxy's own.
///
/// What it sets is what RESET ALL and DISCARD ALL go back to.
fn rebuild(listener: &PostgresListener, asker: &Asker, asked: &Asked, role: &str) -> StartupPacket {
    let id = asker.peer().id();
    let mut rebuilt = StartupPacket::new(0);
    rebuilt.set("user", role);
    rebuilt.set("database", &asked.database);
    match asked.replication {
        Replication::No => {}
        Replication::Physical => rebuilt.set("replication", "true"),
        Replication::Database => rebuilt.set("replication", "database"),
    }
    let own = asked.judged.application_name.as_deref().unwrap_or_default();
    rebuilt.set("application_name", &application_name(id, own));
    rebuilt.set(SPIFFE_ID, id.as_str());
    let mut settings = asked.judged.settings.clone();
    cap(&mut settings, &listener.config.caps);
    settings.iter().for_each(|setting| rebuilt.set(&setting.name, &setting.value));
    rebuilt
}

/// From AuthenticationOk to the key, which is one of our own: the handshake has proved who the client is. ReadyForQuery follows when the session
/// has told its settings.
fn greeting(startup: &StartupPacket, minor: u16, server: &LoggedIn, (pid, secret): (u32, &[u8])) -> BytesMut {
    let mut out = BytesMut::new();
    let unknown: Vec<&str> = startup.protocol_options().collect();
    if startup.minor > minor || !unknown.is_empty() {
        negotiate_protocol_version(&mut out, minor, &unknown);
    }
    authentication_ok(&mut out);
    server.parameters.iter().for_each(|(name, value)| parameter_status(&mut out, name, value));
    server.notices.iter().for_each(|notice| out.extend_from_slice(notice));
    backend_key_data(&mut out, pid, secret);
    out
}
