//! Who issued it: paths from the leaf to an authority of its trust domain.

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa,
    KeyUsagePurpose, NameConstraints, SanType,
};
use time::{Duration, OffsetDateTime};

use super::*;

fn titled(name: &'static str) -> impl Fn(&mut CertificateParams) {
    move |params| params.distinguished_name.push(DnType::CommonName, name)
}

fn of_length(length: u8) -> IsCa {
    IsCa::Ca(BasicConstraints::Constrained(length))
}

#[tokio::test]
async fn only_the_bundle_of_its_own_trust_domain_vouches_for_an_id() {
    let world = World::new();
    let good = world.ca.issue(APP);
    let trial = Trial::open(world).await;
    let (ca, partner) = (&trial.door.world.ca, &trial.door.partner);
    let theirs = partner.issue("/x");
    let stranger = Ca::new("pipeline.example");
    let mut shown = stranger.issue(APP);
    shown.chain.push(stranger.certificate().clone());
    let mut orphan = ca.intermediate(|_| ()).issue(APP);
    orphan.chain.truncate(1);
    let self_signed = Ca::new_with("pipeline.example", |p| {
        p.is_ca = IsCa::ExplicitNoCa;
        p.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        p.subject_alt_names = vec![uri(ID)];
    });
    let alone = Svid { chain: vec![self_signed.certificate().clone()], ..stranger.issue(APP) };
    let cases = [
        case("a CA of the same name", "chain", stranger.issue(APP), &good),
        case("a CA of the same name, shown", "chain", shown, &good),
        case("another domain's ID by our CA", "chain", ca.issue_uri("spiffe://partner.example/x"), &theirs),
        case("our ID by another domain's CA", "chain", partner.issue_uri(ID), &theirs),
        case("a domain that nobody knows", "unknown-trust-domain", Ca::new("other.example").issue("/x"), &good),
        case("its ID by our CA", "unknown-trust-domain", ca.issue_uri("spiffe://other.example/x"), &good),
        case("no intermediate", "chain", orphan, &ca.intermediate(|_| ()).issue(APP)),
        case("itself", "chain", alone, &good),
    ];
    trial.run(&cases).await;
}

#[tokio::test]
async fn an_issuer_is_a_ca_and_valid_and_for_this() {
    let world = World::new();
    let ca = &world.ca;
    let now = OffsetDateTime::now_utc();
    let chained = |change: &dyn Fn(&mut CertificateParams)| ca.intermediate(change).issue(APP);
    let good = chained(&|_| ());
    let by_a_workload = |params: &mut CertificateParams| {
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.subject_alt_names = vec![uri(SECOND)];
    };
    let extended = |oid: &[u64], critical, content: Vec<u8>| {
        let mut extension = CustomExtension::from_oid_content(oid, content);
        extension.set_criticality(critical);
        chained(&move |p| p.custom_extensions = vec![extension.clone()])
    };
    let purposes = |purposes: &[ExtendedKeyUsagePurpose]| chained(&|p| p.extended_key_usages = purposes.to_vec());
    use ExtendedKeyUsagePurpose::{ClientAuth, CodeSigning, ServerAuth};
    let issuer = ca.intermediate(|_| ());
    let certificate = Forgery::of(issuer.certificate());
    let version_1 = certificate.clone().with(Field::Version, &[]).with(Field::Extensions, &[]).signed(ca).certificate();
    let flipped = {
        let mut signature = certificate.signed_before();
        *signature.last_mut().expect("is not empty") ^= 1;
        certificate.signature(&signature).certificate()
    };
    let below = |certificate: &CertificateDer<'static>| {
        let leaf = issuer.issue(APP);
        Svid { chain: vec![leaf.leaf().clone(), certificate.clone()], ..leaf }
    };
    let cases = [
        case(
            "no keyCertSign",
            "signing-key-cert-sign",
            chained(&|p| p.key_usages = vec![KeyUsagePurpose::CrlSign]),
            &good,
        ),
        case("no cA", "signing-ca-flag", chained(&|p| p.is_ca = IsCa::ExplicitNoCa), &good),
        case("no basic constraints", "signing-ca-flag", chained(&|p| p.is_ca = IsCa::NoCa), &good),
        case("a workload", "signing-ca-flag", chained(&by_a_workload), &good),
        case("no key usage", "key-usage-present", chained(&|p| p.key_usages.clear()), &good).by_issuer(),
        case(
            "a workload's ID",
            "signing-spiffe-id",
            chained(&|p| p.subject_alt_names = vec![uri(SECOND)]),
            &chained(&|p| {
                p.subject_alt_names.clear();
            }),
        ),
        case("two IDs", "signing-spiffe-id", chained(&|p| p.subject_alt_names.push(uri("spiffe://x.example"))), &good),
        case("expired", "issuer-validity", chained(&|p| p.not_after = now - Duration::seconds(2)), &good),
        case("not yet valid", "issuer-validity", chained(&|p| p.not_before = now + Duration::minutes(10)), &good),
        case(
            "for code only",
            "issuer-extended-key-usage",
            purposes(&[CodeSigning]),
            &purposes(&[ClientAuth, ServerAuth]),
        ),
        case(
            "a critical extension",
            "critical-extension",
            extended(&[1, 2, 3, 4], true, vec![5, 0]),
            &extended(&[1, 2, 3, 4], false, vec![5, 0]),
        )
        .by_issuer(),
        case(
            "an extension twice",
            "duplicate-extension",
            extended(&[2, 5, 29, 19], true, der(0x30, &[1, 1, 0xff])),
            &good,
        )
        .by_issuer(),
        case("version 1", "version", below(&version_1), &below(issuer.certificate())).by_issuer(),
        case("a signature that is not the root's", "chain", below(&flipped), &below(issuer.certificate())),
        case("not a certificate", "encoding", below(&b"junk".to_vec().into()), &good).by_issuer(),
    ];
    Trial::open(world).await.run(&cases).await;
}

