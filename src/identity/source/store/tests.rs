use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use super::*;
use crate::identity::TrustBundle;
use crate::identity::dev_ca::{DevCa, Minted, SvidParams};
use crate::identity::source::Own;
use crate::identity::tests::{domain, spiffe_id};

const HOUR: Duration = Duration::from_secs(3600);

fn ca(name: &str) -> DevCa {
    DevCa::new(&domain(name), HOUR).unwrap()
}

fn bundle(ca: &DevCa, name: &str) -> TrustBundle {
    TrustBundle::from_file_content(domain(name), ca.certificate_pem().as_bytes()).unwrap()
}

fn own(minted: &Minted) -> Option<Own> {
    Some(Own { chain: minted.chain.clone(), key: minted.key().unwrap() })
}

fn store() -> IdentityStore {
    IdentityStore::new(Denied::default(), Clock::system())
}

/// Our own SVID with the bundle of its trust domain.
fn whole(ca: &DevCa, id: &str) -> Brought {
    let minted = ca.issue(&spiffe_id(id), HOUR).unwrap();
    Brought { own: own(&minted), bundles: vec![bundle(ca, "prod.test")], ..Brought::default() }
}

fn partner() -> Brought {
    Brought { bundles: vec![bundle(&ca("partner.test"), "partner.test")], ..Brought::default() }
}

fn trust_domains(store: &IdentityStore) -> Vec<String> {
    let generation = store.current().unwrap();
    generation.bundles.iter().map(|bundle| bundle.trust_domain().to_string()).collect()
}

#[test]
fn parts_are_joined_and_each_change_is_a_new_generation() {
    let (prod, store) = (ca("prod.test"), store());
    let changed = store.changed();
    assert_eq!(store.bring(Part::Files, partner()), Ok(Reloaded::Waiting), "nobody said yet who we are");
    assert!(store.current().is_none());
    let brought = whole(&prod, "spiffe://prod.test/a");
    assert_eq!(store.bring(Part::WorkloadApi, brought.clone()), Ok(Reloaded::Swapped(1)));
    assert_eq!(trust_domains(&store), ["partner.test", "prod.test"]);
    assert_eq!(store.bring(Part::WorkloadApi, brought), Ok(Reloaded::Unchanged), "the same again is nothing new");
    let third = domain("third.test");
    let fetched = Brought { bundles: vec![bundle(&ca("third.test"), "third.test")], ..Brought::default() };
    assert_eq!(store.bring(Part::Federation(third), fetched), Ok(Reloaded::Swapped(2)));
    assert_eq!(trust_domains(&store), ["partner.test", "prod.test", "third.test"]);
    assert_eq!((*changed.borrow(), store.current().unwrap().number), (2, 2));
}

#[test]
fn a_generation_says_since_when_our_svid_and_our_trust_are_what_they_are() {
    let (prod, store) = (ca("prod.test"), store());
    let since = || {
        let generation = store.current().unwrap();
        (generation.number, generation.own_since, generation.trust_since)
    };
    let first = whole(&prod, "spiffe://prod.test/a");
    store.bring(Part::WorkloadApi, first.clone()).unwrap();
    assert_eq!(since(), (1, 1, 1));
    store.bring(Part::WorkloadApi, whole(&prod, "spiffe://prod.test/a")).unwrap();
    assert_eq!(since(), (2, 2, 1), "a rotation trusts the same");
    store.bring(Part::Files, partner()).unwrap();
    assert_eq!(since(), (3, 2, 3), "another bundle leaves us who we are");
    store.withdraw(&Part::Files);
    assert_eq!(since(), (4, 2, 4));
    store.withdraw(&Part::WorkloadApi);
    store.bring(Part::WorkloadApi, first).unwrap();
    assert_eq!(since(), (6, 6, 6), "what was out of force is judged anew");
}

#[test]
fn a_bundle_that_comes_from_two_parts_is_refused_naming_both() {
    let (prod, store) = (ca("prod.test"), store());
    let mut ours = whole(&prod, "spiffe://prod.test/a");
    ours.bundles.extend(partner().bundles);
    store.bring(Part::Files, ours).unwrap();
    let error = store.bring(Part::Federation(domain("partner.test")), partner()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the bundle of the trust domain `partner.test` comes twice: files and federation of `partner.test` both bring one"
    );
    assert_eq!((error.rule(), store.current().unwrap().number), ("bundle-twice", 1));
    let two = store.bring(Part::WorkloadApi, Brought { bundles: vec![], ..whole(&prod, "spiffe://prod.test/b") });
    assert_eq!(two, Err(StoreError::TwoOwn { first: Part::Files, second: Part::WorkloadApi }));
    assert_eq!(store.current().unwrap().svid.id().as_str(), "spiffe://prod.test/a");
}

