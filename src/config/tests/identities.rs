//! `identity`.

use std::path::Path;
use std::time::Duration;

use super::bad_files::the_only_problem;
use super::{GOOD, parse};
use crate::config::*;
use crate::identity::workload_api::WorkloadApiAddress;
use crate::identity::{OnExpiredCrl, SpiffeId, SvidChoice};

/// The good file with these lines in place of its `identity`.
fn with(identity: &str) -> String {
    let (_, rest) = GOOD.split_once("policy:\n").unwrap();
    let indented: String = identity.lines().map(|line| format!("  {line}\n")).collect();
    format!("identity:\n{indented}policy:\n{rest}")
}

const FILES: &str = "certificate: svid.pem\nprivate_key: svid.key\ntrust_bundles: {pipeline.example: bundle.pem}\n";

fn files_and(lines: &str) -> String {
    with(&format!("{FILES}{lines}"))
}

fn identity(text: &str) -> IdentityConfig {
    parse(text).unwrap_or_else(|errors| panic!("{}", errors.render(false))).identity
}

fn id(text: &str) -> SpiffeId {
    SpiffeId::parse(text).unwrap()
}

/// Each row is a file with one problem: where, what, and what to do.
fn assert_problems(rows: &[(String, &str, &str, &str)]) {
    for (text, key, message, help) in rows {
        let problem = the_only_problem(text);
        let found = (problem.key.as_str(), problem.message.as_str(), problem.help.as_deref());
        assert_eq!(found, (*key, *message, Some(*help)), "{text}");
    }
}

#[test]
fn a_workload_api_needs_an_address_and_no_files() {
    let config = identity(&with("source: workload_api\naddress: unix:/run/spire/agent/api.sock"));
    let address = WorkloadApiAddress::Unix("/run/spire/agent/api.sock".into());
    let first = |address| IdentitySourceConfig::WorkloadApi { address, choice: SvidChoice::First };
    assert_eq!((config.source, config.trust_bundles.len()), (first(address), 0));

    // Peers may be of any trust domain: the agent knows which there are.
    let text = with("source: workload_api\naddress: unix:/a").replace("spiffe://pipeline.example/", "spiffe://else/");
    assert!(parse(&text).is_ok());

    let overrides = Overrides { spiffe_endpoint_socket: Some("tcp://127.0.0.1:81".into()), ..Overrides::default() };
    let from_environment = Config::parse(&with("source: workload_api"), "a.yaml", &overrides).unwrap().identity;
    assert_eq!(from_environment.source, first(WorkloadApiAddress::Tcp("127.0.0.1:81".parse().unwrap())));
    let both = with("source: workload_api\naddress: unix:/a");
    let from_file = Config::parse(&both, "a.yaml", &overrides).unwrap().identity;
    assert_eq!(from_file.source, first(WorkloadApiAddress::Unix("/a".into())));

    let overrides = Overrides { spiffe_endpoint_socket: Some("/run/api.sock".into()), ..Overrides::default() };
    let errors = Config::parse(&with("source: workload_api"), "a.yaml", &overrides).unwrap_err();
    assert_eq!(
        errors.to_string(),
        "a.yaml:2:11: identity.source: SPIFFE_ENDPOINT_SOCKET in the environment: `/run/api.sock` begins neither with \
         `unix:` nor with `tcp:` (write `unix:/run/api.sock`)"
    );
    assert_problems(&[
        (
            with("source: workload_api"),
            "identity.source",
            "nothing says where the Workload API is: neither `address` nor the environment variable SPIFFE_ENDPOINT_SOCKET",
            "add for example `address: unix:/run/spire/agent/api.sock`",
        ),
        (
            with("source: workload_api\naddress: unix:/a\ncertificate: svid.pem"),
            "identity.certificate",
            "`certificate` is for `source: files`",
            "remove it, or write `source: files`",
        ),
        (
            with("source: workload_api\naddress: tcp:10.0.0.1:81"),
            "identity.address",
            "`10.0.0.1:81` is not on loopback: private keys would cross the network in plain",
            "run the agent on this machine, or set `unsafe_address_off_loopback: true`",
        ),
        (
            files_and("address: unix:/a"),
            "identity.address",
            "`address` is for `source: workload_api`",
            "remove it, or write `source: workload_api`",
        ),
        (
            files_and("hint: internal"),
            "identity.hint",
            "`hint` is for `source: workload_api`",
            "remove it, or write `source: workload_api`",
        ),
    ]);
    let unsafe_tcp = with("source: workload_api\naddress: tcp:10.0.0.1:81\nunsafe_address_off_loopback: true");
    assert_eq!(parse(&unsafe_tcp).unwrap().unsafe_options, ["identity.unsafe_address_off_loopback"]);
}

