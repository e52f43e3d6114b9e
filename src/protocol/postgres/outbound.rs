//! A session of the local app: the decision about it, then bytes to the sidecar before the database, which judges its statements.

use std::pin::pin;
use std::sync::Arc;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::answer::{NoPacket, decision, fatal, first_packet, malformed, of_failure, of_notice};
use super::asked::asked;
use super::cancel;
use super::inbound::deny;
use super::listener::PostgresListener;
use super::login::takes_none_now;
use super::relayed::Relayed;
use super::standing::Standing;
use super::wire::{CancelRequest, ErrorReply, FirstPacket, StartupPacket, error_fields};
use crate::audit::new_decision_id;
use crate::enforce::{Asker, Permit, Settlement};
use crate::failure::Failure;
use crate::protocol::{Closed, Downstream, Notice};
use crate::relay::{ReadAhead, apart};
use crate::upstream::{OwnPurpose, UpstreamIo};

/// An error by which a server takes no sessions has no need of more bytes.
const LONGEST_ERROR: usize = 16 * 1024;

/// Serves a connection until it ends.
pub(super) async fn serve(
    client: Downstream,
    listener: Arc<PostgresListener>,
    asker: Arc<Asker>,
    ending: impl Future<Output = Notice> + Send,
) -> Closed {
    let mut ending = pin!(ending);
    let opening = timeout(listener.config.authentication_timeout, apart(|| open(client, &listener, &asker)));
    let opened = tokio::select! {
        opened = opening => opened,
        _notice = ending.as_mut() => return Closed::InOrder,
    };
    let (mut client, startup) = match opened {
        Ok(Ok(opened)) => opened,
        Ok(Err(closed)) => return closed,
        Err(_elapsed) => {
            let message = "the startup packet did not come in time".to_owned();
            return Closed::Refused { rule: "authentication-timeout", message };
        }
    };
    let Connected { permit, upstream, answer } = tokio::select! {
        connected = apart(|| connect(&mut client, &listener, &asker, &startup)) => match connected {
            Ok(connected) => connected,
            Err(closed) => return closed,
        },
        notice = ending.as_mut() => {
            fatal(&mut client, &of_notice(&notice)).await;
            return Closed::InOrder;
        }
    };
    let asked = permit.standing();
    let mut relayed = Relayed::new(permit);
    relayed.passed(&[], &answer);
    let told = async {
        client.write_all(&answer).await?;
        client.flush().await
    };
    if let Err(error) = told.await {
        return Closed::Failed { cause: error.to_string() };
    }
    let idle = listener.limits.idle_timeout;
    let mut standing = Standing { asked, role: None };
    let lost = pin!(standing.lost(&listener, &asker));
    let stay = upstream.stay();
    apart(|| relayed.relay(client, upstream, idle, ending, (lost, stay))).await
}

/// Everything up to a startup packet; whatever else it comes to has been answered.
async fn open(
    mut client: Downstream,
    listener: &Arc<PostgresListener>,
    asker: &Asker,
) -> Result<(Downstream, StartupPacket), Closed> {
    loop {
        let (packet, has_tls) = (first_packet(&mut client).await, client.is_tls());
        match packet {
            Ok(FirstPacket::Startup(startup)) => return Ok((client, startup)),
            Ok(FirstPacket::Cancel(request)) => {
                forward_cancel(&request, listener, asker).await;
                let _ = client.shutdown().await;
                return Err(Closed::InOrder);
            }
            Ok(FirstPacket::SslRequest) if !has_tls && listener.local_tls.is_some() => {
                client = local_tls(client, listener).await?;
            }
            Ok(FirstPacket::SslRequest | FirstPacket::GssEncRequest) => {
                client.write_all(b"N").await.map_err(|_| Closed::InOrder)?;
                client.flush().await.map_err(|_| Closed::InOrder)?;
            }
            Err(NoPacket::Gone) => return Err(Closed::InOrder),
            Err(NoPacket::Malformed(broken)) => return Err(malformed(&mut client, broken).await),
        }
    }
}

/// TLS with the local certificate, for clients that insist on it.
async fn local_tls(mut client: Downstream, listener: &PostgresListener) -> Result<Downstream, Closed> {
    let Some(tls) = &listener.local_tls else { return Ok(client) };
    let failed = |cause: String| Closed::Failed { cause };
    client.write_all(b"S").await.map_err(|error| failed(error.to_string()))?;
    client.flush().await.map_err(|error| failed(error.to_string()))?;
    let Some(stream) = client.into_tcp() else {
        return Err(failed("TLS was asked for on a Unix socket".into()));
    };
    let accepted = timeout(listener.limits.handshake_timeout, tls.accept(ReadAhead::new(stream))).await;
    match accepted {
        Ok(Ok(stream)) => Ok(Downstream::tls(stream)),
        Ok(Err(refusal)) => {
            tracing::warn!(listener = %listener.endpoint, %refusal, "a local client's TLS handshake failed");
            Err(failed(refusal.message))
        }
        Err(_elapsed) => Err(failed("the local handshake was not finished in time".into())),
    }
}

