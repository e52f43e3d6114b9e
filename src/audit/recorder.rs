//! The audit trail as the data path sees it: write a record, or be told that none can be written.

use std::cell::RefCell;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use thiserror::Error;

use super::Record;
use super::batch::{Batch, Outcomes};
use super::line::{Object, Rfc3339};
use super::sink::Sink;
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

/// Why there are no records.
#[derive(Debug, Error)]
pub enum AuditError {
    /// The file's directory is not there.
    #[error("audit file `{}`: directory `{}` does not exist", path.display(), directory.display())]
    NoDirectory {
        /// The file.
        path: PathBuf,
        /// Its directory.
        directory: PathBuf,
    },
    /// The sink cannot be opened.
    #[error("audit {sink} cannot be opened: {source}")]
    Open {
        /// Which sink.
        sink: String,
        /// Why.
        source: io::Error,
    },
    /// A record could not be written.
    #[error("audit record cannot be written: {source}")]
    Write {
        /// Why.
        source: io::Error,
    },
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
mod tests {
    use std::fs;
    use std::io::Read;
    use std::os::unix::fs::symlink;
    use std::path::Path;
    use std::process::Command;

    use super::*;
    use crate::audit::{Kind, new_decision_id};
    use crate::telemetry::metrics::recorded;

    fn config(path: &Path) -> AuditConfig {
        AuditConfig {
            sink: AuditSinkConfig::File(path.to_owned()),
            on_failure: OnAuditFailure::Refuse,
            sample_allowed: 1.0,
        }
    }

    fn record(outcome: &'static str) -> Record<'static> {
        Record { listener: "lake", ..Record::new(Kind::Request, new_decision_id(), outcome) }
    }

    fn lines(path: &Path) -> Vec<serde_json::Value> {
        let text = fs::read_to_string(path).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'), "the last line is torn");
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
    }

    /// A sink that fails like a full disk until [`FullDisk::make_room`].
    struct FullDisk(tempfile::TempDir);

    impl FullDisk {
        fn new() -> Self {
            let disk = Self(tempfile::tempdir().unwrap());
            symlink("/dev/full", disk.path()).unwrap();
            disk
        }

        fn path(&self) -> PathBuf {
            self.0.path().join("audit.jsonl")
        }

        fn make_room(&self, audit: &Audit) {
            fs::remove_file(self.path()).unwrap();
            audit.reopen().unwrap();
        }
    }

    fn until_it_accepts(audit: &Audit) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !audit.is_working() {
            assert!(Instant::now() < deadline, "not accepted again in 30 s");
            std::thread::yield_now();
        }
    }

