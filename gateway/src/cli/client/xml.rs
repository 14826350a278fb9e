//! The few XML answers that the command line reads: errors, listings, upload ids.
//!
//! An answer is read into a small tree of names, texts and children; what is not asked for is ignored.

use quick_xml::Reader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::Event;

use crate::auth::canonical::decode;

/// Deeper answers do not exist in S3; a hostile server must not exhaust the stack.
const DEEPEST: usize = 16;

/// One element.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Element {
    /// Without namespace prefix.
    pub name: String,
    /// Text directly inside.
    pub text: String,
    /// Elements directly inside.
    pub children: Vec<Element>,
}

impl Element {
    /// Reads a document; `None` when it is not well-formed.
    pub fn parse(xml: &str) -> Option<Element> {
        let mut reader = Reader::from_str(xml);
        let mut open = vec![Element::default()];
        loop {
            match reader.read_event().ok()? {
                Event::Start(tag) => {
                    if open.len() > DEEPEST {
                        return None;
                    }
                    open.push(Element {
                        name: local(tag.local_name().as_ref()),
                        ..Element::default()
                    });
                }
                Event::Empty(tag) => {
                    let name = local(tag.local_name().as_ref());
                    open.last_mut()?.children.push(Element {
                        name,
                        ..Element::default()
                    });
                }
                Event::End(_) => {
                    let done = open.pop()?;
                    open.last_mut()?.children.push(done);
                }
                Event::Text(text) => open.last_mut()?.text.push_str(&text.decode().ok()?),
                Event::CData(text) => open.last_mut()?.text.push_str(&text.decode().ok()?),
                Event::GeneralRef(entity) => {
                    let text = &mut open.last_mut()?.text;
                    match entity.resolve_char_ref().ok()? {
                        Some(char) => text.push(char),
                        None => text.push_str(resolve_predefined_entity(&entity.decode().ok()?)?),
                    }
                }
                Event::Eof => break,
                _ => {}
            }
        }
        let mut document = open.pop().filter(|_| open.is_empty())?;
        document.children.pop()
    }

    /// The children of a name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Element> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// Text of the first child of a name; empty when there is none.
    pub fn text_of<'a>(&'a self, name: &'a str) -> &'a str {
        self.all(name)
            .next()
            .map_or("", |child| child.text.as_str())
    }
}

fn local(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

/// For text between tags.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// Undoes `encoding-type=url`: `%XX`, and `+` for a space. What is no text under it stays as it came.
pub fn url_decoded(text: &str) -> String {
    decode(text, true).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Names, texts and entities come out as they were meant.
    #[test]
    fn answer_is_read_whatever_its_keys_are_called() {
        let xml = "<?xml version=\"1.0\"?><List xmlns=\"http://s3\"><Item><Key>a&amp;b&#x20;&lt;c</Key></Item>\
                   <Item><Key>d</Key></Item><More/></List>";
        let root = Element::parse(xml).unwrap();
        assert_eq!(root.name, "List");
        let keys: Vec<&str> = root.all("Item").map(|item| item.text_of("Key")).collect();
        assert_eq!(keys, ["a&b <c", "d"]);
        assert_eq!(root.text_of("Absent"), "");
        assert_eq!(Element::parse("<a><b></a>"), None);
        assert_eq!(Element::parse(&"<a>".repeat(100)), None);
    }

    /// Keys may hold any sign; the listing carries them percent-encoded.
    #[test]
    fn encoded_keys_come_back() {
        assert_eq!(url_decoded("a%20b+c%2Bd%C3%A4"), "a b c+dä");
        assert_eq!(url_decoded("100%"), "100%");
    }
}
