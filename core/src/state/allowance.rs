//! Room under a limit: a group's allowance, and the pool it comes from.
//!
//! Groups always count usage. Of a limited bucket or tenant a group also holds an allowance, moved from the pool in
//! group 0 by numbered transfers: agreed as a debit here first, then as a credit there, then as arrived here.
//!
//! Always true, over all groups: used + reserved + allowances + pool + in transit = limit. One transfer leaves an
//! account at a time, numbers rise, and a number that is known changes nothing: delivered twice, it moves once.

use minikv_proto::{entry as wire, row};

use crate::state::answer::{AccountId, Done, TryAgain};
use crate::state::applying::{Applying, Stop};
use crate::state::keys;
use crate::state::record::Malformed;

impl Applying<'_> {
    /// From now on this group takes only what its allowance holds. Answers what it uses at this moment.
    pub fn set_limited(&mut self, set: &wire::SetLimited) -> Result<Done, Stop> {
        let (limited, epoch) = (set.limited, set.epoch);
        self.with_account(set.account.as_ref(), |account, usage| {
            if epoch > account.epoch {
                // Rests were given back before: whatever the old limit left here is void.
                *account = row::Account {
                    limited,
                    epoch,
                    bytes: 0,
                    objects: 0,
                    ..account.clone()
                };
            }
            Ok(Done::Usage(usage))
        })
    }

    /// Room leaves this account.
    pub fn debit(&mut self, debit: &wire::Debit) -> Result<Done, Stop> {
        let whose = AccountId::of_wire(debit.account.as_ref())?;
        self.with_account(debit.account.as_ref(), |account, _| {
            if let Some(transit) = account
                .transit
                .filter(|transit| transit.number == debit.number)
            {
                return Ok(Done::Transit(transit));
            }
            if debit.number <= account.debited {
                return Ok(Done::Nothing);
            }
            if account.transit.is_some() || debit.number != account.debited + 1 {
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
            let transit = row::Transit {
                to_group: debit.to_group,
                number: debit.number,
                bytes,
                objects,
            };
            account.transit = Some(transit);
            Ok(Done::Transit(transit))
        })
    }

    /// Room arrives from another group's account.
    pub fn credit(&mut self, credit: &wire::Credit) -> Result<Done, Stop> {
        self.with_account(credit.account.as_ref(), |account, _| {
            let at = account
                .credited
                .iter()
                .position(|known| known.from_group >= credit.from_group);
            let at = at.unwrap_or(account.credited.len());
            let known = account
                .credited
                .get_mut(at)
                .filter(|known| known.from_group == credit.from_group);
            match known {
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
            let (bytes, objects) = (i64::try_from(credit.bytes), i64::try_from(credit.objects));
            account.bytes += bytes.map_err(|_| Malformed("transfer"))?;
            account.objects += objects.map_err(|_| Malformed("transfer"))?;
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
