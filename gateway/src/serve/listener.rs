//! Lets connections in, within limits, and runs HTTP/1.1 on them, over TLS when the port has a certificate.
//!
//! Always true:
//! * at most `connections` of them; the next one is told to come back when no other ends within a moment (in the kernel's
//!   queue it would hang until its client gives up);
//! * every wait for a client has an end: idle, half a head, a slow body, an answer nobody takes;
//! * an answer that was given before its request's body was read whole says that it ends the connection;
//! * once the end is announced no connection is accepted, and one without a request ends at once.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::{Either, select};
use http::header::{CONNECTION, HeaderValue};
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::body::{BodyError, ClientBody, Held};
use super::patience::{Patience, Socket, Verdict};
use super::shutdown::{Phase, Stop};
use super::tls::Tls;
use crate::config::Limits;

/// Line and headers of a request together. S3's own limit (8 KiB of headers) is checked behind it, with S3's error.
const LARGEST_HEAD: usize = 64 << 10;
/// Bytes that are read from a connection at a time, and held for it: hyper's own limit of 400 KiB is 80 MiB for 200 uploads.
const LARGEST_READ: usize = 128 << 10;
/// Connections above the limit that are told so at a time; further ones are closed without a word.
const TURNED_AWAY: usize = 256;
/// How long a connection above the limit may wait for another one to end.
const PATIENCE: Duration = Duration::from_millis(100);
/// How long one that is turned away may take to ask, and to hear.
const FAREWELL: Duration = Duration::from_secs(2);
/// What it hears.
const SLOW_DOWN: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>";
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
pub async fn serve<H: Handler>(
    listener: TcpListener,
    handler: H,
    limits: Limits,
    tls: Option<Tls>,
    mut stop: Stop,
) {
    let places = Arc::new(Semaphore::new(limits.connections as usize));
    let farewells = Arc::new(Semaphore::new(TURNED_AWAY));
    let limits = Arc::new(limits);
    loop {
        let accepted =
            match select(pin!(stop.reached(Phase::Draining)), pin!(listener.accept())).await {
                Either::Left(_) => return,
                Either::Right((accepted, _)) => accepted,
            };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(cause) => {
                // Out of file descriptors, or the client was gone before we looked: others may fare better.
                tracing::warn!(%cause, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (handler, limits, mut stop) = (handler.clone(), limits.clone(), stop.clone());
        // Nagle and delayed acknowledgements together add 40 ms to small answers.
        if stream.set_nodelay(true).is_err() {
            continue;
        }
        let tls = tls.clone();
        let place = match places.clone().try_acquire_owned() {
            Ok(place) => Entry::Place(place),
            Err(_) => match farewells.clone().try_acquire_owned() {
                Ok(farewell) => Entry::Wait(places.clone(), farewell),
                Err(_) => continue,
            },
        };
        tokio::spawn(async move {
            let place = match place {
                Entry::Place(place) => place,
                Entry::Wait(places, farewell) => {
                    match tokio::time::timeout(PATIENCE, places.acquire_owned()).await {
                        Ok(Ok(place)) => place,
                        _ => {
                            if tls.is_none() {
                                turn_away(stream).await;
                            }
                            drop(farewell);
                            return;
                        }
                    }
                }
            };
            match tls {
                None => connection(stream, peer, handler, &limits, stop).await,
                Some(tls) => {
                    let secured = {
                        let handshake = pin!(tls.accept(stream));
                        match select(pin!(stop.reached(Phase::Draining)), handshake).await {
                            Either::Left(_) => return,
                            Either::Right((secured, _)) => secured,
                        }
                    };
                    match secured {
                        Ok(stream) => connection(stream, peer, handler, &limits, stop).await,
                        Err(cause) => tracing::debug!(%peer, %cause, "no TLS connection"),
                    }
                }
            }
            drop(place);
        });
    }
}

/// How a connection comes in.
enum Entry {
    /// There is a place.
    Place(OwnedSemaphorePermit),
    /// There was none; it may wait for one, and be told if none comes.
    Wait(Arc<Semaphore>, OwnedSemaphorePermit),
}

/// Answers SlowDown to a connection that finds no place, and closes it.
async fn turn_away(mut stream: TcpStream) {
    let told = async {
        // An answer before the question would be taken for one to nothing.
        let mut asked = [0; 4 << 10];
        if stream.read(&mut asked).await? == 0 {
            return Ok(());
        }
        let answer = format!(
            "HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\ncontent-type: application/xml\r\ncontent-length: {}\r\n\r\n{SLOW_DOWN}",
            SLOW_DOWN.len()
        );
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await?;
        // Closed with bytes unread, the kernel would take the answer back.
        while stream.read(&mut asked).await? > 0 {}
        Ok::<_, io::Error>(())
    };
    let _ = tokio::time::timeout(FAREWELL, told).await;
}

/// Why a connection's task looks up from its connection.
enum News {
    /// The server is told to stop.
    Order,
    /// Time to look at the client.
    Look,
}

async fn connection<S: AsyncRead + AsyncWrite + Unpin, H: Handler>(
    stream: S,
    peer: SocketAddr,
    handler: H,
    limits: &Limits,
    mut stop: Stop,
) {
    let patience = Patience::new();
    let least = limits.slowest_upload_bytes_per_second;
    let marks = patience.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let in_request = marks.request();
        let (marks, handler) = (marks.clone(), handler.clone());
        async move {
            let request = request.map(|body| ClientBody::new(body, least, marks.clone()));
            let mut response = handler.answer(request, peer).await;
            // What the client sends next may be that body or its next request, if it waited to be told to send the body
            // (RFC 9110, 10.1.1): who reads on takes the one for the other.
            if marks.has_unread_body() {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(CONNECTION, close);
            }
            Ok::<_, Infallible>(response.map(|body| Held::new(body, in_request)))
        }
    });
    let socket = Socket::new(
        stream,
        patience.clone(),
        Duration::from_secs(limits.stalled_download_seconds),
    );
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .max_header_size(LARGEST_HEAD)
        .max_buf_size(LARGEST_READ)
        .serve_connection(TokioIo::new(socket), service);

    let head = Duration::from_secs(limits.header_timeout_seconds);
    let idle = Duration::from_secs(limits.idle_timeout_seconds);
    let mut look = tokio::time::interval(LOOK_EVERY.min(head).min(idle));
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut announced = Phase::Draining;
    loop {
        let news = {
            let (order, look) = (pin!(stop.reached(announced)), pin!(look.tick()));
            match select(Pin::new(&mut connection), select(order, look)).await {
                Either::Left((ended, _)) => {
                    if let Err(cause) = ended {
                        tracing::debug!(%peer, %cause, "connection ended badly");
                        return;
                    }
                    // hyper says no goodbye where a client has offered to speak another protocol.
                    let mut socket = connection.into_parts().io.into_inner();
                    let _ = tokio::time::timeout(FAREWELL, socket.shutdown()).await;
                    return;
                }
                Either::Right((Either::Left(_), _)) => News::Order,
                Either::Right((Either::Right(_), _)) => News::Look,
            }
        };
        match (news, patience.verdict(head, idle)) {
            (News::Order, _) if announced == Phase::Cut => return,
            (News::Order, _) => {
                Pin::new(&mut connection).graceful_shutdown();
                announced = Phase::Cut;
            }
            (News::Look, Verdict::Wait) => {}
            (News::Look, Verdict::Idle) => Pin::new(&mut connection).graceful_shutdown(),
            (News::Look, Verdict::SlowHead) => {
                tracing::debug!(%peer, "cut: its request head did not come in time");
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Instant;

    use super::*;
    use crate::serve::shutdown::{Stopper, stopper};
    use http_body_util::{BodyExt, Full};

    /// Answers with the body's length; `/wait` takes half a second.
    #[derive(Clone)]
    struct Echo;

    impl Handler for Echo {
        type Body = Full<Bytes>;

        async fn answer(
            &self,
            request: Request<ClientBody>,
            _peer: SocketAddr,
        ) -> Response<Full<Bytes>> {
            if request.uri().path() == "/refuse" {
                return Response::new(Full::new(Bytes::from_static(b"refused")));
            }
            if request.uri().path() == "/wait" {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            let text = match request.into_body().collect().await {
                Ok(body) => format!("{} bytes", body.to_bytes().len()),
                Err(cause) => cause.to_string(),
            };
            Response::new(Full::new(Bytes::from(text)))
        }
    }

    async fn server(limits: Limits) -> (SocketAddr, Stopper) {
        let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (stopper, stop) = stopper();
        tokio::spawn(serve(listener, Echo, limits, None, stop));
        (addr, stopper)
    }

    fn quick() -> Limits {
        Limits {
            header_timeout_seconds: 1,
            idle_timeout_seconds: 2,
            ..Limits::default()
        }
    }

    async fn said(stream: &mut TcpStream) -> String {
        let mut text = String::new();
        let reading = stream.read_to_string(&mut text);
        tokio::time::timeout(Duration::from_secs(10), reading)
            .await
            .expect("the server ends it")
            .unwrap();
        text
    }

    /// A client that trickles its head is cut; one that says nothing gets longer, and is then let go.
    #[tokio::test]
    async fn dawdling_connection_is_ended() {
        let (addr, _stopper) = server(quick()).await;
        let mut slow = TcpStream::connect(addr).await.unwrap();
        let mut idle = TcpStream::connect(addr).await.unwrap();
        slow.write_all(b"GET / HT").await.unwrap();
        let began = Instant::now();
        let (slow, idle) =
            tokio::join!(async { (said(&mut slow).await, began.elapsed()) }, async {
                (said(&mut idle).await, began.elapsed())
            });
        assert_eq!((slow.0.as_str(), idle.0.as_str()), ("", ""));
        assert!(slow.1 < idle.1, "{slow:?} {idle:?}");
    }

    /// A head without end is refused at 64 KiB, not collected.
    #[tokio::test]
    async fn endless_head_is_refused() {
        let (addr, _stopper) = server(Limits::default()).await;
        let mut stream = TcpStream::connect(addr).await.unwrap();
        let line = format!("x: {}\r\n", "y".repeat(8000));
        stream
            .write_all(b"GET / HTTP/1.1\r\nhost: h\r\n")
            .await
            .unwrap();
        let mut sent = 0;
        while sent < 1 << 20 && stream.write_all(line.as_bytes()).await.is_ok() {
            sent += line.len();
        }
        let mut answer = vec![0; 64];
        let read = stream.read(&mut answer).await.unwrap_or(0);
        assert!(String::from_utf8_lossy(&answer[..read]).starts_with("HTTP/1.1 431") || read == 0);
        assert!(TcpStream::connect(addr).await.is_ok());
    }

    /// The connection above the limit is served if another one ends in a moment; else it is told to come back, at once
    /// rather than after the client's own patience.
    #[tokio::test]
    async fn connection_above_the_limit_is_told_to_come_back() {
        let (addr, _stopper) = server(Limits {
            connections: 1,
            ..Limits::default()
        })
        .await;
        let first = TcpStream::connect(addr).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        let mut second = TcpStream::connect(addr).await.unwrap();
        second
            .write_all(b"GET / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n")
            .await
            .unwrap();
        let answer = said(&mut second).await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert!(answer.contains("<Code>SlowDown</Code>") && answer.contains("retry-after: 1"));
        drop(first);
        // The place is free once the server has seen that the first one is gone.
        loop {
            let mut third = TcpStream::connect(addr).await.unwrap();
            third
                .write_all(b"GET / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n")
                .await
                .unwrap();
            if said(&mut third).await.ends_with("0 bytes") {
                break;
            }
        }
    }

    /// Told to stop: the request in flight is answered, the idle connection is closed, a new one is not accepted.
    #[tokio::test]
    async fn request_in_flight_outlives_the_order_to_stop() {
        let (addr, stopper) = server(Limits::default()).await;
        let mut busy = TcpStream::connect(addr).await.unwrap();
        let mut idle = TcpStream::connect(addr).await.unwrap();
        busy.write_all(b"GET /wait HTTP/1.1\r\nhost: h\r\n\r\n")
            .await
            .unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        let began = Instant::now();
        let (all, busy, idle) = tokio::join!(
            stopper.stop(Duration::from_secs(10)),
            said(&mut busy),
            said(&mut idle)
        );
        assert!(all && began.elapsed() < Duration::from_secs(5));
        assert!(busy.ends_with("0 bytes"), "{busy}");
        assert_eq!(idle, "");
        assert!(TcpStream::connect(addr).await.is_err());
    }

    /// A request that takes longer than the drain is cut, so that the process ends.
    #[tokio::test]
    async fn endless_request_does_not_keep_the_process() {
        let (addr, stopper) = server(Limits::default()).await;
        let mut stuck = TcpStream::connect(addr).await.unwrap();
        stuck
            .write_all(b"PUT / HTTP/1.1\r\nhost: h\r\ncontent-length: 10\r\n\r\nhalf")
            .await
            .unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(!stopper.stop(Duration::from_millis(200)).await);
    }

    /// An upload that is refused at its head gets to read why, although it goes on sending.
    #[tokio::test]
    async fn refused_upload_reads_its_answer() {
        let (addr, _stopper) = server(Limits::default()).await;
        let mut stream = TcpStream::connect(addr).await.unwrap();
        let head = b"PUT /refuse HTTP/1.1\r\nhost: h\r\ncontent-length: 33554432\r\n\r\n";
        stream.write_all(head).await.unwrap();
        let block = vec![7; 1 << 20];
        for _ in 0..32 {
            stream.write_all(&block).await.unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let answer = said(&mut stream).await;
        assert!(answer.ends_with("refused"), "{answer}");
    }

    /// A client that is refused while it waits to be told to send its body may send it or not. Whatever it sends next is
    /// not taken for the other: the connection ends.
    #[tokio::test]
    async fn refusal_of_a_body_that_was_held_back_ends_the_connection() {
        let (addr, _stopper) = server(Limits::default()).await;
        for (path, ends) in [("/refuse", true), ("/", false)] {
            let mut stream = TcpStream::connect(addr).await.unwrap();
            let head = format!(
                "PUT {path} HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\ncontent-length: 1\r\n\r\n"
            );
            stream.write_all(head.as_bytes()).await.unwrap();
            let mut first = vec![0; 12];
            stream.read_exact(&mut first).await.unwrap();
            let next = match ends {
                true => "PUT / HTTP/1.1\r\nhost: h\r\n\r\n",
                false => "xPUT / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n",
            };
            let _ = stream.write_all(next.as_bytes()).await;
            let answers = said(&mut stream).await;
            if ends {
                assert_eq!(first, b"HTTP/1.1 200");
                assert!(answers.contains("connection: close\r\n"), "{answers}");
                assert!(answers.ends_with("refused"), "{answers}");
            } else {
                assert_eq!(first, b"HTTP/1.1 100");
                assert_eq!(answers.matches("HTTP/1.1 200").count(), 2, "{answers}");
                assert!(answers.contains("1 bytes") && answers.ends_with("0 bytes"));
            }
        }
    }
}
