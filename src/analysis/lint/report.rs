//! What was found: for people, for programs, and as SARIF for code review.

use serde_json::{Value as Json, json};

use super::{Finding, Level, Lint, NotChecked, RULES, Rule};
use crate::analysis::counted;

impl Lint {
    /// For people: `file:line:column: level: message [rule]`.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for finding in &self.findings {
            let (line, column) = finding.place;
            let (rule, level) = (finding.rule.as_str(), finding.rule.level().as_str());
            text.push_str(&format!("{}:{line}:{column}: {level}: {} [{rule}]\n", finding.file, finding.message));
            text.push_str(&format!("    {}\n", finding.rule.advice()));
        }
        for open in &self.not_checked {
            text.push_str(&format!("not checked: {} of policy `{}`: {}\n", open.rule.as_str(), open.policy, open.why));
        }
        let errors = self.count(Level::Error);
        let counts = [(errors, "error"), (self.findings.len() - errors, "warning")];
        let counts =
            counts.into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| counted(count as u64, what));
        let open = (!self.not_checked.is_empty()).then(|| format!("{} not checked", self.not_checked.len()));
        let counts: Vec<String> = counts.chain(open).collect();
        text.push_str(if counts.is_empty() { "nothing found" } else { "" });
        text.push_str(&format!("{}\n", counts.join(", ")));
        text
    }

    /// For programs.
    #[must_use]
    pub fn json(&self) -> Json {
        let findings: Vec<Json> = self.findings.iter().map(Finding::json).collect();
        let open: Vec<Json> = self.not_checked.iter().map(NotChecked::json).collect();
        json!({"findings": findings, "not_checked": open})
    }

    /// For code review.
    ///
    /// # Source
    /// SARIF 2.1.0, <https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html>.
    #[must_use]
    pub fn sarif(&self) -> Json {
        let results: Vec<Json> = self.findings.iter().map(Finding::sarif).collect();
        // 3.20.21: what the tool itself ran into.
        let notifications: Vec<Json> = self.not_checked.iter().map(NotChecked::sarif).collect();
        json!({
            "$schema": "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json",
            "version": "2.1.0",
            "runs": [{
                "tool": {"driver": {
                    "name": "portcullis",
                    "version": env!("CARGO_PKG_VERSION"),
                    "rules": RULES.iter().map(Rule::sarif).collect::<Vec<_>>(),
                }},
                "columnKind": "unicodeCodePoints",
                "invocations": [{"executionSuccessful": self.not_checked.is_empty(), "toolExecutionNotifications": notifications}],
                "results": results,
            }],
        })
    }
}

impl Rule {
    fn sarif(&self) -> Json {
        json!({
            "id": self.as_str(),
            "shortDescription": {"text": self.about()},
            "help": {"text": self.advice()},
            "defaultConfiguration": {"level": self.level().as_str()},
        })
    }

    fn index(self) -> usize {
        RULES.iter().position(|rule| *rule == self).unwrap_or_default()
    }
}

impl Finding {
    fn json(&self) -> Json {
        let (line, column) = self.place;
        json!({"rule": self.rule.as_str(), "level": self.rule.level().as_str(), "policy": self.policy, "file": self.file,
               "line": line, "column": column, "message": self.message, "help": self.rule.advice()})
    }

    fn sarif(&self) -> Json {
        let (line, column) = self.place;
        json!({
            "ruleId": self.rule.as_str(),
            "ruleIndex": self.rule.index(),
            "level": self.rule.level().as_str(),
            "message": {"text": self.message},
            "locations": [{
                "physicalLocation": {
                    "artifactLocation": {"uri": uri(&self.file)},
                    "region": {"startLine": line, "startColumn": column},
                },
                "logicalLocations": [{"name": self.policy, "kind": "declaration"}],
            }],
            // Lines move, ids do not.
            "partialFingerprints": {"policy/v1": format!("{} {}", self.rule.as_str(), self.policy)},
        })
    }
}

impl NotChecked {
    fn json(&self) -> Json {
        json!({"rule": self.rule.as_str(), "policy": self.policy, "why": self.why})
    }

    fn sarif(&self) -> Json {
        json!({
            "level": "error",
            "message": {"text": format!("not checked: {} of policy `{}`: {}", self.rule.as_str(), self.policy, self.why)},
            "associatedRule": {"id": self.rule.as_str(), "index": self.rule.index()},
        })
    }
}

/// A path as RFC 3986 has it: absolute ones with a scheme, relative ones as references.
fn uri(path: &str) -> String {
    let mut uri = if path.starts_with('/') { "file://".to_owned() } else { String::new() };
    for byte in path.strip_prefix("./").unwrap_or(path).bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'.' | b'_' | b'~' => uri.push(char::from(byte)),
            byte => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_uris() {
        for (path, expected) in [
            ("policies/lake.cedar", "policies/lake.cedar"),
            ("./a b.cedar", "a%20b.cedar"),
            ("/etc/ü:#.cedar", "file:///etc/%C3%BC%3A%23.cedar"),
        ] {
            assert_eq!(uri(path), expected);
        }
    }
}
