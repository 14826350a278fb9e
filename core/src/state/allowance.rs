//! Room under a limit: a group's allowance, and the pool it comes from.
//!
//! Groups always count usage. Of a limited bucket or tenant a group also holds an allowance, moved from the pool in
//! group 0 by numbered transfers: agreed as a debit here first, then as a credit there, then as arrived here.
//! A change of the limit begins a new epoch: first every group sets its allowance to nothing and says what it uses,
//! then group 0 makes the pool of what is left of the limit.
//!
//! Always true, over all groups at one epoch: used + reserved + allowances + pool + in transit = limit. One transfer
//! leaves an account at a time, numbers rise, and a number that is known changes nothing: delivered twice, it moves
//! once. What was under way when the limit changed is void.

use minikv_proto::{entry as wire, row};

use crate::state::answer::{AccountId, Done, TryAgain};
use crate::state::applying::{Applying, Stop};
use crate::state::keys;
use crate::state::record::Malformed;

impl Applying<'_> {
    /// From now on this group takes only what its allowance holds. Answers what it uses at this moment.
    pub fn set_limited(&mut self, set: &wire::SetLimited) -> Result<Done, Stop> {
        self.with_account(set.account.as_ref(), |account, usage| {
            if set.epoch > account.epoch {
                begin(account, set.epoch, set.bytes_limited, set.objects_limited);
            }
            Ok(Done::Usage(usage))
        })
    }

    /// The pool under a new limit.
    pub fn set_limit(&mut self, set: &wire::SetLimit) -> Result<Done, Stop> {
        let left = |limit: Option<u64>, used: u64| -> Result<i64, Malformed> {
            let (limit, used) = (i64::try_from(limit.unwrap_or(0)), i64::try_from(used));
            Ok(limit.map_err(|_| Malformed("limit"))? - used.map_err(|_| Malformed("usage"))?)
        };
        let (bytes, objects) = (
            left(set.bytes, set.used_bytes)?,
            left(set.objects, set.used_objects)?,
        );
        self.with_account(set.account.as_ref(), |account, _| {
            if set.epoch > account.epoch {
                begin(
                    account,
                    set.epoch,
                    set.bytes.is_some(),
                    set.objects.is_some(),
                );
                (account.limit_bytes, account.limit_objects) = (set.bytes, set.objects);
                account.bytes = if account.bytes_limited { bytes } else { 0 };
                account.objects = if account.objects_limited { objects } else { 0 };
            }
            Ok(Done::Nothing)
        })
    }

    /// Room leaves this account.
    pub fn debit(&mut self, debit: &wire::Debit) -> Result<Done, Stop> {
        let whose = AccountId::of_wire(debit.account.as_ref())?;
        self.with_account(debit.account.as_ref(), |account, _| {
            if debit.epoch != account.epoch {
                return Err(TryAgain::StaleEpoch(account.epoch).into());
            }
            if let Some(transit) = account
                .transit
                .filter(|transit| transit.number == debit.number)
            {
                return Ok(Done::Transit(transit));
            }
            if debit.number <= account.debited {
                return Ok(Done::Nothing);
            }
            if account.transit.is_some() || account.debited.checked_add(1) != Some(debit.number) {
                return Err(TryAgain::NotYet.into());
            }
            let (bytes_left, objects_left) =
                (account.bytes.max(0) as u64, account.objects.max(0) as u64);
            let (bytes, objects) = if debit.at_most {
                (debit.bytes.min(bytes_left), debit.objects.min(objects_left))
            } else {
                (debit.bytes, debit.objects)
            };
            if bytes > bytes_left || objects > objects_left {
                return Err(TryAgain::NeedsAllowance(whose).into());
            }
            account.bytes -= bytes as i64;
            account.objects -= objects as i64;
            account.debited = debit.number;
            let (to_group, number, epoch) = (debit.to_group, debit.number, debit.epoch);
            let transit = row::Transit {
                to_group,
                number,
                bytes,
                objects,
                epoch,
            };
            account.transit = Some(transit);
            Ok(Done::Transit(transit))
        })
    }

    /// Room arrives from another group's account.
    pub fn credit(&mut self, credit: &wire::Credit) -> Result<Done, Stop> {
        let (bytes, objects) = (i64::try_from(credit.bytes), i64::try_from(credit.objects));
        let (bytes, objects) = (
            bytes.map_err(|_| Malformed("transfer"))?,
            objects.map_err(|_| Malformed("transfer"))?,
        );
        self.with_account(credit.account.as_ref(), |account, _| {
            if credit.epoch > account.epoch {
                return Err(TryAgain::StaleEpoch(account.epoch).into());
            }
            let at = account
                .credited
                .partition_point(|known| known.from_group < credit.from_group);
            match account
                .credited
                .get_mut(at)
                .filter(|known| known.from_group == credit.from_group)
            {
                Some(known) if known.number >= credit.number => return Ok(Done::Nothing),
                Some(known) => known.number = credit.number,
                None => {
                    let first = row::Credited {
                        from_group: credit.from_group,
                        number: credit.number,
                    };
                    account.credited.insert(at, first);
                }
            }
            if credit.epoch == account.epoch {
                let sums = (
                    account.bytes.checked_add(bytes),
                    account.objects.checked_add(objects),
                );
                let (Some(bytes), Some(objects)) = sums else {
                    return Err(Malformed("transfer").into());
                };
                (account.bytes, account.objects) = (bytes, objects);
            }
            Ok(Done::Nothing)
        })
    }

    /// The credit was agreed on the other side.
    pub fn arrived(&mut self, arrived: &wire::Arrived) -> Result<Done, Stop> {
        self.with_account(arrived.account.as_ref(), |account, _| {
            account.transit = account
                .transit
                .filter(|transit| transit.number != arrived.number);
            Ok(Done::Nothing)
        })
    }

    fn with_account(
        &mut self,
        name: Option<&wire::AccountName>,
        change: impl FnOnce(&mut row::Account, row::Usage) -> Result<Done, Stop>,
    ) -> Result<Done, Stop> {
        match AccountId::of_wire(name)? {
            AccountId::Bucket(id) => {
                let row = self.bucket_or_new(id)?;
                let usage = row.usage.unwrap_or_default();
                change(row.account.get_or_insert_default(), usage)
            }
            AccountId::Tenant(id) => {
                let key = keys::tenant(id);
                let mut row: row::Tenant = self.ledger.row(&key)?.unwrap_or_default();
                let usage = row.usage.unwrap_or_default();
                let done = change(row.account.get_or_insert_default(), usage)?;
                self.ledger.put_row(key, &row)?;
                Ok(done)
            }
        }
    }
}

/// A new epoch: whatever was left or under way is void. Numbers go on, so that late copies stay known.
fn begin(account: &mut row::Account, epoch: u64, bytes_limited: bool, objects_limited: bool) {
    account.epoch = epoch;
    (account.bytes_limited, account.objects_limited) = (bytes_limited, objects_limited);
    (account.bytes, account.objects) = (0, 0);
    account.transit = None;
}
