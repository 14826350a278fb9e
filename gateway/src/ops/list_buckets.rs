//! ListBuckets: those of the caller's tenant that are his to see, by name.

use crate::auth::permit::{Action, permit};
use crate::auth::principal::Principal;
use crate::object::token::Listing;
use crate::ops::{OpContext, OpError};
use crate::store::Bucket;

/// The call.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ListBuckets {
    /// Only names that start with this.
    pub prefix: String,
    /// Only buckets of this region.
    pub region: Option<String>,
    /// At most so many, 1 to 10000; all when not given.
    pub max: Option<i32>,
    /// From the page before.
    pub token: Option<String>,
}

/// The answer.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct BucketsPage {
    /// By name.
    pub buckets: Vec<Bucket>,
    /// For the next page.
    pub token: Option<String>,
}

const MAX: i32 = 10_000;

/// Lists them.
pub async fn list_buckets(
    ctx: &OpContext,
    who: &Principal,
    request: ListBuckets,
) -> Result<BucketsPage, OpError> {
    permit(who, Action::ListAllMyBuckets, who.tenant, &who.owner_id())?;
    let max = match request.max {
        None => usize::MAX,
        Some(max @ 1..=MAX) => max as usize,
        Some(_) => {
            return Err(OpError::argument(
                "max-buckets",
                format!("max-buckets must be between 1 and {MAX}"),
            ));
        }
    };
    let listing = Listing {
        purpose: "buckets",
        bucket: who.tenant.0,
        prefix: &request.prefix,
        delimiter: "",
    };
    let after = match &request.token {
        None => None,
        Some(token) => Some(ctx.tokens().open(listing, token).ok_or(OpError::Token)?),
    };
    if request
        .region
        .as_deref()
        .is_some_and(|region| region != crate::ops::REGION)
    {
        return Ok(BucketsPage::default());
    }
    let all = ctx
        .store()
        .kv()
        .buckets(who.tenant)
        .await
        .map_err(|error| OpError::kv(error, "", ""))?;
    let wanted = all.into_iter().filter(|bucket| {
        bucket.name.starts_with(&request.prefix)
            && permit(who, Action::ListBucket, bucket.tenant, &bucket.owner).is_ok()
            && after
                .as_ref()
                .is_none_or(|after| bucket.name.as_bytes() > after.as_slice())
    });
    let mut buckets: Vec<Bucket> = wanted.collect();
    let more = buckets.len() > max;
    buckets.truncate(max);
    let last = buckets.last().filter(|_| more);
    let token = last.map(|last| ctx.tokens().seal(listing, last.name.as_bytes()));
    Ok(BucketsPage { buckets, token })
}
