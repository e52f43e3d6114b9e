//! Results of policy tests as JUnit's XML, which every CI system reads.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::{CaseResult, PolicyTest, PolicyTestError};

/// One suite for each directory. What cannot be tested at all is a suite with an error. `strict`: what cases do not show is a failure too.
///
/// # Source
/// The form that Jenkins' xUnit plug-in publishes: testsuites, testsuite, testcase, failure, error.
#[must_use]
pub fn junit(tests: &[(PathBuf, Result<PolicyTest, PolicyTestError>)], strict: bool) -> String {
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    for (directory, test) in tests {
        let name = escaped(&directory.display().to_string());
        let (count, errors, cases) = match test {
            Ok(test) => {
                let mut cases: Vec<Case> = test.results.iter().map(Case::of).collect();
                cases.extend(strict.then(|| Case::coverage(test)));
                (cases.len(), 0, cases)
            }
            Err(error) => (
                1,
                1,
                vec![Case {
                    name: "policies and cases".to_owned(),
                    wrong: Some(("error", error.to_string(), String::new())),
                }],
            ),
        };
        let failed = cases.iter().filter(|case| case.wrong.is_some()).count() - errors;
        let _ =
            writeln!(xml, "  <testsuite name=\"{name}\" tests=\"{count}\" failures=\"{failed}\" errors=\"{errors}\">");
        cases.iter().for_each(|case| case.write(&name, &mut xml));
        xml.push_str("  </testsuite>\n");
    }
    xml + "</testsuites>\n"
}

struct Case {
    name: String,
    /// The element, what is wrong in short, and more of it.
    wrong: Option<(&'static str, String, String)>,
}

impl Case {
    fn of(result: &CaseResult) -> Self {
        let wrong = (!result.passed()).then(|| {
            let message = format!("expected {}, got {}", result.expected_text(), result.outcome_text());
            ("failure", message, format!("line {}", result.line))
        });
        Self { name: result.name.clone(), wrong }
    }

    fn coverage(test: &PolicyTest) -> Self {
        let notes = test.notes();
        let message = || format!("{} policies or clauses are not shown from both sides", notes.len());
        Self {
            name: "coverage".to_owned(),
            wrong: (!notes.is_empty()).then(|| ("failure", message(), notes.join("\n"))),
        }
    }

    fn write(&self, suite: &str, xml: &mut String) {
        let name = escaped(&self.name);
        let _ = match &self.wrong {
            None => writeln!(xml, "    <testcase classname=\"{suite}\" name=\"{name}\"/>"),
            Some((element, message, text)) => writeln!(
                xml,
                "    <testcase classname=\"{suite}\" name=\"{name}\">\n      <{element} message=\"{}\">{}</{element}>\n    </testcase>",
                escaped(message),
                escaped(text)
            ),
        };
    }
}

/// Control characters other than these three are not allowed in XML 1.0 in any form.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\t' | '\n' | '\r' => {
                let _ = write!(escaped, "&#{};", u32::from(character));
            }
            other if other.is_control() => escaped.push('\u{fffd}'),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_xml_cannot_hold_is_escaped() {
        assert_eq!(escaped("a<b>&\"c\"\n\u{1}é"), "a&lt;b&gt;&amp;&quot;c&quot;&#10;\u{fffd}é");
    }
}
