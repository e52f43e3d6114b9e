//! `portcullis doctor`: handshakes, rotation, trust, policies and sockets, one line each, with what to do.
//!
//! It looks and never touches: no signal, no socket taken over, no file written but one in the audit folder that is gone again.

mod clock;
mod files;
mod identity;
mod peer;
mod report;
mod running;
mod sockets;
mod trust;
mod upstream;

use std::fs::OpenOptions;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::{Args, ValueEnum};

use super::overrides::ConfigArgs;
use super::{FAILURE, colour};
use crate::app::policies_fetched;
use crate::app::tokens::{KEYLESS, keyless};
use crate::config::{AuditSinkConfig, Config, IdentitySourceConfig, duration};
use crate::policy::PolicyGeneration;
use clock::Clock;
use report::Report;

/// Options of `portcullis doctor`.
#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// How to report
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    /// How long each step over the network may take: `5s`
    #[arg(long, value_name = "DURATION", env = "PORTCULLIS_DOCTOR_TIMEOUT", hide_env_values = true, default_value = "5s", value_parser = duration::parse)]
    timeout: Duration,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people
    #[default]
    Text,
    /// One JSON document
    Json,
}

/// Looks at everything, and ends with 0 if nothing fails, else with 1.
pub(super) fn run(arguments: &DoctorArgs) -> ExitCode {
    let mut report = Report::new(arguments.output == Output::Json);
    let path = &arguments.config.config;
    match Config::load(path, &arguments.config.overrides()) {
        Ok(config) => look(&mut report, &config, arguments.timeout),
        Err(errors) => {
            eprint!("{}", errors.render(colour()));
            report.bad(
                "configuration",
                format!("{} cannot be used", path.display()),
                "correct what is said of each line",
            );
        }
    }
    if report.finish() { ExitCode::SUCCESS } else { ExitCode::from(FAILURE) }
}

fn look(report: &mut Report, config: &Config, limit: Duration) {
    let now = SystemTime::now();
    let mut clock = Clock::new(now);
    report.good("configuration", count(config.listeners.len(), "listener"));
    for option in &config.unsafe_options {
        report.note(
            "configuration",
            format!("`{option}` takes a protection away"),
            "leave it out where it can be spared",
        );
    }
    let own = identity::identity(report, config, limit, now);
    if let Some(own) = &own {
        clock.saw("our own certificate", own.svid.not_before());
        trust::trust(report, &own.bundles, config.identity.crl.on_expired, now);
        // The Workload API sends keys for tokens by themselves, later than we have looked.
        if matches!(config.identity.source, IdentitySourceConfig::Files { .. }) {
            for trust_domain in keyless(config, &own.bundles) {
                report.warn("tokens", format!("{trust_domain}: {}", KEYLESS.0), KEYLESS.1);
            }
        }
    }
    policy(report, config, limit);
    audit(report, config);
    sockets::sockets(report, config);
    running::running(report, config, own.as_deref(), limit);
    upstream::upstreams(report, &mut clock, config, own.as_deref(), limit);
    clock.tell(report);
}

fn policy(report: &mut Report, config: &Config, limit: Duration) {
    let source = match policies_fetched(config, limit) {
        Ok(source) => source,
        Err(error) => {
            let advice = "docs/policy-bundles.md says how bundles are made, signed and served";
            return report.bad("policy", format!("{}: {error}", error.rule()), advice);
        }
    };
    let folder = match &source.bundle {
        Some(bundle) => format!("bundle `{}` of `policy.url`", bundle.manifest()),
        None => source.directory.display().to_string(),
    };
    match PolicyGeneration::load(&source, 1) {
        Ok(policies) => {
            report.good("policy", format!("{folder}: {} loaded, digest {}", policies.len(), policies.digest()));
            for warning in policies.warnings() {
                report.warn("policy", warning.line(), warning.advice().unwrap_or_default());
            }
        }
        Err(errors) => {
            let first = errors.problems().first().map(crate::policy::PolicyProblem::line).unwrap_or_default();
            let advice = "`portcullis policy validate` shows each place, with what to write";
            report.bad(
                "policy",
                format!("{folder}: {}, the first: {first}", count(errors.problems().len(), "problem")),
                advice,
            );
        }
    }
}

fn count(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

/// Whether a record could be written, without writing one.
fn audit(report: &mut Report, config: &Config) {
    let AuditSinkConfig::File(path) = &config.audit.sink else {
        return report.good("audit", "standard output");
    };
    let opened = if path.exists() {
        OpenOptions::new().append(true).open(path).map(|_| ())
    } else {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or_else(|| std::path::Path::new("."));
        tempfile::Builder::new().prefix(".portcullis-doctor").tempfile_in(folder).map(|_| ())
    };
    match opened {
        Ok(()) => report.good("audit", format!("{}: can be written", path.display())),
        Err(error) => {
            let advice = "let this user write it; until then every request is refused (`audit.on_failure`)";
            report.bad("audit", format!("{}: {error}", path.display()), advice);
        }
    }
}
