//! Replaces the certificate while the server runs: when its files changed, or when ours grows old.
//!
//! Files are looked at every two seconds. A new pair is written as two files, one after the other, so the first look
//! may find halves that do not fit: then the old pair stays, the log says so, and the next change is a new chance.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::sign::CertifiedKey;

use super::authority::{Authority, AuthorityError, LEAF_DAYS};
use super::current::Current;
use super::pair::{Pair, PairError};
use crate::serve::shutdown::{Phase, Stop};

/// How often files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Where certificates come from.
pub enum Source {
    /// Files of the operator.
    Files(Pair),
    /// Our own CA, for these names.
    Auto(Box<Authority>, Vec<String>),
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The operator's files.
    #[error(transparent)]
    Pair(#[from] PairError),
    /// Our CA.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
}

impl Source {
    /// The certificate to show now.
    pub fn load(&self) -> Result<CertifiedKey, SourceError> {
        Ok(match self {
            Source::Files(pair) => pair.load()?,
            Source::Auto(authority, names) => authority.issue(names, now())?,
        })
    }

    /// Changes whenever `load` would give something new.
    fn mark(&self) -> Mark {
        match self {
            Source::Files(pair) => Mark::Files([stamp(&pair.cert), stamp(&pair.key)]),
            // A new one at half its life: a machine that slept for a month still has a good one.
            Source::Auto(..) => Mark::Age(now() / (LEAF_DAYS * 86_400 / 2)),
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Mark {
    Files([Option<Stamp>; 2]),
    Age(u64),
}

/// Changes when a file is written, replaced, or reached through another link (as Kubernetes swaps secrets).
type Stamp = (SystemTime, u64, u64);

fn stamp(path: &Path) -> Option<Stamp> {
    use std::os::unix::fs::MetadataExt;
    let meta = std::fs::metadata(path).ok()?;
    Some((meta.modified().ok()?, meta.len(), meta.ino()))
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

/// A source, and what was last taken from it.
pub struct Watched {
    source: Source,
    seen: Mark,
    current: Arc<Current>,
}

impl Watched {
    /// Loads the first certificate.
    pub fn begin(source: Source) -> Result<Watched, SourceError> {
        // Marked before it is read: a change in between is then seen as one.
        let seen = source.mark();
        let current = Current::new(source.load()?);
        Ok(Watched {
            source,
            seen,
            current,
        })
    }

    /// What is shown.
    pub fn current(&self) -> Arc<Current> {
        self.current.clone()
    }

    /// Runs until the server ends.
    pub async fn keep_fresh(self, stop: Stop) {
        self.look(LOOK_EVERY, stop).await;
    }

    async fn look(mut self, every: Duration, mut stop: Stop) {
        while tokio::time::timeout(every, stop.reached(Phase::Draining))
            .await
            .is_err()
        {
            self.refresh();
        }
    }

    fn refresh(&mut self) {
        let mark = self.source.mark();
        if mark == self.seen {
            return;
        }
        self.seen = mark;
        match self.source.load() {
            Ok(key) if key.cert == self.current.get().cert => {}
            Ok(key) => {
                self.current.replace(key);
                tracing::info!("a new TLS certificate is in use");
            }
            Err(error) => {
                tracing::error!(%error, "the new TLS certificate cannot be used; the old one stays in use");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::serve::shutdown::stopper;

    fn write_pair(dir: &Path, which: &rcgen::CertifiedKey<rcgen::KeyPair>, halves: &str) {
        if halves.contains('c') {
            std::fs::write(dir.join("cert.pem"), which.cert.pem()).unwrap();
        }
        if halves.contains('k') {
            std::fs::write(dir.join("key.pem"), which.signing_key.serialize_pem()).unwrap();
        }
    }

    /// An operator replaces the files of a running server; half a pair, or rubbish, changes nothing.
    #[tokio::test]
    async fn new_pair_is_shown_and_a_bad_one_never() {
        let dir = tempfile::tempdir().unwrap();
        let [old, new] = [(), ()]
            .map(|()| rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap());
        write_pair(dir.path(), &old, "ck");
        let pair = Pair {
            cert: dir.path().join("cert.pem"),
            key: dir.path().join("key.pem"),
        };
        let watched = Watched::begin(Source::Files(pair)).unwrap();
        let current = watched.current();
        let (stopping, stop) = stopper();
        tokio::spawn(watched.look(Duration::from_millis(20), stop));
        let settle = || tokio::time::sleep(Duration::from_millis(200));
        settle().await;
        let shown = |which: &rcgen::CertifiedKey<_>| current.get().cert[0] == *which.cert.der();
        write_pair(dir.path(), &new, "c");
        settle().await;
        assert!(shown(&old), "half a pair");
        std::fs::write(dir.path().join("key.pem"), "-----BEGIN rubbish").unwrap();
        settle().await;
        assert!(shown(&old), "rubbish");
        std::fs::remove_file(dir.path().join("key.pem")).unwrap();
        settle().await;
        assert!(shown(&old), "no key at all");
        write_pair(dir.path(), &new, "k");
        settle().await;
        assert!(shown(&new));
        assert!(stopping.stop(Duration::from_secs(5)).await);
    }
}
