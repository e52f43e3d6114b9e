//! Policies from an HTTPS address, when the server is somebody else's, the clock runs, and disks fail.

use std::fs;
use std::time::{Duration, SystemTime};

use http::StatusCode;
use rcgen::PKCS_ED25519;
use serde_json::Value;

use crate::support::*;

/// Whole answers that lead elsewhere.
fn to(location: &str) -> Served {
    Served::Raw(format!("HTTP/1.1 302 Found\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n"))
}

fn last_error(policy: &Value) -> &str {
    policy["last_error"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn sighup_asks_the_server_at_once() {
    let at = Bundles::new().await;
    at.server.serve(at.signer.bundle(7, &permit("good", "read")));
    let service = at.sidecar("poll_interval: 24h").start().await;
    in_force(&service, 7).await;
    at.server.serve(at.signer.bundle(8, &permit("better", "write")));
    assert_eq!(at.server.answered(SIG, 200), 1, "nobody asks for a day");
    ask_now(&service);
    in_force(&service, 8).await;
    assert_eq!(asked(&mut client(&at.world, &service).await, "POST").await.0, StatusCode::OK);
    // What is broken is asked for anew as well, and said.
    at.server.put(SIG, Served::File(b"-----BEGIN".to_vec()));
    ask_now(&service);
    assert!(last_error(&failing(&service, "signature").await).contains("is PEM"));
    assert_eq!(asked(&mut client(&at.world, &service).await, "POST").await.0, StatusCode::OK);
    service.stop().await;
}

#[tokio::test]
async fn a_bundle_brings_the_proof_that_is_required_or_is_not_taken() {
    let at = Bundles::new().await;
    let invariants =
        "invariants: [{name: a, never: {principals: '!(principal is Workload in TrustDomain::\"one.test\")'}}]\n";
    let allow = |id: &str| {
        format!(
            "@id(\"{id}\")\npermit (principal in TrustDomain::\"one.test\", action in Action::\"read\", resource in Endpoint::\"endpoint\");\n"
        )
    };
    let proved = async |id: &str| {
        fs::write(at.signer.folder.join("test.cedar"), allow(id)).expect("is writable");
        let mut command = portcullis();
        command.args(["policy", "prove", "--write", "--policies"]).arg(&at.signer.folder);
        let output = Process::run("prove", &mut command, "").await;
        assert_eq!(output.code(), 0, "{output:#?}");
    };
    let service = at.sidecar("require_proof: true");
    at.server.serve(at.signer.bundle(6, &allow("p")));
    let mut service = service.spawn();
    service.listening().await;
    let refused = failing(&service, "policies").await;
    assert!(last_error(&refused).contains("there is no `proof.json`") && refused["generation"] == 0, "{refused:#}");

    fs::write(at.signer.folder.join("invariants.yaml"), invariants).expect("is writable");
    proved("p").await;
    at.server.serve(at.signer.bundle(7, &allow("p")));
    ask_now(&service);
    let good = in_force(&service, 7).await;
    // The proof of other policies goes along with these.
    at.server.serve(at.signer.bundle(8, &allow("q")));
    ask_now(&service);
    let refused = failing(&service, "policies").await;
    assert!(
        last_error(&refused).contains("proof is of other policies") && refused["digest"] == good["digest"],
        "{refused:#}"
    );
    assert_eq!(cached(&at.world), ["7.tar", "7.tar.sig"]);
    proved("q").await;
    at.server.serve(at.signer.bundle(9, &allow("q")));
    ask_now(&service);
    assert_ne!(in_force(&service, 9).await["digest"], good["digest"]);
    // Nor is what lies on disk taken without.
    let (tar, signature) = {
        fs::remove_file(at.signer.folder.join("proof.json")).expect("is there");
        at.signer.bundle(10, &allow("p"))
    };
    service.stop().await;
    at.server.go_away(true);
    let cache = at.world.path().join("cache");
    fs::write(cache.join("10.tar"), tar)
        .and_then(|()| fs::write(cache.join("10.tar.sig"), signature))
        .expect("is writable");
    let mut service = at.sidecar("require_proof: true").spawn();
    service.listening().await;
    let waiting = failing(&service, "closed").await;
    assert_eq!((&waiting["generation"], waiting["bundle"]["sequence"].is_null()), (&0.into(), true), "{waiting:#}");
    assert!(
        waiting["bundle"]["cache_error"].as_str().is_some_and(|error| error.contains("no `proof.json`")),
        "{waiting:#}"
    );
    service.stop().await;
}

#[tokio::test]
async fn a_candidate_directory_is_tried_beside_the_bundle_and_survives_the_next_one() {
    let at = Bundles::new().await;
    let candidate = at.world.folder("candidate");
    let try_out = |group: &str| fs::write(candidate.join("c.cedar"), permit("tried", group)).expect("is writable");
    try_out("write");
    at.server.serve(at.signer.bundle(7, &permit("good", "read")));
    let plan = at.sidecar(&format!("shadow: {}", candidate.display())).yaml("reload_interval: 100ms");
    let service = plan.start().await;
    let policy = in_force(&service, 7).await;
    let first = policy["shadow_digest"].clone();
    assert!(first.is_string(), "{policy:#}");
    let mut app = client(&at.world, &service).await;
    let asked_before = std::cell::Cell::new(0);
    let trial = async |app: &mut Client, method: &str| {
        let (status, _) = asked(app, method).await;
        asked_before.set(asked_before.get() + 1);
        let records = service.records.requests(asked_before.get()).await;
        let trial = &records.last().expect("there is one")["shadow"][0];
        assert_eq!(trial["candidate"], "directory", "{records:#?}");
        (status, trial["outcome"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(trial(&mut app, "GET").await, (StatusCode::OK, "not_permitted".to_owned()));
    assert_eq!(trial(&mut app, "POST").await, (StatusCode::FORBIDDEN, "allowed".to_owned()));
    at.server.serve(at.signer.bundle(8, &permit("all", "write")));
    ask_now(&service);
    assert_eq!(in_force(&service, 8).await["shadow_digest"], first);
    assert_eq!(trial(&mut app, "POST").await, (StatusCode::OK, "allowed".to_owned()));
    // The candidate changes while the bundle does not.
    try_out("read");
    let other = policy_with(&service, "another candidate", |policy| policy["shadow_digest"] != first).await;
    assert_eq!(other["bundle"]["sequence"], 8);
    assert_eq!(trial(&mut app, "POST").await, (StatusCode::OK, "not_permitted".to_owned()));
    assert_eq!(trial(&mut app, "GET").await, (StatusCode::FORBIDDEN, "allowed".to_owned()));
    service.stop().await;
}

#[tokio::test]
async fn a_redirect_is_followed_three_times_by_https_and_told_without_its_secrets() {
    let at = Bundles::new().await;
    let (tar, signature) = at.signer.bundle(7, &permit("good", "read"));
    let signed = Served::File(signature);
    at.server.put("/elsewhere", Served::File(tar));
    at.server.put(SIG, to("/lake.sig"));
    at.server.put("/lake.sig", signed);
    at.server.put(TAR, to("/a"));
    at.server.put("/a", to(&format!("https://localhost:{}/b", at.server.address.port())));
    at.server.put("/b", to("/elsewhere"));
    let service = at.sidecar("").start().await;
    let good = in_force(&service, 7).await;
    // One more is one too many.
    let (tar, signature) = at.signer.bundle(8, &permit("better", "read"));
    at.server.put("/elsewhere", to("/further"));
    at.server.put("/further", Served::File(tar));
    at.server.put("/lake.sig", Served::File(signature));
    ask_now(&service);
    let refused = failing(&service, "redirect").await;
    assert!(last_error(&refused).contains("there were too many redirects before"), "{refused:#}");
    assert_eq!((at.server.answered("/further", 200), &refused["digest"]), (0, &good["digest"]));
    let mut last = last_error(&refused).to_owned();
    for (location, said, reason) in [
        ("http://localhost/lake.tar?token=secret", "`http://localhost/lake.tar`", "does not begin with `https://`"),
        ("https://user:secret@localhost/lake.tar", "`https://localhost/lake.tar`", "it has a user name in it"),
        ("lake?secret", "`lake`", "it is no URL"),
        ("", "``", "it is no URL"),
    ] {
        at.server.put(TAR, to(location));
        ask_now(&service);
        let policy = policy_with(&service, location, |policy| last_error(policy) != last).await;
        let error = last_error(&policy);
        assert!(error.contains(said) && error.contains(reason) && !error.contains("secret"), "{location}: {error}");
        assert_eq!((&policy["bundle"]["rule"], &policy["digest"]), (&"redirect".into(), &good["digest"]), "{location}");
        error.clone_into(&mut last);
    }
    let log = service.log().join("\n");
    assert!(log.contains("redirects to `http://localhost/lake.tar`") && !log.contains("secret"), "{log}");
    at.server.put(TAR, to("/further"));
    ask_now(&service);
    in_force(&service, 8).await;
    service.stop().await;
}

#[tokio::test]
async fn after_a_bundle_that_could_not_be_kept_a_restart_begins_with_the_one_before_and_finds_the_newest() {
    let at = Bundles::new().await;
    at.server.serve(at.signer.bundle(7, &permit("good", "read")));
    let service = at.sidecar("").start().await;
    let good = in_force(&service, 7).await;
    // A folder of that name: the signature cannot be put there.
    let occupied = at.world.folder("cache/8.tar.sig");
    at.server.serve(at.signer.bundle(8, &permit("better", "write")));
    ask_now(&service);
    let better = policy_with(&service, "8 in force", |policy| policy["bundle"]["sequence"] == 8).await;
    assert!(better["last_error"].is_null(), "{better:#}");
    policy_with(&service, "the fault of the disk", |policy| policy["bundle"]["cache_error"].is_string()).await;
    assert_eq!(cached(&at.world), ["7.tar", "7.tar.sig", "8.tar.sig"]);
    service.stop().await;

    at.server.go_away(true);
    let service = at.sidecar("").start().await;
    let before = failing(&service, "closed").await;
    assert_eq!((&before["digest"], &before["bundle"]["sequence"]), (&good["digest"], &7.into()));
    assert_eq!(asked(&mut client(&at.world, &service).await, "GET").await.0, StatusCode::OK);
    fs::remove_dir(occupied).expect("is empty");
    at.server.go_away(false);
    ask_now(&service);
    assert_eq!(in_force(&service, 8).await["digest"], better["digest"]);
    eventually("the newest on disk", || (cached(&at.world) == ["8.tar", "8.tar.sig"]).then_some(())).await;
    service.stop().await;
}

#[tokio::test]
async fn what_a_crash_left_on_disk_is_used_and_cleared_away_at_start() {
    let at = Bundles::new().await;
    let old = at.signer.bundle(7, &permit("good", "read"));
    at.server.serve(old.clone());
    let service = at.sidecar("").start().await;
    let good = in_force(&service, 7).await;
    service.stop().await;
    // It was about to put other bytes of the same policies in place of these, and had put their signature there.
    let mut tar = old.0;
    tar.extend([0; 512]);
    let signature = at.signer.key.sign(&tar).expect("is signed");
    let cache = at.world.path().join("cache");
    let long_ago = SystemTime::now() - Duration::from_secs(3600);
    for (name, bytes) in [
        ("7.next.tar", &tar),
        ("7.next.tar.sig", &signature),
        ("7.tar.sig", &signature),
        (".new-x", &tar),
        ("9.tar.sig", &signature),
    ] {
        fs::write(cache.join(name), bytes).expect("is writable");
        let file = fs::File::options().append(true).open(cache.join(name)).expect("is there");
        file.set_modified(long_ago).expect("is ours");
    }
    at.server.go_away(true);
    let service = at.sidecar("").start().await;
    let restored = failing(&service, "closed").await;
    assert_eq!(
        (&restored["digest"], &restored["bundle"]["from_cache"]),
        (&good["digest"], &true.into()),
        "{restored:#}"
    );
    assert_eq!(cached(&at.world), ["7.next.tar", "7.next.tar.sig", "7.tar", "7.tar.sig"]);
    at.server.serve((tar, signature));
    at.server.go_away(false);
    ask_now(&service);
    in_force(&service, 7).await;
    eventually("one pair", || (cached(&at.world) == ["7.tar", "7.tar.sig"]).then_some(())).await;
    service.stop().await;
    at.server.go_away(true);
    let service = at.sidecar("").start().await;
    assert_eq!(failing(&service, "closed").await["digest"], good["digest"]);
    service.stop().await;
}

#[tokio::test]
async fn a_bundle_that_has_expired_is_given_to_no_new_sidecar_and_stays_where_it_is() {
    let at = Bundles::new().await;
    let now = SystemTime::now();
    at.server.serve(at.signer.expiring(7, &permit("old", "write"), now - Duration::from_secs(3600)));
    let output = at.sidecar("").doctor().await;
    assert!(output.stdout.contains("expired: the bundle is `lake@7`, which expired at "), "{}", output.stdout);
    let mut service = at.sidecar("").spawn();
    service.listening().await;
    let refused = failing(&service, "expired").await;
    assert!(last_error(&refused).contains("the bundle is `lake@7`, which expired at "), "{refused:#}");
    assert_eq!(refused["generation"], 0);
    assert_eq!(asked(&mut client(&at.world, &service).await, "POST").await.0, StatusCode::FORBIDDEN);

    // One that has some seconds left is taken, and stays when they are over.
    let soon = SystemTime::now() + Duration::from_secs(7);
    at.server.serve(at.signer.expiring(8, &permit("good", "read"), soon));
    ask_now(&service);
    let good = in_force(&service, 8).await;
    assert!(good["bundle"]["expires"].is_string() && good["bundle"]["expired"] == false, "{good:#}");
    let seconds = service.metric("portcullis_policy_bundle_expiry_timestamp_seconds", &[]).await;
    assert!((seconds - soon.duration_since(SystemTime::UNIX_EPOCH).expect("is later").as_secs_f64()).abs() < 1.5);
    let expired = failing(&service, "expired").await;
    assert_eq!(
        (&expired["digest"], &expired["bundle"]["sequence"], &expired["bundle"]["expired"]),
        (&good["digest"], &8.into(), &true.into()),
        "{expired:#}"
    );
    assert!(SystemTime::now() >= soon - Duration::from_secs(1), "not before its time");
    service.logged("the policy bundle in force has expired; it stays in force until a newer one comes").await;
    assert_eq!(asked(&mut client(&at.world, &service).await, "GET").await.0, StatusCode::OK);
    assert_eq!(get(service.health(), "/ready").await.status, StatusCode::OK);
    service.stop().await;
    // Also after a restart: it was good when it came, and the disk is its own.
    at.server.go_away(true);
    let output = at.sidecar("").check().await;
    assert!(output.code() == 0 && output.stdout.contains("it expired at "), "{}", output.stdout);
    let service = at.sidecar("").start().await;
    let restored = failing(&service, "closed").await;
    assert_eq!((&restored["digest"], &restored["bundle"]["expired"]), (&good["digest"], &true.into()));
    service.logged("the policy bundle in force has expired").await;
    // The next one mends it, and expires never.
    at.server.serve(at.signer.bundle(9, &permit("better", "read")));
    at.server.go_away(false);
    ask_now(&service);
    let better = in_force(&service, 9).await;
    assert!(better["bundle"]["expires"].is_null() && better["bundle"]["expired"] == false, "{better:#}");
    assert_eq!(service.metric("portcullis_policy_bundle_expiry_timestamp_seconds", &[]).await, 0.0);
    service.stop().await;
}

#[tokio::test]
async fn a_poll_ends_though_every_part_of_it_would_come_in_time() {
    let at = Bundles::new().await;
    let stranger = Signer::new(&at.world, "stranger", &PKCS_ED25519);
    at.server.serve(at.signer.bundle(7, &permit("good", "read")));
    let service = at.sidecar("fetch_timeout: 1s\npoll_interval: 24h").start().await;
    let good = in_force(&service, 7).await;
    // Three looks of 0.8 s, and a pause after each: longer than a bundle and a signature may take.
    let (tar, signature) = stranger.bundle(8, &permit("evil", "write"));
    at.server.put(SIG, Served::File(signature));
    at.server.put(TAR, Served::Slow(tar, Duration::from_millis(800)));
    ask_now(&service);
    let policy = policy_with(&service, "a fault", |policy| policy["last_error"].is_string()).await;
    assert!(last_error(&policy).contains("bundle: no answer within 2 s"), "{policy:#}");
    assert_eq!((&policy["bundle"]["rule"], &policy["digest"]), (&"timeout".into(), &good["digest"]));
    // No byte of it is late.
    let (tar, signature) = at.signer.bundle(8, &permit("better", "read"));
    at.server.put(SIG, Served::File(signature));
    at.server.put(TAR, Served::Drip(tar));
    ask_now(&service);
    policy_with(&service, "another fault", |policy| last_error(policy).contains("bundle: no answer within 1 s")).await;
    at.server.serve(at.signer.bundle(8, &permit("better", "read")));
    ask_now(&service);
    in_force(&service, 8).await;
    service.stop().await;
}

#[tokio::test]
async fn a_server_whose_etags_say_nothing_holds_a_bundle_back_for_some_polls_at_most() {
    let at = Bundles::new().await;
    let same = |(tar, signature): (Vec<u8>, Vec<u8>)| {
        at.server.put(SIG, Served::File(signature));
        at.server.put(TAR, Served::SameEtag(tar));
    };
    same(at.signer.bundle(7, &permit("good", "read")));
    let service = at.sidecar("poll_interval: 24h").start().await;
    in_force(&service, 7).await;
    // The new signature stands beside the old bundle for a while; then the bundle comes, with the old one's ETag.
    let (tar, signature) = at.signer.bundle(8, &permit("better", "read"));
    at.server.put(SIG, Served::File(signature));
    ask_now(&service);
    failing(&service, "signature").await;
    at.server.put(TAR, Served::SameEtag(tar));
    for polls in 1.. {
        let (asked, told) = (at.server.answered(TAR, 200), at.server.answered(TAR, 304));
        ask_now(&service);
        let answers = || at.server.answered(TAR, 200) + at.server.answered(TAR, 304);
        eventually("an answer", || (answers() > asked + told).then_some(())).await;
        if at.server.answered(TAR, 200) > asked {
            break;
        }
        assert!(polls <= 10, "it is never sent again");
    }
    in_force(&service, 8).await;
    // What is in force is by its own signature: no other bundle can be behind the ETag.
    same(at.signer.bundle(9, &permit("best", "read")));
    ask_now(&service);
    in_force(&service, 9).await;
    service.stop().await;
}

#[tokio::test]
async fn of_a_server_that_was_broken_into_nothing_comes_into_force_that_was_not_signed_as_the_next_one() {
    let at = Bundles::new().await;
    let stranger = Signer::new(&at.world, "stranger", &PKCS_ED25519);
    let soon = SystemTime::now() + Duration::from_secs(3_600);
    let (seven, eight) =
        (at.signer.bundle(7, &permit("seven", "write")), at.signer.expiring(8, &permit("eight", "read"), soon));
    at.server.serve(eight.clone());
    let service = at.sidecar("").start().await;
    let good = in_force(&service, 8).await;
    // Whoever has the server has every bundle that ever was on it, and may make archives of them.
    let two = [&*eight.0, &*seven.0].concat();
    let inside = {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, bytes) in [("lake.tar", &seven.0), ("lake.tar.sig", &seven.1)] {
            let mut header = tar::Header::new_ustar();
            header.set_size(bytes.len() as u64);
            tar.append_data(&mut header, name, &**bytes).expect("is written");
        }
        tar.into_inner().expect("is written")
    };
    let mut of_two = eight.1.clone();
    of_two.extend(&seven.1);
    for (what, rule, (tar, signature)) in [
        ("two archives, signed each", "signature", (two.clone(), eight.1.clone())),
        ("an old one", "sequence-rollback", seven.clone()),
        ("a signed one within another", "signature", (inside, seven.1.clone())),
        ("an old one again", "sequence-rollback", seven.clone()),
        ("what is newer, by its own key", "signature", stranger.bundle(9, &permit("evil", "write"))),
        ("other policies of the same number", "sequence-twice", at.signer.bundle(8, &permit("other", "write"))),
        ("the same policies, signed without an end", "sequence-twice", at.signer.bundle(8, &permit("eight", "read"))),
        ("two signatures", "signature", (eight.0.clone(), of_two)),
        ("an old one at last", "sequence-rollback", seven.clone()),
        ("the rest of one", "signature", (eight.0[512..].to_vec(), eight.1.clone())),
    ] {
        at.server.serve((tar, signature));
        ask_now(&service);
        let policy = failing(&service, rule).await;
        assert_eq!(
            (&policy["digest"], &policy["bundle"]["sequence"]),
            (&good["digest"], &8.into()),
            "{what}: {policy:#}"
        );
    }
    let mut app = client(&at.world, &service).await;
    assert_eq!(
        (asked(&mut app, "GET").await.0, asked(&mut app, "POST").await.0),
        (StatusCode::OK, StatusCode::FORBIDDEN)
    );
    assert!(at.upstream.seen().iter().all(|seen| seen.method != "POST"));
    at.server.serve(at.signer.bundle(9, &permit("nine", "write")));
    ask_now(&service);
    in_force(&service, 9).await;
    assert_eq!(asked(&mut app, "POST").await.0, StatusCode::OK);
    service.stop().await;
}
