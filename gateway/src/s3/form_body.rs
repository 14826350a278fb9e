//! `multipart/form-data` as browsers send it, read in one pass with little memory: first the fields, then the file as
//! a stream.
//!
//! ```text
//!   --B CRLF head CRLF CRLF value CRLF --B CRLF … head of "file" CRLF CRLF bytes … CRLF --B-- CRLF
//!   '------------ fields, at most 20 KiB ------------------------------------'  '- streamed -'   dropped
//! ```
//! Always true:
//! * at most the fields, one piece of the client's body and a delimiter's length are held;
//! * a body that ends before its last delimiter is an error, never a shorter file.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body::Body;

use super::request_body::{ClientBody, Leftover, broken};
use crate::auth::post_policy::Length;
use crate::store::payload::{PayloadError, Source};

/// S3's limit on everything before the file.
pub const MAX_FIELDS: usize = 20 << 10;
/// What may follow the file, and is thrown away, so that the connection can be used again.
const MAX_TAIL: u64 = 64 << 10;

/// Everything before the file.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Fields {
    /// Lower-case names and values, in order.
    pub fields: Vec<(String, String)>,
    /// What the browser calls the file.
    pub filename: String,
}

/// Why there is no file.
#[derive(Debug, thiserror::Error)]
pub enum FormError {
    /// The body is no form, or broke off.
    #[error(transparent)]
    Payload(#[from] PayloadError),
    /// Too much before the file.
    #[error("Your POST request fields preceding the upload file were too large.")]
    FieldsTooLarge,
    /// A field that is no text.
    #[error("The form's fields must be UTF-8.")]
    NotText,
    /// The form ended without one.
    #[error("POST requires exactly one file upload per request.")]
    NoFile,
}

/// A form being read.
pub struct Form {
    inner: Option<ClientBody>,
    /// `CRLF --B`; the body is read as if a CRLF stood before it, so that the first delimiter is like the others.
    delimiter: Vec<u8>,
    held: BytesMut,
    leftover: Leftover,
    length: Length,
    given: u64,
    /// The file's end was seen.
    ended: bool,
    tail: u64,
}

/// The boundary of a `Content-Type`.
pub fn boundary(content_type: &str) -> Option<String> {
    let parameters = content_type.split(';').skip(1);
    let value = parameters.map(str::trim).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim()
            .eq_ignore_ascii_case("boundary")
            .then(|| value.trim())
    })?;
    let value = value
        .strip_prefix('"')
        .map_or(value, |quoted| quoted.strip_suffix('"').unwrap_or(quoted));
    ((1..=70).contains(&value.len()) && value.is_ascii()).then(|| value.to_owned())
}

impl Form {
    /// Of a client's body.
    pub fn new(inner: ClientBody, boundary: &str, leftover: Leftover) -> Form {
        Form {
            inner: Some(inner),
            delimiter: format!("\r\n--{boundary}").into_bytes(),
            held: BytesMut::from("\r\n"),
            leftover,
            length: Length {
                least: 0,
                most: u64::MAX,
            },
            given: 0,
            ended: false,
            tail: 0,
        }
    }

    /// Reads up to the first byte of the file.
    pub async fn fields(&mut self) -> Result<Fields, FormError> {
        let delimiter = self.delimiter.clone();
        let mut found = Fields::default();
        let mut room = MAX_FIELDS;
        // What stands before the first delimiter is nobody's.
        self.take_until(&delimiter, &mut room).await?;
        loop {
            // After a delimiter: `--` ends the form, spaces are let pass.
            let rest_of_line = self.take_until(b"\r\n", &mut room).await?;
            match rest_of_line.trim_ascii() {
                b"" => {}
                b"--" => return Err(FormError::NoFile),
                _ => return Err(PayloadError::Form.into()),
            }
            let head = read_head(&self.take_until(b"\r\n\r\n", &mut room).await?)?;
            if head.name == "file" {
                found.filename = head.filename.unwrap_or_default();
                return Ok(found);
            }
            let value = self.take_until(&delimiter, &mut room).await?;
            let value = String::from_utf8(value.to_vec()).map_err(|_| FormError::NotText)?;
            found.fields.push((head.name, value));
        }
    }

    /// From now on it is the file, and must be so long.
    pub fn limit(&mut self, length: Length) {
        self.length = length;
    }

