//! YAML text becomes a tree with places.
//!
//! The part of YAML that a configuration needs: one document of mappings, lists and scalars. Anchors, aliases and tags are refused
//! (a value stands where it is used, and no alias can grow a small file into a large one), so are repeated keys, of which other
//! readers silently take the last. JSON is such a document, too.

use std::collections::HashMap;
use std::ops::Range;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput};

use super::tree::{Entry, KeyPath, Node, Value};
use crate::config::errors::Finding;

/// Larger files are not configurations. ConfigMaps end at 1 MiB too.
const MAX_BYTES: usize = 1024 * 1024;
/// The keys need 5.
const MAX_DEPTH: usize = 32;

/// Reads `text` as far as it is YAML, and says what is wrong with it.
pub(crate) fn read(text: &str) -> (Option<Node>, Vec<Finding>) {
    if text.len() > MAX_BYTES {
        let message = format!("the file has {} bytes, a configuration has at most {MAX_BYTES}", text.len());
        return (None, vec![Finding::placeless("", message)]);
    }
    let mut reader = Reader::new(text);
    match reader.document() {
        Ok(node) => (node, reader.findings),
        Err(Stopped(finding)) => {
            reader.findings.push(*finding);
            (None, reader.findings)
        }
    }
}

/// What makes reading on pointless.
struct Stopped(Box<Finding>);

struct Reader<'t> {
    text: &'t str,
    parser: Parser<'t, StrInput<'t>>,
    /// Where each character begins, and after them the end of the text: the parser counts characters.
    offsets: Vec<usize>,
    findings: Vec<Finding>,
}

impl<'t> Reader<'t> {
    fn new(text: &'t str) -> Self {
        let offsets = text.char_indices().map(|(offset, _)| offset).chain([text.len()]).collect();
        Self { text, parser: Parser::new_from_str(text), offsets, findings: Vec::new() }
    }

    fn document(&mut self) -> Result<Option<Node>, Stopped> {
        let mut root = None;
        while let Some((event, span)) = self.next()? {
            match event {
                Event::DocumentStart(_) if root.is_some() => {
                    let message = "a second document begins here, a configuration is one";
                    return Err(self.stop(
                        span,
                        message,
                        Some("remove the `---`, or keep each document in its own file".into()),
                    ));
                }
                Event::DocumentStart(_) => {
                    if let Some((event, span)) = self.next()? {
                        root = Some(self.node(event, span, 0)?);
                    }
                }
                _ => {}
            }
        }
        Ok(root)
    }

    fn node(&mut self, event: Event<'t>, span: Span, depth: usize) -> Result<Node, Stopped> {
        if depth > MAX_DEPTH {
            return Err(self.stop(span, format!("nested deeper than {MAX_DEPTH} levels"), None));
        }
        let start = self.bytes(span);
        let (anchor, tag, value) = match event {
            Event::Scalar(text, ScalarStyle::Plain, anchor, tag) => (anchor, tag, plain(&text)),
            Event::Scalar(text, _, anchor, tag) => (anchor, tag, Value::Text(text.into_owned())),
            Event::SequenceStart(anchor, tag) => (anchor, tag, self.list(depth)?),
            Event::MappingStart(anchor, tag) => (anchor, tag, self.map(depth)?),
            Event::Alias(_) => {
                self.find(start.clone(), "aliases (`*name`) are not supported", "write the value out");
                (0, None, Value::Unusable)
            }
            _ => (0, None, Value::Null),
        };
        if anchor != 0 {
            self.find(start.clone(), "anchors (`&name`) are not supported", "remove the anchor");
        }
        if let Some(tag) = tag {
            self.find(
                start.clone(),
                format!(
                    "tags (`{}{}`) are not supported",
                    if tag.is_yaml_core_schema() { "!!" } else { "!" },
                    tag.suffix
                ),
                "remove the tag; quotes make a value text",
            );
            return Ok(Node { span: start, value: Value::Unusable });
        }
        Ok(Node { span: start, value })
    }

    fn list(&mut self, depth: usize) -> Result<Value, Stopped> {
        let mut nodes = Vec::new();
        while let Some((event, span)) = self.next()? {
            if matches!(event, Event::SequenceEnd) {
                break;
            }
            nodes.push(self.node(event, span, depth + 1)?);
        }
        Ok(Value::List(nodes))
    }

