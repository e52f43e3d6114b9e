//! Revocation lists: what they take away, from whom, until when, and which lists do not count.

use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::identity::X509Svid;
use crate::identity::dev_ca::{CrlParams, DevCa, Minted, SvidParams, der};
use crate::identity::tests::{domain, spiffe_id};
use crate::identity::trust::*;

const HOUR: Duration = Duration::from_secs(3600);

fn ca(name: &str) -> DevCa {
    named_ca(name, "CA")
}

/// An authority with a common name of our choice: two of them may share it.
fn named_ca(name: &str, common_name: &str) -> DevCa {
    let mut params = SvidParams::signing(&domain(name), 10 * HOUR, SystemTime::now());
    params.common_name = Some(common_name.to_owned());
    DevCa::with_params(&params).unwrap()
}

fn mint(ca: &DevCa, id: &str) -> Minted {
    ca.issue(&spiffe_id(id), HOUR).unwrap()
}

fn svid(minted: &Minted) -> X509Svid {
    X509Svid::parse(&minted.chain[0]).unwrap()
}

fn bundle(name: &str, authorities: &[&DevCa]) -> TrustBundle {
    let certificates: Vec<_> = authorities.iter().map(|ca| ca.certificate().clone()).collect();
    TrustBundle::from_certificates(domain(name), &certificates)
}

fn list(number: u64, serials: &[&str]) -> CrlParams {
    CrlParams::new(number, serials, HOUR, SystemTime::now())
}

fn crls_with(on_expired: OnExpiredCrl, lists: &[Vec<u8>]) -> Crls {
    let mut crls = Crls::new(on_expired);
    lists.iter().for_each(|der| crls.add(der).unwrap());
    crls
}

fn crls(lists: &[Vec<u8>]) -> Crls {
    crls_with(OnExpiredCrl::Deny, lists)
}

fn set(bundles: impl IntoIterator<Item = TrustBundle>) -> TrustBundleSet {
    TrustBundleSet::new(bundles).unwrap()
}

