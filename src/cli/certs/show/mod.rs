//! `certs show`: what certificates say, in files, folders, servers and the Workload API, and every rule with its outcome.

mod document;
mod server;
mod workload;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use clap::{Args, ValueEnum};
use rustls::pki_types::CertificateDer;
use serde::Serialize;

use super::{CertsError, Output};
use crate::cli::judged::{JudgedCertificate, JudgedRule};
use crate::config::duration;
use crate::identity::{ChainUsage, TrustBundle, TrustBundleSet, TrustDomain, X509Svid};

#[derive(Debug, Args)]
#[command(next_line_help = true)]
pub(super) struct ShowArgs {
    /// Files (PEM, DER, SPIFFE bundle JSON, revocation lists), folders of them, servers (HOST:PORT) and Workload APIs (unix:PATH, tcp:IP:PORT)
    #[arg(required = true, value_name = "TARGET")]
    targets: Vec<String>,
    /// Verify each chain against this trust bundle of its own trust domain as well
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
    /// Present the SVID of this configuration to servers, and verify their chains against its bundles
    #[arg(long, value_name = "FILE", conflicts_with_all = ["certificate", "bundle"])]
    config: Option<PathBuf>,
    /// Present this certificate to servers
    #[arg(long, value_name = "FILE", requires = "private_key")]
    certificate: Option<PathBuf>,
    /// Its key
    #[arg(long, value_name = "FILE", requires = "certificate")]
    private_key: Option<PathBuf>,
    /// Ask the server for TLS in the words of this protocol first
    #[arg(long, value_enum, value_name = "PROTOCOL")]
    starttls: Option<StartTls>,
    /// Offer these protocols by ALPN: `h2`, `postgresql`
    #[arg(long, value_name = "PROTOCOL")]
    alpn: Vec<String>,
    /// How long a server may take: `5s`
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration::parse)]
    timeout: Duration,
    /// How to report
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// A protocol that begins without TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum StartTls {
    /// SSLRequest
    Postgres,
}

/// What one target has.
#[derive(Debug, Default, Serialize)]
struct Shown {
    target: String,
    /// `certificates`, `bundle`, `revocation lists`, `server`, `svid`.
    kind: &'static str,
    /// Further facts, in their order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    facts: Vec<Fact>,
    certificates: Vec<JudgedCertificate>,
    /// What is wrong beside the rules of certificates.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    problems: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Fact {
    name: &'static str,
    value: String,
}

impl Shown {
    fn new(target: &str, kind: &'static str) -> Self {
        Self { target: target.to_owned(), kind, ..Self::default() }
    }

    fn fact(&mut self, name: &'static str, value: impl Into<String>) {
        self.facts.push(Fact { name, value: value.into() });
    }

    /// Judges each certificate of a chain by itself, and the chain against the bundles if there are any.
    fn judge(
        &mut self,
        chain: &[CertificateDer<'static>],
        trust: &Trust,
        usages: &[ChainUsage],
    ) -> Result<(), CertsError> {
        let now = SystemTime::now();
        for der in chain {
            let judged = JudgedCertificate::of(der, now).map_err(|error| CertsError::NoCertificate {
                path: self.target.clone().into(),
                detail: error.to_string(),
            })?;
            self.certificates.push(judged);
        }
        if let (Some(row), Some(first)) = (trust.chain_row(chain, usages, now)?, self.certificates.first_mut()) {
            first.rules.push(row);
        }
        Ok(())
    }

    fn broken(&self) -> impl Iterator<Item = &'static str> {
        self.certificates.iter().flat_map(|certificate| certificate.broken().map(|rule| rule.rule))
    }

    fn write(&self, out: &mut dyn Write) -> std::io::Result<()> {
        let Self { target, certificates, .. } = self;
        if !self.facts.is_empty() || !self.problems.is_empty() {
            writeln!(out, "{target}: {}", self.kind)?;
            let width = self.facts.iter().map(|fact| fact.name.len()).max().unwrap_or(0);
            for Fact { name, value } in &self.facts {
                writeln!(out, "  {name:<width$}  {value}")?;
            }
            for problem in &self.problems {
                writeln!(out, "  FAIL  {problem}")?;
            }
            writeln!(out)?;
        }
        for (index, certificate) in certificates.iter().enumerate() {
            writeln!(out, "{target}: certificate {} of {}, {}", index + 1, certificates.len(), certificate.kind)?;
            certificate.write(out)?;
        }
        Ok(())
    }
}

