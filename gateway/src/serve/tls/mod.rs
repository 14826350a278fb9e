//! TLS of the ports 9000 and 9001.
//!
//! ```text
//!   --tls-cert, --tls-key  ─> pair ──┐
//!                                     ├─> Current (what is shown to clients now) ─> handshake ─> HTTP/1.1
//!   --tls auto ─> authority ─> leaf ─┘       ^ renew: files that changed, a leaf that grows old
//! ```
//! Always true:
//! * a port that speaks TLS speaks nothing else; who speaks plain HTTP to it is told so, in plain HTTP;
//! * a handshake has a deadline and a place; connections that say nothing take no place;
//! * a new pair that does not fit is never shown: the old one stays, and the log says why.
//!
//! Elsewhere: where a pair comes from (`pair`, `authority`), when it is replaced (`renew`). One crypto provider: ring.

pub mod authority;
pub mod current;
pub mod pair;
pub mod renew;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, ring};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::config::Limits;
use current::Current;

/// First byte of every TLS connection: a handshake record.
const HANDSHAKE: u8 = 0x16;

const PLAIN_HTTP: &str =
    "This port speaks https, and the request came in plain http. Write https:// in the endpoint.\n";

/// The one crypto provider of this process, named at each use: there is no hidden global one.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// What the ports share.
#[derive(Clone)]
pub struct Tls {
    acceptor: TlsAcceptor,
    places: Arc<Semaphore>,
    deadline: Duration,
}

impl Tls {
    /// Shows what `current` holds at the moment of each handshake.
    pub fn new(current: Arc<Current>, limits: &Limits) -> Result<Tls, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(current);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // A client that comes back spares both sides the expensive half of the handshake.
        config.ticketer = ring::Ticketer::new()?;
        Ok(Tls {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            places: Arc::new(Semaphore::new(limits.handshakes as usize)),
            deadline: Duration::from_secs(limits.header_timeout_seconds),
        })
    }

    /// The handshake; an error is for the log alone, the client heard what there was to hear.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        match tokio::time::timeout(self.deadline, self.shake_hands(stream)).await {
            Ok(done) => done,
            Err(_) => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the TLS handshake was not done in time",
            )),
        }
    }

    async fn shake_hands(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let mut first = [0];
        // Looked at before a place is taken: a client that says nothing must not keep others from their handshake.
        match stream.peek(&mut first).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            _ if first[0] != HANDSHAKE && first[0].is_ascii_uppercase() => {
                return Err(refuse_plain_http(stream).await);
            }
            _ => {}
        }
        let _place = self
            .places
            .acquire()
            .await
            .map_err(|_| io::ErrorKind::ConnectionAborted)?;
        self.acceptor.accept(stream).await
    }
}

async fn refuse_plain_http(mut stream: TcpStream) -> io::Error {
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{PLAIN_HTTP}",
        PLAIN_HTTP.len()
    );
    // What lies unread in a closed socket makes the kernel reset it, and the answer is lost: read a little of it.
    let mut head = [0; 4096];
    let _ = stream.try_read(&mut head);
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
    io::Error::new(io::ErrorKind::InvalidData, "plain http on the https port")
}

#[cfg(test)]
mod tests;
