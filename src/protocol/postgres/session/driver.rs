//! Bytes between a session and its two sides: one task, one write for everything that one read has brought.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Sleep, sleep_until, timeout};

use super::session::{End, MOST_WAITING, Session, Step};
use crate::config::SessionCaps;
use crate::enforce::STARTED_AFTER;
use crate::mapping::sql::catalog::Catalog;
use crate::protocol::postgres::cancel::SessionKey;
use crate::protocol::postgres::wire::FrameReader;
use crate::protocol::{Closed, Last, Notice};
use crate::relay::{Apart, Woken, apart};
use crate::upstream::StreamUpstream;

/// What is read at once, while little comes and while much does: a large result goes out in few writes.
const LEAST_READ: usize = 16 * 1024;
const MOST_READ: usize = 128 * 1024;
/// What of a client's messages is read ahead while they have to wait.
const MOST_AHEAD: usize = 64 * 1024;
/// How long a peer may take to read its last words.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// How long the server may be silent when the client has closed its direction: nobody can tell one that reads its last answers from one
/// that is gone, and what runs for the latter is to end.
const LAST_ANSWERS: Duration = Duration::from_secs(10);
/// How long the catalogue may take.
const CATALOG_LIMIT: Duration = Duration::from_secs(30);

/// A session with the streams of its two sides.
#[derive(Debug)]
pub(super) struct Driver<C, S> {
    pub(super) session: Session,
    pub(super) client: C,
    pub(super) server: S,
    pub(super) caps: SessionCaps,
    pub(super) key: Option<SessionKey>,
    /// Where cancels go.
    pub(super) upstream: Option<Arc<StreamUpstream>>,
    /// The client has closed its direction: when its last answers are not waited for any longer.
    pub(super) patience: Option<Instant>,
}

enum Event {
    /// Something was read or written.
    Moved,
    ClientGone,
    ServerGone(Option<io::Error>),
    Tick,
    Ending(Notice, &'static str),
}

/// The session has been asked to end.
#[derive(Debug, Clone, Copy)]
struct Asked {
    last: Last,
    /// What the client is told.
    words: &'static str,
    /// When its client's right to be here is over, if it is not yet.
    over: Option<Instant>,
    /// When nothing is waited for any longer.
    cut: Instant,
}

impl Asked {
    fn of(notice: Notice, words: &'static str, now: Instant) -> Self {
        let over = notice.over_in.map(|left| now + left);
        Self { last: notice.last, words, over, cut: now + notice.grace }
    }
}

/// The room for the next read of a side: more while reads fill it.
#[derive(Debug, Clone, Copy)]
struct Room(usize);

impl Room {
    fn after(self, read: usize) -> Self {
        match read {
            read if read >= self.0 => Self((self.0 * 2).min(MOST_READ)),
            read if read < self.0 / 4 => Self((self.0 / 2).max(LEAST_READ)),
            _ => self,
        }
    }
}

/// What has just been read serves at least the message that it was read for: with `catalog_max_age: 0s` it would be read for ever.
const LEAST_CATALOG_AGE: Duration = Duration::from_millis(50);

thread_local! {
    static SERVED: Cell<usize> = const { Cell::new(0) };
}

/// A session that is being served on this thread.
struct Served;

impl Served {
    fn begin() -> Self {
        SERVED.set(SERVED.get() + 1);
        Self
    }

