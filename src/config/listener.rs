//! A listener of the file becomes one of the [`Config`](super::Config).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use thiserror::Error;

use super::ends::Ends;
use super::errors::Advice;
use super::file::{KeyPath, LimitKeys, ListenerKeys, ProtocolKey};
use super::reading::Reading;
use super::token::token;
use super::upstream::{parse_host, parse_known_host};
use super::{
    HttpConfig, Limits, ListenerConfig, PostgresConfig, ProtocolConfig, S3Config, SqlInRecords, TlsVersion, address,
};

/// What a listener inherits from the file's top level.
#[derive(Debug, Clone)]
pub(super) struct Inherited {
    pub(super) limits: Limits,
    pub(super) tls_min_version: TlsVersion,
    /// Whether the file's `limits` say how long a connection may be idle; if not, protocols differ.
    pub(super) names_idle_timeout: bool,
    pub(super) sql: SqlInRecords,
}

/// Reads one entry of `inbound` or `outbound`; none if something about it is wrong, which is then reported.
pub(super) fn listener<D: Ends>(
    reading: &mut Reading<'_>,
    at: &KeyPath,
    keys: ListenerKeys<D>,
    inherited: &Inherited,
) -> Option<ListenerConfig> {
    let protocol = protocol(reading, at, &keys, inherited.sql);
    let name = keys.name.and_then(|name| reading.listener_name(D::DIRECTION, &at.key("name"), name));
    let mut inherits = inherited.limits.clone();
    if let Some(idle) = keys.protocol.and_then(idle_timeout).filter(|_| !inherited.names_idle_timeout) {
        inherits.idle_timeout = idle;
    }
    let limits = limits(reading, &at.key("limits"), keys.limits.as_ref(), &inherits);
    let ends = keys.direction.ends(reading, at, keys.protocol);
    let mut upstreams = ends.upstreams?.into_iter();
    Some(ListenerConfig {
        direction: D::DIRECTION,
        name: Arc::from(name?),
        listen: ends.listen?,
        protocol: protocol?,
        upstream: upstreams.next()?,
        further_upstreams: upstreams.collect(),
        peer: ends.peer?,
        tls_min_version: keys.tls.and_then(|tls| tls.min_version).unwrap_or(inherited.tls_min_version),
        limits: limits?,
    })
}

/// How long a connection that does not speak HTTP may be idle, if the file does not say.
const fn idle_timeout(protocol: ProtocolKey) -> Option<Duration> {
    match protocol {
        ProtocolKey::Http | ProtocolKey::S3 => None,
        // What is relayed may have pauses, but should not be held for ever after a peer that vanished.
        ProtocolKey::Tcp => Some(Duration::from_secs(3_600)),
        // Sessions stand in pools, and a statement may take hours: only what nobody misses is closed.
        ProtocolKey::Postgres => Some(Duration::from_secs(24 * 3_600)),
    }
}

/// The protocol with its options, and no options of another.
fn protocol<D: Ends>(
    reading: &mut Reading<'_>,
    at: &KeyPath,
    keys: &ListenerKeys<D>,
    sql: SqlInRecords,
) -> Option<ProtocolConfig> {
    const HTTP: &[ProtocolKey] = &[ProtocolKey::Http];
    const S3: &[ProtocolKey] = &[ProtocolKey::S3];
    let speaks = keys.protocol?;
    let own = [
        ("hosts", &[ProtocolKey::Http, ProtocolKey::S3] as &[ProtocolKey], keys.hosts.is_some()),
        ("host_suffixes", S3, keys.host_suffixes.is_some()),
        ("unsafe_allow_dot_segments", S3, keys.unsafe_allow_dot_segments.is_some()),
        ("merge_slashes", HTTP, keys.merge_slashes.is_some()),
        ("unsafe_allow_override_headers", HTTP, keys.unsafe_allow_override_headers.is_some()),
        ("token", &[ProtocolKey::Http, ProtocolKey::S3], keys.token.is_some()),
        ("lifetime", &[ProtocolKey::Tcp], keys.database.lifetime.is_some()),
        ("authentication_timeout", &[ProtocolKey::Postgres], keys.database.authentication_timeout.is_some()),
    ];
    let of_direction = keys.direction.keys_of_protocols();
    for (key, of, is_set) in own.into_iter().chain(of_direction) {
        if is_set && !of.contains(&speaks) {
            let error = ListenerError::KeyOfOther { key, of: listed(of), speaks: speaks.as_str() };
            reading.report.key(&at.key(key), error.to_string(), error.advice());
        }
    }
    let hosts = each(reading, &at.key("hosts"), keys.hosts.as_deref(), parse_known_host);
    let token = token(reading, &at.key("token"), keys.token.as_ref(), speaks);
    match speaks {
        ProtocolKey::Http => {
            let path = at.key("unsafe_allow_override_headers");
            let headers = each(reading, &path, keys.unsafe_allow_override_headers.as_deref(), parse_header);
            Some(ProtocolConfig::Http(HttpConfig {
                hosts: hosts?,
                merge_slashes: keys.merge_slashes.unwrap_or(false),
                unsafe_allow_override_headers: headers?,
                token: token?,
            }))
        }
        ProtocolKey::S3 => {
            let path = at.key("host_suffixes");
            let suffixes = each(reading, &path, keys.host_suffixes.as_deref(), parse_suffix);
            let suffixes = suffixes.and_then(|suffixes| apart(reading, &path, suffixes));
            Some(ProtocolConfig::S3(S3Config {
                hosts: hosts?,
                host_suffixes: suffixes?,
                unsafe_allow_dot_segments: keys.unsafe_allow_dot_segments.unwrap_or(false),
                token: token?,
            }))
        }
        ProtocolKey::Tcp => keys.direction.tcp(reading, at, &keys.database).map(ProtocolConfig::Tcp),
        ProtocolKey::Postgres => {
            let config = keys.direction.postgres(reading, at, &keys.database)?;
            Some(ProtocolConfig::Postgres(Box::new(PostgresConfig { sql, ..config })))
        }
    }
}

