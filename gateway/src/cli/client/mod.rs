//! A small S3 client for the command line: signs, sends, tries again, and says in words what went wrong.
//!
//! Always true:
//! * a request is tried again only while nothing can have happened twice: it is repeatable (no conditions), and the
//!   server was unreachable, cut the line, or said 503;
//! * an error of the server keeps its S3 code, and becomes the exit code that scripts expect.
//!
//! Elsewhere: where the server and the keys are (`target`), how a signature is made (`auth::signature_v4`).

pub mod body;
mod call;
pub mod endpoint;
pub mod trust;
pub mod xml;

#[cfg(test)]
mod tests;

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::exit::{Exit, Failure, chain};
use super::target::{Keys, Target};
use crate::auth::signature_v4::{EMPTY_SHA256, Signer, UNSIGNED_PAYLOAD};
use body::Outgoing;
pub use call::Call;
use endpoint::Endpoint;
use trust::Trust;
use xml::Element;

/// The region that our servers are in, and that clients expect without a setting.
pub const REGION: &str = "us-east-1";
/// Tries, the first one included.
const TRIES: u32 = 4;
/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Answers that are not objects are small; a listing page of 1000 long keys stays far below.
const LARGEST_ANSWER: usize = 16 << 20;

/// A client of one server.
pub struct Client {
    endpoint: Endpoint,
    trust: Trust,
    keys: Option<Keys>,
    idle: Mutex<Vec<SendRequest<Outgoing>>>,
}

impl Client {
    /// For the S3 port of a target. Keys must be there.
    pub fn new(target: Target) -> Result<Client, Failure> {
        let keys = target.keys()?.clone();
        Ok(Client {
            endpoint: target.s3,
            trust: target.trust,
            keys: Some(keys),
            idle: Mutex::default(),
        })
    }

    /// For the HTTP port of a target, signed.
    pub fn admin(target: Target) -> Result<Client, Failure> {
        let keys = target.keys()?.clone();
        Ok(Client {
            endpoint: target.http,
            trust: target.trust,
            keys: Some(keys),
            idle: Mutex::default(),
        })
    }

    /// For the HTTP port of a target, without signatures: for what is open to everybody.
    pub fn unsigned(target: Target) -> Client {
        Client {
            endpoint: target.http,
            trust: target.trust,
            keys: None,
            idle: Mutex::default(),
        }
    }

    /// Sends and reads the whole answer, which must be a success.
    pub async fn send(&self, call: Call) -> Result<(HeaderMap, Bytes), Failure> {
        let response = self.open(call).await?;
        let (parts, body) = response.into_parts();
        Ok((parts.headers, self.collect(body).await?))
    }

    /// Sends and reads an XML answer.
    pub async fn send_xml(&self, call: Call) -> Result<Element, Failure> {
        let (_, bytes) = self.send(call).await?;
        std::str::from_utf8(&bytes)
            .ok()
            .and_then(Element::parse)
            .ok_or_else(|| {
                Failure::new(
                    Exit::Failure,
                    format!(
                        "{} gave an answer that is no XML; is it an S3 server?",
                        self.endpoint
                    ),
                )
            })
    }

    /// Sends and gives the answer once its head says success; the body is the caller's to read.
    pub async fn open(&self, call: Call) -> Result<Response<Incoming>, Failure> {
        let mut tried = 0;
        loop {
            tried += 1;
            let failure = match self.try_open(&call).await {
                Ok(response) if response.status().is_success() => return Ok(response),
                Ok(response) => {
                    let status = response.status();
                    let text = self.collect(response.into_body()).await.unwrap_or_default();
                    self.refused(status, &text)
                }
                Err(failure) => failure,
            };
            if failure.exit != Exit::Unavailable || !call.repeatable || tried == TRIES {
                return Err(failure);
            }
            tokio::time::sleep(Duration::from_millis(100 << tried)).await;
        }
    }

    /// One try; any status is an answer.
    pub async fn try_once(&self, call: &Call) -> Result<(StatusCode, Bytes), Failure> {
        let response = self.try_open(call).await?;
        Ok((response.status(), self.collect(response.into_body()).await?))
    }

