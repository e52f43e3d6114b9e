mod speed;

use std::fs;
use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
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
    let mut written: Vec<_> = lines(&path).iter().map(|line| line["request_id"].as_str().unwrap().to_owned()).collect();
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
    assert!(matches!(&error, AuditError::Write { source } if source.kind() == io::ErrorKind::StorageFull), "{error:?}");
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
        let audit = Audit::open(&AuditConfig { on_failure: OnAuditFailure::Allow, ..config(&disk.path()) }).unwrap();
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
    let outcomes =
        |path: &Path| lines(path).iter().map(|line| line["outcome"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
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
