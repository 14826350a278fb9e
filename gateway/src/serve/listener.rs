//! Lets connections in, within limits, and runs HTTP/1.1 on them.
//!
//! Always true:
//! * at most `connections` of them; the next one waits in the kernel's queue until another ends;
//! * every wait for a client has an end: idle, half a head, a slow body, an answer nobody takes;
//! * once the end is announced no connection is accepted, and one without a request ends at once.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::body::{BodyError, ClientBody, Held};
use super::patience::{Patience, Socket, Verdict};
use super::shutdown::{Phase, Stop};
use crate::config::Limits;

/// Line and headers of a request together. S3's own limit (8 KiB of headers) is checked behind it, with S3's error.
const LARGEST_HEAD: usize = 64 << 10;
/// How often a connection is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Answers requests; cloned for each connection.
pub trait Handler: Clone + Send + Sync + 'static {
    /// Of its answers.
    type Body: Body<Data = Bytes, Error: Into<BodyError>> + Send + Unpin + 'static;

    /// Answers one.
    fn answer(
        &self,
        request: Request<ClientBody>,
        peer: SocketAddr,
    ) -> impl Future<Output = Response<Self::Body>> + Send;
}

/// Binds a port; the error names the address.
pub async fn bind(addr: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(addr).await
}

/// Accepts until the end is announced.
pub async fn serve<H: Handler>(listener: TcpListener, handler: H, limits: Limits, mut stop: Stop) {
    let places = Arc::new(Semaphore::new(limits.connections as usize));
    let limits = Arc::new(limits);
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let (stream, peer) = tokio::select! {
            biased;
            () = stop.reached(Phase::Draining) => return,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(cause) => {
                    // Out of file descriptors, or the client was gone before we looked: others may fare better.
                    tracing::warn!(%cause, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
        };
        let (handler, limits, stop) = (handler.clone(), limits.clone(), stop.clone());
        tokio::spawn(async move {
            connection(stream, peer, handler, &limits, stop).await;
            drop(place);
        });
    }
}

async fn connection<H: Handler>(
    stream: TcpStream,
    peer: SocketAddr,
    handler: H,
    limits: &Limits,
    mut stop: Stop,
) {
    // Nagle and delayed acknowledgements together add 40 ms to small answers.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let patience = Patience::new();
    let least = limits.slowest_upload_bytes_per_second;
    let marks = patience.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let in_request = marks.request();
        let handler = handler.clone();
        async move {
            let request = request.map(|body| ClientBody::new(body, least));
            let response = handler.answer(request, peer).await;
            Ok::<_, Infallible>(response.map(|body| Held::new(body, in_request)))
        }
    });
    let socket = Socket::new(stream, patience.clone(), Duration::from_secs(limits.stalled_download_seconds));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .max_header_size(LARGEST_HEAD)
        .serve_connection(TokioIo::new(socket), service);
    tokio::pin!(connection);

    let head = Duration::from_secs(limits.header_timeout_seconds);
    let idle = Duration::from_secs(limits.idle_timeout_seconds);
    let mut look = tokio::time::interval(LOOK_EVERY.min(head).min(idle));
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut announced = Phase::Draining;
    loop {
        tokio::select! {
            biased;
            ended = connection.as_mut() => {
                if let Err(cause) = ended {
                    tracing::debug!(%peer, %cause, "connection ended badly");
                }
                return;
            }
            () = stop.reached(announced) => {
                if announced == Phase::Cut {
                    return;
                }
                connection.as_mut().graceful_shutdown();
                announced = Phase::Cut;
            }
            _ = look.tick() => match patience.verdict(head, idle) {
                Verdict::Wait => {}
                Verdict::Idle => connection.as_mut().graceful_shutdown(),
                Verdict::SlowHead => {
                    tracing::debug!(%peer, "cut: its request head did not come in time");
                    return;
                }
            },
        }
    }
}