#[test]
fn what_does_not_stand_up_leaves_the_last_good_one_and_is_said_until_it_is_over() {
    let (prod, store) = (ca("prod.test"), store());
    let good = whole(&prod, "spiffe://prod.test/a");
    store.bring(Part::Files, good.clone()).unwrap();
    let stranger =
        Brought { bundles: vec![bundle(&ca("prod.test"), "prod.test")], ..whole(&prod, "spiffe://prod.test/b") };
    let error = store.bring(Part::Files, stranger).unwrap_err();
    assert_eq!((error.rule(), store.current().unwrap().number), ("chain", 1));
    let [health] = store.health().try_into().unwrap();
    let fault = health.standing().unwrap();
    assert_eq!((fault.rule, fault.message.as_str()), ("chain", error.to_string().as_str()));
    assert!(health.last_success.is_some());
    assert_eq!(store.bring(Part::Files, good), Ok(Reloaded::Unchanged));
    let [health] = store.health().try_into().unwrap();
    assert!(health.standing().is_none() && health.last_error.is_some(), "the last error is still shown: {health:?}");
}

#[test]
fn a_fault_stands_since_it_was_seen_first() {
    let start = SystemTime::now();
    let seconds = Arc::new(AtomicU64::new(0));
    let elapsed = Arc::clone(&seconds);
    let clock = Clock::from_fn(move || start + Duration::from_secs(elapsed.load(Ordering::Relaxed)));
    let store = IdentityStore::new(Denied::default(), clock);
    for second in 0..3 {
        seconds.store(second, Ordering::Relaxed);
        store.failed(&Part::WorkloadApi, "unavailable", "no agent".into());
    }
    let [health] = store.health().try_into().unwrap();
    let fault = health.last_error.unwrap();
    assert_eq!((fault.since, fault.at), (start, start + Duration::from_secs(2)));
    store.confirm(&Part::WorkloadApi);
    seconds.store(9, Ordering::Relaxed);
    store.failed(&Part::WorkloadApi, "unavailable", "no agent".into());
    assert_eq!(store.health()[0].last_error.as_ref().unwrap().since, start + Duration::from_secs(9), "a new one");
}

#[test]
fn a_certificate_whose_time_has_not_come_is_taken_when_it_has() {
    let start = SystemTime::now();
    let seconds = Arc::new(AtomicU64::new(0));
    let elapsed = Arc::clone(&seconds);
    let clock = Clock::from_fn(move || start + Duration::from_secs(elapsed.load(Ordering::Relaxed)));
    let (prod, store) = (ca("prod.test"), IdentityStore::new(Denied::default(), clock));
    store.bring(Part::WorkloadApi, whole(&prod, "spiffe://prod.test/a")).unwrap();
    let not_before = start + Duration::from_secs(120);
    let later = SvidParams { not_before, ..SvidParams::leaf(&spiffe_id("spiffe://prod.test/b"), HOUR, not_before) };
    let minted = prod.issue_with(&later).unwrap();
    let next = Brought { own: own(&minted), ..whole(&prod, "spiffe://prod.test/b") };
    assert_eq!(store.bring(Part::WorkloadApi, next).unwrap_err().rule(), "not-yet-valid");
    assert_eq!(store.retry(), Reloaded::Unchanged);
    seconds.store(121, Ordering::Relaxed);
    assert_eq!(store.retry(), Reloaded::Swapped(2));
    assert_eq!(store.current().unwrap().svid.id().as_str(), "spiffe://prod.test/b");
    assert_eq!(store.retry(), Reloaded::Unchanged, "it is tried until it is taken");
}

#[test]
fn what_was_refused_is_taken_when_what_was_in_its_way_has_gone() {
    let (prod, store) = (ca("prod.test"), store());
    let both = Brought { bundles: partner().bundles, ..Brought::default() };
    store.bring(Part::Files, both).unwrap();
    let mut offered = whole(&prod, "spiffe://prod.test/a");
    offered.bundles.extend(partner().bundles);
    assert_eq!(store.bring(Part::WorkloadApi, offered).unwrap_err().rule(), "bundle-twice");
    assert_eq!(store.bring(Part::Files, Brought::default()), Ok(Reloaded::Swapped(1)));
    assert_eq!(trust_domains(&store), ["partner.test", "prod.test"]);
}

