//! Around a handshake's future: what the verifier found, the configuration in force, the parting alert.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use rustls::version::{TLS12, TLS13};
use rustls::{ProtocolVersion, SupportedProtocolVersion};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use super::peer::Verified;
use super::{HandshakeRefusal, Peer};
use crate::config::TlsVersion;
use crate::identity::{Clock, X509Generation, X509Source};
use crate::relay::RECORD_PAYLOAD;

/// What rustls puts into one record, which counts the record's head (5 bytes).
pub(super) const MAX_FRAGMENT: Option<usize> = Some(RECORD_PAYLOAD + 5);

tokio::task_local! {
    // Of the task and not of the thread: a handshake spans polls, and each may run on another thread.
    static FOUND: RefCell<Option<Result<Verified, HandshakeRefusal>>>;
}

/// Tells the handshake of this task what the verifier found.
pub(super) fn report(found: Result<Verified, HandshakeRefusal>) {
    // Without a handshake around it nobody asks; the verifier's own result still holds.
    let _ = FOUND.try_with(|cell| cell.replace(Some(found)));
}

/// Runs a handshake to its end: a stream with a proved peer, or a refusal after the peer was sent its alert.
pub(super) async fn prove<S, T>(
    handshake: impl Future<Output = Result<T, (io::Error, S)>>,
    version: impl FnOnce(&T) -> Option<ProtocolVersion>,
    generation: &X509Generation,
) -> Result<(T, Arc<Peer>), HandshakeRefusal>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let observed = async {
        let result = handshake.await;
        (result, FOUND.with(RefCell::take))
    };
    match FOUND.scope(RefCell::new(None), observed).await {
        (Ok(stream), Some(Ok(verified))) => {
            let version = version(&stream);
            Ok((stream, Arc::new(Peer::proved(verified, version, generation))))
        }
        // Never seen: a certificate is mandatory on both ends, and nothing is resumed.
        (Ok(_), None | Some(Err(_))) => Err(HandshakeRefusal::unproved()),
        (Err((_, stream)), Some(Err(refusal))) => {
            part(stream).await;
            Err(refusal)
        }
        (Err((error, stream)), found) => {
            part(stream).await;
            let peer_san = found.and_then(Result::ok).map(|verified| verified.svid.id().to_string());
            Err(HandshakeRefusal::from_io(&error, peer_san))
        }
    }
}

/// rustls' configuration, made once for each generation of a source.
#[derive(Debug)]
pub(super) struct Configured<C> {
    source: Arc<dyn X509Source>,
    clock: Clock,
    built: ArcSwapOption<Built<C>>,
}

/// A configuration with the generation that it was made from.
#[derive(Debug)]
pub(super) struct Built<C> {
    pub(super) generation: Arc<X509Generation>,
    pub(super) config: Arc<C>,
}

impl<C> Configured<C> {
    pub(super) fn new(source: Arc<dyn X509Source>, clock: Clock) -> Self {
        Self { source, clock, built: ArcSwapOption::empty() }
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Where generations come from.
    pub(super) const fn source(&self) -> &Arc<dyn X509Source> {
        &self.source
    }

    /// The generation in force.
    pub(super) fn generation(&self) -> Option<Arc<X509Generation>> {
        self.source.current()
    }

    /// The configuration for the generation in force, made by `build` if there is none yet.
    ///
    /// # Errors
    /// We have no SVID, or ours has expired: refuse rather than serve expired.
    pub(super) fn current(
        &self,
        build: impl FnOnce(Arc<X509Generation>) -> Result<C, rustls::Error>,
    ) -> Result<Arc<Built<C>>, HandshakeRefusal> {
        let generation = self.source.current().ok_or_else(HandshakeRefusal::no_own_svid)?;
        let now = self.clock.now();
        if generation.expired(now) {
            return Err(HandshakeRefusal::own_svid_expired(&generation, now));
        }
        if let Some(built) = self.built.load_full()
            && Arc::ptr_eq(&built.generation, &generation)
        {
            return Ok(built);
        }
        // Two connections that get here together build twice; once a rotation that is cheaper than a lock.
        let config = build(Arc::clone(&generation)).map_err(|error| HandshakeRefusal::configuration(&error))?;
        let built = Arc::new(Built { generation, config: Arc::new(config) });
        self.built.store(Some(Arc::clone(&built)));
        Ok(built)
    }
}

pub(super) fn versions(oldest: TlsVersion) -> &'static [&'static SupportedProtocolVersion] {
    static NEWEST: [&SupportedProtocolVersion; 1] = [&TLS13];
    static BOTH: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];
    match oldest {
        TlsVersion::V1_2 => &BOTH,
        TlsVersion::V1_3 => &NEWEST,
    }
}

/// How long a refused peer may take to read its alert and close.
const LINGER: Duration = Duration::from_millis(250);
/// How much of what a refused peer still sends is read away.
const MAX_DISCARDED: u64 = 64 * 1024;

/// Closes a refused connection so that the peer gets to read its alert.
///
/// A TLS 1.3 client may send right after its Finished, before we judge its certificate. Closing a socket with unread
/// bytes sends a reset (RFC 1122, 4.2.2.13), and a reset makes the peer's system drop the alert unread.
async fn part<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) {
    let parting = async {
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(MAX_DISCARDED), &mut tokio::io::sink()).await
    };
    // The refusal stands whether or not the peer parts politely.
    let _ = timeout(LINGER, parting).await;
}

/// Refuses a connection without a handshake: a fatal `internal_error` in a plain record (RFC 8446, 5.1 and 6.2).
pub(super) async fn turn_away<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) {
    const INTERNAL_ERROR: [u8; 7] = [21, 3, 3, 0, 2, 2, 80];
    if let Ok(Ok(())) = timeout(LINGER, stream.write_all(&INTERNAL_ERROR)).await {
        part(stream).await;
    }
}
