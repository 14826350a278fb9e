//! Where s3s asks us whether it may go on, after it found the operation and before it reads the body.
//!
//! Always true: s3s has no keys. A request that reaches it with a signature of its own would be refused, and one that
//! did not come through the front has no `Call` and is refused, too.

use std::sync::Arc;

use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{S3Auth, SecretKey};
use s3s::{S3Result, s3_error};

use super::call::Call;
use super::lock;
use super::route;

/// Knows no key: signatures were verified, and taken off, in front of s3s.
pub struct NoKeys;

#[async_trait::async_trait]
impl S3Auth for NoKeys {
    async fn get_secret_key(&self, _: &str) -> S3Result<SecretKey> {
        Err(s3_error!(InvalidAccessKeyId))
    }
}

/// Lets operations of the route table through.
pub struct Routes;

#[async_trait::async_trait]
impl S3Access for Routes {
    async fn check(&self, cx: &mut S3AccessContext<'_>) -> S3Result<()> {
        let Some(call) = cx.extensions_mut().get::<Arc<Call>>().cloned() else {
            return Err(s3_error!(AccessDenied));
        };
        match route::admit(cx.s3_op().name(), &call.query) {
            Ok(route) => {
                call.set_operation(route.name);
                lock::check_place(route.name, &call.headers).map_err(|error| call.fail(error))
            }
            Err(error) => Err(call.fail(error)),
        }
    }
}
