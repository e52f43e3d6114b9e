//! What a token costs. Run with `--release -- --ignored --nocapture`.

use std::time::Instant;

use super::*;

#[test]
#[ignore = "a measurement"]
fn how_long_a_token_takes() {
    let world = &*WORLD;
    let timed = |what: &str, token: &str, known: bool| {
        let begun = Instant::now();
        let rounds = 2_000;
        for _ in 0..rounds {
            if !known {
                world.verifier.forget();
            }
            world.verify(token).unwrap();
        }
        println!("{what}: {:.2} us", begun.elapsed().as_secs_f64() * 1e6 / f64::from(rounds));
    };
    let es = token(&svid_header(), &svid_claims(), &world.own);
    let rs = token(&with(oidc_header(), json!({"kid": "rsa", "alg": "RS256"})), &oidc_claims(), &world.rsa);
    let ed = token(&with(oidc_header(), json!({"kid": "ed", "alg": "EdDSA"})), &oidc_claims(), &world.ed);
    for (what, token) in [("ES256", &es), ("RS256", &rs), ("EdDSA", &ed)] {
        timed(&format!("{what} verified"), token, false);
        timed(&format!("{what} known"), token, true);
    }
}
