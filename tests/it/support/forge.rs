//! Certificates that no library makes: one that was made, its fields changed at will, and signed again.

use std::fs;

use rustls::pki_types::CertificateDer;

use super::{Ca, Svid, World, openssl};

/// The fields of a version 3 certificate (RFC 5280, 4.1), by place.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Field {
    Version = 0,
    Algorithm = 2,
    Validity = 4,
    Key = 6,
    Extensions = 7,
}

/// A certificate taken apart.
#[derive(Debug, Clone)]
pub(crate) struct Forgery {
    fields: Vec<Vec<u8>>,
    algorithm: Vec<u8>,
    signature: Vec<u8>,
}

impl Forgery {
    pub(crate) fn of(certificate: &CertificateDer<'_>) -> Self {
        let mut parts = values(content(certificate)).into_iter();
        let mut part = || parts.next().expect("a certificate has three parts");
        Self { fields: values(content(&part())), algorithm: part(), signature: part() }
    }

    /// With another value in place of a field; an empty one leaves it out.
    pub(crate) fn with(mut self, field: Field, value: &[u8]) -> Self {
        let place = self.fields.get_mut(field as usize).expect("the certificate is of version 3");
        *place = value.to_vec();
        self
    }

    /// With another value for a field, made of the one that it has.
    pub(crate) fn changed(self, field: Field, change: impl FnOnce(&[u8]) -> Vec<u8>) -> Self {
        let value = change(self.fields.get(field as usize).expect("the certificate is of version 3"));
        self.with(field, &value)
    }

    /// With another signature algorithm around the signed part, which still names the one that it had.
    pub(crate) fn around(self, algorithm: &[u8]) -> Self {
        Self { algorithm: algorithm.to_vec(), ..self }
    }

    /// With another signature, or what stands in its place.
    pub(crate) fn signature(self, signature: &[u8]) -> Self {
        Self { signature: der(3, &[&[0], signature].concat()), ..self }
    }

    /// The signature as it is.
    pub(crate) fn signed_before(&self) -> Vec<u8> {
        content(&self.signature).iter().skip(1).copied().collect()
    }

    /// Signed by a CA, in the way that the certificate says.
    pub(crate) fn signed(self, ca: &Ca) -> Self {
        let signature = ca.sign_bytes(&self.signed_part());
        self.signature(&signature)
    }

    /// Signed by openssl, in ways that no library of ours has.
    pub(crate) async fn signed_by(self, world: &World, key: &OpensslKey, scheme: &Scheme) -> Self {
        let forged = self.with(Field::Algorithm, &scheme.algorithm).around(&scheme.algorithm);
        let at = |name: &str| world.path().join(name).display().to_string();
        let (part, signature) = (at("signed-part"), at("signature"));
        fs::write(&part, forged.signed_part()).expect("the temporary folder is writable");
        let mut arguments = vec!["dgst", "-sign", &key.file, "-out", &signature];
        arguments.extend(&scheme.arguments);
        arguments.push(&part);
        let output = openssl(&arguments, "").await;
        assert!(output.stderr.is_empty(), "{output:#?}");
        forged.signature(&fs::read(&signature).expect("openssl wrote it"))
    }

    pub(crate) fn certificate(&self) -> CertificateDer<'static> {
        der(0x30, &[self.signed_part(), self.algorithm.clone(), self.signature.clone()].concat()).into()
    }

    /// An SVID with this leaf in place of its own.
    pub(crate) fn leaf_of(&self, svid: &Svid) -> Svid {
        let issuers = svid.chain.iter().skip(1).cloned();
        Svid { chain: std::iter::once(self.certificate()).chain(issuers).collect(), ..svid.clone() }
    }

    fn signed_part(&self) -> Vec<u8> {
        der(0x30, &self.fields.concat())
    }
}

/// A key pair in a file, of kinds that no library of ours makes.
#[derive(Debug)]
pub(crate) struct OpensslKey {
    file: String,
    /// SubjectPublicKeyInfo.
    pub(crate) public: Vec<u8>,
}

