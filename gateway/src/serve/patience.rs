//! How long a connection may dawdle: while it is idle, in the head of a request, and while it takes its answer.
//!
//! hyper has one clock for "no request yet" and "half a head"; an idle keep-alive connection deserves a minute, a
//! client that trickles a head does not. So the socket notes when bytes come, the handler notes when a request runs,
//! and the connection's task looks at both every few seconds.
//!
//! ```text
//!   idle ──first byte──> head ──whole head──> request ──answer sent──> idle
//!    75 s                 10 s                 body and answer have their own limits
//! ```

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// What a connection is doing, shared by its socket, its requests and its task.
#[derive(Debug)]
pub struct Patience {
    start: Instant,
    requests: AtomicU32,
    /// Milliseconds after `start`.
    idle_since: AtomicU64,
    /// Milliseconds after `start`, plus one; 0: no byte of a head yet.
    head_since: AtomicU64,
    /// A handler answered without reading the whole body.
    unread: AtomicBool,
}

/// What to do with a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Go on.
    Wait,
    /// No request for too long: say goodbye.
    Idle,
    /// Half a head for too long: cut.
    SlowHead,
}

impl Patience {
    /// A connection begins, idle.
    pub fn new() -> Arc<Patience> {
        Arc::new(Patience {
            start: Instant::now(),
            requests: AtomicU32::new(0),
            idle_since: AtomicU64::new(0),
            head_since: AtomicU64::new(0),
            unread: AtomicBool::new(false),
        })
    }

    fn now_ms(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }

    /// Bytes came.
    fn heard(&self) {
        self.heard_at(self.now_ms());
    }

    fn heard_at(&self, now: u64) {
        if self.requests.load(Ordering::Relaxed) == 0
            && self.head_since.load(Ordering::Relaxed) == 0
        {
            self.head_since.store(now + 1, Ordering::Relaxed);
        }
    }

    fn request_began(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.head_since.store(0, Ordering::Relaxed);
    }

    fn request_ended_at(&self, now: u64) {
        self.idle_since.store(now, Ordering::Relaxed);
        self.head_since.store(0, Ordering::Relaxed);
        self.requests.fetch_sub(1, Ordering::Relaxed);
    }

    /// The answer was given before the body was read: the client is still sending.
    pub fn body_left_unread(&self) {
        self.unread.store(true, Ordering::Relaxed);
    }

    /// Whether that was so on this connection.
    pub fn has_unread_body(&self) -> bool {
        self.unread.load(Ordering::Relaxed)
    }

    /// A request's head is whole; it runs until the mark is dropped.
    pub fn request(self: &Arc<Patience>) -> InRequest {
        self.request_began();
        InRequest(self.clone())
    }

    /// Looked at every now and then.
    pub fn verdict(&self, head: Duration, idle: Duration) -> Verdict {
        self.verdict_at(self.now_ms(), head, idle)
    }

    fn verdict_at(&self, now: u64, head: Duration, idle: Duration) -> Verdict {
        if self.requests.load(Ordering::Relaxed) > 0 {
            return Verdict::Wait;
        }
        let over =
            |since: u64, limit: Duration| now.saturating_sub(since) >= limit.as_millis() as u64;
        match self.head_since.load(Ordering::Relaxed) {
            0 if over(self.idle_since.load(Ordering::Relaxed), idle) => Verdict::Idle,
            0 => Verdict::Wait,
            since if over(since - 1, head) => Verdict::SlowHead,
            _ => Verdict::Wait,
        }
    }
}

/// While it lives, a request runs on its connection.
#[derive(Debug)]
pub struct InRequest(Arc<Patience>);

impl Drop for InRequest {
    fn drop(&mut self) {
        self.0.request_ended_at(self.0.now_ms());
    }
}

/// How long a client that is refused in the middle of its body may go on sending, unheard.
const LINGER: Duration = Duration::from_secs(5);

/// A socket, or the TLS on one, that notes when bytes come, and gives up on a client that takes nothing of its answer.
///
/// It closes gently: bytes that lie unread in a closed socket make the kernel send a reset, and the reset makes the
/// client's kernel throw away our answer. A refused upload would look like a broken line. So after the answer what
/// still comes is read and dropped for a while.
pub struct Socket<S> {
    inner: S,
    patience: Arc<Patience>,
    stalled_after: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
    linger: Option<Pin<Box<Sleep>>>,
}

impl<S> Socket<S> {
    /// Watches over a socket.
    pub fn new(inner: S, patience: Arc<Patience>, stalled_after: Duration) -> Socket<S> {
        Socket {
            inner,
            patience,
            stalled_after,
            stalled: None,
            linger: None,
        }
    }

    /// Ends what waits for the client for too long. TLS takes bytes into a buffer of its own, and waits in its flush.
    fn written<T>(
        &mut self,
        cx: &mut Context<'_>,
        poll: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if poll.is_ready() {
            self.stalled = None;
            return poll;
        }
        let stalled = self
            .stalled
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(self.stalled_after)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the client takes nothing of its answer",
        )))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Socket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.patience.heard();
        }
        read
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Socket<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.written(cx, poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.written(cx, poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.inner).poll_flush(cx);
        self.written(cx, poll)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.linger.is_none() {
            let poll = Pin::new(&mut self.inner).poll_shutdown(cx);
            ready!(self.written(cx, poll))?;
            if !self.patience.has_unread_body() {
                return Poll::Ready(Ok(()));
            }
        }
        let Socket { inner, linger, .. } = &mut *self;
        let linger = linger.get_or_insert_with(|| Box::pin(tokio::time::sleep(LINGER)));
        let mut dropped = [0; 16 << 10];
        loop {
            if linger.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            let mut buf = ReadBuf::new(&mut dropped);
            match ready!(Pin::new(&mut *inner).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => {}
                // The client is done, or gone.
                _ => return Poll::Ready(Ok(())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: Duration = Duration::from_secs(10);
    const IDLE: Duration = Duration::from_secs(75);

    /// Idle connections get a minute, half a head gets ten seconds, a running request is left alone.
    #[test]
    fn trickled_head_is_cut_long_before_an_idle_connection() {
        let patience = Patience::new();
        let verdict = |seconds: u64| patience.verdict_at(seconds * 1000, HEAD, IDLE);
        assert_eq!(verdict(60), Verdict::Wait);
        patience.heard_at(60_000);
        patience.heard_at(69_000);
        assert_eq!(verdict(69), Verdict::Wait);
        assert_eq!(verdict(70), Verdict::SlowHead);
        patience.request_began();
        assert_eq!(verdict(1000), Verdict::Wait);
        patience.request_ended_at(1_000_000);
        assert_eq!(verdict(1074), Verdict::Wait);
        assert_eq!(verdict(1075), Verdict::Idle);
    }

    /// TLS has a buffer of its own: what a client does not take waits there, and in the goodbye.
    #[tokio::test]
    async fn a_client_that_takes_nothing_is_given_up_in_flush_and_goodbye() {
        use tokio::io::AsyncWriteExt;
        let (_client, ours) = tokio::io::duplex(16);
        let limit = Duration::from_millis(100);
        let buffered = tokio::io::BufWriter::with_capacity(1 << 10, ours);
        let mut socket = Socket::new(buffered, Patience::new(), limit);
        socket.write_all(&[7; 100]).await.expect("it fits");
        for goodbye in [false, true] {
            let began = Instant::now();
            let waited = match goodbye {
                false => socket.flush().await,
                true => socket.shutdown().await,
            };
            let error = waited.expect_err("nobody reads");
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            assert!(began.elapsed() >= limit);
            socket.stalled = None;
        }
    }
}
