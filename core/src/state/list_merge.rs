//! One page of a bucket out of the pages of several groups.
//!
//! Each group answers for its own vshards; the groups together must answer for exactly the 256.
//!
//! Always true:
//! * nothing is told that lies past the end of a group's page which is not its last: that group may have something in
//!   between;
//! * a prefix that several groups roll up is told once.

use std::collections::VecDeque;

use crate::ids::VShard;
use crate::kv::{ListItem, ListPage, ListPoint};
use crate::state::list_versions::point_after;

/// The pages of a listing while they are put together.
pub struct Merge {
    max: usize,
    versions: bool,
    groups: Vec<GroupPages>,
    told: Vec<ListItem>,
}

/// What a group has told so far.
struct GroupPages {
    items: VecDeque<ListItem>,
    /// Where its next page begins; `None`: it has told everything.
    resume: Option<ListPoint>,
}

/// What to do next.
pub enum Next {
    /// Ask these groups (by their number, from 0) for more, from there on, then `feed` it.
    Ask(Vec<(usize, ListPoint)>),
    /// The page.
    Page(ListPage),
}

impl Merge {
    /// A page of at most `max` items from `groups` groups, all of which are asked from `from` on first.
    pub fn new(groups: usize, from: ListPoint, max: usize, versions: bool) -> Merge {
        let begin = |_| GroupPages {
            items: VecDeque::new(),
            resume: Some(from.clone()),
        };
        Merge {
            max: max.max(1),
            versions,
            groups: (0..groups).map(begin).collect(),
            told: Vec::new(),
        }
    }

    /// How many items the page has so far.
    pub fn told(&self) -> usize {
        self.told.len()
    }

    /// A group's next page.
    pub fn feed(&mut self, group: usize, page: ListPage) {
        let pages = &mut self.groups[group];
        pages.items.extend(page.items);
        pages.resume = if page.truncated { page.resume } else { None };
    }

    /// Goes on as far as what was fed allows.
    pub fn step(&mut self) -> Next {
        loop {
            let fronts = self.groups.iter().enumerate();
            let smallest = fronts
                .filter_map(|(at, group)| Some((place_of(group.items.front()?), at)))
                .min();
            let waiting = |group: &GroupPages| group.items.is_empty() && group.resume.is_some();
            let asks: Vec<(usize, ListPoint)> = self
                .groups
                .iter()
                .enumerate()
                .filter(|(_, group)| waiting(group))
                .filter_map(|(at, group)| Some((at, group.resume.clone()?)))
                // A group that is past the next item already cannot have anything before it.
                .filter(|(_, resume)| {
                    smallest
                        .as_ref()
                        .is_none_or(|(key, _)| *resume.after < **key)
                })
                .collect();
            let smallest = smallest.map(|(_, at)| at);
            if self.told.len() == self.max && (smallest.is_some() || !asks.is_empty()) {
                return Next::Page(self.page(true));
            }
            if !asks.is_empty() {
                return Next::Ask(asks);
            }
            let Some(at) = smallest else {
                return Next::Page(self.page(false));
            };
            if let Some(item) = self.groups[at].items.pop_front()
                && !self
                    .told
                    .last()
                    .is_some_and(|last| is_same_prefix(last, &item))
            {
                self.told.push(item);
            }
        }
    }

    fn page(&mut self, truncated: bool) -> ListPage {
        let items = std::mem::take(&mut self.told);
        let resume = items
            .last()
            .filter(|_| truncated)
            .map(|last| point_after(last, self.versions));
        ListPage {
            items,
            truncated,
            resume,
        }
    }
}

fn place_of(item: &ListItem) -> &[u8] {
    match item {
        ListItem::Version(version) => &version.key,
        ListItem::Prefix(prefix) => prefix,
    }
}

fn is_same_prefix(a: &ListItem, b: &ListItem) -> bool {
    matches!((a, b), (ListItem::Prefix(a), ListItem::Prefix(b)) if a == b)
}

/// Whether the groups' vshards are exactly all of them, each once. A page of others must be read again.
pub fn covers_all(vshards_of_groups: &[Vec<VShard>]) -> bool {
    let mut all: Vec<VShard> = vshards_of_groups.iter().flatten().copied().collect();
    all.sort_unstable();
    all.len() == VShard::COUNT
        && all
            .iter()
            .enumerate()
            .all(|(at, vshard)| usize::from(vshard.0) == at)
}
