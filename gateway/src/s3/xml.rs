//! The documents of answers. All are written here and none by s3s: S3's elements have an order, which clients that read
//! by position rely on, and a page of a listing is written into one buffer.
//!
//! Always true: whatever a name or a value holds, it adds no element to a document (T24).

use bytes::Bytes;

use crate::object::checksum::Checksum;
use crate::object::dates;
use crate::ops::OpContext;

/// A document of S3.
pub struct Document {
    text: String,
    root: &'static str,
}

impl Document {
    /// With this root, in S3's namespace.
    pub fn new(root: &'static str) -> Document {
        Document::with_capacity(root, 1024)
    }

    /// With room for so many bytes.
    pub fn with_capacity(root: &'static str, bytes: usize) -> Document {
        let mut text = String::with_capacity(bytes);
        text.push_str("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<");
        text.push_str(root);
        text.push_str(" xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
        Document { text, root }
    }

    /// An element with text.
    pub fn element(&mut self, name: &str, value: impl AsRef<str>) {
        element(&mut self.text, name, value.as_ref());
    }

    /// An element with text, if there is one.
    pub fn maybe(&mut self, name: &str, value: Option<impl AsRef<str>>) {
        if let Some(value) = value {
            self.element(name, value);
        }
    }

    /// `true` or `false`.
    pub fn flag(&mut self, name: &str, value: bool) {
        self.element(name, if value { "true" } else { "false" });
    }

    /// A number.
    pub fn number(&mut self, name: &str, value: u64) {
        open(&mut self.text, name);
        number(&mut self.text, value);
        close(&mut self.text, name);
    }

    /// A moment, in ms since 1970.
    pub fn moment(&mut self, name: &str, ms: u64) {
        open(&mut self.text, name);
        dates::write_rfc3339(&mut self.text, ms);
        close(&mut self.text, name);
    }

    /// An ETag, with its quotes.
    pub fn etag(&mut self, etag: &str) {
        self.text.push_str("<ETag>&quot;");
        escape(&mut self.text, etag);
        self.text.push_str("&quot;</ETag>");
    }

    /// A checksum under the name of its algorithm.
    pub fn checksum(&mut self, checksum: &Checksum) {
        let name = format!("Checksum{}", checksum.algorithm.name());
        self.element(&name, checksum.text());
    }

    /// Somebody (`Owner`, `Initiator`), by canonical id and by the name that goes with it.
    pub fn somebody(&mut self, ctx: &OpContext, name: &str, id: &str) {
        self.inside(name, |inner| inner.identity(ctx, id));
    }

    /// `ID` and `DisplayName`.
    pub fn identity(&mut self, ctx: &OpContext, id: &str) {
        self.element("ID", id);
        self.maybe("DisplayName", ctx.keys().name_of(id));
    }

    /// What was written before, elements and all: for what is the same in a thousand lines.
    pub fn again(&mut self, written: &str) {
        self.text.push_str(written);
    }

    /// What `fill` writes, to be written `again`.
    pub fn part(fill: impl FnOnce(&mut Document)) -> String {
        let mut part = Document {
            text: String::new(),
            root: "",
        };
        fill(&mut part);
        part.text
    }

    /// An element with elements.
    pub fn inside(&mut self, name: &str, fill: impl FnOnce(&mut Document)) {
        open(&mut self.text, name);
        fill(self);
        close(&mut self.text, name);
    }

    /// An element with attributes and elements.
    pub fn inside_with(&mut self, name: &str, attributes: &str, fill: impl FnOnce(&mut Document)) {
        self.text.push('<');
        self.text.push_str(name);
        self.text.push(' ');
        self.text.push_str(attributes);
        self.text.push('>');
        fill(self);
        close(&mut self.text, name);
    }

    /// Its bytes.
    pub fn finish(mut self) -> Bytes {
        self.text.push_str("</");
        self.text.push_str(self.root);
        self.text.push('>');
        self.text.into()
    }
}

fn open(xml: &mut String, name: &str) {
    xml.push('<');
    xml.push_str(name);
    xml.push('>');
}

fn close(xml: &mut String, name: &str) {
    xml.push_str("</");
    xml.push_str(name);
    xml.push('>');
}

fn number(xml: &mut String, mut value: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    xml.push_str(std::str::from_utf8(&digits[at..]).unwrap_or("0"));
}

/// Writes an element with text.
pub fn element(xml: &mut String, name: &str, value: &str) {
    open(xml, name);
    escape(xml, value);
    close(xml, name);
}

/// Writes text. Most has nothing to escape, and is copied as it is.
fn escape(xml: &mut String, value: &str) {
    let special = |byte: u8| byte < b' ' || matches!(byte, b'&' | b'<' | b'>' | b'"');
    // Without an early end the compiler looks at many bytes at once.
    if !value.bytes().fold(false, |any, byte| any | special(byte)) {
        return xml.push_str(value);
    }
    let mut rest = value;
    while let Some(at) = rest.bytes().position(special) {
        xml.push_str(&rest[..at]);
        match rest.as_bytes()[at] {
            b'&' => xml.push_str("&amp;"),
            b'<' => xml.push_str("&lt;"),
            b'>' => xml.push_str("&gt;"),
            b'"' => xml.push_str("&quot;"),
            b'\r' => xml.push_str("&#13;"),
            byte @ (b'\n' | b'\t') => xml.push(char::from(byte)),
            // XML cannot say these at all.
            _ => xml.push('\u{fffd}'),
        }
        rest = &rest[at + 1..];
    }
    xml.push_str(rest);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_value_adds_no_element() {
        let mut document = Document::new("Root");
        document.element("A", "</A><B>&\"\r\u{1}");
        document.maybe("None", None::<&str>);
        document.inside_with("C", "kind=\"c\"", |c| c.element("D", ""));
        document.etag("e\"");
        document.moment("M", 1_445_412_480_000);
        document.again(&Document::part(|part| part.number("N", u64::MAX)));
        document.number("Zero", 0);
        document.flag("Flag", true);
        let text = String::from_utf8(document.finish().to_vec()).unwrap();
        insta::assert_snapshot!(text, @r#"
        <?xml version="1.0" encoding="UTF-8"?>
        <Root xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><A>&lt;/A&gt;&lt;B&gt;&amp;&quot;&#13;�</A><C kind="c"><D></D></C><ETag>&quot;e&quot;&quot;</ETag><M>2015-10-21T07:28:00.000Z</M><N>18446744073709551615</N><Zero>0</Zero><Flag>true</Flag></Root>
        "#);
    }
}
