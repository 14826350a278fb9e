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
use tokio::time::{Instant, Sleep};

use super::admission::Place;
use super::patience::Patience;

/// What bodies fail with.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// How long a window of waiting is: longer than a line needs to send again what was lost on it a few times.
const WINDOW: Duration = Duration::from_secs(30);
/// After this long without bytes the client is slow, and its place is lent.
const PROMPT: Duration = Duration::from_millis(50);

/// A request's body, cut off when it comes too slowly.
pub struct ClientBody {
    inner: Incoming,
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

impl ClientBody {
    /// `least` bytes a second, on the connection that `patience` belongs to.
    pub fn new(inner: Incoming, least: u64, patience: Arc<Patience>) -> ClientBody {
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

impl Body for ClientBody {
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
                let since = *self.waiting_since.get_or_insert_with(Instant::now);
                loop {
                    let left = self.patience_left(since);
                    let timer = self
                        .timer
                        .get_or_insert_with(|| Box::pin(tokio::time::sleep(left)));
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

impl Drop for ClientBody {
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
