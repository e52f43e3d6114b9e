//! From the text of a file to a [`Config`], every problem collected on the way.

use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Duration;

use thiserror::Error;
use tracing_subscriber::EnvFilter;

use super::errors::{Advice, ConfigErrors, Finding, Report, errors};
use super::file::{
    AdminKeys, AuditKeys, AuditSinkKey, ConfigFile, DurationKey, HealthKeys, KeyPath, LogKeys, Node, Value, conform,
    conform_override, nearest, read,
};
use super::identity::identity;
use super::listener::{Inherited, limits, listener};
use super::policy::policy;
use super::reading::Reading;
use super::{
    AdminConfig, AuditConfig, AuditSinkConfig, Config, HealthConfig, Limits, ListenerConfig, LogConfig, LogFormat,
    OnAuditFailure, TlsVersion, address, duration,
};

/// What flags and environment variables say in place of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--workers`.
    pub workers: Option<NonZeroUsize>,
    /// `--log-format`.
    pub log_format: Option<LogFormat>,
    /// `--log-filter`.
    pub log_filter: Option<String>,
    /// `--shutdown-timeout`.
    pub shutdown_timeout: Option<Duration>,
    /// `--reload-interval`.
    pub reload_interval: Option<Duration>,
    /// `SPIFFE_ENDPOINT_SOCKET`: where the Workload API is if the file does not say it.
    pub spiffe_endpoint_socket: Option<String>,
    /// `--connect-timeout`: for every listener.
    pub connect_timeout: Option<Duration>,
}

impl Config {
    /// Reads the file at `path`. Relative paths in it start at its folder.
    ///
    /// # Errors
    /// All problems of the file and of `overrides`.
    pub fn load(path: &Path, overrides: &Overrides) -> Result<Self, ConfigErrors> {
        let name = path.display().to_string();
        let unreadable = |message: String, help: &str| {
            errors(&name, "", vec![Finding::placeless("", message).help(help.to_owned())])
        };
        let bytes = std::fs::read(path).map_err(|error| {
            unreadable(format!("cannot read the configuration: {error}"), "name the file by `--config FILE`")
        })?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let line = error.as_bytes().iter().take(error.utf8_error().valid_up_to()).filter(|b| **b == b'\n').count();
            unreadable(format!("line {} is not UTF-8 text", line + 1), "save the file as UTF-8")
        })?;
        Self::parse(&text, &name, overrides)
    }

    /// Reads the text of a file. Relative paths in it start at the folder of `file_name`, which messages name too.
    ///
    /// # Errors
    /// All problems of the text and of `overrides`.
    pub fn parse(text: &str, file_name: &str, overrides: &Overrides) -> Result<Self, ConfigErrors> {
        let (tree, mut findings) = read(text);
        findings.extend(overrides.findings());
        let Some(tree) = tree else {
            if findings.is_empty() {
                let help = "name at least `identity`, `policy` and a listener; docs/configuration.md has examples";
                findings.push(Finding::placeless("", "the file is empty").help(help.to_owned()));
            }
            return Err(errors(file_name, text, findings));
        };
        let (kept, wrong) = conform(text, &tree);
        findings.extend(wrong);
        let file: ConfigFile = match serde_json::from_value(kept) {
            Ok(file) => file,
            // The schema and the types are made from the same source, so this is only the last line of defence.
            Err(error) => {
                findings.push(Finding::placeless("", format!("the file does not fit: {error}")));
                return Err(errors(file_name, text, findings));
            }
        };
        let mut reading = Reading::new(Report::new(text, &tree, findings), Path::new(file_name));
        let config = config(&mut reading, file, overrides);
        let mut findings = reading.report.findings;
        match config {
            Some(mut config) if findings.is_empty() => {
                config.unsafe_options = unsafe_options(&tree);
                Ok(config)
            }
            // What is wrong has been said where it was found. A fault of ours must not look like a file without problems.
            None if findings.is_empty() => {
                findings.push(Finding::placeless("", NOTHING_SAID));
                Err(errors(file_name, text, findings))
            }
            _ => Err(errors(file_name, text, findings)),
        }
    }
}

/// A test holds that this is never said.
const NOTHING_SAID: &str = "the file cannot be used, and portcullis does not know why: please report it";

