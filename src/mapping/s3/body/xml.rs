//! The XML of the few bodies that have to be read, as strictly as can be: no DTD, no comments, no CDATA, no processing instructions, no
//! attributes, no namespace prefixes, no entities but the five of XML and character references.

use quick_xml::Reader;
use quick_xml::events::{BytesRef, BytesStart, Event};

use crate::mapping::Refusal;

/// An element with its text and its children; never both.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Element {
    pub(super) name: &'static str,
    pub(super) text: String,
    pub(super) children: Vec<Element>,
}

impl Element {
    /// The only child of this name, if there is one.
    pub(super) fn only(&self, name: &str) -> Result<Option<&Self>, Refusal> {
        let mut named = self.children.iter().filter(|child| child.name == name);
        let first = named.next();
        if named.next().is_some() {
            return Err(refuse(format!("`{}` has more than one `{name}`", self.name)));
        }
        Ok(first)
    }
}

const DEEPEST: usize = 4;
/// S3's own namespace, the only one that a root may declare.
pub(super) const NAMESPACE: &str = "http://s3.amazonaws.com/doc/2006-03-01/";

/// Parses a document whose elements are all among `names`.
///
/// # Errors
/// Rule `malformed-xml`.
pub(super) fn parse(body: &[u8], names: &[&'static str], most_elements: usize) -> Result<Element, Refusal> {
    let text = std::str::from_utf8(body).map_err(|_| refuse("body is not UTF-8"))?;
    let mut reader = Reader::from_str(text);
    reader.config_mut().expand_empty_elements = true;
    let mut open: Vec<Element> = Vec::new();
    let mut root = None;
    let mut elements = 0_usize;
    let mut is_first = true;
    loop {
        match reader.read_event().map_err(|error| refuse(format!("body is not XML: {error}")))? {
            Event::Eof => break,
            Event::Decl(declaration) if is_first => {
                let encoding =
                    declaration.encoding().transpose().map_err(|_| refuse("XML declaration is malformed"))?;
                if encoding.is_some_and(|encoding| !encoding.eq_ignore_ascii_case(b"utf-8")) {
                    return Err(refuse("body is not UTF-8"));
                }
            }
            Event::Start(start) => {
                elements += 1;
                if root.is_some() || open.len() >= DEEPEST || elements > most_elements {
                    return Err(refuse("body has too many elements, or too deep ones"));
                }
                open.push(Element {
                    name: judge_start(&start, names, open.is_empty())?,
                    text: String::new(),
                    children: Vec::new(),
                });
            }
            Event::End(_) => {
                let element = open.pop().ok_or_else(|| refuse("body closes an element that is not open"))?;
                let element = judge_content(element)?;
                match open.last_mut() {
                    Some(parent) => parent.children.push(element),
                    None => root = Some(element),
                }
            }
            Event::Text(content) => {
                let content = std::str::from_utf8(&content).map_err(|_| refuse("body is not UTF-8"))?;
                take_text(open.last_mut(), content)?;
            }
            Event::GeneralRef(reference) => {
                let element = open.last_mut().ok_or_else(|| refuse("body has a reference outside its root"))?;
                element.text.push(resolve(&reference)?);
            }
            _ => return Err(refuse("body has a DTD, comment, CDATA section or processing instruction")),
        }
        is_first = false;
    }
    root.ok_or_else(|| refuse("body has no root element"))
}

fn judge_start(start: &BytesStart<'_>, names: &[&'static str], is_root: bool) -> Result<&'static str, Refusal> {
    let name = start.name();
    let known = names.iter().find(|known| known.as_bytes() == name.as_ref());
    let name = known.ok_or_else(|| {
        refuse(format!("element `{}` is not known", String::from_utf8_lossy(name.as_ref()).escape_debug()))
    })?;
    for attribute in start.attributes() {
        let attribute = attribute.map_err(|error| refuse(format!("attribute of `{name}` is malformed: {error}")))?;
        if !(is_root && attribute.key.as_ref() == b"xmlns" && *attribute.value == *NAMESPACE.as_bytes()) {
            return Err(refuse(format!("`{name}` has an attribute other than S3's namespace")));
        }
    }
    Ok(name)
}

/// White space between elements is no text; anything else beside children is a mixture that no S3 document has.
fn judge_content(mut element: Element) -> Result<Element, Refusal> {
    if !element.children.is_empty() {
        if !element.text.trim().is_empty() {
            return Err(refuse(format!("`{}` has text between its elements", element.name)));
        }
        element.text.clear();
    }
    Ok(element)
}

fn take_text(element: Option<&mut Element>, content: &str) -> Result<(), Refusal> {
    let is_blank = content.bytes().all(|byte| byte.is_ascii_whitespace());
    match element {
        // XML makes a plain carriage return a line feed (XML 1.0, 2.11), and not every parser does.
        Some(_) if content.contains('\r') && !is_blank => {
            Err(refuse("body has a plain carriage return, write `&#13;`"))
        }
        Some(_) if content.contains("]]>") => Err(refuse("body has `]]>` in text")),
        Some(element) => {
            element.text.push_str(content);
            Ok(())
        }
        None if is_blank => Ok(()),
        None => Err(refuse("body has text outside its root")),
    }
}

fn resolve(reference: &BytesRef<'_>) -> Result<char, Refusal> {
    let named = match &**reference {
        b"lt" => Some('<'),
        b"gt" => Some('>'),
        b"amp" => Some('&'),
        b"quot" => Some('"'),
        b"apos" => Some('\''),
        _ => reference.resolve_char_ref().ok().flatten(),
    };
    named
        .filter(|character| *character != '\0')
        .ok_or_else(|| refuse("body has a reference to an entity or to no character"))
}