/// A cancel goes to every upstream: which of them has the session only its own sidecar knows, and the others drop it.
///
/// Without a record it is not passed on.
async fn forward_cancel(request: &CancelRequest, listener: &PostgresListener, asker: &Asker) {
    if let Err(error) = listener.point.record_cancel(asker) {
        tracing::error!(listener = %listener.endpoint, %error, "a cancel has no record: it is not forwarded");
        return;
    }
    for position in 0..listener.upstream.count() {
        match listener.upstream.connect_to(position, OwnPurpose::Cancel).await {
            Ok(io) => {
                cancel::send(io, request.clone()).await;
            }
            Err(failure) => tracing::warn!(listener = %listener.endpoint, %failure, "a cancel was not forwarded"),
        }
    }
}

/// A session that is permitted and asked for.
struct Connected {
    permit: Permit,
    upstream: UpstreamIo,
    /// What has been read of the answer.
    answer: BytesMut,
}

/// The decision, and the connection to the sidecar before the database; what was judged is what is sent.
async fn connect(
    client: &mut Downstream,
    listener: &Arc<PostgresListener>,
    asker: &Arc<Asker>,
    startup: &StartupPacket,
) -> Result<Connected, Closed> {
    let point = &listener.point;
    if !point.records_can_be_written() {
        fatal(client, &of_failure(&Failure::Audit)).await;
        return Err(Closed::InOrder);
    }
    let exchange = listener.exchange(&new_decision_id().to_string());
    let asked = match asked(startup, &listener.endpoint, startup.user().unwrap_or_default()) {
        Ok(asked) => asked,
        Err(refusal) => {
            let message = refusal.to_string();
            let denied = point.refuse(asker, exchange, refusal.rule(), message.clone());
            return Err(deny(client, denied, ErrorReply::fatal(refusal.sqlstate(), message)).await);
        }
    };
    let permit = match point.enforce(point.policies_in_force(), asker, exchange, asked.operations) {
        Ok(permit) => permit,
        Err(denied) => {
            let message = format!("access to database \"{}\" is denied", asked.database);
            return Err(deny(client, denied, ErrorReply::fatal("28000", message)).await);
        }
    };
    let failure = match ask(listener, &permit, startup).await {
        Ok((upstream, answer)) => return Ok(Connected { permit, upstream, answer }),
        Err(failure) => failure,
    };
    point.metrics.upstream_failure(failure.stage());
    let id = permit.decision_id();
    let reply = match permit.settle(&Settlement { error: Some(failure.to_string()), ..Settlement::default() }) {
        Ok(()) => of_failure(&failure).with_detail(decision(id)),
        Err(_unwritten) => of_failure(&Failure::Audit),
    };
    fatal(client, &reply).await;
    Err(Closed::InOrder)
}

/// Asks the first sidecar that takes sessions, or the last one; with the beginning of what it has answered, if that had to be looked at.
async fn ask(
    listener: &PostgresListener,
    permit: &Permit,
    startup: &StartupPacket,
) -> Result<(UpstreamIo, BytesMut), Failure> {
    let mut position = 0;
    loop {
        let mut io = listener.upstream.connect_from(position, permit).await?;
        let sent = async {
            io.write_all(&startup.to_bytes()).await?;
            io.flush().await
        };
        sent.await.map_err(|error: std::io::Error| Failure::Closed { cause: error.to_string() })?;
        let mut answer = BytesMut::new();
        let Some(next) = listener.upstream.behind(&io) else { return Ok((io, answer)) };
        let refused = timeout(listener.config.authentication_timeout, refuses_now(&mut io, &mut answer));
        // What does not come is waited for as it is without another upstream.
        if !refused.await.unwrap_or(false) {
            return Ok((io, answer));
        }
        tracing::warn!(listener = %listener.endpoint, "an upstream takes no sessions now: the next one is tried");
        position = next;
    }
}

/// Reads as much of an answer as tells whether it is an error by which the server takes no sessions now.
///
/// # Cancel safety
/// What has been read is in `answer`.
async fn refuses_now(io: &mut UpstreamIo, answer: &mut BytesMut) -> bool {
    loop {
        let length = answer.get(1..5).and_then(|length| length.try_into().ok()).map(u32::from_be_bytes);
        let whole = length.map(|length| length as usize + 1);
        match (answer.first(), whole) {
            (Some(b'E'), Some(whole)) if whole <= answer.len() => {
                let body = answer.get(5..whole).unwrap_or_default();
                let sqlstate = error_fields(body).find(|(code, _)| *code == b'C').map(|(_, sqlstate)| sqlstate);
                return sqlstate.and_then(|sqlstate| str::from_utf8(sqlstate).ok()).is_some_and(takes_none_now);
            }
            (Some(b'E'), Some(whole)) if whole > LONGEST_ERROR => return false,
            (None | Some(b'E'), _) => {}
            (Some(_), _) => return false,
        }
        if !matches!(io.read_buf(answer).await, Ok(1..)) {
            return false;
        }
    }
}
