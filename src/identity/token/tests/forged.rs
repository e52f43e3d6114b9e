//! What was never signed, or is not what was.

use super::*;

#[test]
fn what_a_trust_domain_has_not_signed_is_not_its_own() {
    let world = &*WORLD;
    for (header, key) in [
        (svid_header(), &world.stranger),
        (svid_header(), &world.partner),
        (svid_header(), &world.oidc),
        (with(svid_header(), json!({"jwk": world.stranger.jwk("prod.test", "sig")})), &world.stranger),
    ] {
        assert_eq!(world.verify(&token(&header, &svid_claims(), key)).map(|_| ()), Err("token-signature"), "{header}");
    }
    // A domain that has a bundle here, and whose tokens nobody asked for.
    let claims = with(svid_claims(), json!({"sub": "spiffe://partner.test/a"}));
    let header = with(svid_header(), json!({"kid": "partner.test"}));
    assert_eq!(world.verify(&token(&header, &claims, &world.partner)).map(|_| ()), Err("token-subject"));
}

#[test]
fn a_public_key_is_no_shared_secret() {
    let world = &*WORLD;
    let Key::Rsa(rsa) = &world.rsa else { unreachable!() };
    let jwk = world.rsa.jwk("rsa", "sig").to_string();
    let n = rsa.public_key().modulus().big_endian_without_leading_zero().to_vec();
    for secret in [jwk.into_bytes(), n, Vec::new()] {
        let signed = format!("{}.{}", part(&json!({"alg": "HS256", "kid": "rsa"})), part(&oidc_claims()));
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), signed.as_bytes());
        let forged = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag));
        assert_eq!(world.verify(&forged).map(|_| ()), Err("token-algorithm"));
        // The same with the algorithm that the key is for.
        let signed = format!("{}.{}", part(&json!({"alg": "RS256", "kid": "rsa"})), part(&oidc_claims()));
        let forged = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag));
        assert_eq!(world.verify(&forged).map(|_| ()), Err("token-signature"));
    }
}

