//! How deep policies and schemas go: Cedar's parser, and all that walks what it makes, calls itself for each bracket and each operator. Too many of them
//! would overrun the stack, which ends the process; so they are counted before anything is parsed.
//!
//! What counts has to see the same text as Cedar does: a carriage return alone ends a comment for Cedar's lexer, and for hardly an editor.

use std::ops::Range;
use std::sync::Arc;

use super::problem::{PolicyProblem, SourceFile};

/// The stack that is enough for policies within these bounds. Threads that load, test or explain policies have it.
pub const STACK: usize = 64 * 1024 * 1024;
/// Brackets within brackets.
const MOST_NESTED: usize = 64;
/// Operators and accesses (`&&`, `||`, `!`, `if`, `.`, `+`, `<` …) of one policy.
const MOST_OPERATORS: usize = 2_000;

/// What a file is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::policy) enum Language {
    Policies,
    /// `Set<…>` has brackets too, and there are no operators.
    Schema,
}

/// What makes the file one that is not to be parsed, if anything does: it is too deep, or its lines end in a way that is read in two ways.
pub(in crate::policy) fn too_deep(file: &Arc<SourceFile>, language: Language) -> Option<PolicyProblem> {
    if let Some(at) = lone_return(file.text()) {
        let help = "end lines with a line feed, or with both; within a string write `\\r`";
        return Some(
            PolicyProblem::error(file, Some(at..at + 1), "a carriage return stands without a line feed").help(help),
        );
    }
    let (span, what) = deepest(file.text(), language)?;
    let help = match what {
        TooMany::Brackets => format!("at most {MOST_NESTED} brackets may stand within each other"),
        TooMany::Operators => format!(
            "a policy may have at most {MOST_OPERATORS} operators; long chains are better written as sets (`[…].contains(…)`, \
             `resource in […]`) or as several policies"
        ),
    };
    Some(PolicyProblem::error(file, Some(span), "this is nested too deeply").help(help))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TooMany {
    Brackets,
    Operators,
}

/// A carriage return behind which no line feed comes.
fn lone_return(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    memchr::memchr_iter(b'\r', bytes).find(|at| bytes.get(at + 1) != Some(&b'\n'))
}

fn deepest(text: &str, language: Language) -> Option<(Range<usize>, TooMany)> {
    let is_schema = language == Language::Schema;
    let (mut depth, mut operators) = (0_usize, 0_usize);
    let mut bytes = text.bytes().enumerate().peekable();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            // Cedar's strings: an escape never ends one.
            b'"' => {
                while let Some((_, within)) = bytes.next() {
                    match within {
                        b'\\' => drop(bytes.next()),
                        b'"' => break,
                        _ => {}
                    }
                }
            }
            b'/' if bytes.peek().is_some_and(|(_, next)| *next == b'/') => {
                while bytes.next_if(|(_, next)| *next != b'\n').is_some() {}
            }
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            b'<' if is_schema => depth += 1,
            b'>' if is_schema => depth = depth.saturating_sub(1),
            _ if is_schema => continue,
            b';' => operators = 0,
            b'.' | b'+' | b'-' | b'*' => operators += 1,
            // `&&`, `==` and `<=` are one, as far as they are two bytes.
            b'&' | b'|' | b'!' | b'<' | b'>' | b'=' => {
                operators += 1;
                bytes.next_if(|(_, next)| matches!(next, b'&' | b'|' | b'='));
            }
            // Words are counted where they begin: `if`, `in`, `is`, `has`, `like`.
            b'i' | b'h' | b'l' if begins_operator(text, at) => operators += 1,
            _ => continue,
        }
        if depth > MOST_NESTED {
            return Some((at..at + 1, TooMany::Brackets));
        }
        if operators > MOST_OPERATORS {
            return Some((at..at + 1, TooMany::Operators));
        }
    }
    None
}

