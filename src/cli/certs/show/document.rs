//! Files and folders: certificates in PEM and DER, SPIFFE bundles in JSON, revocation lists.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::{Shown, Trust};
use crate::cli::certs::CertsError;
use crate::cli::certs::lifetime::{moment, roughly};
use crate::identity::{BundleDocument, CertificateDescription, ChainUsage, Crl, Crls, OnExpiredCrl};

/// What is looked at in a folder; private keys are not.
const EXTENSIONS: [&str; 7] = ["pem", "crt", "cer", "der", "crl", "json", "jwks"];
const BOTH_ENDS: [ChainUsage; 2] = [ChainUsage::Server, ChainUsage::Client];

/// Every file of the folder, by name, that may hold certificates. Names that begin with a dot are Kubernetes' own.
pub(super) fn folder(path: &Path, trust: &Trust) -> Result<Vec<Shown>, CertsError> {
    let failed = |source| CertsError::Read { path: path.to_owned(), source };
    let mut paths: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(path).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let is_hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        let is_one =
            path.extension().and_then(|extension| extension.to_str()).is_some_and(|own| EXTENSIONS.contains(&own));
        if is_one && !is_hidden && path.is_file() {
            paths.push(path);
        }
    }
    if paths.is_empty() {
        let detail =
            format!("no file of the folder ends in {}", EXTENSIONS.map(|extension| format!(".{extension}")).join(" "));
        return Err(CertsError::NoCertificate { path: path.to_owned(), detail });
    }
    paths.sort();
    let one = |path: &PathBuf| {
        file(path, trust).unwrap_or_else(|error| Shown {
            problems: vec![error.to_string()],
            ..Shown::new(&path.display().to_string(), "nothing")
        })
    };
    Ok(paths.iter().map(one).collect())
}

/// What a file holds.
pub(super) fn file(path: &Path, trust: &Trust) -> Result<Shown, CertsError> {
    let content = std::fs::read(path).map_err(|source| CertsError::Read { path: path.to_owned(), source })?;
    let target = path.display().to_string();
    if content.trim_ascii_start().first() == Some(&b'{') {
        return bundle(path, &content);
    }
    if is_revocation(&content) {
        return revocation(path, &content);
    }
    let mut shown = Shown::new(&target, "certificates");
    shown.judge(&certificates(path, content)?, trust, &BOTH_ENDS)?;
    Ok(shown)
}

/// Every certificate of a PEM file, or the one of a DER file.
fn certificates(path: &Path, content: Vec<u8>) -> Result<Vec<CertificateDer<'static>>, CertsError> {
    let none = |detail: String| CertsError::NoCertificate { path: path.to_owned(), detail };
    let pem: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&content).collect();
    match pem {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        // DER begins with the tag of a SEQUENCE, which is no first character of PEM.
        _ if content.first() == Some(&0x30) => Ok(vec![CertificateDer::from(content)]),
        Ok(_) if contains(&content, b"PRIVATE KEY-----") => Err(none("it holds a private key".to_owned())),
        Ok(_) => Err(none("nothing in it looks like one".to_owned())),
        Err(error) => Err(none(error.to_string())),
    }
}

fn contains(content: &[u8], part: &[u8]) -> bool {
    content.windows(part.len()).any(|window| window == part)
}

fn is_revocation(content: &[u8]) -> bool {
    let is_pem = contains(content, b"-----BEGIN X509 CRL-----");
    // A certificate in DER is no list, and the other way round.
    is_pem
        || (content.first() == Some(&0x30)
            && CertificateDescription::parse(content).is_err()
            && Crl::parse(content).is_ok())
}

/// Revocation lists: of whom, from when, until when.
fn revocation(path: &Path, content: &[u8]) -> Result<Shown, CertsError> {
    let mut crls = Crls::new(OnExpiredCrl::Deny);
    crls.add(content)
        .map_err(|error| CertsError::NoCertificate { path: path.to_owned(), detail: format!("it {error}") })?;
    let mut shown = Shown::new(&path.display().to_string(), "revocation lists");
    let now = SystemTime::now();
    for crl in crls.lists() {
        shown.fact("issuer", crl.issuer());
        if let Some(number) = crl.number() {
            shown.fact("number", number);
        }
        shown.fact("revokes", format!("{} certificates", crl.entries()));
        shown.fact("made", moment(crl.this_update()));
        shown.fact("next", moment(crl.next_update()));
        if let Ok(since) = now.duration_since(crl.next_update()) {
            let message = format!("`crl-expired`: the list of `{}` was due {} ago", crl.issuer(), roughly(since));
            shown.problems.push(message);
        }
    }
    Ok(shown)
}

/// A SPIFFE bundle: what it would bring, and what of it would not be used.
fn bundle(path: &Path, json: &[u8]) -> Result<Shown, CertsError> {
    let document = BundleDocument::parse(json)
        .map_err(|error| CertsError::NoCertificate { path: path.to_owned(), detail: error.to_string() })?;
    let mut shown = Shown::new(&path.display().to_string(), "bundle");
    if let Some(sequence) = document.sequence {
        shown.fact("sequence", sequence.to_string());
    }
    if let Some(hint) = document.refresh_hint {
        shown.fact("refresh hint", roughly(hint));
    }
    shown.fact("X.509 authorities", document.certificates.len().to_string());
    let tokens: Vec<&str> = document.jwt_authorities.iter().map(|authority| authority.kid()).collect();
    shown.fact("JWT authorities", if tokens.is_empty() { "none".to_owned() } else { tokens.join(", ") });
    for (index, reason) in &document.ignored {
        shown.fact("ignored", format!("key {}: {reason}", index + 1));
    }
    // Authorities, and no chain: there is nothing to verify them against.
    shown.judge(&document.certificates, &Trust::Nothing, &[])?;
    Ok(shown)
}