    /// A mistake in the middle of an answer.
    pub fn broken(&self, cause: &dyn std::error::Error) -> Failure {
        Failure::new(
            Exit::Unavailable,
            format!("{} cut the line: {}", self.endpoint, chain(cause)),
        )
    }

    async fn try_open(&self, call: &Call) -> Result<Response<Incoming>, Failure> {
        // A kept connection may have been closed by the server meanwhile; then the request never left, and a new
        // connection takes it.
        while let Some(mut kept) = self.keep_out() {
            if kept.ready().await.is_err() {
                continue;
            }
            match kept.try_send_request(self.request(call)?).await {
                Ok(response) => return Ok(self.keep(kept, response)),
                Err(mut error) => match error.take_message() {
                    Some(_never_left) => continue,
                    None => return Err(self.broken(&error.into_error())),
                },
            }
        }
        let mut fresh = self.connect().await?;
        let response = fresh
            .send_request(self.request(call)?)
            .await
            .map_err(|e| self.broken(&e))?;
        Ok(self.keep(fresh, response))
    }

    fn keep_out(&self) -> Option<SendRequest<Outgoing>> {
        self.idle.lock().pop()
    }

    fn keep(
        &self,
        sender: SendRequest<Outgoing>,
        response: Response<Incoming>,
    ) -> Response<Incoming> {
        // `ready` waits until the answer was read, so it may be kept at once.
        self.idle.lock().push(sender);
        response
    }

