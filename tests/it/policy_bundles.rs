//! Policies from an HTTPS address: signed bundles of a real server that goes away, lies, goes back, and is half updated.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use http::StatusCode;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519};
use serde_json::Value;

use crate::support::*;

#[tokio::test]
async fn nothing_is_permitted_before_a_bundle_came_and_then_what_the_newest_one_says() {
    let at = Bundles::new().await;
    let mut service = at.sidecar("").spawn();
    service.listening().await;
    let waiting = failing(&service, "status").await;
    assert_eq!((&waiting["generation"], &waiting["policies"]), (&0.into(), &0.into()), "{waiting:#}");
    assert!(waiting["last_error"].as_str().is_some_and(|error| error.contains("status 404")), "{waiting:#}");
    let ready = get(service.admin(), "/ready").await;
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(
        ready.text().contains("\"policy\"") && ready.text().contains("there are no policies yet: bundle: "),
        "{}",
        ready.text()
    );
    service.logged("there are no policies yet; everything is denied").await;
    let mut app = client(&at.world, &service).await;
    let (status, decision) = asked(&mut app, "GET").await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let record = service.records.of_decision(&decision).await;
    assert_eq!((&record["outcome"], &record["policy_generation"]), (&"not_permitted".into(), &0.into()));
    at.upstream.assert_untouched();

    at.server.serve(at.signer.bundle(7, &permit("reads", "read")));
    let first = in_force(&service, 7).await;
    assert_eq!(get(service.health(), "/ready").await.status, StatusCode::OK);
    assert_eq!((&first["generation"], &first["bundle"]["name"]), (&1.into(), &"lake".into()), "{first:#}");
    assert_eq!(first["bundle"]["signed_by"], at.signer.key.public().fingerprint());
    assert_eq!(first["bundle"]["url"], at.server.url());
    assert!(first["bundle"]["age_seconds"].as_u64().is_some_and(|age| age < 30), "{first:#}");
    assert_eq!(asked(&mut app, "GET").await.0, StatusCode::OK);
    let record = service.records.with_outcome("allowed").await;
    assert_eq!((&record["policy_digest"], &record["policy_generation"]), (&first["digest"], &1.into()));
    assert_eq!(service.metric("portcullis_policy_info", &[&format!("digest={}", first["digest"])]).await, 1.0);
    assert_eq!(service.metric("portcullis_policy_bundle_sequence", &[]).await, 7.0);
    assert_eq!(cached(&at.world), ["7.tar", "7.tar.sig"]);

    // What has not changed is not sent again, but for the signature, which says so.
    at.server.answers_again(TAR, 304).await;
    at.server.answers_again(TAR, 304).await;
    assert!(at.server.answered(TAR, 200) == 1 && at.server.answered(SIG, 200) >= 3);
    assert!(service.metric("portcullis_policy_bundle_polls_total", &["result=\"unchanged\""]).await >= 1.0);
    assert!(service.metric("portcullis_policy_bundle_last_success_timestamp_seconds", &[]).await > 1.7e9);

    at.server.serve(at.signer.bundle(9, &permit("writes", "write")));
    let second = in_force(&service, 9).await;
    assert_eq!(
        (asked(&mut app, "GET").await.0, asked(&mut app, "POST").await.0),
        (StatusCode::FORBIDDEN, StatusCode::OK)
    );
    assert_eq!(second["generation"], 2);
    assert_eq!(service.metric("portcullis_policy_reload_total", &["result=\"swapped\""]).await, 2.0);
    assert_eq!(cached(&at.world), ["9.tar", "9.tar.sig"]);
    // Back to the old policies, by a higher number.
    at.server.serve(at.signer.bundle(10, &permit("reads", "read")));
    let back = in_force(&service, 10).await;
    assert_eq!((&back["digest"], &back["generation"]), (&first["digest"], &3.into()));
    assert_eq!(asked(&mut app, "GET").await.0, StatusCode::OK);
    service.stop().await;
}