fn verify_at(bundles: &TrustBundleSet, chain: &[CertificateDer<'_>], now: SystemTime) -> Result<(), &'static str> {
    let svid = X509Svid::parse(&chain[0]).unwrap();
    for usage in [ChainUsage::Client, ChainUsage::Server] {
        bundles.verify(&svid, chain, usage, now).map_err(|error| error.rule())?;
    }
    Ok(())
}

fn verify(bundles: &TrustBundleSet, minted: &Minted) -> Result<(), &'static str> {
    verify_at(bundles, &minted.chain, SystemTime::now())
}

#[test]
fn a_revoked_certificate_is_refused_and_its_twin_is_not() {
    let ca = ca("prod.test");
    let (revoked, twin) = (mint(&ca, "spiffe://prod.test/a"), mint(&ca, "spiffe://prod.test/a"));
    let list = ca.crl(&list(1, &[svid(&revoked).serial()])).unwrap();
    let with = set([bundle("prod.test", &[&ca]).with_crls(&crls(&[list]), None)]);
    assert_eq!((verify(&with, &revoked), verify(&with, &twin)), (Err("revoked"), Ok(())));
    assert_eq!(verify(&set([bundle("prod.test", &[&ca])]), &revoked), Ok(()), "without the list");
    let now = SystemTime::now();
    let issuers = with.verify_issuers(&svid(&revoked), &revoked.chain, ChainUsage::Client, now);
    assert_eq!(issuers, Ok(()), "who issued it is as it was");
    let message = with.verify(&svid(&revoked), &revoked.chain, ChainUsage::Client, now).unwrap_err().to_string();
    assert!(message.contains(svid(&revoked).serial()), "{message}");
}

#[test]
fn a_list_is_read_as_der_and_as_pem_and_several_from_one_file() {
    let (one, two) = (named_ca("prod.test", "one"), named_ca("prod.test", "two"));
    let (first, second) = (mint(&one, "spiffe://prod.test/a"), mint(&two, "spiffe://prod.test/a"));
    let of =
        |ca: &DevCa, minted: &Minted| list(1, &[svid(minted).serial()]).pipe(|params| ca.crl_pem(&params).unwrap());
    let both = format!("# two lists\n{}{}", of(&one, &first), of(&two, &second));
    let with = set([bundle("prod.test", &[&one, &two]).with_crls(&crls(&[both.into_bytes()]), None)]);
    assert_eq!(with.bundle("prod.test").unwrap().crls().len(), 2);
    assert_eq!((verify(&with, &first), verify(&with, &second)), (Err("revoked"), Err("revoked")));
}

trait Pipe: Sized {
    fn pipe<T>(self, f: impl FnOnce(Self) -> T) -> T {
        f(self)
    }
}

impl<T> Pipe for T {}

#[test]
fn lists_that_come_together_are_shown_to_whom_they_are_of() {
    let (prod, partner) = (ca("prod.test"), ca("partner.test"));
    let stranger = ca("prod.test");
    let bundles = [bundle("prod.test", &[&prod]), bundle("partner.test", &[&partner])];
    let [ours, theirs, nobodys] = [&prod, &partner, &stranger].map(|ca| ca.crl(&list(1, &["01"])).unwrap());
    let together = crls(&[ours.clone(), theirs.clone(), nobodys.clone()]);
    let shared = together.shared_out(&bundles);
    assert_eq!(shared[&domain("prod.test")], crls(&[ours, nobodys.clone()]));
    assert_eq!(shared[&domain("partner.test")], crls(&[theirs, nobodys]));
    // All three authorities have one name: nobody is told that another's list is forged, and everybody of the one that is.
    for bundle in bundles {
        let of = &shared[bundle.trust_domain()];
        let faults = bundle.with_crls(of, None).crl_faults().to_vec();
        assert_eq!(faults.iter().map(CrlFault::rule).collect::<Vec<_>>(), ["crl-signature"]);
    }
}

#[test]
fn authorities_of_one_name_in_two_trust_domains_keep_their_lists_apart() {
    let (prod, partner) = (ca("prod.test"), ca("partner.test"));
    let mut same_name = SvidParams::signing(&domain("partner.test"), HOUR, SystemTime::now());
    same_name.common_name = Some("CA".into());
    let (ours, theirs) = (mint(&prod, "spiffe://prod.test/a"), mint(&partner, "spiffe://partner.test/a"));
    let of = |ca: &DevCa, serials: &[&str]| crls(&[ca.crl(&list(1, serials)).unwrap()]);
    // Each list names the other's certificate: it says nothing about it.
    let with = set([
        bundle("prod.test", &[&prod]).with_crls(&of(&prod, &[svid(&theirs).serial()]), None),
        bundle("partner.test", &[&partner]).with_crls(&of(&partner, &[svid(&ours).serial()]), None),
    ]);
    assert_eq!((verify(&with, &ours), verify(&with, &theirs)), (Ok(()), Ok(())));
    let with = set([
        bundle("prod.test", &[&prod]).with_crls(&of(&prod, &[svid(&ours).serial()]), None),
        bundle("partner.test", &[&partner]),
    ]);
    assert_eq!((verify(&with, &ours), verify(&with, &theirs)), (Err("revoked"), Ok(())));
}

#[test]
fn authorities_of_one_name_in_one_trust_domain_have_each_their_own_list() {
    let (old, new) = (ca("prod.test"), ca("prod.test"));
    let (of_old, of_new) = (mint(&old, "spiffe://prod.test/a"), mint(&new, "spiffe://prod.test/a"));
    let both = bundle("prod.test", &[&old, &new]);
    let revokes = |ca: &DevCa, minted: &Minted| ca.crl(&list(1, &[svid(minted).serial()])).unwrap();
    // As while the authority rotates: the old one's list is no reason to refuse what the new one issued.
    let with = set([both.clone().with_crls(&crls(&[revokes(&old, &of_old)]), None)]);
    assert_eq!((verify(&with, &of_old), verify(&with, &of_new)), (Err("revoked"), Ok(())));
    for lists in [[&old, &new], [&new, &old]] {
        let lists = lists.map(|ca| revokes(ca, if std::ptr::eq(ca, &old) { &of_old } else { &of_new }));
        let with = set([both.clone().with_crls(&crls(&lists), None)]);
        assert_eq!((verify(&with, &of_old), verify(&with, &of_new)), (Err("revoked"), Err("revoked")));
    }
}

#[test]
fn an_intermediate_is_revoked_by_its_issuer_and_a_leaf_by_the_intermediate() {
    let root = ca("prod.test");
    let mut params = SvidParams::signing(&domain("prod.test"), HOUR, SystemTime::now());
    params.common_name = Some("issuing".into());
    let (issuing, other) = (root.intermediate(&params).unwrap(), root.intermediate(&params).unwrap());
    let (leaf, twin) = (mint(&issuing, "spiffe://prod.test/a"), mint(&issuing, "spiffe://prod.test/b"));
    let beside = mint(&other, "spiffe://prod.test/a");
    let serial_of = |der: &CertificateDer<'_>| crate::identity::CertificateDescription::parse(der).unwrap().serial;
    let with = |lists: &[Vec<u8>]| set([bundle("prod.test", &[&root]).with_crls(&crls(lists), None)]);

    let by_root = root.crl(&list(1, &[&serial_of(issuing.certificate())])).unwrap();
    let bundles = with(&[by_root]);
    assert_eq!((verify(&bundles, &leaf), verify(&bundles, &beside)), (Err("revoked"), Ok(())));

    // Both intermediates have one name: the list counts for the one that signed it.
    let by_issuing = issuing.crl(&list(1, &[svid(&leaf).serial(), svid(&beside).serial()])).unwrap();
    let bundles = with(&[by_issuing]);
    assert_eq!(bundles.bundle("prod.test").unwrap().crl_faults(), []);
    for _ in 0..2 {
        assert_eq!(verify(&bundles, &leaf), Err("revoked"));
        assert_eq!((verify(&bundles, &twin), verify(&bundles, &beside)), (Ok(()), Ok(())));
    }
}

#[test]
fn a_list_whose_time_is_over_refuses_unless_that_is_allowed_and_goes_on_revoking() {
    let ca = ca("prod.test");
    let (revoked, twin) = (mint(&ca, "spiffe://prod.test/a"), mint(&ca, "spiffe://prod.test/a"));
    let now = SystemTime::now();
    let params = CrlParams::new(1, &[svid(&revoked).serial()], Duration::from_secs(60), now);
    let der = ca.crl(&params).unwrap();
    let with = |on_expired| {
        let crls = crls_with(on_expired, std::slice::from_ref(&der));
        set([bundle("prod.test", &[&ca]).with_crls(&crls, None)])
    };
    let (deny, allow) = (with(OnExpiredCrl::Deny), with(OnExpiredCrl::Allow));
    let at = |bundles, minted: &Minted, seconds| verify_at(bundles, &minted.chain, now + Duration::from_secs(seconds));
    assert_eq!((at(&deny, &twin, 58), at(&deny, &twin, 61)), (Ok(()), Err("crl-expired")));
    assert_eq!((at(&allow, &twin, 58), at(&allow, &twin, 61)), (Ok(()), Ok(())));
    assert_eq!((at(&deny, &revoked, 61), at(&allow, &revoked, 61)), (Err("revoked"), Err("revoked")));
    let expired = deny.verify(&svid(&twin), &twin.chain, ChainUsage::Client, now + Duration::from_secs(100));
    let expired = expired.unwrap_err().to_string();
    assert!(expired.contains("CN=CA"), "{expired}");
    let later = deny.verify(&svid(&twin), &twin.chain, ChainUsage::Client, now + Duration::from_secs(200));
    assert_eq!(later.unwrap_err().to_string(), expired, "a cause that stands is said in the same words");
}

#[test]
fn a_list_that_the_authority_did_not_sign_does_not_count_and_is_told() {
    let (ca, stranger) = (ca("prod.test"), ca("prod.test"));
    let minted = mint(&ca, "spiffe://prod.test/a");
    let forged = stranger.crl(&list(9, &[svid(&minted).serial()])).unwrap();
    let with = bundle("prod.test", &[&ca]).with_crls(&crls(std::slice::from_ref(&forged)), None);
    assert_eq!(with.crl_faults().iter().map(CrlFault::rule).collect::<Vec<_>>(), ["crl-signature"]);
    assert_eq!((with.crls().len(), verify(&set([with]), &minted)), (0, Ok(())));

    // What it would have replaced stays in force: a list cannot be got rid of by one that nobody signed.
    let revoking =
        bundle("prod.test", &[&ca]).with_crls(&crls(&[ca.crl(&list(1, &[svid(&minted).serial()])).unwrap()]), None);
    let with = bundle("prod.test", &[&ca]).with_crls(&crls(std::slice::from_ref(&forged)), Some(&revoking));
    assert_eq!(with.crl_faults().len(), 1);
    assert_eq!(verify(&set([with.clone()]), &minted), Err("revoked"));
    let again = bundle("prod.test", &[&ca]).with_crls(&crls(&[forged]), Some(&with));
    assert_eq!(verify(&set([again]), &minted), Err("revoked"));
    let taken_away = bundle("prod.test", &[&ca]).with_crls(&crls(&[]), Some(&with));
    assert_eq!(verify(&set([taken_away]), &minted), Ok(()), "a list may be taken away");
}

#[test]
fn an_older_list_does_not_replace_the_one_in_force() {
    let ca = ca("prod.test");
    let minted = mint(&ca, "spiffe://prod.test/a");
    let of = |number, serials: &[&str]| crls(&[ca.crl(&list(number, serials)).unwrap()]);
    let serial = svid(&minted);
    for (older, newer) in [(1, 2), (255, 256), (0x7f, 0x80), (0xffff_ffff, 0x1_0000_0000)] {
        let in_force = bundle("prod.test", &[&ca]).with_crls(&of(newer, &[serial.serial()]), None);
        let back = bundle("prod.test", &[&ca]).with_crls(&of(older, &[]), Some(&in_force));
        assert_eq!(back.crl_faults().iter().map(CrlFault::rule).collect::<Vec<_>>(), ["crl-rollback"]);
        assert_eq!(verify(&set([back.clone()]), &minted), Err("revoked"));
        let onwards = bundle("prod.test", &[&ca]).with_crls(&of(newer + 1, &[]), Some(&back));
        assert_eq!((onwards.crl_faults(), verify(&set([onwards.clone()]), &minted)), (&[][..], Ok(())));
    }
    // Without numbers the time counts.
    let unnumbered = |age: u64, serials: &[&str]| {
        let mut params = list(0, serials);
        params.number = None;
        params.extensions = vec![(vec![1, 3, 6, 1, 4, 1, 5], false, der(0x05, &[]))];
        params.this_update -= Duration::from_secs(age);
        crls(&[ca.crl(&params).unwrap()])
    };
    let in_force = bundle("prod.test", &[&ca]).with_crls(&unnumbered(10, &[serial.serial()]), None);
    let back = bundle("prod.test", &[&ca]).with_crls(&unnumbered(20, &[]), Some(&in_force));
    assert_eq!((back.crl_faults().len(), verify(&set([back]), &minted)), (1, Err("revoked")));
    let onwards = bundle("prod.test", &[&ca]).with_crls(&unnumbered(0, &[]), Some(&in_force));
    assert_eq!(verify(&set([onwards]), &minted), Ok(()));
}

#[test]
fn of_several_files_with_lists_of_one_issuer_the_newest_counts() {
    let ca = ca("prod.test");
    let minted = mint(&ca, "spiffe://prod.test/a");
    let (old, new) = (ca.crl(&list(1, &[svid(&minted).serial()])).unwrap(), ca.crl(&list(2, &["1234"])).unwrap());
    for lists in [[old.clone(), new.clone()], [new.clone(), old.clone()]] {
        let with = bundle("prod.test", &[&ca]).with_crls(&crls(&lists), None);
        assert_eq!((with.crls().len(), with.crl_faults()), (1, &[][..]));
        assert_eq!(verify(&set([with.clone()]), &minted), Ok(()));
        let later = bundle("prod.test", &[&ca]).with_crls(&crls(&lists), Some(&with));
        assert_eq!(later.crl_faults(), [], "the old file beside the new one is no step back");
    }
    // Lists that share the issuer's certificates out stand beside each other.
    let shard = |uri: &str, serials: &[&str]| {
        let name = der(0xa0, &der(0xa0, &der(0x86, uri.as_bytes())));
        let mut params = list(1, serials);
        params.extensions = vec![(vec![2, 5, 29, 28], true, der(0x30, &name))];
        ca.crl(&params).unwrap()
    };
    let lists = [shard("http://x.test/1", &["77"]), shard("http://x.test/2", &[svid(&minted).serial()])];
    let with = bundle("prod.test", &[&ca]).with_crls(&crls(&lists), None);
    assert_eq!((with.crls().len(), verify(&set([with]), &minted)), (2, Err("revoked")));
}

#[test]
fn lists_that_are_not_understood_in_full_are_refused_by_name() {
    let ca = ca("prod.test");
    let with = |change: &dyn Fn(&mut CrlParams)| {
        let mut params = list(1, &["1234"]);
        change(&mut params);
        ca.crl(&params).unwrap()
    };
    let extension = |oid: &'static [u64], critical, content: Vec<u8>| {
        with(&move |params| params.extensions = vec![(oid.to_vec(), critical, content.clone())])
    };
    const POINT: &[u64] = &[2, 5, 29, 28];
    let named = der(0xa0, &der(0xa0, &der(0x86, b"http://x.test/")));
    let flag = |tag| der(tag, &[0xff]);
    let good = with(&|_| {});
    let mut cut = good.clone();
    cut.truncate(good.len() - 1);
    for (rule, document) in [
        ("crl-delta", extension(&[2, 5, 29, 27], true, der(0x02, &[1]))),
        ("crl-indirect", extension(POINT, true, der(0x30, &[named.clone(), flag(0x84)].concat()))),
        ("crl-reasons", extension(POINT, true, der(0x30, &[named.clone(), der(0x83, &[1, 0x40])].concat()))),
        ("crl-distribution-point", extension(POINT, true, der(0x30, &flag(0x81)))),
        ("crl-critical-extension", extension(&[1, 3, 6, 1, 4, 1, 5], true, der(0x05, &[]))),
        ("crl-next-update", with(&|params| params.next_update = None)),
        ("crl-encoding", cut),
        ("crl-encoding", [good.clone(), vec![0]].concat()),
        ("crl-encoding", ca.certificate().to_vec()),
        ("crl-empty", Vec::new()),
        ("crl-empty", ca.certificate_pem().into_bytes()),
        ("crl-empty", b"not a list".to_vec()),
        ("pem", b"-----BEGIN X509 CRL-----\n!!!\n-----END X509 CRL-----\n".to_vec()),
        ("pem", b"-----BEGIN X509 CRL-----\nMII".to_vec()),
        ("crl-too-long", vec![0; MAX_CRL_BYTES + 1]),
    ] {
        let error = Crls::new(OnExpiredCrl::Deny).add(&document).unwrap_err();
        assert_eq!(error.rule(), rule, "{error}");
    }
    for accepted in [
        good,
        extension(&[1, 3, 6, 1, 4, 1, 5], false, der(0x05, &[])),
        extension(POINT, true, der(0x30, &named)),
        with(&|params| params.serials.clear()),
        with(&|params| params.next_update = Some(SystemTime::UNIX_EPOCH + 100 * 366 * 24 * HOUR)),
    ] {
        let mut crls = Crls::new(OnExpiredCrl::Deny);
        crls.add(&accepted).unwrap();
        assert_eq!(crls.lists().len(), 1);
    }
}

