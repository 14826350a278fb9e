//! One request on its way through: what the front learned, and what came of it.
//!
//! s3s carries it along as an extension. Always true: a body is taken by one operation, once; an error that was put down
//! here is what the client hears, whatever s3s makes of it.

use std::sync::Arc;
use std::sync::OnceLock;

use http::{HeaderMap, StatusCode};
use parking_lot::Mutex;
use s3s::{S3Error, S3Request, s3_error};

use super::error::WireError;
use super::reply_body::ReplyBody;
use super::xml::Document;
use crate::auth::principal::Principal;
use crate::store::payload::Payload;

/// What is known of a request when an operation begins.
pub struct Call {
    /// Who.
    pub principal: Arc<Principal>,
    /// All headers, those of a presigned URL among them.
    pub headers: HeaderMap,
    /// The query, decoded.
    pub query: Vec<(String, String)>,
    /// `http` or `https`, as URLs in answers begin.
    pub scheme: &'static str,
    payload: Mutex<Option<Payload>>,
    outcome: Mutex<Outcome>,
    operation: OnceLock<&'static str>,
}

/// What s3s's types have no place for.
#[derive(Default)]
pub struct Outcome {
    /// Instead of the answer.
    pub error: Option<WireError>,
    /// Instead of the answer's body.
    pub body: Option<ReplyBody>,
    /// Instead of the answer's status.
    pub status: Option<StatusCode>,
    /// The body is a document.
    pub is_xml: bool,
}

impl Call {
    /// A call about to be made.
    pub fn new(
        principal: Arc<Principal>,
        headers: HeaderMap,
        query: Vec<(String, String)>,
        scheme: &'static str,
        payload: Option<Payload>,
    ) -> Call {
        Call {
            principal,
            headers,
            query,
            scheme,
            payload: Mutex::new(payload),
            outcome: Mutex::default(),
            operation: OnceLock::new(),
        }
    }

    /// The call that a request of s3s belongs to.
    pub fn of<T>(request: &S3Request<T>) -> Result<Arc<Call>, S3Error> {
        request
            .extensions
            .get::<Arc<Call>>()
            .cloned()
            .ok_or_else(|| s3_error!(InternalError))
    }

    /// The object's bytes; none: an empty object.
    pub fn take_payload(&self) -> Payload {
        let payload = self.payload.lock().take();
        payload.unwrap_or_else(|| Payload::from_pieces([]))
    }

    /// Puts an error down; what it returns only ends the operation.
    pub fn fail(&self, error: impl Into<WireError>) -> S3Error {
        self.outcome.lock().error = Some(error.into());
        s3_error!(InternalError)
    }

    /// Answers with these bytes and status.
    pub fn answer(&self, status: StatusCode, body: ReplyBody) {
        let mut outcome = self.outcome.lock();
        (outcome.status, outcome.body) = (Some(status), Some(body));
    }

    /// Answers 200 with a document of our own, instead of the one that s3s would write.
    pub fn answer_with(&self, document: Document) {
        self.answer(StatusCode::OK, ReplyBody::from(document.finish()));
        self.outcome.lock().is_xml = true;
    }

    /// What came of it.
    pub fn take_outcome(&self) -> Outcome {
        std::mem::take(&mut self.outcome.lock())
    }

    /// The operation was found.
    pub fn set_operation(&self, name: &'static str) {
        let _ = self.operation.set(name);
    }

    /// The operation, when it was found.
    pub fn operation(&self) -> &'static str {
        self.operation.get().copied().unwrap_or("Unknown")
    }

    /// A header's text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .get(name)
            .and_then(|value| std::str::from_utf8(value.as_bytes()).ok())
            .map(str::trim)
    }

    /// A query parameter.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }
}
