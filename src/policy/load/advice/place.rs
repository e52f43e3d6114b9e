//! What stands around a place in a Cedar text, with strings and comments understood.

/// What stands before a place.
#[derive(Debug)]
pub(super) struct Before<'a> {
    /// The policy up to there, from its annotations on.
    pub(super) policy: &'a str,
    /// The line on which that begins, from 1.
    pub(super) line: usize,
    /// The brackets that are open there, with the lines that they are on.
    pub(super) open: Vec<(char, usize)>,
}

impl<'a> Before<'a> {
    pub(super) fn new(text: &'a str, at: usize) -> Self {
        let mut start = 0;
        let mut open = Vec::new();
        for (here, character) in code(text, 0).take_while(|(here, _)| *here < at) {
            match character {
                ';' => {
                    start = here + 1;
                    open.clear();
                }
                '(' | '{' | '[' => open.push((character, line(text, here))),
                ')' | '}' | ']' => {
                    open.pop();
                }
                _ => {}
            }
        }
        let first = code(text, start).find(|(here, c)| *here >= start && !c.is_whitespace());
        let start = first.map_or(at, |(here, _)| here.min(at));
        Self { policy: text.get(start..at).unwrap_or_default().trim_end(), line: line(text, start), open }
    }

    /// Whether the policy's `permit` or `forbid` stands before.
    pub(super) fn has_effect(&self) -> bool {
        self.words().any(|word| word == "permit" || word == "forbid")
    }

    /// Names and keywords, in their order.
    pub(super) fn words(&self) -> impl Iterator<Item = &'a str> {
        self.policy.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
    }

    /// `principal`, `action` or `resource`, whichever was named last.
    pub(super) fn variable(&self) -> &'a str {
        self.words().filter(|word| ["principal", "action", "resource"].contains(word)).last().unwrap_or_default()
    }

    /// Whether the place is in the parentheses after `permit` or `forbid`.
    pub(super) fn is_in_scope(&self) -> bool {
        self.open.first().is_some_and(|(bracket, _)| *bracket == '(')
    }
}

/// The line of a byte, from 1.
pub(super) fn line(text: &str, at: usize) -> usize {
    text.get(..at).unwrap_or_default().matches('\n').count() + 1
}

/// The characters from `from` on that are neither in strings nor in comments. A string is one `"`.
fn code(text: &str, from: usize) -> impl Iterator<Item = (usize, char)> {
    let mut rest = text.char_indices().skip_while(move |(at, _)| *at < from).peekable();
    std::iter::from_fn(move || {
        loop {
            let (at, character) = rest.next()?;
            if character == '/' && rest.peek().is_some_and(|(_, next)| *next == '/') {
                while rest.next_if(|(_, c)| *c != '\n').is_some() {}
                continue;
            }
            if character == '"' {
                while let Some((_, inside)) = rest.next() {
                    match inside {
                        '"' => break,
                        '\\' => drop(rest.next()),
                        _ => {}
                    }
                }
            }
            return Some((at, character));
        }
    })
}

/// The operand that begins at `at`, up to the next `&&` or `||` or the end of what it stands in, on one line.
pub(super) fn clause(text: &str, at: usize) -> String {
    let mut depth = 0_usize;
    let end = code(text, at).find(|(here, character)| match character {
        '(' | '[' | '{' => {
            depth += 1;
            false
        }
        ')' | ']' | '}' if depth > 0 => {
            depth -= 1;
            false
        }
        ')' | ']' | '}' | ';' | ',' => depth == 0,
        '&' | '|' => {
            depth == 0 && text.get(*here..).is_some_and(|rest| rest.starts_with("&&") || rest.starts_with("||"))
        }
        _ => false,
    });
    let whole = text.get(at..end.map_or(text.len(), |(here, _)| here)).unwrap_or_default();
    whole.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The first line on which a string begins that does not end there.
pub(super) fn unclosed_string(text: &str) -> Option<usize> {
    let is_odd = |line: &str| {
        let code = line.split("//").next().unwrap_or_default();
        (code.matches('"').count() - code.matches("\\\"").count()) % 2 == 1
    };
    text.lines().position(is_odd).map(|line| line + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn any_place_of_any_text_has_surroundings(text in "[a-z:\"/\\\\ @(){};&|\n.é]{0,60}|.{0,60}", at in 0..70_usize) {
            let before = Before::new(&text, at);
            let _ = (before.words().count(), before.variable(), before.is_in_scope(), unclosed_string(&text));
            proptest::prop_assert!(clause(&text, at).len() <= text.len());
        }
    }

    #[test]
    fn a_clause_ends_where_the_next_one_begins() {
        let text = "when { context.acl == \"a && b\" && (a || b)\n .c(d, e) || x };";
        assert_eq!(clause(text, 7), "context.acl == \"a && b\"");
        assert_eq!(clause(text, 34), "(a || b) .c(d, e)");
        assert_eq!(clause(text, 56), "x");
    }

    #[test]
    fn strings_and_comments_open_and_end_nothing() {
        let text = "permit (a);\n// { ;\n@id(\"} ;\")\npermit (principal, x";
        let before = Before::new(text, text.len());
        assert_eq!((before.policy, before.line), ("@id(\"} ;\")\npermit (principal, x", 3));
        assert_eq!(before.open, [('(', 4)]);
        assert!(before.has_effect() && before.is_in_scope());
        assert_eq!(before.variable(), "principal");
    }
}
