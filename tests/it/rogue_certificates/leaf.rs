//! Rules for the leaf: its names, usages, extensions and time.

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyUsagePurpose, SanType,
};
use time::{Duration, OffsetDateTime};

use super::*;

const SAN: &[u64] = &[2, 5, 29, 17];
const KEY_USAGE: &[u64] = &[2, 5, 29, 15];
const BASIC_CONSTRAINTS: &[u64] = &[2, 5, 29, 19];
const EXTENDED_KEY_USAGE: &[u64] = &[2, 5, 29, 37];
const UNKNOWN: &[u64] = &[1, 3, 6, 1, 4, 1, 99_999, 1];

fn extension(oid: &[u64], critical: bool, content: Vec<u8>) -> CustomExtension {
    let mut extension = CustomExtension::from_oid_content(oid, content);
    extension.set_criticality(critical);
    extension
}

/// The content of a SAN extension with these names: context tag and content.
fn san(names: &[(u8, &[u8])]) -> Vec<u8> {
    der(0x30, &names.iter().flat_map(|(tag, name)| der(*tag, name)).collect::<Vec<_>>())
}

fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().expect("is ASCII"))
}

#[tokio::test]
async fn a_leaf_has_one_uri_and_it_is_its_id() {
    let world = World::new();
    let good = world.ca.issue(APP);
    let issue = |change: &dyn Fn(&mut CertificateParams)| world.ca.issue_with(APP, change);
    let named = |names: &[&str]| issue(&|p| p.subject_alt_names = names.iter().map(|name| uri(name)).collect());
    let written = |critical, names: &[(u8, &[u8])]| {
        issue(&|p| {
            p.subject_alt_names.clear();
            p.custom_extensions = vec![extension(SAN, critical, san(names))];
        })
    };
    let id = ID.as_bytes();
    let no_subject = |critical| {
        issue(&|p| {
            p.distinguished_name = DistinguishedName::new();
            p.subject_alt_names.clear();
            p.custom_extensions = vec![extension(SAN, critical, san(&[(0x86, id)]))];
        })
    };
    let common_name = |names: Vec<SanType>| {
        issue(&|p| {
            p.subject_alt_names.clone_from(&names);
            p.distinguished_name.push(DnType::CommonName, ID);
        })
    };
    let beside = issue(&|p| p.subject_alt_names.push(dns("app.pipeline.example")));
    let other_name = der(0x30, &[der(6, &[42, 3, 4]), der(0xa0, &der(12, id))].concat());
    let two = written(false, &[(0x86, id), (0x86, &[0xff, 0xfe])]);
    let cases = [
        case("two IDs", "uri-san-count", named(&[ID, SECOND]), &good).named(&format!("{ID}, {SECOND}")),
        case("an ID twice", "uri-san-count", named(&[ID, ID]), &good).named(&format!("{ID}, {ID}")),
        case("a URL after the ID", "uri-san-count", named(&[ID, "https://pipeline.example/"]), &good)
            .named(&format!("{ID}, https://pipeline.example/")),
        case("a URN before the ID", "uri-san-count", named(&["urn:x:y", ID]), &good).named(&format!("urn:x:y, {ID}")),
        case("a second URI that is empty", "uri-san-count", written(false, &[(0x86, id), (0x86, b"")]), &good)
            .named(&format!("{ID}, ")),
        case("a second URI that is no text", "uri-san-count", two, &good).named(&format!("{ID}, \\xff\\xfe")),
        case("a DNS name alone", "uri-san-count", issue(&|p| p.subject_alt_names = vec![dns("app.example")]), &beside)
            .named("DNS:app.example"),
        case("the ID as a DNS name", "uri-san-count", issue(&|p| p.subject_alt_names = vec![dns(ID)]), &beside)
            .named(&format!("DNS:{ID}")),
        case("the ID as common name", "uri-san-count", common_name(vec![]), &common_name(vec![uri(ID)]))
            .without_names(),
        case("the ID as another name", "uri-san-count", written(false, &[(0xa0, &other_name)]), &good).without_names(),
        case("the ID as an e-mail address", "uri-san-count", written(false, &[(0x81, id)]), &good).without_names(),
        case("names without any", "uri-san-count", written(false, &[]), &good).without_names(),
        case("no subject, names not critical", "san-critical", no_subject(false), &no_subject(true)),
    ];
    Trial::open(world).await.run(&cases).await;
}

