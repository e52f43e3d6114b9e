//! What a token says, one thing of it changed: header and claims.

use super::*;

#[test]
fn the_valid_twins_are_accepted() {
    let world = &*WORLD;
    let svid = world.verify(&token(&svid_header(), &svid_claims(), &world.own)).unwrap();
    assert_eq!((svid.issuer(), svid.subject()), ("spiffe://prod.test", "spiffe://prod.test/ns/web/sa/shop"));
    assert_eq!(svid.audiences(), [AUDIENCE.into()]);
    assert_eq!((svid.authentication_methods(), svid.scopes()), (None, None));
    let oidc = world.verify(&token(&oidc_header(), &oidc_claims(), &world.oidc)).unwrap();
    assert_eq!((oidc.issuer(), oidc.subject()), (ISSUER, "ada"));
    assert_eq!(oidc.authentication_methods().unwrap(), ["pwd".into(), "mfa".into()]);
    assert_eq!(oidc.scopes().unwrap(), ["read".into(), "write".into()]);
    assert_eq!(oidc.expires(), UNIX_EPOCH + Duration::from_secs(NOW + 300));
}

#[test]
fn a_header_with_one_thing_changed_is_refused_by_its_rule() {
    let world = &*WORLD;
    for (changes, rule) in [
        (json!({"alg": "none"}), Err("token-algorithm")),
        (json!({"alg": "None"}), Err("token-algorithm")),
        (json!({"alg": "HS256"}), Err("token-algorithm")),
        (json!({"alg": "HS512"}), Err("token-algorithm")),
        (json!({"alg": "es256"}), Err("token-algorithm")),
        (json!({"alg": "ES512"}), Err("token-algorithm")),
        (json!({"alg": "ES256K"}), Err("token-algorithm")),
        (json!({"alg": 256}), Err("token-algorithm")),
        (json!({"alg": null}), Err("token-algorithm")),
        (json!({"alg": "EdDSA"}), Err("token-algorithm")),
        (json!({"alg": "ES384"}), Err("token-key")),
        (json!({"alg": "RS256"}), Err("token-key")),
        (json!({"kid": null}), Err("token-key-id")),
        (json!({"kid": ""}), Err("token-key-id")),
        (json!({"kid": 7}), Err("token-key-id")),
        (json!({"kid": "prod.test "}), Err("token-key-id")),
        (json!({"kid": "PROD.TEST"}), Err("token-key-id")),
        (json!({"kid": "partner.test"}), Err("token-key-id")),
        (json!({"kid": "oidc"}), Err("token-key-id")),
        (json!({"kid": "../../dev/null"}), Err("token-key-id")),
        (json!({"kid": "k' or '1'='1"}), Err("token-key-id")),
        (json!({"kid": "x".repeat(3_000)}), Err("token-key-id")),
        (json!({"typ": "JOSE"}), Ok(())),
        (json!({"typ": null}), Ok(())),
        (json!({"typ": "at+jwt"}), Err("token-type")),
        (json!({"typ": "jwt"}), Err("token-type")),
        (json!({"typ": "dpop+jwt"}), Err("token-type")),
        (json!({"typ": ["JWT"]}), Err("token-type")),
        (json!({"crit": ["exp"]}), Err("token-critical")),
        (json!({"crit": []}), Err("token-critical")),
        (json!({"crit": ["b64"], "b64": false}), Err("token-critical")),
        // Said by whoever made the token: looked at by nobody, fetched never.
        (json!({"jku": "https://127.0.0.1:1/jwks", "x5u": "https://127.0.0.1:1/x"}), Ok(())),
        (json!({"jwk": world.stranger.jwk("prod.test", "sig")}), Ok(())),
        (json!({"x5c": [STANDARD.encode(b"no certificate")]}), Ok(())),
        (json!({"cty": "JWT", "unknown": {"a": 1}}), Ok(())),
    ] {
        let header = with(svid_header(), changes.clone());
        let verified = world.verify(&token(&header, &svid_claims(), &world.own)).map(|_| ());
        assert_eq!(verified, rule, "{changes}");
    }
}

