//! Finds the entity literals of a policy's text, with their places: Cedar's own tree says which there are, not where.

use std::collections::HashMap;
use std::ops::Range;
use std::str::FromStr as _;
use std::sync::Arc;

use cedar_policy::EntityUid;

/// Entities as they are written. Policies name the same ones time and again: each is kept once.
#[derive(Debug, Default)]
pub(in crate::policy) struct Literals(HashMap<Box<str>, Arc<EntityUid>>);

impl Literals {
    /// Every `Type::"id"` of `text`, which is Cedar that parses, with its place in `text`.
    pub(in crate::policy) fn of(&mut self, text: &str) -> Vec<(Arc<EntityUid>, Range<usize>)> {
        let found = spans(text).into_iter().filter_map(|(path, span)| {
            let written = text.get(span.clone())?;
            let uid = match self.0.get(written) {
                Some(known) => Arc::clone(known),
                None => {
                    let new = Arc::new(uid(written.get(..path)?, written.get(path..)?)?);
                    self.0.insert(written.into(), Arc::clone(&new));
                    new
                }
            };
            Some((uid, span))
        });
        found.collect()
    }
}

/// What may be an entity: how long its path is, and its place.
fn spans(text: &str) -> Vec<(usize, Range<usize>)> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    // Where the path (`Name::Name::`) begins that the next string would belong to.
    let mut path: Option<usize> = None;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'/' if bytes.get(at + 1) == Some(&b'/') => {
                at = text.get(at..).and_then(|t| t.find('\n')).map_or(bytes.len(), |end| at + end)
            }
            b'"' => {
                let end = string_end(bytes, at);
                if let Some(start) = path.take() {
                    found.push((at - start, start..end));
                }
                at = end;
            }
            b':' if bytes.get(at + 1) == Some(&b':') => at += 2,
            _ if byte.is_ascii_alphabetic() || byte == b'_' => {
                let start = at;
                while bytes.get(at).is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_') {
                    at += 1;
                }
                // A name after a name (`is Workload in X`) begins a new path; one after `::` goes on with the old.
                let goes_on =
                    path.is_some() && text.get(..start).is_some_and(|before| before.trim_end().ends_with("::"));
                if !goes_on {
                    path = Some(start);
                }
            }
            _ if byte.is_ascii_whitespace() => at += 1,
            _ => {
                path = None;
                at += 1;
            }
        }
    }
    found
}

/// Where `permit` or `forbid` stands in the text of a policy, after its annotations.
pub(super) fn effect_at(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let rest = text.get(at..).unwrap_or_default();
        match byte {
            b'/' if rest.starts_with("//") => at += rest.find('\n').unwrap_or(rest.len()),
            b'"' => at = string_end(bytes, at),
            b'@' => at += 1 + rest.bytes().skip(1).take_while(|b| b.is_ascii_alphanumeric() || *b == b'_').count(),
            _ if rest.starts_with("permit") || rest.starts_with("forbid") => return at,
            _ => at += 1,
        }
    }
    0
}

/// The `when` and `unless` of a policy that Cedar parses, as they are written, with the `;`; none if it is another text.
pub(in crate::policy) fn conditions_of(text: &str) -> Option<&str> {
    let bytes = text.as_bytes();
    let mut at = effect_at(text);
    let mut depth = 0_usize;
    loop {
        match *bytes.get(at)? {
            b'/' if bytes.get(at + 1) == Some(&b'/') => at += text.get(at..)?.find('\n')?,
            b'"' => at = string_end(bytes, at),
            b'(' => (depth, at) = (depth + 1, at + 1),
            b')' if depth == 1 => return text.get(at + 1..).map(str::trim),
            b')' => (depth, at) = (depth.checked_sub(1)?, at + 1),
            _ => at += 1,
        }
    }
}

/// `path` may have blanks around its `::`, which Cedar's own parser of ids does not take.
fn uid(path: &str, string: &str) -> Option<EntityUid> {
    let path: String = path.split_whitespace().collect();
    EntityUid::from_str(&format!("{path}{string}")).ok()
}

/// The place after the string that begins at `at`.
fn string_end(bytes: &[u8], at: usize) -> usize {
    let mut end = at + 1;
    loop {
        match bytes.get(end) {
            Some(b'\\') => end += 2,
            Some(b'"') => return end + 1,
            Some(_) => end += 1,
            None => return bytes.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entity_literals(text: &str) -> Vec<(Arc<EntityUid>, Range<usize>)> {
        Literals::default().of(text)
    }

    proptest::proptest! {
        #[test]
        fn any_text_has_literals_within_it(text in "[a-zA-Z:\"/\\\\ @\n.é]{0,60}|.{0,60}") {
            for (uid, span) in entity_literals(&text) {
                let literal: String = text.get(span).expect("within").into();
                proptest::prop_assert!(literal.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && literal.ends_with('"'), "{uid}");
            }
            proptest::prop_assert!(text.get(effect_at(&text)..).is_some());
            proptest::prop_assert!(conditions_of(&text).is_none_or(|conditions| text.contains(conditions)));
        }

        #[test]
        fn a_literal_that_cedar_writes_is_found_again(id in ".{0,20}") {
            let uid = EntityUid::from_type_name_and_id("A::B".parse().expect("type"), cedar_policy::EntityId::new(id));
            let text = format!("permit (principal == {uid}, action, resource); // {uid}");
            let found: Vec<_> = entity_literals(&text).into_iter().map(|(uid, _)| uid).collect();
            // A line feed in an id is escaped: the comment ends where the text does.
            proptest::prop_assert_eq!(found, vec![Arc::new(uid)]);
        }
    }

    #[test]
    fn conditions_begin_where_the_scope_ends() {
        let text = "@id(\"(\") // permit ((\npermit (principal in Stage::\"a)\", // )\n action == Action::\"x\", resource)\n\
                    when { (1 == 1) } unless { context.note == \")\" };\n";
        assert_eq!(conditions_of(text), Some("when { (1 == 1) } unless { context.note == \")\" };"));
        assert_eq!(conditions_of("forbid(principal,action,resource);"), Some(";"));
        assert_eq!(conditions_of("permit (principal, action"), None);
    }

    #[test]
    fn literals_are_found_where_they_stand_and_not_in_strings_or_comments() {
        let text = "permit (principal is Workload in Stage::\"a\", action in [Action::\"read\", Action :: \"x\"], resource)\n\
                    // not Bucket::\"c\"\n\
                    when { context.note == \"Bucket::\\\"d\\\"\" && A::B::\"e\\\"f\" == resource };";
        let found: Vec<_> = entity_literals(text).into_iter().filter_map(|(_, span)| text.get(span)).collect();
        assert_eq!(found, ["Stage::\"a\"", "Action::\"read\"", "Action :: \"x\"", "A::B::\"e\\\"f\""]);
    }
}
