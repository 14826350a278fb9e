//! What a bucket is charged for is what lies in it, and at rest nothing is held for writes to come.

use bytes::Bytes;
use minikv_core::kv::{Bucket, Kv, KvError, ListItem, ListRequest, VersionId};

/// Compares the count with a walk through the bucket, versions and markers too.
pub async fn check(kv: &Kv, bucket: &Bucket) -> Result<Vec<String>, KvError> {
    let mut there = (0, 0, 0, 0);
    let mut after: (Bytes, Option<VersionId>) = (Bytes::new(), None);
    loop {
        let request = ListRequest {
            after: after.0,
            after_version: after.1,
            max: 100,
            versions: true,
            ..ListRequest::default()
        };
        let page = kv.list(bucket, request).await?;
        for item in page.items {
            let ListItem::Version(version) = item else {
                continue;
            };
            match version.is_delete_marker {
                true => there.3 += 1,
                false => {
                    there.0 += u64::from(version.is_latest);
                    there.1 += version.new.size;
                    there.2 += 1;
                }
            }
        }
        match page.resume {
            Some(point) if page.truncated => after = (point.after, point.after_version),
            _ => break,
        }
    }
    let usage = kv.usage(bucket).await?;
    let counted = (usage.objects, usage.bytes, usage.versions, usage.markers);
    let (name, mut wrong) = (&bucket.name, Vec::new());
    if counted != there {
        wrong.push(format!(
            "usage of {name} says {counted:?} objects, bytes, versions and markers, there are {there:?}"
        ));
    }
    let held = (usage.uploads, usage.reserved, usage.reserved_versions);
    if held != (0, 0, 0) {
        wrong.push(format!(
            "{name}: {held:?} uploads, bytes and versions are held for what is over"
        ));
    }
    Ok(wrong)
}
