//! A node, the S3 service on it, and a client that signs.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use minikv::auth::access_key::KeyStore;
use minikv::auth::signature_v4::{
    STREAMING_SIGNED, STREAMING_SIGNED_TRAILER, STREAMING_UNSIGNED_TRAILER, Signer,
    UNSIGNED_PAYLOAD,
};
use minikv::object::checksum::{Algorithm, Checksum};
use minikv::object::encryption::ring::KeyRing;
use minikv::object::etag::hex;
use minikv::ops::OpContext;
use minikv::s3::ApiName;
use minikv::s3::service::{S3Options, S3Service};
use minikv::serve::keyring::new_key;
use minikv::store::lifecycle::Calendar;
use minikv::store::{Credentials, Store};
use minikv_core::env::{Env, clock};
use minikv_core::ids::TenantId;
use minikv_core::kv::lifecycle::LifecycleCounts;
use minikv_core::node::{Limits, Node, NodeOptions};
use sha2::{Digest, Sha256};

pub const ACCESS_KEY: &str = "AKTEST";
pub const SECRET_KEY: &str = "secret/of+the=test";

/// A node with an S3 port.
pub struct World {
    pub service: S3Service,
    pub keys: Arc<KeyStore>,
    pub ops: OpContext,
    node: Arc<Node>,
    dir: tempfile::TempDir,
}

impl World {
    pub async fn start() -> World {
        World::start_with(true).await
    }

    /// Whether clients may send keys of their own, as over TLS.
    pub async fn start_with(customer_keys: bool) -> World {
        World::begin(customer_keys, Duration::from_secs(86_400)).await
    }

    /// With days of lifecycle rules that are so short, and a bucket `bucket`.
    pub async fn with_days_of(day: Duration) -> World {
        let world = World::begin(true, day).await;
        assert_eq!(world.put("/bucket").send().await.status, 200);
        world
    }

    async fn begin(customer_keys: bool, day: Duration) -> World {
        let dir = tempfile::tempdir().unwrap();
        let root = Credentials {
            access_key: ACCESS_KEY.to_owned(),
            secret_key: SECRET_KEY.to_owned(),
        };
        // Small segments: they are allocated ahead, and many worlds run at once.
        let limits = Limits {
            segment_bytes: Some(8 << 20),
            ..Limits::default()
        };
        let options = NodeOptions {
            root: Some(root.clone()),
            limits,
            lifecycle: Some(Arc::new(Calendar::new(day))),
            ..NodeOptions::new(dir.path())
        };
        let node = Node::start(Env::real(), options).await.unwrap();
        let mut ring = KeyRing::new("main", new_key()).unwrap();
        ring.add("payroll", new_key()).unwrap();
        let ctx = OpContext::new(Store::local(node.kv()), &root, ring);
        let keys = ctx.keys().clone();
        let service = S3Service::new(
            ctx.clone(),
            &S3Options {
                domains: vec!["s3.test".to_owned()],
                customer_keys,
                ..S3Options::default()
            },
        );
        World {
            service,
            keys,
            ops: ctx,
            node,
            dir,
        }
    }

    /// Where everything lies.
    pub fn data_dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    /// With a bucket `bucket`.
    pub async fn with_bucket() -> World {
        let world = World::start().await;
        assert_eq!(world.put("/bucket").send().await.status, 200);
        world
    }

    /// Turns versions of `bucket` on (`Enabled`) or off (`Suspended`).
    pub async fn versioning(&self, status: &str) {
        let xml = format!(
            "<VersioningConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Status>{status}</Status></VersioningConfiguration>"
        );
        let reply = self.put("/bucket?versioning").body(xml).send().await;
        assert_eq!(reply.status, 200, "{}", reply.text());
    }

    /// The tenant of this name.
    pub async fn tenant(&self, name: &str) -> TenantId {
        self.node.kv().tenant(name).await.unwrap()
    }

