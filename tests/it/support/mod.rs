//! What the integration tests stand on: real processes, real sockets, minted certificates.
//!
//! A test makes a [`World`] (a folder and a CA), an upstream that remembers what reached it ([`Recorder`], [`RawUpstream`],
//! [`S3Store`] or a program of `tests/components`), starts sidecars, sends requests, and looks at three places: the answer,
//! the audit record, and what the upstream saw. Every port is 0, every wait is for an event and has a deadline, every
//! process ends with the value that holds it.

mod agent;
mod bundles;
mod ca;
mod client;
mod component;
mod door;
mod envoy;
mod forge;
mod frames;
mod mount;
pub(crate) mod mux;
mod open_exchange;
pub(crate) mod pg_wire;
mod postgres;
mod process;
mod raw;
mod recorder;
mod records;
mod s3_request;
mod sidecar;
mod store;
mod tls;
mod token;
mod warehouse;

pub(crate) use agent::{Agent, PythonAgent, entry, federated, offer, python_workload, x509};
pub(crate) use bundles::{
    Bundles, SIG, Served, Server, Signer, TAR, ask_now, asked, cached, client, failing, in_force, permit, policy_with,
};
pub(crate) use ca::{Ca, Svid, certificate_pem, uri};
pub(crate) use client::{Answer, Client, get, http1, http2, request, try_http2};
pub(crate) use component::{
    GrpcServer, S3Client, S3Server, WebSocketServer, aws, components, curl, grpc, openssl, python, websocket,
};
pub(crate) use door::{APP, Door, Rogue, refused_at, rogue};
pub(crate) use envoy::Envoy;
pub(crate) use forge::{Field, Forgery, OpensslKey, Scheme, content, der, values};
pub(crate) use frames::{Frame, FrameConnection, FrameKind, flags};
pub(crate) use mount::{Mount, put_link};
pub(crate) use open_exchange::OpenExchange;
pub(crate) use pg_wire::{PgError, PgFrame, PgReply, PgWire, decision_id};
pub(crate) use postgres::{DATABASE, DEBIAN_BIN, PgPlan, PgServer, PgVersion, libpq, psql};
pub(crate) use process::{DEADLINE, Output, Process, eventually, eventually_so, within};
pub(crate) use raw::{Raw, RawAnswer, RawUpstream, Step};
pub(crate) use recorder::{Behaviour, Recorder, Reply, Seen};
pub(crate) use records::{Records, policies_of};
pub(crate) use s3_request::{Keys, S3Request, UNSIGNED_PAYLOAD, sha256, signed_chunks_length};
pub(crate) use sidecar::{ALLOW_ALL, Pair, Sidecar, SidecarPlan, World, portcullis};
#[cfg(feature = "demo")]
pub(crate) use store::S3Store;
pub(crate) use tls::{TlsClient, alert_of, refusal_alert, server_config};
pub(crate) use token::{TokenIssuer, in_seconds};
pub(crate) use warehouse::{AS_ADMIN, WAREHOUSE, Warehouse, asks, driver, only};
