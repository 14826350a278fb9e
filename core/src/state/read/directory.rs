//! The directory, group 0.

use bytes::Bytes;
use minikv_proto::row;

use super::{row, rows, sound};
use crate::engine::{EngineError, View};
use crate::ids::{BucketId, GroupId, TenantId};
use crate::kv::Bucket;
use crate::state::answer::bucket_of_row;
use crate::state::intent::TxnRef;
use crate::state::keys::{self, KeyRange};

/// The cluster; `None` before it was founded.
pub fn cluster(view: &dyn View) -> Result<Option<row::Cluster>, EngineError> {
    row(view, &keys::cluster())
}

/// A bucket by its name.
pub fn bucket_by_name(view: &dyn View, name: &str) -> Result<Option<Bucket>, EngineError> {
    let key = keys::directory_bucket(name);
    let Some(found) = row::<row::DirectoryBucket>(view, &key)? else {
        return Ok(None);
    };
    sound(&key, bucket_of_row(found)).map(Some)
}

/// A bucket by its id.
pub fn bucket_by_id(view: &dyn View, id: BucketId) -> Result<Option<Bucket>, EngineError> {
    let Some(name) = row::<row::BucketName>(view, &keys::bucket_name(id))? else {
        return Ok(None);
    };
    bucket_by_name(view, &name.name)
}

/// The facts of a bucket as the directory has them, for `SetFacts`.
pub fn facts_to_push(view: &dyn View, id: BucketId) -> Result<Option<row::Facts>, EngineError> {
    let Some(name) = row::<row::BucketName>(view, &keys::bucket_name(id))? else {
        return Ok(None);
    };
    let Some(found) = row::<row::DirectoryBucket>(view, &keys::directory_bucket(&name.name))?
    else {
        return Ok(None);
    };
    Ok(Some(row::Facts {
        bucket: found.id,
        tenant: found.tenant,
        epoch: found.epoch,
        gone: false,
        versioning: found.versioning,
        lock: found.lock,
        retention: found.retention,
    }))
}

/// Buckets by name, after `after`.
pub fn buckets<'a>(
    view: &'a dyn View,
    after: &str,
) -> impl Iterator<Item = Result<Bucket, EngineError>> + 'a {
    let from = keys::just_after(&keys::directory_bucket(after));
    let range = KeyRange {
        from,
        to: keys::directory_buckets().to,
    };
    rows(view, range, |_, bucket| bucket_of_row(bucket).ok())
}

/// The transaction that is about to delete a bucket.
pub fn closing(view: &dyn View, name: &str) -> Result<Option<TxnRef>, EngineError> {
    let key = keys::directory_bucket(name);
    let found: Option<row::DirectoryBucket> = row(view, &key)?;
    let txn = found.and_then(|bucket| bucket.closing);
    sound(&key, txn.as_ref().map(TxnRef::of_row).transpose())
}

/// Changes of facts that some groups have not confirmed: bucket, epoch, groups that did.
pub fn pushes(view: &dyn View) -> Result<Vec<(BucketId, u64, Vec<GroupId>)>, EngineError> {
    let push = |key: &Bytes, push: row::Push| {
        let confirmed = push
            .confirmed
            .iter()
            .map(|&group| GroupId(group as u16))
            .collect();
        Some((keys::parse_push(key)?, push.epoch, confirmed))
    };
    rows(view, keys::pushes(), push).collect()
}

/// A credential by its access key.
pub fn credential(
    view: &dyn View,
    access_key: &str,
) -> Result<Option<row::Credential>, EngineError> {
    row(view, &keys::credential(access_key))
}

/// All credentials, with their access keys.
pub fn credentials(view: &dyn View) -> Result<Vec<(String, row::Credential)>, EngineError> {
    rows(view, keys::credentials(), |key, credential| {
        Some((keys::parse_credential(key)?.to_owned(), credential))
    })
    .collect()
}

/// A tenant's record.
pub fn tenant(view: &dyn View, id: TenantId) -> Result<Option<row::DirectoryTenant>, EngineError> {
    row(view, &keys::directory_tenant(id))
}

/// All tenants.
pub fn tenants(view: &dyn View) -> Result<Vec<row::DirectoryTenant>, EngineError> {
    rows(view, keys::directory_tenants(), |_, tenant| Some(tenant)).collect()
}

/// A row of one of the gateway's tables.
pub fn opaque(view: &dyn View, table: u8, key: &[u8]) -> Result<Option<row::Opaque>, EngineError> {
    row(view, &keys::opaque(table, key))
}

/// All nodes.
pub fn nodes(view: &dyn View) -> Result<Vec<row::Node>, EngineError> {
    rows(view, keys::nodes(), |_, node| Some(node)).collect()
}

/// The nodes of a group.
pub fn placement(view: &dyn View, group: GroupId) -> Result<Option<row::Placement>, EngineError> {
    row(view, &keys::placement(group))
}

/// The nodes of all groups.
pub fn placements(view: &dyn View) -> Result<Vec<(GroupId, row::Placement)>, EngineError> {
    rows(view, keys::placements(), |key, placement| {
        Some((keys::parse_placement(key)?, placement))
    })
    .collect()
}

/// The groups of all vshards, in the order of vshards.
pub fn vshard_homes(view: &dyn View) -> Result<Vec<row::VshardHome>, EngineError> {
    rows(view, keys::vshard_homes(), |_, home| Some(home)).collect()
}
