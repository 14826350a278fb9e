//! GetObject: an object's bytes, or a range or part of them.

use crate::auth::principal::Principal;
use crate::object::conditions::ReadConditions;
use crate::object::encryption::keys::CustomerKey;
use crate::object::get_plan::AskedRange;
use crate::ops::encryption;
use crate::ops::error::while_replaced;
use crate::ops::head_object::find;
use crate::ops::{ObjectHead, OpContext, OpError};
use crate::store::Content;
use crate::tenancy::bucket::BucketRef;

/// The call; HeadObject has the same.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct GetObject {
    /// Where.
    pub bucket: BucketRef,
    /// Which.
    pub key: String,
    /// `?versionId=`.
    pub version: Option<String>,
    /// `If-…`.
    pub conditions: ReadConditions,
    /// A `Range` that counts.
    pub range: Option<AskedRange>,
    /// `?partNumber=`.
    pub part: Option<u32>,
    /// The key of an object of SSE-C.
    pub customer_key: Option<CustomerKey>,
}

/// The answer.
pub struct GetReply {
    /// What HeadObject says.
    pub head: ObjectHead,
    /// The bytes of `head.plan`.
    pub content: Content,
}

/// Answers with bytes.
pub async fn get_object(
    ctx: &OpContext,
    who: &Principal,
    request: GetObject,
) -> Result<GetReply, OpError> {
    while_replaced(|| read(ctx, who, &request)).await
}

async fn read(ctx: &OpContext, who: &Principal, request: &GetObject) -> Result<GetReply, OpError> {
    let (version, head) = find(ctx, who, request).await?;
    let content = encryption::fetch(
        ctx,
        &request.bucket.name,
        &version,
        &head.record,
        request.customer_key.as_ref(),
        head.plan.range.clone(),
    )
    .await?;
    Ok(GetReply { head, content })
}
