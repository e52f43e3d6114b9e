//! Results of policy tests as JUnit's XML, which every CI system reads.

use std::fmt::Write as _;

use super::PolicyTest;

/// One suite for each directory.
///
/// # Source
/// The form that Jenkins' xUnit plug-in publishes: testsuites, testsuite, testcase, failure.
#[must_use]
pub fn junit(tests: &[PolicyTest]) -> String {
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    for test in tests {
        let failed = test.results.iter().filter(|result| !result.passed()).count();
        let name = escaped(&test.directory.display().to_string());
        let _ = writeln!(xml, "  <testsuite name=\"{name}\" tests=\"{}\" failures=\"{failed}\">", test.results.len());
        for result in &test.results {
            let case = escaped(&result.name);
            if result.passed() {
                let _ = writeln!(xml, "    <testcase classname=\"{name}\" name=\"{case}\"/>");
                continue;
            }
            let message = escaped(&format!("expected {}, got {}", result.expected_text(), result.outcome_text()));
            let _ = writeln!(
                xml,
                "    <testcase classname=\"{name}\" name=\"{case}\">\n      <failure message=\"{message}\">line {}</failure>\n    </testcase>",
                result.line
            );
        }
        xml.push_str("  </testsuite>\n");
    }
    xml + "</testsuites>\n"
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
