//! What LIST calls share: limits, names in answers, and where the next page starts.
//!
//! Always true: a page has at most 1000 lines, whatever was asked for; asked for none, it has none and is not truncated.

use std::borrow::Cow;

/// S3's page size.
pub const MAX_PAGE: u32 = 1_000;

/// How many lines a page may have. S3 cuts what is over 1000 and refuses what is under 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageSize {
    /// As the answer repeats it.
    pub asked: u32,
    /// As it is kept to.
    pub lines: u32,
}

impl PageSize {
    /// From `max-keys`, `max-parts` or `max-uploads`. `None`: negative.
    pub fn new(asked: Option<i32>) -> Option<PageSize> {
        let asked = u32::try_from(asked.unwrap_or(MAX_PAGE as i32)).ok()?;
        Some(PageSize {
            asked: asked.min(MAX_PAGE),
            lines: asked.min(MAX_PAGE),
        })
    }
}

/// How names are written in an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Naming {
    /// As they are.
    #[default]
    Plain,
    /// `encoding-type=url`: names may hold characters that XML cannot.
    Url,
}

impl Naming {
    /// A name, as the answer has it.
    pub fn write(self, name: &str) -> Cow<'_, str> {
        match self {
            Naming::Plain => Cow::Borrowed(name),
            Naming::Url => Cow::Owned(url_encode(name)),
        }
    }
}

/// As S3 encodes names: letters, digits and `-_.*/` stay, a space becomes `+`, the rest `%XX`.
fn url_encode(name: &str) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'*' | b'/' => {
                out.push(char::from(byte))
            }
            b' ' => out.push('+'),
            _ => {
                out.push('%');
                out.push(char::from(DIGITS[usize::from(byte >> 4)]));
                out.push(char::from(DIGITS[usize::from(byte & 15)]));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// T23: Ceph's CVE-2018-16846 was a page without a bound.
    #[test]
    fn a_page_is_bounded_whatever_is_asked_for() {
        assert_eq!(PageSize::new(None).unwrap().lines, 1_000);
        assert_eq!(PageSize::new(Some(0)).unwrap().lines, 0);
        assert_eq!(PageSize::new(Some(1_001)).unwrap().lines, 1_000);
        assert_eq!(PageSize::new(Some(i32::MAX)).unwrap().lines, 1_000);
        assert_eq!(PageSize::new(Some(-1)), None);
    }

    #[test]
    fn names_are_encoded_so_that_every_client_reads_them_back() {
        assert_eq!(
            Naming::Url.write("a b/c+d%ä\0~"),
            "a+b/c%2Bd%25%C3%A4%00%7E"
        );
        assert_eq!(Naming::Plain.write("a b"), "a b");
    }
}
