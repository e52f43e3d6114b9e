//! Name constraints: URIs by our own judgement, other names by webpki's.

use super::*;

const URI: u8 = 0x86;
const DNS: u8 = 0x82;
const REGISTERED_ID: u8 = 0x88;

/// GeneralSubtree ::= SEQUENCE { base }
fn subtree(tag: u8, base: &str) -> Vec<u8> {
    der(0x30, &der(tag, base.as_bytes()))
}

/// The content of the extension, of subtrees.
fn extension(permitted: &[Vec<u8>], excluded: &[Vec<u8>]) -> Vec<u8> {
    let list = |tag, subtrees: &[Vec<u8>]| match subtrees {
        [] => vec![],
        subtrees => der(tag, &subtrees.concat()),
    };
    der(0x30, &[list(0xa0, permitted), list(0xa1, excluded)].concat())
}

fn of_uris(permitted: &[&str], excluded: &[&str]) -> Vec<u8> {
    let subtrees = |bases: &[&str]| bases.iter().map(|base| subtree(URI, base)).collect::<Vec<_>>();
    extension(&subtrees(permitted), &subtrees(excluded))
}

fn constrained(constraints: &[u8]) -> SvidParams {
    signing(|p| {
        p.names.clear();
        p.extensions.push((vec![2, 5, 29, 30], true, constraints.to_vec()));
    })
}

/// What becomes of a leaf of `trust_domain` below an issuer with these constraints, and below such an authority.
fn judged(trust_domain: &str, constraints: &[u8]) -> [Result<(), &'static str>; 2] {
    let params = SvidParams::leaf(&spiffe_id(&format!("spiffe://{trust_domain}/x")), HOUR, SystemTime::now());
    judged_leaf(trust_domain, &params, constraints)
}

fn judged_leaf(trust_domain: &str, params: &SvidParams, constraints: &[u8]) -> [Result<(), &'static str>; 2] {
    let root = ca();
    let issuer = root.intermediate(&constrained(constraints)).unwrap();
    let authority = DevCa::with_params(&constrained(constraints)).unwrap();
    [(&root, &issuer), (&authority, &authority)].map(|(root, issuer)| {
        let chain = issuer.issue_with(params).unwrap().chain;
        verify(&bundles(&[(trust_domain, &[root])]), &chain)
    })
}

#[test]
fn a_constraint_on_uris_is_about_the_trust_domain() {
    type Bases = &'static [&'static str];
    const OUT: Result<(), &str> = Err("name-constraints");
    let cases: &[(&str, Bases, Bases, Result<(), &str>)] = &[
        // permitted
        ("prod.test", &["prod.test"], &[], Ok(())),
        ("prod.test", &["PROD.Test"], &[], Ok(())),
        ("prod.test", &["other.test", "prod.test"], &[], Ok(())),
        ("prod.test", &["other.test"], &[], OUT),
        ("a.prod.test", &["prod.test"], &[], OUT),
        ("a.prod.test", &[".prod.test"], &[], Ok(())),
        ("a.b.prod.test", &[".prod.test"], &[], Ok(())),
        ("prod.test", &[".prod.test"], &[], OUT),
        ("evilprod.test", &[".prod.test"], &[], OUT),
        ("evilprod.test", &["prod.test"], &[], OUT),
        ("prod.test.evil", &["prod.test"], &[], OUT),
        ("prod.test", &["test"], &[], OUT),
        ("prod.test", &[".test"], &[], Ok(())),
        ("prod", &["prod"], &[], Ok(())),
        ("a_b.test", &["a_b.test"], &[], Ok(())),
        // excluded
        ("prod.test", &[], &["prod.test"], OUT),
        ("prod.test", &[], &["Prod.TEST"], OUT),
        ("prod.test", &[], &["other.test"], Ok(())),
        ("prod.test", &[], &["other.test", "prod.test"], OUT),
        ("prod.test", &[], &[".prod.test"], Ok(())),
        ("a.prod.test", &[], &[".prod.test"], OUT),
        ("a.prod.test", &[], &["prod.test"], Ok(())),
        // both: excluded counts
        ("a.prod.test", &[".prod.test"], &["a.prod.test"], OUT),
        ("b.prod.test", &[".prod.test"], &["a.prod.test"], Ok(())),
        // a host that is an address or no fully qualified name meets no constraint, RFC 5280 4.2.1.10
        ("10.0.0.1", &["10.0.0.1"], &[], OUT),
        ("10.0.0.1", &[], &["prod.test"], OUT),
        ("prod..test", &[".test"], &[], OUT),
        ("prod.test.", &["prod.test"], &[], OUT),
        // bases that are no domains: what is not understood is not passed over
        ("prod.test", &[""], &[], OUT),
        ("prod.test", &["prod.test", ""], &[], OUT),
        ("prod.test", &[], &[""], OUT),
        ("prod.test", &["spiffe://prod.test"], &[], OUT),
        ("prod.test", &["prod.test/x"], &[], OUT),
        ("prod.test", &["*.test", "prod.test"], &[], OUT),
        ("prod.test", &["."], &[], OUT),
        ("prod.test", &["prod.test."], &[], OUT),
        ("prod.test", &["..test"], &[], OUT),
    ];
    for (trust_domain, permitted, excluded, expected) in cases {
        let outcome = judged(trust_domain, &of_uris(permitted, excluded));
        assert_eq!(outcome, [*expected; 2], "{trust_domain}: permitted {permitted:?}, excluded {excluded:?}");
    }
    // Without a constraint on URIs none of that is asked.
    for trust_domain in ["10.0.0.1", "prod..test", "prod.test."] {
        assert_eq!(judged(trust_domain, &extension(&[subtree(DNS, "prod.test")], &[])), [Ok(()); 2]);
    }
}