#[tokio::test]
async fn whatever_the_server_has_the_last_good_policies_stay() {
    let at = Bundles::new().await;
    let stranger = Signer::new(&at.world, "stranger", &PKCS_ED25519);
    at.server.serve(at.signer.bundle(7, &permit("good", "read")));
    // Each case is asked for at once.
    let service = at.sidecar("bundle_name: lake\nfetch_timeout: 3s").start().await;
    let good = in_force(&service, 7).await;
    let mut app = client(&at.world, &service).await;
    let resident = service.resident_bytes();

    let evil = permit("evil", "write");
    let (tar, signature) = at.signer.bundle(8, &evil);
    let mut changed = tar.clone();
    changed[600] ^= 1;
    let file = |tar: &[u8], signature: &[u8]| (Served::File(tar.to_vec()), Served::File(signature.to_vec()));
    // With another signature than before: a bundle by an ETag is not asked for.
    let sent = |served: Served| (served, Served::File(signature.clone()));
    let raw = |answer: &str| sent(Served::Raw(format!("HTTP/1.1 {answer}\r\n\r\n")));
    let signed = |bytes: &[u8]| file(bytes, &at.signer.key.sign(bytes).expect("is signed"));
    let of = |(tar, signature): (Vec<u8>, Vec<u8>)| (Served::File(tar), Served::File(signature));
    let not_there = || Served::Raw("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_owned());
    let link = link_to_passwd();
    // No rule twice in a row: the status has to change.
    let cases = [
        ("without a signature", "no-signature", "status 404", (Served::File(tar.clone()), not_there())),
        ("by another key", "signature", "none of the 1 keys", of(stranger.bundle(8, &evil))),
        ("that is older", "sequence-rollback", "`lake@6`, older than `lake@7`", of(at.signer.bundle(6, &evil))),
        ("with a byte changed", "signature", "or of other bytes", file(&changed, &signature)),
        ("of the same number", "sequence-twice", "`lake@7`, and other policies", of(at.signer.bundle(7, &evil))),
        ("with the signature of another one", "signature", "none of", file(&tar, &at.signer.bundle(9, &evil).1)),
        (
            "of another name",
            "bundle-name",
            "`other@8`, and `policy.bundle_name` is `lake`",
            of(at.signer.named("other", 8, &evil)),
        ),
        ("with the signature in base64", "signature", "is text", file(&tar, b"MEUCIQDkAAAA")),
        (
            "that does not load",
            "policies",
            "lake@8/test.cedar:2:",
            of(at.signer.bundle(8, "\npermit (principal, action, resource in Bucket::\"endpoint/b\");")),
        ),
        ("with a link in it", "archive", "`x.cedar`, which is a symbolic link", signed(&link)),
        ("that is gone", "status", "404", (not_there(), not_there())),
        ("that is compressed", "archive", "is compressed (gzip)", signed(b"\x1f\x8b\x08")),
        ("that never ends", "too-long", "more than 16777216 bytes", sent(Served::Endless)),
        ("that never comes", "timeout", "bundle: no answer within 3 s", sent(Served::Silence)),
        ("that would be long", "too-long", "more than 16777216 bytes", raw("200 OK\r\ncontent-length: 16777217")),
        (
            "over plain HTTP",
            "redirect",
            "does not begin with `https://`",
            raw("302 Found\r\nlocation: http://localhost/lake.tar\r\ncontent-length: 0"),
        ),
        ("that is encoded", "content-encoding", "`gzip`", raw("200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 0")),
        (
            "around in a circle",
            "redirect",
            "too many redirects",
            raw(&format!("307 T\r\nlocation: {TAR}\r\ncontent-length: 0")),
        ),
        ("that has not changed, though nobody asked", "status", "status 304", raw("304 Not Modified")),
        ("that is cut off", "http", "end of file", raw("200 OK\r\ncontent-length: 10240\r\n\r\nbundle.json")),
        (
            "whose signature has not changed, though nobody asked",
            "no-signature",
            "status 304",
            (Served::File(tar.clone()), Served::Raw("HTTP/1.1 304 Not Modified\r\n\r\n".to_owned())),
        ),
        (
            "behind heads without end",
            "status",
            "status 500",
            sent(Served::Raw(
                "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n".repeat(10_000) + "HTTP/1.1 500 E\r\n\r\n",
            )),
        ),
        (
            "behind a head without end",
            "http",
            "gave no answer that can be read",
            raw(&format!("200 OK\r\nx-long: {}\r\ncontent-length: 0", "x".repeat(1 << 20))),
        ),
        ("of a server that fails", "status", "500", raw("500 Internal Server Error\r\ncontent-length: 0")),
    ];
    for (what, rule, said, (tar, signature)) in cases {
        at.server.put(SIG, signature);
        at.server.put(TAR, tar);
        ask_now(&service);
        let policy = failing(&service, rule).await;
        assert!(policy["last_error"].as_str().is_some_and(|error| error.contains(said)), "a bundle {what}: {policy:#}");
        assert_eq!((&policy["digest"], &policy["bundle"]["sequence"]), (&good["digest"], &7.into()), "a bundle {what}");
        assert_eq!(
            (asked(&mut app, "GET").await.0, asked(&mut app, "POST").await.0),
            (StatusCode::OK, StatusCode::FORBIDDEN),
            "a bundle {what}"
        );
        assert!(
            service
                .metric("portcullis_policy_bundle_polls_total", &["result=\"failed\"", &format!("rule=\"{rule}\"")])
                .await
                >= 1.0,
            "{what}"
        );
        assert_eq!(get(service.health(), "/ready").await.status, StatusCode::OK, "{what}");
        if rule == "policies" || what == "by another key" {
            // It is not sent again only to be refused again.
            let sent = at.server.answered(TAR, 200);
            let told = at.server.answered(TAR, 304);
            ask_now(&service);
            eventually("another answer", || (at.server.answered(TAR, 304) > told).then_some(())).await;
            let again = failing(&service, rule).await;
            assert_eq!((at.server.answered(TAR, 200), &again["last_error"]), (sent, &policy["last_error"]), "{what}");
        }
        if rule == "policies" {
            let report = policy["last_error_report"].as_str().unwrap_or_default();
            assert!(report.contains("lake@8/test.cedar:2:") && report.contains("──"), "{report}");
            assert!(service.metric("portcullis_policy_reload_total", &["result=\"failed\""]).await >= 1.0);
        }
    }
    assert_eq!(cached(&at.world), ["7.tar", "7.tar.sig"]);
    let grown = service.resident_bytes().saturating_sub(resident);
    assert!(grown < 64 * 1024 * 1024, "{grown} bytes more");
    at.server.serve(at.signer.bundle(8, &permit("better", "write")));
    in_force(&service, 8).await;
    assert_eq!(asked(&mut app, "POST").await.0, StatusCode::OK);
    service.logged("policy bundles are fetched again").await;
    service.stop().await;
}

/// An archive with a symbolic link of a policy's name.
fn link_to_passwd() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    tar.append_link(&mut header, "x.cedar", "/etc/passwd").expect("is written");
    tar.into_inner().expect("is written")
}

