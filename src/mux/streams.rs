//! The streams of a connection: what has come for each, what each may still send, and how each ends. Knows no socket.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::task::Waker;

use bytes::{Buf as _, BytesMut};
use tokio::io::ReadBuf;

use super::MOST_STREAMS;
use super::frame::{HEAD, Head, Kind, LAST_STREAM};
use crate::relay::RECORD_PAYLOAD;

/// What may be sent on a stream before its peer has read anything.
const FIRST_WINDOW: u32 = 64 * 1024;
/// What a peer whose bytes are taken as fast as they come may have on its way: what bulk needs over some distance. It is as much as a
/// stream can make us hold.
const LAST_WINDOW: u32 = 1024 * 1024;

/// What streams may have on their way beside what each begins with, all together: what a peer can make us hold by reading nothing.
const MOST_GROWN: u32 = 4 * LAST_WINDOW;
/// What one frame of ours carries at most: with its head it fills eight TLS records.
const MOST_SENT: u32 = (8 * RECORD_PAYLOAD - HEAD) as u32;
/// Credit that is not worth a frame while there is more to send. It is less than half of any window, so more comes.
const LEAST_SENT: usize = FIRST_WINDOW as usize / 4;

/// A peer does not keep to the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Violation(pub(super) &'static str);

/// The streams of one end of a connection.
#[derive(Debug)]
pub(super) struct Streams {
    is_client: bool,
    entries: BTreeMap<u32, Entry>,
    /// The last one that was opened.
    last: u32,
    /// Opened by the peer, and taken by nobody yet.
    opened: VecDeque<u32>,
    /// Who has filled the connection last.
    turn: u32,
    we_left: bool,
    peer_left: bool,
    /// Why the connection is over.
    over: Option<(io::ErrorKind, &'static str)>,
    /// By how much windows have grown.
    grown: u32,
}

/// One end of a stream.
#[derive(Debug)]
struct Entry {
    /// What has come and was not read.
    arrived: BytesMut,
    /// What the peer may have sent, and not been told that it was read.
    window: u32,
    /// What the peer may still announce.
    receivable: u32,
    /// What was read since the peer was last told.
    taken: u32,
    peer_ended: bool,
    reader: Option<Waker>,
    /// What we may still send.
    sendable: u32,
    /// How much is sent on the connection when what we have said is.
    said: u64,
    /// The same of our end, if there is one.
    end: Option<u64>,
    /// The server has answered.
    is_accepted: bool,
    writer: Option<Waker>,
    /// The peer has given it up.
    reset: bool,
}

impl Streams {
    pub(super) const fn new(is_client: bool) -> Self {
        Self {
            is_client,
            entries: BTreeMap::new(),
            last: 0,
            opened: VecDeque::new(),
            turn: 0,
            we_left: false,
            peer_left: false,
            over: None,
            grown: 0,
        }
    }

    /// Whether it is we who open them.
    pub(super) const fn is_client(&self) -> bool {
        self.is_client
    }

    /// How many there are, those included that only we have not given up yet.
    pub(super) fn count(&self) -> usize {
        self.entries.len()
    }

    /// Whether no stream can be opened from here on.
    pub(super) const fn takes_no_more(&self) -> bool {
        self.we_left || self.peer_left || self.over.is_some() || self.last == LAST_STREAM
    }

    /// Whether the client has said that it opens no more, and none is left.
    pub(super) fn is_done(&self) -> bool {
        self.peer_left && self.entries.is_empty()
    }

    /// Opens one more, if there is a place among `most`.
    pub(super) fn open(&mut self, most: usize, out: &mut BytesMut) -> Option<u32> {
        let has_place = !self.takes_no_more() && self.entries.len() < most.min(MOST_STREAMS);
        has_place.then(|| self.open_next(out))
    }

    /// Opens one more.
    pub(super) fn open_next(&mut self, out: &mut BytesMut) -> u32 {
        self.last += 1;
        self.entries.insert(self.last, Entry::new());
        Head::new(Kind::Open, self.last).put(out);
        self.last
    }

