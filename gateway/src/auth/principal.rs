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
}

impl Principal {
    /// The holder of the root key, in the default tenant.
    pub fn root(access_key: &str) -> Principal {
        Principal {
            access_key: access_key.into(),
            tenant: DEFAULT_TENANT,
            role: Role::Root,
        }
    }

    /// Somebody who may use one tenant and nothing else.
    pub fn tenant_admin(name: &str, tenant: TenantId) -> Principal {
        Principal {
            access_key: name.into(),
            tenant,
            role: Role::TenantAdmin,
        }
    }

    /// The canonical id of what it creates: 64 hex digits, the same for everybody in a tenant, as S3 has one for each
    /// account.
    pub fn owner_id(&self) -> String {
        owner_id(self.tenant)
    }
}

/// The canonical id of a tenant.
pub fn owner_id(tenant: TenantId) -> String {
    format!("{:064x}", tenant.0)
}

/// The account number of a tenant, as `x-amz-expected-bucket-owner` names it: 12 digits.
pub fn account_number(tenant: TenantId) -> String {
    format!("{:012}", tenant.0)
}
