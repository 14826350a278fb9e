//! How versions come by their bytes and let go of them.
//!
//! Inline bytes stay in the log record of their entry and are dropped with their last name. Chunks and whole uploads go
//! to the free list first: somebody may be reading them. Several versions of a vshard may name the same bytes; then all
//! of them say `shared` and the share row counts them.
//!
//! Always true:
//! * bytes that some row names are never dropped;
//! * bytes whose last name goes are dropped or on the free list in the same entry.

use bytes::Bytes;
use minikv_proto::row::content::Kind;
use minikv_proto::{entry as wire, row};

use crate::ids::{StageId, VShard};
use crate::state::apply::Dropped;
use crate::state::applying::{Applying, Place, Stop, unsupported};
use crate::state::keys;
use crate::state::ledger::damaged;
use crate::state::record::{self, Malformed};

impl Applying<'_> {
    /// The content that an entry brings for a version or part of `size` bytes at `place`. Ends the stage it claims.
    pub fn take_content(
        &mut self,
        place: &Place,
        content: Option<&wire::NewContent>,
        size: u64,
        upload: &[u8],
    ) -> Result<Option<row::Content>, Stop> {
        use wire::new_content::Kind;
        match content.and_then(|content| content.kind.as_ref()) {
            None if size == 0 => Ok(None),
            None => Err(unsupported("a size without bytes")),
            Some(Kind::Inline(inline)) => self.keep_inline(inline, size).map(Some),
            Some(Kind::Staged(staged)) => self.claim(place, staged, size, upload).map(Some),
        }
    }

    /// Bytes of this entry's payload.
    pub fn keep_inline(&mut self, inline: &wire::Inline, size: u64) -> Result<row::Content, Stop> {
        let end = u64::from(inline.offset) + u64::from(inline.len);
        if inline.len == 0 || u64::from(inline.len) != size || end > u64::from(self.payload_len()) {
            return Err(Malformed("piece of the payload").into());
        }
        self.payload_kept = true;
        let payload = self.payload();
        let piece = row::Payload {
            group: u32::from(payload.group.0),
            index: payload.index,
            term: payload.term,
            offset: inline.offset,
            len: inline.len,
            crc64: inline.crc64,
        };
        Ok(row::Content {
            kind: Some(Kind::Payload(piece)),
            shared: false,
        })
    }

    /// Several contents of this entry are pieces of its one payload: they are counted from their first moment.
    pub fn share_payload(&mut self, pieces: u32) -> Result<(), Stop> {
        if pieces > 1 {
            let key = keys::share_of_payload(self.payload());
            self.ledger
                .put_new_row(key, &row::Share { references: pieces })?;
        }
        Ok(())
    }

    /// One more version will name this content.
    pub fn share(&mut self, vshard: VShard, content: &mut row::Content) -> Result<(), Stop> {
        let Some(kind) = &content.kind else {
            return Ok(());
        };
        let key = share_key(vshard, kind)?;
        let share: Option<row::Share> = self.ledger.row(&key)?;
        let references = share.map_or(1, |share| share.references) + 1;
        self.ledger.put_row(key, &row::Share { references })?;
        content.shared = true;
        Ok(())
    }

    /// A version that named this content is gone.
    pub fn let_go(&mut self, vshard: VShard, content: Option<row::Content>) -> Result<(), Stop> {
        let Some(row::Content {
            kind: Some(kind),
            shared,
        }) = content
        else {
            return Ok(());
        };
        if shared && self.others_name(vshard, &kind)? {
            return Ok(());
        }
        match kind {
            Kind::Payload(piece) => {
                self.dropped
                    .push(Dropped::Payload(of_row(record::payload_of_row(&piece))?));
                Ok(())
            }
            Kind::Chunks(run) => self.free(Kind::Chunks(run)),
            Kind::Upload(upload) => self.free_upload(vshard, &upload.upload, false),
        }
    }

    /// A part's content is gone: inline or not, an object's reader may be on its way to it.
    pub fn let_go_of_part(&mut self, content: Option<row::Content>) -> Result<(), Stop> {
        match content.and_then(|content| content.kind) {
            Some(kind) => self.free(kind),
            None => Ok(()),
        }
    }

    /// Puts bytes on the free list.
    fn free(&mut self, kind: Kind) -> Result<(), Stop> {
        if let Kind::Chunks(run) = &kind {
            self.forget_short(of_row(StageId::of_row(run.stage.as_ref()))?)?;
        }
        let (index, ordinal) = self.next_free();
        let content = row::Content {
            kind: Some(kind),
            shared: false,
        };
        let item = row::Free {
            content: Some(content),
            freed_ms: self.now_ms,
        };
        Ok(self.ledger.put_new_row(keys::free(index, ordinal), &item)?)
    }

    /// Takes one name off the count; whether some are left.
    fn others_name(&mut self, vshard: VShard, kind: &Kind) -> Result<bool, Stop> {
        let key = share_key(vshard, kind)?;
        let Some(share) = self.ledger.row::<row::Share>(&key)? else {
            return Ok(false);
        };
        match share.references {
            0 | 1 => return Err(damaged(&key, "a share of fewer than two").into()),
            2 => self.ledger.delete(key)?,
            more => self.ledger.put_row(
                key,
                &row::Share {
                    references: more - 1,
                },
            )?,
        }
        Ok(true)
    }
}

fn share_key(vshard: VShard, kind: &Kind) -> Result<Bytes, Stop> {
    Ok(match kind {
        Kind::Payload(piece) => keys::share_of_payload(of_row(record::payload_of_row(piece))?),
        Kind::Chunks(run) => {
            keys::share_of_chunks(vshard, of_row(StageId::of_row(run.stage.as_ref()))?)
        }
        Kind::Upload(upload) => {
            keys::share_of_upload(vshard, &of_row(record::upload_name(&upload.upload))?)
        }
    })
}

/// What a row says must make sense.
pub(super) fn of_row<T>(parsed: Result<T, Malformed>) -> Result<T, Stop> {
    parsed.map_err(|malformed| damaged(b"", malformed.0).into())
}