    /// One that the peer has opened.
    pub(super) fn next_opened(&mut self) -> Option<u32> {
        self.opened.pop_front()
    }

    /// Opens no more, or has the peer open no more.
    pub(super) fn leave(&mut self, out: &mut BytesMut) {
        if !self.we_left {
            self.we_left = true;
            Head::new(Kind::Leave, 0).put(out);
        }
    }

    /// Nothing comes or goes any more. Who waits is woken by `wake`.
    pub(super) fn end(&mut self, kind: io::ErrorKind, why: &'static str, wake: &mut Vec<Waker>) {
        self.over.get_or_insert((kind, why));
        for entry in self.entries.values_mut() {
            wake.extend(entry.reader.take());
            wake.extend(entry.writer.take());
        }
    }

    /// Takes the head of a frame.
    pub(super) fn take(&mut self, head: Head, out: &mut BytesMut, wake: &mut Vec<Waker>) -> Result<(), Violation> {
        let Head { kind, stream, number } = head;
        match kind {
            Kind::Open => return self.peer_opens(stream, out),
            Kind::Leave => {
                self.peer_left = true;
                if self.is_client {
                    self.leave(out);
                }
                return Ok(());
            }
            Kind::Accept if !self.is_client => return Err(Violation("a stream that was accepted by the client")),
            Kind::Data | Kind::End | Kind::Reset | Kind::Credit | Kind::Accept => {}
        }
        if stream > self.last {
            return Err(Violation("a frame of a stream that was not opened"));
        }
        // We have given it up, and the peer does not know yet.
        let Some(entry) = self.entries.get_mut(&stream) else { return Ok(()) };
        if entry.reset {
            return Err(Violation("a frame of a stream that was reset"));
        }
        match kind {
            Kind::Credit => {
                entry.sendable = entry.sendable.checked_add(number).ok_or(Violation("too much credit"))?;
                wake.extend(entry.writer.take());
            }
            Kind::Accept => {
                entry.is_accepted = true;
                wake.extend(entry.reader.take());
            }
            Kind::Reset => {
                entry.reset = true;
                wake.extend(entry.reader.take());
                wake.extend(entry.writer.take());
            }
            _ if entry.peer_ended => return Err(Violation("more of a stream that has ended")),
            Kind::End => {
                entry.peer_ended = true;
                wake.extend(entry.reader.take());
            }
            Kind::Data => {
                let left = entry.receivable.checked_sub(number);
                entry.receivable = left.ok_or(Violation("more data than there was credit for"))?;
            }
            Kind::Open | Kind::Leave => {}
        }
        Ok(())
    }

    fn peer_opens(&mut self, id: u32, out: &mut BytesMut) -> Result<(), Violation> {
        if self.is_client {
            return Err(Violation("a stream that was opened by the server"));
        }
        if self.peer_left {
            return Err(Violation("a stream that was opened after the last one"));
        }
        if id != self.last + 1 {
            return Err(Violation("a stream that is not the next one"));
        }
        // The peer has forgotten those that are over, though we may not have noticed yet.
        if self.entries.values().filter(|entry| !entry.is_over()).count() >= MOST_STREAMS {
            return Err(Violation("too many streams"));
        }
        self.last = id;
        // It gives up faster than we notice.
        if self.entries.len() >= 2 * MOST_STREAMS {
            Head::new(Kind::Reset, id).put(out);
            return Ok(());
        }
        Head::new(Kind::Accept, id).put(out);
        self.entries.insert(id, Entry::new());
        self.opened.push_back(id);
        Ok(())
    }

    /// Whether the reader of a stream waits, and nothing lies there for it: it is woken to take what comes itself.
    pub(super) fn offer(&mut self, id: u32, wake: &mut Vec<Waker>) -> bool {
        let waiting = self.entries.get_mut(&id).filter(|entry| entry.arrived.is_empty());
        let reader = waiting.and_then(|entry| entry.reader.take());
        let is_offered = reader.is_some();
        wake.extend(reader);
        is_offered
    }

