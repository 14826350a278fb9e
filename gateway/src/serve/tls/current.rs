//! The certificate that is shown to clients now. Replaced in one step; handshakes that run keep the one they began with.

use std::sync::Arc;

use parking_lot::RwLock;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// Holds it.
#[derive(Debug)]
pub struct Current(RwLock<Arc<CertifiedKey>>);

impl Current {
    /// Begins with this one.
    pub fn new(key: CertifiedKey) -> Arc<Current> {
        Arc::new(Current(RwLock::new(Arc::new(key))))
    }

    /// From now on this one.
    pub fn replace(&self, key: CertifiedKey) {
        *self.0.write() = Arc::new(key);
    }

    /// The one shown now.
    pub fn get(&self) -> Arc<CertifiedKey> {
        self.0.read().clone()
    }
}

impl ResolvesServerCert for Current {
    // One certificate for all names: a client that asks for another name hears from its own checks that it is not ours.
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.get())
    }
}
