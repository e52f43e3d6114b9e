//! What a record costs. Run with `--release -- --ignored --nocapture`.

use std::fs;
use std::time::{Duration, SystemTime};

use super::{config, record};
use crate::audit::sink::Sink;
use crate::audit::{Audit, Record, new_decision_id};

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
