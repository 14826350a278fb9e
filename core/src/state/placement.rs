//! Who holds the chunks of a claim, and who still has to get them.
//!
//! Apply cannot veto a membership of openraft (it takes effect when appended), so the state holds the group's chunk
//! members itself and openraft's membership follows. While one member replaces another both memberships count.
//!
//! Always true:
//! * what a version, part or intent names is on a majority of the members, before and after the change under way;
//! * a member or learner that did not fsync a claimed chunk is named by the short list, also one that is to leave;
//! * what a node acknowledged or said as an earlier member counts for nothing once it has come again: whatever it says, it says
//!   in a life, the entry since which it is a member (`Member.since_index`), and counts only while that is its life.
//!
//! Failures it prevents: a claim counts a copy on a member that has just left, or one that a member removed when it left
//! before, and the next crash loses the chunk.
//!
//! Elsewhere: how a member knows its life (`chunk::receive`).

use std::collections::BTreeSet;

use minikv_proto::{entry as wire, row};

use crate::ids::StageId;
use crate::kv::Refusal;
use crate::state::answer::TryAgain;
use crate::state::apply::Dropped;
use crate::state::applying::{Applying, Place, Stop, unsupported};
use crate::state::content::of_row;
use crate::state::keys;
use crate::state::ledger::damaged;
use crate::state::record::{ChunkRun, Holders, Malformed};
use crate::state::usage::Delta;

/// Longest chunk.
const MAX_CHUNK: u32 = 4 << 20;
/// Most runs of chunks that one claim tells apart by who holds them.
pub(crate) const MAX_COPIES: usize = 16;

/// The members, as claims count them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Membership {
    /// Before the change under way.
    old: BTreeSet<u64>,
    /// After it.
    new: BTreeSet<u64>,
    /// Who should have every chunk, and the life of each: all of them. A learner will count, and who is to leave stays after
    /// all if that is undone.
    wanted: Holders,
}

impl Membership {
    pub(crate) fn of(members: &[row::Member]) -> Membership {
        use row::MemberRole::*;
        Membership {
            old: match crate::planted!("learner-counts-as-member") {
                true => nodes_as(members, &[Member, Retiring, Learner]),
                false => nodes_as(members, &[Member, Retiring]),
            },
            new: match crate::planted!("learner-counts-as-member") {
                true => nodes_as(members, &[Member, Admitted, Learner]),
                false => nodes_as(members, &[Member, Admitted]),
            },
            wanted: members.iter().map(|m| (m.node, m.since_index)).collect(),
        }
    }

    /// Those of these nodes that said so as the members that they are.
    fn holding(&self, holders: &Holders) -> BTreeSet<u64> {
        let is_of_now = |(node, life): &(&u64, &u64)| match self.wanted.get(node) {
            Some(now) => now == *life || crate::planted!("acknowledged-as-earlier-member"),
            None => false,
        };
        let holding = holders.iter().filter(is_of_now);
        holding.map(|(node, _)| *node).collect()
    }

    /// Whether these hold a majority of both memberships.
    pub(crate) fn enough(&self, holders: &Holders) -> bool {
        match crate::planted!("claim-counts-strangers") {
            true => self.would_do(&holders.keys().copied().collect()),
            false => self.would_do(&self.holding(holders)),
        }
    }

    /// Whether these nodes are a majority of both memberships.
    pub(crate) fn would_do(&self, nodes: &BTreeSet<u64>) -> bool {
        let majority_of = |set: &BTreeSet<u64>| match crate::planted!("claim-below-majority") {
            true => !set.is_disjoint(nodes),
            false if crate::planted!("claim-counts-strangers") => nodes.len() * 2 > set.len(),
            false => set.intersection(nodes).count() * 2 > set.len(),
        };
        majority_of(&self.old) && majority_of(&self.new)
    }

    /// Whoever a new chunk is sent to, ascending, and the life of each.
    pub(crate) fn receivers(&self) -> &Holders {
        &self.wanted
    }
}

fn nodes_as(members: &[row::Member], roles: &[row::MemberRole]) -> BTreeSet<u64> {
    let has = |member: &&row::Member| roles.iter().any(|role| *role as i32 == member.role);
    let members = members.iter().filter(has);
    members.map(|member| member.node).collect()
}