#[tokio::test]
async fn a_server_that_is_half_updated_is_looked_at_once_more() {
    let at = Bundles::by(&PKCS_ECDSA_P256_SHA256).await;
    at.server.serve(at.signer.bundle(7, &permit("old", "read")));
    let service = at.sidecar("").start().await;
    in_force(&service, 7).await;
    let (tar, signature) = at.signer.bundle(8, &permit("new", "read"));
    let bundles = at.server.answered(TAR, 200);
    at.server.put(TAR, Served::File(tar));
    // The new bundle came with the old signature; then the server has both.
    eventually("the look that falls in between", || (at.server.answered(TAR, 200) > bundles).then_some(())).await;
    at.server.put(SIG, Served::File(signature));
    in_force(&service, 8).await;
    assert_eq!(service.metric("portcullis_policy_bundle_polls_total", &["result=\"failed\""]).await, 0.0);
    service.stop().await;
}

#[tokio::test]
async fn after_a_restart_the_bundle_on_disk_decides_and_is_believed_no_more_than_the_server() {
    let at = Bundles::new().await;
    at.server.serve(at.signer.bundle(7, &permit("good", "read")));
    let service = at.sidecar("").start().await;
    let good = in_force(&service, 7).await;
    service.stop().await;
    at.server.go_away(true);

    let service = at.sidecar("").start().await;
    let restored = failing(&service, "closed").await;
    assert_eq!(
        (&restored["digest"], &restored["bundle"]["from_cache"]),
        (&good["digest"], &true.into()),
        "{restored:#}"
    );
    assert!(restored["bundle"]["last_success"].is_null() && restored["bundle"]["age_seconds"].is_u64(), "{restored:#}");
    assert_eq!(asked(&mut client(&at.world, &service).await, "GET").await.0, StatusCode::OK);
    assert!(service.metric("portcullis_policy_bundle_fetched_timestamp_seconds", &[]).await > 1.7e9);
    // What was seen before the restart still counts.
    at.server.serve(at.signer.bundle(6, &permit("older", "write")));
    at.server.go_away(false);
    let refused = failing(&service, "sequence-rollback").await;
    assert_eq!(refused["digest"], good["digest"]);
    service.stop().await;
    at.server.go_away(true);

    // One byte of it changed on disk.
    let path = at.world.path().join("cache/7.tar");
    let mut bytes = fs::read(&path).expect("is there");
    bytes[600] ^= 1;
    fs::write(&path, &bytes).expect("is writable");
    let mut service = at.sidecar("").spawn();
    service.listening().await;
    let status = failing(&service, "closed").await;
    assert_eq!(status["generation"], 0);
    assert!(
        status["bundle"]["cache_error"]
            .as_str()
            .is_some_and(|error| error.contains("7.tar`: the signature is by none")),
        "{status:#}"
    );
    let ready = get(service.admin(), "/ready").await.text();
    assert!(ready.contains("TLS with `localhost` failed") && ready.contains("7.tar"), "{ready}");
    assert_eq!(asked(&mut client(&at.world, &service).await, "GET").await.0, StatusCode::FORBIDDEN);
    at.server.serve(at.signer.bundle(7, &permit("good", "read")));
    at.server.go_away(false);
    let mended = in_force(&service, 7).await;
    assert!(mended["bundle"]["cache_error"].is_null(), "{mended:#}");
    assert_eq!(asked(&mut client(&at.world, &service).await, "GET").await.0, StatusCode::OK);
    service.stop().await;
}

