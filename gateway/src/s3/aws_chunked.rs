//! The aws-chunked framing of a body, taken apart as the bytes come.
//!
//! ```text
//!   10000;chunk-signature=<64 hex>\r\n  <65536 bytes>  \r\n      signed
//!   10000\r\n                           <65536 bytes>  \r\n      unsigned
//!   0[;chunk-signature=…]\r\n                                     the last chunk
//!   x-amz-checksum-crc32c:sOO8/Q==\r\n                            trailer, where one was announced
//!   x-amz-trailer-signature:<64 hex>\r\n                          and signed
//!   \r\n
//! ```
//! Always true (T8):
//! * a chunk's bytes are passed on as they arrive, whatever size it claims: memory does not grow with it;
//! * the body ends well only with the last chunk, with every signature right, and with exactly the declared bytes;
//! * sizes are hex digits and nothing else: no sign, no space, no `0x`, and no more than fit.
//!
//! Bytes of a chunk whose signature later turns out wrong were passed on by then; the error that follows them makes the
//! whole write void.

use bytes::{Buf, Bytes};
use sha2::{Digest, Sha256};

use crate::auth::signature_v4::ChunkSigner;
use crate::store::payload::PayloadError;

/// Longest line: a chunk header, or a trailer line.
const MAX_LINE: usize = 1 << 10;
/// Longest trailer.
const MAX_TRAILER: usize = 16 << 10;
const SIGNATURE_FIELD: &str = "chunk-signature=";
const TRAILER_SIGNATURE: &str = "x-amz-trailer-signature";

/// Takes the framing off.
pub struct Decoder {
    /// Signs along, when chunks are signed.
    signer: Option<Box<ChunkSigner>>,
    trailer_follows: bool,
    /// Bytes that were declared and have not come.
    left: u64,
    state: State,
    line: Vec<u8>,
    /// Of the chunk under way.
    hash: Sha256,
    claimed: String,
    trailer: Vec<(String, String)>,
    trailer_bytes: usize,
    trailer_signature: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// In a chunk's header line.
    Header,
    /// In a chunk's bytes, so many to come.
    Data(u64),
    /// Behind a chunk's bytes.
    DataEnd,
    /// Behind the last chunk.
    Trailer,
}

impl Decoder {
    /// For a body of `declared` bytes under the framing.
    pub fn new(signer: Option<Box<ChunkSigner>>, trailer_follows: bool, declared: u64) -> Decoder {
        Decoder {
            signer,
            trailer_follows,
            left: declared,
            state: State::Header,
            line: Vec::new(),
            hash: Sha256::new(),
            claimed: String::new(),
            trailer: Vec::new(),
            trailer_bytes: 0,
            trailer_signature: None,
        }
    }

    /// Takes from the front of `input` until there are bytes of the body, or `input` is used up.
    pub fn next(&mut self, input: &mut Bytes) -> Result<Option<Bytes>, PayloadError> {
        while !input.is_empty() {
            match self.state {
                State::Data(to_come) => {
                    let here = (input.len() as u64).min(to_come) as usize;
                    let data = input.split_to(here);
                    if self.signer.is_some() {
                        self.hash.update(&data);
                    }
                    self.state = match to_come - here as u64 {
                        0 => State::DataEnd,
                        rest => State::Data(rest),
                    };
                    return Ok(Some(data));
                }
                _ => {
                    if let Some(line) = self.take_line(input)? {
                        self.line(&line)?;
                    }
                }
            }
        }
        Ok(None)
    }

    /// The input ended. Gives the trailer.
    pub fn finish(&mut self) -> Result<Vec<(String, String)>, PayloadError> {
        if self.state != State::Trailer || self.left > 0 {
            return Err(PayloadError::Incomplete);
        }
        if !self.line.is_empty() {
            let line = std::mem::take(&mut self.line);
            self.trailer_line(line.strip_suffix(b"\r").unwrap_or(&line))?;
        }
        // Some clients sort them, some do not; what is signed is sorted.
        self.trailer.sort_unstable();
        if self.trailer_follows
            && let Some(signer) = &mut self.signer
        {
            let lines: String = self
                .trailer
                .iter()
                .map(|(name, value)| format!("{name}:{value}\n"))
                .collect();
            let claimed = self
                .trailer_signature
                .as_deref()
                .ok_or(PayloadError::Trailer)?;
            if !signer.trailer(lines.as_bytes()).matches(claimed) {
                return Err(PayloadError::ChunkSignature);
            }
        }
        Ok(std::mem::take(&mut self.trailer))
    }

