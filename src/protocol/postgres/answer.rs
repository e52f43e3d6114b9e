//! Answers of the proxy's own before there is a session, and the end that goes with them.

use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use super::wire::{ErrorReply, FirstPacket, PacketError, error, packet_length, parse_first};
use crate::audit::DecisionId;
use crate::failure::{Blame, Failure};
use crate::protocol::{Closed, Downstream, Last, Notice};

/// How long a client may take to read a last answer and close.
const LINGER: Duration = Duration::from_millis(500);
/// How much of what it still sends is read away.
const MAX_DISCARDED: u64 = 64 * 1024;
/// How long a client that is turned away may take to send its first packet.
const TURNING_AWAY: Duration = Duration::from_secs(1);

/// Why there is no first packet.
#[derive(Debug)]
pub(super) enum NoPacket {
    /// The stream ended or failed.
    Gone,
    /// It is none.
    Malformed(PacketError),
}

/// Reads one packet without a tag, and not a byte more.
pub(super) async fn first_packet<S: AsyncRead + Unpin>(stream: &mut S) -> Result<FirstPacket, NoPacket> {
    let mut head = [0; 4];
    stream.read_exact(&mut head).await.map_err(|_| NoPacket::Gone)?;
    let length = packet_length(head).map_err(NoPacket::Malformed)?;
    let mut packet = vec![0; length];
    let (start, rest) = packet.split_at_mut(head.len().min(length));
    start.copy_from_slice(&head);
    stream.read_exact(rest).await.map_err(|_| NoPacket::Gone)?;
    parse_first(&packet).map_err(NoPacket::Malformed)
}

/// Says why there is no session, and closes so that the client gets to read it: closing with unread bytes would send a reset.
pub(super) async fn fatal<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, reply: &ErrorReply<'_>) {
    let mut out = BytesMut::new();
    error(&mut out, reply);
    let parting = async {
        stream.write_all(&out).await?;
        stream.flush().await?;
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(MAX_DISCARDED), &mut tokio::io::sink()).await
    };
    // The session has ended whether or not the client parts politely.
    let _ = timeout(LINGER, parting).await;
}

/// Answers a packet that is none.
pub(super) async fn malformed<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, broken: PacketError) -> Closed {
    fatal(stream, &ErrorReply::fatal(broken.sqlstate(), broken.to_string())).await;
    Closed::Refused { rule: broken.rule(), message: broken.to_string() }
}

/// Turns a client away that there is no place for.
pub async fn turn_away(mut stream: Downstream) {
    // A client sends its startup packet before it reads.
    let first = timeout(TURNING_AWAY, first_packet(&mut stream)).await;
    if let Ok(Ok(FirstPacket::Startup(_))) = first {
        fatal(&mut stream, &ErrorReply::fatal("53300", "sorry, too many clients already")).await;
    }
}

/// What a client is told of a failure: its stage, not its words.
pub(super) fn of_failure(failure: &Failure) -> ErrorReply<'static> {
    let sqlstate = match failure.blame() {
        Blame::Upstream => "08006",
        Blame::Downstream => "08P01",
        // io_error.
        Blame::Ourselves => "58030",
    };
    ErrorReply::fatal(sqlstate, format!("no session with the database server ({})", failure.stage()))
}

/// The DETAIL that leads to a decision's record.
pub(super) fn decision(id: DecisionId) -> String {
    format!("decision {id}")
}

/// What a client is told whose connection has to end.
pub(super) fn of_notice(notice: &Notice) -> ErrorReply<'static> {
    ErrorReply::fatal("57P01", last_words(notice))
}

/// The words for a session that the policies would not permit any more.
pub(super) const NOT_PERMITTED: &str = "terminating connection: the policies do not permit this session any more";

/// The words for it: PostgreSQL's own where nothing is wrong with the client.
pub(super) const fn last_words(notice: &Notice) -> &'static str {
    match notice.last {
        Last::Asked => "terminating connection due to administrator command",
        Last::InFlight => "terminating connection: its certificate is not valid any more",
    }
}