#[tokio::test]
async fn a_disk_that_cannot_be_written_keeps_no_policies_from_coming_into_force() {
    let at = Bundles::new().await;
    at.server.serve(at.signer.bundle(7, &permit("good", "read")));
    // A file stands where the folder would be.
    let file = at.world.write("occupied", "").display().to_string();
    let service = at.sidecar(&format!("cache_directory: {file}/policies")).start().await;
    let policy = in_force(&service, 7).await;
    assert!(
        policy["bundle"]["cache_error"].as_str().is_some_and(|error| error.contains("cannot be kept in")),
        "{policy:#}"
    );
    service.logged("a restart while the server is away would not find it").await;
    assert!(service.metric("portcullis_policy_bundle_cache_failures_total", &[]).await >= 1.0);
    assert_eq!(asked(&mut client(&at.world, &service).await, "GET").await.0, StatusCode::OK);
    // Once the disk is mended the bundle is kept there, though the server has no other one; and again if the folder is emptied.
    let kept = PathBuf::from(&file).join("policies/7.tar");
    fs::remove_file(&file).expect("is there");
    eventually("the bundle on disk", || kept.exists().then_some(())).await;
    let mended = policy_with(&service, "a mended disk", |policy| policy["bundle"]["cache_error"].is_null()).await;
    assert_eq!(mended["generation"], 1, "{mended:#}");
    fs::remove_file(&kept).expect("is there");
    eventually("the bundle on disk again", || kept.exists().then_some(())).await;
    service.stop().await;
}

