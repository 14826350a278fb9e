//! The first entry of a group, and the one that follows a loss which an operator accepted.

use minikv_proto::{entry as wire, row};

use crate::ids::GroupId;
use crate::state::answer::Done;
use crate::state::applying::{Applying, Stop};
use crate::state::keys;
use crate::state::ledger::{damaged, decode};
use crate::state::record::{Malformed, vshard_of};

/// How far sequences jump after a loss: the lost entries may have given out as many.
const SEQ_JUMP: u64 = 1 << 44;
/// The same for numbers of buckets, tenants and nodes.
const COUNTER_JUMP: u64 = 1 << 20;

impl Applying<'_> {
    /// Who keeps the group's chunks, and which vshards it owns. A second one changes nothing.
    pub fn form_group(&mut self, form: &wire::FormGroup) -> Result<Done, Stop> {
        if self.ledger.get(&keys::the_group())?.is_some() {
            return Ok(Done::Nothing);
        }
        if form.members.is_empty() || form.vshards.len() > 256 {
            return Err(Malformed("a group without members").into());
        }
        self.ledger.put_row(
            keys::the_group(),
            &row::Group {
                incarnation: form.incarnation,
            },
        )?;
        let member = |&node: &u64| row::Member {
            node,
            role: row::MemberRole::Member as i32,
            since_index: self.group.index,
        };
        let mut members: Vec<row::Member> = form.members.iter().map(member).collect();
        members.sort_by_key(|member| member.node);
        members.dedup_by_key(|member| member.node);
        self.ledger
            .put_row(keys::members(), &row::Members { members })?;
        for &vshard in &form.vshards {
            let owned = row::Vshard {
                epoch: form.vshard_epoch,
                state: row::VshardState::VshardOwned as i32,
                seq_base: 1,
                since_index: self.group.index,
            };
            self.ledger
                .put_row(keys::vshard(vshard_of(vshard)?), &owned)?;
        }
        Ok(Done::Nothing)
    }

    /// Indexes that lost entries had will be agreed again: what is made from them must get other names.
    pub fn raise_incarnation(&mut self, raise: &wire::RaiseIncarnation) -> Result<Done, Stop> {
        let key = keys::the_group();
        let mut group: row::Group = self
            .ledger
            .row(&key)?
            .ok_or_else(|| damaged(&key, "the group was never formed"))?;
        if raise.incarnation <= group.incarnation {
            return Ok(Done::Nothing);
        }
        group.incarnation = raise.incarnation;
        self.ledger.put_row(key, &group)?;
        for (key, row) in self.ledger.scan(&keys::vshards(), 256)? {
            let mut vshard: row::Vshard = decode(&key, row)?;
            vshard.seq_base += SEQ_JUMP;
            self.ledger.put_row(key, &vshard)?;
        }
        if self.group.id == GroupId::DIRECTORY
            && let Some(mut counters) = self.ledger.row::<row::Counters>(&keys::counters())?
        {
            counters.bucket += COUNTER_JUMP;
            counters.tenant += COUNTER_JUMP;
            counters.node += COUNTER_JUMP;
            self.ledger.put_row(keys::counters(), &counters)?;
        }
        Ok(Done::Nothing)
    }
}