    fn map(&mut self, depth: usize) -> Result<Value, Stopped> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut lines: HashMap<String, usize> = HashMap::new();
        while let Some((event, span)) = self.next()? {
            if matches!(event, Event::MappingEnd) {
                break;
            }
            let key = self.key(event, span, depth)?;
            let Some((event, value_span)) = self.next()? else { break };
            let node = self.node(event, value_span, depth + 1)?;
            let Some(key) = key else { continue };
            let key_span = self.bytes(span);
            if let Some(first) = lines.get(&key) {
                let help = format!("it stands in line {first} already: remove one of the two");
                self.find(key_span, format!("key `{key}` is repeated"), &help);
                continue;
            }
            lines.insert(key.clone(), span.start.line());
            entries.push(Entry { key, key_span, node });
        }
        Ok(Value::Map(entries))
    }

    /// A key; none if it is reported as unusable.
    fn key(&mut self, event: Event<'t>, span: Span, depth: usize) -> Result<Option<String>, Stopped> {
        if let Event::Scalar(text, _, 0, None) = &event
            && !text.is_empty()
        {
            return Ok(Some(text.clone().into_owned()));
        }
        let before = self.findings.len();
        let node = self.node(event, span, depth + 1)?;
        // An anchor, an alias or a tag has been reported as such.
        if self.findings.len() == before {
            self.find(node.span, "a key must be text", "write `key: value`");
        }
        Ok(None)
    }

    fn next(&mut self) -> Result<Option<(Event<'t>, Span)>, Stopped> {
        self.parser.next_event().transpose().map_err(|error| self.syntax(&error))
    }

    fn syntax(&self, error: &ScanError) -> Stopped {
        let mut offset = self.offset(error.marker().index());
        if error.info().contains("tab") {
            // The parser names the value before it.
            offset = self.text.get(offset..).and_then(|rest| rest.find('\t')).map_or(offset, |ahead| offset + ahead);
        }
        let help = syntax_help(self.text, offset, error.info());
        let message = format!("not valid YAML: {}", error.info());
        let length = self.text.get(offset..).and_then(|rest| rest.chars().next()).map_or(0, char::len_utf8);
        Stopped(Box::new(Finding::new(offset..offset + length, &KeyPath::root(), message).help(help)))
    }

    fn stop(&self, span: Span, message: impl Into<String>, help: Option<String>) -> Stopped {
        Stopped(Box::new(Finding::new(self.bytes(span), &KeyPath::root(), message).help(help)))
    }

    fn find(&mut self, span: Range<usize>, message: impl Into<String>, help: &str) {
        self.findings.push(Finding::new(span, &KeyPath::root(), message).help(help.to_owned()));
    }

    fn bytes(&self, span: Span) -> Range<usize> {
        self.offset(span.start.index())..self.offset(span.end.index())
    }

    fn offset(&self, character: usize) -> usize {
        self.offsets.get(character).copied().unwrap_or(self.text.len())
    }
}

fn syntax_help(text: &str, offset: usize, message: &str) -> String {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = text.get(line_start..).unwrap_or_default().lines().next().unwrap_or_default();
    let indentation = line.len() - line.trim_start().len();
    if message.contains("tab") || line.get(..indentation).is_some_and(|blanks| blanks.contains('\t')) {
        return "YAML is indented by spaces: replace the tab".into();
    }
    let value = line.split_once(": ").map(|(_, value)| value.trim());
    if let Some(value) = value.filter(|v| v.contains(": ") || v.starts_with(['@', '`', '%', '!', '&', '*', '|', '>'])) {
        return format!("put the value in quotes: `{}`", quoted(value));
    }
    if message.contains("unexpected end of stream") {
        return "a quote or bracket that opens above is never closed".into();
    }
    "look at the indentation of this line and the one above, and for a quote or bracket that is not closed".into()
}

/// A text in double quotes, as YAML and JSON write it.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// An unquoted scalar.
///
/// # Source
/// YAML 1.2.2, section 10.3.2 (<https://yaml.org/spec/1.2.2/#1032-tag-resolution>), but for numbers with a leading zero: YAML 1.1
/// reads `0660` as octal, 1.2 as decimal. Here it stays text, so that it is never a number other than the one that was meant.
fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !unsigned.starts_with(|c: char| c.is_ascii_digit()) || has_leading_zero(unsigned) {
        return Value::Text(text.into());
    }
    if unsigned.chars().all(|c| c.is_ascii_digit()) {
        let saturated = if text.starts_with('-') { i128::MIN } else { i128::MAX };
        return Value::Int(text.parse().unwrap_or(saturated));
    }
    let is_float = unsigned.chars().all(|c| matches!(c, '0'..='9' | '.' | 'e' | 'E' | '-' | '+'));
    match text.parse::<f64>() {
        Ok(number) if is_float && number.is_finite() => Value::Float(number),
        _ => Value::Text(text.into()),
    }
}

fn has_leading_zero(digits: &str) -> bool {
    digits.strip_prefix('0').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_are_read_by_the_core_schema() {
        let text = |t: &str| Value::Text(t.into());
        for (scalar, expected) in [
            ("", Value::Null),
            ("~", Value::Null),
            ("true", Value::Bool(true)),
            ("yes", text("yes")),
            ("10", Value::Int(10)),
            ("-3", Value::Int(-3)),
            ("0", Value::Int(0)),
            ("0660", text("0660")),
            ("0x10", text("0x10")),
            ("1.3", Value::Float(1.3)),
            ("1e3", Value::Float(1000.0)),
            (".nan", text(".nan")),
            ("10s", text("10s")),
            ("127.0.0.1:80", text("127.0.0.1:80")),
            ("99999999999999999999999999999999999999999", Value::Int(i128::MAX)),
        ] {
            assert_eq!(plain(scalar), expected, "{scalar}");
        }
    }

    #[test]
    fn places_are_bytes_though_the_parser_counts_characters() {
        let text = "é: ü\r\nlist:\r\n  - \"ö\"\r\n";
        let (node, findings) = read(text);
        assert!(findings.is_empty());
        let node = node.unwrap();
        let at = |path: KeyPath| text.get(node.at(&path).value_span());
        assert_eq!(at(KeyPath::root().key("é")), Some("ü"));
        assert_eq!(at(KeyPath::root().key("list").index(0)), Some("\"ö\""));
        assert_eq!(at(KeyPath::root().key("list")), Some("list"));
    }

    #[test]
    fn json_is_read_tabs_and_all() {
        let (node, findings) = read("{\n\t\"a\": [1, true,\n\t\tnull],\n\t\"b\": {\"c\": \"d\\n\"}\n}\n");
        assert!(findings.is_empty());
        let Value::Map(entries) = node.unwrap().value else { panic!("a mapping") };
        assert_eq!(entries.len(), 2);
    }
}
