//! The sidecar that runs already, if one does: asked, never told.

use std::time::Duration;

use serde_json::Value;

use super::report::Report;
use crate::admin::{ProbeError, ProbeTarget, probe_ready, read_from};
use crate::cli::rules::advice;
use crate::config::Config;
use crate::identity::X509Generation;

/// Asks it whether it is ready, what it could not reload, and whether it serves the SVID that is in our source.
pub(super) fn running(report: &mut Report, config: &Config, own: Option<&X509Generation>, limit: Duration) {
    let Some(target) = ProbeTarget::of(config.health.as_ref(), &config.admin) else {
        let advice = "name `health.listen` or `admin.socket` with a fixed port, for probes as well";
        return report.note(
            "sidecar",
            "whether one runs cannot be asked: there is no health and no admin endpoint",
            advice,
        );
    };
    match probe_ready(&target, limit) {
        Ok(()) => report.good("sidecar", format!("runs and is ready, says {target}")),
        Err(error @ ProbeError::NotReady { .. }) => report.bad("sidecar", error.to_string(), "see the lines above"),
        Err(ProbeError::Unreachable { source, .. }) => {
            let advice = "start it: `portcullis run`; every line here holds for that as well";
            return report.note("sidecar", format!("none runs: {target}: {source}"), advice);
        }
        Err(error @ ProbeError::Foreign { .. }) => {
            return report.bad(
                "sidecar",
                error.to_string(),
                "end what listens there, or let the sidecar listen elsewhere",
            );
        }
    }
    // The health listener does not tell it.
    let Ok(status) = read_from(&target, "/status", limit) else { return };
    let status: Value = serde_json::from_str(&status).unwrap_or_default();
    let parts = status.pointer("/identity/parts").and_then(Value::as_array);
    parts.into_iter().flatten().for_each(|part| source(report, part));
    if let Some(error) = text(&status, "policy", "last_error") {
        let advice = "correct it: it is looked at again every `reload_interval`, and at once on SIGHUP";
        report.bad("sidecar", format!("keeps its last good policies: {error}"), advice);
    }
    if let Some(failure) = text(&status, "audit", "failure") {
        report.bad(
            "sidecar",
            format!("cannot write records: {failure}"),
            "make room, or correct the owner of the file",
        );
    }
    if let (Some(own), Some(serves)) = (own, text(&status, "identity", "serial"))
        && own.svid.serial() != serves
    {
        let message = format!("serves the SVID {serves}, the source has {}", own.svid.serial());
        report.warn("sidecar", message, "it takes the new one within `reload_interval`: run the doctor again");
    }
}

/// How a source of its identity fares: files, Workload API, a bundle endpoint.
fn source(report: &mut Report, part: &Value) {
    let word = |pointer: &str| part.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let name = word("/part");
    if part.pointer("/last_error/standing").and_then(Value::as_bool) == Some(true) {
        let (rule, since) = (word("/last_error/rule"), word("/last_error/since"));
        let message = format!("{name}: `{rule}` since {since}: {}", word("/last_error/message"));
        return report.bad("sidecar", message, advice(rule));
    }
    match word("/last_success") {
        "" => report.note("sidecar", format!("{name}: nothing yet"), "see the lines above"),
        last => report.good("sidecar", format!("{name}: well, heard of last at {last}")),
    }
}

fn text<'a>(status: &'a Value, part: &str, key: &str) -> Option<&'a str> {
    status.get(part)?.get(key)?.as_str()
}