#[tokio::test]
async fn a_stolen_key_holds_back_no_successor_and_bundles_of_other_names_are_not_taken_for_later_ones() {
    let at = Bundles { keys: &["keys"], ..Bundles::new().await };
    let (stolen, new) = (Signer::new(&at.world, "stolen", &PKCS_ED25519), Signer::new(&at.world, "new", &PKCS_ED25519));
    let pem = |name: &str| fs::read_to_string(at.world.path().join(format!("{name}.pem"))).expect("is there");
    at.world.write("keys.pem", &pem("stolen"));
    at.server.serve(stolen.bundle(u64::MAX, &permit("evil", "write")));
    let service = at.sidecar("").start().await;
    in_force(&service, u64::MAX).await;
    at.server.serve(stolen.bundle(18, &permit("older", "write")));
    failing(&service, "sequence-rollback").await;
    at.world.write("keys.pem", &pem("new"));
    at.server.serve(new.bundle(18, &permit("good", "read")));
    let good = in_force(&service, 18).await;
    assert_eq!(cached(&at.world), ["18.tar", "18.tar.sig"]);
    at.server.serve(new.named("staging", 900, &permit("other", "write")));
    let refused = failing(&service, "bundle-name").await;
    assert_eq!(refused["digest"], good["digest"]);
    at.server.serve(new.bundle(19, &permit("better", "read")));
    in_force(&service, 19).await;
    service.stop().await;
}

#[tokio::test]
async fn keys_are_rotated_while_it_runs_and_the_old_one_counts_no_more() {
    let at = Bundles { keys: &["keys"], ..Bundles::new().await };
    let (old, new) =
        (Signer::new(&at.world, "old", &PKCS_ED25519), Signer::new(&at.world, "new", &PKCS_ECDSA_P256_SHA256));
    let pem = |name: &str| fs::read_to_string(at.world.path().join(format!("{name}.pem"))).expect("is there");
    at.world.write("keys.pem", &pem("old"));
    at.server.serve(old.bundle(7, &permit("good", "read")));
    let service = at.sidecar("").start().await;
    in_force(&service, 7).await;
    // Both, then the same bundle under the new signature, then the new one alone.
    at.world.write("keys.pem", &(pem("old") + &pem("new")));
    // As operators do it: every sidecar has both before anything is signed anew.
    at.server.answers_again(TAR, 200).await;
    at.server.answers_again(TAR, 304).await;
    let (tar, _) = old.bundle(7, &permit("good", "read"));
    let signature = new.key.sign(&tar).expect("is signed");
    at.server.serve((tar, signature.clone()));
    let by_new = |policy: &Value| policy["bundle"]["signed_by"] == new.key.public().fingerprint();
    let policy = policy_with(&service, "the new key", by_new).await;
    assert_eq!(policy["generation"], 1, "the policies are the same");
    eventually("the new signature on disk", || {
        (fs::read(at.world.path().join("cache/7.tar.sig")).ok()? == signature).then_some(())
    })
    .await;
    at.world.write("keys.pem", &pem("new"));
    at.server.serve(old.bundle(8, &permit("evil", "write")));
    failing(&service, "signature").await;
    at.world.write("keys.pem", "");
    let policy = failing(&service, "public-keys").await;
    assert_eq!(policy["bundle"]["sequence"], 7);
    service.stop().await;
    // No key at all: there would be nothing to wait for.
    let output = at.sidecar("").run_to_end().await;
    assert!(output.code() != 0 && output.stderr.contains("keys.pem` has no PUBLIC KEY in PEM"), "{output:?}");
    at.world.write("keys.pem", &pem("new"));
    at.server.go_away(true);
    let service = at.sidecar("").start().await;
    assert_eq!(failing(&service, "closed").await["bundle"]["sequence"], 7);
    service.stop().await;
}