    /// A line without its end, when it is complete. Chunk headers end with CRLF; trailer lines may end with a bare LF.
    fn take_line(&mut self, input: &mut Bytes) -> Result<Option<Vec<u8>>, PayloadError> {
        let end = input.iter().position(|byte| *byte == b'\n');
        let take = end.map_or(input.len(), |at| at + 1);
        if self.line.len() + take > MAX_LINE {
            return Err(PayloadError::Framing("a line is too long"));
        }
        self.line.extend_from_slice(&input[..take]);
        input.advance(take);
        if end.is_none() {
            return Ok(None);
        }
        let mut line = std::mem::take(&mut self.line);
        line.pop();
        match line.last() {
            Some(b'\r') => {
                line.pop();
                Ok(Some(line))
            }
            _ if self.state == State::Trailer => Ok(Some(line)),
            _ => Err(PayloadError::Framing("a line does not end with CRLF")),
        }
    }

    fn line(&mut self, line: &[u8]) -> Result<(), PayloadError> {
        match self.state {
            State::Header => self.header(line),
            State::DataEnd if line.is_empty() => {
                self.check_chunk()?;
                self.state = State::Header;
                Ok(())
            }
            State::DataEnd => Err(PayloadError::Framing(
                "a chunk is longer than its size says",
            )),
            State::Trailer => self.trailer_line(line),
            State::Data(_) => unreachable!("lines are not looked for in data"),
        }
    }

    fn header(&mut self, line: &[u8]) -> Result<(), PayloadError> {
        let text = std::str::from_utf8(line)
            .map_err(|_| PayloadError::Framing("a chunk header is not ASCII"))?;
        let (size, extension) = match text.split_once(';') {
            Some((size, extension)) => (size, Some(extension)),
            None => (text, None),
        };
        let digits =
            !size.is_empty() && size.len() <= 16 && size.bytes().all(|b| b.is_ascii_hexdigit());
        let size = if digits {
            u64::from_str_radix(size, 16).ok()
        } else {
            None
        };
        let size = size.ok_or(PayloadError::Framing(
            "a chunk size is not a hexadecimal number",
        ))?;
        match (
            &self.signer,
            extension.map(|e| e.strip_prefix(SIGNATURE_FIELD)),
        ) {
            (Some(_), Some(Some(signature))) if signature.len() == 64 => {
                self.claimed = signature.to_owned()
            }
            (Some(_), _) => return Err(PayloadError::Framing("a chunk has no signature")),
            (None, None) => {}
            (None, Some(_)) => {
                return Err(PayloadError::Framing("an unsigned chunk has an extension"));
            }
        }
        if size > self.left {
            return Err(PayloadError::Incomplete);
        }
        self.left -= size;
        self.state = if size > 0 {
            State::Data(size)
        } else {
            State::Trailer
        };
        if size == 0 {
            self.check_chunk()?;
        }
        Ok(())
    }

    fn check_chunk(&mut self) -> Result<(), PayloadError> {
        let hash = std::mem::take(&mut self.hash);
        let Some(signer) = &mut self.signer else {
            return Ok(());
        };
        let good = signer.chunk(&hash.finalize().into()).matches(&self.claimed);
        if good {
            Ok(())
        } else {
            Err(PayloadError::ChunkSignature)
        }
    }

