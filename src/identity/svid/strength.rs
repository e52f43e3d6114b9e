//! Keys and signatures that are strong enough to count.
//!
//! # Source
//! RFC 9325, 4.5. What is accepted here, path validation can check too; it alone looks at a signature's value.

use x509_parser::oid_registry::{
    OID_KEY_TYPE_EC_PUBLIC_KEY, OID_PKCS1_RSAENCRYPTION, OID_PKCS1_RSASSAPSS, OID_SIG_ED25519,
};
use x509_parser::public_key::PublicKey;
use x509_parser::signature_algorithm::SignatureAlgorithm;
use x509_parser::x509::{AlgorithmIdentifier, SubjectPublicKeyInfo};

use super::SvidError;
use super::certificate::Certificate;

/// Whether the key of `certificate` is strong enough.
pub(in crate::identity) fn key(certificate: &Certificate<'_>) -> Result<(), SvidError> {
    match weakness(certificate.x509.public_key()) {
        None => Ok(()),
        Some(key) => Err(SvidError::KeyStrength { key }),
    }
}

/// Whether `certificate` is signed in a way that counts, and says so in both places.
pub(super) fn signature(certificate: &Certificate<'_>) -> Result<(), SvidError> {
    let (signed, around) = (&certificate.x509.tbs_certificate.signature, &certificate.x509.signature_algorithm);
    let algorithm = signed.algorithm.to_id_string();
    if !counts(signed) {
        return Err(SvidError::SignatureAlgorithm { algorithm });
    }
    match signed == around {
        true => Ok(()),
        false => Err(SvidError::SignatureAlgorithms { algorithm, other: around.algorithm.to_id_string() }),
    }
}

fn counts(signature: &AlgorithmIdentifier<'_>) -> bool {
    /// ECDSA (RFC 5758, 3.2) and PKCS #1 (RFC 4055, 5), each with SHA-256, SHA-384 and SHA-512; Ed25519 (RFC 8410, 3).
    const ACCEPTED: [&str; 7] = [
        "1.2.840.10045.4.3.2",
        "1.2.840.10045.4.3.3",
        "1.2.840.10045.4.3.4",
        "1.2.840.113549.1.1.11",
        "1.2.840.113549.1.1.12",
        "1.2.840.113549.1.1.13",
        "1.3.101.112",
    ];
    /// SHA-256, SHA-384, SHA-512 (RFC 4055, 2.1)
    const SHA2: [&str; 3] = ["2.16.840.1.101.3.4.2.1", "2.16.840.1.101.3.4.2.2", "2.16.840.1.101.3.4.2.3"];
    if signature.algorithm != OID_PKCS1_RSASSAPSS {
        return ACCEPTED.contains(&signature.algorithm.to_id_string().as_str());
    }
    // Of RSA-PSS the digest is a parameter.
    match SignatureAlgorithm::try_from(signature) {
        Ok(SignatureAlgorithm::RSASSA_PSS(pss)) => SHA2.contains(&pss.hash_algorithm_oid().to_id_string().as_str()),
        _ => false,
    }
}

/// What is wrong with a public key: the kind of key it is.
fn weakness(key: &SubjectPublicKeyInfo<'_>) -> Option<String> {
    /// secp256r1, secp384r1, secp521r1 (RFC 5480, 2.1.1.1)
    const CURVES: [&str; 3] = ["1.2.840.10045.3.1.7", "1.3.132.0.34", "1.3.132.0.35"];
    let algorithm = &key.algorithm.algorithm;
    if *algorithm == OID_SIG_ED25519 {
        return None;
    }
    if *algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY {
        let curve = key.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
        let curve = curve.map(|oid| oid.to_id_string()).unwrap_or_default();
        return (!CURVES.contains(&curve.as_str())).then(|| format!("ECDSA on the curve `{curve}`"));
    }
    if *algorithm == OID_PKCS1_RSAENCRYPTION {
        let bits = match key.parsed() {
            Ok(PublicKey::RSA(key)) => bits(key.modulus),
            _ => 0,
        };
        return (!(2048..=8192).contains(&bits)).then(|| format!("RSA with {bits} bits"));
    }
    Some(format!("of the kind `{}`", algorithm.to_id_string()))
}

fn bits(modulus: &[u8]) -> u32 {
    let significant = modulus.iter().skip_while(|byte| **byte == 0);
    let first = significant.clone().next().map_or(0, |byte| byte.leading_zeros());
    u32::try_from(significant.count()).unwrap_or(u32::MAX / 8).saturating_mul(8).saturating_sub(first)
}