fn begins_operator(text: &str, at: usize) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let bytes = text.as_bytes();
    let before = at.checked_sub(1).and_then(|before| bytes.get(before));
    if before.is_some_and(|byte| is_word(*byte)) {
        return false;
    }
    ["if", "in", "is", "has", "like"].iter().any(|word| {
        let end = at + word.len();
        bytes.get(at..end) == Some(word.as_bytes()) && !bytes.get(end).is_some_and(|byte| is_word(*byte))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(depth: usize) -> String {
        format!("permit (principal, action, resource) when {{ {}true{} }};", "(".repeat(depth), ")".repeat(depth))
    }

    fn chained(count: usize, operator: &str) -> String {
        let chain = vec!["true"; count + 1].join(operator);
        format!("permit (principal, action, resource) when {{ {chain} }};")
    }

    fn refused(text: &str) -> Option<TooMany> {
        deepest(text, Language::Policies).map(|(_, what)| what)
    }

    #[test]
    fn brackets_and_operators_are_bounded_and_what_is_within_the_bounds_is_not_refused() {
        // The braces of `when` are one of them.
        assert_eq!(refused(&nested(MOST_NESTED - 1)), None);
        assert_eq!(refused(&nested(MOST_NESTED)), Some(TooMany::Brackets));
        for operator in [" && ", "||", " == ", " < ", " in ", ".", "+", " != "] {
            assert_eq!(refused(&chained(MOST_OPERATORS, operator)), None, "{operator}");
            assert_eq!(refused(&chained(MOST_OPERATORS + 1, operator)), Some(TooMany::Operators), "{operator}");
        }
        let words = |count| format!("permit (principal, action, resource) when {{ {} true }};", "if ".repeat(count));
        assert_eq!(refused(&words(MOST_OPERATORS)), None);
        assert_eq!(refused(&words(MOST_OPERATORS + 1)), Some(TooMany::Operators));
        let bangs = |count| format!("permit (principal, action, resource) when {{ {}true }};", "!".repeat(count));
        assert_eq!(refused(&bangs(MOST_OPERATORS + 1)), Some(TooMany::Operators));
    }

    #[test]
    fn a_comment_ends_where_it_ends_for_cedar() {
        let file = |text: &str| SourceFile::new("a.cedar", text);
        let problem = too_deep(&file("// x\rpermit (principal, action, resource);"), Language::Policies).unwrap();
        assert!(
            problem.line().contains("a.cedar:1:5") && problem.line().contains("without a line feed"),
            "{}",
            problem.line()
        );
        assert!(too_deep(&file("entity A;\r"), Language::Schema).is_some());
        assert!(too_deep(&file("// x\r\npermit (principal, action, resource);\r\n"), Language::Policies).is_none());
    }

    #[test]
    fn sets_within_sets_of_a_schema_are_brackets_too() {
        let sets = |depth| format!("type T = {}Long{};", "Set<".repeat(depth), ">".repeat(depth));
        assert_eq!(deepest(&sets(MOST_NESTED), Language::Schema), None);
        assert_eq!(deepest(&sets(MOST_NESTED + 1), Language::Schema).map(|(_, what)| what), Some(TooMany::Brackets));
        let shipped = include_str!("../../../policies/portcullis.cedarschema");
        assert_eq!(deepest(&shipped.repeat(3), Language::Schema), None);
    }

    #[test]
    fn strings_and_comments_nest_nothing_and_each_policy_counts_for_itself() {
        let brackets = "(".repeat(MOST_NESTED * 2);
        assert_eq!(refused(&format!("@id(\"{brackets}\\\"{brackets}\")")), None);
        assert_eq!(refused(&format!("// {brackets}\npermit (principal, action, resource);")), None);
        assert_eq!(refused(&format!("\"\\\\\" {brackets}")), Some(TooMany::Brackets), "the string has ended");
        assert_eq!(refused(&chained(MOST_OPERATORS - 10, " && ").repeat(3)), None);
    }

    #[test]
    fn what_is_within_the_bounds_has_room_on_the_stack_that_is_promised() {
        let texts = [nested(MOST_NESTED - 1), chained(MOST_OPERATORS, " && "), chained(MOST_OPERATORS, " || ")];
        let parse = move || {
            for text in texts {
                let set: cedar_policy::PolicySet = text.parse().expect("is valid");
                let policy = set.policies().next().expect("is there").clone();
                assert!(!crate::policy::load::Reads::of(&policy).looks_at_literals());
            }
        };
        std::thread::Builder::new().stack_size(STACK).spawn(parse).unwrap().join().unwrap();
    }
}
