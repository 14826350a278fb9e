//! Compression of a bucket: what it is set to, what that means for a write, and reading what was compressed.
//!
//! Always true:
//! * a read does not care how the bucket is set now: the records say how their bytes are;
//! * lengths and places that a table claims are believed only within the content, and never more than a table and a
//!   block are held.

use std::ops::Range;

use crate::auth::permit::Action;
use crate::auth::principal::Principal;
use crate::object::bucket_settings::BucketSettings;
use crate::object::compression::{Codec, Stretch, Tables};
use crate::object::encryption::keys::CustomerKey;
use crate::object::encryption::pieces;
use crate::object::record::{ObjectRecord, PartRecord};
use crate::ops::bucket_settings::{change_settings, settings_of};
use crate::ops::{OpContext, OpError, encryption};
use crate::store::{Bucket, Content, KvError, Version};
use crate::tenancy::bucket::{self, BucketRef};

/// With what new objects of a bucket are compressed.
pub async fn get_bucket_compression(
    ctx: &OpContext,
    who: &Principal,
    asked: &BucketRef,
) -> Result<Option<Codec>, OpError> {
    let bucket = bucket::find(ctx, who, Action::GetBucketSettings, asked).await?;
    Ok(settings_of(&bucket)?.compression)
}

/// Sets it; what is there stays as it is.
pub async fn put_bucket_compression(
    ctx: &OpContext,
    who: &Principal,
    asked: &BucketRef,
    codec: Option<Codec>,
) -> Result<(), OpError> {
    let bucket = bucket::find(ctx, who, Action::PutBucketCompression, asked).await?;
    change_settings(ctx, &bucket, |settings| settings.compression = codec).await
}

/// What a write to a bucket is compressed with.
pub(super) fn codec(bucket: &Bucket) -> Result<Option<Codec>, OpError> {
    BucketSettings::compression_of(&bucket.settings).map_err(|error| OpError::Damaged {
        object: format!("the settings of bucket {}", bucket.name),
        what: error.to_string(),
    })
}

/// How the bytes of a compressed version lie: packed, and then perhaps sealed.
struct Layout {
    packed: Vec<Stretch>,
    sealed: Vec<pieces::Stretch>,
}

impl Layout {
    fn add(&mut self, stretch: Stretch, part: Option<(u32, encryption::Salt)>) {
        self.packed.push(stretch);
        self.sealed.push(pieces::Stretch {
            part,
            plain: stretch.packed,
        });
    }
}

async fn layout(
    ctx: &OpContext,
    version: &Version,
    record: &ObjectRecord,
    failed: impl Fn(KvError) -> OpError,
) -> Result<Layout, OpError> {
    let mut layout = Layout {
        packed: Vec::new(),
        sealed: Vec::new(),
    };
    let damaged = |what: String| failed(KvError::Damaged(what));
    if version.parts == 0 {
        let compression = record.compression;
        let packed = match record.encryption {
            Some(_) => pieces::plain_len(version.new.size),
            None => version.new.size,
        };
        let stretch = Stretch {
            codec: compression.and_then(|compression| compression.codec),
            plain: record.size(version.new.size),
            packed,
        };
        layout.add(stretch, None);
        return Ok(layout);
    }
    let parts = ctx.store().kv().version_parts(version).await;
    for part in parts.map_err(&failed)? {
        let record = PartRecord::decode(&part.meta).map_err(|error| damaged(error.to_string()))?;
        let stretch = Stretch {
            codec: record.compression.and_then(|compression| compression.codec),
            plain: record.size(part.size),
            packed: record.unsealed(part.size),
        };
        layout.add(stretch, record.salt.map(|salt| (part.number, salt)));
    }
    Ok(layout)
}

/// The plain bytes `range` of a compressed version whose key was checked.
pub(super) async fn fetch(
    ctx: &OpContext,
    bucket: &str,
    version: &Version,
    record: &ObjectRecord,
    customer: Option<&CustomerKey>,
    range: Range<u64>,
) -> Result<Content, OpError> {
    let len = range.end - range.start;
    let name = String::from_utf8_lossy(&version.key);
    let failed = |error| OpError::reading(error, bucket, &name);
    let damaged = |what: String| failed(KvError::Damaged(format!("{name}: {what}")));
    if len == 0 {
        return ctx.store().fetch(version, 0..0).await.map_err(failed);
    }
    let Layout { packed, sealed } = layout(ctx, version, record, failed).await?;
    let whole: u64 = packed.iter().map(|stretch| stretch.packed).sum();
    let data_key = match &record.encryption {
        None => None,
        Some(encryption) => {
            let bucket = version.bucket.0;
            Some(encryption::unwrap(
                ctx,
                encryption,
                bucket,
                &version.key,
                customer,
            )?)
        }
    };
    let read = async |range: Range<u64>| {
        if range.start >= range.end || range.end > whole {
            return Err(damaged(
                "its compressed content is shorter than its record says".to_owned(),
            ));
        }
        let store = ctx.store();
        let content = match &data_key {
            None => store.fetch(version, range).await,
            Some(key) => {
                store
                    .fetch_sealed(version, key.clone(), sealed.clone(), range)
                    .await
            }
        };
        content.map_err(failed)
    };
    let tables = Tables::new(packed, &range);
    let mut tables =
        tables.ok_or_else(|| damaged("its lengths contradict each other".to_owned()))?;
    for (number, needed) in tables.needed() {
        let entries = read(needed).await?.collect().await.map_err(failed)?;
        let learned = tables.learn(number, &entries);
        learned.map_err(|cause| damaged(cause.to_string()))?;
    }
    let (needed, unpacker) = tables.unpacker();
    let content = read(needed).await?;
    content.unpacked(unpacker, len, &name).await.map_err(failed)
}