#[test]
fn a_changed_list_is_not_signed_any_more() {
    let ca = ca("prod.test");
    let minted = mint(&ca, "spiffe://prod.test/a");
    let serial = svid(&minted);
    let good = ca.crl(&list(1, &[serial.serial()])).unwrap();
    let digits: Vec<u32> = serial.serial().chars().map(|digit| digit.to_digit(16).unwrap()).collect();
    let raw: Vec<u8> = digits.chunks(2).map(|pair| u8::try_from(pair[0] << 4 | pair[1]).unwrap()).collect();
    let at = good.windows(raw.len()).position(|window| window == raw).unwrap();
    let mut changed = good;
    changed[at + 3] ^= 1;
    let with = bundle("prod.test", &[&ca]).with_crls(&crls(&[changed]), None);
    assert_eq!(with.crl_faults().iter().map(CrlFault::rule).collect::<Vec<_>>(), ["crl-signature"]);
}

proptest! {
    #[test]
    fn any_bytes_are_judged_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut crls = Crls::new(OnExpiredCrl::Deny);
        let _ = crls.add(&bytes);
        let _ = Crl::parse(&[&[0x30, 0x82], bytes.as_slice()].concat());
    }

    #[test]
    fn a_flipped_bit_never_makes_a_list_that_counts(at in any::<prop::sample::Index>(), bit in 0..8_u32) {
        let ca = ca("prod.test");
        let minted = mint(&ca, "spiffe://prod.test/a");
        let mut der = ca.crl(&list(1, &[svid(&minted).serial(), "0a"])).unwrap();
        let at = at.index(der.len());
        der[at] ^= 1 << bit;
        let mut crls = Crls::new(OnExpiredCrl::Deny);
        if crls.add(&der).is_ok() {
            let with = bundle("prod.test", &[&ca]).with_crls(&crls, None);
            prop_assert_eq!(verify(&set([with]), &minted), Ok(()));
        }
    }
}

#[test]
fn the_serial_number_of_an_authority_denies_all_below_it_and_nobody_else() {
    let (denied, twin) = (named_ca("prod.test", "A"), named_ca("prod.test", "B"));
    let serial = X509Certificate::from_der(denied.certificate()).unwrap().1.raw_serial_as_string().replace(':', "");
    let serials = ["prod.test", "other.test"].map(|of| DeniedSerial::parse(&format!("{of}/{serial}")).unwrap());
    let with = |serial: &DeniedSerial| {
        let list = Denied { serials: [serial.clone()].into(), ..Denied::default() };
        set([bundle("prod.test", &[&denied, &twin])]).with_denied(list)
    };
    let id = "spiffe://prod.test/a";
    assert_eq!(verify(&with(&serials[0]), &mint(&denied, id)), Err("denied-serial"));
    assert_eq!(verify(&with(&serials[0]), &mint(&twin, id)), Ok(()));
    assert_eq!(verify(&with(&serials[1]), &mint(&denied, id)), Ok(()), "of another trust domain");
}
