//! An S3 client for tests: signed requests over HTTP/1.1, and of the answers only what a test looks at.
//!
//! Always true: a request is sent once. A connection that dies under it gives `Answer::None`: the outcome is unknown.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use minikv::auth::signature_v4::{Signer, UNSIGNED_PAYLOAD};
use parking_lot::Mutex;
use tokio::net::TcpStream;

/// How long a test waits for one answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A client with a few open connections.
pub struct S3 {
    addr: SocketAddr,
    access_key: String,
    secret_key: String,
    idle: Mutex<Vec<SendRequest<Full<Bytes>>>>,
}

/// What came back.
#[derive(Clone, Debug)]
pub enum Answer {
    /// A whole answer.
    Some(Reply),
    /// The connection could not be made, died or fell silent: why.
    None(String),
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Reply {
    /// The text of the first XML element of this name.
    pub fn element(&self, name: &str) -> Option<String> {
        elements(&self.body, name).into_iter().next()
    }

    /// The ETag header as it stands.
    pub fn etag(&self) -> String {
        let etag = self.headers.get("etag").and_then(|etag| etag.to_str().ok());
        etag.unwrap_or_default().to_owned()
    }
}

impl Answer {
    /// The status, if any.
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Answer::Some(reply) => Some(reply.status),
            Answer::None(_) => None,
        }
    }

    /// 2xx.
    pub fn ok(&self) -> Option<&Reply> {
        match self {
            Answer::Some(reply) if reply.status.is_success() => Some(reply),
            _ => None,
        }
    }

    /// In words, for a message.
    pub fn tell(&self) -> String {
        match self {
            Answer::Some(reply) => {
                format!(
                    "{} {}",
                    reply.status,
                    String::from_utf8_lossy(&reply.body[..reply.body.len().min(400)])
                )
            }
            Answer::None(why) => format!("no answer: {why}"),
        }
    }
}

/// The texts of all XML elements of this name; our answers nest none of those asked for.
pub fn elements(xml: &[u8], name: &str) -> Vec<String> {
    let text = String::from_utf8_lossy(xml);
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let inside = text.split(&open).skip(1);
    inside
        .filter_map(|rest| rest.split_once(&close))
        .map(|(text, _)| {
            text.replace("&quot;", "\"")
                .replace("&lt;", "<")
                .replace("&gt;", ">")
                .replace("&amp;", "&")
        })
        .collect()
}

impl S3 {
    /// A client of a server with these root keys.
    pub fn new(addr: SocketAddr, access_key: &str, secret_key: &str) -> S3 {
        S3 {
            addr,
            access_key: access_key.to_owned(),
            secret_key: secret_key.to_owned(),
            idle: Mutex::default(),
        }
    }

    /// Sends one signed request.
    pub async fn send(&self, method: Method, path_and_query: &str, body: Bytes) -> Answer {
        match tokio::time::timeout(PATIENCE, self.attempt(method, path_and_query, body)).await {
            Ok(Ok(reply)) => Answer::Some(reply),
            Ok(Err(why)) => Answer::None(why),
            Err(_) => Answer::None(format!("no answer within {PATIENCE:?}")),
        }
    }

    async fn attempt(
        &self,
        method: Method,
        path_and_query: &str,
        body: Bytes,
    ) -> Result<Reply, String> {
        let uri: Uri = path_and_query
            .parse()
            .map_err(|error| format!("{path_and_query}: {error}"))?;
        let mut headers = HeaderMap::new();
        let host = self
            .addr
            .to_string()
            .parse()
            .map_err(|error| format!("host: {error}"))?;
        headers.insert("host", host);
        let signer = Signer {
            access_key: &self.access_key,
            secret_key: &self.secret_key,
            region: "us-east-1",
            service: "s3",
        };
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        let signed = signer.sign(&method, &uri, &mut headers, UNSIGNED_PAYLOAD, now);
        signed.map_err(|error| error.to_string())?;
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;

        let mut connection = self.connection().await?;
        let response = connection
            .send_request(request)
            .await
            .map_err(|error| error.to_string())?;
        let (parts, body) = response.into_parts();
        let body = body
            .collect()
            .await
            .map_err(|error| format!("{}: body: {error}", parts.status))?;
        self.idle.lock().push(connection);
        Ok(Reply {
            status: parts.status,
            headers: parts.headers,
            body: body.to_bytes(),
        })
    }

