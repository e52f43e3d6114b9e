//! The process itself, as every Prometheus client library shows it.
//!
//! # Source
//! <https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics>; proc(5).

use std::fmt::Write;
use std::fs;
use std::time::SystemTime;

use super::catalogue::{CATALOGUE, PROCESS_CPU, PROCESS_FDS, PROCESS_MAX_FDS, PROCESS_RSS, PROCESS_START};
use super::metrics::timestamp;

/// proc(5) counts in clock ticks; Linux shows 100 of them a second to user space whatever the kernel's own rate.
const TICKS_A_SECOND: f64 = 100.0;

/// Adds what /proc tells; a value that cannot be read is left out.
pub(super) fn render(text: &mut String, started: SystemTime) {
    let values = [
        (PROCESS_RSS, resident_bytes()),
        (PROCESS_CPU, cpu_seconds()),
        (PROCESS_FDS, open_fds()),
        (PROCESS_MAX_FDS, max_fds()),
        (PROCESS_START, Some(timestamp(started))),
    ];
    for (name, value) in values {
        if let Some(value) = value {
            sample(text, name, "", value);
        }
    }
}

/// Writes HELP, TYPE and the one value of a metric. `labels` is empty or `{…}`, escaped.
pub(super) fn sample(text: &mut String, name: &str, labels: &str, value: f64) {
    let Some(metric) = CATALOGUE.iter().find(|metric| metric.name == name) else { return };
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        "# HELP {name} {}\n# TYPE {name} {}\n{name}{labels} {value}\n\n",
        metric.help,
        metric.kind.as_str()
    );
}

fn resident_bytes() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: f64 = kib.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024.0)
}

fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the program's name in parentheses and may hold anything; utime and stime are fields 14 and 15.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_A_SECOND)
}

fn open_fds() -> Option<f64> {
    // Reading the folder opens one more.
    let count = fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1);
    u32::try_from(count).ok().map(f64::from)
}

fn max_fds() -> Option<f64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let soft = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    soft.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_knows_its_memory_cpu_and_descriptors() {
        assert!(resident_bytes().unwrap() > 1e6);
        assert!(cpu_seconds().unwrap() >= 0.0);
        assert!(open_fds().unwrap() >= 3.0);
        assert!(max_fds().unwrap() >= open_fds().unwrap());
    }
}