impl Overrides {
    /// What is out of the range that the file's key has.
    fn findings(&self) -> Vec<Finding> {
        let length = |value: Duration| Value::Text(duration::format(value));
        let workers = self.workers.map(|value| Value::Int(i128::try_from(value.get()).unwrap_or(i128::MAX)));
        [
            ("--workers", "workers", workers),
            ("--shutdown-timeout", "shutdown_timeout", self.shutdown_timeout.map(length)),
            ("--reload-interval", "reload_interval", self.reload_interval.map(length)),
            ("--connect-timeout", "connect_timeout", self.connect_timeout.map(length)),
        ]
        .into_iter()
        .filter_map(|(flag, key, value)| conform_override(flag, key, value?))
        .chain(self.log_filter.iter().filter_map(|text| {
            let error = check_filter(text).err()?;
            Some(Finding::placeless("--log-filter", error.to_string()).help(error.advice()))
        }))
        .collect()
    }
}

fn config(reading: &mut Reading<'_>, file: ConfigFile, overrides: &Overrides) -> Option<Config> {
    let root = KeyPath::root();
    let identity = file
        .identity
        .and_then(|keys| identity(reading, &root.key("identity"), keys, overrides.spiffe_endpoint_socket.as_deref()));
    let policy = file.policy.and_then(|keys| policy(reading, &root.key("policy"), keys));
    let limits = limits(reading, &root.key("limits"), file.limits.as_ref(), &Limits::default());
    let inherited = Inherited {
        names_idle_timeout: file.limits.as_ref().is_some_and(|limits| limits.idle_timeout.is_some()),
        sql: file.audit.as_ref().and_then(|audit| audit.sql).unwrap_or_default(),
        limits: limits.unwrap_or_default(),
        tls_min_version: file.tls.and_then(|tls| tls.min_version).unwrap_or(TlsVersion::V1_3),
    };
    if file.inbound.is_empty() && file.outbound.is_empty() && reading.report.findings.is_empty() {
        reading.refuse::<()>(&root, FileError::NoListener);
    }
    let mut listeners: Vec<Option<ListenerConfig>> = Vec::new();
    for (index, keys) in file.inbound.into_iter().enumerate() {
        listeners.push(listener(reading, &root.key("inbound").index(index), keys, &inherited));
    }
    for (index, keys) in file.outbound.into_iter().enumerate() {
        listeners.push(listener(reading, &root.key("outbound").index(index), keys, &inherited));
    }
    let mut listeners: Option<Vec<ListenerConfig>> = listeners.into_iter().collect();
    for listener in listeners.iter_mut().flatten() {
        listener.limits.connect_timeout = overrides.connect_timeout.unwrap_or(listener.limits.connect_timeout);
    }
    let health = file.health.map(|keys| health(reading, &root.key("health"), &keys));
    let admin = file.admin.map_or(Some(AdminConfig::default()), |keys| admin(reading, &root.key("admin"), &keys));
    let audit = audit(reading, &root.key("audit"), file.audit.unwrap_or_default());
    let log = log(reading, &root.key("log"), file.log.unwrap_or_default(), overrides);
    let length = |file: Option<DurationKey>, default: Duration| file.map_or(default, |key| key.0);
    let shutdown_timeout = overrides.shutdown_timeout.unwrap_or(length(file.shutdown_timeout, SHUTDOWN_TIMEOUT));
    let reload_interval = overrides.reload_interval.unwrap_or(length(file.reload_interval, RELOAD_INTERVAL));
    Some(Config {
        identity: identity?,
        policy: policy?,
        listeners: listeners?,
        health: health.map_or(Some(None), |health| health.map(Some))?,
        admin: admin?,
        audit: audit?,
        log: log?,
        workers: overrides.workers.or(file.workers.and_then(NonZeroUsize::new)).unwrap_or(NonZeroUsize::MIN),
        shutdown_timeout,
        reload_interval,
        unsafe_options: Vec::new(),
    })
}

/// A third of the 30 s that Kubernetes grants: a sidecar is told last, when the app has used up some of them.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);
/// A rotation is to be in force within about a second.
const RELOAD_INTERVAL: Duration = Duration::from_secs(1);

fn health(reading: &mut Reading<'_>, at: &KeyPath, keys: &HealthKeys) -> Option<HealthConfig> {
    let listen = reading.address(&at.key("listen"), keys.listen.as_deref()?)?;
    Some(HealthConfig { listen, metrics: keys.metrics.unwrap_or(true) })
}

fn admin(reading: &mut Reading<'_>, at: &KeyPath, keys: &AdminKeys) -> Option<AdminConfig> {
    if keys.listen.is_none() && keys.socket.is_none() && reading.report.findings.is_empty() {
        return reading.refuse(at, FileError::EmptyAdmin);
    }
    let path = at.key("listen");
    let listen = keys.listen.as_deref().map(|text| {
        let address = reading.address(&path, text)?;
        match address::is_loopback(address.ip()) {
            true => Some(address),
            false => reading.refuse(&path, FileError::AdminOffLoopback { address }),
        }
    });
    let socket = keys.socket.as_deref().map(|text| reading.socket(&at.key("socket"), text));
    Some(AdminConfig {
        listen: listen.map_or(Some(None), |listen| listen.map(Some))?,
        socket: socket.map_or(Some(None), |socket| socket.map(Some))?,
    })
}