    async fn connection(&self) -> Result<SendRequest<Full<Bytes>>, String> {
        loop {
            let Some(mut idle) = self.idle.lock().pop() else {
                break;
            };
            if !idle.is_closed() && idle.ready().await.is_ok() {
                return Ok(idle);
            }
        }
        let socket = TcpStream::connect(self.addr)
            .await
            .map_err(|error| error.to_string())?;
        socket
            .set_nodelay(true)
            .map_err(|error| error.to_string())?;
        let (sender, connection) = http1::handshake(TokioIo::new(socket))
            .await
            .map_err(|error| error.to_string())?;
        tokio::spawn(connection);
        Ok(sender)
    }

    /// PUT bucket.
    pub async fn create_bucket(&self, bucket: &str) -> Answer {
        self.send(Method::PUT, &format!("/{bucket}"), Bytes::new())
            .await
    }

    /// PUT object.
    pub async fn put(&self, bucket: &str, key: &str, body: Bytes) -> Answer {
        self.send(Method::PUT, &format!("/{bucket}/{key}"), body)
            .await
    }

    /// GET object.
    pub async fn get(&self, bucket: &str, key: &str) -> Answer {
        self.send(Method::GET, &format!("/{bucket}/{key}"), Bytes::new())
            .await
    }

    /// DELETE object.
    pub async fn delete(&self, bucket: &str, key: &str) -> Answer {
        self.send(Method::DELETE, &format!("/{bucket}/{key}"), Bytes::new())
            .await
    }

    /// All keys of a bucket, page by page.
    pub async fn list(&self, bucket: &str) -> Result<Vec<String>, Answer> {
        let mut keys = Vec::new();
        let mut token = String::new();
        loop {
            let path = format!("/{bucket}?list-type=2&max-keys=1000{token}");
            let answer = self.send(Method::GET, &path, Bytes::new()).await;
            let Some(page) = answer.ok() else {
                return Err(answer);
            };
            keys.extend(elements(&page.body, "Key"));
            match page.element("NextContinuationToken") {
                Some(next) => token = format!("&continuation-token={}", escape(&next)),
                None => return Ok(keys),
            }
        }
    }

    /// Opens an upload; its id is in the answer.
    pub async fn create_upload(&self, bucket: &str, key: &str) -> Answer {
        self.send(
            Method::POST,
            &format!("/{bucket}/{key}?uploads"),
            Bytes::new(),
        )
        .await
    }

    /// UploadPart; its ETag is in the answer.
    pub async fn part(
        &self,
        bucket: &str,
        key: &str,
        upload: &str,
        number: u32,
        body: Bytes,
    ) -> Answer {
        let upload = escape(upload);
        let path = format!("/{bucket}/{key}?partNumber={number}&uploadId={upload}");
        self.send(Method::PUT, &path, body).await
    }

    /// CompleteMultipartUpload of parts 1, 2, … with these ETags.
    pub async fn complete(
        &self,
        bucket: &str,
        key: &str,
        upload: &str,
        etags: &[String],
    ) -> Answer {
        let mut xml = "<CompleteMultipartUpload>".to_owned();
        for (number, etag) in (1..).zip(etags) {
            xml += &format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>");
        }
        xml += "</CompleteMultipartUpload>";
        let path = format!("/{bucket}/{key}?uploadId={}", escape(upload));
        let answer = self.send(Method::POST, &path, xml.into()).await;
        match &answer {
            // Complete may answer 200 first and the error in the body.
            Answer::Some(reply) if reply.element("Code").is_some() => {
                Answer::None(format!("200 with an error: {}", answer.tell()))
            }
            _ => answer,
        }
    }

    /// AbortMultipartUpload.
    pub async fn abort(&self, bucket: &str, key: &str, upload: &str) -> Answer {
        let path = format!("/{bucket}/{key}?uploadId={}", escape(upload));
        self.send(Method::DELETE, &path, Bytes::new()).await
    }
}

/// Percent-encodes a query value.
fn escape(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(byte as char)
            }
            _ => out += &format!("%{byte:02X}"),
        }
    }
    out
}
