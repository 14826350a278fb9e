//! A new version of a key: the whole of a small PUT, the last step of a large one.

use minikv_proto::entry as wire;

use crate::state::answer::Done;
use crate::state::applying::{Applying, Stop, written};
use crate::state::conditions;
use crate::state::record::Malformed;

/// Longest metadata of a version or upload.
pub(super) const MAX_META: usize = 16 << 10;
/// Longest tags of a version: ten of the longest that S3 allows.
pub(super) const MAX_TAGS: usize = 16 << 10;
/// Largest object or reservation, 64 TiB: sums of many of them still fit into 64 bits.
pub(super) const MAX_SIZE: u64 = 1 << 46;

impl Applying<'_> {
    pub fn put(&mut self, put: &wire::Put) -> Result<Done, Stop> {
        let place = self.place(put.target.as_ref())?;
        let current = self.current(&place)?;
        conditions::check(put.conditions.as_ref(), current.version.as_ref())?;
        let new = checked(put.version.as_ref())?;
        let mut version = self.next_version(&place, &current)?;
        version.content = self.take_content(&place, put.content.as_ref(), new.size, b"")?;
        self.describe(&place, &mut version, new, new.lock)?;
        let answer = Done::Written(written(&place, &version));
        self.install(&place, current, version)?;
        Ok(answer)
    }
}

/// What the gateway says of a version, within its limits.
pub(super) fn checked(version: Option<&wire::NewVersion>) -> Result<&wire::NewVersion, Malformed> {
    let version = version.ok_or(Malformed("no version"))?;
    let too_large = version.meta.len() > MAX_META
        || version.tags.len() > MAX_TAGS
        || version.etag.len() > 128
        || version.size > MAX_SIZE;
    if too_large {
        return Err(Malformed("version too large"));
    }
    Ok(version)
}

/// Copies what the gateway says into a version.
pub(super) fn describe(version: &mut minikv_proto::row::Version, new: &wire::NewVersion) {
    version.etag = new.etag.clone();
    version.size = new.size;
    version.meta = new.meta.clone();
    version.tags = new.tags.clone();
}
