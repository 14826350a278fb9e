//! Buckets, tenants and credentials in group 0, and the way of a bucket's facts into every group.
//!
//! ```text
//!   CreateBucket agreed in group 0 ──> facts pushed to all data groups ──> each confirmed in group 0 ──> answered
//! ```
//! Always true:
//! * that a bucket does not exist is answered only after a linearizable read of group 0;
//! * a change is answered after all groups confirmed it; answered late it is a 503 (`Unknown`: it is agreed), never rolled
//!   back: group 0's list of unfinished pushes is state, and its leader goes on with it;
//! * facts travel whole; a group takes only a higher epoch.

use std::sync::Arc;

use futures::future::join_all;
use minikv_proto::entry as wire;
use minikv_proto::row;

use super::router::Router;
use crate::engine::View;
use crate::group::Group;
use crate::ids::{BucketId, GroupId, TenantId};
use crate::kv::{
    Bucket, BucketLock, CreateBucket, CreateBucketError, Credentials, KvError, Refusal,
};
use crate::log::WriteKind;
use crate::state::answer::{Answer, Done, TryAgain, versioning_to_row};
use crate::state::entry::Body;
use crate::state::lock::default_retention;
use crate::state::read;
use crate::txn::driver;

/// How often a change of a bucket is planned anew because somebody else changed it meanwhile.
const REPLANS: usize = 16;

impl Router {
    pub(crate) async fn bucket(&self, name: &str) -> Result<Option<Bucket>, KvError> {
        self.directory()?
            .ask(|view| read::bucket_by_name(view, name))
            .await
    }

    pub(crate) async fn bucket_by_id(&self, id: BucketId) -> Result<Option<Bucket>, KvError> {
        self.directory()?
            .ask(|view| read::bucket_by_id(view, id))
            .await
    }

    /// All buckets of a tenant, by name.
    pub(crate) async fn buckets(&self, tenant: TenantId) -> Result<Vec<Bucket>, KvError> {
        let look = |view: &dyn View| {
            let own = read::buckets(view, "").filter(|bucket| {
                bucket
                    .as_ref()
                    .map_or(true, |bucket| bucket.tenant == tenant)
            });
            own.collect()
        };
        self.directory()?.ask(look).await
    }