/// Against what chains are verified.
#[derive(Debug)]
enum Trust {
    Nothing,
    /// A bundle of whatever trust domain the chain's leaf is in.
    File(PathBuf),
    Bundles(TrustBundleSet),
}

impl Trust {
    fn chain_row(
        &self,
        chain: &[CertificateDer<'static>],
        usages: &[ChainUsage],
        now: SystemTime,
    ) -> Result<Option<JudgedRule>, CertsError> {
        Ok(match self {
            Self::Nothing => None,
            Self::Bundles(bundles) => Some(JudgedRule::of_chain(chain, bundles, usages, now)),
            Self::File(path) => {
                let bundles = bundle_of_leaf(chain, path)?;
                Some(JudgedRule::of_chain(chain, &bundles, usages, now))
            }
        })
    }
}

fn bundle_of_leaf(chain: &[CertificateDer<'static>], path: &Path) -> Result<TrustBundleSet, CertsError> {
    let pem = std::fs::read(path).map_err(|source| CertsError::Read { path: path.to_owned(), source })?;
    let leaf = chain.first().and_then(|leaf| X509Svid::parse(leaf).ok());
    let Some(trust_domain) = leaf.and_then(|svid| TrustDomain::parse(svid.id().trust_domain()).ok()) else {
        return Ok(TrustBundleSet::default());
    };
    let bundle = TrustBundle::from_pem(trust_domain, &pem);
    let bundles = bundle.and_then(|bundle| TrustBundleSet::new([bundle]));
    bundles.map_err(|source| CertsError::Bundle { path: path.to_owned(), source })
}

pub(super) fn show(args: &ShowArgs, out: &mut dyn Write) -> Result<u8, CertsError> {
    let ours = server::Ours::of(args)?;
    let mut shown = Vec::new();
    for target in &args.targets {
        match one(args, target, &ours) {
            Ok(found) => shown.extend(found),
            Err(error) if args.targets.len() == 1 => return Err(error),
            // The others are worth seeing.
            Err(error) => shown.push(Shown { problems: vec![error.to_string()], ..Shown::new(target, "nothing") }),
        }
    }
    match args.output {
        Output::Json => {
            serde_json::to_writer_pretty(&mut *out, &shown).map_err(std::io::Error::from)?;
            writeln!(out)?;
        }
        Output::Text => write_text(&shown, out)?,
    }
    let is_broken = shown.iter().any(|shown| !shown.problems.is_empty() || shown.broken().next().is_some());
    Ok(u8::from(is_broken))
}

/// What is there counts as a file; what is not, and reads like `HOST:PORT`, as a server.
fn one(args: &ShowArgs, target: &str, ours: &server::Ours) -> Result<Vec<Shown>, CertsError> {
    let path = Path::new(target);
    if path.is_dir() {
        return document::folder(path, &ours.trust);
    }
    if let Some(address) = workload::address(target).filter(|_| !path.exists()) {
        return workload::show(target, &address, args.timeout);
    }
    match target.rsplit_once(':') {
        Some((host, port)) if !path.exists() && !host.contains('/') && port.parse::<u16>().is_ok() => {
            server::show(args, target, host, ours).map(|shown| vec![shown])
        }
        _ => document::file(path, &ours.trust).map(|shown| vec![shown]),
    }
}

fn write_text(shown: &[Shown], out: &mut dyn Write) -> Result<(), CertsError> {
    for target in shown {
        target.write(out)?;
    }
    let broken: Vec<_> = shown.iter().flat_map(Shown::broken).collect();
    let problems: usize = shown.iter().map(|shown| shown.problems.len()).sum();
    match broken.as_slice() {
        [] if problems > 0 => {}
        [] => writeln!(out, "every rule holds")?,
        [one] => writeln!(out, "1 rule is broken: {one}")?,
        many => writeln!(out, "{} rules are broken: {}", many.len(), many.join(", "))?,
    }
    match problems {
        0 => {}
        1 => writeln!(out, "1 problem, see FAIL above")?,
        several => writeln!(out, "{several} problems, see FAIL above")?,
    }
    Ok(())
}