    /// There are others beside the one that asks.
    fn are_several() -> bool {
        SERVED.get() > 1
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        SERVED.set(SERVED.get().saturating_sub(1));
    }
}

/// Lets every other session of this thread that has something to do have its turn: their records go by one write with this one's.
/// Unlike `yield_now` it does not wait for a look at the sockets, which costs a system call.
async fn next_turn() {
    let mut has_waited = false;
    poll_fn(|cx| {
        if has_waited {
            return Poll::Ready(());
        }
        has_waited = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// How a session came to its end.
pub(super) struct Ended {
    pub(super) closed: Closed,
    /// A statement was left running on the server.
    pub(super) running: bool,
    pub(super) key: Option<SessionKey>,
}

impl<C, S> Driver<C, S>
where
    C: AsyncRead + AsyncWrite + Unpin + Send,
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    /// Serves the session until it ends. `catalog` gives the catalogue and since when it is known to be right; a newer one than is known
    /// if it is told so. `ending` says that it has to end, and the last words.
    pub(super) async fn serve<F>(
        mut self,
        catalog: impl Fn(bool) -> F + Sync,
        ending: Apart<'_, (Notice, &'static str)>,
    ) -> Ended
    where
        F: Future<Output = Result<(Arc<Catalog>, Instant), String>> + Send,
    {
        let mut ending = Woken::new(ending);
        let _served = Served::begin();
        let mut last: Option<Asked> = None;
        let mut timer: Option<Woken<Pin<Box<Sleep>>>> = None;
        let mut rooms = (Room(LEAST_READ), Room(LEAST_READ));
        loop {
            let ran = self.session.has_running();
            self.session.begins_nothing = right_is_over(&mut last, Instant::now());
            match self.session.advance(Instant::now()) {
                Step::Wait => {}
                Step::Catalog { newest } => {
                    if let Err(end) = apart(|| self.read_catalog(&catalog, newest)).await {
                        return apart(|| self.end(end)).await;
                    }
                    continue;
                }
                Step::End(end) => return apart(|| self.finish(end)).await,
            }
            if !self.let_cancels_strike(ran).await {
                let words = "a cancel request may strike the wrong statement: the session ends";
                return apart(|| self.end(End::Failed { sqlstate: "57P01", message: words.into() })).await;
            }
            if self.session.cut_short {
                apart(|| self.cut_short()).await;
            }
            if let Some(end) = self.over(last) {
                let cut = last.is_some_and(|asked| Instant::now() >= asked.cut);
                let mut ended = apart(|| self.end(end)).await;
                if last.is_some() {
                    ended.closed = if cut { Closed::Cut } else { Closed::InOrder };
                }
                return ended;
            }
            if let Err(end) = self.write_records().await {
                return apart(|| self.end(end)).await;
            }
            if self.session.has_more {
                tokio::task::yield_now().await;
            }
            set(&mut timer, self.deadline(last));
            let event = poll_fn(|cx| {
                if last.is_none()
                    && let Poll::Ready((notice, words)) = Pin::new(&mut ending).poll(cx)
                {
                    return Poll::Ready(Event::Ending(notice, words));
                }
                if let Some(due) = timer.as_mut()
                    && Pin::new(due).poll(cx).is_ready()
                {
                    timer = None;
                    return Poll::Ready(Event::Tick);
                }
                self.poll(cx, &mut rooms)
            })
            .await;
            match event {
                Event::Moved if self.session.client_done => self.patience = Some(Instant::now() + LAST_ANSWERS),
                Event::Moved => {}
                Event::Tick => {
                    if let Err(end) = self.session.note_long(Instant::now()) {
                        return apart(|| self.end(end)).await;
                    }
                }
                Event::Ending(notice, words) => last = Some(Asked::of(notice, words, Instant::now())),
                Event::ClientGone => return apart(|| self.end(End::Goodbye)).await,
                Event::ServerGone(cause) => return apart(|| self.server_gone(cause)).await,
            }
        }
    }

    /// Cancels a COPY that has given all that it may. The server has the signal before it is asked anything else.
    async fn cut_short(&mut self) {
        self.session.cut_short = false;
        if let (Some(key), Some(upstream)) = (&self.key, &self.upstream) {
            key.cancel(upstream).await;
        }
    }

    /// Writes the records of statements that have ended, before anything of their answers is sent; with those of other sessions, if there
    /// are any.
    async fn write_records(&mut self) -> Result<(), End> {
        if self.session.unwritten.is_empty() {
            return Ok(());
        }
        if Served::are_several() {
            next_turn().await;
        }
        self.session.write_records()
    }

    async fn read_catalog<F>(&mut self, catalog: &(impl Fn(bool) -> F + Sync), newest: bool) -> Result<(), End>
    where
        F: Future<Output = Result<(Arc<Catalog>, Instant), String>> + Send,
    {
        match timeout(CATALOG_LIMIT, catalog(newest)).await {
            Ok(Ok((catalog, as_of))) => {
                let until = (as_of + self.session.setup.catalog_max_age).max(Instant::now() + LEAST_CATALOG_AGE);
                self.session.catalog_arrived(catalog, until, newest);
                Ok(())
            }
            Ok(Err(cause)) => self.session.catalog_failed(&cause),
            Err(_elapsed) => self.session.catalog_failed(&format!("no answer within {} s", CATALOG_LIMIT.as_secs())),
        }
    }

    /// Cancels reach the client's statements only: what is asked next waits until one that is under way has done what it can. False if
    /// nobody knows what it may still strike.
    async fn let_cancels_strike(&self, ran: bool) -> bool {
        let Some(key) = &self.key else { return true };
        let runs = self.session.has_running() && self.session.own.is_none();
        if !runs {
            key.end_statement();
        }
        if key.is_striking() && (!ran || !runs) && self.session.to_server.len() > 0 && !key.settled().await {
            return false;
        }
        if runs {
            key.begin_statement();
        }
        true
    }

    fn poll(&mut self, cx: &mut Context<'_>, (client_room, server_room): &mut (Room, Room)) -> Poll<Event> {
        let session = &mut self.session;
        let waited = (session.to_client.len(), session.to_server.len());
        match session.to_server.poll_write(cx, &mut self.server) {
            Poll::Ready(Err(error)) => return Poll::Ready(Event::ServerGone(Some(error))),
            Poll::Ready(Ok(())) | Poll::Pending => {}
        }
        if let Poll::Ready(Err(_gone)) = session.to_client.poll_write(cx, &mut self.client) {
            return Poll::Ready(Event::ClientGone);
        }
        // Messages that were left lying because too much waited to be written.
        let mut moved = session.has_more;
        moved |= waited.0 > MOST_WAITING && session.to_client.len() <= MOST_WAITING;
        moved |= waited.1 > MOST_WAITING && session.to_server.len() <= MOST_WAITING;
        // A message that has to be read whole may be longer than what is read ahead.
        let mut ahead = 0;
        while session.to_client.len() <= MOST_WAITING && ahead <= MOST_WAITING {
            match read(cx, &mut session.from_server, &mut self.server, server_room) {
                Poll::Ready(Ok(0)) if moved => break,
                Poll::Ready(Ok(0)) => return Poll::Ready(Event::ServerGone(None)),
                Poll::Ready(Ok(bytes)) => {
                    ahead += bytes;
                    moved = true;
                }
                Poll::Ready(Err(_)) if moved => break,
                Poll::Ready(Err(error)) => return Poll::Ready(Event::ServerGone(Some(error))),
                Poll::Pending => break,
            }
        }
        let mut ahead = 0;
        while session.to_server.len() <= MOST_WAITING
            && !session.client_done
            && (!session.waits() || session.from_client.buffered().len() < MOST_AHEAD)
            && ahead <= MOST_WAITING
        {
            match read(cx, &mut session.from_client, &mut self.client, client_room) {
                Poll::Ready(Ok(0)) => {
                    session.client_done = true;
                    moved = true;
                }
                Poll::Ready(Err(_)) if moved => break,
                Poll::Ready(Err(_)) => return Poll::Ready(Event::ClientGone),
                Poll::Ready(Ok(bytes)) => {
                    ahead += bytes;
                    moved = true;
                }
                Poll::Pending => break,
            }
        }
        if moved { Poll::Ready(Event::Moved) } else { Poll::Pending }
    }

    /// When to look at limits again.
    fn deadline(&self, last: Option<Asked>) -> Option<Instant> {
        let session = &self.session;
        let idle =
            self.caps.session_idle.filter(|_| session.is_between_transactions()).map(|cap| session.idle_since + cap);
        let transaction = self.caps.transaction.and_then(|cap| session.transaction_since.map(|since| since + cap));
        let long = session.has_running().then(|| session.now + STARTED_AFTER);
        let ending = last.map(|asked| asked.over.map_or(asked.cut, |over| over.min(asked.cut)));
        [idle, transaction, long, ending, self.patience].into_iter().flatten().min()
    }

    /// Why the session has to end now, if it has to.
    fn over(&self, last: Option<Asked>) -> Option<End> {
        let (session, now) = (&self.session, self.session.now);
        let failed = |sqlstate, message: &str| Some(End::Failed { sqlstate, message: message.into() });
        if let Some(Asked { last, words, cut, .. }) = last {
            // A stream of replication has no end of its own: its client goes on elsewhere.
            let finished = session.streaming
                || match last {
                    Last::Asked => session.is_between_transactions(),
                    Last::InFlight => session.has_answered(),
                };
            if finished || now >= cut {
                return failed("57P01", words);
            }
        }
        if self.patience.is_some_and(|until| now >= until) {
            return Some(End::Goodbye);
        }
        let older = |since: Instant, cap: Option<Duration>| cap.is_some_and(|cap| now >= since + cap);
        if session.transaction_since.is_some_and(|since| older(since, self.caps.transaction)) {
            // ERRCODE_TRANSACTION_TIMEOUT of PostgreSQL 17, with its words.
            return failed("25P04", "terminating connection due to transaction timeout");
        }
        if session.is_between_transactions() && older(session.idle_since, self.caps.session_idle) {
            return failed("57P05", "terminating connection due to idle-session timeout");
        }
        None
    }

    async fn server_gone(&mut self, cause: Option<io::Error>) -> Ended {
        let cause = cause.map_or_else(|| "the server closed the connection".to_owned(), |cause| cause.to_string());
        tracing::debug!(cause, "the connection to the server ended");
        let end = End::Failed { sqlstate: "08006", message: "the connection to the server was lost".into() };
        self.session.end(end.clone());
        self.session.left_running = false;
        self.finish(end).await
    }

    async fn end(&mut self, end: End) -> Ended {
        self.session.end(end.clone());
        self.finish(end).await
    }

    /// Last words to both sides.
    async fn finish(&mut self, mut end: End) -> Ended {
        if let Err(unwritten) = self.session.write_records() {
            end = unwritten;
            // Words in the middle of a row would be taken for a part of it.
            if !self.session.from_server.is_within() {
                self.session.to_client.put(|out| end.put(out));
            }
        }
        let running = self.session.left_running;
        let goodbye = end == End::Goodbye;
        let refused = matches!(end, End::Refused { .. });
        let limit = if self.session.client_done { LAST_ANSWERS } else { LAST_WORDS };
        let words = async {
            let (session, client, server) = (&mut self.session, &mut self.client, &mut self.server);
            if goodbye {
                let _gone = poll_fn(|cx| session.to_server.poll_write(cx, server)).await;
            }
            let _gone = poll_fn(|cx| session.to_client.poll_write(cx, client)).await;
            let _gone = client.shutdown().await;
            // Closed with bytes unread, the connection would be reset, and the words be lost on the way.
            let mut unread = [0; 1024];
            while refused && matches!(client.read(&mut unread).await, Ok(1..)) {}
        };
        let _late = timeout(limit, words).await;
        let closed = match end {
            End::Goodbye => Closed::InOrder,
            End::Refused { rule, message, .. } => Closed::Refused { rule, message },
            End::Failed { sqlstate: "57P05", .. } => Closed::Idle,
            End::Failed { message, .. } => Closed::Failed { cause: message },
        };
        Ended { closed, running, key: self.key.take() }
    }
}

fn read<R: AsyncRead + Unpin>(
    cx: &mut Context<'_>,
    reader: &mut FrameReader,
    from: &mut R,
    room: &mut Room,
) -> Poll<io::Result<usize>> {
    let polled = pin!(reader.fill_up(from, room.0)).poll(cx);
    if let Poll::Ready(Ok(read)) = &polled {
        *room = room.after(*read);
    }
    polled
}

/// Whether the client's right to be here is over; who was asked to end before that has only what is in flight from then on.
fn right_is_over(last: &mut Option<Asked>, now: Instant) -> bool {
    let Some(asked) = last else { return false };
    if asked.over.is_some_and(|over| now >= over) {
        (asked.last, asked.over) = (Last::InFlight, None);
    }
    asked.last == Last::InFlight
}

/// Sets the timer to go off no later than `deadline`. One that goes off too early only has limits looked at.
fn set(timer: &mut Option<Woken<Pin<Box<Sleep>>>>, deadline: Option<Instant>) {
    let Some(deadline) = deadline.map(tokio::time::Instant::from_std) else { return };
    match timer {
        Some(timer) if timer.inner().deadline() <= deadline => {}
        Some(timer) => timer.inner_mut().as_mut().reset(deadline),
        None => *timer = Some(Woken::new(Box::pin(sleep_until(deadline)))),
    }
}
