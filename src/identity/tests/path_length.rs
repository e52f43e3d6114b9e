//! Path length constraints, of issuers in between and of authorities.

use super::*;

/// A chain with `issuers` between the root and the leaf; the topmost has a path length, if one is given.
fn chain(root: &DevCa, issuers: u8, topmost: Option<u8>) -> Vec<CertificateDer<'static>> {
    let issuer = |above: &DevCa, number: u8| {
        let named = signing(|p| {
            p.common_name = Some(format!("issuer {number}"));
            p.path_length = topmost.filter(|_| number == 0);
        });
        above.intermediate(&named).unwrap()
    };
    let mut below = None;
    for number in 0..issuers {
        below = Some(issuer(below.as_ref().unwrap_or(root), number));
    }
    below.as_ref().unwrap_or(root).issue_with(&good()).unwrap().chain
}

#[test]
fn an_issuer_has_as_many_issuers_below_it_as_its_path_length_says() {
    let root = ca();
    let set = bundles(&[("prod.test", &[&root])]);
    for length in 0..=2_u8 {
        for issuers in 1..=4_u8 {
            // The topmost issuer itself does not count.
            let expected = if issuers - 1 <= length { Ok(()) } else { Err("path-length") };
            let what = format!("{issuers} issuers below the path length {length}");
            assert_eq!(verify(&set, &chain(&root, issuers, Some(length))), expected, "{what}");
        }
    }
}

#[test]
fn an_authority_has_as_many_issuers_below_it_as_its_path_length_says() {
    for length in 0..=2_u8 {
        let root = DevCa::with_params(&signing(|p| p.path_length = Some(length))).unwrap();
        let set = bundles(&[("prod.test", &[&root])]);
        for issuers in 0..=3_u8 {
            let expected = if issuers <= length { Ok(()) } else { Err("path-length") };
            let what = format!("{issuers} issuers below the path length {length}");
            assert_eq!(verify(&set, &chain(&root, issuers, None)), expected, "{what}");
        }
    }
}

#[test]
fn six_issuers_are_a_path_and_seven_are_not() {
    let root = ca();
    let set = bundles(&[("prod.test", &[&root])]);
    assert_eq!(verify(&set, &chain(&root, 6, None)), Ok(()));
    let seven = chain(&root, 7, None);
    assert_eq!(seven.len(), MAX_CHAIN);
    assert_eq!(verify(&set, &seven), Err("path-length"));
}