fn listed(protocols: &[ProtocolKey]) -> String {
    protocols.iter().map(|protocol| format!("`protocol: {}`", protocol.as_str())).collect::<Vec<_>>().join(" or ")
}

/// Reads each text of a list; none if one of them is wrong.
pub(super) fn each<T, E: Advice>(
    reading: &mut Reading<'_>,
    path: &KeyPath,
    texts: Option<&[String]>,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Option<Vec<T>> {
    let texts = texts.unwrap_or_default().iter().enumerate();
    let read: Vec<Option<T>> =
        texts.map(|(index, text)| reading.report.check(&path.index(index), parse(text))).collect();
    read.into_iter().collect()
}

/// Suffixes of which none lies below another: `b.s3.example` would be bucket `b` below one and `b.s3` below the other.
fn apart(reading: &mut Reading<'_>, path: &KeyPath, suffixes: Vec<String>) -> Option<Vec<String>> {
    let below = |suffix: &str, above: &str| suffix.strip_suffix(above).is_some_and(|rest| rest.ends_with('.'));
    let overlap = suffixes.iter().enumerate().find_map(|(index, suffix)| {
        let above = suffixes.iter().find(|above| below(suffix, above))?;
        Some((index, ListenerError::SuffixBelow { suffix: suffix.clone(), above: above.clone() }))
    });
    match overlap {
        Some((index, error)) => reading.refuse(&path.index(index), error),
        None => Some(suffixes),
    }
}

fn parse_suffix(text: &str) -> Result<String, ListenerError> {
    let bare = text.strip_prefix("*.").or_else(|| text.strip_prefix('.'));
    if let Some(bare) = bare {
        return Err(ListenerError::SuffixDot { text: text.into(), bare: bare.into() });
    }
    let error = |reason: String| ListenerError::Suffix { text: text.into(), reason };
    let suffix = parse_host(text).map_err(|reason| error(reason.to_string()))?;
    if suffix.parse::<IpAddr>().is_ok() {
        return Err(error("it is an IP address".into()));
    }
    Ok(suffix.trim_end_matches('.').into())
}

fn parse_header(text: &str) -> Result<HeaderName, ListenerError> {
    HeaderName::try_from(text).map_err(|_| ListenerError::Header { text: text.into() })
}

pub(super) fn parse_mode(text: &str) -> Result<u32, ListenerError> {
    let digits = text.strip_prefix('0').filter(|rest| rest.len() == 3).unwrap_or(text);
    let mode = u32::from_str_radix(digits, 8).ok().filter(|_| digits.len() == 3 && !digits.starts_with('+'));
    mode.ok_or_else(|| ListenerError::Mode { text: text.into() })
}

/// `limits`, each key over what is inherited.
pub(super) fn limits(
    reading: &mut Reading<'_>,
    path: &KeyPath,
    keys: Option<&LimitKeys>,
    inherited: &Limits,
) -> Option<Limits> {
    let Some(keys) = keys else { return Some(inherited.clone()) };
    let limits = keys.over(inherited);
    if limits.uri_bytes >= limits.header_bytes {
        let (uri_bytes, header_bytes) = (limits.uri_bytes, limits.header_bytes);
        let key = if keys.uri_bytes.is_some() { "uri_bytes" } else { "header_bytes" };
        return reading.refuse(&path.key(key), ListenerError::UriOverHeader { uri_bytes, header_bytes });
    }
    Some(limits)
}

impl LimitKeys {
    fn over(&self, inherited: &Limits) -> Limits {
        Limits {
            header_bytes: self.header_bytes.unwrap_or(inherited.header_bytes),
            header_count: self.header_count.unwrap_or(inherited.header_count),
            uri_bytes: self.uri_bytes.unwrap_or(inherited.uri_bytes),
            concurrent_streams: self.concurrent_streams.unwrap_or(inherited.concurrent_streams),
            connections: self.connections.unwrap_or(inherited.connections),
            connections_per_workload: self.connections_per_workload.unwrap_or(inherited.connections_per_workload),
            handshake_timeout: self.handshake_timeout.map_or(inherited.handshake_timeout, |d| d.0),
            header_read_timeout: self.header_read_timeout.map_or(inherited.header_read_timeout, |d| d.0),
            idle_timeout: self.idle_timeout.map_or(inherited.idle_timeout, |d| d.0),
            connect_timeout: self.connect_timeout.map_or(inherited.connect_timeout, |d| d.0),
            request_timeout: self.request_timeout.map_or(inherited.request_timeout, |d| d.0),
            grace: self.grace.map_or(inherited.grace, |d| d.0),
            connection_age: self.connection_age.map(|d| d.0).or(inherited.connection_age),
            unsafe_outlive_certificate: self
                .unsafe_outlive_certificate
                .map_or(inherited.unsafe_outlive_certificate, |d| d.0),
            judged_body_bytes: self.judged_body_bytes.unwrap_or(inherited.judged_body_bytes),
            control_frames_per_second: self.control_frames_per_second.unwrap_or(inherited.control_frames_per_second),
        }
    }
}

/// What is wrong about a listener as such.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum ListenerError {
    #[error("`{key}` is for {of}, this listener speaks `{speaks}`")]
    KeyOfOther { key: &'static str, of: String, speaks: &'static str },
    #[error("several upstreams are for `protocol: tcp` and `protocol: postgres`")]
    SeveralUpstreams,
    #[error("an inbound listener takes connections from other machines, a Unix socket cannot")]
    InboundSocket,
    #[error("`{key}` is for Unix sockets, this listener has an IP address")]
    SocketKey { key: &'static str },
    #[error("`{address}` is not on loopback: whoever reaches it would act as this workload")]
    ListenOffLoopback { address: SocketAddr },
    #[error("`{host}` is not on loopback: what was permitted would cross the network in plain")]
    UpstreamOffLoopback { host: String, is_postgres: bool },
    #[error("TLS is not spoken on a Unix socket")]
    TlsOnSocket,
    #[error("the upstream is this listener itself")]
    UpstreamIsListener,
    #[error("trust domain `{trust_domain}` has no bundle: nobody from there can be verified")]
    NoBundle { trust_domain: String, near: Option<String> },
    #[error("`{text}` is not a mode, which has three octal digits")]
    Mode { text: String },
    #[error("`{text}` is not a header name")]
    Header { text: String },
    #[error("`{text}` is not a host suffix: {reason}")]
    Suffix { text: String, reason: String },
    #[error("host suffix `{text}` begins with a dot or a wildcard")]
    SuffixDot { text: String, bare: String },
    #[error("host suffix `{suffix}` lies below `{above}`: one Host would name two buckets")]
    SuffixBelow { suffix: String, above: String },
    #[error("`uri_bytes` ({uri_bytes}) must be less than `header_bytes` ({header_bytes}), which holds the target too")]
    UriOverHeader { uri_bytes: usize, header_bytes: usize },
}

impl Advice for ListenerError {
    fn advice(&self) -> Option<String> {
        Some(match self {
            Self::KeyOfOther { of, .. } => format!("remove it, or write {of}"),
            Self::SeveralUpstreams => "write one, and put a load balancer behind it".into(),
            Self::InboundSocket => "write `IP:PORT`, for example `0.0.0.0:8443`".into(),
            Self::SocketKey { .. } => "remove it, or listen on `unix:/PATH`".into(),
            Self::ListenOffLoopback { address } => {
                let loopback = address::on_loopback(*address);
                format!("write `{loopback}`, or set `unsafe_listen_off_loopback: true`")
            }
            Self::UpstreamOffLoopback { is_postgres: true, .. } => {
                "write `upstream_tls: request`, run portcullis beside the server, or set `unsafe_upstream_off_loopback: true`".into()
            }
            Self::TlsOnSocket => "remove `upstream_tls`: only this machine reaches the socket".into(),
            Self::UpstreamOffLoopback { .. } => {
                "run portcullis beside the service, or set `unsafe_upstream_off_loopback: true`".into()
            }
            Self::UpstreamIsListener => "write the address at which the local service listens".into(),
            Self::NoBundle { near: Some(near), .. } => format!("did you mean `{near}`?"),
            Self::NoBundle { .. } => "add its bundle to `identity.trust_bundles`".into(),
            Self::Mode { .. } => "write for example `\"0660\"`".into(),
            Self::Header { .. } => "write one name, for example `x-http-method-override`".into(),
            Self::Suffix { .. } => "write a domain name, for example `s3.example`".into(),
            Self::SuffixDot { bare, .. } => format!("write `{bare}`"),
            Self::SuffixBelow { .. } => "keep one of the two, or list the other under `hosts` for path style".into(),
            Self::UriOverHeader { .. } => "raise `header_bytes` or lower `uri_bytes`".into(),
        })
    }
}
