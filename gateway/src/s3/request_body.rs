//! The body of a request: what the client sent, without its framing, in the length it declared.
//!
//! Always true:
//! * it gives exactly the declared bytes and ends, or it ends with an error;
//! * when nobody read it to its end, what is left goes back to the front, which reads some of it away, so that a client
//!   that is still sending hears why it was refused.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http_body::Body;
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use parking_lot::Mutex;

use super::aws_chunked::Decoder;
use crate::store::payload::{PayloadError, Source};

/// Any error.
pub type StdError = Box<dyn std::error::Error + Send + Sync>;
/// What the listener gave us.
pub type ClientBody = UnsyncBoxBody<Bytes, StdError>;

/// A body that nobody read to its end.
#[derive(Clone, Default)]
pub struct Leftover(Arc<Mutex<Option<(ClientBody, bool)>>>);

impl Leftover {
    /// A body that nobody has looked at yet.
    pub fn holding(body: Option<ClientBody>) -> Leftover {
        Leftover(Arc::new(Mutex::new(body.map(|body| (body, false)))))
    }

    /// The body, to be read.
    pub fn take_body(&self) -> Option<ClientBody> {
        self.take().map(|(body, _)| body)
    }

    /// What is left of a body that was read in part.
    pub fn give_back(&self, body: ClientBody) {
        *self.0.lock() = Some((body, true));
    }

    /// The body, and whether any of it was read. None: it was read, or there was none.
    pub fn take(&self) -> Option<(ClientBody, bool)> {
        self.0.lock().take()
    }
}

/// The body, as `ops` reads it.
pub struct RequestBody {
    inner: Option<ClientBody>,
    /// Bytes declared and not yet seen, on the wire where there is no framing, else checked by the decoder.
    left: Option<u64>,
    decoder: Option<Decoder>,
    /// Framed bytes that were not decoded yet.
    pending: Bytes,
    trailer: Vec<(String, String)>,
    started: bool,
    leftover: Leftover,
}

impl RequestBody {
    /// Of a client. `len`: without framing. With a decoder, that one counts.
    pub fn new(
        inner: ClientBody,
        len: Option<u64>,
        decoder: Option<Decoder>,
        leftover: Leftover,
    ) -> RequestBody {
        let left = if decoder.is_some() { None } else { len };
        RequestBody {
            inner: Some(inner),
            left,
            decoder,
            pending: Bytes::new(),
            trailer: Vec::new(),
            started: false,
            leftover,
        }
    }

    /// Collects it, at most `limit` bytes. `None`: there are more.
    pub async fn collect(
        mut self,
        limit: usize,
    ) -> Result<Option<(Bytes, Vec<(String, String)>)>, PayloadError> {
        let mut collected = Vec::new();
        while let Some(piece) = std::future::poll_fn(|cx| self.poll_next(cx)).await {
            let piece = piece?;
            if collected.len() + piece.len() > limit {
                return Ok(None);
            }
            collected.extend_from_slice(&piece);
        }
        Ok(Some((collected.into(), self.take_trailer())))
    }

