//! What a head costs. Run with `--release -- --ignored --nocapture`.

use std::time::Instant;

use super::super::{Framer, HeadLimits};
use super::LIMITS;

const HEAD: &[u8] = b"GET /bucket/some/path/to/an/object.parquet?versionId=3HL4kqtJvjVBH40Nrjfkd HTTP/1.1\r\n\
    host: s3.example.com\r\nuser-agent: aws-sdk-rust/1.3.15 os/linux lang/rust/1.95.0\r\naccept: */*\r\n\
    x-amz-date: 20260101T000000Z\r\nx-amz-content-sha256: UNSIGNED-PAYLOAD\r\naccept-encoding: identity\r\n\
    content-length: 0\r\nconnection: keep-alive\r\n\r\n";

#[test]
#[ignore = "a measurement"]
fn a_head_costs_well_under_a_microsecond() {
    let limits = HeadLimits { header_bytes: 65_536, header_count: 100, uri_bytes: 16_384, ..LIMITS };
    let mut framer = Framer::new(limits);
    let rounds = 1_000_000_u32;
    let start = Instant::now();
    for _ in 0..rounds {
        assert_eq!(framer.advance(std::hint::black_box(HEAD), |_| {}), HEAD.len());
    }
    println!("{} bytes: {:?} a head", HEAD.len(), start.elapsed() / rounds);
}
