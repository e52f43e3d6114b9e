//! Both ends of a listener: where it listens, and where what is permitted goes.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::errors::Advice as _;
use super::file::{DatabaseKeys, InboundKeys, KeyPath, OneOrMany, OutboundKeys, ProtocolKey, UpstreamTlsKey, nearest};
use super::listener::{ListenerError, parse_mode};
use super::reading::Reading;
use super::upstream::{parse_mtls, parse_plain, parse_postgres, parse_stream};
use super::{
    Direction, ListenAddress, PeerMatcher, PostgresConfig, TcpConfig, UpstreamConfig, UpstreamScheme, address, peer,
    postgres, tcp,
};
use crate::identity::SpiffeIdPattern;

/// What differs between the directions.
pub(super) trait Ends {
    /// Which one it is.
    const DIRECTION: Direction;

    /// The keys of this direction that are for some protocols only, and whether they are there.
    fn keys_of_protocols(&self) -> Vec<(&'static str, &'static [ProtocolKey], bool)>;

    /// The options of `protocol: tcp`.
    fn tcp(&self, reading: &mut Reading<'_>, at: &KeyPath, common: &DatabaseKeys) -> Option<TcpConfig>;

    /// The options of `protocol: postgres`.
    fn postgres(&self, reading: &mut Reading<'_>, at: &KeyPath, common: &DatabaseKeys) -> Option<PostgresConfig>;

    /// Reads both ends of a listener.
    fn ends(self, reading: &mut Reading<'_>, at: &KeyPath, protocol: Option<ProtocolKey>) -> BothEnds;
}

/// Both ends of a listener, as far as they are right.
#[derive(Debug)]
pub(super) struct BothEnds {
    pub(super) listen: Option<ListenAddress>,
    /// At least one.
    pub(super) upstreams: Option<Vec<UpstreamConfig>>,
    pub(super) peer: Option<Option<PeerMatcher>>,
}

impl Ends for InboundKeys {
    const DIRECTION: Direction = Direction::Inbound;

    fn keys_of_protocols(&self) -> Vec<(&'static str, &'static [ProtocolKey], bool)> {
        let keys = &self.database;
        [tcp::inbound_keys(keys), postgres::inbound_keys(keys)].concat()
    }

    fn tcp(&self, reading: &mut Reading<'_>, at: &KeyPath, common: &DatabaseKeys) -> Option<TcpConfig> {
        tcp::inbound(reading, at, &self.database, common)
    }

    fn postgres(&self, reading: &mut Reading<'_>, at: &KeyPath, common: &DatabaseKeys) -> Option<PostgresConfig> {
        postgres::inbound(reading, at, &self.database, common)
    }

    fn ends(self, reading: &mut Reading<'_>, at: &KeyPath, protocol: Option<ProtocolKey>) -> BothEnds {
        let path = at.key("listen");
        let listen = match &self.listen {
            Some(text) if text.starts_with("unix:") => reading.refuse(&path, ListenerError::InboundSocket),
            Some(text) => reading.address(&path, text),
            None => None,
        };
        let upstreams = self.upstream.as_ref().and_then(|texts| {
            upstreams(reading, at, protocol, texts, |reading, path, text| {
                let upstream = self.one_upstream(reading, path, protocol, text)?;
                match listen.is_some_and(|listen| is_itself(listen, &upstream)) {
                    true => reading.refuse(path, ListenerError::UpstreamIsListener),
                    false => Some(upstream),
                }
            })
        });
        BothEnds { listen: listen.map(ListenAddress::Tcp), upstreams, peer: Some(None) }
    }
}

impl InboundKeys {
    fn one_upstream(
        &self,
        reading: &mut Reading<'_>,
        path: &KeyPath,
        protocol: Option<ProtocolKey>,
        text: &str,
    ) -> Option<UpstreamConfig> {
        let parsed = match protocol {
            Some(ProtocolKey::Tcp) => parse_stream(text, &reading.base),
            Some(ProtocolKey::Postgres) => parse_postgres(text, &reading.base),
            // The protocol is wrong or missing, which has been said: what one of them would take is not blamed.
            None if parse_stream(text, &reading.base).is_ok() => return None,
            None | Some(ProtocolKey::Http | ProtocolKey::S3) => parse_plain(text),
        };
        let upstream = reading.report.check(path, parsed)?;
        let is_postgres = protocol == Some(ProtocolKey::Postgres);
        let tls = self.database.upstream_tls.filter(|tls| is_postgres && *tls != UpstreamTlsKey::Disable);
        match (upstream.is_loopback(), tls) {
            (_, Some(_)) if upstream.scheme == UpstreamScheme::Unix => reading.refuse(path, ListenerError::TlsOnSocket),
            (false, None) if self.unsafe_upstream_off_loopback != Some(true) => {
                let host = upstream.host;
                reading.refuse(path, ListenerError::UpstreamOffLoopback { host, is_postgres })
            }
            _ => Some(upstream),
        }
    }
}

/// Reads each upstream of one or a list; none if one is wrong.
fn upstreams(
    reading: &mut Reading<'_>,
    at: &KeyPath,
    protocol: Option<ProtocolKey>,
    texts: &OneOrMany,
    mut one: impl FnMut(&mut Reading<'_>, &KeyPath, &str) -> Option<UpstreamConfig>,
) -> Option<Vec<UpstreamConfig>> {
    let path = at.key("upstream");
    match texts {
        OneOrMany::One(text) => one(reading, &path, text).map(|upstream| vec![upstream]),
        OneOrMany::Many(texts) if texts.len() > 1 && speaks_http(protocol) => {
            reading.refuse(&path, ListenerError::SeveralUpstreams)
        }
        OneOrMany::Many(texts) => {
            let all = texts.iter().enumerate();
            let all: Vec<_> = all.map(|(index, text)| one(reading, &path.index(index), text)).collect();
            all.into_iter().collect()
        }
    }
}

impl Ends for OutboundKeys {
    const DIRECTION: Direction = Direction::Outbound;

    fn keys_of_protocols(&self) -> Vec<(&'static str, &'static [ProtocolKey], bool)> {
        postgres::outbound_keys(&self.database)
    }

    fn tcp(&self, _reading: &mut Reading<'_>, _at: &KeyPath, common: &DatabaseKeys) -> Option<TcpConfig> {
        Some(tcp::outbound(common))
    }

    fn postgres(&self, reading: &mut Reading<'_>, at: &KeyPath, common: &DatabaseKeys) -> Option<PostgresConfig> {
        postgres::outbound(reading, at, &self.database, common)
    }

    fn ends(self, reading: &mut Reading<'_>, at: &KeyPath, protocol: Option<ProtocolKey>) -> BothEnds {
        let upstreams = self.upstream.as_ref().and_then(|texts| {
            upstreams(reading, at, protocol, texts, |reading, path, text| reading.report.check(path, parse_mtls(text)))
        });
        let peer = self.peer.as_ref().and_then(|peer| peers(reading, &at.key("peer"), peer));
        BothEnds { listen: outbound_listen(reading, at, self), upstreams, peer: peer.map(Some) }
    }
}

fn outbound_listen(reading: &mut Reading<'_>, at: &KeyPath, keys: OutboundKeys) -> Option<ListenAddress> {
    let mode = keys.mode.as_deref().map_or(Some(0o600), |mode| reading.report.check(&at.key("mode"), parse_mode(mode)));
    let path = at.key("listen");
    let text = keys.listen?;
    if let Some(socket) = text.strip_prefix("unix:") {
        let socket = reading.socket(&path, socket)?;
        return Some(ListenAddress::Unix {
            path: socket,
            mode: mode?,
            allow_uids: keys.allow_uids.unwrap_or_default(),
        });
    }
    for (key, is_set) in [("mode", keys.mode.is_some()), ("allow_uids", keys.allow_uids.is_some())] {
        if is_set {
            let error = ListenerError::SocketKey { key };
            reading.report.key(&at.key(key), error.to_string(), error.advice());
        }
    }
    let address = reading.address(&path, &text)?;
    if !address::is_loopback(address.ip()) && keys.unsafe_listen_off_loopback != Some(true) {
        return reading.refuse(&path, ListenerError::ListenOffLoopback { address });
    }
    Some(ListenAddress::Tcp(address))
}

/// Whether what goes to the upstream would come back to the listener.
fn is_itself(listen: SocketAddr, upstream: &UpstreamConfig) -> bool {
    let ip = upstream.ip().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    upstream.is_loopback() && address::clash(listen, SocketAddr::new(ip, upstream.port))
}

const fn speaks_http(protocol: Option<ProtocolKey>) -> bool {
    matches!(protocol, None | Some(ProtocolKey::Http | ProtocolKey::S3))
}

fn peers(reading: &mut Reading<'_>, path: &KeyPath, keys: &OneOrMany) -> Option<PeerMatcher> {
    match keys {
        OneOrMany::One(text) if text == "any" => Some(PeerMatcher::AnyInOwnTrustDomain),
        OneOrMany::One(text) => one_peer(reading, path, text).map(|pattern| PeerMatcher::OneOf(vec![pattern])),
        OneOrMany::Many(texts) => {
            let patterns: Vec<Option<SpiffeIdPattern>> =
                texts.iter().enumerate().map(|(index, text)| one_peer(reading, &path.index(index), text)).collect();
            patterns.into_iter().collect::<Option<_>>().map(PeerMatcher::OneOf)
        }
    }
}

/// A SPIFFE ID, or those below it, of a trust domain that has a bundle.
pub(super) fn one_peer(reading: &mut Reading<'_>, path: &KeyPath, text: &str) -> Option<SpiffeIdPattern> {
    let pattern = reading.report.check(path, peer::parse(text))?;
    let trust_domain = pattern.id().trust_domain();
    match &reading.trust_domains {
        Some(known) if !known.iter().any(|name| name == trust_domain) => {
            let near = nearest(trust_domain, known.iter().map(String::as_str)).map(str::to_owned);
            reading.refuse(path, ListenerError::NoBundle { trust_domain: trust_domain.into(), near })
        }
        _ => Some(pattern),
    }
}
