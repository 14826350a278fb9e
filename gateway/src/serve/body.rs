//! Bodies between the wire and the handlers: one that does not wait for ever, and one that keeps something until its end.
//!
//! Always true:
//! * `ClientBody` ends with `TimedOut` once the client was slower than the limit for a whole window of waiting;
//!   time in which *we* did not ask for bytes is not the client's;
//! * a request whose client lets it wait for bytes occupies no place in the admission;
//! * what a `Held` body holds (a place in the admission, a connection's "busy" mark) is let go when the body is
//!   dropped: sent whole, or given up.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use minikv_core::env::clock::{self, Instant, Sleep};

use super::admission::Place;
use super::patience::Patience;

/// What bodies fail with.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// How long a window of waiting is: longer than a line needs to send again what was lost on it a few times.
const WINDOW: Duration = Duration::from_secs(30);
/// After this long without bytes the client is slow, and its place is lent.
const PROMPT: Duration = Duration::from_millis(50);

/// A request's body, cut off when it comes too slowly.
pub struct ClientBody<B: Body = Incoming> {
    inner: B,
    /// Bytes that must come in a window.
    least: u64,
    /// Bytes that came since the window began.
    came: u64,
    /// Since when we wait for the next frame.
    waiting_since: Option<Instant>,
    /// Waited in this window, before `waiting_since`.
    waited: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    place: Option<Place>,
    lent: bool,
    received: Arc<AtomicU64>,
    patience: Arc<Patience>,
    ended: bool,
}

impl<B: Body> ClientBody<B> {
    /// `least` bytes a second, on the connection that `patience` belongs to.
    pub fn new(inner: B, least: u64, patience: Arc<Patience>) -> ClientBody<B> {
        let least = least.saturating_mul(WINDOW.as_secs());
        ClientBody {
            inner,
            least,
            came: 0,
            waiting_since: None,
            waited: Duration::ZERO,
            timer: None,
            place: None,
            lent: false,
            received: Arc::default(),
            patience,
            ended: false,
        }
    }

    /// Counts its bytes; stays when the body is gone.
    pub fn received(&self) -> Arc<AtomicU64> {
        self.received.clone()
    }

    /// Its request has this place, which it lends while the client is slow.
    pub fn occupies(&mut self, place: Place) {
        self.place = Some(place);
    }

    /// The client has let us wait long enough for its place to be lent, or for it to be cut off (`true`).
    fn waited(&mut self, since: Instant) -> bool {
        if let (Some(place), false) = (&self.place, self.lent) {
            place.lend();
            self.lent = true;
        }
        self.waited + since.elapsed() >= WINDOW
    }

    /// How long until `waited` is to be asked again.
    fn patience_left(&self, since: Instant) -> Duration {
        let left = WINDOW.saturating_sub(self.waited + since.elapsed());
        match self.place.is_some() && !self.lent {
            true => left.min(PROMPT),
            false => left,
        }
    }

    /// A frame came: the clock stands until we ask again, and a window that was long enough ends well.
    fn arrived(&mut self, bytes: u64) {
        self.came += bytes;
        self.received.fetch_add(bytes, Ordering::Relaxed);
        if let Some(since) = self.waiting_since.take() {
            self.waited += since.elapsed();
        }
        if self.came >= self.least {
            (self.came, self.waited) = (0, Duration::ZERO);
        }
        self.timer = None;
    }
}

