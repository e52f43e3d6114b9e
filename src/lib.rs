//! Portcullis: a sidecar proxy that decides every request of a data pipeline by verified workload identity and Cedar policy.
//!
//! The modules stand in the order in which a request walks through them; each may name only those above it
//! (`tests/it/architecture.rs` holds the table). See `docs/architecture.md` for the walk itself.

pub mod drain;
pub mod failure;
pub mod telemetry;

pub mod identity;
pub mod relay;

pub mod config;
pub mod mux;

pub mod mapping;
pub mod tls;

pub mod fetch;

pub mod federation;
pub mod policy;

pub mod audit;
pub mod distribution;

pub mod enforce;

pub mod upstream;

pub mod protocol;

pub mod listener;

pub mod admin;

pub mod analysis;

pub mod app;
pub mod cli;