#[test]
fn an_svid_is_chosen_by_its_hint_or_by_its_id() {
    let choice = |line: &str| {
        let text = with(&format!("source: workload_api\naddress: unix:/a\n{line}"));
        let IdentitySourceConfig::WorkloadApi { choice, .. } = identity(&text).source else { panic!("workload_api") };
        choice
    };
    assert_eq!(choice("hint: internal"), SvidChoice::Hint("internal".into()));
    assert_eq!(choice("spiffe_id: spiffe://td/a"), SvidChoice::SpiffeId(id("spiffe://td/a")));
    let files = identity(&files_and("spiffe_id: spiffe://pipeline.example/a"));
    let IdentitySourceConfig::Files { spiffe_id, .. } = files.source else { panic!("files") };
    assert_eq!(spiffe_id, Some(id("spiffe://pipeline.example/a")));
    assert_problems(&[
        (
            with("source: workload_api\naddress: unix:/a\nhint: internal\nspiffe_id: spiffe://td/a"),
            "identity.hint",
            "`hint` and `spiffe_id` both say which SVID is ours",
            "keep one of the two",
        ),
        (
            files_and("spiffe_id: spiffe://pipeline.example"),
            "identity.spiffe_id",
            "`spiffe://pipeline.example` is not the SPIFFE ID of a workload: it names a trust domain",
            "write `spiffe://TRUST-DOMAIN/PATH`",
        ),
    ]);
}

#[test]
fn what_a_misspelt_source_would_need_is_not_asked_for() {
    assert_eq!(the_only_problem(&with("source: spire")).message, "`spire` is not one of `files`, `workload_api`");
    assert_problems(&[
        (
            with("source: workload-api\naddress: unix:/a"),
            "identity.source",
            "`workload-api` is not one of `files`, `workload_api`",
            "did you mean `workload_api`?",
        ),
        (with("sorce: workload_api"), "identity.sorce", "unknown key `sorce`", "did you mean `source`?"),
        (
            with(&FILES.replace("pipeline.example", "Pipeline.example")).replace("peer: spiffe", "peer: any # "),
            "identity.trust_bundles[\"Pipeline.example\"]",
            "`Pipeline.example` is not a trust domain: trust domain has the character `P`, only a-z 0-9 . - _ are allowed",
            "write `pipeline.example`",
        ),
    ]);
}

#[test]
fn federation_says_where_a_bundle_is_and_how_its_endpoint_proves_itself() {
    let config = identity(&files_and(
        "federation:
  web.example: {endpoint_url: 'https://web.example:8443/bundle', profile: https_web, ca: ca.pem, refresh_interval: 5m}
  self.example:
    endpoint_url: https://self.example
    profile: https_spiffe
    endpoint_spiffe_id: spiffe://self.example/spire/server
    bootstrap_bundle: self.json
  far.example:
    endpoint_url: https://[::1]:8443
    profile: https_spiffe
    endpoint_spiffe_id: spiffe://pipeline.example/relay",
    ));
    let of = |name: &str| config.federation.get(name).unwrap();
    let web = FederationProfile::HttpsWeb { ca: UpstreamCa::File("ca.pem".into()) };
    assert_eq!(
        (&of("web.example").profile, of("web.example").refresh_interval),
        (&web, Some(Duration::from_secs(300)))
    );
    assert_eq!(of("web.example").endpoint_url.to_string(), "https://web.example:8443/bundle");
    let own = FederationProfile::HttpsSpiffe {
        endpoint_spiffe_id: id("spiffe://self.example/spire/server"),
        bootstrap_bundle: Some("self.json".into()),
    };
    assert_eq!((&of("self.example").profile, of("self.example").refresh_interval), (&own, None));
    let far = FederationProfile::HttpsSpiffe {
        endpoint_spiffe_id: id("spiffe://pipeline.example/relay"),
        bootstrap_bundle: None,
    };
    assert_eq!(of("far.example").profile, far);
    // A federated trust domain is one whose workloads can be peers.
    let text = files_and("federation: {web.example: {endpoint_url: 'https://a', profile: https_web}}");
    assert!(parse(&text.replace("peer: spiffe://pipeline.example/", "peer: spiffe://web.example/")).is_ok());
}

