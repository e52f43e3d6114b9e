//! `policy`.

use std::time::Duration;

use super::bad_files::the_only_problem;
use super::{GOOD, parse};
use crate::config::*;

/// The good file with these lines in place of its `policy`.
fn with(policy: &str) -> String {
    let indented: String = policy.lines().map(|line| format!("  {line}\n")).collect();
    GOOD.replace("  directory: policies\n", &indented)
}

const URL: &str =
    "url: https://policies.example/lake.tar?sv=1\npublic_keys: [signer.pem, next.pem]\ncache_directory: cache\n";

fn url(text: &str) -> PolicyUrl {
    let config = parse(text).unwrap_or_else(|errors| panic!("{}", errors.render(false)));
    match config.policy.origin {
        PolicyOrigin::Url(url) => *url,
        PolicyOrigin::Directory(directory) => panic!("{}", directory.display()),
    }
}

#[test]
fn bundles_come_from_an_address_with_keys_and_a_place_on_disk() {
    let of = |text: &str| PolicyUrl {
        url: text.parse().unwrap(),
        signature_url: "https://policies.example/lake.tar.sig?sv=1".parse().unwrap(),
        public_keys: vec!["signer.pem".into(), "next.pem".into()],
        cache_directory: "cache".into(),
        bundle_name: None,
        poll_interval: Duration::from_secs(30),
        fetch_timeout: Duration::from_secs(30),
        ca: UpstreamCa::System,
    };
    assert_eq!(url(&with(URL)), of("https://policies.example/lake.tar?sv=1"));
    let all = with(&format!("{URL}bundle_name: lake\npoll_interval: 5s\nfetch_timeout: 10s\nca: ca.pem"));
    let found = url(&all);
    let times = (Duration::from_secs(5), Duration::from_secs(10));
    assert_eq!((found.bundle_name.as_deref(), (found.poll_interval, found.fetch_timeout)), (Some("lake"), times));
    assert_eq!(found.ca, UpstreamCa::File("ca.pem".into()));
}

#[test]
fn what_does_not_go_together_is_said_where_it_stands() {
    let write = "write `https://HOST:PORT/PATH`";
    for (text, key, message, help) in [
        (
            with(&format!("directory: policies\n{URL}")),
            "policy.url",
            "policies come from `directory` or from `url`, not from both",
            "keep one of the two; candidates are tried with `shadow`",
        ),
        (
            with("directory: policies\npublic_keys: [a.pem]"),
            "policy.public_keys",
            "`public_keys` has no effect without `url`",
            "remove it, or write `url` in place of `directory`",
        ),
        (
            with("directory: policies\npoll_interval: 5s"),
            "policy.poll_interval",
            "`poll_interval` has no effect without `url`",
            "remove it, or write `url` in place of `directory`",
        ),
        (
            with(&URL.replace("cache_directory: cache\n", "")),
            "policy.cache_directory",
            "key `cache_directory` is missing",
            "for example `cache_directory: /var/lib/portcullis/policies`: Folder for the last good bundle, which decides after a restart while the server is away",
        ),
        (
            with("unknown_names: warn"),
            "policy.directory",
            "key `directory` is missing",
            "for example `directory: /etc/portcullis/policies`: Folder with `*.cedar`, `entities.json` or `entities/*.json` and, if wanted, further `*.cedarschema`",
        ),
        (
            with(&URL.replace("https://policies.example/lake.tar?sv=1", "http://policies.example/lake.tar")),
            "policy.url",
            "`http://policies.example/lake.tar` is no address of a bundle: it does not begin with `https://`",
            write,
        ),
        (
            with(&URL.replace("//policies", "//me:secret@policies")),
            "policy.url",
            "`https://me:secret@policies.example/lake.tar?sv=1` is no address of a bundle: it has a user name in it",
            write,
        ),
        (
            with(&URL.replace("/lake.tar?sv=1", "")),
            "policy.url",
            "`https://policies.example/` does not end with the name of a file",
            "write `https://HOST:PORT/PATH/lake.tar`; its signature is looked for at `lake.tar.sig`",
        ),
        (
            with(&format!("{URL}bundle_name: Lake")),
            "policy.bundle_name",
            "name `Lake` has the character `L`, only a-z 0-9 . - are allowed",
            "for example `lake`",
        ),
    ] {
        let problem = the_only_problem(&text);
        let found = (problem.key.as_str(), problem.message.as_str(), problem.help.as_deref());
        assert_eq!(found, (key, message, Some(help)), "{text}");
    }
}