    /// Keeps data, whose head was taken, until it is read.
    pub(super) fn keep(&mut self, id: u32, data: &[u8], wake: &mut Vec<Waker>) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        entry.arrived.extend_from_slice(data);
        wake.extend(entry.reader.take());
    }

    /// Whether everything that was kept for a stream was read, so that it may read what comes.
    pub(super) fn reads_what_comes(&self, id: u32) -> bool {
        self.entries.get(&id).is_some_and(|entry| entry.arrived.is_empty())
    }

    /// Reads what was kept.
    pub(super) fn read_kept(&mut self, id: u32, into: &mut ReadBuf<'_>) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let count = into.remaining().min(entry.arrived.len());
        into.put_slice(entry.arrived.get(..count).unwrap_or_default());
        entry.arrived.advance(count);
        give_back(&mut entry.arrived);
    }

    /// So much of a stream was read: tells the peer if that is worth a frame.
    pub(super) fn took(&mut self, id: u32, count: usize, out: &mut BytesMut) -> bool {
        let Some(entry) = self.entries.get_mut(&id) else { return false };
        entry.taken += u32::try_from(count).unwrap_or(u32::MAX);
        if entry.taken < entry.window / 2 || entry.peer_ended || entry.reset || self.over.is_some() {
            return false;
        }
        let mut amount = entry.taken;
        // It had to wait for us, or nearly so, although what it sends is read: it may have more on its way.
        let may_grow = entry.window < LAST_WINDOW && self.grown + entry.window <= MOST_GROWN;
        if entry.receivable < entry.window / 4 && may_grow {
            amount += entry.window;
            self.grown += entry.window;
            entry.window *= 2;
        }
        entry.receivable += amount;
        entry.taken = 0;
        Head::credit(id, amount).put(out);
        true
    }

    /// What there is to say of a stream from which nothing can be read now: its end, why there is none, or nothing yet. Then `waker` is
    /// told when there is.
    pub(super) fn nothing_to_read(&mut self, id: u32, waker: &Waker) -> Option<io::Result<()>> {
        let Some(entry) = self.entries.get_mut(&id) else { return Some(Err(io::ErrorKind::NotConnected.into())) };
        if entry.peer_ended {
            return Some(Ok(()));
        }
        if entry.reset {
            return Some(Err(io::Error::new(io::ErrorKind::ConnectionReset, "the stream was reset")));
        }
        if let Some(over) = self.over {
            return Some(Err(io::Error::new(over.0, over.1)));
        }
        keep(&mut entry.reader, waker);
        None
    }

    /// Whether the server has answered that a stream was opened, or why it will not. Else `waker` is told when it has.
    pub(super) fn accepted(&mut self, id: u32, waker: &Waker) -> Option<io::Result<()>> {
        match self.entries.get(&id) {
            Some(entry) if entry.is_accepted => Some(Ok(())),
            _ => self.nothing_to_read(id, waker),
        }
    }

    /// How many of `bytes` may be sent now, which is none while the peer has to be waited for.
    pub(super) fn may_send(&mut self, id: u32, bytes: usize) -> io::Result<u32> {
        let Some(entry) = self.entries.get_mut(&id) else { return Err(io::ErrorKind::NotConnected.into()) };
        if let Some((kind, why)) = self.over {
            return Err(io::Error::new(kind, why));
        }
        if entry.reset || entry.end.is_some() {
            return Err(io::Error::new(io::ErrorKind::BrokenPipe, "the stream takes no more"));
        }
        let most = u32::try_from(bytes).unwrap_or(u32::MAX).min(entry.sendable).min(MOST_SENT);
        Ok(if (most as usize) < bytes.min(LEAST_SENT) { 0 } else { most })
    }

