//! A certificate's content, and every rule with its outcome: what `certs show` and `doctor` tell of one.

use std::io::{self, Write};
use std::time::SystemTime;

use rustls::pki_types::CertificateDer;
use serde::Serialize;

use super::certs::lifetime::{moment, roughly};
use super::rules::advice;
use crate::identity::{
    CertificateDescription, ChainUsage, RuleOutcome, RuleVerdict, SvidError, TrustBundleSet, X509Svid, judge,
};

/// One certificate, judged.
#[derive(Debug, Serialize)]
pub(super) struct JudgedCertificate {
    pub(super) kind: &'static str,
    pub(super) uris: Vec<String>,
    pub(super) dns_names: Vec<String>,
    pub(super) subject: String,
    pub(super) issuer: String,
    pub(super) serial: String,
    pub(super) sha256: String,
    pub(super) not_before: String,
    pub(super) not_after: String,
    #[serde(skip)]
    pub(super) remaining: String,
    pub(super) rules: Vec<JudgedRule>,
}

/// One rule's outcome.
#[derive(Debug, Serialize)]
pub(super) struct JudgedRule {
    /// `pass`, `FAIL`, or `-`: nothing was left to judge.
    pub(super) result: &'static str,
    pub(super) rule: &'static str,
    pub(super) section: &'static str,
    pub(super) requirement: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<String>,
}

impl JudgedCertificate {
    /// Judges one certificate by itself.
    ///
    /// # Errors
    /// It is none.
    pub(super) fn of(der: &[u8], now: SystemTime) -> Result<Self, SvidError> {
        let description = CertificateDescription::parse(der)?;
        let CertificateDescription { not_before, not_after, .. } = description;
        let (remaining, untimely) = match (not_before.duration_since(now), not_after.duration_since(now)) {
            (Ok(until), _) if !until.is_zero() => {
                let text = format!("begins in {}", roughly(until));
                (text.clone(), Some(("not-yet-valid", format!("certificate's validity {text}"))))
            }
            (_, Ok(left)) => (format!("expires in {}", roughly(left)), None),
            (_, Err(error)) => {
                let text = format!("expired {} ago", roughly(error.duration()));
                (text.clone(), Some(("expired", format!("certificate {text}"))))
            }
        };
        let mut rules: Vec<_> = judge(der).into_iter().map(JudgedRule::from).collect();
        let rule = untimely.as_ref().map_or("in-time", |(rule, _)| *rule);
        let reason = untimely.map(|(_, reason)| reason);
        rules.push(JudgedRule::of(rule, "RFC 5280 6.1.3", "now is within the validity", reason));
        Ok(Self {
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
        })
    }

    /// The rules that it breaks.
    pub(super) fn broken(&self) -> impl Iterator<Item = &JudgedRule> {
        self.rules.iter().filter(|rule| rule.is_broken())
    }

    /// Writes it for people, each line two columns in.
    pub(super) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let Self { subject, issuer, serial, sha256, not_before, not_after, remaining, .. } = self;
        for uri in &self.uris {
            writeln!(out, "  URI SAN  {uri}")?;
        }
        for name in &self.dns_names {
            writeln!(out, "  DNS SAN  {name}")?;
        }
        writeln!(out, "  subject  {}", if subject.is_empty() { "(empty)" } else { subject })?;
        writeln!(out, "  issuer   {issuer}")?;
        writeln!(out, "  serial   {serial}")?;
        writeln!(out, "  SHA-256  {sha256}")?;
        writeln!(out, "  valid    {not_before} to {not_after}, {remaining}")?;
        let width = |text: fn(&JudgedRule) -> &str| self.rules.iter().map(|row| text(row).len()).max().unwrap_or(0);
        let (rule_width, section_width) = (width(|row| row.rule), width(|row| row.section));
        for JudgedRule { result, rule, section, requirement, reason } in &self.rules {
            writeln!(out, "  {result:<4}  {rule:<rule_width$}  {section:<section_width$}  {requirement}")?;
            if let Some(reason) = reason {
                writeln!(out, "        {reason}")?;
                writeln!(out, "        do: {}", advice(rule))?;
            }
        }
        writeln!(out)
    }
}

impl JudgedRule {
    pub(super) fn of(
        rule: &'static str,
        section: &'static str,
        requirement: &'static str,
        reason: Option<String>,
    ) -> Self {
        Self { result: if reason.is_some() { "FAIL" } else { "pass" }, rule, section, requirement, reason }
    }

    pub(super) fn is_broken(&self) -> bool {
        self.reason.is_some()
    }

    /// Whether a chain, leaf first, leads to an authority of the leaf's trust domain for each of these uses.
    pub(super) fn of_chain(
        chain: &[CertificateDer<'_>],
        bundles: &TrustBundleSet,
        usages: &[ChainUsage],
        now: SystemTime,
    ) -> Self {
        let row =
            |rule, reason| Self::of(rule, "X509-SVID 5.1", "the chain leads to an authority of the bundle", reason);
        let Some(Ok(svid)) = chain.first().map(|leaf| X509Svid::parse(leaf)) else {
            return Self { result: "-", ..row("chain", None) };
        };
        let verified = usages.iter().try_for_each(|usage| bundles.verify(&svid, chain, *usage, now));
        match verified {
            Ok(()) => row("chain", None),
            Err(error) => row(error.rule(), Some(error.to_string())),
        }
    }
}

impl From<RuleVerdict> for JudgedRule {
    fn from(verdict: RuleVerdict) -> Self {
        let RuleVerdict { rule, section, requirement, outcome } = verdict;
        match outcome {
            RuleOutcome::Holds => Self::of(rule, section, requirement, None),
            RuleOutcome::Broken(reason) => Self::of(rule, section, requirement, Some(reason)),
            RuleOutcome::NotJudged => Self { result: "-", ..Self::of(rule, section, requirement, None) },
        }
    }
}
