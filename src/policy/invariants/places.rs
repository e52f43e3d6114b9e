//! Where the text of a YAML value stands in its file.
//!
//! Quotes, folding and indentation change the blanks of a value and leave its words: those of the value are found again in the file one
//! after the other. A value with escapes in it is pointed at as a whole.

use std::ops::Range;

/// The words of a value: where each begins in the value and in the file, and its length.
#[derive(Debug)]
pub(super) struct Places {
    words: Vec<(usize, usize, usize)>,
    whole: Range<usize>,
}

impl Places {
    /// Of `value`, which stands at `span` of `file`.
    pub(super) fn new(value: &str, file: &str, span: Range<usize>) -> Self {
        let whole = span.start..span.start + file.get(span.clone()).map_or(0, |raw| raw.trim_end().len());
        let mut words = Vec::new();
        let mut from = span.start;
        for word in value.split_whitespace() {
            let at = word.as_ptr().addr().saturating_sub(value.as_ptr().addr());
            let Some(found) = file.get(from..span.end).and_then(|rest| rest.find(word)) else {
                return Self { words: Vec::new(), whole };
            };
            words.push((at, from + found, word.len()));
            from += found + word.len();
        }
        Self { words, whole }
    }

    /// The place in the file of a part of the value.
    pub(super) fn of(&self, part: Range<usize>) -> Range<usize> {
        let place = |offset: usize| {
            let at = self.words.partition_point(|(start, ..)| *start <= offset).checked_sub(1)?;
            let (start, placed, length) = self.words.get(at)?;
            Some(placed + (offset - start).min(*length))
        };
        match (place(part.start), place(part.end)) {
            (Some(start), Some(end)) if start <= end => start..end,
            _ => self.whole.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_value_is_found_in_its_file_however_it_is_written() {
        let value = "context has a && context.a";
        for raw in [
            "context has a && context.a".to_owned(),
            "'context has a && context.a'".to_owned(),
            "\"context has a && context.a\"".to_owned(),
            ">\n      context has a\n      && context.a\n".to_owned(),
            "|\n  context has a && context.a\n".to_owned(),
        ] {
            let file = format!("when: {raw}");
            let places = Places::new(value, &file, 6..file.len());
            assert_eq!(file.get(places.of(17..26)), Some("context.a"), "{raw}");
            assert_eq!(file.get(places.of(8..13)), Some("has a"), "{raw}");
        }
        let escaped = "when: \"a == \\\"b\\\"\"";
        assert_eq!(escaped.get(Places::new("a == \"b\"", escaped, 6..escaped.len()).of(5..8)), escaped.get(6..));
    }
}
