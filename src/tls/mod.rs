//! stub
#![allow(missing_docs, unused)]
use std::sync::Arc;
use std::time::SystemTime;
use crate::identity::*;
use crate::config::{PeerMatcher, TlsVersion};
use tokio::io::{AsyncRead, AsyncWrite};
#[derive(Debug)]
pub struct Peer { svid: X509Svid, local: bool }
impl Peer {
    pub fn id(&self) -> &SpiffeId { self.svid.id() }
    pub fn svid(&self) -> &X509Svid { &self.svid }
    pub fn tls_version(&self) -> Option<&'static str> { None }
    pub fn local(own: &X509Generation) -> Arc<Self> { Arc::new(Self { svid: own.svid.clone(), local: true }) }
}
#[derive(Debug)]
pub struct ServerTls;
#[derive(Debug)]
pub struct ClientTls;
#[derive(Debug)]
pub struct HandshakeRefusal { pub rule: &'static str, pub message: String, pub peer_san: Option<String> }
impl ServerTls {
    pub fn new(_: Arc<dyn X509Source>, _: TlsVersion, _: &[&[u8]]) -> Self { Self }
    pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(&self, _: S) -> Result<(tokio_rustls::server::TlsStream<S>, Arc<Peer>), HandshakeRefusal> { Err(HandshakeRefusal { rule: "x", message: String::new(), peer_san: None }) }
    pub fn reverify(&self, _: &Peer, _: SystemTime) -> Result<(), HandshakeRefusal> { Ok(()) }
}
impl ClientTls {
    pub fn new(_: Arc<dyn X509Source>, _: TlsVersion, _: &[&[u8]], _: PeerMatcher) -> Self { Self }
    pub async fn connect<S: AsyncRead + AsyncWrite + Unpin>(&self, _: S) -> Result<(tokio_rustls::client::TlsStream<S>, Arc<Peer>), HandshakeRefusal> { Err(HandshakeRefusal { rule: "x", message: String::new(), peer_san: None }) }
    pub fn generation(&self) -> u64 { 0 }
}
