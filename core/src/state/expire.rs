//! What a bucket's lifecycle rules say is due goes away, if it still is what the leader saw.
//!
//! ```text
//!   newest       as a delete of the key: away, or hidden behind a marker
//!   noncurrent   away for good
//!   lone marker  away for good
//!   upload       aborted
//! ```
//! Always true:
//! * a write that came first wins: another newest version, other tags, a version that rose, parts that became an object
//!   are left alone;
//! * planned with facts that have changed since (the rules among them), nothing happens;
//! * applied twice it is applied once: the second one finds another version there, or none.
//!
//! Elsewhere: what is due (`kv::lifecycle`), who looks for it (`group::lifecycle`).

use minikv_proto::entry::{self as wire, expire::What};
use minikv_proto::row;

use crate::ids::VersionId;
use crate::kv::Deleted;
use crate::state::answer::Done;
use crate::state::applying::{Applying, Place, Stop};
use crate::state::entry::crc64;
use crate::state::keys::{self, KeyRange};
use crate::state::ledger::decode;
use crate::state::record::{Malformed, upload_name};

/// Rows that are looked at to count newer versions; with more markers among them than this leaves room for, the version
/// stays.
const NEWER_ROWS: usize = 600;

impl Applying<'_> {
    pub fn expire(&mut self, expire: &wire::Expire) -> Result<Done, Stop> {
        let place = self.place(expire.target.as_ref())?;
        let what = expire.what.as_ref().ok_or(Malformed("nothing to expire"))?;
        let deleted = match what {
            What::Newest(seq) => self.expire_newest(&place, *seq, expire.tags_crc64)?,
            What::Noncurrent(seq) => self.expire_noncurrent(&place, *seq, expire)?,
            What::LoneMarker(seq) => self.expire_lone_marker(&place, *seq)?,
            What::Upload(name) => self.expire_upload(&place, name)?,
        };
        Ok(Done::Deleted(deleted))
    }

    fn expire_newest(&mut self, place: &Place, seq: u64, tags: u64) -> Result<Deleted, Stop> {
        let current = self.current(place)?;
        let is_it = |v: &row::Version| v.seq == seq && !v.delete_marker && crc64(&v.tags) == tags;
        if !current.version.as_ref().is_some_and(is_it) {
            return Ok(Deleted::default());
        }
        let marker = self.delete_key(place, current)?;
        Ok(Deleted {
            marker: marker
                .as_ref()
                .map(|marker| VersionId::seal(place.vshard, marker.seq)),
            marker_is_null: marker.is_some_and(|marker| marker.null),
            removed_marker: false,
            existed: true,
        })
    }

    fn expire_noncurrent(
        &mut self,
        place: &Place,
        seq: u64,
        expire: &wire::Expire,
    ) -> Result<Deleted, Stop> {
        let current = self.current(place)?;
        let key = keys::older(place.vshard, place.bucket, &place.key, seq);
        let Some(gone) = self.ledger.row::<row::Version>(&key)? else {
            return Ok(Deleted::default());
        };
        if crc64(&gone.tags) != expire.tags_crc64 || !self.has_newer(place, seq, expire.newer)? {
            return Ok(Deleted::default());
        }
        let deleted = Deleted {
            removed_marker: gone.delete_marker,
            existed: true,
            ..Deleted::default()
        };
        self.remove(place, current, gone)?;
        Ok(deleted)
    }

    /// Whether so many versions with content lie between this one and the newest.
    fn has_newer(&mut self, place: &Place, seq: u64, wanted: u32) -> Result<bool, Stop> {
        if wanted == 0 {
            return Ok(true);
        }
        let between = KeyRange {
            from: keys::olders_of_key(place.vshard, place.bucket, &place.key).from,
            to: keys::older(place.vshard, place.bucket, &place.key, seq),
        };
        let mut found = 0;
        for (key, row) in self.ledger.scan(&between, NEWER_ROWS)? {
            let version: row::Version = decode(&key, row)?;
            found += u32::from(!version.delete_marker);
        }
        Ok(found >= wanted)
    }

    fn expire_lone_marker(&mut self, place: &Place, seq: u64) -> Result<Deleted, Stop> {
        let current = self.current(place)?;
        let is_it = |v: &&row::Version| v.seq == seq && v.delete_marker;
        let Some(marker) = current.version.as_ref().filter(is_it).cloned() else {
            return Ok(Deleted::default());
        };
        let under = keys::olders_of_key(place.vshard, place.bucket, &place.key);
        if !self.ledger.scan(&under, 1)?.is_empty() {
            return Ok(Deleted::default());
        }
        self.remove(place, current, marker)?;
        Ok(Deleted {
            removed_marker: true,
            existed: true,
            ..Deleted::default()
        })
    }

    fn expire_upload(&mut self, place: &Place, name: &[u8]) -> Result<Deleted, Stop> {
        let name = upload_name(name)?;
        let upload: Option<row::Upload> = self.ledger.row(&keys::upload(place.vshard, &name))?;
        let is_open = |u: &&row::Upload| {
            u.bucket == place.bucket.0 && u.key == place.key && !u.freed && u.completed.is_none()
        };
        let Some(upload) = upload.as_ref().filter(is_open) else {
            return Ok(Deleted::default());
        };
        self.end_upload(place.vshard, &name, upload)?;
        Ok(Deleted {
            existed: true,
            ..Deleted::default()
        })
    }
}
