//! GetObject: an object's bytes, or a range or part of them.

use crate::auth::principal::Principal;
use crate::object::conditions::ReadConditions;
use crate::object::get_plan::AskedRange;
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
    let content = ctx.store().fetch(&version, head.plan.range.clone()).await;
    let content =
        content.map_err(|error| OpError::reading(error, &request.bucket.name, &request.key))?;
    Ok(GetReply { head, content })
}
