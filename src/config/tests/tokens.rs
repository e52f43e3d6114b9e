//! `token` of a listener: what is read, and what is refused.

use std::path::PathBuf;
use std::time::Duration;

use super::bad_files::assert_rows;
use super::{GOOD, accepted};
use crate::config::*;

const S3: &str = "host_suffixes: [s3.example]";
const HTTP: &str = "protocol: http";

fn inbound(token: &str) -> &'static str {
    format!("{S3}\n    token: {token}").leak()
}

fn outbound(token: &str) -> &'static str {
    format!("{HTTP}\n    token: {token}").leak()
}

#[test]
fn a_token_is_read_with_its_defaults() {
    assert!(super::parse(GOOD).unwrap().listeners.iter().all(|listener| listener.protocol.token().is_none()));
    let config = accepted(HTTP, outbound("{audiences: [a], issuers: [{trust_domain: pipeline.example}]}"));
    let token = config.listeners[1].protocol.token().unwrap();
    assert_eq!((token.header.as_str(), token.audiences.as_slice()), ("authorization", ["a".to_owned()].as_slice()));
    assert_eq!((token.leeway, token.forward), (Duration::from_secs(30), ForwardToken::Keep));
    let [TokenIssuerConfig::TrustDomain(trust_domain)] = token.issuers.as_slice() else { panic!("{token:?}") };
    assert_eq!(trust_domain.as_str(), "pipeline.example");

    let all = "{header: X-Id-Token, audiences: [a, b], leeway: 0s, forward: strip, \
        issuers: [{issuer: 'https://login.example', jwks: keys/a.json}, {issuer: 'http://127.0.0.1:8080/realms/x', jwks: /b.json}]}";
    let token = accepted(S3, inbound(all)).listeners[0].protocol.token().cloned().unwrap();
    assert_eq!(
        (token.header.as_str(), token.leeway, token.forward),
        ("x-id-token", Duration::ZERO, ForwardToken::Strip)
    );
    let files: Vec<PathBuf> = token
        .issuers
        .iter()
        .map(|issuer| match issuer {
            TokenIssuerConfig::Oidc { jwks, .. } => jwks.clone(),
            TokenIssuerConfig::TrustDomain(_) => panic!("an OIDC issuer"),
        })
        .collect();
    assert_eq!(files, [PathBuf::from("keys/a.json"), PathBuf::from("/b.json")]);
}

#[test]
fn a_token_that_cannot_be_meant_is_refused() {
    let issuer = "issuers: [{trust_domain: pipeline.example}]";
    let header = |name: &str| outbound(&format!("{{header: {name}, audiences: [a], {issuer}}}"));
    let of_issuer = |issuer: &str| outbound(&format!("{{audiences: [a], issuers: [{issuer}]}}"));
    assert_rows(&[
        (
            S3,
            inbound(&format!("{{audiences: [a], {issuer}}}")),
            (14, 5, "inbound[0].token"),
            "`protocol: s3` has its signature in `authorization`: a token needs a header of its own",
            "write for example `header: x-id-token`",
        ),
        (
            S3,
            inbound(&format!("{{header: Authorization, audiences: [a], {issuer}}}")),
            (14, 21, "inbound[0].token.header"),
            "`Authorization` is a header of S3 itself",
            "write for example `header: x-id-token`",
        ),
        (
            S3,
            inbound(&format!("{{header: x-amz-security-token, audiences: [a], {issuer}}}")),
            (14, 21, "inbound[0].token.header"),
            "`x-amz-security-token` is a header of S3 itself",
            "write for example `header: x-id-token`",
        ),
        (
            HTTP,
            header("x-forwarded-client-cert"),
            (18, 21, "outbound[0].token.header"),
            "`x-forwarded-client-cert` means something else than a token",
            "write for example `header: x-id-token`",
        ),
        (
            HTTP,
            header("cookie"),
            (18, 21, "outbound[0].token.header"),
            "`cookie` means something else than a token",
            "write for example `header: x-id-token`",
        ),
        (
            HTTP,
            header("'a b'"),
            (18, 21, "outbound[0].token.header"),
            "`a b` is not a header name",
            "write one name, for example `x-id-token`",
        ),
        (
            HTTP,
            of_issuer("{trust_domain: pipeline.exmaple}"),
            (18, 54, "outbound[0].token.issuers[0].trust_domain"),
            "trust domain `pipeline.exmaple` has no bundle: no token of it can be verified",
            "did you mean `pipeline.example`?",
        ),
        (
            HTTP,
            of_issuer("{trust_domain: pipeline.example}, {trust_domain: pipeline.example}"),
            (18, 74, "outbound[0].token.issuers[1]"),
            "the issuer stands here twice",
            "remove one of the two; several keys of one issuer stand in one file",
        ),
        (
            HTTP,
            of_issuer("{issuer: 'https://login.example'}"),
            (18, 40, "outbound[0].token.issuers[0]"),
            "an issuer is either a `trust_domain`, or an `issuer` with its `jwks`",
            "write `trust_domain: pipeline.example`, or `issuer: https://login.example` and `jwks: FILE`",
        ),
        (
            HTTP,
            of_issuer("{issuer: 'spiffe://pipeline.example', jwks: a}"),
            (18, 48, "outbound[0].token.issuers[0].issuer"),
            "`spiffe://pipeline.example` is a trust domain",
            "write `trust_domain: pipeline.example`",
        ),
        (
            HTTP,
            of_issuer("{issuer: login.example, jwks: a}"),
            (18, 48, "outbound[0].token.issuers[0].issuer"),
            "`login.example` is not the URL of an issuer",
            "write it as `iss` has it, for example `https://login.example`",
        ),
        (
            "protocol: http\n    upstream: lake.data.svc:8443",
            format!("protocol: tcp\n    upstream: lake.data.svc:8443\n    token: {{audiences: [a], {issuer}}}").leak(),
            (19, 5, "outbound[0].token"),
            "`token` is for `protocol: http` or `protocol: s3`, this listener speaks `tcp`",
            "remove it, or write `protocol: http` or `protocol: s3`",
        ),
    ]);
}
