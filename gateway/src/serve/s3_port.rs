//! stand-in
#![allow(missing_docs, unused)]
use super::*;
use super::body::*;
use http::{Request, Response};
#[derive(Clone)]
pub struct S3Port;
impl S3Port {
 pub fn new(config: &Config, kv: minikv_core::kv::Kv, keys: Arc<KeyStore>, admission: Admission, metrics: Arc<Metrics>, probes: Probes) -> S3Port { S3Port }
 pub fn operations(&self) {}
 pub async fn make_first_bucket(&self, root: &Credentials) {}
}
impl listener::Handler for S3Port { type Body = http_body_util::Full<bytes::Bytes>;
 async fn answer(&self, request: Request<ClientBody>, peer: SocketAddr) -> Response<Self::Body> { todo!() } }