fn audit(reading: &mut Reading<'_>, at: &KeyPath, keys: AuditKeys) -> Option<AuditConfig> {
    let sink = match (keys.sink.unwrap_or(AuditSinkKey::Stdout), keys.path) {
        (AuditSinkKey::Stdout, None) => Some(AuditSinkConfig::Stdout),
        (AuditSinkKey::Stdout, Some(_)) => reading.refuse(&at.key("path"), FileError::PathWithoutFile),
        (AuditSinkKey::File, Some(path)) => Some(AuditSinkConfig::File(reading.path(&path))),
        (AuditSinkKey::File, None) => reading.refuse(&at.key("sink"), FileError::FileWithoutPath),
    };
    Some(AuditConfig {
        sink: sink?,
        on_failure: keys.unsafe_on_failure.unwrap_or(OnAuditFailure::Refuse),
        sample_allowed: keys.sample_allowed.unwrap_or(1.0),
    })
}

fn log(reading: &mut Reading<'_>, at: &KeyPath, keys: LogKeys, overrides: &Overrides) -> Option<LogConfig> {
    if let Some(text) = &keys.filter {
        reading.report.check(&at.key("filter"), check_filter(text));
    }
    Some(LogConfig {
        format: overrides.log_format.or(keys.format).unwrap_or(LogFormat::Json),
        filter: overrides.log_filter.clone().or(keys.filter).unwrap_or_else(|| "info".into()),
    })
}

fn check_filter(text: &str) -> Result<(), FileError> {
    const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];
    let refused = |reason: String, near| FileError::Filter { text: text.into(), reason, near };
    for directive in text.split(',').map(str::trim) {
        // A bare word that is no level names a module, so `inof` would be taken, and nothing be logged.
        let is_word = !directive.is_empty() && directive.chars().all(|c| c.is_ascii_alphabetic());
        if is_word && !LEVELS.contains(&directive.to_ascii_lowercase().as_str()) {
            let near = nearest(directive, LEVELS).map(str::to_owned);
            if near.is_some() {
                return Err(refused(format!("`{directive}` is not a level"), near));
            }
        }
    }
    EnvFilter::builder().parse(text).map(|_| ()).map_err(|error| refused(error.to_string(), None))
}

/// The key paths of the `unsafe_…` options that are switched on.
fn unsafe_options(tree: &Node) -> Vec<String> {
    let mut options = Vec::new();
    tree.each_key(&KeyPath::root(), &mut |path, node| {
        let is_off = match &node.value {
            Value::Bool(on) => !on,
            Value::Text(text) => text == "refuse" || duration::parse(text).is_ok_and(|length| length.is_zero()),
            _ => false,
        };
        if path.last_key().is_some_and(|key| key.starts_with("unsafe_")) && !is_off {
            options.push(path.to_string());
        }
    });
    options
}

/// What is wrong outside the listeners.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
enum FileError {
    #[error("the file has no listener")]
    NoListener,
    #[error("`admin` has neither `listen` nor `socket`")]
    EmptyAdmin,
    #[error("`{address}` is not on loopback: who reaches it can stop this sidecar")]
    AdminOffLoopback { address: std::net::SocketAddr },
    #[error("`path` has no effect without `sink: file`")]
    PathWithoutFile,
    #[error("`sink: file` has no `path`")]
    FileWithoutPath,
    #[error("`{text}` is not a log filter: {reason}")]
    Filter { text: String, reason: String, near: Option<String> },
}

impl Advice for FileError {
    fn advice(&self) -> Option<String> {
        Some(match self {
            Self::NoListener => "add an entry to `inbound` or `outbound`".into(),
            Self::EmptyAdmin => "name one of the two, or remove `admin`".into(),
            Self::AdminOffLoopback { address } => {
                format!(
                    "write `{}`; what kubelet and Prometheus need is under `health`",
                    address::on_loopback(*address)
                )
            }
            Self::PathWithoutFile => "add `sink: file`, or remove `path`".into(),
            Self::FileWithoutPath => "add for example `path: /var/log/portcullis/audit.jsonl`".into(),
            Self::Filter { near: Some(near), .. } => format!("did you mean `{near}`?"),
            Self::Filter { .. } => {
                "write a level (`info`), or levels per module (`info,portcullis::policy=debug`)".into()
            }
        })
    }
}