#[test]
fn claims_with_one_thing_changed_are_refused_by_their_rule() {
    let world = &*WORLD;
    for (changes, rule) in [
        (json!({"exp": null}), Err("token-claim")),
        (json!({"exp": "1900000000"}), Err("token-claim")),
        (json!({"exp": -1}), Err("token-claim")),
        (json!({"exp": 1e300}), Err("token-claim")),
        (json!({"exp": u64::MAX}), Err("token-claim")),
        (json!({"exp": true}), Err("token-claim")),
        (json!({"exp": [NOW + 300]}), Err("token-claim")),
        (json!({"exp": NOW + 300}), Ok(())),
        (json!({"exp": NOW as f64 + 0.5}), Ok(())),
        (json!({"exp": NOW - 29}), Ok(())),
        (json!({"exp": NOW - 30}), Err("token-expired")),
        (json!({"exp": 0}), Err("token-expired")),
        (json!({"nbf": NOW + 30}), Ok(())),
        (json!({"nbf": NOW + 31}), Err("token-not-yet-valid")),
        (json!({"nbf": NOW as f64 + 30.5}), Err("token-not-yet-valid")),
        (json!({"nbf": "now"}), Err("token-claim")),
        (json!({"iat": NOW + 31}), Err("token-not-yet-valid")),
        (json!({"iat": {}}), Err("token-claim")),
        (json!({"aud": null}), Err("token-claim")),
        (json!({"aud": []}), Err("token-claim")),
        (json!({"aud": 7}), Err("token-claim")),
        (json!({"aud": {"a": AUDIENCE}}), Err("token-claim")),
        (json!({"aud": [AUDIENCE, 7]}), Err("token-claim")),
        (json!({"aud": AUDIENCE}), Ok(())),
        (json!({"aud": ["other", "lake"]}), Ok(())),
        (json!({"aud": "other"}), Err("token-audience")),
        (json!({"aud": "LAKE"}), Err("token-audience")),
        (json!({"aud": "lake "}), Err("token-audience")),
        (json!({"aud": "l\u{430}ke"}), Err("token-audience")),
        (json!({"aud": ["la", "ke"]}), Err("token-audience")),
        (json!({"aud": "spiffe://prod.test/ns/data/sa"}), Err("token-audience")),
        (json!({"sub": null}), Err("token-claim")),
        (json!({"sub": 7}), Err("token-claim")),
        (json!({"sub": "spiffe://prod.test/old/shop"}), Err("token-denied")),
        (json!({"sub": "spiffe://prod.test/old"}), Ok(())),
        (json!({"sub": "ada"}), Err("token-issuer")),
        (json!({"sub": "spiffe://prod.test"}), Err("token-subject")),
        (json!({"sub": "spiffe://prod.test/"}), Err("token-subject")),
        (json!({"sub": "spiffe://prod.test/../a"}), Err("token-subject")),
        (json!({"sub": "spiffe://PROD.test/a"}), Err("token-subject")),
        (json!({"sub": "spiffe://partner.test/a"}), Err("token-subject")),
        (json!({"sub": "spiffe://prod.test.evil.test/a"}), Err("token-subject")),
        (json!({"sub": "spiffe://prod.test@evil.test/a"}), Err("token-subject")),
        (json!({"sub": "spiffe://evil.test/prod.test"}), Err("token-subject")),
        // An issuer's name may stand in a JWT-SVID; it does not say which keys are asked, unless it is one that is configured.
        (json!({"iss": "https://oidc.prod.test"}), Ok(())),
        (json!({"iss": 7}), Err("token-claim")),
        (json!({"iss": ISSUER}), Err("token-key-id")),
        (json!({"amr": 7}), Err("token-claim")),
        (json!({"amr": ["mfa", 7]}), Err("token-claim")),
        (json!({"scope": {"a": 1}}), Err("token-claim")),
    ] {
        let claims = with(svid_claims(), changes.clone());
        let verified = world.verify(&token(&svid_header(), &claims, &world.own)).map(|_| ());
        assert_eq!(verified, rule, "{changes}");
    }
}