    /// Bytes before the next `end`, which is taken too.
    async fn take_until(&mut self, end: &[u8], room: &mut usize) -> Result<BytesMut, FormError> {
        loop {
            if let Some(at) = find(&self.held, end) {
                let mut taken = self.held.split_to(at + end.len());
                *room = room
                    .checked_sub(taken.len())
                    .ok_or(FormError::FieldsTooLarge)?;
                taken.truncate(at);
                return Ok(taken);
            }
            if self.held.len() > *room {
                return Err(FormError::FieldsTooLarge);
            }
            match std::future::poll_fn(|cx| self.poll_wire(cx)).await {
                Some(piece) => self.held.extend_from_slice(&piece?),
                // A form without a file ends in `--` and maybe nothing more.
                None if self.held.trim_ascii() == b"--" => return Err(FormError::NoFile),
                None => return Err(PayloadError::Form.into()),
            }
        }
    }

    fn poll_wire(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, PayloadError>>> {
        loop {
            let Some(inner) = &mut self.inner else {
                return Poll::Ready(None);
            };
            match ready!(Pin::new(inner).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if !data.is_empty() => return Poll::Ready(Some(Ok(data))),
                    _ => {}
                },
                Some(Err(error)) => {
                    self.inner = None;
                    return Poll::Ready(Some(Err(broken(error))));
                }
                None => {
                    self.inner = None;
                    return Poll::Ready(None);
                }
            }
        }
    }
}

struct Head {
    /// Lower-case.
    name: String,
    filename: Option<String>,
}

/// `Content-Disposition: form-data; name="key"; filename="a.txt"`, among other lines.
fn read_head(bytes: &[u8]) -> Result<Head, FormError> {
    let text = std::str::from_utf8(bytes).map_err(|_| FormError::NotText)?;
    let disposition = text.split("\r\n").find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.trim()
            .eq_ignore_ascii_case("content-disposition")
            .then_some(value)
    });
    let parameters = disposition.ok_or(PayloadError::Form)?;
    let name = parameter(parameters, "name").ok_or(PayloadError::Form)?;
    Ok(Head {
        name: name.to_ascii_lowercase(),
        filename: parameter(parameters, "filename"),
    })
}

/// The value of a parameter. Browsers write a quote within one as `%22`, curl as `\"`.
fn parameter(text: &str, wanted: &str) -> Option<String> {
    let mut rest = text;
    loop {
        let (before, after) = rest.split_once('=')?;
        let name = before.rsplit(';').next()?.trim();
        let (value, left) = match after.strip_prefix('"') {
            Some(quoted) => {
                let mut value = String::new();
                let mut signs = quoted.char_indices();
                let end = loop {
                    match signs.next()? {
                        (at, '"') => break at,
                        (_, '\\') => match signs.next()? {
                            (_, sign @ ('"' | '\\')) => value.push(sign),
                            // Old browsers send paths of Windows as they are.
                            (_, sign) => value.extend(['\\', sign]),
                        },
                        (_, sign) => value.push(sign),
                    }
                };
                (value, &quoted[end + 1..])
            }
            None => {
                let (value, left) = after.split_at(after.find(';').unwrap_or(after.len()));
                (value.trim().to_owned(), left)
            }
        };
        if name.eq_ignore_ascii_case(wanted) {
            return Some(value);
        }
        rest = left;
    }
}

/// Where `needle` begins. Its first byte is rare in most files, so that looking for it first is fast.
fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    let first = *needle.first()?;
    let mut from = 0;
    while let Some(at) = hay[from..].iter().position(|byte| *byte == first) {
        from += at;
        if hay[from..].starts_with(needle) {
            return Some(from);
        }
        from += 1;
    }
    None
}

impl Source for Form {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, PayloadError>>> {
        while !self.ended {
            let found = find(&self.held, &self.delimiter);
            // Without a delimiter in sight, the last bytes may still be the beginning of one.
            let sure =
                found.unwrap_or_else(|| self.held.len().saturating_sub(self.delimiter.len()));
            self.ended = found.is_some();
            if sure > 0 {
                self.given += sure as u64;
                if self.given > self.length.most {
                    let most = self.length.most;
                    return Poll::Ready(Some(Err(PayloadError::TooLarge { most })));
                }
                return Poll::Ready(Some(Ok(self.held.split_to(sure).freeze())));
            }
            if self.ended {
                break;
            }
            match ready!(self.poll_wire(cx)) {
                Some(Ok(piece)) => self.held.extend_from_slice(&piece),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(Some(Err(PayloadError::Form))),
            }
        }
        if self.given < self.length.least {
            return Poll::Ready(Some(Err(PayloadError::TooSmall {
                least: self.length.least,
                proposed: self.given,
            })));
        }
        // What follows the file is read away, within reason.
        while self.tail < MAX_TAIL {
            match ready!(self.poll_wire(cx)) {
                Some(Ok(piece)) => self.tail += piece.len() as u64,
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => break,
            }
        }
        Poll::Ready(None)
    }
}