#[tokio::test]
async fn check_and_doctor_say_how_the_bundle_fares_before_a_start() {
    let at = Bundles::new().await;
    let output = at.sidecar("").check().await;
    assert_eq!(output.code(), 0, "{output:?}");
    assert!(
        output.stdout.contains("there is none yet: without the server everything would be denied"),
        "{}",
        output.stdout
    );
    let output = at.sidecar("").doctor().await;
    assert!(output.stdout.contains("status: bundle: `localhost` answered with the status 404"), "{}", output.stdout);
    at.server.serve(at.signer.bundle(7, &permit("good", "read")));
    let output = at.sidecar("").doctor().await;
    assert!(output.stdout.contains("bundle `lake@7` of `policy.url`: 1 loaded"), "{}", output.stdout);
    let service = at.sidecar("").start().await;
    in_force(&service, 7).await;
    service.stop().await;
    let output = at.sidecar("").check().await;
    assert!(
        output.stdout.contains("bundle on disk is `lake@7`") && output.stdout.contains("1 policy, digest sha256:"),
        "{}",
        output.stdout
    );
    // Commands that are about policies know those on disk.
    let config = at.world.path().join("service/portcullis.yaml");
    let validated =
        Process::run("validate", portcullis().args(["policy", "validate", "--config"]).arg(config), "").await;
    assert_eq!(validated.code(), 0, "{validated:?}");
}

// -------------------------------------------------------------------------------------------------------------- as people do it

/// Runs a script as an operator would type it.
async fn bash(folder: &Path, script: &str) -> Output {
    let program = portcullis().get_program().to_owned();
    let bin = Path::new(&program).parent().expect("is in a folder").to_owned();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new("bash");
    Process::run("bash", command.args(["-e", "-u", "-c", script]).env("PATH", path).current_dir(folder), "").await
}

/// The commands of a page's part that stand after `$ `.
fn commands(part: &str) -> String {
    let page = include_str!("../../docs/policy-bundles.md");
    let marked = page.split(&format!("<!-- run: {part} -->")).nth(1).unwrap_or_else(|| panic!("no part `{part}`"));
    let block = marked.split("```").nth(1).expect("has a block");
    let lines: Vec<_> = block.lines().filter_map(|line| line.strip_prefix("$ ")).collect();
    assert!(!lines.is_empty(), "no commands in `{part}`");
    lines.join("\n")
}

#[tokio::test]
async fn the_commands_of_the_page_make_bundles_that_are_taken_and_that_openssl_verifies() {
    let at = Bundles::new().await;
    let folder = at.world.folder("page");
    fs::create_dir(folder.join("lake")).expect("is writable");
    fs::write(folder.join("lake/orders.cedar"), permit("reads", "read")).expect("is writable");
    fs::write(folder.join("lake/README.md"), "not for sidecars").expect("is writable");
    let read = |name: &str| fs::read(folder.join(name)).expect("was written");
    for part in ["keys", "bundle", "verify"] {
        let output = bash(&folder, &commands(part)).await;
        assert_eq!(output.code(), 0, "{part}: {output:?}");
    }
    assert!(bash(&folder, &commands("verify")).await.stdout.contains("Signature Verified Successfully"));
    at.world.write("signer.pem", &String::from_utf8(read("signer.pem")).expect("is PEM"));
    at.server.serve((read("lake.tar"), read("lake.tar.sig")));
    let service = at.sidecar("").start().await;
    let by_us = in_force(&service, 17).await;
    // The same files again, by tar and openssl.
    let output = bash(&folder, &commands("by hand")).await;
    assert_eq!(output.code(), 0, "{output:?}");
    at.server.serve((read("lake.tar"), read("lake.tar.sig")));
    let by_hand = in_force(&service, 18).await;
    assert_eq!(by_hand["digest"], by_us["digest"]);
    // And with the other kind of key.
    let output = bash(&folder, &commands("ecdsa")).await;
    assert_eq!(output.code(), 0, "{output:?}");
    at.world.write("signer.pem", &String::from_utf8(read("signer.pem")).expect("is PEM"));
    at.server.serve((read("lake.tar"), read("lake.tar.sig")));
    policy_with(&service, "the new key", |policy| policy["bundle"]["signed_by"] != by_us["bundle"]["signed_by"]).await;
    service.stop().await;
}