    /// Bytes that are charged, as they are stored.
    pub async fn bytes(&self) -> u64 {
        let status = self.node.status().await;
        status.groups.iter().map(|group| group.usage.bytes).sum()
    }

    /// What lifecycle rules have done.
    pub async fn aged(&self) -> LifecycleCounts {
        self.node.status().await.lifecycle
    }

    pub async fn stop(self) {
        self.node.shutdown(Duration::from_secs(5)).await;
    }

    pub fn request(&self, method: Method, uri: &str) -> Call<'_> {
        let mut headers = HeaderMap::new();
        headers.insert("host", HeaderValue::from_static("127.0.0.1:9000"));
        Call {
            world: self,
            method,
            uri: uri.to_owned(),
            headers,
            body: Vec::new(),
            payload: Payload::Signed,
            unsigned: Vec::new(),
            skew: 0,
            region: "us-east-1",
            keys: (ACCESS_KEY, SECRET_KEY),
        }
    }

    pub fn get(&self, uri: &str) -> Call<'_> {
        self.request(Method::GET, uri)
    }

    pub fn head(&self, uri: &str) -> Call<'_> {
        self.request(Method::HEAD, uri)
    }

    pub fn put(&self, uri: &str) -> Call<'_> {
        self.request(Method::PUT, uri)
    }

    pub fn post(&self, uri: &str) -> Call<'_> {
        self.request(Method::POST, uri)
    }

    pub fn delete(&self, uri: &str) -> Call<'_> {
        self.request(Method::DELETE, uri)
    }

    /// Puts an object and expects it to be taken.
    pub async fn store(&self, uri: &str, body: impl Into<Bytes>) -> Reply {
        let reply = self.put(uri).body(body).send().await;
        assert_eq!(reply.status, 200, "{uri}: {}", reply.text());
        reply
    }

    /// Nothing is there, and nothing was left.
    pub async fn expect_absent(&self, uri: &str) {
        assert_eq!(
            self.head(uri).send().await.status,
            404,
            "{uri} should not be there"
        );
    }
}

/// How a body travels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Payload {
    Signed,
    Unsigned,
    SignedChunks,
    SignedChunksTrailer(Algorithm),
    UnsignedChunksTrailer(Algorithm),
    Presigned(u64),
    Anonymous,
}

/// A request to be.
pub struct Call<'a> {
    world: &'a World,
    method: Method,
    uri: String,
    headers: HeaderMap,
    body: Vec<Bytes>,
    payload: Payload,
    unsigned: Vec<(HeaderName, HeaderValue)>,
    skew: i64,
    region: &'static str,
    keys: (&'static str, &'static str),
}