#[test]
fn a_federation_that_could_not_work_is_refused() {
    let entry = |keys: &str| files_and(&format!("federation: {{partner.example: {{{keys}}}}}"));
    let url = "endpoint_url: 'https://a', ";
    let at = |key: &str| format!("identity.federation[\"partner.example\"]{key}");
    let rows = [
        (
            entry("endpoint_url: 'http://a', profile: https_web"),
            at(".endpoint_url"),
            "`http://a` is not the address of a bundle endpoint: it does not begin with `https://`",
            "write `https://HOST:PORT/PATH`",
        ),
        (
            entry("endpoint_url: 'https://user@a/', profile: https_web"),
            at(".endpoint_url"),
            "`https://user@a/` is not the address of a bundle endpoint: it has a user name in it",
            "write `https://HOST:PORT/PATH`",
        ),
        (
            entry(&format!("{url}profile: https_spiffe")),
            at(""),
            "`profile: https_spiffe` needs `endpoint_spiffe_id`",
            "add for example `endpoint_spiffe_id: spiffe://partner.example/spire/server`",
        ),
        (
            entry(&format!("{url}profile: https_spiffe, endpoint_spiffe_id: 'spiffe://partner.example/s'")),
            at(".endpoint_spiffe_id"),
            "the endpoint is in `partner.example` itself, whose bundle is not known before it was fetched once",
            "add `bootstrap_bundle`, a file with its bundle of today",
        ),
        (
            entry(&format!("{url}profile: https_spiffe, endpoint_spiffe_id: 'spiffe://else.example/s'")),
            at(".endpoint_spiffe_id"),
            "the endpoint is in `else.example`, which has no bundle",
            "add its bundle to `identity.trust_bundles`",
        ),
        (
            entry(&format!(
                "{url}profile: https_spiffe, endpoint_spiffe_id: 'spiffe://pipeline.example/s', bootstrap_bundle: a"
            )),
            at(".bootstrap_bundle"),
            "`bootstrap_bundle` has no effect: the endpoint is verified by the bundle of `pipeline.example`",
            "remove it",
        ),
        (
            entry(&format!("{url}profile: https_web, endpoint_spiffe_id: 'spiffe://pipeline.example/s'")),
            at(".endpoint_spiffe_id"),
            "`endpoint_spiffe_id` is for `profile: https_spiffe`",
            "remove it, or write `profile: https_spiffe`",
        ),
        (
            entry(&format!("{url}profile: https_webb")),
            at(".profile"),
            "`https_webb` is not one of `https_web`, `https_spiffe`",
            "did you mean `https_web`?",
        ),
        (
            entry(&format!("{url}profile: https_web, refresh: 5m")),
            at(".refresh"),
            "unknown key `refresh`",
            "did you mean `refresh_interval`?",
        ),
        (
            entry("profile: https_web"),
            at(".endpoint_url"),
            "key `endpoint_url` is missing",
            "for example `endpoint_url: https://spire.partner.example:8443`: Where the trust domain serves its bundle",
        ),
        (
            files_and("federation: {pipeline.example: {endpoint_url: 'https://a', profile: https_web}}"),
            "identity.federation[\"pipeline.example\"]".to_owned(),
            "the bundle of `pipeline.example` comes twice: `trust_bundles` has it too",
            "keep one of the two; for the first fetch there is `bootstrap_bundle`",
        ),
    ];
    let rows: Vec<_> =
        rows.iter().map(|(text, key, message, help)| (text.clone(), key.as_str(), *message, *help)).collect();
    assert_problems(&rows);
}

#[test]
fn revocation_is_by_lists_and_for_the_emergency_by_name() {
    let config = identity(&files_and(
        "crl: {files: {pipeline.example: crls}, on_expired: allow}
deny_serials: [pipeline.example/0A:1B, partner.other/ff]
deny_spiffe_ids: [spiffe://pipeline.example/a, 'spiffe://pipeline.example/ns/*']",
    ));
    assert_eq!(config.crl.on_expired, OnExpiredCrl::Allow);
    assert_eq!(config.crl.files.values().next().unwrap(), Path::new("crls"));
    let serials: Vec<String> = config.denied.serials.iter().map(ToString::to_string).collect();
    assert_eq!(serials, ["partner.other/ff", "pipeline.example/0a1b"]);
    let ids: Vec<String> = config.denied.ids.iter().map(ToString::to_string).collect();
    assert_eq!(ids, ["spiffe://pipeline.example/a", "spiffe://pipeline.example/ns/*"]);
    assert_eq!(identity(&files_and("crl: {files: {pipeline.example: a}}")).crl.on_expired, OnExpiredCrl::Deny);
    assert_problems(&[
        (
            files_and("deny_serials: [0a1b]"),
            "identity.deny_serials[0]",
            "`0a1b` is not `TRUST-DOMAIN/SERIAL`: it has no `/` between the trust domain and the serial number",
            "`portcullis certs show FILE` shows it; for example `pipeline.example/0a1b2c`",
        ),
        (
            files_and("deny_serials: [pipelin.example/0a1b]"),
            "identity.deny_serials[0]",
            "trust domain `pipelin.example` has no bundle, so the line has no effect",
            "did you mean `pipeline.example`?",
        ),
        (
            files_and("deny_spiffe_ids: [spiffe://pipeline.example]"),
            "identity.deny_spiffe_ids[0]",
            "`spiffe://pipeline.example` is neither a SPIFFE ID nor `spiffe://TRUST-DOMAIN/PATH/*`: it names a trust domain, not a workload",
            "write `spiffe://pipeline.example/*` for all workloads of the trust domain",
        ),
        (
            files_and("crl: {on_expired: deny}"),
            "identity.crl.files",
            "key `files` is missing",
            "for example `files: {\"pipeline.example\":\"/run/svid/crl.pem\"}`: For each trust domain the file with its revocation lists (PEM or DER), or a directory: every `*.pem`, `*.crl` and `*.der` in it",
        ),
        (
            files_and("crl: {files: {pipelin.example: a}}"),
            "identity.crl.files[\"pipelin.example\"]",
            "trust domain `pipelin.example` has no bundle, so the line has no effect",
            "did you mean `pipeline.example`?",
        ),
        (
            files_and("crl: {files: {pipeline.example: a}, on_expired: alow}"),
            "identity.crl.on_expired",
            "`alow` is not one of `deny`, `allow`",
            "did you mean `allow`?",
        ),
    ]);
}