    pub(crate) async fn create_bucket(
        self: &Arc<Self>,
        create: CreateBucket,
    ) -> Result<Bucket, CreateBucketError> {
        let body = Body::CreateBucket(wire::CreateBucket {
            name: create.name.clone(),
            tenant: create.tenant.0,
            owner: create.owner,
            versioning: versioning_to_row(create.versioning) as i32,
            settings: create.settings,
            lock: create.lock,
        });
        for _ in 0..REPLANS {
            match self
                .directory_command(body.clone(), WriteKind::Ordinary)
                .await
            {
                Ok(Outcome::Done(Done::Bucket(bucket))) => {
                    self.push_to_all(bucket.id).await.map_err(late)?;
                    return Ok(bucket);
                }
                Ok(other) => return Err(unexpected(&other).into()),
                Err(KvError::Refused(Refusal::BucketExists)) => {
                    // None: deleted since, so try again.
                    if let Some(bucket) = self.bucket(&create.name).await? {
                        return Err(CreateBucketError::Exists(Box::new(bucket)));
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(KvError::Unavailable("the bucket comes and goes".to_owned()).into())
    }

    pub(crate) async fn change_bucket(
        self: &Arc<Self>,
        name: &str,
        change: impl Fn(&mut Bucket),
    ) -> Result<Bucket, KvError> {
        for _ in 0..REPLANS {
            let Some(old) = self.bucket(name).await? else {
                return Err(Refusal::NoSuchBucket.into());
            };
            let mut new = old.clone();
            change(&mut new);
            let versioning = (new.versioning != old.versioning)
                .then(|| versioning_to_row(new.versioning) as i32);
            let settings = (new.settings != old.settings).then_some(new.settings);
            let owner = (new.owner != old.owner).then_some(new.owner);
            let lock = new.lock.is_some() && old.lock.is_none();
            let default = |lock: Option<BucketLock>| lock.and_then(|lock| lock.default);
            let retention = (default(new.lock) != default(old.lock))
                .then(|| default_retention(default(new.lock)));
            let same = versioning.is_none() && settings.is_none() && owner.is_none();
            if same && !lock && retention.is_none() {
                // The call before this one may have been cut short before every group knew.
                self.push_to_all(old.id).await?;
                return Ok(old);
            }
            let body = Body::ChangeBucket(wire::ChangeBucket {
                bucket: old.id.0,
                epoch: old.epoch,
                versioning,
                settings,
                owner,
                lock,
                retention,
            });
            match self.directory_command(body, WriteKind::Releasing).await {
                Ok(Outcome::Done(Done::Bucket(bucket))) => {
                    self.push_to_all(bucket.id).await.map_err(late)?;
                    return Ok(bucket);
                }
                Ok(Outcome::Stale) => {}
                Ok(other) => return Err(unexpected(&other)),
                Err(error) => return Err(error),
            }
        }
        Err(KvError::Unavailable(
            "the bucket changes too fast".to_owned(),
        ))
    }

    /// A command of group 0 that meets nothing but transactions and other changes.
    async fn directory_command(
        self: &Arc<Self>,
        body: Body,
        kind: WriteKind,
    ) -> Result<Outcome, KvError> {
        let directory = self.directory()?;
        for _ in 0..REPLANS {
            match directory.command(body.clone(), &[], kind).await? {
                Answer::Done(done) => return Ok(Outcome::Done(done)),
                Answer::Refused(refusal) => return Err(refusal.into()),
                Answer::TryAgain(TryAgain::Blocked(txn)) => {
                    driver::meet(self, &directory, &txn).await?;
                }
                Answer::TryAgain(TryAgain::StaleEpoch(_)) => return Ok(Outcome::Stale),
                Answer::TryAgain(again) => {
                    return Err(KvError::Unavailable(format!("group 0: {again:?}")));
                }
            }
        }
        Err(KvError::Unavailable(
            "transactions hold the bucket".to_owned(),
        ))
    }

    // ---- facts ----

    /// Brings the facts of a bucket to a group that lacks them.
    pub(crate) async fn push_to(&self, id: BucketId, group: &Group) -> Result<(), KvError> {
        let facts = self
            .directory()?
            .ask(|view| read::facts_to_push(view, id))
            .await?;
        let Some(facts) = facts else {
            return Err(Refusal::NoSuchBucket.into());
        };
        self.push(facts, group).await
    }

    async fn push(&self, facts: row::Facts, group: &Group) -> Result<(), KvError> {
        for _ in 0..REPLANS {
            let body = Body::SetFacts(wire::SetFacts { facts: Some(facts) });
            match group.own(body).await? {
                Answer::Done(_) => return Ok(()),
                Answer::Refused(refusal) => return Err(refusal.into()),
                Answer::TryAgain(TryAgain::Blocked(txn)) => driver::meet(self, group, &txn).await?,
                Answer::TryAgain(again) => {
                    return Err(KvError::Unavailable(format!("{}: {again:?}", group.id)));
                }
            }
        }
        Err(KvError::Unavailable(format!(
            "{}: transactions hold the bucket",
            group.id
        )))
    }

    /// Brings a change of a bucket to every group and has each confirmed.
    pub(crate) async fn push_to_all(&self, id: BucketId) -> Result<(), KvError> {
        let facts = self
            .directory()?
            .ask(|view| read::facts_to_push(view, id))
            .await?;
        // Deleted meanwhile: the deletion told the groups.
        let Some(facts) = facts else {
            return Ok(());
        };
        let groups = self.data()?;
        let pushes = groups
            .iter()
            .map(|group| self.push_and_confirm(facts, group));
        join_all(pushes).await.into_iter().collect()
    }

    async fn push_and_confirm(&self, facts: row::Facts, group: &Group) -> Result<(), KvError> {
        self.push(facts, group).await?;
        self.confirm(BucketId(facts.bucket), facts.epoch, group.id)
            .await
    }

    async fn confirm(&self, bucket: BucketId, epoch: u64, group: GroupId) -> Result<(), KvError> {
        let body = Body::FactsConfirmed(wire::FactsConfirmed {
            bucket: bucket.0,
            epoch,
            group: u32::from(group.0),
        });
        match self.directory()?.own(body).await? {
            Answer::Done(_) => Ok(()),
            other => Err(KvError::Unavailable(format!("group 0: {other:?}"))),
        }
    }

    /// Goes on with pushes that somebody began and did not end.
    pub(crate) async fn finish_pushes(&self) -> Result<(), KvError> {
        let pushes = self.directory()?.ask(read::pushes).await?;
        for (bucket, ..) in pushes {
            self.push_to_all(bucket).await?;
        }
        Ok(())
    }

    // ---- tenants, credentials ----

    /// The tenant of this name, made if there is none.
    pub(crate) async fn tenant_named(self: &Arc<Self>, name: &str) -> Result<TenantId, KvError> {
        for _ in 0..REPLANS {
            let tenants = self.directory()?.ask(read::tenants).await?;
            if let Some(tenant) = tenants.iter().find(|tenant| tenant.name == name) {
                return Ok(TenantId(tenant.id));
            }
            let tenant = row::DirectoryTenant {
                name: name.to_owned(),
                ..row::DirectoryTenant::default()
            };
            let body = Body::PutTenant(wire::PutTenant {
                tenant: Some(tenant),
            });
            match self.directory_command(body, WriteKind::Ordinary).await {
                Ok(Outcome::Done(Done::Number(id))) => return Ok(TenantId(id)),
                Ok(other) => return Err(unexpected(&other)),
                // Somebody else made it.
                Err(KvError::Refused(Refusal::Unsupported(_))) => {}
                Err(error) => return Err(error),
            }
        }
        Err(KvError::Unavailable("the tenant comes and goes".to_owned()))
    }

    /// The credential under an access key, and the tenant it acts for.
    pub(crate) async fn credential(
        &self,
        access_key: &str,
    ) -> Result<Option<row::Credential>, KvError> {
        self.directory()?
            .ask(|view| read::credential(view, access_key))
            .await
    }

    pub(crate) async fn root_credentials(&self) -> Result<Credentials, KvError> {
        let all = self.directory()?.ask(read::credentials).await?;
        let root = all.into_iter().find(|(_, credential)| credential.root);
        let (access_key, credential) =
            root.ok_or_else(|| KvError::Unavailable("there is no root credential".to_owned()))?;
        Ok(Credentials {
            access_key,
            secret_key: credential.secret,
        })
    }

    /// Makes these the root credentials; older root credentials end.
    pub(crate) async fn set_root(self: &Arc<Self>, root: &Credentials) -> Result<(), KvError> {
        let all = self.directory()?.ask(read::credentials).await?;
        let is_same = |(key, found): &(String, row::Credential)| {
            *key == root.access_key && found.root && found.secret == root.secret_key
        };
        if !all.iter().any(is_same) {
            let credential = row::Credential {
                secret: root.secret_key.clone(),
                root: true,
                tenant: 1,
                created_ms: crate::env::clock::wall_ms(),
                settings: Default::default(),
            };
            self.put_credential(&root.access_key, Some(credential))
                .await?;
        }
        for (key, old) in all {
            if old.root && key != root.access_key {
                self.put_credential(&key, None).await?;
            }
        }
        Ok(())
    }

    async fn put_credential(
        self: &Arc<Self>,
        access_key: &str,
        credential: Option<row::Credential>,
    ) -> Result<(), KvError> {
        let body = Body::PutCredential(wire::PutCredential {
            access_key: access_key.to_owned(),
            credential,
        });
        self.directory_command(body, WriteKind::Releasing)
            .await
            .map(drop)
    }
}

/// What a command of group 0 came to.
#[derive(Debug)]
enum Outcome {
    Done(Done),
    /// What it was planned with had changed: nothing happened.
    Stale,
}

/// A change that is agreed is not taken back. That not every group knows it yet must not look like "nothing was changed".
fn late(error: KvError) -> KvError {
    match error {
        KvError::Unavailable(why) | KvError::NoRoom(why) => {
            KvError::Unknown(format!("agreed, but not every group knows it yet: {why}"))
        }
        other => other,
    }
}

fn unexpected(outcome: &Outcome) -> KvError {
    KvError::Unknown(format!("group 0 answered {outcome:?}"))
}
