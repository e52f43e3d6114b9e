//! `certs show`: a certificate's content, and every rule with its outcome.

use std::io::Write;
use std::path::Path;
use std::time::SystemTime;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::Serialize;

use super::lifetime::{moment, roughly};
use super::{CertsError, Output, ShowArgs};
use crate::identity::{
    CertificateDescription, ChainUsage, RuleOutcome, RuleVerdict, SvidError, TrustBundle, TrustBundleSet, TrustDomain,
    X509Svid, judge,
};

/// One certificate of the file.
#[derive(Debug, Serialize)]
struct Shown {
    kind: &'static str,
    uris: Vec<String>,
    dns_names: Vec<String>,
    subject: String,
    issuer: String,
    serial: String,
    sha256: String,
    not_before: String,
    not_after: String,
    #[serde(skip)]
    remaining: String,
    rules: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    result: &'static str,
    rule: &'static str,
    section: &'static str,
    requirement: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

pub(super) fn show(args: &ShowArgs, out: &mut dyn Write) -> Result<u8, CertsError> {
    let chain = certificates(&args.file)?;
    let now = SystemTime::now();
    let mut shown = Vec::new();
    for der in &chain {
        let refused =
            |error: SvidError| CertsError::NoCertificate { path: args.file.clone(), detail: error.to_string() };
        let description = CertificateDescription::parse(der).map_err(refused)?;
        shown.push(Shown::new(description, judge(der), now));
    }
    if let (Some(bundle), Some(first)) = (&args.bundle, shown.first_mut()) {
        first.rules.push(chain_row(&chain, bundle, now)?);
    }
    match args.output {
        Output::Json => {
            serde_json::to_writer_pretty(&mut *out, &shown).map_err(std::io::Error::from)?;
            writeln!(out)?;
        }
        Output::Text => write_text(&shown, &args.file, out)?,
    }
    let broken = shown.iter().flat_map(|shown| &shown.rules).any(|row| row.result == "FAIL");
    Ok(u8::from(broken))
}

/// Every certificate of a PEM file, or the one of a DER file.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertsError> {
    let content = std::fs::read(path).map_err(|source| CertsError::Read { path: path.to_owned(), source })?;
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

impl Shown {
    fn new(description: CertificateDescription, verdicts: Vec<RuleVerdict>, now: SystemTime) -> Self {
        let CertificateDescription { not_before, not_after, .. } = description;
        let (remaining, reason) = match (not_before.duration_since(now), not_after.duration_since(now)) {
            (Ok(until), _) if !until.is_zero() => {
                let text = format!("begins in {}", roughly(until));
                (text.clone(), Some(format!("certificate's validity {text}")))
            }
            (_, Ok(left)) => (format!("expires in {}", roughly(left)), None),
            (_, Err(error)) => {
                let text = format!("expired {} ago", roughly(error.duration()));
                (text.clone(), Some(format!("certificate {text}")))
            }
        };
        let mut rules: Vec<_> = verdicts.into_iter().map(Row::from).collect();
        rules.push(Row::judged("in-time", "RFC 5280 6.1.3", "now is within the validity", reason));
        Self {
            kind: if description.is_ca { "signing certificate" } else { "leaf" },
            uris: description.uris,
            dns_names: description.dns_names,
            subject: description.subject,
            issuer: description.issuer,
            serial: description.serial,
            sha256: description.sha256,
            not_before: moment(not_before),
            not_after: moment(not_after),
            remaining,
            rules,
        }
    }
}

impl Row {
    fn judged(rule: &'static str, section: &'static str, requirement: &'static str, reason: Option<String>) -> Self {
        Self { result: if reason.is_some() { "FAIL" } else { "pass" }, rule, section, requirement, reason }
    }
}

impl From<RuleVerdict> for Row {
    fn from(verdict: RuleVerdict) -> Self {
        let RuleVerdict { rule, section, requirement, outcome } = verdict;
        match outcome {
            RuleOutcome::Holds => Self::judged(rule, section, requirement, None),
            RuleOutcome::Broken(reason) => Self::judged(rule, section, requirement, Some(reason)),
            RuleOutcome::NotJudged => Self { result: "-", ..Self::judged(rule, section, requirement, None) },
        }
    }
}

/// The chain against a bundle, as a server and as a client would be judged.
fn chain_row(chain: &[CertificateDer<'static>], path: &Path, now: SystemTime) -> Result<Row, CertsError> {
    let pem = std::fs::read(path).map_err(|source| CertsError::Read { path: path.to_owned(), source })?;
    let row = |reason| Row::judged("chain", "X509-SVID 5.1", "the chain leads to an authority of the bundle", reason);
    let Some(Ok(svid)) = chain.first().map(|leaf| X509Svid::parse(leaf)) else {
        return Ok(Row { result: "-", ..row(None) });
    };
    let bundle_error = |source| CertsError::Bundle { path: path.to_owned(), source };
    let Ok(trust_domain) = TrustDomain::parse(svid.id().trust_domain()) else { return Ok(row(None)) };
    let bundle = TrustBundle::from_pem(trust_domain, &pem).map_err(bundle_error)?;
    let bundles = TrustBundleSet::new([bundle]).map_err(bundle_error)?;
    let result = [ChainUsage::Server, ChainUsage::Client]
        .into_iter()
        .try_for_each(|usage| bundles.verify(&svid, chain, usage, now));
    Ok(row(result.err().map(|error| error.to_string())))
}

fn write_text(shown: &[Shown], path: &Path, out: &mut dyn Write) -> Result<(), CertsError> {
    for (index, certificate) in shown.iter().enumerate() {
        let Shown { kind, subject, issuer, serial, sha256, not_before, not_after, remaining, .. } = certificate;
        writeln!(out, "{}: certificate {} of {}, {kind}", path.display(), index + 1, shown.len())?;
        for uri in &certificate.uris {
            writeln!(out, "  URI SAN  {uri}")?;
        }
        for name in &certificate.dns_names {
            writeln!(out, "  DNS SAN  {name}")?;
        }
        writeln!(out, "  subject  {}", if subject.is_empty() { "(empty)" } else { subject })?;
        writeln!(out, "  issuer   {issuer}")?;
        writeln!(out, "  serial   {serial}")?;
        writeln!(out, "  SHA-256  {sha256}")?;
        writeln!(out, "  valid    {not_before} to {not_after}, {remaining}")?;
        let width = |text: fn(&Row) -> &str| certificate.rules.iter().map(|row| text(row).len()).max().unwrap_or(0);
        let (rule_width, section_width) = (width(|row| row.rule), width(|row| row.section));
        for Row { result, rule, section, requirement, reason } in &certificate.rules {
            writeln!(out, "  {result:<4}  {rule:<rule_width$}  {section:<section_width$}  {requirement}")?;
            if let Some(reason) = reason {
                writeln!(out, "        {reason}")?;
            }
        }
        writeln!(out)?;
    }
    let broken: Vec<_> = shown.iter().flat_map(|shown| &shown.rules).filter(|row| row.result == "FAIL").collect();
    match broken.as_slice() {
        [] => writeln!(out, "every rule holds")?,
        [one] => writeln!(out, "1 rule is broken: {}", one.rule)?,
        many => {
            let names: Vec<_> = many.iter().map(|row| row.rule).collect();
            writeln!(out, "{} rules are broken: {}", many.len(), names.join(", "))?;
        }
    }
    Ok(())
}
