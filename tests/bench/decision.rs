//! What a decision costs, beside plain Cedar's: `make bench-decision`.
//!
//! The sets are those of a pipeline: each stage has its own buckets, prefixes, tables and paths, every stage has the same rules under
//! which it may not, and there are more stages the more policies there are. The questions are of stages that all sets have.

#![expect(clippy::expect_used, reason = "a bench that cannot go on has nothing to measure")]

mod naive;
mod pipeline;

use std::fs;
use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion};
use portcullis::policy::PolicyGeneration;

use self::naive::Naive;
use self::pipeline::{Pipeline, Question};

/// As in the product.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SIZES: [usize; 4] = [10, 100, 1_000, 10_000];
/// More workloads than a memory has room for: whatever one of them asks is decided as if it had never been asked.
const WORKLOADS: usize = 8_192;

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3))
        .configure_from_args();
    // First, while the process has nothing else in its memory.
    memory_of(10_000);
    decisions(&mut criterion);
    loading(&mut criterion);
    criterion.final_summary();
}

fn decisions(criterion: &mut Criterion) {
    for policies in SIZES {
        let pipeline = Pipeline::with(policies);
        let folder = pipeline.written();
        let generation = PolicyGeneration::load(&folder.source(), 1).expect("loads");
        let principal = generation.principal(&pipeline::workload(0));
        let naive = (policies <= 1_000).then(|| Naive::of(&pipeline));
        for kind in Question::KINDS {
            let allowed = kind.asked(0);
            let decision = generation.decide(&principal, &allowed.operation, &allowed.facts);
            assert!(decision.outcome.is_allowed(), "{kind:?}: {decision:?}");

            let mut group = criterion.benchmark_group(format!("cold/{}", kind.name()));
            // One round over all samples: what an earlier one asked would be remembered.
            let fresh: Vec<_> = (0..WORKLOADS).map(|n| generation.principal(&pipeline::replica(n))).collect();
            let mut next = fresh.iter().cycle();
            group.bench_function(BenchmarkId::new("portcullis", policies), |b| {
                b.iter(|| {
                    let principal = next.next().expect("a cycle has no end");
                    black_box(generation.decide(principal, &allowed.operation, &allowed.facts))
                });
            });
            if let Some(naive) = &naive {
                assert!(naive.decide(0, &allowed), "{kind:?}");
                group.bench_function(BenchmarkId::new("plain-cedar", policies), |b| {
                    b.iter(|| black_box(naive.decide(0, &allowed)));
                });
            }
            group.finish();

            let mut group = criterion.benchmark_group(format!("repeated/{}", kind.name()));
            group.bench_function(BenchmarkId::new("portcullis", policies), |b| {
                b.iter(|| black_box(generation.decide(&principal, &allowed.operation, &allowed.facts)));
            });
            group.finish();

            let mut group = criterion.benchmark_group(format!("other-key/{}", kind.name()));
            group.bench_function(BenchmarkId::new("portcullis", policies), |b| {
                let others: Vec<_> = (0..10_000).map(|n| kind.asked(n)).collect();
                let mut next = others.iter().cycle();
                b.iter(|| {
                    let asked = next.next().expect("a cycle has no end");
                    black_box(generation.decide(&principal, &asked.operation, &asked.facts))
                });
            });
            group.finish();
        }
    }
}

fn loading(criterion: &mut Criterion) {
    let folder = Pipeline::with(10_000).written();
    let mut group = criterion.benchmark_group("load");
    group.sample_size(10);
    group.bench_function(BenchmarkId::new("portcullis", 10_000), |b| {
        b.iter(|| black_box(PolicyGeneration::load(&folder.source(), 1).expect("loads")));
    });
    group.finish();
}

/// Prints what the process holds more once so many policies are in force, and what it held at most while they were loaded.
fn memory_of(policies: usize) {
    let folder = Pipeline::with(policies).written();
    let before = resident("VmRSS:");
    let began = Instant::now();
    let generation = PolicyGeneration::load(&folder.source(), 1).expect("loads");
    let took = began.elapsed();
    println!(
        "loading {policies} policies: {took:.2?}; resident {:.1} MiB before, {:.1} MiB more with them, {:.1} MiB more at most",
        before,
        resident("VmRSS:") - before,
        resident("VmHWM:") - before,
    );
    drop(black_box(generation));
}

/// In MiB.
fn resident(field: &str) -> f64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("a field of /proc/self/status");
    line.trim().trim_end_matches(" kB").parse::<f64>().expect("a number") / 1024.0
}
