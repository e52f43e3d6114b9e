//! Keys and signatures that are too weak, of leaves, issuers and authorities. openssl makes them, as it still can.

use super::*;

#[tokio::test]
async fn a_key_is_strong_enough_whoever_holds_it() {
    let world = World::new();
    let ca = &world.ca;
    let key = async |arguments: &[&str]| OpensslKey::generate(&world, arguments).await;
    let rsa_1024 = key(&["RSA", "-pkeyopt", "rsa_keygen_bits:1024"]).await;
    let rsa_2048 = key(&["RSA", "-pkeyopt", "rsa_keygen_bits:2048"]).await;
    let p224 = key(&["EC", "-pkeyopt", "ec_paramgen_curve:P-224"]).await;
    let koblitz = key(&["EC", "-pkeyopt", "ec_paramgen_curve:secp256k1"]).await;
    let ed448 = key(&["ED448"]).await;
    let pss = key(&["RSA-PSS", "-pkeyopt", "rsa_keygen_bits:2048"]).await;
    let good = ca.issue(APP);
    let leaf = |key: &OpensslKey| Forgery::of(good.leaf()).with(Field::Key, &key.public).signed(ca).leaf_of(&good);
    // An issuer with such a key, and a leaf that it signed.
    let issuer = ca.intermediate(|_| ());
    let below = async |key: &OpensslKey, scheme: &Scheme| {
        let svid = issuer.issue(APP);
        let certificate = Forgery::of(issuer.certificate()).with(Field::Key, &key.public).signed(ca).certificate();
        let leaf = Forgery::of(svid.leaf()).signed_by(&world, key, scheme).await.certificate();
        Svid { chain: vec![leaf, certificate], ..svid }
    };
    // An authority with such a key, and a leaf that it signed.
    let root = |name: &'static str| {
        Ca::new_with("pipeline.example", move |p| p.distinguished_name.push(rcgen::DnType::CommonName, name))
    };
    let authority = async |name, key: &OpensslKey, scheme: &Scheme| {
        let root = root(name);
        let forged = Forgery::of(root.certificate()).with(Field::Key, &key.public);
        let certificate = forged.signed_by(&world, key, scheme).await.certificate();
        let svid = root.issue(APP);
        let leaf = Forgery::of(svid.leaf()).signed_by(&world, key, scheme).await.leaf_of(&svid);
        (certificate, leaf)
    };
    let (rsa, ecdsa) = (Scheme::rsa(11, "-sha256"), Scheme::ecdsa());
    let (rsa_1024_root, by_rsa_1024_root) = authority("RSA 1024", &rsa_1024, &rsa).await;
    let (rsa_2048_root, by_rsa_2048_root) = authority("RSA 2048", &rsa_2048, &rsa).await;
    let (p224_root, by_p224_root) = authority("P-224", &p224, &ecdsa).await;
    let by_rsa_2048 = below(&rsa_2048, &rsa).await;
    let cases = [
        case("RSA with 1024 bits", "key-strength", leaf(&rsa_1024), &ca.issue_keyed(APP, &rcgen::PKCS_RSA_SHA256)),
        case("P-224", "key-strength", leaf(&p224), &ca.issue_keyed(APP, &rcgen::PKCS_ECDSA_P384_SHA384)),
        case("secp256k1", "key-strength", leaf(&koblitz), &ca.issue_keyed(APP, &rcgen::PKCS_ECDSA_P521_SHA512)),
        case("Ed448", "key-strength", leaf(&ed448), &ca.issue_keyed(APP, &rcgen::PKCS_ED25519)),
        case("RSA for PSS alone", "key-strength", leaf(&pss), &good),
        case("an issuer's RSA with 1024 bits", "key-strength", below(&rsa_1024, &rsa).await, &by_rsa_2048).by_issuer(),
        case("an issuer's P-224", "key-strength", below(&p224, &ecdsa).await, &good).by_issuer(),
        case("an authority's RSA with 1024 bits", "chain", by_rsa_1024_root, &by_rsa_2048_root),
        case("an authority's P-224", "chain", by_p224_root, &good),
    ];
    let authorities = [&rsa_1024_root, &rsa_2048_root, &p224_root];
    let authorities = authorities.map(Clone::clone);
    Trial::trusting(world, &authorities.each_ref()).await.run(&cases).await;
}