#[test]
fn an_identity_that_is_withdrawn_is_gone_and_its_number_is_never_used_again() {
    let (prod, store) = (ca("prod.test"), store());
    let changed = store.changed();
    store.bring(Part::WorkloadApi, whole(&prod, "spiffe://prod.test/a")).unwrap();
    store.bring(Part::Files, partner()).unwrap();
    assert_eq!(store.withdraw(&Part::Files), Reloaded::Swapped(3));
    assert_eq!(trust_domains(&store), ["prod.test"]);
    assert_eq!(store.withdraw(&Part::WorkloadApi), Reloaded::Waiting);
    assert!(store.current().is_none());
    assert_eq!(*changed.borrow(), 4, "who holds connections is told");
    assert_eq!(store.withdraw(&Part::WorkloadApi), Reloaded::Unchanged);
    assert_eq!(store.bring(Part::WorkloadApi, whole(&prod, "spiffe://prod.test/a")), Ok(Reloaded::Swapped(5)));
}

#[test]
fn emergency_lists_are_in_every_generation() {
    let denied = Denied {
        ids: vec![crate::identity::SpiffeIdPattern::parse("spiffe://prod.test/x").unwrap()],
        ..Denied::default()
    };
    let store = IdentityStore::new(denied.clone(), Clock::system());
    store.bring(Part::Files, whole(&ca("prod.test"), "spiffe://prod.test/a")).unwrap();
    assert_eq!(store.current().unwrap().bundles.denied(), &denied);
}

fn denying(id: &str) -> Denied {
    Denied { ids: vec![crate::identity::SpiffeIdPattern::parse(id).unwrap()], ..Denied::default() }
}

#[test]
fn trust_shrinks_also_when_our_own_svid_has_run_out() {
    let start = SystemTime::now();
    let seconds = Arc::new(AtomicU64::new(0));
    let elapsed = Arc::clone(&seconds);
    let clock = Clock::from_fn(move || start + Duration::from_secs(elapsed.load(Ordering::Relaxed)));
    let (prod, store) = (ca("prod.test"), IdentityStore::new(Denied::default(), clock));
    let minted = prod.issue(&spiffe_id("spiffe://prod.test/a"), HOUR / 2).unwrap();
    let ours = Brought { own: own(&minted), bundles: vec![bundle(&prod, "prod.test")], ..Brought::default() };
    store.bring(Part::WorkloadApi, ours).unwrap();
    store.bring(Part::Files, partner()).unwrap();
    seconds.store(2_000, Ordering::Relaxed);
    let denied = denying("spiffe://partner.test/x");
    let shrunk = Brought { denied: denied.clone(), ..Brought::default() };
    assert_eq!(store.bring(Part::Files, shrunk), Ok(Reloaded::Swapped(3)));
    assert_eq!((trust_domains(&store), store.current().unwrap().bundles.denied()), (vec!["prod.test".into()], &denied));
    assert!(store.current().unwrap().expired(store.clock().now()), "nobody new is served by it");
    let another = prod.issue(&spiffe_id("spiffe://prod.test/b"), HOUR / 2).unwrap();
    let another = Brought { own: own(&another), bundles: vec![bundle(&prod, "prod.test")], ..Brought::default() };
    assert_eq!(store.bring(Part::WorkloadApi, another).unwrap_err().rule(), "expired", "one that comes too late");
}

#[test]
fn an_endpoint_never_speaks_for_our_own_trust_domain_whoever_comes_first() {
    let (prod, posing) = (ca("prod.test"), ca("prod.test"));
    let part = Part::Federation(domain("prod.test"));
    let fetched = || Brought { bundles: vec![bundle(&posing, "prod.test")], ..Brought::default() };

    let first = store();
    first.bring(part.clone(), fetched()).unwrap();
    let ours = whole(&posing, "spiffe://prod.test/a");
    let without_bundle = Brought { bundles: Vec::new(), ..ours };
    assert_eq!(first.bring(Part::Files, without_bundle).unwrap_err().rule(), "unknown-trust-domain");
    assert_eq!(first.bring(Part::WorkloadApi, whole(&prod, "spiffe://prod.test/a")), Ok(Reloaded::Swapped(1)));

    let last = store();
    last.bring(Part::WorkloadApi, whole(&prod, "spiffe://prod.test/a")).unwrap();
    last.bring(part, fetched()).unwrap();
    for store in [first, last] {
        let bundles = &store.current().unwrap().bundles;
        assert_eq!(bundles.bundle("prod.test"), Some(&bundle(&prod, "prod.test")));
    }
}

