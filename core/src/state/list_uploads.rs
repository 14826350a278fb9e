//! Listing the open uploads of a bucket, by key and then by age.

use bytes::Bytes;
use minikv_proto::row;

use crate::engine::{EngineError, RowIter, View};
use crate::ids::{BucketId, UploadId, VShard};
use crate::kv::{Upload, UploadsItem, UploadsPage, UploadsRequest};
use crate::state::keys::{self, KeyRange};
use crate::state::ledger::{damaged, decode};
use crate::state::list::{Halt, Line, RollUp, Source, Step, merge};

/// One page of a bucket's open uploads over these vshards of the group.
pub fn page(
    view: &dyn View,
    vshards: &[VShard],
    bucket: BucketId,
    request: &UploadsRequest,
) -> Result<UploadsPage, EngineError> {
    let roll_up = RollUp {
        prefix: &request.prefix,
        delimiter: &request.delimiter,
        after: &request.after,
    };
    let mut sources: Vec<Uploads> = vshards
        .iter()
        .filter_map(|&vshard| Uploads::begin(view, vshard, bucket, request, &roll_up))
        .collect();
    let lines = match merge(&mut sources, &roll_up, request.max.clamp(1, 1000) as usize) {
        Ok(lines) => lines,
        Err(Halt::Engine(error)) => return Err(error),
        Err(Halt::Ask(_)) => return Err(damaged(b"", "uploads know no transactions")),
    };
    let items = lines.lines.into_iter().map(|line| match line {
        Line::Item(upload) => UploadsItem::Upload(upload),
        Line::Prefix(prefix) => UploadsItem::Prefix(prefix),
    });
    Ok(UploadsPage {
        items: items.collect(),
        truncated: lines.truncated,
    })
}

struct Uploads<'a> {
    view: &'a dyn View,
    vshard: VShard,
    bucket: BucketId,
    rows: RowIter<'a>,
    end: Bytes,
}

impl<'a> Uploads<'a> {
    fn begin(
        view: &'a dyn View,
        vshard: VShard,
        bucket: BucketId,
        request: &UploadsRequest,
        roll_up: &RollUp,
    ) -> Option<Uploads<'a>> {
        let KeyRange { mut from, to } = keys::open_uploads(vshard, bucket, &request.prefix);
        let after = &request.after;
        if !after.is_empty() {
            let past = if let Some(prefix) = roll_up.of(after) {
                keys::open_uploads(vshard, bucket, prefix).to
            } else if let Some(name) = request.after_upload.and_then(UploadId::open) {
                keys::just_after(&keys::open_upload(vshard, bucket, after, &name))
            } else {
                keys::open_uploads_of_key(vshard, bucket, after).to
            };
            from = from.max(past);
        }
        (from < to).then(|| Uploads {
            view,
            vshard,
            bucket,
            rows: view.scan(&from, &to),
            end: to,
        })
    }
}

impl Source for Uploads<'_> {
    type Item = Upload;

    fn next(&mut self, work: &mut u32) -> Result<Step<Upload>, Halt> {
        let Some(found) = self.rows.next() else {
            return Ok(Step::End);
        };
        let (row_key, row) = found?;
        *work += 1;
        let parsed = keys::parse_open_upload(&row_key);
        let (_, key, name) = parsed.ok_or_else(|| damaged(&row_key, "key of an upload"))?;
        let open: row::OpenUpload = decode(&row_key, row)?;
        let id = UploadId::of_name(name);
        Ok(Step::Item(
            key.clone(),
            Upload {
                key,
                id,
                created_ms: open.created_ms,
                meta: open.meta,
            },
        ))
    }

    fn skip_past(&mut self, prefix: &[u8]) {
        let past = keys::open_uploads(self.vshard, self.bucket, prefix).to;
        self.rows = self.view.scan(&past, &self.end);
    }
}
