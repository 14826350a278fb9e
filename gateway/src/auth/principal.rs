//! Who a proven request comes from.

use std::sync::Arc;

use minikv_core::ids::TenantId;

/// The tenant that exists from the start.
pub const DEFAULT_TENANT: TenantId = TenantId(1);

/// What a principal is to its tenant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Holds the root key: may do everything, in every tenant.
    Root,
    /// May do everything within its own tenant.
    TenantAdmin,
    /// May do everything with what is its own, and nothing with what is not.
    User,
}

/// A proven caller. There is no principal for "nobody": an anonymous request has none and gets nowhere.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Principal {
    /// The key it proved to have, or a name for what needs no key (the demo tenant).
    pub access_key: Arc<str>,
    /// Whose buckets it sees.
    pub tenant: TenantId,
    /// What it may do.
    pub role: Role,
    /// The canonical id of what it creates: S3 has one for each account.
    owner: Arc<str>,
}

impl Principal {
    /// The holder of the root key, in the default tenant.
    pub fn root(access_key: &str) -> Principal {
        Principal {
            access_key: access_key.into(),
            tenant: DEFAULT_TENANT,
            role: Role::Root,
            owner: owner_id(DEFAULT_TENANT).into(),
        }
    }

    /// Somebody who may use one tenant and nothing else.
    pub fn tenant_admin(name: &str, tenant: TenantId) -> Principal {
        Principal {
            access_key: name.into(),
            tenant,
            role: Role::TenantAdmin,
            owner: owner_id(tenant).into(),
        }
    }

    /// Somebody with a canonical id of his own, whose buckets are closed to everybody but root.
    pub fn user(access_key: &str, tenant: TenantId, canonical_id: &str) -> Principal {
        Principal {
            access_key: access_key.into(),
            tenant,
            role: Role::User,
            owner: canonical_id.into(),
        }
    }

    /// The canonical id of what it creates.
    pub fn owner_id(&self) -> String {
        self.owner.to_string()
    }

    /// Whether this canonical id is its own.
    pub fn is_owner(&self, id: &str) -> bool {
        *self.owner == *id
    }
}

/// The canonical id of a tenant: 64 hex digits, the same for everybody in it who has none of his own.
pub fn owner_id(tenant: TenantId) -> String {
    format!("{:064x}", tenant.0)
}

/// The account number of a tenant, as `x-amz-expected-bucket-owner` names it: 12 digits.
pub fn account_number(tenant: TenantId) -> String {
    format!("{:012}", tenant.0)
}