#[tokio::test]
async fn a_leaf_signs_handshakes_and_nothing_else() {
    let world = World::new();
    let good = world.ca.issue(APP);
    let issue = |change: &dyn Fn(&mut CertificateParams)| world.ca.issue_with(APP, change);
    let usages = |usages: &'static [KeyUsagePurpose]| issue(&|p| p.key_usages = usages.to_vec());
    let purposes = |purposes: &'static [Purpose]| issue(&|p| p.extended_key_usages = purposes.to_vec());
    let key_usage = |critical, bits: &[u8]| {
        issue(&|p| {
            p.key_usages.clear();
            p.custom_extensions = vec![extension(KEY_USAGE, critical, der(3, bits))];
        })
    };
    let constraints = |is_ca: &IsCa| issue(&|p| p.is_ca = *is_ca);
    let mut intermediate_first = world.ca.intermediate(|_| ()).issue(APP);
    intermediate_first.chain.reverse();
    use ExtendedKeyUsagePurpose as Purpose;
    use KeyUsagePurpose::{CrlSign, DigitalSignature, KeyAgreement, KeyCertSign, KeyEncipherment};
    let bare = constraints(&IsCa::NoCa);
    let cases = [
        case("cA", "ca-flag", constraints(&IsCa::Ca(BasicConstraints::Unconstrained)), &bare),
        case("cA that issues nothing", "ca-flag", constraints(&IsCa::Ca(BasicConstraints::Constrained(0))), &good),
        case("the issuer before the leaf", "ca-flag", intermediate_first, &world.ca.intermediate(|_| ()).issue(APP))
            .named("spiffe://pipeline.example"),
        case("keyCertSign", "key-cert-sign", usages(&[DigitalSignature, KeyCertSign]), &good),
        case("cRLSign", "crl-sign", usages(&[DigitalSignature, CrlSign]), &good),
        case(
            "no digitalSignature",
            "digital-signature",
            usages(&[KeyAgreement, KeyEncipherment]),
            &usages(&[DigitalSignature, KeyAgreement, KeyEncipherment]),
        ),
        case("key usage without any", "digital-signature", key_usage(true, &[0]), &key_usage(true, &[7, 0x80])),
        case("no key usage", "key-usage-present", usages(&[]), &good),
        case(
            "key usage not critical",
            "key-usage-critical",
            key_usage(false, &[7, 0x80]),
            &key_usage(true, &[7, 0x80]),
        ),
        case("serverAuth alone", "extended-key-usage", purposes(&[Purpose::ServerAuth]), &purposes(&[])),
        case("clientAuth alone", "extended-key-usage", purposes(&[Purpose::ClientAuth]), &good),
        case(
            "codeSigning alone",
            "extended-key-usage",
            purposes(&[Purpose::CodeSigning]),
            &purposes(&[Purpose::CodeSigning, Purpose::ClientAuth, Purpose::ServerAuth]),
        ),
        case("any purpose alone", "extended-key-usage", purposes(&[Purpose::Any]), &good),
    ];
    Trial::open(world).await.run(&cases).await;
}

#[tokio::test]
async fn a_leaf_has_each_extension_once_and_no_critical_one_that_nobody_knows() {
    let world = World::new();
    let good = world.ca.issue(APP);
    let with = |oid: &[u64], critical, content: Vec<u8>| {
        world.ca.issue_with(APP, |p| p.custom_extensions = vec![extension(oid, critical, content)])
    };
    let again = |oid, content| with(oid, true, content);
    let written = |content: Vec<u8>| {
        world.ca.issue_with(APP, |p| {
            p.subject_alt_names.clear();
            p.custom_extensions = vec![extension(SAN, false, content)];
        })
    };
    let whole = san(&[(0x86, ID.as_bytes())]);
    let both_names = format!("{ID}, {SECOND}");
    let cases = [
        case("names twice", "duplicate-extension", again(SAN, san(&[(0x86, SECOND.as_bytes())])), &good)
            .named(&both_names),
        case("key usage twice", "duplicate-extension", again(KEY_USAGE, vec![3, 2, 7, 0x80]), &good),
        case("basic constraints twice", "duplicate-extension", again(BASIC_CONSTRAINTS, der(0x30, &[])), &good),
        case(
            "extended key usage twice",
            "duplicate-extension",
            again(EXTENDED_KEY_USAGE, der(0x30, &der(6, &[0x2b, 6, 1, 5, 5, 7, 3, 1]))),
            &good,
        ),
        case("names cut short", "extension-encoding", written(vec![0x30, 0x7f, 0x86]), &written(whole.clone()))
            .without_names(),
        case("bytes after the names", "extension-encoding", written([whole.clone(), vec![5, 0]].concat()), &good)
            .without_names(),
        case(
            "a name of another class",
            "extension-encoding",
            written(san(&[(0x86, ID.as_bytes()), (0x16, b"x")])),
            &good,
        )
        .without_names(),
        case(
            "a critical extension",
            "critical-extension",
            with(UNKNOWN, true, vec![5, 0]),
            &with(UNKNOWN, false, vec![5, 0]),
        ),
        case("critical policies", "critical-extension", with(&[2, 5, 29, 32], true, der(0x30, &[])), &good),
    ];
    Trial::open(world).await.run(&cases).await;
}

#[tokio::test]
async fn a_leaf_is_valid_now() {
    let world = World::new();
    let (good, now) = (world.ca.issue(APP), OffsetDateTime::now_utc());
    let from_to = |from: i64, to: i64| {
        world.ca.issue_with(APP, |p| {
            (p.not_before, p.not_after) = (now + Duration::seconds(from), now + Duration::seconds(to));
        })
    };
    let cases = [
        case("just expired", "expired", from_to(-600, -2), &from_to(-600, 600)),
        case("long expired", "expired", from_to(-86_400 * 800, -86_400 * 400), &good),
        case("not yet valid", "not-yet-valid", from_to(600, 1_200), &from_to(-60, 1_200)),
        case("valid from the year 2060 on", "not-yet-valid", from_to(86_400 * 12_500, 86_400 * 12_600), &good),
        case("an end before the beginning", "validity-order", from_to(600, -600), &good),
    ];
    Trial::open(world).await.run(&cases).await;
}
