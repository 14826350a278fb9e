//! Uploads and parts.

use bytes::Bytes;
use minikv_proto::row;

use super::{row, rows, sound};
use crate::engine::{EngineError, View};
use crate::ids::{BucketId, UploadId, VShard};
use crate::kv::{Part, Parts, Upload};
use crate::state::keys::{self, KeyRange};
use crate::state::ledger::{damaged, decode};
use crate::state::record::Content;

/// An upload, open or completed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UploadState {
    /// As listings show it; without metadata once it is completed.
    pub upload: Upload,
    /// Raised by every part.
    pub counter: u64,
    /// It was completed: Complete answers the same again.
    pub is_completed: bool,
}

/// An upload of a key, if it is there and was not aborted.
pub fn upload(
    view: &dyn View,
    bucket: BucketId,
    key: &Bytes,
    id: UploadId,
) -> Result<Option<UploadState>, EngineError> {
    let vshard = VShard::of(bucket, key);
    let Some(name) = id.open() else {
        return Ok(None);
    };
    let Some(found) = row::<row::Upload>(view, &keys::upload(vshard, &name))? else {
        return Ok(None);
    };
    if found.freed || found.bucket != bucket.0 || found.key != *key {
        return Ok(None);
    }
    let is_completed = found.completed.is_some();
    let open_key = keys::open_upload(vshard, bucket, key, &name);
    let open: row::OpenUpload = match row(view, &open_key)? {
        Some(open) => open,
        None if is_completed => row::OpenUpload::default(),
        None => return Err(damaged(&open_key, "an open upload is not listed")),
    };
    let upload = Upload {
        key: key.clone(),
        id,
        created_ms: open.created_ms,
        meta: open.meta,
    };
    Ok(Some(UploadState {
        upload,
        counter: found.counter,
        is_completed,
    }))
}

/// At most `max` parts of an upload with numbers above `after`.
pub fn parts(
    view: &dyn View,
    bucket: BucketId,
    key: &Bytes,
    id: UploadId,
    after: u32,
    max: usize,
) -> Result<Option<Parts>, EngineError> {
    let Some(state) = upload(view, bucket, key, id)? else {
        return Ok(None);
    };
    let vshard = VShard::of(bucket, key);
    let name = id.open().unwrap_or_default();
    let mut found = Parts {
        counter: state.counter,
        ..Parts::default()
    };
    let Ok(from) = u16::try_from(after.saturating_add(1)) else {
        return Ok(Some(found));
    };
    let range = KeyRange {
        from: keys::part(vshard, &name, from),
        to: keys::parts(vshard, &name).to,
    };
    let part = |key: &Bytes, part: row::Part| {
        Some(Part {
            number: u32::from(keys::parse_part(key)?.1),
            etag: part.etag,
            size: part.size,
            modified_ms: part.modified_ms,
            meta: part.meta,
        })
    };
    for part in rows(view, range, part) {
        if found.parts.len() == max {
            found.truncated = true;
            break;
        }
        found.parts.push(part?);
    }
    Ok(Some(found))
}

/// The open uploads of a vshard: name and time of creation.
pub fn open_uploads(
    view: &dyn View,
    vshard: VShard,
) -> Result<Vec<(keys::UploadName, u64)>, EngineError> {
    let range = keys::all_open_uploads(vshard);
    rows(view, range, |key, open: row::OpenUpload| {
        Some((keys::parse_open_upload(key)?.2, open.created_ms))
    })
    .collect()
}

/// The bytes of one part.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartContent {
    /// Its number.
    pub number: u32,
    /// Where its bytes begin in the object.
    pub offset: u64,
    /// Its length.
    pub size: u64,
    /// Where they are.
    pub content: Content,
}

/// The parts of a completed upload that hold bytes `range` of its object, in order.
pub fn part_contents(
    view: &dyn View,
    vshard: VShard,
    id: UploadId,
    listed: &[(u32, u32)],
    range: &std::ops::Range<u64>,
) -> Result<Vec<PartContent>, EngineError> {
    let mut found = Vec::new();
    let mut offset = 0;
    each_listed(view, vshard, id, listed, |key, number, part| {
        let end = offset + part.size;
        if offset < range.end && range.start < end {
            let content = sound(key, Content::of_row(part.content.as_ref()))?;
            found.push(PartContent {
                number,
                offset,
                size: part.size,
                content,
            });
        }
        offset = end;
        Ok(offset < range.end)
    })?;
    Ok(found)
}

/// All parts of a completed upload that its object has, in order.
pub fn parts_of_version(
    view: &dyn View,
    vshard: VShard,
    id: UploadId,
    listed: &[(u32, u32)],
) -> Result<Vec<Part>, EngineError> {
    let mut found = Vec::new();
    each_listed(view, vshard, id, listed, |_, number, part| {
        found.push(Part {
            number,
            etag: part.etag,
            size: part.size,
            modified_ms: part.modified_ms,
            meta: part.meta,
        });
        Ok(true)
    })?;
    Ok(found)
}

/// Visits the rows of listed parts, until `visit` says that it has seen enough. One that is missing is damage. One scan,
/// however many parts between them are not listed: those go soon, and who asks from elsewhere asks for each scan.
fn each_listed(
    view: &dyn View,
    vshard: VShard,
    id: UploadId,
    listed: &[(u32, u32)],
    mut visit: impl FnMut(&Bytes, u32, row::Part) -> Result<bool, EngineError>,
) -> Result<(), EngineError> {
    let name = id.open().ok_or_else(|| damaged(b"", "id of an upload"))?;
    let (Some(&(first, _)), Some(&(_, last))) = (listed.first(), listed.last()) else {
        return Ok(());
    };
    let key_of = |number: u32| {
        let number = u16::try_from(number).map_err(|_| damaged(b"", "number of a part"))?;
        Ok::<_, EngineError>(keys::part(vshard, &name, number))
    };
    let (from, to) = (key_of(first)?, keys::just_after(&key_of(last)?));
    let mut wanted = listed.iter().flat_map(|&(first, last)| first..=last);
    let mut next = wanted.next();
    for row in view.scan(&from, &to) {
        let (key, row) = row?;
        let (_, number) = keys::parse_part(&key).ok_or_else(|| damaged(&key, "key of a part"))?;
        let number = u32::from(number);
        match next {
            Some(next) if number < next => continue,
            Some(next) if number == next => {}
            _ => return Err(damaged(&key, "a part before this one is missing")),
        }
        next = wanted.next();
        if !visit(&key, number, decode(&key, row)?)? {
            return Ok(());
        }
    }
    match next {
        Some(_) => Err(damaged(&from, "a listed part is missing")),
        None => Ok(()),
    }
}