    /// The next bytes as they came over the wire.
    fn poll_wire(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, PayloadError>>> {
        self.started = true;
        loop {
            let Some(inner) = &mut self.inner else {
                return Poll::Ready(None);
            };
            match ready!(Pin::new(inner).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if data.is_empty() => {}
                    Ok(data) => return Poll::Ready(Some(Ok(data))),
                    // HTTP trailers say nothing in S3.
                    Err(_) => {}
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

/// A client that was cut off for slowness is told so; one that went away hears nothing anyway.
pub(super) fn broken(error: StdError) -> PayloadError {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&*error);
    while let Some(error) = cause {
        if error
            .downcast_ref::<std::io::Error>()
            .is_some_and(|io| io.kind() == std::io::ErrorKind::TimedOut)
        {
            return PayloadError::TimedOut;
        }
        cause = error.source();
    }
    PayloadError::Broken(error)
}

impl Source for RequestBody {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, PayloadError>>> {
        loop {
            if self.decoder.is_none() {
                return Poll::Ready(match ready!(self.poll_wire(cx)) {
                    Some(Ok(data)) => {
                        match self.left.map(|left| left.checked_sub(data.len() as u64)) {
                            None => Some(Ok(data)),
                            Some(Some(left)) => {
                                self.left = Some(left);
                                Some(Ok(data))
                            }
                            Some(None) => Some(Err(PayloadError::Incomplete)),
                        }
                    }
                    None if self.left.is_some_and(|left| left > 0) => {
                        Some(Err(PayloadError::Incomplete))
                    }
                    end => end,
                });
            }
            if self.pending.has_remaining() {
                let Some(decoder) = &mut self.decoder else {
                    continue;
                };
                match decoder.next(&mut self.pending) {
                    Ok(Some(data)) => return Poll::Ready(Some(Ok(data))),
                    Ok(None) => {}
                    Err(error) => return Poll::Ready(Some(Err(error))),
                }
            }
            match ready!(self.poll_wire(cx)) {
                Some(Ok(data)) => self.pending = data,
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => {
                    let Some(mut decoder) = self.decoder.take() else {
                        return Poll::Ready(None);
                    };
                    return match decoder.finish() {
                        Ok(trailer) => {
                            self.trailer = trailer;
                            Poll::Ready(None)
                        }
                        Err(error) => Poll::Ready(Some(Err(error))),
                    };
                }
            }
        }
    }

    fn take_trailer(&mut self) -> Vec<(String, String)> {
        std::mem::take(&mut self.trailer)
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if let Some(inner) = self.inner.take()
            && !inner.is_end_stream()
        {
            *self.leftover.0.lock() = Some((inner, self.started));
        }
    }
}

/// Wraps what the listener gives; `None` when there is nothing to come.
pub fn client_body<B>(body: B) -> Option<ClientBody>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<StdError>,
{
    if body.is_end_stream() {
        None
    } else {
        Some(UnsyncBoxBody::new(body.map_err(Into::into)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use http_body::Frame;
    use http_body_util::StreamBody;

    fn body(pieces: &[&'static [u8]], len: Option<u64>) -> (RequestBody, Leftover) {
        let frames: Vec<Result<Frame<Bytes>, StdError>> = pieces
            .iter()
            .map(|piece| Ok(Frame::data(Bytes::from_static(piece))))
            .collect();
        let inner = UnsyncBoxBody::new(StreamBody::new(futures::stream::iter(frames)));
        let leftover = Leftover::default();
        (
            RequestBody::new(inner, len, None, leftover.clone()),
            leftover,
        )
    }

    fn collect(pieces: &[&'static [u8]], len: Option<u64>) -> Result<Option<Bytes>, PayloadError> {
        let collected = futures::executor::block_on(body(pieces, len).0.collect(100));
        collected.map(|collected| collected.map(|(bytes, _)| bytes))
    }

    #[test]
    fn the_declared_length_is_kept_to_the_byte() {
        assert_eq!(
            collect(&[b"ab", b"", b"c"], Some(3)).unwrap().unwrap(),
            "abc"
        );
        assert_eq!(collect(&[b"ab"], None).unwrap().unwrap(), "ab");
        assert!(matches!(
            collect(&[b"ab"], Some(3)),
            Err(PayloadError::Incomplete)
        ));
        assert!(matches!(
            collect(&[b"ab", b"cd"], Some(3)),
            Err(PayloadError::Incomplete)
        ));
        assert_eq!(
            collect(&[b"0123456789".as_slice(); 11], None).unwrap(),
            None,
            "over the limit"
        );
    }

    #[test]
    fn what_nobody_read_is_given_back() {
        let (unread, leftover) = body(&[b"ab"], Some(2));
        drop(unread);
        assert!(!leftover.take().unwrap().1, "not started");
        let (mut begun, leftover) = body(&[b"ab", b"cd"], Some(4));
        futures::executor::block_on(std::future::poll_fn(|cx| begun.poll_next(cx)))
            .unwrap()
            .unwrap();
        drop(begun);
        assert!(leftover.take().unwrap().1, "started");
        let (whole, leftover) = body(&[b"ab"], Some(2));
        futures::executor::block_on(whole.collect(10)).unwrap();
        assert!(leftover.take().is_none());
    }

    #[test]
    fn a_client_cut_for_slowness_is_told_so() {
        let slow: StdError = Box::new(std::io::Error::new(std::io::ErrorKind::TimedOut, "slow"));
        assert!(matches!(broken(slow), PayloadError::TimedOut));
        assert!(matches!(broken("gone".into()), PayloadError::Broken(_)));
    }
}
