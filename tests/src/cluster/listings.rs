//! A client that lists, page by page, and what each page tells of each key.
//!
//! A page shows every key in its range as it was at some moment between the page's request and its answer (DESIGN 1): so each
//! line, and each line that is not there, is a read of its key within that time. A rolled-up prefix says that one of its keys
//! was there, not which: of those nothing is concluded; without the prefix none was.

use std::collections::BTreeSet;

use bytes::Bytes;
use minikv_core::kv::{ListItem, ListPage, ListRequest};

use super::clients::{Clients, Ended, content};
use super::history::{Told, Value, What};
use super::trace::now;
use crate::dice::Dice;

/// Beginnings of keys that others write: `quitters`, `invariants::progress`.
const STRANGERS: [&str; 2] = ["left-", "probe-"];

/// A listing under way.
struct Listing {
    request: ListRequest,
    /// Prefixes that were rolled up so far.
    rolled: BTreeSet<Bytes>,
    /// The last name that was told.
    last: Bytes,
}

impl Clients {
    /// Lists all, what begins with a prefix, or rolled up.
    pub(super) async fn list(&self, client: u64, node: u64, dice: &mut Dice) -> bool {
        let (prefix, delimiter) = match dice.below(10) {
            0..5 => ("", ""),
            5..7 => ("key-", ""),
            7..8 => ("pair-1", ""),
            _ => ("", "-"),
        };
        let mut listing = Listing {
            request: ListRequest {
                prefix: Bytes::from_static(prefix.as_bytes()),
                delimiter: Bytes::from_static(delimiter.as_bytes()),
                max: 5,
                ..ListRequest::default()
            },
            rolled: BTreeSet::new(),
            last: Bytes::new(),
        };
        let mut lines = 0;
        let said = loop {
            let (called, request) = (now(), listing.request.clone());
            let ended = self.ask(
                node,
                |kv, bucket| async move { kv.list(&bucket, request).await },
            );
            let page = match ended.await {
                Ended::Answered(Ok(page)) => page,
                Ended::Answered(Err(error)) => break error.to_string(),
                Ended::Nobody(why) => break why.to_owned(),
            };
            lines += page.items.len();
            self.page(client, node, called, &mut listing, &page);
            match page.resume {
                Some(point) if page.truncated => listing.request.after = point.after,
                _ => {
                    self.trace.say(format!(
                        "client {client} at node {node}: List({prefix:?}, {delimiter:?}): {lines} lines"
                    ));
                    return true;
                }
            }
        };
        self.trace.say(format!(
            "client {client} at node {node}: List({prefix:?}, {delimiter:?}): {said}"
        ));
        false
    }

    /// Writes down what a page says of each key.
    fn page(&self, client: u64, node: u64, called: u64, listing: &mut Listing, page: &ListPage) {
        let wrong = |what: String| {
            let what = format!("client {client} at node {node}: a listing {what}");
            self.wrong.lock().push(what);
        };
        let mut found: Vec<(&Bytes, Value)> = Vec::new();
        for item in &page.items {
            let name = match item {
                ListItem::Prefix(prefix) => {
                    listing.rolled.insert(prefix.clone());
                    prefix
                }
                ListItem::Version(version) => {
                    let value = version.new.etag.parse().unwrap_or(0);
                    let is_mine = self
                        .all_keys()
                        .into_iter()
                        .any(|key| Self::name(key) == version.key);
                    let is_known = STRANGERS
                        .iter()
                        .any(|of| version.key.starts_with(of.as_bytes()));
                    if !is_mine && !is_known {
                        wrong(format!("has {:?}, which nobody wrote", version.key));
                    }
                    if is_mine && version.new.size != content(value).len() as u64 {
                        wrong(format!("says {} bytes of value {value}", version.new.size));
                    }
                    found.push((&version.key, value));
                    &version.key
                }
            };
            if *name <= listing.last {
                wrong(format!(
                    "is not in order, or names something twice: {name:?}"
                ));
            }
            if !name.starts_with(&listing.request.prefix) {
                wrong(format!("by {:?} has {name:?}", listing.request.prefix));
            }
            listing.last = name.clone();
        }
        let until = page.resume.as_ref().filter(|_| page.truncated);
        for key in self.all_keys() {
            let name = Self::name(key);
            let is_told = name.starts_with(&listing.request.prefix)
                && name > listing.request.after
                && until.is_none_or(|point| name <= point.after)
                && !listing.rolled.iter().any(|prefix| name.starts_with(prefix));
            if is_told {
                let value = found.iter().find(|(of, _)| **of == name);
                let told = Told::Found(value.map(|(_, value)| *value));
                self.history.told(client, key, What::Read, called, told);
            }
        }
    }
}