    #[test]
    fn records_of_several_threads_are_whole_lines_each() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let audit = Audit::open(&config(&path)).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..4_usize {
                let audit = &audit;
                scope.spawn(move || {
                    for n in 0..250_usize {
                        let long = "x".repeat(n * 37 % 6_000);
                        let request = format!("{thread}-{n}");
                        let record = Record { request_id: Some(&request), error: Some(&long), ..record("forbidden") };
                        audit.write(&record).unwrap();
                    }
                });
            }
        });
        let mut written: Vec<_> =
            lines(&path).iter().map(|line| line["request_id"].as_str().unwrap().to_owned()).collect();
        written.sort_unstable();
        let mut expected: Vec<_> = (0..4).flat_map(|thread| (0..250).map(move |n| format!("{thread}-{n}"))).collect();
        expected.sort_unstable();
        assert_eq!(written, expected);
    }

    #[test]
    fn a_full_disk_refuses_requests_until_there_is_room() {
        let disk = FullDisk::new();
        let audit = Audit::open(&config(&disk.path())).unwrap();
        assert!(audit.accepts(), "nothing has failed yet");

        let error = audit.write(&record("allowed")).unwrap_err();
        assert!(
            matches!(&error, AuditError::Write { source } if source.kind() == io::ErrorKind::StorageFull),
            "{error:?}"
        );
        assert!(!audit.accepts() && !audit.accepts() && !audit.is_working());
        let failure = audit.failure().unwrap();
        assert!(failure.contains("audit.jsonl") && failure.contains("No space left"), "{failure}");

        disk.make_room(&audit);
        until_it_accepts(&audit);
        assert!(audit.accepts());
        assert_eq!(audit.failure(), None);
        audit.write(&record("allowed")).unwrap();
        let lines = lines(&disk.path());
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert_eq!(
            [&lines[0]["kind"], &lines[0]["refused_requests"], &lines[0]["failed_records"], &lines[0]["lost_records"]],
            [&serde_json::json!("sink_recovered"), &2.into(), &1.into(), &0.into()]
        );
        assert_eq!(lines[1]["outcome"], "allowed");
    }

    #[test]
    fn records_of_which_an_earlier_part_could_not_be_written_are_not_all_there() {
        let disk = FullDisk::new();
        let audit = Audit::open(&config(&disk.path())).unwrap();
        let first = audit.gather(&record("allowed")).unwrap();
        audit.write(&record("allowed")).unwrap_err();
        disk.make_room(&audit);
        until_it_accepts(&audit);
        let second = audit.gather(&record("allowed")).unwrap();
        assert!(audit.commit(first.and(second)).is_err(), "the first is gone");
        audit.commit(second).unwrap();
        assert_eq!(lines(&disk.path()).len(), 2, "what was missed, and the second");
    }

    #[test]
    fn so_many_records_that_they_do_not_wait_are_told_of_at_the_commit() {
        let disk = FullDisk::new();
        let audit = Audit::open(&config(&disk.path())).unwrap();
        let long = "x".repeat(MOST_GATHERED);
        let first = audit.gather(&Record { error: Some(&long), ..record("allowed") }).unwrap();
        disk.make_room(&audit);
        until_it_accepts(&audit);
        let second = audit.gather(&record("allowed")).unwrap();
        assert!(audit.commit(first.and(second)).is_err());
    }

    #[test]
    fn a_failing_sink_is_tried_at_most_four_times_a_second() {
        let disk = FullDisk::new();
        let audit = Audit::open(&config(&disk.path())).unwrap();
        audit.write(&record("allowed")).unwrap_err();
        let (before, started) = (audit.next_probe.load(Ordering::Relaxed), Instant::now());
        let mut probes = 0;
        let mut last = before;
        for _ in 0..10_000 {
            assert!(!audit.accepts());
            let next = audit.next_probe.load(Ordering::Relaxed);
            probes += u128::from(next != last);
            last = next;
        }
        let most = 2 + started.elapsed().as_millis() / PROBE_INTERVAL.as_millis();
        assert!((1..=most).contains(&probes), "{probes} probes, at most {most} are due");
    }

    #[test]
    fn allow_lets_requests_go_on_and_counts_what_is_lost() {
        let disk = FullDisk::new();
        let text = recorded(|| {
            let audit =
                Audit::open(&AuditConfig { on_failure: OnAuditFailure::Allow, ..config(&disk.path()) }).unwrap();
            for _ in 0..3 {
                audit.write(&record("forbidden")).unwrap();
                assert!(audit.accepts());
            }
            assert!(!audit.is_working(), "/ready and the gauge tell the truth all the same");
            disk.make_room(&audit);
            audit.write(&record("forbidden")).unwrap();
            assert!(audit.is_working());
        });
        let lines = lines(&disk.path());
        assert_eq!((lines.len(), &lines[0]["lost_records"]), (2, &serde_json::json!(3)));
        for series in [
            "portcullis_audit_records_total{result=\"lost\"} 3",
            "portcullis_audit_records_total{result=\"written\"} 1",
            "portcullis_audit_refused_requests_total 0",
            "portcullis_audit_accepts 1",
        ] {
            assert!(text.lines().any(|line| line == series), "`{series}` in\n{text}");
        }
    }

    #[test]
    fn a_sink_that_blocks_slows_down_and_drops_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.fifo");
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        let audit = Audit::open(&config(&path)).unwrap();
        const RECORDS: usize = 400;
        std::thread::scope(|scope| {
            // Many times what a pipe holds (64 KiB): without waiting for the reader this cannot end.
            scope.spawn(|| {
                let long = "x".repeat(2_000);
                for _ in 0..RECORDS {
                    audit.write(&Record { error: Some(&long), ..record("forbidden") }).unwrap();
                }
            });
            let mut reader = fs::File::open(&path).unwrap();
            let mut text = Vec::new();
            while memchr::memchr_iter(b'\n', &text).count() < RECORDS {
                let mut some = [0; 4_096];
                let count = reader.read(&mut some).unwrap();
                text.extend_from_slice(&some[..count]);
            }
            for line in text.split(|byte| *byte == b'\n').take(RECORDS) {
                assert_eq!(serde_json::from_slice::<serde_json::Value>(line).unwrap()["outcome"], "forbidden");
            }
        });
    }

    #[test]
    fn sampling_leaves_out_allowed_records_only_and_says_at_what_rate() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let audit = Audit::open(&AuditConfig { sample_allowed: 0.25, ..config(&path) }).unwrap();
        let allowed: Vec<_> = (0..1_000).map(|_| record("allowed")).collect();
        for record in &allowed {
            audit.write(record).unwrap();
            audit.write(&Record { outcome: "not_permitted", ..record.clone() }).unwrap();
        }
        let lines = lines(&path);
        let of = |outcome: &str| lines.iter().filter(|line| line["outcome"] == outcome).collect::<Vec<_>>();
        assert_eq!(of("not_permitted").len(), 1_000);
        let kept: Vec<_> = allowed
            .iter()
            .filter(|record| record.decision_id.fraction() < 0.25)
            .map(|r| r.decision_id.to_string())
            .collect();
        assert_eq!(of("allowed").iter().map(|line| line["decision_id"].as_str().unwrap()).collect::<Vec<_>>(), kept);
        assert!((150..350).contains(&kept.len()), "{} of 1,000", kept.len());
        assert!(of("allowed").iter().all(|line| line["sample_rate"] == 0.25));
        assert!(of("not_permitted").iter().all(|line| line.get("sample_rate").is_none()));
    }

    #[test]
    fn a_rate_of_0_writes_no_allowed_record_and_1_writes_all() {
        let folder = tempfile::tempdir().unwrap();
        for (rate, expected) in [(0.0, 0), (1.0, 200)] {
            let path = folder.path().join(format!("{expected}.jsonl"));
            let audit = Audit::open(&AuditConfig { sample_allowed: rate, ..config(&path) }).unwrap();
            (0..200).for_each(|_| audit.write(&record("allowed")).unwrap());
            assert_eq!(lines(&path).len(), expected);
        }
    }

    #[test]
    fn a_rotated_file_is_followed_with_and_without_a_signal() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let moved = |n: u8| folder.path().join(format!("audit.jsonl.{n}"));
        let audit = Audit::open(&config(&path)).unwrap();
        assert!(!audit.reopen_if_moved().unwrap());
        audit.write(&record("allowed")).unwrap();
        fs::rename(&path, moved(1)).unwrap();
        audit.write(&record("forbidden")).unwrap();
        audit.reopen().unwrap();
        audit.write(&record("error")).unwrap();
        fs::rename(&path, moved(2)).unwrap();
        assert!(audit.reopen_if_moved().unwrap());
        audit.write(&record("refused")).unwrap();
        let outcomes = |path: &Path| {
            lines(path).iter().map(|line| line["outcome"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(outcomes(&moved(1)), ["allowed", "forbidden"]);
        assert_eq!(outcomes(&moved(2)), ["error"]);
        assert_eq!(outcomes(&path), ["refused"]);
    }

    #[test]
    fn a_file_that_cannot_be_opened_anew_leaves_the_old_one_in_use() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("logs");
        fs::create_dir(&directory).unwrap();
        let path = directory.join("audit.jsonl");
        let audit = Audit::open(&config(&path)).unwrap();
        let elsewhere = folder.path().join("elsewhere");
        fs::rename(&directory, &elsewhere).unwrap();
        assert!(matches!(audit.reopen(), Err(AuditError::NoDirectory { .. })));
        audit.write(&record("allowed")).unwrap();
        assert_eq!(lines(&elsewhere.join("audit.jsonl")).len(), 1);
    }

    /// `CARGO_PROFILE_DEV_OPT_LEVEL=3 cargo test --lib -- --ignored --nocapture time_of_a_record`
    #[test]
    #[ignore = "a measurement"]
    fn time_of_a_record() {
        let folder = tempfile::tempdir().unwrap();
        let audit = Audit::open(&config(&folder.path().join("audit.jsonl"))).unwrap();
        let resource = crate::mapping::Resource::object("lake", "raw", "ingest/2026/11/21/part-00001.parquet");
        let mut context = crate::mapping::Context::default();
        context.set("operation", "GetObject");
        context.set("sourceIp", crate::mapping::Value::Ip(std::net::Ipv4Addr::LOCALHOST.into()));
        context.set("now", crate::mapping::Value::Datetime(1_469_918_176_385));
        let policies = [std::sync::Arc::from("transform-reads-ingested")];
        let make = || Record {
            request_id: Some("01ARYZ6S410000000000000000"),
            policies: &policies,
            policy_digest: Some("sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
            policy_generation: Some(1),
            principal: Some("spiffe://pipeline.example/ns/etl/sa/transform"),
            peer_certificate_sha256: Some("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
            peer_certificate_serial: Some("0123456789abcdef0123456789abcdef01234567"),
            peer_address: Some("127.0.0.1:40000"),
            action: Some("s3:GetObject"),
            resource: Some(&resource),
            context: Some(&context),
            direction: "inbound",
            protocol: "s3",
            upstream: Some("127.0.0.1:9000"),
            method: Some("GET"),
            status: Some(200),
            bytes_in: Some(0),
            bytes_out: Some(1_024),
            duration: Some(Duration::from_micros(900)),
            authz: Some(Duration::from_micros(7)),
            ..record("allowed")
        };
        const RECORDS: u32 = 100_000;
        let cpu_of = |what: &str, run: &mut dyn FnMut()| {
            let before = cpu();
            (0..RECORDS).for_each(|_| run());
            eprintln!("{what}: {} ns of CPU a record", (cpu() - before) / u64::from(RECORDS));
        };
        cpu_of("clock", &mut || _ = std::hint::black_box(SystemTime::now()));
        cpu_of("id", &mut || _ = std::hint::black_box(new_decision_id()));
        cpu_of("make", &mut || _ = std::hint::black_box(make()));
        let mut line = Vec::new();
        cpu_of("format", &mut || {
            line.clear();
            make().append(&mut line, 1.0);
        });
        let mut sink = Sink::file(&folder.path().join("plain")).unwrap();
        cpu_of("write", &mut || sink.write_line(&line).unwrap());
        cpu_of("both", &mut || audit.write(&make()).unwrap());
        eprintln!("{} bytes a record", line.len());
    }

    /// Nanoseconds that this thread has run for.
    fn cpu() -> u64 {
        fs::read_to_string("/proc/thread-self/schedstat").unwrap().split(' ').next().unwrap().parse().unwrap()
    }
}
