//! Handshakes as clients make them, over real sockets.
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ProtocolVersion, RootCertStore, SupportedProtocolVersion};
use tokio::io::AsyncReadExt;
use tokio_rustls::TlsConnector;

use super::authority::Authority;
use super::*;
use crate::serve::body::ClientBody;
use crate::serve::listener::{self, Handler};
use crate::serve::shutdown::{Stopper, stopper};

#[derive(Clone)]
struct Hello;

impl Handler for Hello {
    type Body = Full<Bytes>;

    async fn answer(&self, _: Request<ClientBody>, _: SocketAddr) -> Response<Full<Bytes>> {
        Response::new(Full::new(Bytes::from_static(b"hello")))
    }
}

struct Port {
    addr: SocketAddr,
    roots: RootCertStore,
    current: Arc<Current>,
    authority: Authority,
    _dir: tempfile::TempDir,
    _stopper: Stopper,
}

const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

async fn port(limits: Limits) -> Port {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::open(dir.path(), renew::now()).unwrap();
    let names = NAMES.map(str::to_owned);
    let current = Current::new(authority.issue(&names, renew::now()).unwrap());
    let mut roots = RootCertStore::empty();
    for cert in pair::certificates("ca", authority.ca_cert()).unwrap() {
        roots.add(cert).unwrap();
    }
    let tls = Tls::new(current.clone(), &limits).unwrap();
    let listener = listener::bind("127.0.0.1:0".parse().unwrap())
        .await
        .unwrap();
    let addr = listener.local_addr().unwrap();
    let (stopper, stop) = stopper();
    tokio::spawn(listener::serve(listener, Hello, limits, Some(tls), stop));
    Port {
        addr,
        roots,
        current,
        authority,
        _dir: dir,
        _stopper: stopper,
    }
}

impl Port {
    async fn connect(
        &self,
        name: &'static str,
        versions: &[&'static SupportedProtocolVersion],
        alpn: &[&[u8]],
    ) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
        let stream = TcpStream::connect(self.addr).await?;
        let connector = TlsConnector::from(Arc::new(config));
        connector
            .connect(ServerName::try_from(name).unwrap(), stream)
            .await
    }
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n";

async fn ask(mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin) -> String {
    stream.write_all(GET).await.unwrap();
    let mut text = String::new();
    let reading = stream.read_to_string(&mut text);
    tokio::time::timeout(Duration::from_secs(10), reading)
        .await
        .unwrap()
        .unwrap();
    text
}

const TLS12: &SupportedProtocolVersion = &rustls::version::TLS12;
const TLS13: &SupportedProtocolVersion = &rustls::version::TLS13;

/// Whoever trusts the CA gets through, under each of the server's names, with old and new TLS.
#[tokio::test]
async fn client_that_trusts_the_ca_is_served() {
    let port = port(Limits::default()).await;
    for name in NAMES {
        for (versions, spoken) in [
            ([TLS12], ProtocolVersion::TLSv1_2),
            ([TLS13], ProtocolVersion::TLSv1_3),
        ] {
            let stream = port
                .connect(name, &versions, &[b"h2", b"http/1.1"])
                .await
                .unwrap();
            assert_eq!(stream.get_ref().1.protocol_version(), Some(spoken));
            assert_eq!(
                stream.get_ref().1.alpn_protocol(),
                Some(b"http/1.1".as_slice())
            );
            assert!(ask(stream).await.ends_with("hello"));
        }
    }
    // Who asks for another name is not fooled, and who speaks only HTTP/2 hears so in the handshake.
    assert!(
        port.connect("elsewhere.example", &[TLS13], &[])
            .await
            .is_err()
    );
    assert!(port.connect("localhost", &[TLS13], &[b"h2"]).await.is_err());
}

/// A renewed certificate is what the next connection sees; the one that runs goes on.
#[tokio::test]
async fn renewed_certificate_is_seen_by_the_next_connection() {
    let port = port(Limits::default()).await;
    let shown = |stream: &tokio_rustls::client::TlsStream<TcpStream>| {
        stream.get_ref().1.peer_certificates().unwrap()[0].clone()
    };
    let before = port.connect("localhost", &[TLS13], &[]).await.unwrap();
    let names = NAMES.map(str::to_owned);
    port.current
        .replace(port.authority.issue(&names, renew::now()).unwrap());
    let after = port.connect("localhost", &[TLS13], &[]).await.unwrap();
    assert_ne!(shown(&before), shown(&after));
    assert_eq!(shown(&after), port.current.get().cert[0]);
    assert!(ask(before).await.ends_with("hello"));
}

/// A user who forgot the `s` of https is told so by name.
#[tokio::test]
async fn plain_http_is_told_to_come_with_https() {
    let port = port(Limits::default()).await;
    let answer = ask(TcpStream::connect(port.addr).await.unwrap()).await;
    assert!(
        answer.starts_with("HTTP/1.1 400") && answer.contains("https://"),
        "{answer}"
    );
}

/// Clients that begin a handshake and stop, or say nothing, are ended; silent ones do not keep the others out.
#[tokio::test]
async fn dawdling_handshake_is_ended_and_silence_takes_no_place() {
    let port = port(Limits {
        handshakes: 1,
        header_timeout_seconds: 2,
        ..Limits::default()
    })
    .await;
    let began = Instant::now();
    let mut silent = TcpStream::connect(port.addr).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let served = ask(port.connect("localhost", &[TLS13], &[]).await.unwrap()).await;
    assert!(served.ends_with("hello") && began.elapsed() < Duration::from_secs(2));
    let mut half = TcpStream::connect(port.addr).await.unwrap();
    half.write_all(&[HANDSHAKE, 3, 1]).await.unwrap();
    let mut text = Vec::new();
    for stream in [&mut silent, &mut half] {
        let ended = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut text));
        let _ = ended.await.expect("the server ends it");
    }
    assert!(port.connect("localhost", &[TLS13], &[]).await.is_ok());
}