    fn trailer_line(&mut self, line: &[u8]) -> Result<(), PayloadError> {
        self.trailer_bytes += line.len() + 2;
        if self.trailer_bytes > MAX_TRAILER {
            return Err(PayloadError::Trailer);
        }
        if line.is_empty() {
            return Ok(());
        }
        if !self.trailer_follows {
            return Err(PayloadError::Framing(
                "there are bytes behind the last chunk",
            ));
        }
        let text = std::str::from_utf8(line).map_err(|_| PayloadError::Trailer)?;
        let (name, value) = text.split_once(':').ok_or(PayloadError::Trailer)?;
        let (name, value) = (name.trim().to_ascii_lowercase(), value.trim().to_owned());
        if name == TRAILER_SIGNATURE {
            if self.trailer_signature.replace(value).is_some() {
                return Err(PayloadError::Trailer);
            }
        } else {
            self.trailer.push((name, value));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::auth::signature_v4::{STREAMING_SIGNED, Scope, Signer, SigningKey};
    use http::{HeaderMap, HeaderValue, Method, Uri};
    use proptest::prelude::*;

    type Decoded = Result<(Vec<u8>, Vec<(String, String)>), PayloadError>;

    fn decode(mut decoder: Decoder, wire: &[u8], step: usize) -> Decoded {
        let mut out = Vec::new();
        for piece in wire.chunks(step.max(1)) {
            let mut piece = Bytes::copy_from_slice(piece);
            while let Some(data) = decoder.next(&mut piece)? {
                assert!(!data.is_empty());
                out.extend_from_slice(&data);
            }
        }
        Ok((out, decoder.finish()?))
    }

    fn unsigned(wire: &[u8], declared: u64) -> Decoded {
        let whole = decode(Decoder::new(None, true, declared), wire, wire.len());
        let bytewise = decode(Decoder::new(None, true, declared), wire, 1);
        assert_eq!(
            format!("{whole:?}"),
            format!("{bytewise:?}"),
            "how it was cut must not matter"
        );
        whole
    }

    fn signer() -> ChunkSigner {
        let mut headers = HeaderMap::new();
        headers.insert("host", HeaderValue::from_static("h"));
        let signer = Signer {
            access_key: "AK",
            secret_key: "SK",
            region: "us-east-1",
            service: "s3",
        };
        signer
            .sign(
                &Method::PUT,
                &Uri::from_static("/b/k"),
                &mut headers,
                STREAMING_SIGNED,
                1_800_000_000,
            )
            .unwrap()
    }

    fn signed_wire(chunks: &[&[u8]], trailer: Option<&str>) -> Vec<u8> {
        let mut signer = signer();
        let mut wire = Vec::new();
        for chunk in chunks.iter().chain([&b"".as_slice()]) {
            let signature = signer
                .chunk(&Sha256::digest(chunk).into())
                .as_str()
                .to_owned();
            wire.extend_from_slice(
                format!("{:x};chunk-signature={signature}\r\n", chunk.len()).as_bytes(),
            );
            wire.extend_from_slice(chunk);
            if !chunk.is_empty() {
                wire.extend_from_slice(b"\r\n");
            }
        }
        if let Some(trailer) = trailer {
            let signature = signer
                .trailer(format!("{trailer}\n").as_bytes())
                .as_str()
                .to_owned();
            wire.extend_from_slice(
                format!("{trailer}\r\nx-amz-trailer-signature:{signature}\r\n").as_bytes(),
            );
        }
        wire.extend_from_slice(b"\r\n");
        wire
    }

    fn signed(wire: &[u8], trailer: bool, declared: u64, step: usize) -> Decoded {
        decode(
            Decoder::new(Some(Box::new(signer())), trailer, declared),
            wire,
            step,
        )
    }

    #[test]
    fn unsigned_chunks_with_a_trailer_are_what_sdks_send() {
        let wire = b"3\r\nabc\r\n2\r\nde\r\n0\r\nx-amz-checksum-crc32:hTzgsQ==\r\n\r\n";
        let (body, trailer) = unsigned(wire, 5).unwrap();
        assert_eq!((body.as_slice(), trailer.len()), (b"abcde".as_slice(), 1));
        assert_eq!(
            trailer[0],
            ("x-amz-checksum-crc32".to_owned(), "hTzgsQ==".to_owned())
        );
        assert_eq!(
            unsigned(b"0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n", 0)
                .unwrap()
                .0,
            b""
        );
    }

    #[test]
    fn signed_chunks_come_out_as_they_went_in() {
        let wire = signed_wire(&[b"hello ", b"world"], None);
        assert_eq!(
            signed(&wire, false, 11, wire.len()).unwrap().0,
            b"hello world"
        );
        let wire = signed_wire(&[b"x"], Some("x-amz-checksum-crc32:jNpAkg=="));
        assert_eq!(signed(&wire, true, 1, 3).unwrap().1.len(), 1);
    }

    /// minio-go puts an empty line between the trailer and its signature, and ends the trailer with a bare LF.
    #[test]
    fn the_trailer_of_minio_go_is_read() {
        let mut signer = signer();
        let last = signer
            .chunk(&Sha256::digest(b"").into())
            .as_str()
            .to_owned();
        let trailer = "x-amz-checksum-crc32c:AAAAAA==\n";
        let signature = signer.trailer(trailer.as_bytes()).as_str().to_owned();
        let wire = format!(
            "0;chunk-signature={last}\r\n{trailer}\r\nx-amz-trailer-signature:{signature}\r\n\r\n"
        );
        assert_eq!(signed(wire.as_bytes(), true, 0, 7).unwrap().1.len(), 1);
    }

    /// T8, the list: lengths off by one, a missing end, bytes behind it, numbers that are none.
    #[test]
    fn lies_about_lengths_are_refused() {
        let good = b"3\r\nabc\r\n0\r\n\r\n";
        assert!(unsigned(good, 3).is_ok());
        for declared in [2, 4, 0, u64::MAX] {
            assert!(
                matches!(unsigned(good, declared), Err(PayloadError::Incomplete)),
                "{declared}"
            );
        }
        for bad in [
            &b"3\r\nabc\r\n"[..],
            b"3\r\nabc",
            b"3\r\nab",
            b"",
            b"3\r\nabcd\r\n0\r\n\r\n",
            b"3\r\nab\r\n0\r\n\r\n",
            b"3\nabc\r\n0\r\n\r\n",
            b"3\r\nabc\n0\r\n\r\n",
            b"+3\r\nabc\r\n0\r\n\r\n",
            b" 3\r\nabc\r\n0\r\n\r\n",
            b"3 \r\nabc\r\n0\r\n\r\n",
            b"0x3\r\nabc\r\n0\r\n\r\n",
            b"-3\r\nabc\r\n0\r\n\r\n",
            b"\r\n3\r\nabc\r\n0\r\n\r\n",
            b"3;x=y\r\nabc\r\n0\r\n\r\n",
            b"8000000000000000\r\nabc\r\n0\r\n\r\n",
            b"ffffffffffffffff\r\nabc\r\n0\r\n\r\n",
            b"10000000000000003\r\nabc\r\n0\r\n\r\n",
            b"3\r\nabc\r\n0\r\nno colon\r\n\r\n",
            b"3\r\nabc\r\n0\r\n\r\n3\r\nabc\r\n",
        ] {
            assert!(
                unsigned(bad, 3).is_err(),
                "{:?}",
                String::from_utf8_lossy(bad)
            );
        }
    }

    #[test]
    fn bytes_behind_the_last_chunk_are_refused() {
        let mut wire = signed_wire(&[b"abc"], None);
        wire.extend_from_slice(b"more");
        assert!(signed(&wire, false, 3, 1).is_err());
    }

    #[test]
    fn one_byte_chunks_are_only_slow() {
        let mut wire: Vec<u8> = b"1\r\nx\r\n".repeat(1_000);
        wire.extend_from_slice(b"0\r\n\r\n");
        assert_eq!(unsigned(&wire, 1_000).unwrap().0, vec![b'x'; 1_000]);
    }

    /// A chunk of 4 GiB passes through piece by piece: what is held is a line at most.
    #[test]
    fn a_huge_chunk_needs_no_memory() {
        let mut decoder = Decoder::new(None, true, 1 << 32);
        let mut head = Bytes::from_static(b"100000000\r\n");
        assert!(decoder.next(&mut head).unwrap().is_none());
        let mut piece = Bytes::from(vec![0; 1 << 20]);
        assert_eq!(decoder.next(&mut piece).unwrap().unwrap().len(), 1 << 20);
        assert!(decoder.line.capacity() < MAX_LINE);
    }

    #[test]
    fn endless_lines_and_trailers_are_refused() {
        assert!(unsigned(&[b'0'; MAX_LINE + 1], 3).is_err());
        let mut wire = b"0\r\n".to_vec();
        wire.extend(b"a:b\r\n".repeat(MAX_TRAILER / 4));
        assert!(matches!(unsigned(&wire, 0), Err(PayloadError::Trailer)));
    }

    #[test]
    fn a_key_of_another_day_does_not_sign_chunks() {
        let scope = Scope {
            date: "20200101".into(),
            region: "us-east-1".into(),
            service: "s3".into(),
        };
        let key = SigningKey::derive("SK", &scope);
        let seed = key.sign_request("20200101T000000Z", &scope, &[0; 32]);
        let other = ChunkSigner::new(key, "20200101T000000Z", &scope, seed);
        let wire = signed_wire(&[b"abc"], None);
        let refused = decode(Decoder::new(Some(Box::new(other)), false, 3), &wire, 5);
        assert!(matches!(refused, Err(PayloadError::ChunkSignature)));
    }

    proptest! {
        /// Any bytes in any chunks, cut anywhere: the same bytes come out.
        #[test]
        fn framing_is_transparent(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..200), 0..6),
            step in 1_usize..300,
        ) {
            let parts: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();
            let wire = signed_wire(&parts, None);
            let body = chunks.concat();
            prop_assert_eq!(signed(&wire, false, body.len() as u64, step).unwrap().0, body);
        }

        /// One flipped bit anywhere in a signed body is noticed, wherever it is: data, sizes, signatures, framing.
        #[test]
        fn any_flipped_bit_is_noticed(at in any::<prop::sample::Index>(), bit in 0_u8..8) {
            let mut wire = signed_wire(&[b"hello ", b"world"], Some("x-amz-checksum-crc32:jNpAkg=="));
            let good = signed(&wire, true, 11, wire.len()).unwrap();
            let at = at.index(wire.len());
            wire[at] ^= 1 << bit;
            if let Ok(changed) = signed(&wire, true, 11, wire.len()) {
                // Only the case of a trailer's name, and what ends a line of it, mean the same either way.
                prop_assert_eq!(changed, good);
            }
        }

        #[test]
        fn no_input_makes_it_panic(wire in proptest::collection::vec(any::<u8>(), 0..300), declared in any::<u64>()) {
            let _ = decode(Decoder::new(None, true, declared), &wire, 16);
            let _ = decode(Decoder::new(Some(Box::new(signer())), false, declared), &wire, 16);
        }
    }
}
