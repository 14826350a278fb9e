//! Documents that we write ourselves, because their elements have an order that s3s does not keep.
//!
//! Always true: whatever a name or a value holds, it adds no element to a document (T24).

use bytes::Bytes;

/// A document of S3.
pub struct Document {
    text: String,
    root: &'static str,
}

impl Document {
    /// With this root, in S3's namespace.
    pub fn new(root: &'static str) -> Document {
        let mut text = String::with_capacity(1024);
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

    /// An element with elements.
    pub fn inside(&mut self, name: &str, fill: impl FnOnce(&mut Document)) {
        self.text.push('<');
        self.text.push_str(name);
        self.text.push('>');
        fill(self);
        self.text.push_str("</");
        self.text.push_str(name);
        self.text.push('>');
    }

    /// Its bytes.
    pub fn finish(mut self) -> Bytes {
        self.text.push_str("</");
        self.text.push_str(self.root);
        self.text.push('>');
        self.text.into()
    }
}

/// Writes an element with text.
pub fn element(xml: &mut String, name: &str, value: &str) {
    xml.push('<');
    xml.push_str(name);
    xml.push('>');
    for character in value.chars() {
        match character {
            '&' => xml.push_str("&amp;"),
            '<' => xml.push_str("&lt;"),
            '>' => xml.push_str("&gt;"),
            '"' => xml.push_str("&quot;"),
            '\r' => xml.push_str("&#13;"),
            '\n' | '\t' => xml.push(character),
            // XML cannot say these at all.
            character if character < ' ' => xml.push('\u{fffd}'),
            character => xml.push(character),
        }
    }
    xml.push_str("</");
    xml.push_str(name);
    xml.push('>');
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
        document.inside("C", |c| c.element("D", ""));
        let text = String::from_utf8(document.finish().to_vec()).unwrap();
        insta::assert_snapshot!(text, @r#"
        <?xml version="1.0" encoding="UTF-8"?>
        <Root xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><A>&lt;/A&gt;&lt;B&gt;&amp;&quot;&#13;�</A><C><D></D></C></Root>
        "#);
    }
}
