//! What was found: one line each, with what to do.

use std::io::{self, IsTerminal as _, Write as _};

use serde::Serialize;

use crate::cli::judged::JudgedCertificate;

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Outcome {
    /// As it should be.
    Ok,
    /// Nothing wrong, but good to know.
    Note,
    /// It works now, and will not for ever.
    Warning,
    /// Something does not work.
    Failed,
}

/// One line of the report.
#[derive(Debug, Serialize)]
pub(super) struct Finding {
    outcome: Outcome,
    check: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
    /// What a peer presented, with every rule.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    certificates: Vec<JudgedCertificate>,
}

/// All lines; for people each is written as soon as it is known.
#[derive(Debug, Default)]
pub(super) struct Report {
    findings: Vec<Finding>,
    /// Nothing is written before the end.
    quiet: bool,
    colour: bool,
}

#[derive(Serialize)]
struct Document<'a> {
    ok: bool,
    findings: &'a [Finding],
}

impl Report {
    /// A report in JSON, or for people.
    pub(super) fn new(is_json: bool) -> Self {
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { findings: Vec::new(), quiet: is_json, colour: io::stdout().is_terminal() && !no_colour }
    }

    pub(super) fn good(&mut self, check: &'static str, message: impl Into<String>) {
        self.add(Outcome::Ok, check, message.into(), None, Vec::new());
    }

    pub(super) fn note(&mut self, check: &'static str, message: impl Into<String>, advice: &str) {
        self.add(Outcome::Note, check, message.into(), Some(advice), Vec::new());
    }

    pub(super) fn warn(&mut self, check: &'static str, message: impl Into<String>, advice: &str) {
        self.add(Outcome::Warning, check, message.into(), Some(advice), Vec::new());
    }

    pub(super) fn bad(&mut self, check: &'static str, message: impl Into<String>, advice: &str) {
        self.add(Outcome::Failed, check, message.into(), Some(advice), Vec::new());
    }

    /// What was presented: good if no rule is broken, else the first broken one with what to do.
    pub(super) fn presented(&mut self, check: &'static str, message: String, certificates: Vec<JudgedCertificate>) {
        let is_broken = certificates.iter().any(|certificate| certificate.broken().next().is_some());
        let (outcome, advice) = match is_broken {
            true => (Outcome::Failed, Some("each broken rule follows, with what to do")),
            false => (Outcome::Ok, None),
        };
        self.add(outcome, check, message, advice, certificates);
    }

    fn add(
        &mut self,
        outcome: Outcome,
        check: &'static str,
        message: String,
        advice: Option<&str>,
        certificates: Vec<JudgedCertificate>,
    ) {
        let advice = advice.filter(|advice| !advice.is_empty()).map(str::to_owned);
        let finding = Finding { outcome, check, message, advice, certificates };
        if !self.quiet {
            // A closed pipe ends nothing: the exit code still tells.
            let _ = writeln!(io::stdout(), "{}", finding.line(self.colour));
        }
        self.findings.push(finding);
    }

    /// Writes the end, and says whether nothing failed.
    pub(super) fn finish(&self) -> bool {
        let failed = self.count(Outcome::Failed);
        let mut out = io::stdout();
        let _ = if self.quiet {
            let document = Document { ok: failed == 0, findings: &self.findings };
            serde_json::to_writer_pretty(&mut out, &document).map_err(io::Error::from).and_then(|()| writeln!(out))
        } else {
            let warned = self.count(Outcome::Warning);
            let count = |count: usize| if count == 1 { "1 check".to_owned() } else { format!("{count} checks") };
            match (failed, warned) {
                (0, 0) => writeln!(out, "\n{}, all well", count(self.findings.len())),
                (0, warned) => writeln!(out, "\nnothing fails, {} to look at", count(warned)),
                (failed, _) => writeln!(out, "\n{} failed", count(failed)),
            }
        };
        failed == 0
    }

    fn count(&self, outcome: Outcome) -> usize {
        self.findings.iter().filter(|finding| finding.outcome == outcome).count()
    }
}

impl Finding {
    /// Outcome, check, message; below them what to do.
    fn line(&self, colour: bool) -> String {
        let (word, code) = match self.outcome {
            Outcome::Ok => ("ok", "32"),
            Outcome::Note => ("note", "36"),
            Outcome::Warning => ("warn", "33"),
            Outcome::Failed => ("FAIL", "1;31"),
        };
        let word = if colour { format!("\x1b[{code}m{word:<4}\x1b[0m") } else { format!("{word:<4}") };
        let Self { check, message, .. } = self;
        match &self.advice {
            None => format!("{word}  {check:<13}  {message}"),
            Some(advice) => format!("{word}  {check:<13}  {message}\n{:21}do: {advice}", ""),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(outcome: Outcome, advice: Option<&str>) -> Finding {
        let advice = advice.map(str::to_owned);
        Finding { outcome, check: "trust", message: "td.test: 1 authority".into(), advice, certificates: Vec::new() }
    }

    #[test]
    fn lines_are_aligned_and_coloured_only_where_asked() {
        assert_eq!(finding(Outcome::Ok, None).line(false), "ok    trust          td.test: 1 authority");
        let line = finding(Outcome::Failed, Some("bring a bundle")).line(false);
        assert_eq!(line, "FAIL  trust          td.test: 1 authority\n                     do: bring a bundle");
        assert!(finding(Outcome::Ok, None).line(true).starts_with("\x1b[32mok  \x1b[0m  trust "));
    }

    #[test]
    fn a_warning_is_no_failure() {
        let mut report = Report { quiet: true, ..Report::default() };
        report.good("trust", "well");
        report.warn("identity", "overdue", "renew");
        assert_eq!((report.count(Outcome::Failed), report.count(Outcome::Warning)), (0, 1));
        report.bad("identity", "expired", "renew");
        assert_eq!(report.count(Outcome::Failed), 1);
    }
}
