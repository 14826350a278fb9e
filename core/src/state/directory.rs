//! The directory, group 0: which buckets, tenants, credentials and nodes there are, and where vshards live.
//!
//! Always true:
//! * a bucket's name and its id name each other; ids are never used twice;
//! * a change of a bucket raises its epoch and stands on the list of pushes until every group confirmed it;
//! * users, policies and settings are the gateway's: here they are bytes with a revision.

use minikv_proto::{entry as wire, row};

use crate::ids::{BucketId, GroupId, TenantId, VShard};
use crate::kv::Refusal;
use crate::state::answer::{Done, TryAgain, bucket_of_row};
use crate::state::applying::{Applying, Stop, unsupported};
use crate::state::content::of_row;
use crate::state::intent::TxnRef;
use crate::state::keys;
use crate::state::ledger::damaged;
use crate::state::lock;
use crate::state::record::{Malformed, group_of, vshard_of};

/// The tenant that exists from the start.
const DEFAULT_TENANT: TenantId = TenantId(1);
/// More nodes join later.
const MAX_FOUNDERS: usize = 7;
/// Longest settings, owner or value.
const MAX_SETTINGS: usize = 256 << 10;

impl Applying<'_> {
    /// The cluster begins: root can sign in, the default tenant is there, every vshard has a home.
    pub fn found_cluster(&mut self, found: &wire::FoundCluster) -> Result<Done, Stop> {
        if self.ledger.get(&keys::cluster())?.is_some() {
            return Ok(Done::Nothing);
        }
        let groups = u16::try_from(found.data_groups)
            .ok()
            .filter(|groups| (1..=256).contains(groups));
        let groups = groups.ok_or(Malformed("number of groups"))?;
        let root = found.root.as_ref().ok_or(Malformed("no root credential"))?;
        let node = found
            .first_node
            .as_ref()
            .filter(|node| node.id != 0)
            .ok_or(Malformed("no node"))?;
        let cluster = row::Cluster {
            id: found.id.clone(),
            created_ms: self.now_ms,
            data_groups: found.data_groups,
            region: found.region.clone(),
        };
        self.ledger.put_row(keys::cluster(), &cluster)?;
        let mut nodes = vec![node];
        nodes.extend(&found.other_nodes);
        let ascending = nodes.is_sorted_by(|one, next| one.id < next.id);
        if !ascending || nodes.len() > MAX_FOUNDERS {
            return Err(Malformed("founding nodes").into());
        }
        let ids: Vec<u64> = nodes.iter().map(|node| node.id).collect();
        let highest = ids.last().copied().unwrap_or(0);
        let counters = row::Counters {
            bucket: 1,
            tenant: DEFAULT_TENANT.0 + 1,
            node: highest.checked_add(1).ok_or(Malformed("no node"))?,
        };
        self.ledger.put_row(keys::counters(), &counters)?;
        let tenant = row::DirectoryTenant {
            id: DEFAULT_TENANT.0,
            name: "default".into(),
            created_ms: self.now_ms,
            settings: Default::default(),
            revision: 1,
        };
        self.write_tenant(&tenant)?;
        self.ledger
            .put_row(keys::credential(&found.root_access_key), root)?;
        for node in nodes {
            self.ledger.put_row(keys::node(node.id), node)?;
        }
        for group in 0..=groups {
            let placement = row::Placement {
                nodes: ids.clone(),
                epoch: 1,
            };
            self.ledger
                .put_row(keys::placement(GroupId(group)), &placement)?;
        }
        for vshard in 0..=255u8 {
            let home = row::VshardHome {
                group: u32::from(u16::from(vshard) % groups) + 1,
                epoch: 1,
            };
            self.ledger
                .put_row(keys::vshard_home(VShard(vshard)), &home)?;
        }
        Ok(Done::Nothing)
    }

    pub fn create_bucket(&mut self, create: &wire::CreateBucket) -> Result<Done, Stop> {
        if create.name.is_empty() || create.name.len() > 255 || create.settings.len() > MAX_SETTINGS
        {
            return Err(Malformed("bucket").into());
        }
        let versioning =
            row::Versioning::try_from(create.versioning).map_err(|_| Malformed("versioning"))?;
        if create.lock && versioning != row::Versioning::Enabled {
            return Err(Refusal::LockNeedsVersions.into());
        }
        let key = keys::directory_bucket(&create.name);
        if let Some(taken) = self.ledger.row::<row::DirectoryBucket>(&key)? {
            return Err(match closing(&taken)? {
                Some(txn) => TryAgain::Blocked(txn).into(),
                None => Refusal::BucketExists.into(),
            });
        }
        let tenant = TenantId(create.tenant);
        if self.ledger.get(&keys::directory_tenant(tenant))?.is_none() {
            return Err(Refusal::NoSuchTenant.into());
        }
        let mut counters = self.counters()?;
        let bucket = row::DirectoryBucket {
            id: counters.bucket,
            name: create.name.clone(),
            tenant: tenant.0,
            owner: create.owner.clone(),
            created_ms: self.now_ms,
            versioning: versioning as i32,
            lock: create.lock,
            epoch: 1,
            settings: create.settings.clone(),
            closing: None,
            retention: None,
        };
        counters.bucket += 1;
        self.ledger.put_row(keys::counters(), &counters)?;
        self.ledger.put_row(
            keys::bucket_name(BucketId(bucket.id)),
            &row::BucketName {
                name: create.name.clone(),
            },
        )?;
        self.write_bucket(bucket)
    }

    pub fn change_bucket(&mut self, change: &wire::ChangeBucket) -> Result<Done, Stop> {
        let mut bucket = self.directory_bucket(BucketId(change.bucket))?;
        if let Some(txn) = closing(&bucket)? {
            return Err(TryAgain::Blocked(txn).into());
        }
        if bucket.epoch != change.epoch {
            return Err(TryAgain::StaleEpoch(bucket.epoch).into());
        }
        if let Some(versioning) = change.versioning {
            let versioning =
                row::Versioning::try_from(versioning).map_err(|_| Malformed("versioning"))?;
            if versioning == row::Versioning::Off
                && bucket.versioning != row::Versioning::Off as i32
            {
                return Err(unsupported(
                    "versioning, once enabled, can only be suspended",
                ));
            }
            bucket.versioning = versioning as i32;
        }
        bucket.lock |= change.lock;
        if bucket.lock && bucket.versioning != row::Versioning::Enabled as i32 {
            return Err(Refusal::LockNeedsVersions.into());
        }
        if let Some(retention) = change.retention {
            if !bucket.lock {
                return Err(Refusal::NoLock.into());
            }
            bucket.retention = lock::checked_default(retention)?;
        }
        if let Some(settings) = &change.settings {
            if settings.len() > MAX_SETTINGS {
                return Err(Malformed("settings").into());
            }
            bucket.settings = settings.clone();
        }
        if let Some(owner) = &change.owner {
            bucket.owner = owner.clone();
        }
        bucket.epoch += 1;
        self.write_bucket(bucket)
    }

    /// A group has these facts.
    pub fn facts_confirmed(&mut self, confirmed: &wire::FactsConfirmed) -> Result<Done, Stop> {
        let key = keys::push(BucketId(confirmed.bucket));
        let group = group_of(confirmed.group)?;
        let Some(mut push) = self.ledger.row::<row::Push>(&key)? else {
            return Ok(Done::More(false));
        };
        if confirmed.epoch < push.epoch {
            return Ok(Done::More(true));
        }
        if let Err(at) = push.confirmed.binary_search(&u32::from(group.0)) {
            push.confirmed.insert(at, u32::from(group.0));
        }
        let groups = self.data_groups()?;
        if (1..=groups).all(|group| push.confirmed.contains(&group)) {
            self.ledger.delete(key)?;
            return Ok(Done::More(false));
        }
        self.ledger.put_row(key, &push)?;
        Ok(Done::More(true))
    }

    pub fn put_tenant(&mut self, put: &wire::PutTenant) -> Result<Done, Stop> {
        let mut tenant = put.tenant.clone().ok_or(Malformed("no tenant"))?;
        if tenant.name.is_empty() || tenant.name.len() > 255 || tenant.settings.len() > MAX_SETTINGS
        {
            return Err(Malformed("tenant").into());
        }
        let holder = self.ledger.get(&keys::tenant_name(&tenant.name))?;
        if tenant.id == 0 {
            if holder.is_some() {
                return Err(unsupported("a tenant of this name exists"));
            }
            let mut counters = self.counters()?;
            tenant.id = counters.tenant;
            tenant.created_ms = self.now_ms;
            tenant.revision = 1;
            counters.tenant += 1;
            self.ledger.put_row(keys::counters(), &counters)?;
        } else {
            let key = keys::directory_tenant(TenantId(tenant.id));
            let known: row::DirectoryTenant =
                self.ledger.row(&key)?.ok_or(Refusal::NoSuchTenant)?;
            if known.revision != tenant.revision {
                return Err(TryAgain::StaleEpoch(known.revision).into());
            }
            if holder.is_some() && known.name != tenant.name {
                return Err(unsupported("a tenant of this name exists"));
            }
            self.ledger.delete(keys::tenant_name(&known.name))?;
            tenant.created_ms = known.created_ms;
            tenant.revision += 1;
        }
        self.write_tenant(&tenant)?;
        Ok(Done::Number(tenant.id))
    }

    /// A row of one of the gateway's tables, if nobody changed it since it was read.
    pub fn put_opaque(&mut self, put: &wire::PutOpaque) -> Result<Done, Stop> {
        let table = u8::try_from(put.table).map_err(|_| Malformed("table"))?;
        if put.key.len() > 1024
            || put
                .value
                .as_ref()
                .is_some_and(|value| value.len() > MAX_SETTINGS)
        {
            return Err(Malformed("row").into());
        }
        let key = keys::opaque(table, &put.key);
        let revision = self
            .ledger
            .row::<row::Opaque>(&key)?
            .map_or(0, |known| known.revision);
        if revision != put.revision {
            return Err(TryAgain::StaleEpoch(revision).into());
        }
        match &put.value {
            Some(value) => {
                let next = row::Opaque {
                    revision: revision + 1,
                    value: value.clone(),
                };
                self.ledger.put_row(key, &next)?;
                Ok(Done::Number(revision + 1))
            }
            None => {
                self.ledger.delete(key)?;
                Ok(Done::Number(0))
            }
        }
    }

    pub fn put_credential(&mut self, put: &wire::PutCredential) -> Result<Done, Stop> {
        if put.access_key.is_empty() || put.access_key.len() > 128 {
            return Err(Malformed("access key").into());
        }
        let key = keys::credential(&put.access_key);
        match &put.credential {
            Some(credential) => self.ledger.put_row(key, credential)?,
            None => self.ledger.delete(key)?,
        }
        Ok(Done::Nothing)
    }

    /// A node, known or (id 0) new.
    pub fn put_node(&mut self, put: &wire::PutNode) -> Result<Done, Stop> {
        let mut node = put.node.clone().ok_or(Malformed("no node"))?;
        if node.id == 0 {
            let mut counters = self.counters()?;
            node.id = counters.node;
            node.joined_ms = self.now_ms;
            counters.node += 1;
            self.ledger.put_row(keys::counters(), &counters)?;
        }
        self.ledger.put_row(keys::node(node.id), &node)?;
        Ok(Done::Number(node.id))
    }

    /// The map changes by rising epochs.
    pub fn put_placement(&mut self, put: &wire::PutPlacement) -> Result<Done, Stop> {
        let placement = put.placement.as_ref().ok_or(Malformed("no placement"))?;
        let key = keys::placement(group_of(put.group)?);
        let known = self
            .ledger
            .row::<row::Placement>(&key)?
            .map_or(0, |known| known.epoch);
        if placement.epoch > known {
            self.ledger.put_row(key, placement)?;
        }
        Ok(Done::Nothing)
    }

    /// The map changes by rising epochs.
    pub fn put_vshard_home(&mut self, put: &wire::PutVshardHome) -> Result<Done, Stop> {
        let home = put.home.as_ref().ok_or(Malformed("no home"))?;
        let key = keys::vshard_home(vshard_of(put.vshard)?);
        let known = self
            .ledger
            .row::<row::VshardHome>(&key)?
            .map_or(0, |known| known.epoch);
        if home.epoch > known {
            self.ledger.put_row(key, home)?;
        }
        Ok(Done::Nothing)
    }

    // ---- a bucket that closes (its transaction is in `prepare`) ----

    /// The bucket's record, or that there is none.
    pub fn directory_bucket(&mut self, id: BucketId) -> Result<row::DirectoryBucket, Stop> {
        let name: Option<row::BucketName> = self.ledger.row(&keys::bucket_name(id))?;
        let name = name.ok_or(Refusal::NoSuchBucket)?.name;
        let key = keys::directory_bucket(&name);
        Ok(self
            .ledger
            .row(&key)?
            .ok_or_else(|| damaged(&key, "an id without a bucket"))?)
    }

    /// The transaction lays its intent on the record.
    pub fn prepare_close_name(&mut self, id: BucketId, txn: &TxnRef) -> Result<(), Stop> {
        let mut bucket = self.directory_bucket(id)?;
        if let Some(other) = closing(&bucket)? {
            return Err(TryAgain::Blocked(other).into());
        }
        bucket.closing = Some(txn.to_row());
        Ok(self
            .ledger
            .put_row(keys::directory_bucket(&bucket.name), &bucket)?)
    }

    /// The transaction ended: the name is free, or everything is as before.
    pub fn finish_close_name(&mut self, id: BucketId, committed: bool) -> Result<(), Stop> {
        let mut bucket = self.directory_bucket(id)?;
        let key = keys::directory_bucket(&bucket.name);
        if committed {
            self.ledger.delete(key)?;
            self.ledger.delete(keys::bucket_name(id))?;
            self.ledger.delete(keys::push(id))?;
        } else {
            bucket.closing = None;
            self.ledger.put_row(key, &bucket)?;
        }
        Ok(())
    }

    // ---- rows ----

    pub(super) fn counters(&mut self) -> Result<row::Counters, Stop> {
        let key = keys::counters();
        self.ledger
            .row(&key)?
            .ok_or_else(|| unsupported("a directory in a group that is none"))
    }

    fn data_groups(&mut self) -> Result<u32, Stop> {
        let key = keys::cluster();
        let cluster: Option<row::Cluster> = self.ledger.row(&key)?;
        Ok(cluster
            .ok_or_else(|| unsupported("a directory in a group that is none"))?
            .data_groups)
    }

    fn write_tenant(&mut self, tenant: &row::DirectoryTenant) -> Result<(), Stop> {
        let id = tenant.id.to_be_bytes().to_vec().into();
        self.ledger.put(keys::tenant_name(&tenant.name), id)?;
        Ok(self
            .ledger
            .put_row(keys::directory_tenant(TenantId(tenant.id)), tenant)?)
    }

    /// Writes a changed bucket and has the change pushed.
    fn write_bucket(&mut self, bucket: row::DirectoryBucket) -> Result<Done, Stop> {
        let push = row::Push {
            epoch: bucket.epoch,
            confirmed: Vec::new(),
        };
        self.ledger
            .put_row(keys::push(BucketId(bucket.id)), &push)?;
        self.ledger
            .put_row(keys::directory_bucket(&bucket.name), &bucket)?;
        Ok(Done::Bucket(of_row(bucket_of_row(bucket))?))
    }
}

/// The transaction that is about to delete a bucket.
fn closing(bucket: &row::DirectoryBucket) -> Result<Option<TxnRef>, Stop> {
    of_row(bucket.closing.as_ref().map(TxnRef::of_row).transpose())
}
