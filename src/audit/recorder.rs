//! The audit trail as the data path sees it: write a record, or be told that none can be written.

use std::cell::RefCell;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::batch::{Batch, Outcomes};
use super::line::{Object, Rfc3339};
use super::sink::Sink;
use super::{AuditError, Record};
use crate::config::{AuditConfig, AuditSinkConfig, OnAuditFailure};
use crate::telemetry::AuditMetrics;

/// How often a failing sink is tried: often enough to serve again within a second of space coming back.
const PROBE_INTERVAL: Duration = Duration::from_millis(250);
/// A record of a thousand operations must not keep its memory forever.
const KEPT_BUFFER_BYTES: usize = 64 * 1024;
/// Lines do not wait for others any longer when there are so many.
const MOST_GATHERED: usize = 64 * 1024;

thread_local! {
    static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Where records are written. One for the whole process.
#[derive(Debug)]
pub struct Audit {
    /// Held for one write(2), never while a line is made: a torn line can only be put right while nobody writes behind it.
    writing: Mutex<Writing>,
    /// Lines that go by the next write. Never held while somebody writes: who has a line to add does not wait for the sink.
    gathered: Mutex<Batch>,
    target: AuditSinkConfig,
    on_failure: OnAuditFailure,
    sample_allowed: f64,
    failing: AtomicBool,
    /// What has gone wrong last; its own lock, so that `/ready` never waits for a sink that blocks.
    failure: Mutex<Option<String>>,
    opened: Instant,
    /// Milliseconds after `opened`.
    next_probe: AtomicU64,
    since_recovery: Missed,
    metrics: AuditMetrics,
}

/// The sink, and what became of the lines so far.
#[derive(Debug)]
struct Writing {
    sink: Sink,
    outcomes: Outcomes,
    /// Its buffers are used again.
    batch: Batch,
}

/// Records that wait to be written by [`Audit::commit`]: the first and the last batch that they are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a record that is not committed is written when somebody else's is"]
pub struct Gathered {
    first: u64,
    last: u64,
}

impl Gathered {
    /// These and others.
    pub fn and(self, other: Self) -> Self {
        Self { first: self.first.min(other.first), last: self.last.max(other.last) }
    }
}

/// What a failing sink has cost since it last worked.
#[derive(Debug, Default)]
struct Missed {
    refused: AtomicU64,
    failed: AtomicU64,
    lost: AtomicU64,
}

impl Audit {
    /// Opens the sink.
    ///
    /// # Errors
    /// The file cannot be opened; the message names it and, if that is what is missing, its directory.
    pub fn open(config: &AuditConfig) -> Result<Self, AuditError> {
        Ok(Self::with_sink(open(&config.sink)?, config))
    }

    fn with_sink(sink: Sink, config: &AuditConfig) -> Self {
        let audit = Self {
            writing: Mutex::new(Writing { sink, outcomes: Outcomes::default(), batch: Batch::default() }),
            gathered: Mutex::default(),
            target: config.sink.clone(),
            on_failure: config.on_failure,
            sample_allowed: config.sample_allowed,
            failing: AtomicBool::new(false),
            failure: Mutex::new(None),
            opened: Instant::now(),
            next_probe: AtomicU64::new(0),
            since_recovery: Missed::default(),
            metrics: AuditMetrics::new(),
        };
        audit.metrics.accepts.set(1.0);
        audit
    }

    /// Writes a record, unless sampling leaves it out. When this returns `Ok`, the line is with the kernel: it survives the death of this process.
    ///
    /// Blocks while the sink does.
    ///
    /// # Errors
    /// It could not be written, and what it is about must be refused or cut. Never with `unsafe_on_failure: allow`.
    pub fn write(&self, record: &Record<'_>) -> Result<(), AuditError> {
        self.gather(record).map_or(Ok(()), |gathered| self.commit(gathered))
    }

    /// Puts a record with those that are to be written together, unless sampling leaves it out. It is not safe before
    /// [`commit`](Self::commit).
    pub fn gather(&self, record: &Record<'_>) -> Option<Gathered> {
        let rate = self.sample_allowed;
        if record.may_be_left_out() && record.decision_id.fraction() >= rate {
            self.metrics.sampled_out.increment(1);
            return None;
        }
        // Taken out rather than borrowed: nothing can go wrong with a second use inside the first.
        let mut line = LINE.take();
        line.clear();
        record.append(&mut line, rate);
        let (number, waiting) = {
            let mut gathered = lock(&self.gathered);
            (gathered.add(&line), gathered.len())
        };
        if line.capacity() <= KEPT_BUFFER_BYTES {
            LINE.set(line);
        }
        if waiting > MOST_GATHERED {
            // What comes of it is told at the commit of who gathered it.
            let _outcome = self.commit(Gathered { first: number, last: number });
        }
        Some(Gathered { first: number, last: number })
    }

    /// Writes everything that has been gathered, by whomever, unless somebody has done so since. When this returns `Ok`, the record is with
    /// the kernel.
    ///
    /// Blocks while the sink does.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn commit(&self, gathered: Gathered) -> Result<(), AuditError> {
        let mut writing = lock(&self.writing);
        let outcome = loop {
            match writing.outcomes.of(gathered.first, gathered.last) {
                Some(outcome) => break outcome,
                None => self.write_gathered(&mut writing),
            }
        };
        match outcome {
            Err(kind) if self.on_failure == OnAuditFailure::Refuse => Err(AuditError::Write { source: kind.into() }),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn write_gathered(&self, writing: &mut Writing) {
        let Writing { sink, outcomes, batch } = writing;
        lock(&self.gathered).take(batch);
        let count = batch.count();
        let written = match self.recover(sink) {
            Ok(()) => sink.write_lines(batch).inspect_err(|(_, error)| self.fail(sink, error)),
            Err(error) => Err((count, error)),
        };
        let missing = written.as_ref().map_or_else(|(missing, _)| *missing, |()| 0);
        self.metrics.written.increment((count - missing) as u64);
        self.missed(missing as u64);
        outcomes.note(batch.number(), written.err().map(|(_, error)| error.kind()));
        batch.clear();
    }

    /// Whether a request may be taken on: a record of it could be written as far as anybody knows.
    ///
    /// One load while all is well. While the sink fails, the first caller in 250 ms tries it; the others are told no without waiting.
    #[must_use]
    pub fn accepts(&self) -> bool {
        if self.is_working() || self.on_failure == OnAuditFailure::Allow {
            return true;
        }
        self.since_recovery.refused.fetch_add(1, Ordering::Relaxed);
        self.metrics.refused.increment(1);
        false
    }

    /// Whether records can be written, for `/ready`: tries a failing sink like [`accepts`](Self::accepts), but no request is refused by asking.
    #[must_use]
    pub fn is_working(&self) -> bool {
        !self.failing.load(Ordering::Acquire) || self.probe()
    }

    /// Why records cannot be written, while they cannot.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        lock(&self.failure).clone()
    }

    /// Opens the file by its name again, after logrotate has moved it. Standard output stays.
    ///
    /// # Errors
    /// The new file cannot be opened; records go on into the old one.
    pub fn reopen(&self) -> Result<(), AuditError> {
        // Opened before the lock is taken: nobody waits for it.
        let sink = open(&self.target)?;
        lock(&self.writing).sink = sink;
        Ok(())
    }

    /// [`reopen`](Self::reopen) if the file's name leads elsewhere by now: for a log rotation that sends no signal.
    /// Says whether it did. To be called every few seconds; does not wait for a sink that blocks.
    ///
    /// # Errors
    /// As [`reopen`](Self::reopen).
    pub fn reopen_if_moved(&self) -> Result<bool, AuditError> {
        let AuditSinkConfig::File(path) = &self.target else { return Ok(false) };
        let moved = self.writing.try_lock().is_ok_and(|writing| writing.sink.has_moved_from(path));
        if moved {
            self.reopen()?;
        }
        Ok(moved)
    }

    /// Tries a failing sink if it is time to. Whoever holds the sink is trying it already.
    fn probe(&self) -> bool {
        let now = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        let due = self.next_probe.load(Ordering::Acquire);
        let next = now.saturating_add(PROBE_INTERVAL.as_millis() as u64);
        if now < due || self.next_probe.compare_exchange(due, next, Ordering::AcqRel, Ordering::Acquire).is_err() {
            return false;
        }
        match self.writing.try_lock() {
            Ok(mut writing) => self.recover(&mut writing.sink).is_ok(),
            Err(_) => false,
        }
    }

    /// Writes what the failure has cost; if that can be written, so can records.
    fn recover(&self, sink: &mut Sink) -> io::Result<()> {
        if !self.failing.load(Ordering::Acquire) {
            return Ok(());
        }
        let missed = &self.since_recovery;
        let [refused, failed, lost] =
            [&missed.refused, &missed.failed, &missed.lost].map(|count| count.load(Ordering::Relaxed));
        let mut line = Vec::with_capacity(200);
        let mut object = Object::begin(&mut line);
        object.member("time", |line| Rfc3339::from(SystemTime::now()).append(line));
        object.string("kind", "sink_recovered");
        object.some_number("refused_requests", Some(refused));
        object.some_number("failed_records", Some(failed));
        object.some_number("lost_records", Some(lost));
        object.end();
        line.push(b'\n');
        sink.write_line(&line).inspect_err(|error| self.fail(sink, error))?;
        // Subtracted, not set to zero: others count on meanwhile.
        missed.refused.fetch_sub(refused, Ordering::Relaxed);
        missed.failed.fetch_sub(failed, Ordering::Relaxed);
        missed.lost.fetch_sub(lost, Ordering::Relaxed);
        *lock(&self.failure) = None;
        self.failing.store(false, Ordering::Release);
        self.metrics.accepts.set(1.0);
        tracing::info!(
            sink = sink.name(),
            refused_requests = refused,
            failed_records = failed,
            lost_records = lost,
            "audit records can be written again"
        );
        Ok(())
    }

    fn fail(&self, sink: &Sink, error: &io::Error) {
        *lock(&self.failure) = Some(format!("audit records cannot be written to {}: {error}", sink.name()));
        if !self.failing.swap(true, Ordering::AcqRel) {
            self.metrics.accepts.set(0.0);
            let requests = match self.on_failure {
                OnAuditFailure::Refuse => "are refused",
                OnAuditFailure::Allow => "go on unrecorded (unsafe_on_failure: allow)",
            };
            tracing::error!(sink = sink.name(), %error, requests, "audit records cannot be written");
        }
    }

    fn missed(&self, count: u64) {
        if count == 0 {
            return;
        }
        match self.on_failure {
            OnAuditFailure::Allow => {
                self.since_recovery.lost.fetch_add(count, Ordering::Relaxed);
                self.metrics.lost.increment(count);
            }
            OnAuditFailure::Refuse => {
                self.since_recovery.failed.fetch_add(count, Ordering::Relaxed);
                self.metrics.failed.increment(count);
            }
        }
    }
}

fn open(target: &AuditSinkConfig) -> Result<Sink, AuditError> {
    match target {
        AuditSinkConfig::Stdout => Sink::stdout(),
        AuditSinkConfig::File(path) => Sink::file(path),
    }
}

/// A thread that panicked while it held one of these locks left nothing half done that matters.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
