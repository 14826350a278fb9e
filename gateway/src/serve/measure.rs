//! Counts a request when its answer has ended: sent whole, or given up.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::http::metrics::Metrics;

/// A request being measured.
pub struct Measure {
    metrics: Arc<Metrics>,
    began: Instant,
    received: Arc<AtomicU64>,
    sent: u64,
    api: &'static str,
    status: u16,
}

impl Measure {
    /// Begins with a request's head; `received` counts its body.
    pub fn begin(metrics: Arc<Metrics>, received: Arc<AtomicU64>) -> Measure {
        Measure {
            metrics,
            began: Instant::now(),
            received,
            sent: 0,
            api: "Unknown",
            status: 0,
        }
    }

    /// What it turned out to be.
    pub fn answered(mut self, api: &'static str, status: u16) -> Measure {
        (self.api, self.status) = (api, status);
        self
    }
}

impl Drop for Measure {
    fn drop(&mut self) {
        // A handler that was given up before it answered leaves status 0: counted as a failure of ours.
        let received = self.received.load(Ordering::Relaxed);
        let took = self.began.elapsed();
        tracing::debug!(
            api = self.api,
            status = self.status,
            ?took,
            received,
            sent = self.sent,
            "s3 request"
        );
        self.metrics
            .request(self.api, self.status, took, received, self.sent);
    }
}

/// An answer's body that counts what goes out.
pub struct Measured<B> {
    inner: B,
    measure: Measure,
}

impl<B> Measured<B> {
    /// Counts into `measure`.
    pub fn new(inner: B, measure: Measure) -> Measured<B> {
        Measured { inner, measure }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Measured<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let poll = Pin::new(&mut self.inner).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &poll {
            self.measure.sent += frame.data_ref().map_or(0, |data| data.len() as u64);
        }
        poll
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