#[tokio::test]
async fn a_path_is_as_long_as_its_issuers_allow() {
    let world = World::new();
    let narrow = Ca::new_with("pipeline.example", |p| {
        titled("narrow")(p);
        p.is_ca = of_length(0);
    });
    let ca = &world.ca;
    let deep = |top: &Ca, levels: &[&'static str]| {
        let mut issuers: Vec<Ca> = Vec::new();
        for name in levels {
            let next = issuers.last().unwrap_or(top).intermediate(titled(name));
            issuers.push(next);
        }
        issuers.last().unwrap_or(top).issue(APP)
    };
    let limited = |length| {
        ca.intermediate(|p| {
            titled("limited")(p);
            p.is_ca = of_length(length);
        })
    };
    let padded = |count| {
        let mut svid = ca.issue(APP);
        svid.chain.extend(std::iter::repeat_n(ca.certificate().clone(), count));
        svid
    };
    let cases = [
        case("1 below 0", "path-length", deep(&limited(0), &["1"]), &deep(&limited(0), &[])),
        case("2 below 1", "path-length", deep(&limited(1), &["1", "2"]), &deep(&limited(1), &["1"])),
        case("3 below 2", "path-length", deep(&limited(2), &["1", "2", "3"]), &deep(&limited(2), &["1", "2"])),
        case("1 below an authority's 0", "path-length", deep(&narrow, &["1"]), &deep(&narrow, &[])),
        case(
            "7 issuers",
            "path-length",
            deep(ca, &["1", "2", "3", "4", "5", "6", "7"]),
            &deep(ca, &["1", "2", "3", "4", "5", "6"]),
        ),
        case("9 certificates", "chain-length", padded(8), &padded(7)),
        case("100 certificates", "chain-length", padded(99), &padded(1)),
    ];
    Trial::trusting(world, &[narrow.certificate()]).await.run(&cases).await;
}

