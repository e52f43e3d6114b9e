//! What is made of a token that is accepted, and how long it holds.

use super::*;

#[test]
fn further_claims_are_texts_and_lists_of_texts() {
    let world = &*WORLD;
    let claims = with(
        oidc_claims(),
        json!({
            "groups": ["a", "b"], "email": "ada@example", "email_verified": true, "level": 3, "debt": -7, "none": [],
            "largest": u64::MAX, "ratio": 1.5, "huge": 1e30, "mixed": ["a", 1], "nested": {"roles": ["admin"]}, "lists": [["a"]], "nil": null,
            "": "empty", "ü\u{0}\n": "\u{1f511}", "nbf": NOW,
        }),
    );
    // `with` takes away what is null; here it is meant.
    let mut claims = claims;
    claims["nil"] = Value::Null;
    let verified = world.verify(&token(&oidc_header(), &claims, &world.oidc)).unwrap();
    let read: Map<String, Value> = verified.claims().map(|(name, values)| (name.to_owned(), json!(values))).collect();
    let now = NOW.to_string();
    let expected = json!({
        "groups": ["a", "b"], "email": ["ada@example"], "email_verified": ["true"], "level": ["3"], "debt": ["-7"], "none": [],
        "largest": ["18446744073709551615"], "": ["empty"], "ü\u{0}\n": ["\u{1f511}"], "nbf": [now],
    });
    assert_eq!(Value::Object(read), expected);
}

#[test]
fn a_known_token_ends_with_its_time_and_with_its_keys() {
    let world = World::new();
    let valid = token(&svid_header(), &svid_claims(), &world.own);
    let at = |seconds: u64, generation: Option<&X509Generation>| {
        let now = UNIX_EPOCH + Duration::from_secs(seconds);
        world.verifier.verify(valid.as_bytes(), generation, now).map_err(|error| error.rule())
    };
    let first = at(NOW, Some(&world.generation)).unwrap();
    assert!(Arc::ptr_eq(&first, &at(NOW + 1, Some(&world.generation)).unwrap()), "its signature is not verified again");
    assert_eq!(at(NOW + 330, Some(&world.generation)), Err("token-expired"));
    assert_eq!(at(NOW - 60, Some(&world.generation)), Err("token-not-yet-valid"), "clocks may go back");
    let rotated = generation(2, &[("prod.test", &world.stranger)]);
    assert_eq!(at(NOW, Some(&rotated)), Err("token-signature"));
    let gone = generation(3, &[("partner.test", &world.partner), ("prod.test", &world.own)]);
    let again = at(NOW, Some(&gone)).unwrap();
    assert!(!Arc::ptr_eq(&first, &again), "verified by the keys of its own generation");
    assert_eq!(at(NOW, None), Err("token-key-id"), "without identity there are no keys");
}

#[test]
fn keys_in_a_file_follow_it_and_the_last_good_ones_stay() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jwks.json");
    let file = Arc::new(JwksFile::at(&path));
    assert!(file.reload().unwrap_err().is_missing_file());
    let rules = TokenRules {
        audiences: vec!["lake".into()],
        issuers: vec![TokenIssuer::Oidc { url: ISSUER.into(), keys: Arc::clone(&file) }],
        leeway: Duration::ZERO,
    };
    let verifier = TokenVerifier::new(rules);
    let (old, new) = (Key::p256(), Key::p256());
    let of_old = token(&oidc_header(), &oidc_claims(), &old);
    let verify = |token: &str| verifier.verify(token.as_bytes(), None, now()).map(|_| ()).map_err(|error| error.rule());
    assert_eq!(verify(&of_old), Err("token-key-id"), "there are none yet");
    let write = |keys: &[Value]| std::fs::write(&path, json!({ "keys": keys }).to_string()).unwrap();

    write(&[old.jwk("oidc", "sig")]);
    assert!(file.reload().is_ok());
    assert_eq!(verify(&of_old), Ok(()));
    std::fs::write(&path, "{\"keys\": [").unwrap();
    assert!(matches!(file.reload(), Err(JwksFileError::Content { .. })));
    write(&[]);
    assert!(matches!(file.reload(), Err(JwksFileError::Empty { .. })));
    write(&[old.jwk("oidc", "enc")]);
    assert!(matches!(file.reload(), Err(JwksFileError::Useless { .. })));
    let mut private = new.jwk("oidc", "sig");
    private["d"] = "AAAA".into();
    write(&[old.jwk("other", "sig"), private]);
    assert!(matches!(file.reload(), Err(JwksFileError::Private { .. })));
    std::fs::remove_file(&path).unwrap();
    assert!(file.reload().is_err());
    assert_eq!(verify(&of_old), Ok(()), "the last good keys stay in force");

    write(&[new.jwk("oidc", "sig")]);
    assert!(file.reload().is_ok());
    assert_eq!(verify(&of_old), Err("token-signature"), "what was known by the old keys is not any more");
    assert_eq!(verify(&token(&oidc_header(), &oidc_claims(), &new)), Ok(()));
}

#[test]
fn nothing_that_is_printed_holds_a_token() {
    let world = &*WORLD;
    let valid = token(&svid_header(), &svid_claims(), &world.own);
    world.verify(&valid).unwrap();
    let printed = format!("{:?}", world.verifier);
    let signature = valid.rsplit('.').next().unwrap();
    assert!(!printed.contains(signature) && !printed.contains(&valid), "{printed}");
}

proptest! {
    #[test]
    fn any_bytes_are_judged_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        fuzz(&bytes);
    }

    #[test]
    fn any_json_in_a_token_is_judged_without_a_panic(header in "\\{(\"(alg|kid|typ|crit)\":(\"(ES256|none|x)\"|1|\\[\\]|null),?){0,3}\\}", claims in "\\{(\"(sub|aud|exp|iss|nbf|amr)\":(\"x\"|1|\\[\\]|null|\\{\\}),?){0,4}\\}") {
        let world = &*WORLD;
        let forged = token_of(&header, &claims, &world.stranger, "ES256");
        fuzz(forged.as_bytes());
        prop_assert!(world.verify(&forged).is_err());
    }

    #[test]
    fn a_token_with_any_byte_changed_is_refused(at in 0_usize..1_000, to in any::<u8>()) {
        let world = &*WORLD;
        static VALID: LazyLock<String> = LazyLock::new(|| token(&svid_header(), &svid_claims(), &WORLD.own));
        let mut bytes = VALID.clone().into_bytes();
        let at = at % bytes.len();
        prop_assume!(bytes[at] != to);
        bytes[at] = to;
        prop_assert!(world.verifier.verify(&bytes, Some(&world.generation), now()).is_err());
    }
}
