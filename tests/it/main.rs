//! Tests of portcullis as it is used: the real binary, real clients and servers, real sockets. One binary, as linking
//! one for each file would take longer than running them.
#![cfg(test)]

mod admin;
mod architecture;
mod audit_life;
mod cli;
mod connections;
mod demo;
mod docs;
mod doctor;
mod envoy_peer;
mod examples;
mod federation;
mod grpc;
mod harness;
mod http2_attacks;
mod http2_floods;
mod http_attacks;
mod http_heads;
mod identity_page;
mod metrics;
mod mtls;
mod policy_explain;
mod policy_life;
mod policy_shadow;
mod postgres_attacks;
mod postgres_bounds;
mod postgres_clients;
mod postgres_connect;
mod postgres_definitions;
mod postgres_disclosure;
mod postgres_encodings;
mod postgres_lies;
mod postgres_life;
mod postgres_pipelines;
mod postgres_poison;
mod postgres_pressure;
mod postgres_regression;
mod postgres_replication;
mod postgres_roles;
mod proxy;
mod reload;
mod revocation;
mod rogue_certificates;
mod s3_attacks;
mod s3_clients;
mod smoke;
mod sql_bombs;
mod sql_cases;
mod streaming;
#[allow(dead_code, unused_imports, reason = "a harness offers more than the tests of one feature set use")]
mod support;
mod tcp;
mod upstream_failures;
mod websocket;
mod workload_api;