#[tokio::test]
async fn a_bundle_is_the_same_whenever_it_is_made_and_is_not_made_of_policies_that_do_not_load() {
    let world = World::new();
    let folder = world.folder("made");
    let key = KeyPair::generate_for(&PKCS_ED25519).expect("is supported");
    world.write("made/signer.key", &key.serialize_pem());
    fs::create_dir(folder.join("p")).expect("is writable");
    fs::write(folder.join("p/a.cedar"), permit("a", "read")).expect("is writable");
    let run = async |arguments: &str| bash(&folder, &format!("portcullis policy bundle p {arguments}")).await;
    let good = "--key signer.key --name lake --sequence 7 --out";
    let first = run(&format!("{good} one.tar")).await;
    assert_eq!(first.code(), 0, "{first:?}");
    assert!(first.stdout.starts_with("one.tar: lake@7, 1 policy, sha256:"), "{first:?}");
    run(&format!("{good} two.tar")).await;
    let until = run(&format!("{good} until.tar --expires 9999-01-31T02:00:00+02:00")).await;
    assert!(until.stdout.starts_with("until.tar: lake@7 until 9999-01-31T00:00:00Z, 1 policy, sha256:"), "{until:?}");
    let read = |name: &str| fs::read(folder.join(name)).expect("was written");
    assert_eq!((read("one.tar"), read("one.tar.sig")), (read("two.tar"), read("two.tar.sig")));
    for (arguments, code, said) in [
        ("--key p/a.cedar --name lake --sequence 7 --out x.tar", 1, "openssl genpkey -algorithm ed25519"),
        ("--key none.key --name lake --sequence 7 --out x.tar", 1, "none.key` cannot be read"),
        ("--key signer.key --name Lake --sequence 7 --out x.tar", 1, "has the name `Lake`"),
        ("--key signer.key --name lake --sequence 0 --out x.tar", 1, "the first is 1"),
        ("--key signer.key --name lake --sequence 7 --out none/x.tar", 1, "none/x.tar.sig` cannot be written"),
        ("--key signer.key --name lake --out x.tar", 1, "--sequence"),
        (
            "--key signer.key --name lake --sequence 7 --out x.tar --expires tomorrow",
            1,
            "`tomorrow` is no moment like `2027-01-31T00:00:00Z`",
        ),
        (
            "--key signer.key --name lake --sequence 7 --out x.tar --expires 2026-01-31T00:00:00Z",
            1,
            "expired at 2026-01-31T00:00:00Z would be taken by nobody",
        ),
    ] {
        let output = run(arguments).await;
        assert!(output.code() == code && output.stderr.contains(said), "{arguments}: {output:?}");
    }
    fs::write(folder.join("p/b.cedar"), "permit (principal, action, resource);").expect("is writable");
    let output = run(&format!("{good} x.tar")).await;
    assert!(output.code() == 3 && output.stderr.contains("b.cedar:1:1"), "{output:?}");
    assert!(!folder.join("x.tar").exists());
}
