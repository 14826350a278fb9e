//! The core's front door: what a gateway may ask of the store, in one process or (later) over the network.
//!
//! Always true:
//! * every answer is linearizable; a LIST page shows each key as it was at some moment between request and answer;
//! * every `Ok` of a write is durable;
//! * a refusal is final and left nothing behind; `Unavailable`, `NoRoom`: nothing was changed, try again later;
//!   `Unknown`: it may or may not have happened, and is never proposed again by us.
//!
//! A `Bucket` is a copy of the facts a request is planned with. Facts that changed meanwhile are noticed at apply
//! (epochs) and the request is planned anew in here (`plan`); a gateway need not care.

mod content;
pub mod lifecycle;
mod listing;
mod objects;
mod plan;
mod stage;
mod transact;
mod types;
mod uploads;

use std::sync::Arc;

pub use stage::StageWriter;
pub use types::*;

use crate::chunk::store::Store;
use crate::ids::TenantId;
use crate::shard::router::Router;
use crate::state::read;
use crate::txn::driver;

/// The store. Cheap to clone; all clones speak for the same node.
#[derive(Clone)]
pub struct Kv {
    inner: Arc<Inner>,
}

/// What the front door works with.
pub(crate) struct Inner {
    pub router: Arc<Router>,
    pub store: Arc<Store>,
    pub chunk_bytes: u32,
    pub inline_bytes: usize,
}

impl Kv {
    pub(crate) fn new(inner: Inner) -> Kv {
        Kv {
            inner: Arc::new(inner),
        }
    }

    fn router(&self) -> &Arc<Router> {
        &self.inner.router
    }

    // ---- buckets ----

    /// Makes a bucket. Answered after every group knows it.
    pub async fn create_bucket(&self, create: CreateBucket) -> Result<Bucket, CreateBucketError> {
        self.router().create_bucket(create).await
    }

    /// A bucket's facts; that there is none is answered only after a linearizable read of group 0.
    pub async fn bucket(&self, name: &str) -> Result<Option<Bucket>, KvError> {
        self.router().bucket(name).await
    }

    /// All buckets of a tenant, by name.
    pub async fn buckets(&self, tenant: TenantId) -> Result<Vec<Bucket>, KvError> {
        self.router().buckets(tenant).await
    }

    /// Deletes an empty bucket. `Refused(NoSuchBucket | BucketNotEmpty)`.
    pub async fn delete_bucket(&self, name: &str) -> Result<(), KvError> {
        driver::delete_bucket(self.router(), name).await
    }

    /// Changes versioning, lock, owner or settings: `change` is called on the facts as they are (again, when they change meanwhile).
    /// Id, name, tenant, creation time and epoch stay what they are whatever it does to them, and a lock does not go.
    /// `Refused(LockNeedsVersions)`: of a bucket with object lock, versioning must be enabled.
    pub async fn change_bucket(
        &self,
        name: &str,
        change: impl Fn(&mut Bucket) + Send,
    ) -> Result<Bucket, KvError> {
        self.router().change_bucket(name, change).await
    }

    /// What a bucket uses, as it is charged: all versions, parts and open stages. The groups are asked one after the
    /// other, so under writes it is no single moment.
    pub async fn usage(&self, bucket: &Bucket) -> Result<Usage, KvError> {
        let mut usage = Usage::default();
        for group in self.router().data()? {
            let here = group
                .ask(|view| read::bucket_usage(view, bucket.id))
                .await?;
            usage.add(&Usage::of_row(&here));
        }
        Ok(usage)
    }

    // ---- tenants and credentials ----

    /// The tenant of this name, made if there is none. `default` exists from the start and is `TenantId(1)`.
    pub async fn tenant(&self, name: &str) -> Result<TenantId, KvError> {
        self.router().tenant_named(name).await
    }

    /// The root credentials (first entry of group 0).
    pub async fn root_credentials(&self) -> Result<Credentials, KvError> {
        self.router().root_credentials().await
    }

    /// What an access key stands for; `None`: nobody's.
    pub async fn access_key(&self, access_key: &str) -> Result<Option<AccessKey>, KvError> {
        let found = self.router().credential(access_key).await?;
        Ok(found.map(|credential| AccessKey {
            secret_key: credential.secret,
            tenant: TenantId(credential.tenant),
            is_root: credential.root,
            settings: credential.settings,
        }))
    }
}