impl<B> Body for ClientBody<B>
where
    B: Body<Data = Bytes, Error: Into<BodyError>> + Unpin,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let poll = Pin::new(&mut self.inner).poll_frame(cx);
        if poll.is_ready()
            && std::mem::take(&mut self.lent)
            && let Some(place) = &self.place
        {
            place.resume();
        }
        match poll {
            Poll::Ready(Some(Ok(frame))) => {
                let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
                self.arrived(bytes);
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(cause))) => Poll::Ready(Some(Err(cause.into()))),
            Poll::Ready(None) => {
                self.ended = true;
                Poll::Ready(None)
            }
            Poll::Pending => {
                let since = *self.waiting_since.get_or_insert_with(clock::now);
                loop {
                    let left = self.patience_left(since);
                    let timer = self
                        .timer
                        .get_or_insert_with(|| Box::pin(clock::sleep(left)));
                    if timer.as_mut().poll(cx).is_pending() {
                        return Poll::Pending;
                    }
                    self.timer = None;
                    if self.waited(since) {
                        let slow = format!(
                            "the client sent less than {} bytes in {} s",
                            self.least,
                            WINDOW.as_secs()
                        );
                        return Poll::Ready(Some(Err(io::Error::new(
                            io::ErrorKind::TimedOut,
                            slow,
                        )
                        .into())));
                    }
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<B: Body> Drop for ClientBody<B> {
    fn drop(&mut self) {
        if !self.ended && !self.inner.is_end_stream() {
            self.patience.body_left_unread();
        }
    }
}

/// A body that keeps something until it is dropped.
pub struct Held<B, G> {
    inner: B,
    _held: G,
}

impl<B, G> Held<B, G> {
    /// Keeps `held` as long as the body lives.
    pub fn new(inner: B, held: G) -> Held<B, G> {
        Held { inner, _held: held }
    }
}

impl<B: Body + Unpin, G: Unpin> Body for Held<B, G> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::VecDeque;
    use std::convert::Infallible;

    use http_body_util::{BodyExt, StreamBody};
    use minikv_core::env::sim;

    use super::*;
    use crate::config::Limits;
    use crate::serve::admission::Admission;

    /// Pieces of so many bytes, each after a pause; then nothing more, and no end.
    fn client(
        pieces: impl IntoIterator<Item = (u64, usize)>,
    ) -> impl Body<Data = Bytes, Error = Infallible> + Unpin {
        let pieces: VecDeque<(u64, usize)> = pieces.into_iter().collect();
        let stream = futures::stream::unfold(pieces, |mut pieces| async {
            let Some((pause, bytes)) = pieces.pop_front() else {
                return std::future::pending().await;
            };
            clock::sleep(Duration::from_secs(pause)).await;
            Some((Ok(Frame::data(Bytes::from(vec![7; bytes]))), pieces))
        });
        StreamBody::new(Box::pin(stream))
    }

    /// What came of it, and after how many seconds it was cut.
    async fn received(
        client: impl Body<Data = Bytes, Error = Infallible> + Unpin,
        wanted: usize,
    ) -> (usize, Option<u64>) {
        let least = Limits::default().slowest_upload_bytes_per_second;
        let admission = Admission::new(1);
        let mut body = ClientBody::new(client, least, Patience::new());
        body.occupies(admission.enter().await.unwrap());
        let (mut came, mut last) = (0, clock::now());
        while came < wanted {
            let look = async {
                clock::sleep(Duration::from_millis(900)).await;
                admission.in_flight()
            };
            let (next, working) = futures::join!(body.frame(), look);
            assert_eq!(working, 0, "who waits for a client works on nothing");
            match next.unwrap() {
                Ok(frame) => came += frame.into_data().unwrap().len(),
                Err(cause) => {
                    let io = cause.downcast_ref::<io::Error>().unwrap();
                    assert_eq!(io.kind(), io::ErrorKind::TimedOut);
                    return (came, Some(last.elapsed().as_secs()));
                }
            }
            last = clock::now();
        }
        (came, None)
    }

    /// Hours of an upload at 1 KiB a second, with pauses of a shaky line, come to their end.
    #[test]
    fn slow_upload_is_not_cut_while_bytes_come() {
        sim::run(1, async {
            let wanted = 10 << 20;
            let pieces = (0..wanted / 1024).map(|n| (if n % 100 == 99 { 20 } else { 1 }, 1024));
            assert_eq!(received(client(pieces), wanted).await, (wanted, None));
        });
    }

    /// One that went silent is cut after half a minute, and so is one that trickles a byte now and then.
    #[test]
    fn dead_client_is_cut() {
        sim::run(1, async {
            let (came, after) = received(client([(1, 1024), (1, 5000)]), 1 << 20).await;
            assert_eq!((came, after), (6024, Some(30)));
            let (came, after) = received(client((0..1000).map(|_| (2, 1))), 1 << 20).await;
            assert!(came < 20 && after.is_some(), "{came} bytes");
        });
    }
}