#[tokio::test]
async fn an_issuer_names_what_it_is_permitted_to() {
    let world = World::new();
    let bounds = |permitted: Vec<GeneralSubtree>, excluded: Vec<GeneralSubtree>| NameConstraints {
        permitted_subtrees: permitted,
        excluded_subtrees: excluded,
    };
    // rcgen makes no constraints on URIs: written by hand.
    let on_uris = |list: u8, base: &str| {
        let subtree = der(0x30, &der(0x86, base.as_bytes()));
        let mut extension = CustomExtension::from_oid_content(&[2, 5, 29, 30], der(0x30, &der(list, &subtree)));
        extension.set_criticality(true);
        extension
    };
    let (permitted, excluded) = (|base: &str| on_uris(0xa0, base), |base: &str| on_uris(0xa1, base));
    let below =
        |extension: CustomExtension| world.ca.intermediate(move |p| p.custom_extensions = vec![extension]).issue(APP);
    let root = |name: &'static str, extension: CustomExtension| {
        Ca::new_with("pipeline.example", move |p| {
            titled(name)(p);
            p.custom_extensions = vec![extension];
        })
    };
    let (ours, foreign) = (root("ours", permitted("pipeline.example")), root("foreign", permitted("other.example")));
    let dns = |name: &str| SanType::DnsName(name.try_into().expect("is ASCII"));
    let within_dns = world.ca.intermediate(|p| {
        p.name_constraints = Some(bounds(vec![GeneralSubtree::DnsName("svc.example".into())], vec![]));
    });
    let named = |name: &str| within_dns.issue_with(APP, |p| p.subject_alt_names.push(dns(name)));
    let directory = world.ca.intermediate(|p| {
        let mut name = rcgen::DistinguishedName::new();
        name.push(DnType::OrganizationName, "x");
        p.name_constraints = Some(bounds(vec![GeneralSubtree::DirectoryName(name)], vec![]));
    });
    const RULE: &str = "name-constraints";
    let cases = [
        case(
            "another domain permitted",
            RULE,
            below(permitted("other.example")),
            &below(permitted("pipeline.example")),
        ),
        case("domains below permitted", RULE, below(permitted(".pipeline.example")), &below(permitted(".example"))),
        case("ours excluded", RULE, below(excluded("pipeline.example")), &below(excluded("other.example"))),
        case("all below excluded", RULE, below(excluded(".example")), &below(excluded(".pipeline.example"))),
        case(
            "a constraint that is no domain",
            RULE,
            below(permitted("spiffe://pipeline.example")),
            &below(permitted("PIPELINE.example")),
        ),
        case("by the authority", RULE, foreign.issue(APP), &ours.issue(APP)),
        case(
            "by the authority, further down",
            RULE,
            foreign.intermediate(|_| ()).issue(APP),
            &ours.intermediate(|_| ()).issue(APP),
        ),
        case("a DNS name", RULE, named("app.other.example"), &named("app.svc.example")),
        case("a directory name", RULE, directory.issue(APP), &within_dns.issue(APP)),
    ];
    Trial::trusting(world, &[ours.certificate(), foreign.certificate()]).await.run(&cases).await;
}

#[tokio::test]
async fn of_several_paths_one_that_holds_is_enough() {
    let world = World::new();
    // The same name as the world's CA, as when a CA's key is rotated; and an expired one of a name of its own.
    let rotated = Ca::new("pipeline.example");
    let expired = Ca::new_with("pipeline.example", |p| {
        titled("expired")(p);
        p.not_after = OffsetDateTime::now_utc() - Duration::seconds(2);
    });
    let unknown = Ca::new_with("pipeline.example", titled("unknown"));
    let ca = &world.ca;
    let issuer = ca.intermediate(|_| ());
    let crossed = |by: &[&Ca]| {
        let mut svid = issuer.issue(APP);
        svid.chain.truncate(1);
        svid.chain.extend(by.iter().map(|by| issuer.cross_signed_by(by)));
        svid
    };
    let with = |others: &[&CertificateDer<'static>]| {
        let mut svid = ca.intermediate(|_| ()).issue(APP);
        let issuers = svid.chain.split_off(1);
        svid.chain.extend(others.iter().map(|other| (*other).clone()));
        svid.chain.extend(issuers);
        svid
    };
    let no_key_id = |ca: &Ca| ca.issue_with(APP, |p| p.use_authority_key_identifier_extension = false);
    let strangers_leaf = unknown.issue("/x").leaf().clone();
    let cases = [
        case("a third CA of the name", "chain", Ca::new("pipeline.example").issue(APP), &rotated.issue(APP)),
        case("that, without a key ID", "chain", no_key_id(&Ca::new("pipeline.example")), &no_key_id(&rotated)),
        case("the first of the name, unknown", "chain", no_key_id(&unknown), &no_key_id(ca)),
        case("an expired authority", "issuer-validity", expired.issue(APP), &ca.issue(APP)),
        case("cross-signed by nobody we know", "chain", crossed(&[&unknown]), &crossed(&[&unknown, ca])),
        case(
            "cross-signed by an expired one",
            "issuer-validity",
            crossed(&[&expired]),
            &crossed(&[&expired, &rotated]),
        ),
        case("strangers only", "chain", unknown.issue(APP), &with(&[unknown.certificate(), &strangers_leaf])),
        case("issuers in no order", "chain", crossed(&[]), &with(&[ca.certificate(), rotated.certificate()])),
    ];
    Trial::trusting(world, &[rotated.certificate(), expired.certificate()]).await.run(&cases).await;
}
