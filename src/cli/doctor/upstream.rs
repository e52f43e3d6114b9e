//! Upstreams: the name, the connection, and for peers a real handshake.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::timeout;

use super::clock::Clock;
use super::peer;
use super::report::Report;
use crate::cli::rules::advice;
use crate::config::{Config, ListenerConfig, ProtocolConfig, UpstreamCa, UpstreamConfig, UpstreamScheme, UpstreamTls};
use crate::identity::X509Generation;
use crate::tls::{PublicTls, inspect};

const CHECK: &str = "upstream";

/// What a look at one upstream takes along.
struct Look<'a> {
    listener: &'a ListenerConfig,
    own: Option<&'a X509Generation>,
    limit: Duration,
}

/// Every upstream of every listener.
pub(super) fn upstreams(
    report: &mut Report,
    clock: &mut Clock,
    config: &Config,
    own: Option<&X509Generation>,
    limit: Duration,
) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return report.bad(CHECK, format!("the system gives no runtime: {error}"), "see its limits"),
    };
    for listener in &config.listeners {
        let look = Look { listener, own, limit };
        for upstream in std::iter::once(&listener.upstream).chain(&listener.further_upstreams) {
            runtime.block_on(look.at(report, clock, upstream));
        }
    }
}

impl Look<'_> {
    async fn at(&self, report: &mut Report, clock: &mut Clock, upstream: &UpstreamConfig) {
        let at = format!("{} {}, {upstream}", self.listener.direction.as_str(), self.listener.name);
        if upstream.scheme == UpstreamScheme::Unix {
            return match self.within(UnixStream::connect(&upstream.host)).await {
                Ok(stream) => self.plain(report, &at, stream).await,
                Err(error) => report.bad(CHECK, format!("{at}: {error}"), unreachable(&error)),
            };
        }
        let Some(stream) = self.tcp(report, &at, upstream).await else { return };
        let tls = match &self.listener.protocol {
            ProtocolConfig::Postgres(postgres) => &postgres.upstream_tls,
            _ => &UpstreamTls::Disable,
        };
        match (upstream.scheme, tls) {
            (UpstreamScheme::Mtls, _) => self.mutual(report, clock, &at, stream).await,
            (_, UpstreamTls::Request(ca)) => self.public(report, &at, stream, &upstream.host, (ca, true)).await,
            (_, UpstreamTls::Direct(ca)) => self.public(report, &at, stream, &upstream.host, (ca, false)).await,
            (_, UpstreamTls::Disable) => self.plain(report, &at, stream).await,
        }
    }

    /// The first address that takes a connection.
    async fn tcp(&self, report: &mut Report, at: &str, upstream: &UpstreamConfig) -> Option<TcpStream> {
        let addresses: Vec<SocketAddr> = match upstream.host.parse::<IpAddr>() {
            Ok(ip) => vec![SocketAddr::new(ip, upstream.port)],
            Err(_) => match self.within(lookup_host((upstream.host.as_str(), upstream.port))).await {
                Ok(found) => found.collect(),
                Err(error) => {
                    let advice = "see the name, and the DNS of this container: /etc/resolv.conf and its search domains";
                    report.bad(CHECK, format!("{at}: the name does not resolve: {error}"), advice);
                    return None;
                }
            },
        };
        let mut failures = Vec::new();
        for address in &addresses {
            match self.within(TcpStream::connect(address)).await {
                Ok(stream) => {
                    for (address, error) in failures {
                        report.warn(CHECK, format!("{at}: {address}: {error}"), unreachable(&error));
                    }
                    report.good(CHECK, format!("{at}: {address} takes connections"));
                    return Some(stream);
                }
                Err(error) => failures.push((address, error)),
            }
        }
        if failures.is_empty() {
            report.bad(CHECK, format!("{at}: the name has no address"), "see the name's records in DNS");
        }
        for (address, error) in failures {
            report.bad(CHECK, format!("{at}: {address}: {error}"), unreachable(&error));
        }
        None
    }

    async fn mutual(&self, report: &mut Report, clock: &mut Clock, at: &str, stream: TcpStream) {
        let alpn: &[&[u8]] = match &self.listener.protocol {
            ProtocolConfig::Http(_) | ProtocolConfig::S3(_) => &[b"h2", b"http/1.1"],
            ProtocolConfig::Postgres(_) => &[b"postgresql"],
            ProtocolConfig::Tcp(_) => &[],
        };
        let key = self.own.map(X509Generation::certified_key);
        match timeout(self.limit, inspect(stream, key, None, alpn)).await {
            Ok(Ok(seen)) => peer::judge(report, clock, at, &seen, (self.listener, self.own)),
            Ok(Err(refusal)) => report.bad(CHECK, format!("{at}: `{}`: {refusal}", refusal.rule), advice(refusal.rule)),
            Err(_elapsed) => {
                report.bad(CHECK, format!("{at}: the handshake took too long"), advice("handshake-timeout"));
            }
        }
    }

    /// TLS to a server that is no sidecar. `asks`: by SSLRequest.
    async fn public(
        &self,
        report: &mut Report,
        at: &str,
        mut stream: TcpStream,
        host: &str,
        (ca, asks): (&UpstreamCa, bool),
    ) {
        if asks {
            match self.within(ssl_request(&mut stream)).await {
                Ok(b'S') => {}
                Ok(b'N') => {
                    return report.bad(
                        CHECK,
                        format!("{at}: `no-tls`: the server does not accept TLS"),
                        advice("no-tls"),
                    );
                }
                answered => return report.bad(CHECK, format!("{at}: {}", no_postgres(answered)), NO_POSTGRES),
            }
        }
        let tls = PublicTls::new(ca.clone(), &[b"postgresql"]);
        match timeout(self.limit, tls.connect(stream, host)).await {
            Ok(Ok(_)) => report.good(CHECK, format!("{at}: the server's certificate is trusted for `{host}`")),
            Ok(Err(refusal)) => report.bad(CHECK, format!("{at}: `{}`: {refusal}", refusal.rule), advice(refusal.rule)),
            Err(_elapsed) => {
                report.bad(CHECK, format!("{at}: the handshake took too long"), advice("handshake-timeout"));
            }
        }
    }

    /// The local service: it is enough that it takes connections; PostgreSQL is asked whether it is one, which leaves no line in its log.
    async fn plain<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(
        &self,
        report: &mut Report,
        at: &str,
        mut stream: S,
    ) {
        if !matches!(self.listener.protocol, ProtocolConfig::Postgres(_)) {
            return;
        }
        match self.within(ssl_request(&mut stream)).await {
            Ok(b'S' | b'N') => report.good(CHECK, format!("{at}: speaks PostgreSQL")),
            answered => report.bad(CHECK, format!("{at}: {}", no_postgres(answered)), NO_POSTGRES),
        }
    }

    async fn within<T>(&self, step: impl Future<Output = io::Result<T>>) -> io::Result<T> {
        timeout(self.limit, step).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}

const NO_POSTGRES: &str = "see what listens there: a PostgreSQL server answers this question with one letter";

fn no_postgres(answered: io::Result<u8>) -> String {
    match answered {
        Ok(byte) => format!("it does not speak PostgreSQL: it answers SSLRequest with the byte {byte:#04x}"),
        Err(error) => format!("it does not speak PostgreSQL: {error}"),
    }
}

/// Asks whether TLS may begin.
///
/// # Source
/// PostgreSQL, "SSL Session Encryption": the answer is `S` or `N`.
async fn ssl_request<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(stream: &mut S) -> io::Result<u8> {
    stream.write_all(&[0, 0, 0, 8, 4, 210, 22, 47]).await?;
    stream.flush().await?;
    stream.read_u8().await
}

fn unreachable(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "nothing listens there: see whether the service runs, and its port",
        io::ErrorKind::TimedOut => "nothing answers: see firewalls and network policies in between",
        io::ErrorKind::NotFound => "the socket is not there: see whether the service runs, and the mount",
        io::ErrorKind::PermissionDenied => "let this user open the socket: its mode and group",
        _ => "see the address and the network in between",
    }
}