    /// So much is sent, with which so much is on the whole connection.
    pub(super) fn sent(&mut self, id: u32, count: u32, said: u64) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.sendable = entry.sendable.saturating_sub(count);
            entry.said = said;
        }
    }

    /// It has filled the connection: others are before it the next time.
    pub(super) const fn had_its_turn(&mut self, id: u32) {
        self.turn = id;
    }

    /// Has `waker` told when more may be sent.
    pub(super) fn wait_to_send(&mut self, id: u32, waker: &Waker) {
        if let Some(entry) = self.entries.get_mut(&id) {
            keep(&mut entry.writer, waker);
        }
    }

    /// Those who wait for room in the connection may go on. The first may fill it again: it is the one behind who did so last.
    pub(super) fn wake_writers(&mut self, wake: &mut Vec<Waker>) {
        let (before, first) = (wake.len(), self.turn);
        let mut passed = 0;
        for (id, entry) in self.entries.iter_mut().filter(|(_, entry)| entry.sendable > 0 || entry.end.is_some()) {
            if let Some(writer) = entry.writer.take() {
                wake.push(writer);
                passed += usize::from(*id <= first);
            }
        }
        if let Some(woken) = wake.get_mut(before..) {
            woken.rotate_left(passed);
        }
    }

    /// Ends our direction of a stream, on a connection of which so much was sent and is on its way. Gives how much that has to be for its peer
    /// to know.
    pub(super) fn shut(&mut self, id: u32, out: &mut BytesMut, (sent, on_its_way): (u64, u64)) -> io::Result<u64> {
        let stands = self.stands();
        let Some(entry) = self.entries.get_mut(&id) else { return Err(io::ErrorKind::NotConnected.into()) };
        if let Some(end) = entry.end {
            return Ok(end);
        }
        if !entry.reset && stands.is_ok() {
            Head::new(Kind::End, id).put(out);
            return Ok(*entry.end.insert(sent + out.len() as u64));
        }
        // Its peer had said all, has been sent all, and did not wait for our end.
        if entry.peer_ended && on_its_way >= entry.said {
            return Ok(*entry.end.insert(0));
        }
        stands?;
        Err(io::Error::new(io::ErrorKind::BrokenPipe, "the stream takes no more"))
    }

    /// Whether the connection stands.
    pub(super) fn stands(&self) -> io::Result<()> {
        self.over.map_or(Ok(()), |(kind, why)| Err(io::Error::new(kind, why)))
    }

    /// Gives a stream up. The peer is told, unless it knows that it is over.
    pub(super) fn give_up(&mut self, id: u32, out: &mut BytesMut) {
        let Some(entry) = self.entries.remove(&id) else { return };
        self.grown -= entry.window - FIRST_WINDOW;
        if !entry.is_over() && self.over.is_none() {
            Head::new(Kind::Reset, id).put(out);
        }
    }
}

impl Entry {
    fn new() -> Self {
        Self {
            arrived: BytesMut::new(),
            window: FIRST_WINDOW,
            receivable: FIRST_WINDOW,
            taken: 0,
            peer_ended: false,
            reader: None,
            sendable: FIRST_WINDOW,
            said: 0,
            end: None,
            is_accepted: false,
            writer: None,
            reset: false,
        }
    }

    /// Whether the peer may have forgotten it: it was reset, or both directions have ended. Ours is still held.
    const fn is_over(&self) -> bool {
        self.reset || (self.end.is_some() && self.peer_ended)
    }
}

/// Gives the memory of an empty buffer back if it is more than a little.
pub(super) fn give_back(buffer: &mut BytesMut) {
    const LITTLE: usize = 16 * 1024;
    if buffer.is_empty() && buffer.try_reclaim(LITTLE + 1) {
        *buffer = BytesMut::new();
    }
}

fn keep(place: &mut Option<Waker>, waker: &Waker) {
    if !place.as_ref().is_some_and(|known| known.will_wake(waker)) {
        *place = Some(waker.clone());
    }
}