    async fn connect(&self) -> Result<SendRequest<Outgoing>, Failure> {
        let unreachable = |why: String| {
            Failure::new(
                Exit::Unavailable,
                format!("cannot reach {}: {why}", self.endpoint),
            )
            .fix("start a server with `minikv`, or name its address: --endpoint URL")
        };
        let connecting = TcpStream::connect((self.endpoint.host(), self.endpoint.port()));
        let stream = match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(cause)) => return Err(unreachable(cause.to_string())),
            Err(_) => return Err(unreachable("no answer".to_owned())),
        };
        // Small requests must not wait for the answer to earlier ones.
        let _ = stream.set_nodelay(true);
        if !self.endpoint.is_https() {
            return self.speak(stream).await;
        }
        let name = ServerName::try_from(self.endpoint.host().to_owned())
            .map_err(|_| unreachable("its name cannot stand in a certificate".to_owned()))?;
        let secured = self.trust.connector()?.connect(name, stream);
        match tokio::time::timeout(CONNECT_TIMEOUT, secured).await {
            Ok(Ok(stream)) => self.speak(stream).await,
            Ok(Err(cause)) => Err(self.not_trusted(&cause)),
            Err(_) => Err(unreachable("no answer".to_owned())),
        }
    }

    /// Trying again would not help, so it is not "unavailable".
    fn not_trusted(&self, cause: &std::io::Error) -> Failure {
        let failure = Failure::new(
            Exit::Failure,
            format!("no https with {}: {cause}", self.endpoint),
        );
        let of_certificate = cause
            .get_ref()
            .and_then(|e| e.downcast_ref::<rustls::Error>())
            .is_some_and(|e| matches!(e, rustls::Error::InvalidCertificate(_)));
        if of_certificate {
            failure.fix("name the CA that signed its certificate: --ca-cert FILE (for --tls auto: DATA-DIR/tls/ca.pem)")
        } else {
            failure.fix("is it an https port? For plain http write http:// in the endpoint")
        }
    }

    async fn speak<S>(&self, stream: S) -> Result<SendRequest<Outgoing>, Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|cause| self.broken(&cause))?;
        // Its errors come out of `send_request` and of the body as well.
        tokio::spawn(connection);
        Ok(sender)
    }

    fn request(&self, call: &Call) -> Result<Request<Outgoing>, Failure> {
        let request = Request::builder()
            .method(call.method.clone())
            .uri(call.uri())
            .body(());
        let odd = |what: String| Failure::new(Exit::Usage, what);
        let (mut parts, ()) = request
            .map_err(|e| odd(format!("not a request: {e}")))?
            .into_parts();
        let header = |text: &str| {
            HeaderValue::from_str(text)
                .map_err(|_| odd(format!("{text:?} cannot be sent in a header")))
        };
        parts
            .headers
            .insert(http::header::HOST, header(&self.endpoint.authority())?);
        parts.headers.insert(
            http::header::USER_AGENT,
            HeaderValue::from_static(concat!("minikv/", env!("CARGO_PKG_VERSION"))),
        );
        // Also for empty bodies of PUT and POST: servers in between ask for it.
        if call.method != Method::GET && call.method != Method::HEAD {
            parts.headers.insert(
                http::header::CONTENT_LENGTH,
                HeaderValue::from(call.content.len()),
            );
        }
        for (name, value) in &call.headers {
            parts
                .headers
                .insert(HeaderName::from_static(name), header(value)?);
        }
        self.sign(&mut parts, call)?;
        Ok(Request::from_parts(
            parts,
            call.content.body(call.progress.clone()),
        ))
    }

    fn sign(&self, parts: &mut Parts, call: &Call) -> Result<(), Failure> {
        let Some(keys) = &self.keys else {
            return Ok(());
        };
        let signer = Signer {
            access_key: &keys.access_key,
            secret_key: keys.secret_key.expose(),
            region: REGION,
            service: call.service,
        };
        // Large bodies carry a CRC64NVME instead of a SHA-256: far cheaper, and checked just as strictly.
        let payload = if call.content.is_empty() {
            EMPTY_SHA256
        } else {
            UNSIGNED_PAYLOAD
        };
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        signer
            .sign(&parts.method, &parts.uri, &mut parts.headers, payload, now)
            .map_err(|cause| {
                Failure::new(
                    Exit::Usage,
                    format!("the request cannot be signed: {cause}"),
                )
            })?;
        Ok(())
    }

    async fn collect(&self, body: Incoming) -> Result<Bytes, Failure> {
        let collected = Limited::new(body, LARGEST_ANSWER).collect().await;
        collected
            .map(http_body_util::Collected::to_bytes)
            .map_err(|cause| self.broken(cause.as_ref()))
    }

    /// An error answer in words.
    fn refused(&self, status: StatusCode, body: &[u8]) -> Failure {
        let (code, message) = code_and_message(body);
        let (code, message) = (code.as_str(), message.as_str());
        let exit = match status.as_u16() {
            404 => Exit::NotFound,
            401 | 403 => Exit::Denied,
            409 | 412 => Exit::Precondition,
            502..=504 => Exit::Unavailable,
            _ => Exit::Failure,
        };
        let what = match (code, message) {
            ("", "") => format!("{} answered {status}", self.endpoint),
            ("", message) => message.to_owned(),
            (code, "") => format!("{code} ({status})"),
            (code, message) => format!("{message} ({code})"),
        };
        let mut failure = Failure::new(exit, what);
        failure.code = (!code.is_empty()).then(|| code.to_owned());
        if let ("InvalidAccessKeyId" | "SignatureDoesNotMatch", Some(keys)) = (code, &self.keys) {
            failure.fix = Some(format!(
                "key {} came from {}; another one can be given by --data-dir DIR or --access-key and --secret-key",
                keys.access_key, keys.from
            ));
        }
        failure
    }
}

/// Out of S3's XML, or the HTTP port's JSON; empty when it is neither.
fn code_and_message(body: &[u8]) -> (String, String) {
    if let Ok(json) = serde_json::from_slice::<serde_json::Value>(body) {
        let text = |name: &str| json["error"][name].as_str().unwrap_or_default().to_owned();
        return (text("code"), text("message"));
    }
    let element = std::str::from_utf8(body)
        .ok()
        .and_then(Element::parse)
        .unwrap_or_default();
    (
        element.text_of("Code").to_owned(),
        element.text_of("Message").to_owned(),
    )
}