pub(super) fn refuse(message: impl Into<String>) -> Refusal {
    Refusal::bad_request("malformed-xml", message)
}

/// Writes text so that every parser reads it back: markup and control characters as references.
pub(super) fn escape(text: &str, out: &mut String) {
    for character in text.chars() {
        match character {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            control if control.is_control() => out.push_str(&format!("&#{};", u32::from(control))),
            other => out.push(other),
        }
    }
}

/// An element with escaped text.
pub(super) fn element(name: &str, text: &str, out: &mut String) {
    out.push('<');
    out.push_str(name);
    out.push('>');
    escape(text, out);
    out.push_str("</");
    out.push_str(name);
    out.push('>');
}

/// A document cut before the end tag of its root element, if the root is of this name. `<Root/>` is opened for that.
pub(super) fn before_end_of_root(document: &str, root: &str) -> Option<(String, String)> {
    let mut reader = Reader::from_str(document);
    let mut depth = 0_usize;
    let mut end = None;
    loop {
        let start = usize::try_from(reader.buffer_position()).ok()?;
        match reader.read_event().ok()? {
            Event::Eof => break,
            Event::Start(tag) => {
                if depth == 0 && (tag.name().as_ref() != root.as_bytes() || end.is_some()) {
                    return None;
                }
                depth += 1;
            }
            Event::Empty(tag) if depth == 0 => {
                if tag.name().as_ref() != root.as_bytes() || end.is_some() {
                    return None;
                }
                let tag = document.get(start..)?.split_once("/>")?.0;
                let head = format!("{}{tag}>", document.get(..start)?);
                end = Some((
                    head,
                    format!("</{root}>{}", document.get(usize::try_from(reader.buffer_position()).ok()?..)?),
                ));
            }
            Event::End(_) => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    end = Some((document.get(..start)?.to_owned(), document.get(start..)?.to_owned()));
                }
            }
            _ => {}
        }
    }
    end.filter(|_| depth == 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NAMES: [&str; 3] = ["A", "B", "C"];

    fn rule(body: &str) -> String {
        parse(body.as_bytes(), &NAMES, 10).map_or_else(|refusal| refusal.message, |_| "allowed".to_owned())
    }

    #[test]
    fn a_plain_document_is_read() {
        let root = parse(
            b"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<A xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\r\n  <B>x&amp;&#13;&#x41;</B><C/>\n</A>\n",
            &NAMES,
            10,
        )
        .unwrap();
        assert_eq!((root.name, root.children.len()), ("A", 2));
        assert_eq!(root.only("B").unwrap().unwrap().text, "x&\rA");
        assert_eq!(root.only("C").unwrap().unwrap().text, "");
    }

    #[test]
    fn what_parsers_read_differently_is_refused() {
        for (body, why) in [
            ("", "root"),
            ("<A>", "root"),
            ("<A></B>", "XML"),
            ("<A/><A/>", "too many"),
            ("x<A/>", "outside"),
            ("<A/>x", "outside"),
            ("<X/>", "not known"),
            ("<s:A/>", "not known"),
            ("<a/>", "not known"),
            ("<A><B>x</B>y</A>", "between"),
            ("<A a=\"b\"/>", "attribute"),
            ("<A xmlns=\"urn:other\"/>", "attribute"),
            ("<A><B xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"/></A>", "attribute"),
            ("<!DOCTYPE A><A/>", "DTD"),
            ("<!DOCTYPE A [<!ENTITY e \"x\">]><A>&e;</A>", "DTD"),
            ("<A>&e;</A>", "reference"),
            ("<A>&#0;</A>", "reference"),
            ("<A>&#xD800;</A>", "reference"),
            ("<A>&</A>", "XML"),
            ("<A><!-- x --></A>", "comment"),
            ("<A><![CDATA[x]]></A>", "CDATA"),
            ("<A><?x?></A>", "processing"),
            ("<A/><?xml version=\"1.0\"?>", "processing"),
            ("<?xml version=\"1.0\" encoding=\"UTF-16\"?><A/>", "UTF-8"),
            ("<A>a\rb</A>", "carriage"),
            ("<A>]]></A>", "]]>"),
            ("<A><A><A><A><A/></A></A></A></A>", "too deep"),
            ("\u{feff}<X/>", ""),
        ] {
            let message = rule(body);
            assert!(message != "allowed" && message.contains(why), "{body}: {message}");
        }
        assert!(parse(b"<A>\xff</A>", &NAMES, 10).is_err());
        assert!(rule(&format!("<A>{}</A>", "<B/>".repeat(10))).contains("too many"));
    }

    #[test]
    fn the_end_of_the_root_is_found() {
        for (document, head, tail) in [
            ("<R><R>x</R></R>\n", "<R><R>x</R>", "</R>\n"),
            ("<?xml?><R xmlns=\"x\"/>", "<?xml?><R xmlns=\"x\">", "</R>"),
            ("<R></R>", "<R>", "</R>"),
        ] {
            assert_eq!(before_end_of_root(document, "R"), Some((head.to_owned(), tail.to_owned())), "{document}");
        }
        for document in ["", "<Error/>", "<R>", "<R/><R/>", "text"] {
            assert_eq!(before_end_of_root(document, "R"), None, "{document}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(text in any::<String>()) {
            prop_assume!(!text.contains('\0'));
            let mut xml = String::new();
            element("A", &text, &mut xml);
            prop_assert_eq!(parse(xml.as_bytes(), &NAMES, 10).unwrap().text, text);
        }

        #[test]
        fn no_body_makes_it_panic(body in "(<A>|</A>|<B>|</B>|<B/>|&amp;|&#1;|[a-z<>&;!\\[\\]]){0,12}") {
            let _ = parse(body.as_bytes(), &NAMES, 10);
            let _ = before_end_of_root(&body, "A");
        }
    }
}