#[test]
fn malformed_constraints_on_uris_refuse() {
    let base = der(URI, b"prod.test");
    let with = |after: &[u8]| der(0x30, &der(0xa0, &der(0x30, &[&base, after].concat())));
    assert_eq!(judged("prod.test", &with(&[])), [Ok(()); 2]);
    // minimum [0], maximum [1], and what is neither
    for after in [[0x80, 1, 0], [0x81, 1, 9], [5, 1, 0]] {
        assert!(judged("prod.test", &with(&after)).iter().all(Result::is_err), "{after:?}");
    }
    let constructed = der(0x30, &der(0xa0, &der(0x30, &der(0xa6, &der(0x16, b"prod.test")))));
    let other_list = der(0x30, &der(0xa2, &der(0x30, &base)));
    let not_utf8 = der(0x30, &der(0xa0, &der(0x30, &der(URI, b"prod.test\xff"))));
    let trailing = [with(&[]), vec![5, 0]].concat();
    for malformed in [constructed, other_list, not_utf8, trailing] {
        assert!(judged("prod.test", &malformed).iter().all(Result::is_err), "{malformed:02x?}");
    }
}

#[test]
fn constraints_that_are_not_marked_critical_count_as_well() {
    let root = ca();
    let set = bundles(&[("prod.test", &[&root])]);
    for (base, expected) in [("prod.test", Ok(())), ("other.test", Err("name-constraints"))] {
        let issuer = signing(|p| p.extensions.push((vec![2, 5, 29, 30], false, of_uris(&[base], &[]))));
        let chain = root.intermediate(&issuer).unwrap().issue_with(&good()).unwrap().chain;
        assert_eq!(verify(&set, &chain), expected, "{base}");
    }
}

#[test]
fn constraints_on_other_names_hold_beside_those_on_uris() {
    let both = extension(&[subtree(URI, "prod.test"), subtree(DNS, "svc.test")], &[subtree(URI, "x.test")]);
    let named = |dns: &str| with(|p| p.names.push(San::Dns(dns.into())));
    assert_eq!(judged_leaf("prod.test", &good(), &both), [Ok(()); 2]);
    assert_eq!(judged_leaf("prod.test", &named("load.svc.test"), &both), [Ok(()); 2]);
    assert_eq!(judged_leaf("prod.test", &named("load.other.test"), &both), [Err("name-constraints"); 2]);
    // webpki takes no constraint on directory names for satisfied.
    let organization = der(0x30, &der(0x31, &der(0x30, &[der(6, &[0x55, 4, 10]), der(12, b"x")].concat())));
    let directory = extension(&[subtree(URI, "prod.test"), der(0x30, &der(0xa4, &organization))], &[]);
    assert_eq!(judged("prod.test", &directory), [Err("name-constraints"); 2]);
}

