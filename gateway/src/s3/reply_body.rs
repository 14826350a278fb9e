//! The body of an answer.
//!
//! Always true: a stream that cannot be finished ends with an error, which makes hyper reset the connection: a client
//! never takes a part for the whole.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::StreamExt;
use http_body::{Body, Frame, SizeHint};

use super::request_body::StdError;
use crate::store::{Content, KvError};

/// Bytes, all at once or one after the other.
pub struct ReplyBody(Kind);

enum Kind {
    Bytes(Bytes),
    Stream {
        first: Option<Bytes>,
        rest: futures::stream::BoxStream<'static, Result<Bytes, KvError>>,
        left: u64,
    },
    Wire(Box<s3s::Body>),
}

impl ReplyBody {
    /// None.
    pub fn empty() -> ReplyBody {
        ReplyBody(Kind::Bytes(Bytes::new()))
    }

    /// What s3s wrote: XML, nearly always in one piece.
    pub fn wire(body: s3s::Body) -> ReplyBody {
        match body.bytes() {
            Some(bytes) => ReplyBody(Kind::Bytes(bytes)),
            None => ReplyBody(Kind::Wire(Box::new(body))),
        }
    }
}

impl From<Bytes> for ReplyBody {
    fn from(bytes: Bytes) -> ReplyBody {
        ReplyBody(Kind::Bytes(bytes))
    }
}

impl From<Content> for ReplyBody {
    fn from(content: Content) -> ReplyBody {
        match content {
            Content::Bytes(bytes) => ReplyBody(Kind::Bytes(bytes)),
            Content::Stream { first, rest, len } => ReplyBody(Kind::Stream {
                first: Some(first),
                rest,
                left: len,
            }),
        }
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = StdError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        let next = match &mut self.0 {
            Kind::Bytes(bytes) if bytes.is_empty() => return Poll::Ready(None),
            Kind::Bytes(bytes) => return Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Kind::Wire(body) => return Pin::new(body).poll_frame(cx),
            Kind::Stream { left: 0, .. } => return Poll::Ready(None),
            Kind::Stream { first, rest, .. } => match first.take() {
                Some(first) => Some(Ok(first)),
                None => ready!(rest.poll_next_unpin(cx)),
            },
        };
        let Kind::Stream { left, .. } = &mut self.0 else {
            return Poll::Ready(None);
        };
        Poll::Ready(Some(match next {
            Some(Ok(bytes)) => match left.checked_sub(bytes.len() as u64) {
                Some(rest) => {
                    *left = rest;
                    Ok(Frame::data(bytes))
                }
                None => Err("the content is longer than its record says".into()),
            },
            Some(Err(error)) => {
                tracing::error!(%error, left, "an answer broke off");
                Err(error.into())
            }
            None => Err("the content is shorter than its record says".into()),
        }))
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Bytes(bytes) => bytes.is_empty(),
            Kind::Stream { left, .. } => *left == 0,
            Kind::Wire(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Bytes(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Stream { left, .. } => SizeHint::with_exact(*left),
            Kind::Wire(body) => body.size_hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use http_body_util::BodyExt;

    fn stream(pieces: Vec<Result<Bytes, KvError>>, len: u64) -> Result<Bytes, StdError> {
        let rest = futures::stream::iter(pieces).boxed();
        let body = ReplyBody::from(Content::Stream {
            first: Bytes::from_static(b"ab"),
            rest,
            len,
        });
        futures::executor::block_on(body.collect()).map(|collected| collected.to_bytes())
    }

    #[test]
    fn an_answer_is_whole_or_breaks_off() {
        let piece = || Ok(Bytes::from_static(b"cd"));
        assert_eq!(stream(vec![piece()], 4).unwrap(), "abcd");
        assert!(stream(vec![piece()], 5).is_err());
        assert!(stream(vec![piece()], 3).is_err());
        assert!(stream(vec![Err(KvError::Damaged("x".into()))], 4).is_err());
    }
}
