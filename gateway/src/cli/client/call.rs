//! A request in words, before it is signed and sent; sent again it is the same.

use http::Method;

use super::body::{Content, Progress};
use crate::auth::canonical::encode;

/// A request in words.
#[derive(Clone)]
pub struct Call {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) query: Vec<(String, String)>,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) content: Content,
    pub(super) progress: Option<Progress>,
    pub(super) repeatable: bool,
    pub(super) service: &'static str,
}

impl Call {
    /// A request for `/`.
    pub fn new(method: Method) -> Call {
        Call {
            method,
            path: "/".to_owned(),
            query: Vec::new(),
            headers: Vec::new(),
            content: Content::Empty,
            progress: None,
            repeatable: true,
            service: "s3",
        }
    }

    /// For a path that needs no escaping.
    pub fn path(mut self, path: &str) -> Call {
        self.path = path.to_owned();
        self
    }

    /// For a bucket.
    pub fn bucket(mut self, bucket: &str) -> Call {
        self.path = format!("/{}", encode(bucket, false));
        self
    }

    /// For a key in the bucket.
    pub fn key(mut self, key: &str) -> Call {
        self.path.push('/');
        self.path.push_str(&encode(key, true));
        self
    }

    /// With a query parameter.
    pub fn query(mut self, name: &str, value: &str) -> Call {
        self.query.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With a header.
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Call {
        self.headers.push((name, value.into()));
        self
    }

    /// With a condition, if there is one; then it is not tried again: the first try may have changed what it asks for.
    pub fn header_if(mut self, name: &'static str, value: Option<&str>) -> Call {
        if let Some(value) = value {
            self.headers.push((name, value.to_owned()));
            self.repeatable = false;
        }
        self
    }

    /// With a body.
    pub fn content(mut self, content: Content, progress: Option<Progress>) -> Call {
        self.content = content;
        self.progress = progress;
        self
    }

    /// Signed for another service than `s3`.
    pub fn service(mut self, service: &'static str) -> Call {
        self.service = service;
        self
    }

    /// Path and query, percent-encoded.
    pub fn uri(&self) -> String {
        let mut uri = self.path.clone();
        for (at, (name, value)) in self.query.iter().enumerate() {
            uri.push(if at == 0 { '?' } else { '&' });
            uri.push_str(&format!("{}={}", encode(name, false), encode(value, false)));
        }
        uri
    }
}
