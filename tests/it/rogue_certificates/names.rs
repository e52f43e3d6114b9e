//! SPIFFE IDs that are none, in every spelling.

use super::*;

#[tokio::test]
async fn an_id_that_the_standard_does_not_know_is_refused_in_every_spelling() {
    let world = World::new();
    let of = |length: usize| format!("spiffe://pipeline.example/{}", "a".repeat(length - 26));
    let (long, longest) = (of(2049), of(2048));
    let long_domain = format!("spiffe://{}/x", "a".repeat(256));
    let good = world.ca.issue(APP);
    let ids = [
        ("spiffe-id-has-path", "spiffe://pipeline.example"),
        ("spiffe-id-path", "spiffe://pipeline.example/"),
        ("spiffe-id-path", "spiffe://pipeline.example/ns/test/sa/app/"),
        ("spiffe-id-path", "spiffe://pipeline.example//ns/test/sa/app"),
        ("spiffe-id-path", "spiffe://pipeline.example/ns//app"),
        ("spiffe-id-path", "spiffe://pipeline.example/ns/./app"),
        ("spiffe-id-path", "spiffe://pipeline.example/ns/other/../app"),
        ("spiffe-id-path", "spiffe://pipeline.example/.."),
        ("spiffe-id-path", "spiffe://pipeline.example/ns/%61pp"),
        ("spiffe-id-path", "spiffe://pipeline.example/ns%2Fapp"),
        ("spiffe-id-path", "spiffe://pipeline.example/ns/app?admin=1"),
        ("spiffe-id-path", "spiffe://pipeline.example/ns/app#admin"),
        ("spiffe-id-path", "spiffe://pipeline.example/ns/app;v=1"),
        ("spiffe-id-path", "spiffe://pipeline.example/ns/app:80"),
        ("spiffe-id-path", "spiffe://pipeline.example/ns/*"),
        ("spiffe-id-path", "spiffe://pipeline.example/ns\\app"),
        ("spiffe-id-trust-domain", "spiffe://pipeline.example:8443/ns/test/sa/app"),
        ("spiffe-id-trust-domain", "spiffe://app@pipeline.example/ns/test/sa/app"),
        ("spiffe-id-trust-domain", "spiffe://Pipeline.example/ns/test/sa/app"),
        ("spiffe-id-trust-domain", "spiffe://PIPELINE.EXAMPLE/ns/test/sa/app"),
        ("spiffe-id-trust-domain", "spiffe://pipeline%2Eexample/ns/test/sa/app"),
        ("spiffe-id-trust-domain", "spiffe://pipeline.example?a=/ns/test/sa/app"),
        ("spiffe-id-trust-domain", "spiffe://pipeline.example#/ns/test/sa/app"),
        ("spiffe-id-trust-domain", "spiffe:///ns/test/sa/app"),
        ("spiffe-id-trust-domain", "spiffe://[::1]/ns/test/sa/app"),
        ("spiffe-id-trust-domain", long_domain.as_str()),
        ("spiffe-id-scheme", ""),
        ("spiffe-id-scheme", "https://pipeline.example/ns/test/sa/app"),
        ("spiffe-id-scheme", "SPIFFE://pipeline.example/ns/test/sa/app"),
        ("spiffe-id-scheme", "spiffe:/pipeline.example/ns/test/sa/app"),
        ("spiffe-id-scheme", "pipeline.example/ns/test/sa/app"),
        ("spiffe-id-scheme", "xspiffe://pipeline.example/ns/test/sa/app"),
        ("spiffe-id-length", long.as_str()),
        ("unknown-trust-domain", "spiffe://pipeline.example.evil.example/ns/test/sa/app"),
        ("unknown-trust-domain", "spiffe://pipeline.example./ns/test/sa/app"),
        ("unknown-trust-domain", "spiffe://example/ns/test/sa/app"),
        ("unknown-trust-domain", "spiffe://10.0.0.1/ns/test/sa/app"),
        ("uri-san-encoding", "spiffe://pipeline.example/ns/test/sa/app\0x"),
        ("uri-san-encoding", "spiffe://pipeline.example/ns/test/sa/app "),
        ("uri-san-encoding", "spiffe://pipeline.example/ns/test\r\nforged"),
    ];
    let twins = ["spiffe://pipeline.example/a", "spiffe://pipeline.example/ns/.../A_b-c.0", longest.as_str()];
    let twins: Vec<_> = twins.iter().map(|id| world.ca.issue_uri(id)).chain([good]).collect();
    let cases: Vec<_> = ids
        .iter()
        .zip(twins.iter().cycle())
        .map(|((rule, id), twin)| {
            // A name that somebody else chose is escaped before it is written.
            let san = id.as_bytes().escape_ascii().to_string();
            case("an ID", rule, world.ca.issue_uri(id), twin).named(&san)
        })
        .collect();
    Trial::open(world).await.run(&cases).await;
}
