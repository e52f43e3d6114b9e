//! Certificates that are not quite certificates.

use rcgen::CustomExtension;
use serde_json::{Value, json};

use super::*;

#[tokio::test]
async fn what_is_no_whole_certificate_of_version_3_is_refused() {
    let world = World::new();
    let good = world.ca.issue(APP);
    let whole = good.leaf().to_vec();
    let shown = |bytes: Vec<u8>| Svid { chain: vec![bytes.into()], ..good.clone() };
    let forged = || Forgery::of(good.leaf());
    let resigned = |forgery: Forgery| forgery.signed(&world.ca).leaf_of(&good);
    let version = |number| der(0xa0, &[2, 1, number]);
    let validity = |from: &[u8], to: &[u8]| der(0x30, &[from, to].concat());
    let times = |until: &[u8]| forged().with(Field::Validity, &validity(&der(23, b"240101000000Z"), until));
    let long_form = {
        // A length of two bytes where one would do for the whole: BER, and not DER.
        let content = content(&whole);
        let length = u32::try_from(content.len()).expect("is short").to_be_bytes();
        [&[0x30, 0x84], length.as_slice(), content].concat()
    };
    let unique_id = forged().changed(Field::Extensions, |extensions| [&der(0x81, &[0, 1]), extensions].concat());
    let cases = [
        case("not a certificate", "encoding", shown(b"not a certificate".to_vec()), &good).without_names(),
        case("a certificate cut short", "encoding", shown(whole.iter().rev().skip(1).rev().copied().collect()), &good)
            .without_names(),
        case("a byte after it", "encoding", shown([whole.clone(), vec![0]].concat()), &good).without_names(),
        case("another after it", "encoding", shown([whole.clone(), whole.clone()].concat()), &good).without_names(),
        case("a length in long form", "encoding", shown(long_form), &good),
        case("an issuer's unique ID", "encoding", resigned(unique_id), &good),
        case("version 1", "version", resigned(forged().with(Field::Version, &[]).with(Field::Extensions, &[])), &good)
            .without_names(),
        case("version 2", "version", resigned(forged().with(Field::Version, &version(1))), &good),
        case("version 4", "version", resigned(forged().with(Field::Version, &version(3))), &good),
        case(
            "a month 13",
            "encoding",
            resigned(times(&der(23, b"351301000000Z"))),
            &resigned(times(&der(23, b"351201000000Z"))),
        )
        .without_names(),
    ];
    Trial::open(world).await.run(&cases).await;
}

#[tokio::test]
async fn a_signature_is_the_issuers_and_over_these_bytes() {
    let world = World::new();
    let good = world.ca.issue(APP);
    let forged = || Forgery::of(good.leaf());
    let mut flipped = forged().signed_before();
    *flipped.last_mut().expect("is not empty") ^= 1;
    let other = Forgery::of(world.ca.issue(APP).leaf()).signed_before();
    let stolen = Svid { key: world.ca.issue("/ns/test/sa/thief").key, ..good.clone() };
    let itself = Ca::new("pipeline.example");
    // ecdsa-with-SHA384 around, ecdsa-with-SHA256 inside.
    let around = forged().around(&der(0x30, &der(6, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3])));
    let cases = [
        case("a flipped bit", "chain", forged().signature(&flipped).leaf_of(&good), &good),
        case("another certificate's", "chain", forged().signature(&other).leaf_of(&good), &good),
        case("none", "chain", forged().signature(&[]).leaf_of(&good), &good),
        case(
            "that of another CA",
            "chain",
            forged().signed(&itself).leaf_of(&good),
            &forged().signed(&world.ca).leaf_of(&good),
        ),
        case("two algorithms", "signature-algorithm", around.leaf_of(&good), &good),
        case("another's certificate", "handshake-signature", stolen, &good),
    ];
    Trial::open(world).await.run(&cases).await;
}

#[tokio::test]
async fn a_certificate_that_fills_more_than_a_message_is_refused_unread() {
    let door = Door::open("").await;
    let padded = |length: usize| {
        let svid = door.world.ca.issue_with(APP, |p| {
            let padding = vec![0; length];
            p.custom_extensions = vec![CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99_999, 1], padding)];
        });
        TlsClient::with(&svid)
    };
    // rustls takes handshake messages of up to 64 KiB, and of a longer one it reads no more than the length.
    let stream = padded(70_000).connect(door.address()).await.expect("a TLS 1.3 client is done first");
    let address = stream.get_ref().0.local_addr().expect("is connected");
    let asked = http1(stream).await.try_send(request("GET", "service.example", "/", &[], "")).await;
    assert!(asked.is_err(), "{asked:?}");
    let record = door.handshake_from(address).await;
    assert_eq!((&record["reason"], &record["peer_san"]), (&json!("tls"), &Value::Null), "{record}");
    refused_at(&record, "70,000 bytes");
    door.lets_in("40,000 bytes", &padded(40_000)).await;
    door.close(1, 1).await;
}