#[test]
fn every_issuer_of_a_path_constrains_what_is_below_it() {
    let root = DevCa::with_params(&constrained(&of_uris(&[".test"], &[]))).unwrap();
    let set = bundles(&[("prod.test", &[&root]), ("prod.example", &[&root])]);
    let named = |name: &str, constraints: Option<Vec<u8>>, uris: &[&str]| {
        signing(|p| {
            p.common_name = Some(name.into());
            p.names = uris.iter().map(|uri| San::uri(uri)).collect();
            p.extensions = constraints.into_iter().map(|content| (vec![2, 5, 29, 30], true, content)).collect();
        })
    };
    let chain = |upper: &SvidParams, lower: &SvidParams, id: &str| {
        let issuer = root.intermediate(upper).unwrap().intermediate(lower).unwrap();
        issuer.issue(&spiffe_id(id), HOUR).unwrap().chain
    };
    let (upper, lower) = (named("upper", Some(of_uris(&[], &["dev.test"])), &[]), named("lower", None, &[]));
    let prod_only = named("lower", Some(of_uris(&["prod.test"], &[])), &[]);
    let prod = "spiffe://prod.test/x";
    assert_eq!(verify(&set, &chain(&upper, &lower, prod)), Ok(()));
    assert_eq!(verify(&set, &chain(&upper, &prod_only, prod)), Ok(()));
    let example = chain(&upper, &lower, "spiffe://prod.example/x");
    assert_eq!(verify(&set, &example), Err("name-constraints"), "the authority's");
    for (what, upper, lower) in [
        ("the upper one's", named("upper", Some(of_uris(&[], &["prod.test"])), &[]), lower.clone()),
        ("the lower one's", upper.clone(), named("lower", Some(of_uris(&["dev.test"], &[])), &[])),
        ("an issuer's own URI", upper.clone(), named("lower", None, &["spiffe://dev.test"])),
        ("an issuer's own URI, by the authority", named("upper", None, &["spiffe://dev.example"]), lower.clone()),
    ] {
        assert_eq!(verify(&set, &chain(&upper, &lower, prod)), Err("name-constraints"), "{what}");
    }
    // An issuer does not constrain itself.
    let other = named("upper", Some(of_uris(&["prod.test"], &[])), &["spiffe://other.test"]);
    assert_eq!(verify(&set, &chain(&other, &lower, prod)), Ok(()));
}

/// The issuer with its constraints on URIs said to be about registered IDs: what path building is shown of it.
fn altered(issuer: &CertificateDer<'_>, constraint: &str) -> CertificateDer<'static> {
    let (base, mut altered) = (der(URI, constraint.as_bytes()), issuer.to_vec());
    let places: Vec<_> = issuer.windows(base.len()).enumerate().filter(|(_, bytes)| *bytes == base).collect();
    for (at, _) in places {
        altered[at] = REGISTERED_ID;
    }
    altered.into()
}

#[test]
fn nobody_takes_the_constraints_out_of_an_issuer() {
    let root = ca();
    let set = bundles(&[("prod.test", &[&root])]);
    let chain_below = |constraint: &str| {
        let issuer = root.intermediate(&constrained(&of_uris(&[constraint], &[]))).unwrap();
        let chain = issuer.issue_with(&good()).unwrap().chain;
        (chain[0].clone(), chain[1].clone(), altered(&chain[1], constraint))
    };
    let (leaf, issuer, altered) = chain_below("dev.test");
    assert_ne!(issuer, altered);
    for (what, expected, chain) in [
        ("as it was issued", "name-constraints", vec![&leaf, &issuer]),
        ("altered", "chain", vec![&leaf, &altered]),
        ("altered, and as it was issued", "name-constraints", vec![&leaf, &altered, &issuer]),
        ("as it was issued, and altered", "name-constraints", vec![&leaf, &issuer, &altered]),
    ] {
        let chain: Vec<_> = chain.into_iter().cloned().collect();
        assert_eq!(verify(&set, &chain), Err(expected), "{what}");
    }
    let (leaf, issuer, altered) = chain_below("prod.test");
    assert_eq!(verify(&set, &[leaf.clone(), issuer]), Ok(()));
    assert_eq!(verify(&set, &[leaf, altered]), Err("chain"), "the signature is over the constraints too");
}
