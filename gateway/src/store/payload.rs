//! A body on its way in: bytes, how many there should be, and what was claimed about them.
//!
//! Where the bytes come from (a socket, a test, a simulated client) is behind [`Source`]. Always true: a payload either
//! gives exactly the declared bytes and ends, or it ends with an error; nobody downstream counts again.

use std::collections::VecDeque;
use std::task::{Context, Poll};

use bytes::Bytes;
use minikv_core::kv::KvError;

use crate::object::checksum::Claims;

/// Why a body ended badly. Nothing of it may be stored.
#[derive(Debug, thiserror::Error)]
pub enum PayloadError {
    /// Fewer or more bytes than were declared.
    #[error("You did not provide the number of bytes specified by the Content-Length HTTP header")]
    Incomplete,
    /// The aws-chunked framing is wrong.
    #[error("The aws-chunked framing of the body is malformed: {0}")]
    Framing(&'static str),
    /// The signature of a chunk or trailer is wrong.
    #[error("The chunk signature we calculated does not match the signature you provided.")]
    ChunkSignature,
    /// The trailer is malformed.
    #[error(
        "The request contained trailing data that was not well-formed or did not conform to our published schema."
    )]
    Trailer,
    /// A form that breaks off, or is none.
    #[error("The body of your POST request is not well-formed multipart/form-data.")]
    Form,
    /// More than the policy of a form allows.
    #[error("Your proposed upload exceeds the maximum allowed size")]
    TooLarge {
        /// Bytes allowed.
        most: u64,
    },
    /// Less than the policy of a form asks for.
    #[error("Your proposed upload is smaller than the minimum allowed size")]
    TooSmall {
        /// Bytes asked for.
        least: u64,
        /// Bytes that came.
        proposed: u64,
    },
    /// The client stopped sending.
    #[error(
        "Your socket connection to the server was not read from or written to within the timeout period. Idle connections will be closed."
    )]
    TimedOut,
    /// The connection broke.
    #[error("the connection broke while the body was read")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A copy's source could not be read.
    #[error(transparent)]
    Source(KvError),
}

/// Gives the bytes of a body.
pub trait Source: Send {
    /// The next bytes, never empty. After an error or the end it is not asked again.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, PayloadError>>>;

    /// Names and values of the trailer, after the end.
    fn take_trailer(&mut self) -> Vec<(String, String)> {
        Vec::new()
    }
}

/// A body and what is said of it.
pub struct Payload {
    source: Box<dyn Source>,
    /// Bytes that will come, when that was declared.
    pub len: Option<u64>,
    /// Checksums that must come out.
    pub claims: Claims,
}

impl Payload {
    /// From where bytes come. `source` must keep to `len`.
    pub fn new(source: impl Source + 'static, len: Option<u64>, claims: Claims) -> Payload {
        Payload {
            source: Box::new(source),
            len,
            claims,
        }
    }

    /// Bytes that are at hand.
    pub fn from_bytes(bytes: Bytes) -> Payload {
        Payload::from_pieces([bytes])
    }

    /// Bytes that are at hand, in pieces.
    pub fn from_pieces(pieces: impl IntoIterator<Item = Bytes>) -> Payload {
        let pieces: VecDeque<Bytes> = pieces
            .into_iter()
            .filter(|piece| !piece.is_empty())
            .collect();
        let len = pieces.iter().map(|piece| piece.len() as u64).sum();
        Payload::new(Pieces(pieces), Some(len), Claims::default())
    }

    /// The next bytes.
    pub async fn next(&mut self) -> Option<Result<Bytes, PayloadError>> {
        std::future::poll_fn(|cx| self.source.poll_next(cx)).await
    }

    /// The trailer, after the end.
    pub fn take_trailer(&mut self) -> Vec<(String, String)> {
        self.source.take_trailer()
    }
}

struct Pieces(VecDeque<Bytes>);

impl Source for Pieces {
    fn poll_next(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, PayloadError>>> {
        Poll::Ready(self.0.pop_front().map(Ok))
    }
}