#[test]
fn tokens_of_openid_providers_obey_their_own_rules() {
    let world = &*WORLD;
    for (header, claims, key, rule) in [
        (json!({}), json!({}), &world.oidc, Ok(())),
        (json!({"kid": "rsa", "alg": "RS256"}), json!({}), &world.rsa, Ok(())),
        (json!({"kid": "rsa", "alg": "PS256"}), json!({}), &world.rsa, Ok(())),
        (json!({"kid": "p384", "alg": "ES384"}), json!({}), &world.p384, Ok(())),
        (json!({"kid": "ed", "alg": "EdDSA"}), json!({}), &world.ed, Ok(())),
        (json!({"typ": "at+jwt"}), json!({}), &world.oidc, Ok(())),
        (json!({"typ": "application/AT+JWT"}), json!({}), &world.oidc, Ok(())),
        (json!({"typ": "jwt"}), json!({}), &world.oidc, Ok(())),
        (json!({"typ": "logout+jwt"}), json!({}), &world.oidc, Err("token-type")),
        (json!({"typ": "secevent+jwt"}), json!({}), &world.oidc, Err("token-type")),
        (json!({"typ": "JOSE"}), json!({}), &world.oidc, Err("token-type")),
        // Its publisher says what each key is for.
        (json!({"kid": "rsa-ps", "alg": "PS256"}), json!({}), &world.rsa, Ok(())),
        (json!({"kid": "rsa-ps", "alg": "RS256"}), json!({}), &world.rsa, Err("token-key")),
        (json!({"kid": "only-signs"}), json!({}), &world.oidc, Err("token-key-id")),
        (json!({"kid": "enc"}), json!({}), &world.oidc, Err("token-key-id")),
        (json!({"kid": null}), json!({}), &world.oidc, Err("token-key-id")),
        // A key under another key's name, of the same kind and of another.
        (json!({}), json!({}), &world.stranger, Err("token-signature")),
        (json!({"kid": "ed"}), json!({}), &world.oidc, Err("token-key")),
        (json!({"kid": "rsa"}), json!({}), &world.oidc, Err("token-key")),
        (json!({"kid": "oidc", "alg": "EdDSA"}), json!({}), &world.ed, Err("token-key")),
        (json!({"kid": "rsa", "alg": "RS384"}), json!({}), &world.rsa, Err("token-signature")),
        // Another issuer's, however like ours.
        (json!({}), json!({"iss": null}), &world.oidc, Err("token-issuer")),
        (json!({}), json!({"iss": "https://login.example/"}), &world.oidc, Err("token-issuer")),
        (json!({}), json!({"iss": "https://LOGIN.example"}), &world.oidc, Err("token-issuer")),
        (json!({}), json!({"iss": "http://login.example"}), &world.oidc, Err("token-issuer")),
        (json!({}), json!({"iss": "https://login.example@evil.test"}), &world.oidc, Err("token-issuer")),
        (json!({}), json!({"iss": [ISSUER]}), &world.oidc, Err("token-claim")),
        (json!({}), json!({"sub": ""}), &world.oidc, Err("token-claim")),
        // What a provider says of a SPIFFE ID is its own word, and its keys vouch for no trust domain.
        (json!({}), json!({"iss": null, "sub": "spiffe://prod.test/a"}), &world.oidc, Err("token-key-id")),
        (
            json!({"kid": "prod.test"}),
            json!({"iss": null, "sub": "spiffe://prod.test/a"}),
            &world.oidc,
            Err("token-signature"),
        ),
        (json!({"kid": "prod.test"}), json!({}), &world.own, Err("token-key-id")),
    ] {
        let shown = format!("{header} {claims}");
        let verified = world.verify(&token(&with(oidc_header(), header), &with(oidc_claims(), claims), key));
        assert_eq!(verified.map(|_| ()), rule, "{shown}");
    }
}