impl Call<'_> {
    pub fn with(mut self, name: &'static str, value: impl AsRef<[u8]>) -> Self {
        self.headers
            .insert(name, HeaderValue::from_bytes(value.as_ref()).unwrap());
        self
    }

    /// Added behind the signature's back.
    pub fn unsigned(mut self, name: &'static str, value: &str) -> Self {
        self.unsigned.push((
            HeaderName::from_static(name),
            HeaderValue::try_from(value).unwrap(),
        ));
        self
    }

    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = vec![body.into()];
        self
    }

    /// In several frames.
    pub fn pieces(mut self, body: impl Into<Bytes>, size: usize) -> Self {
        let mut body: Bytes = body.into();
        while !body.is_empty() {
            self.body.push(body.split_to(size.min(body.len())));
        }
        self
    }

    pub fn payload(mut self, payload: Payload) -> Self {
        self.payload = payload;
        self
    }

    pub fn skewed(mut self, seconds: i64) -> Self {
        self.skew = seconds;
        self
    }

    pub fn region(mut self, region: &'static str) -> Self {
        self.region = region;
        self
    }

    /// Signed by somebody else than root.
    pub fn by(mut self, keys: (&'static str, &'static str)) -> Self {
        self.keys = keys;
        self
    }

    fn signer(&self) -> Signer<'static> {
        Signer {
            access_key: self.keys.0,
            secret_key: self.keys.1,
            region: self.region,
            service: "s3",
        }
    }

    fn now(&self) -> u64 {
        (clock::wall_ms() / 1_000).saturating_add_signed(self.skew)
    }

    /// Signed and framed, not sent.
    pub fn build(mut self) -> (Request<()>, Vec<Bytes>) {
        let whole: Vec<u8> = self.body.concat();
        let uri: Uri = self.uri.parse().unwrap();
        let (signer, now) = (self.signer(), self.now());
        let has_body = !whole.is_empty() || self.method == Method::PUT;
        let chunked = matches!(
            self.payload,
            Payload::SignedChunks
                | Payload::SignedChunksTrailer(_)
                | Payload::UnsignedChunksTrailer(_)
        );
        if has_body
            && !chunked
            && !self.headers.contains_key("content-length")
            && !self.headers.contains_key("transfer-encoding")
        {
            self.headers
                .insert("content-length", HeaderValue::from(whole.len()));
        }
        if chunked {
            self.headers
                .entry("x-amz-decoded-content-length")
                .or_insert(HeaderValue::from(whole.len()));
            self.headers
                .entry("content-encoding")
                .or_insert(HeaderValue::from_static("aws-chunked"));
        }
        let sign = |headers: &mut HeaderMap, word: &str| {
            signer.sign(&self.method, &uri, headers, word, now).unwrap()
        };
        let headers = &mut self.headers;
        match self.payload {
            Payload::Anonymous => {}
            Payload::Signed => {
                sign(headers, &hex(&Sha256::digest(&whole)));
            }
            Payload::Unsigned => {
                sign(headers, UNSIGNED_PAYLOAD);
            }
            Payload::Presigned(expires) => {
                // What a browser sends is not signed, but for the host.
                let mut signed = HeaderMap::new();
                for (name, value) in headers.iter().filter(|(name, _)| {
                    name.as_str() == "host" || name.as_str().starts_with("x-amz-")
                }) {
                    signed.insert(name.clone(), value.clone());
                }
                self.uri = signer
                    .presign(&self.method, &uri, &signed, expires, now)
                    .unwrap();
            }
            Payload::SignedChunks | Payload::SignedChunksTrailer(_) => {
                let trailer = match self.payload {
                    Payload::SignedChunksTrailer(algorithm) => Some(algorithm),
                    _ => None,
                };
                let word = match trailer {
                    Some(algorithm) => {
                        headers.insert(
                            "x-amz-trailer",
                            HeaderValue::from_static(algorithm.header()),
                        );
                        STREAMING_SIGNED_TRAILER
                    }
                    None => STREAMING_SIGNED,
                };
                let mut chunks = sign(headers, word);
                let mut framed = Vec::new();
                for chunk in whole.chunks(64 << 10).chain([b"".as_slice()]) {
                    let signature = chunks
                        .chunk(&Sha256::digest(chunk).into())
                        .as_str()
                        .to_owned();
                    framed
                        .push(format!("{:x};chunk-signature={signature}\r\n", chunk.len()).into());
                    if !chunk.is_empty() {
                        framed.push(Bytes::copy_from_slice(chunk));
                        framed.push(Bytes::from_static(b"\r\n"));
                    }
                }
                if let Some(algorithm) = trailer {
                    let line = format!("{}:{}\n", algorithm.header(), checksum(algorithm, &whole));
                    let signature = chunks.trailer(line.as_bytes()).as_str().to_owned();
                    framed.push(
                        format!(
                            "{}\r\nx-amz-trailer-signature:{signature}\r\n",
                            line.trim_end()
                        )
                        .into(),
                    );
                }
                framed.push(Bytes::from_static(b"\r\n"));
                self.body = framed;
            }
            Payload::UnsignedChunksTrailer(algorithm) => {
                headers.insert(
                    "x-amz-trailer",
                    HeaderValue::from_static(algorithm.header()),
                );
                sign(headers, STREAMING_UNSIGNED_TRAILER);
                let mut framed = Vec::new();
                if !whole.is_empty() {
                    framed.push(format!("{:x}\r\n", whole.len()).into());
                    framed.append(&mut self.body);
                    framed.push(Bytes::from_static(b"\r\n"));
                }
                framed.push(
                    format!(
                        "0\r\n{}:{}\r\n\r\n",
                        algorithm.header(),
                        checksum(algorithm, &whole)
                    )
                    .into(),
                );
                self.body = framed;
            }
        }
        if chunked {
            let length: usize = self.body.iter().map(Bytes::len).sum();
            self.headers
                .insert("content-length", HeaderValue::from(length));
        }
        for (name, value) in self.unsigned {
            self.headers.append(name, value);
        }
        let mut request = Request::new(());
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri.parse().unwrap();
        *request.headers_mut() = self.headers;
        (request, self.body)
    }

    pub async fn send(self) -> Reply {
        let world = self.world;
        let (request, body) = self.build();
        send(world, request, body).await
    }
}