impl Drop for Form {
    fn drop(&mut self) {
        if let Some(inner) = self.inner.take()
            && !inner.is_end_stream()
        {
            self.leftover.give_back(inner);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use http_body::Frame;
    use http_body_util::StreamBody;
    use http_body_util::combinators::UnsyncBoxBody;
    use proptest::prelude::*;

    use super::super::request_body::StdError;
    use super::*;

    fn form(body: &[u8], piece: usize) -> Form {
        let pieces: Vec<Result<Frame<Bytes>, StdError>> = body
            .chunks(piece.max(1))
            .map(|piece| Ok(Frame::data(Bytes::copy_from_slice(piece))))
            .collect();
        let inner = UnsyncBoxBody::new(StreamBody::new(futures::stream::iter(pieces)));
        Form::new(inner, "B", Leftover::default())
    }

    fn whole(key: &str, file: &[u8]) -> Vec<u8> {
        let mut body = format!("--B\r\nContent-Disposition: form-data; name=\"KEY\"\r\n\r\n{key}\r\n--B\r\ncontent-disposition: form-data; filename=\"a \\\"b\\\".txt\"; name=file\r\nContent-Type: text/plain\r\n\r\n").into_bytes();
        body.extend_from_slice(file);
        body.extend_from_slice(b"\r\n--B--\r\n");
        body
    }

    fn read(mut form: Form, length: Option<Length>) -> Result<(Fields, Vec<u8>), FormError> {
        futures::executor::block_on(async {
            let fields = form.fields().await?;
            if let Some(length) = length {
                form.limit(length);
            }
            let mut file = Vec::new();
            while let Some(piece) = std::future::poll_fn(|cx| form.poll_next(cx)).await {
                file.extend_from_slice(&piece?);
            }
            Ok((fields, file))
        })
    }

    proptest! {
        /// However the network cuts a form, its file comes out byte for byte.
        #[test]
        fn a_file_comes_out_as_it_went_in(file in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'-'), Just(b'B'), any::<u8>()], 0..200), piece in 1_usize..40) {
            prop_assume!(find(&file, b"\r\n--B").is_none());
            let (fields, read) = read(form(&whole("k", &file), piece), None).unwrap();
            prop_assert_eq!(read, file);
            prop_assert_eq!(fields.fields, vec![("key".to_owned(), "k".to_owned())]);
            prop_assert_eq!(fields.filename, "a \"b\".txt");
        }

        /// No bytes make the reader do anything but answer.
        #[test]
        fn rubbish_is_an_error(body in proptest::collection::vec(any::<u8>(), 0..100), piece in 1_usize..9) {
            prop_assert!(read(form(&body, piece), None).is_err());
        }
    }

    #[test]
    fn a_form_that_breaks_off_is_no_shorter_file() {
        let body = whole("k", b"file");
        for cut in 1..body.len() - 4 {
            assert!(read(form(&body[..cut], 7), None).is_err(), "cut at {cut}");
        }
        let nothing = b"--B\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\nk\r\n--B--\r\n";
        assert!(matches!(
            read(form(nothing, 5), None),
            Err(FormError::NoFile)
        ));
    }

    #[test]
    fn the_file_keeps_to_its_length_and_the_fields_to_20_kib() {
        let limited =
            |least, most| read(form(&whole("k", b"12345"), 3), Some(Length { least, most }));
        assert!(limited(5, 5).is_ok());
        assert!(matches!(
            limited(0, 4),
            Err(FormError::Payload(PayloadError::TooLarge { most: 4 }))
        ));
        assert!(matches!(
            limited(6, 9),
            Err(FormError::Payload(PayloadError::TooSmall {
                least: 6,
                proposed: 5
            }))
        ));
        let long = "k".repeat(MAX_FIELDS);
        assert!(matches!(
            read(form(&whole(&long, b""), 1000), None),
            Err(FormError::FieldsTooLarge)
        ));
    }

    #[test]
    fn boundaries_are_read_as_clients_write_them() {
        for (text, found) in [
            ("multipart/form-data; boundary=abc", Some("abc")),
            (
                "multipart/form-data; charset=utf-8; Boundary=\"a b\"",
                Some("a b"),
            ),
            ("multipart/form-data", None),
            ("multipart/form-data; boundary=", None),
        ] {
            assert_eq!(boundary(text).as_deref(), found, "{text}");
        }
    }
}
