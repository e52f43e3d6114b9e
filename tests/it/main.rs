//! Tests of portcullis as it is used: the real binary, real clients and servers, real sockets. One binary, as linking
//! one for each file would take longer than running them.
#![cfg(test)]

mod architecture;
mod docs;
mod examples;
mod harness;
mod http2_attacks;
mod http2_floods;
mod http_attacks;
mod http_heads;
mod smoke;
#[allow(dead_code, unused_imports, reason = "a harness offers more than the tests of one feature set use")]
mod support;