impl OpensslKey {
    /// What `openssl genpkey` makes of these arguments.
    pub(crate) async fn generate(world: &World, arguments: &[&str]) -> Self {
        let name = arguments.join("-").replace(|character: char| !character.is_ascii_alphanumeric(), "-");
        let at = |ending: &str| world.path().join(format!("{name}.{ending}")).display().to_string();
        let (file, public) = (at("key"), at("pub"));
        openssl(&[&["genpkey", "-out", &file, "-algorithm"], arguments].concat(), "").await;
        openssl(&["pkey", "-in", &file, "-pubout", "-outform", "DER", "-out", &public], "").await;
        Self { file, public: fs::read(&public).unwrap_or_else(|error| panic!("{name}: {error}")) }
    }
}

/// A way to sign.
#[derive(Debug, Clone)]
pub(crate) struct Scheme {
    /// AlgorithmIdentifier.
    algorithm: Vec<u8>,
    arguments: Vec<&'static str>,
}

impl Scheme {
    /// PKCS #1 1.5 (RFC 8017, A.2.4): `last` ends the OID.
    pub(crate) fn rsa(last: u8, digest: &'static str) -> Self {
        let oid = der(6, &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, last]);
        Self { algorithm: der(0x30, &[oid, vec![5, 0]].concat()), arguments: vec![digest] }
    }

    /// ECDSA with SHA-256 (RFC 5758, 3.2).
    pub(crate) fn ecdsa() -> Self {
        let oid = der(6, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2]);
        Self { algorithm: der(0x30, &oid), arguments: vec!["-sha256"] }
    }

    /// ECDSA with SHA-1 (RFC 3279, 2.2.3).
    pub(crate) fn ecdsa_sha1() -> Self {
        let oid = der(6, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 1]);
        Self { algorithm: der(0x30, &oid), arguments: vec!["-sha1"] }
    }

    /// RSA-PSS (RFC 4055, 3.1) with MGF1 over the same digest.
    pub(crate) fn pss(digest: &'static str) -> Self {
        let (oid, salt): (&[u8], u8) = match digest {
            "-sha256" => (&[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1], 32),
            _ => (&[0x2b, 14, 3, 2, 26], 20),
        };
        let hash = der(0x30, &[der(6, oid), vec![5, 0]].concat());
        let mgf1 = der(6, &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 8]);
        let mask = der(0x30, &[mgf1, hash.clone()].concat());
        let parameters = [der(0xa0, &hash), der(0xa1, &mask), der(0xa2, &[2, 1, salt])].concat();
        let oid = der(6, &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 10]);
        let algorithm = der(0x30, &[oid, der(0x30, &parameters)].concat());
        let padding = ["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:digest"];
        Self { algorithm, arguments: std::iter::once(digest).chain(padding).collect() }
    }
}

/// A DER value: tag, length, content.
pub(crate) fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let length = match length {
        0..=0x7f => vec![length as u8],
        0x80..=0xff => vec![0x81, length as u8],
        _ => [&[0x82], &u16::try_from(length).expect("below 64 KiB").to_be_bytes()[..]].concat(),
    };
    [&[tag], length.as_slice(), content].concat()
}

/// The content of a DER value.
pub(crate) fn content(value: &[u8]) -> &[u8] {
    let (start, end) = extent(value);
    value.get(start..end).expect("is DER")
}

/// The DER values that stand one after the other in `data`.
pub(crate) fn values(mut data: &[u8]) -> Vec<Vec<u8>> {
    let mut values = Vec::new();
    while !data.is_empty() {
        let (value, rest) = data.split_at(extent(data).1);
        values.push(value.to_vec());
        data = rest;
    }
    values
}

/// Where the content of the first DER value begins and ends.
fn extent(data: &[u8]) -> (usize, usize) {
    let first = *data.get(1).expect("has a length");
    let count = if first < 0x80 { 0 } else { usize::from(first & 0x7f) };
    let length = match count {
        0 => usize::from(first),
        _ => data.iter().skip(2).take(count).fold(0, |length, byte| length << 8 | usize::from(*byte)),
    };
    (2 + count, 2 + count + length)
}