#[tokio::test]
async fn a_signature_is_over_a_strong_digest_wherever_it_stands() {
    let world = World::new();
    let key = OpensslKey::generate(&world, &["RSA", "-pkeyopt", "rsa_keygen_bits:2048"]).await;
    let ec = OpensslKey::generate(&world, &["EC", "-pkeyopt", "ec_paramgen_curve:P-256"]).await;
    let root = |name: &'static str| {
        Ca::new_with("pipeline.example", move |p| p.distinguished_name.push(rcgen::DnType::CommonName, name))
    };
    let authority = async |root: &Ca, key: &OpensslKey, scheme: &Scheme| {
        Forgery::of(root.certificate()).with(Field::Key, &key.public).signed_by(&world, key, scheme).await.certificate()
    };
    let leaf = async |root: &Ca, key: &OpensslKey, scheme: &Scheme| {
        let svid = root.issue(APP);
        Forgery::of(svid.leaf()).signed_by(&world, key, scheme).await.leaf_of(&svid)
    };
    // The issuer's certificate is signed in this way, its leaf as rcgen does.
    let below = async |root: &Ca, key: &OpensslKey, scheme: &Scheme| {
        let issuer = root.intermediate(|_| ());
        let certificate = Forgery::of(issuer.certificate()).signed_by(&world, key, scheme).await.certificate();
        let leaf = issuer.issue(APP);
        Svid { chain: vec![leaf.leaf().clone(), certificate], ..leaf }
    };
    let sha256 = Scheme::rsa(11, "-sha256");
    let (md5, sha1, sha224) = (Scheme::rsa(4, "-md5"), Scheme::rsa(5, "-sha1"), Scheme::rsa(14, "-sha224"));
    let (sha384, sha512) = (Scheme::rsa(12, "-sha384"), Scheme::rsa(13, "-sha512"));
    let (pss, pss_sha1) = (Scheme::pss("-sha256"), Scheme::pss("-sha1"));
    let (ecdsa, ecdsa_sha1) = (Scheme::ecdsa(), Scheme::ecdsa_sha1());
    let (by_rsa, by_ec, by_sha1, by_pss) = (root("RSA"), root("EC"), root("SHA-1"), root("PSS"));
    let authorities = [
        authority(&by_rsa, &key, &sha256).await,
        authority(&by_ec, &ec, &ecdsa).await,
        authority(&by_sha1, &key, &sha1).await,
        authority(&by_pss, &key, &pss).await,
    ];
    const RULE: &str = "signature-algorithm";
    let cases = [
        case("MD5", RULE, leaf(&by_rsa, &key, &md5).await, &leaf(&by_rsa, &key, &sha256).await),
        case("SHA-1", RULE, leaf(&by_rsa, &key, &sha1).await, &leaf(&by_rsa, &key, &sha384).await),
        case("SHA-224", RULE, leaf(&by_rsa, &key, &sha224).await, &leaf(&by_rsa, &key, &sha512).await),
        case("RSA-PSS over SHA-1", RULE, leaf(&by_rsa, &key, &pss_sha1).await, &leaf(&by_rsa, &key, &pss).await),
        case("ECDSA over SHA-1", RULE, leaf(&by_ec, &ec, &ecdsa_sha1).await, &leaf(&by_ec, &ec, &ecdsa).await),
        case("an issuer's SHA-1", RULE, below(&by_rsa, &key, &sha1).await, &below(&by_rsa, &key, &sha256).await),
        case("an issuer's MD5", RULE, below(&by_rsa, &key, &md5).await, &below(&by_rsa, &key, &pss).await),
        case("an authority's SHA-1", "chain", leaf(&by_sha1, &key, &sha256).await, &leaf(&by_pss, &key, &sha256).await),
    ];
    Trial::trusting(world, &authorities.each_ref()).await.run(&cases).await;
}