impl Applying<'_> {
    pub fn membership(&mut self) -> Result<row::Members, Stop> {
        let key = keys::members();
        Ok(self
            .ledger
            .row(&key)?
            .ok_or_else(|| damaged(&key, "the group was never formed"))?)
    }

    /// Ends a stage: its chunks are content from now on.
    pub fn claim(
        &mut self,
        place: &Place,
        staged: &wire::Staged,
        size: u64,
        upload: &[u8],
    ) -> Result<row::Content, Stop> {
        let (id, stage) = self.open_stage_of(place, staged, upload)?;
        let content = self.placed(place, id, staged, size)?;
        self.ledger.delete(keys::stage(place.vshard, id))?;
        self.charge(place.bucket, stage_room(&stage, -1))?;
        Ok(content)
    }

    /// The stage that a claim means, if it is open, this key's and nobody's.
    pub fn open_stage_of(
        &mut self,
        place: &Place,
        staged: &wire::Staged,
        upload: &[u8],
    ) -> Result<(StageId, row::Stage), Stop> {
        let id = StageId::of_row(staged.stage.as_ref())?;
        let stage: Option<row::Stage> = self.ledger.row(&keys::stage(place.vshard, id))?;
        #[cfg(feature = "planted")]
        if crate::planted!("late-claim-applies") && stage.is_none() {
            // It holds no room any more.
            let upload = bytes::Bytes::from_static(b"gone");
            return Ok((
                id,
                row::Stage {
                    upload,
                    ..row::Stage::default()
                },
            ));
        }
        let stage = stage.ok_or(Refusal::StageGone)?;
        let same =
            stage.bucket == place.bucket.0 && stage.key == place.key && stage.upload == upload;
        if !same || stage.held_by.is_some() {
            return Err(Refusal::StageGone.into());
        }
        Ok((id, stage))
    }

    /// The content that a stage's chunks are, if enough members hold them.
    pub fn placed(
        &mut self,
        place: &Place,
        id: StageId,
        staged: &wire::Staged,
        size: u64,
    ) -> Result<row::Content, Stop> {
        let run = ChunkRun {
            vshard: place.vshard,
            stage: id,
            count: staged.count,
            chunk_size: staged.chunk_size,
            len: staged.len,
        };
        check_shape(&run, size)?;
        let membership = Membership::of(&self.membership()?.members);
        if staged.copies.len() > MAX_COPIES {
            return Err(unsupported("a claim of more than 16 runs of chunks"));
        }
        let mut next = 0;
        for copies in &staged.copies {
            let nodes = copies.nodes.iter().copied();
            let holders: Holders = nodes.zip(copies.lives.iter().copied()).collect();
            if copies.first != next || copies.count == 0 || !membership.enough(&holders) {
                return Err(TryAgain::StalePlacement.into());
            }
            next = next
                .checked_add(copies.count)
                .ok_or(TryAgain::StalePlacement)?;
            let have = membership.holding(&holders);
            let wanted = membership.wanted.keys().copied();
            let missing: Vec<u64> = wanted.filter(|node| !have.contains(node)).collect();
            if !missing.is_empty() && !crate::planted!("short-list-not-kept") {
                let have = have.into_iter().collect();
                let short = row::Short {
                    vshard: u32::from(place.vshard.0),
                    count: copies.count,
                    missing,
                    have,
                    run: Some(run.to_row()),
                };
                self.set_short(id, copies.first, Some(short))?;
            }
        }
        if next != run.count {
            return Err(TryAgain::StalePlacement.into());
        }
        let kind = row::content::Kind::Chunks(run.to_row());
        self.claimed.push(run);
        Ok(row::Content {
            kind: Some(kind),
            shared: false,
        })
    }

    /// Ends a stage without a claim. Nobody ever saw its chunks, so they need not wait on the free list.
    pub fn end_stage(
        &mut self,
        place: (crate::ids::VShard, StageId),
        stage: &row::Stage,
    ) -> Result<(), Stop> {
        let (vshard, id) = place;
        self.ledger.delete(keys::stage(vshard, id))?;
        self.charge(crate::ids::BucketId(stage.bucket), stage_room(stage, -1))?;
        self.dropped.push(Dropped::Stage(vshard, id));
        Ok(())
    }

    /// Nothing names the chunks of this stage any more: nobody needs to get them.
    pub fn forget_short(&mut self, stage: StageId) -> Result<(), Stop> {
        for (key, _) in self.ledger.scan(&keys::shorts_of(stage), MAX_COPIES)? {
            let (_, first) = keys::parse_short(&key).ok_or(Malformed("key of a short item"))?;
            self.set_short(stage, first, None)?;
        }
        Ok(())
    }

    /// Changes an item of the short list; `None`: it goes. How many name each node is counted along.
    fn set_short(
        &mut self,
        stage: StageId,
        first: u32,
        to: Option<row::Short>,
    ) -> Result<(), Stop> {
        let key = keys::short(stage, first);
        let before: Option<row::Short> = self.ledger.row(&key)?;
        let named = |short: &Option<row::Short>| -> BTreeSet<u64> {
            let all = short.iter().flat_map(|short| short.missing.iter());
            all.copied().collect()
        };
        let (old, new) = (named(&before), named(&to));
        for node in old.symmetric_difference(&new) {
            let items = self.misses(*node)?;
            let items = match new.contains(node) {
                true => items.saturating_add(1),
                false => items.saturating_sub(1),
            };
            match items {
                0 => self.ledger.delete(keys::short_of(*node))?,
                items => {
                    let row = row::ShortOf { items };
                    self.ledger.put_row(keys::short_of(*node), &row)?;
                }
            }
        }
        match to {
            Some(short) => Ok(self.ledger.put_row(key, &short)?),
            None => Ok(self.ledger.delete(key)?),
        }
    }

    /// How many items of the short list name this node.
    fn misses(&mut self, node: u64) -> Result<u64, Stop> {
        let row: Option<row::ShortOf> = self.ledger.row(&keys::short_of(node))?;
        Ok(row.map_or(0, |row| row.items))
    }

    // ---- changes of the membership ----

    /// A node begins to get everything that is claimed.
    pub fn learner(&mut self, learner: &wire::Learner) -> Result<(), Stop> {
        let mut members = self.membership()?;
        if find(&mut members, learner.node).is_some() {
            return Ok(());
        }
        let (role, since_index) = (row::MemberRole::Learner as i32, self.group.index);
        members.members.push(row::Member {
            node: learner.node,
            role,
            since_index,
        });
        members.members.sort_by_key(|member| member.node);
        Ok(self.ledger.put_row(keys::members(), &members)?)
    }

    /// A learner that has everything counts from now on, beside the member it replaces.
    pub fn admit(&mut self, admit: &wire::Admit) -> Result<(), Stop> {
        let mut members = self.membership()?;
        let candidate = find(&mut members, admit.node)
            .ok_or_else(|| unsupported("admitting a node that is no learner"))?;
        if candidate.role == row::MemberRole::Admitted as i32 {
            return Ok(());
        }
        if candidate.role != row::MemberRole::Learner as i32 {
            return Err(unsupported("admitting a node that is no learner"));
        }
        if admit.confirmed_index < candidate.since_index
            && !crate::planted!("admit-without-confirmation")
        {
            return Err(TryAgain::NotYet.into());
        }
        candidate.role = row::MemberRole::Admitted as i32;
        if admit.retire != 0 {
            let leaving = find(&mut members, admit.retire)
                .filter(|m| m.role == row::MemberRole::Member as i32);
            leaving
                .ok_or_else(|| unsupported("retiring a node that is no member"))?
                .role = row::MemberRole::Retiring as i32;
        }
        let after = nodes_as(
            &members.members,
            &[row::MemberRole::Member, row::MemberRole::Admitted],
        );
        if !self.keeps_majorities(&after, admit.node)? {
            return Err(TryAgain::NotYet.into());
        }
        Ok(self.ledger.put_row(keys::members(), &members)?)
    }

    /// Whether a majority of these has every chunk that is claimed, and this one, which comes, all of them. It confirmed that it
    /// has everything: whoever is not said to miss its copy has it.
    fn keeps_majorities(&mut self, after: &BTreeSet<u64>, comes: u64) -> Result<bool, Stop> {
        let majority = |of: usize| of * 2 > after.len();
        let mut complete = 0;
        for node in after {
            complete += usize::from(self.misses(*node)? == 0);
        }
        if self.misses(comes)? > 0 {
            return Ok(false);
        }
        if majority(complete) {
            // Whoever misses what: these have it. A member that is lost may be missed on any number of items.
            return Ok(true);
        }
        // Two that miss different items. A list longer than one entry may read must shrink first.
        let shorts = self.ledger.scan(&keys::shorts(), MAX_SHORTS + 1)?;
        if shorts.len() > MAX_SHORTS {
            return Ok(false);
        }
        for (key, row) in shorts {
            let short: row::Short = crate::state::ledger::decode(&key, row)?;
            let missing: BTreeSet<u64> = short.missing.iter().copied().collect();
            if !majority(after.difference(&missing).count()) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What a leader saw of openraft's membership counts in the term in which it saw it: another leader may have changed
    /// it since, and a proposal may have been on its way for long.
    fn of_this_term(&self, term: u64) -> Result<(), Stop> {
        let any = term == 0 || crate::planted!("change-over-in-any-term");
        match any || term == self.group.term {
            true => Ok(()),
            false => Err(TryAgain::NotYet.into()),
        }
    }

    /// The change is over: openraft's membership is the new one.
    pub fn retired(&mut self, retired: &wire::Retired) -> Result<(), Stop> {
        self.of_this_term(retired.term)?;
        let mut members = self.membership()?;
        let leaving =
            |m: &row::Member| m.node == retired.node && m.role == row::MemberRole::Retiring as i32;
        if retired.node != 0 && !members.members.iter().any(leaving) {
            return Ok(());
        }
        members
            .members
            .retain(|member| member.role != row::MemberRole::Retiring as i32);
        for member in &mut members.members {
            if member.role == row::MemberRole::Admitted as i32 {
                member.role = row::MemberRole::Member as i32;
            }
        }
        Ok(self.ledger.put_row(keys::members(), &members)?)
    }

    /// Undoes a learner or an admission; with it whoever was to leave stays.
    pub fn cancel_admit(&mut self, cancel: &wire::CancelAdmit) -> Result<(), Stop> {
        self.of_this_term(cancel.term)?;
        let mut members = self.membership()?;
        let coming = [
            row::MemberRole::Learner as i32,
            row::MemberRole::Admitted as i32,
        ];
        let Some(at) = members
            .members
            .iter()
            .position(|m| m.node == cancel.node && coming.contains(&m.role))
        else {
            return Ok(());
        };
        members.members.remove(at);
        // One change is under way at a time: without anybody coming, nobody leaves.
        if !members
            .members
            .iter()
            .any(|m| m.role == row::MemberRole::Admitted as i32)
        {
            for member in &mut members.members {
                if member.role == row::MemberRole::Retiring as i32 {
                    member.role = row::MemberRole::Member as i32;
                }
            }
        }
        Ok(self.ledger.put_row(keys::members(), &members)?)
    }

    /// A member has its copy now; or a node that is none any more does not need one.
    pub fn short_done(&mut self, done: &wire::ShortDone) -> Result<(), Stop> {
        let stage = StageId::of_row(done.stage.as_ref())?;
        let key = keys::short(stage, done.first);
        let Some(mut short) = self.ledger.row::<row::Short>(&key)? else {
            return Ok(());
        };
        if !short.missing.contains(&done.node) {
            return Ok(());
        }
        let members = self.membership()?.members;
        let member = members.iter().find(|member| member.node == done.node);
        // What a member said before it left and came again is of bytes that it has removed.
        let counts = match member {
            Some(member) => !done.gone && done.since_index == member.since_index,
            None => done.gone,
        };
        if !counts {
            return Ok(());
        }
        short.missing.retain(|node| *node != done.node);
        if short.missing.is_empty() {
            return self.set_short(stage, done.first, None);
        }
        // A copy on a node that is no member counts for nothing.
        if member.is_some() {
            short.have.push(done.node);
            short.have.sort_unstable();
        }
        self.set_short(stage, done.first, Some(short))
    }

    /// A stage that a prepared transaction holds goes back to whoever opened it.
    pub fn unhold_stage(&mut self, place: &Place, content: &row::Content) -> Result<(), Stop> {
        let Some(row::content::Kind::Chunks(run)) = &content.kind else {
            return Ok(());
        };
        let id = of_row(StageId::of_row(run.stage.as_ref()))?;
        let key = keys::stage(place.vshard, id);
        if let Some(mut stage) = self.ledger.row::<row::Stage>(&key)? {
            stage.held_by = None;
            self.ledger.put_row(key, &stage)?;
        }
        self.forget_short(id)
    }
}

/// Most items of the short list that one entry reads.
const MAX_SHORTS: usize = 900;

/// The room that a stage holds.
pub(super) fn stage_room(stage: &row::Stage, sign: i64) -> Delta {
    Delta::reserve(
        sign * stage.reserved as i64,
        if stage.upload.is_empty() { sign } else { 0 },
    )
}

fn find(members: &mut row::Members, node: u64) -> Option<&mut row::Member> {
    members
        .members
        .iter_mut()
        .find(|member| member.node == node)
}

fn check_shape(run: &ChunkRun, size: u64) -> Result<(), Malformed> {
    let full = u64::from(run.count) * u64::from(run.chunk_size);
    let fits = run.count > 0
        && (1..=MAX_CHUNK).contains(&run.chunk_size)
        && run.len == size
        && run.len <= full
        && run.len > full - u64::from(run.chunk_size);
    if fits {
        Ok(())
    } else {
        Err(Malformed("shape of the chunks"))
    }
}