#[test]
fn a_token_that_is_not_what_was_signed_is_refused() {
    let world = &*WORLD;
    let valid = token(&svid_header(), &svid_claims(), &world.own);
    let [header, claims, signature]: [&str; 3] = valid.split('.').collect::<Vec<_>>().try_into().unwrap();
    let other = part(&with(svid_claims(), json!({"sub": "spiffe://prod.test/admin"})));
    let padded = URL_SAFE.encode(svid_claims().to_string() + "  ");
    let zeros = URL_SAFE_NO_PAD.encode([0; 64]);
    let der = URL_SAFE_NO_PAD.encode([0x30, 6, 2, 1, 1, 2, 1, 1]);
    let flipped = {
        let mut bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
        bytes[0] ^= 1;
        URL_SAFE_NO_PAD.encode(bytes)
    };
    // The last character of 64 bytes has four bits that count for nothing: another spelling of the same signature.
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let last = alphabet.find(signature.chars().last().unwrap()).unwrap();
    let respelt = format!("{}{}", cut(signature, signature.len() - 1), alphabet.chars().nth(last + 1).unwrap());
    for (forged, rule) in [
        (valid.clone(), Ok(())),
        (format!("{header}.{other}.{signature}"), Err("token-signature")),
        (format!("{header}.{claims}.{flipped}"), Err("token-signature")),
        (format!("{header}.{claims}.{zeros}"), Err("token-signature")),
        (format!("{header}.{claims}.{der}"), Err("token-signature")),
        (format!("{header}.{claims}.{}", cut(signature, 40)), Err("token-signature")),
        (format!("{header}.{claims}.{signature}AAAA"), Err("token-signature")),
        (format!("{header}.{claims}.{respelt}"), Err("token-encoding")),
        (format!("{header}.{claims}.{signature}="), Err("token-encoding")),
        (format!("{header}.{claims}.{signature}=="), Err("token-encoding")),
        (format!("{header}.{padded}.{signature}"), Err("token-encoding")),
        (format!("{header}.{claims}.{}", signature.replace(['-', '_'], "+") + "+"), Err("token-encoding")),
        (format!("{header}.{claims}.é"), Err("token-encoding")),
        (format!("{header} .{claims}.{signature}"), Err("token-encoding")),
        (format!("{header}.\n{claims}.{signature}"), Err("token-encoding")),
        (format!("{header}\0.{claims}.{signature}"), Err("token-encoding")),
        (format!("{header}.{claims}."), Err("token-form")),
        (format!("{header}.{claims}"), Err("token-form")),
        (format!("{header}..{signature}"), Err("token-form")),
        (format!(".{claims}.{signature}"), Err("token-form")),
        (format!("{valid}."), Err("token-form")),
        (format!("{valid}.{signature}"), Err("token-form")),
        (format!("{header}.{claims}.{signature}.a.b"), Err("token-form")),
        ("..".to_owned(), Err("token-form")),
        (String::new(), Err("token-form")),
        ("a".to_owned(), Err("token-form")),
        ("A.A.A".to_owned(), Err("token-encoding")),
        ("AA.AA.AA".to_owned(), Err("token-json")),
        (json!({"payload": claims, "protected": header, "signature": signature}).to_string(), Err("token-form")),
        ("a".repeat(MAX_TOKEN_BYTES + 1), Err("token-length")),
        (format!("{valid}{}", "A".repeat(MAX_TOKEN_BYTES)), Err("token-length")),
    ] {
        assert_eq!(
            world.verifier.verify(forged.as_bytes(), Some(&world.generation), now()).map(|_| ()).map_err(|e| e.rule()),
            rule,
            "{forged}"
        );
    }
    for length in 1..valid.len() {
        assert!(world.verify(cut(&valid, length)).is_err(), "cut at {length}");
    }
}

#[test]
fn json_that_parsers_read_differently_is_refused() {
    let world = &*WORLD;
    let claims = svid_claims().to_string();
    let header = svid_header().to_string();
    let more = |text: &str, extra: &str| format!("{},{extra}}}", cut(text, text.len() - 1));
    for (header, claims) in [
        (header.clone(), more(&claims, "\"sub\":\"spiffe://prod.test/admin\"")),
        (header.clone(), more(&claims, "\"s\\u0075b\":\"spiffe://prod.test/admin\"")),
        (header.clone(), more(&claims, "\"exp\":9999999999")),
        (header.clone(), more(&claims, "\"aud\":\"lake\"")),
        (header.clone(), more(&claims, "\"a\":{\"b\":1,\"b\":2}")),
        (more(&header, "\"alg\":\"none\""), claims.clone()),
        (more(&header, "\"kid\":\"prod.test\""), claims.clone()),
        (header.clone(), format!("[{claims}]")),
        (header.clone(), format!("{claims}{claims}")),
        (header.clone(), format!("{claims} x")),
        (header.clone(), format!("\u{feff}{claims}")),
        (header.clone(), more(&claims, "\"a\":\"\\ud800\"")),
        (header.clone(), more(&claims, "\"a\":NaN")),
        (header.clone(), more(&claims, &format!("\"a\":{}{}", "[".repeat(1_000), "]".repeat(1_000)))),
        (format!("{header}\n{{}}"), claims.clone()),
        ("\"ES256\"".to_owned(), claims.clone()),
        ("null".to_owned(), claims.clone()),
    ] {
        let forged = token_of(&header, &claims, &world.own, "ES256");
        assert_eq!(world.verify(&forged).map(|_| ()), Err("token-json"), "{header} {claims}");
    }
    let twin = token_of(&more(&header, "\"a\":1"), &more(&claims, "\"A\":{\"sub\":1}"), &world.own, "ES256");
    assert!(world.verify(&twin).is_ok());
}
