//! `/admin/v1/buckets/BUCKET/compression`: what no call of S3 asks or sets. `minikv bucket compression` uses it.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};

use super::{HttpState, json, refusal};
use crate::auth::principal::Principal;
use crate::object::compression::Codec;
use crate::ops::{OpError, get_bucket_compression, put_bucket_compression};
use crate::tenancy::bucket::BucketRef;

/// The answer. Fields are added, never changed.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Compression {
    /// `lz4`, `zstd` or `off`.
    pub compression: String,
}

/// `?to=`.
#[derive(Clone, PartialEq, Debug, Deserialize)]
pub struct Change {
    /// `lz4`, `zstd` or `off`.
    pub to: String,
}

/// Only the root key comes this far.
fn root() -> Principal {
    Principal::root("")
}

fn told(codec: Option<Codec>) -> Response {
    let compression = codec.map_or("off".to_owned(), |codec| codec.to_string());
    json(
        StatusCode::OK,
        serde_json::json!({ "compression": compression }).to_string(),
    )
}

fn refused(error: OpError) -> Response {
    match error {
        OpError::NoSuchBucket { .. } => refusal(
            StatusCode::NOT_FOUND,
            "NoSuchBucket",
            "The specified bucket does not exist",
        ),
        other => refusal(
            StatusCode::SERVICE_UNAVAILABLE,
            "ServiceUnavailable",
            &other.to_string(),
        ),
    }
}

/// What it is.
pub async fn compression(
    State(state): State<Arc<HttpState>>,
    Path(bucket): Path<String>,
) -> Response {
    let asked = BucketRef::named(bucket);
    match get_bucket_compression(&state.operations, &root(), &asked).await {
        Ok(codec) => told(codec),
        Err(error) => refused(error),
    }
}

/// Changes it, for what is written from now on: `?to=zstd`.
pub async fn set_compression(
    State(state): State<Arc<HttpState>>,
    Path(bucket): Path<String>,
    Query(asked): Query<Change>,
) -> Response {
    let codec = match asked.to.as_str() {
        "off" => Ok(None),
        word => word.parse::<Codec>().map(Some),
    };
    let codec = match codec {
        Ok(codec) => codec,
        Err(words) => return refusal(StatusCode::BAD_REQUEST, "InvalidArgument", &words),
    };
    let bucket = BucketRef::named(bucket);
    match put_bucket_compression(&state.operations, &root(), &bucket, codec).await {
        Ok(()) => told(codec),
        Err(error) => refused(error),
    }
}