/// Sends what was built, perhaps changed on the way.
pub async fn send(world: &World, request: Request<()>, body: Vec<Bytes>) -> Reply {
    let frames = body
        .into_iter()
        .map(|piece| Ok::<_, std::io::Error>(Frame::data(piece)));
    let body = StreamBody::new(futures::stream::iter(frames));
    let response = world.service.handle(request.map(|()| body)).await;
    let (parts, body) = response.into_parts();
    let body = body.collect().await.map(|collected| collected.to_bytes());
    let api = parts.extensions.get::<ApiName>().unwrap().0;
    for name in ["x-amz-request-id", "x-amz-id-2"] {
        assert!(
            parts.headers.contains_key(name),
            "{name} is on every answer"
        );
    }
    Reply {
        status: parts.status.as_u16(),
        headers: parts.headers,
        broken: body.is_err(),
        body: body.unwrap_or_default(),
        api,
    }
}

/// An answer.
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub broken: bool,
    pub api: &'static str,
}

impl Reply {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    /// The contents of all elements of a name, unescaped.
    pub fn all(&self, element: &str) -> Vec<String> {
        let text = self.text();
        let (open, close) = (format!("<{element}>"), format!("</{element}>"));
        let inner = text
            .split(&open)
            .skip(1)
            .filter_map(|rest| rest.split_once(&close));
        inner
            .map(|(value, _)| {
                value
                    .replace("&quot;", "\"")
                    .replace("&lt;", "<")
                    .replace("&gt;", ">")
                    .replace("&amp;", "&")
            })
            .collect()
    }

    pub fn one(&self, element: &str) -> String {
        self.all(element).into_iter().next().unwrap_or_default()
    }

    pub fn code(&self) -> String {
        self.one("Code")
    }

    /// Refused, with this code.
    #[track_caller]
    pub fn refused(&self, status: u16, code: &str) {
        assert_eq!(
            (self.status, self.code().as_str()),
            (status, code),
            "{}",
            self.text()
        );
        assert_eq!(self.one("RequestId"), self.header("x-amz-request-id"));
        assert_eq!(self.one("HostId"), self.header("x-amz-id-2"));
    }
}

/// As it stands in a header.
pub fn checksum(algorithm: Algorithm, bytes: &[u8]) -> String {
    Checksum::full(algorithm, algorithm.of(bytes)).text()
}

pub fn md5_hex(bytes: &[u8]) -> String {
    hex(&md5::Md5::digest(bytes))
}

pub fn md5_base64(bytes: &[u8]) -> String {
    BASE64.encode(md5::Md5::digest(bytes))
}

/// Bytes that are not all alike.
pub fn noise(len: usize) -> Bytes {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ len as u64;
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(len);
    out.into()
}