#[test]
fn nothing_is_in_force_without_the_lists_that_are_still_to_come() {
    let (prod, store) = (ca("prod.test"), store().awaiting(Part::Files));
    let ours = whole(&prod, "spiffe://prod.test/a");
    assert_eq!(store.bring(Part::WorkloadApi, ours), Ok(Reloaded::Waiting));
    assert!(store.current().is_none());
    let denied = denying("spiffe://prod.test/x");
    let lists = Brought { denied: denied.clone(), ..Brought::default() };
    assert_eq!(store.bring(Part::Files, lists), Ok(Reloaded::Swapped(1)));
    assert_eq!(store.current().unwrap().bundles.denied(), &denied);
}

#[test]
fn a_bundle_of_the_configuration_counts_from_the_start_and_that_of_the_agent_does_not() {
    let prod = ca("prod.test");
    let store = store().with_configured([domain("partner.test")]);
    let mut offered = whole(&prod, "spiffe://prod.test/a");
    offered.bundles.extend(partner().bundles);
    assert_eq!(store.bring(Part::WorkloadApi, offered.clone()), Ok(Reloaded::Swapped(1)));
    assert_eq!(trust_domains(&store), ["prod.test"], "though its endpoint has not answered yet");
    let of_endpoint = partner();
    store.bring(Part::Federation(domain("partner.test")), of_endpoint.clone()).unwrap();
    let own = store.current().unwrap();
    assert_eq!(own.bundles.bundle("partner.test"), of_endpoint.bundles.first());
    let faults = own.trust_faults();
    assert!(
        matches!(&*faults, [one] if one.contains("`partner.test` that workload_api brings is ignored")),
        "{faults:?}"
    );
    assert!(store.health().iter().all(|part| part.standing().is_none()), "the rest counts");
    offered.bundles.pop();
    store.bring(Part::WorkloadApi, offered).unwrap();
    assert_eq!(store.current().unwrap().trust_faults(), [""; 0]);
}

#[test]
fn the_agent_speaks_for_our_own_trust_domain_whatever_the_configuration_says() {
    let (prod, posing) = (ca("prod.test"), ca("prod.test"));
    let store = store().with_configured([domain("prod.test")]);
    let of_file = Brought { bundles: vec![bundle(&posing, "prod.test")], ..Brought::default() };
    store.bring(Part::Files, of_file).unwrap();
    store.bring(Part::WorkloadApi, whole(&prod, "spiffe://prod.test/a")).unwrap();
    let own = store.current().unwrap();
    assert_eq!(own.bundles.bundle("prod.test"), Some(&bundle(&prod, "prod.test")));
    let faults = own.trust_faults();
    assert!(
        matches!(&*faults, [one] if one.contains("our own trust domain `prod.test` that files brings is ignored")),
        "{faults:?}"
    );
}

#[test]
fn what_comes_without_our_svid_counts_and_the_svid_of_before_stays_until_it_is_taken_back() {
    let (prod, store) = (ca("prod.test"), store());
    let fault = || Some(("not_offered", "there is none".to_owned()));
    let standing = |store: &IdentityStore| store.health()[0].standing().map(|fault| fault.rule);
    let without = Brought { without_own: fault(), bundles: vec![bundle(&prod, "prod.test")], ..Brought::default() };
    assert_eq!(store.bring(Part::WorkloadApi, without.clone()), Ok(Reloaded::Waiting), "there is none to keep");
    let mut first = whole(&prod, "spiffe://prod.test/a");
    first.bundles.extend(partner().bundles);
    store.bring(Part::WorkloadApi, first).unwrap();
    assert_eq!((trust_domains(&store).len(), standing(&store)), (2, None));

    assert_eq!(store.bring(Part::WorkloadApi, without.clone()), Ok(Reloaded::Swapped(2)));
    assert_eq!(store.current().unwrap().svid.id().as_str(), "spiffe://prod.test/a");
    assert_eq!((trust_domains(&store), standing(&store)), (vec!["prod.test".into()], Some("not_offered")));
    assert_eq!(store.bring(Part::WorkloadApi, without.clone()), Ok(Reloaded::Unchanged));
    assert_eq!(standing(&store), Some("not_offered"));

    // Whom we trust follows the agent also where that leaves our own certificate behind.
    let next = ca("prod.test");
    let moved = Brought { bundles: vec![bundle(&next, "prod.test")], ..without };
    assert_eq!(store.bring(Part::WorkloadApi, moved.clone()), Ok(Reloaded::Swapped(3)));
    let own = store.current().unwrap();
    assert!(own.taken_back.is_some());
    assert_eq!(own.bundles.bundle("prod.test"), Some(&bundle(&next, "prod.test")));

    assert_eq!(store.withdraw(&Part::WorkloadApi), Reloaded::Waiting);
    assert_eq!(store.bring(Part::WorkloadApi, moved), Ok(Reloaded::Waiting));
    assert!(store.current().is_none(), "what was taken back does not come again");
}
