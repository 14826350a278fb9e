//! Listing a bucket: each group answers for its own vshards, and the pages are merged.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::{
    Bucket, Kv, KvError, ListPage, ListPoint, ListRequest, UploadsItem, UploadsPage, UploadsRequest,
};
use crate::engine::View;
use crate::group::Group;
use crate::ids::VShard;
use crate::state::list_merge::{Merge, Next, covers_all};
use crate::state::read::{self, Decided, Look};
use crate::state::{list_uploads, list_versions};
use crate::txn::driver;

/// A page whose groups did not answer for all vshards is read again so often: the map was changing.
const READS: usize = 8;
/// Asked of each group beyond its even share, in standard deviations of that share: nine in ten pages need one round.
const SLACK: f64 = 2.5;
/// Lines that a group elsewhere is asked for when prefixes are rolled up: each leap past a large one is a question there
/// (`group::elsewhere`), and a page must not need more of them than a read may ask.
const ROLLED_UP_ELSEWHERE: usize = 32;

impl Kv {
    /// One page of a bucket's keys or versions, in key order (versions of a key newest first).
    pub async fn list(&self, bucket: &Bucket, request: ListRequest) -> Result<ListPage, KvError> {
        for _ in 0..READS {
            if let Some(page) = self.list_once(bucket, &request).await? {
                return Ok(page);
            }
            self.router().reload().await?;
        }
        Err(KvError::Unavailable(
            "the map of vshards changes too fast".to_owned(),
        ))
    }

    async fn list_once(
        &self,
        bucket: &Bucket,
        request: &ListRequest,
    ) -> Result<Option<ListPage>, KvError> {
        let groups = self.router().data()?;
        let owned = self.owned(&groups).await?;
        if !covers_all(&owned) {
            return Ok(None);
        }
        let max = request.max.clamp(1, 1000) as usize;
        let from = ListPoint {
            after: request.after.clone(),
            after_version: request.after_version,
        };
        let mut merge = Merge::new(groups.len(), from, max, request.versions);
        let mut share = share_of(max, groups.len());
        loop {
            match merge.step() {
                Next::Page(page) => return Ok(Some(page)),
                Next::Ask(asks) => {
                    for (at, from) in asks {
                        let is_far = groups[at].elsewhere.is_some();
                        let most = match is_far && !request.delimiter.is_empty() {
                            true => ROLLED_UP_ELSEWHERE,
                            false => max + 1,
                        };
                        let ask = ListRequest {
                            after: from.after,
                            after_version: from.after_version,
                            max: share.min(most) as u32,
                            ..request.clone()
                        };
                        merge.feed(
                            at,
                            self.list_group(&groups[at], &owned[at], bucket, &ask)
                                .await?,
                        );
                    }
                    share = share_of(max - merge.told(), groups.len());
                }
            }
        }
    }

    async fn owned(&self, groups: &[Arc<Group>]) -> Result<Vec<Vec<VShard>>, KvError> {
        let mut owned = Vec::with_capacity(groups.len());
        for group in groups {
            let vshards = match crate::planted!("list-without-round") {
                true => group.glance(read::vshards).await?,
                false => group.ask(read::vshards).await?,
            };
            owned.push(vshards.iter().map(|owned| owned.vshard).collect());
        }
        Ok(owned)
    }

    async fn list_group(
        &self,
        group: &Group,
        vshards: &[VShard],
        bucket: &Bucket,
        request: &ListRequest,
    ) -> Result<ListPage, KvError> {
        let mut decided = Decided::new();
        loop {
            let look =
                |view: &dyn View| list_versions::page(view, vshards, bucket.id, request, &decided);
            let page = match crate::planted!("list-without-round") {
                true => group.glance(look).await?,
                false => group.ask(look).await?,
            };
            match page {
                Look::At(page) => return Ok(page),
                Look::Ask(txns) => driver::ask(self.router(), group, &txns, &mut decided).await?,
            }
        }
    }

    /// Open uploads of a bucket.
    pub async fn uploads(
        &self,
        bucket: &Bucket,
        request: UploadsRequest,
    ) -> Result<UploadsPage, KvError> {
        let groups = self.router().data()?;
        let owned = self.owned(&groups).await?;
        let mut pages = Vec::with_capacity(groups.len());
        for (group, vshards) in groups.iter().zip(&owned) {
            let page = group.ask(|view| list_uploads::page(view, vshards, bucket.id, &request));
            pages.push(page.await?);
        }
        Ok(merge_uploads(pages, request.max.clamp(1, 1000) as usize))
    }
}

/// How many lines a group is asked for when `max` are wanted of all. Keys are hashed over the groups, so their shares
/// spread as the root of the even share.
fn share_of(max: usize, groups: usize) -> usize {
    let even = max as f64 / groups as f64;
    (even + SLACK * even.sqrt()).ceil() as usize + 1
}

/// The first `max` lines of all pages. Ends early where a page that is not its group's last one ends: that group may
/// have something in between.
fn merge_uploads(pages: Vec<UploadsPage>, max: usize) -> UploadsPage {
    let name = |item: &UploadsItem| match item {
        UploadsItem::Upload(upload) => upload.key.clone(),
        UploadsItem::Prefix(prefix) => prefix.clone(),
    };
    let known_up_to: Option<Bytes> = pages
        .iter()
        .filter(|page| page.truncated)
        .filter_map(|page| page.items.last().map(name))
        .min();
    // All uploads of a key are in one group, in their order; a prefix may be in several.
    let mut lines: BTreeMap<Bytes, Vec<UploadsItem>> = BTreeMap::new();
    let mut truncated = known_up_to.is_some();
    for item in pages.into_iter().flat_map(|page| page.items) {
        let key = name(&item);
        if known_up_to.as_ref().is_some_and(|end| key > *end) {
            continue;
        }
        let line = lines.entry(key).or_default();
        let is_told = matches!(item, UploadsItem::Prefix(_)) && !line.is_empty();
        if !is_told {
            line.push(item);
        }
    }
    let mut items: Vec<UploadsItem> = lines.into_values().flatten().collect();
    if items.len() > max {
        items.truncate(max);
        truncated = true;
    }
    UploadsPage { items, truncated }
}
