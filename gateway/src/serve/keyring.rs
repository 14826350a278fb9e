//! The file of the key ring: read at the start, made when there is none in the data directory, watched while we run.
//!
//! Always true:
//! * nobody but its owner can read it, from its first byte on; it appears whole or not at all, and is on the disk before
//!   a key of it guards anything;
//! * who changes it holds the directory's lock: two `minikv key` commands at once lose no key;
//! * a file that became unreadable changes nothing in a running server but for a line in its log.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::FlockOperation;

use crate::object::encryption::keys::MasterKey;
use crate::object::encryption::ring::{KeyRing, RingError};
use crate::ops::{OpContext, random_key};

/// The key that a new ring has.
pub const FIRST_KEY: &str = "minikv";

/// How often a running server looks whether the file changed.
const LOOK_EVERY: Duration = Duration::from_secs(2);

const HEAD: &str = "\
# The master keys of this minikv (server-side encryption). Without this file what it encrypted can never be read again:
# keep a copy of it elsewhere. Whoever has it and the data can read everything but SSE-C. `minikv key` changes it.
";

/// Why there is no ring.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// The file that was named is not there.
    #[error("there is no key ring {0}; make one with: minikv key add NAME --keyring {0}")]
    Missing(PathBuf),
    /// It is there, and not one.
    #[error("the key ring {path}: {cause}")]
    Bad {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        cause: RingError,
    },
    /// The file system.
    #[error("the key ring {path}: {cause}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What it said.
        #[source]
        cause: io::Error,
    },
}

/// Where it lies, unless a setting says otherwise.
pub fn path(data_dir: &Path, named: Option<&Path>) -> PathBuf {
    is_named(named).map_or_else(|| data_dir.join("keyring.toml"), Path::to_owned)
}

/// As the example file has it, empty is not named.
fn is_named(named: Option<&Path>) -> Option<&Path> {
    named.filter(|named| !named.as_os_str().is_empty())
}

/// Reads it; `None` when there is none.
pub fn read(path: &Path) -> Result<Option<KeyRing>, KeyringError> {
    let io = |cause| KeyringError::Io {
        path: path.to_owned(),
        cause,
    };
    let text = match std::fs::read_to_string(path) {
        Ok(text) => zeroize::Zeroizing::new(text),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(io(cause)),
    };
    let ring = KeyRing::parse(&text).map_err(|cause| KeyringError::Bad {
        path: path.to_owned(),
        cause,
    })?;
    Ok(Some(ring))
}

/// The ring a server starts with. `named`: by a setting, and then it must be there: a new one would open nothing that an
/// older one guards.
pub fn open(data_dir: &Path, named: Option<&Path>) -> Result<KeyRing, KeyringError> {
    let path = path(data_dir, named);
    match read(&path)? {
        Some(ring) => {
            warn_if_open(&path);
            Ok(ring)
        }
        None if is_named(named).is_some() => Err(KeyringError::Missing(path)),
        None => {
            let ring = change(&path, |ring| match ring {
                // Another process was first.
                Some(ring) => Ok(ring),
                None => KeyRing::new(FIRST_KEY, new_key()),
            })?;
            tracing::info!(path = %path.display(), "made a key ring for server-side encryption; keep a copy of it elsewhere");
            Ok(ring)
        }
    }
}

/// A new random key.
pub fn new_key() -> MasterKey {
    MasterKey::of_random(random_key())
}

/// Changes the file: nobody else does meanwhile, and it is on the disk when this answers.
pub fn change(
    path: &Path,
    how: impl FnOnce(Option<KeyRing>) -> Result<KeyRing, RingError>,
) -> Result<KeyRing, KeyringError> {
    let io = |cause: io::Error| KeyringError::Io {
        path: path.to_owned(),
        cause,
    };
    let dir = path
        .parent()
        .filter(|dir| !dir.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let dir = File::open(dir).map_err(io)?;
    rustix::fs::flock(&dir, FlockOperation::LockExclusive).map_err(|cause| io(cause.into()))?;
    let ring = how(read(path)?).map_err(|cause| KeyringError::Bad {
        path: path.to_owned(),
        cause,
    })?;
    write(path, &dir, &ring).map_err(io)?;
    Ok(ring)
}

fn write(path: &Path, dir: &File, ring: &KeyRing) -> io::Result<()> {
    let beside = path.with_extension("toml.new");
    // One left by a crash may have other permissions than ours will have.
    match std::fs::remove_file(&beside) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(cause),
        _ => {}
    }
    let mut out = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&beside)?;
    out.write_all(HEAD.as_bytes())?;
    out.write_all(b"\n")?;
    out.write_all(ring.text().as_bytes())?;
    out.sync_all()?;
    std::fs::rename(&beside, path)?;
    dir.sync_all()
}

fn warn_if_open(path: &Path) {
    let mode = std::fs::metadata(path).map_or(0, |found| found.mode());
    if mode & 0o077 != 0 {
        tracing::warn!(path = %path.display(), mode = format!("{:o}", mode & 0o777), "others can read the key ring: chmod 600");
    }
}

/// What tells one state of the file from another.
fn state(path: &Path) -> Option<(u64, i64, i64)> {
    let found = std::fs::metadata(path).ok()?;
    Some((found.ino(), found.mtime(), found.mtime_nsec()))
}

/// Takes changes of the file into the running server, for ever.
pub async fn watch(path: PathBuf, ops: OpContext) {
    let mut seen = state(&path);
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let now = state(&path);
        if now == seen {
            continue;
        }
        seen = now;
        match read(&path) {
            Ok(Some(ring)) => {
                tracing::info!(path = %path.display(), "took over the changed key ring");
                ops.replace_ring(ring);
            }
            Ok(None) => {
                tracing::error!(path = %path.display(), "the key ring is gone; going on with the one that was there");
            }
            Err(error) => tracing::error!(%error, "going on with the key ring as it was"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_first_start_makes_a_ring_that_only_its_owner_reads() {
        let dir = tempfile::tempdir().unwrap();
        let ring = open(dir.path(), None).unwrap();
        let file = path(dir.path(), None);
        let mode = std::fs::metadata(&file).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(open(dir.path(), None).unwrap(), ring, "and keeps it");
        assert_eq!(ring.current_name(), FIRST_KEY);
    }

    /// A mistyped path must not make a new ring beside the old one.
    #[test]
    fn a_ring_that_was_named_must_be_there() {
        let dir = tempfile::tempdir().unwrap();
        let named = dir.path().join("keys.toml");
        let error = open(dir.path(), Some(&named)).unwrap_err();
        assert!(error.to_string().contains("minikv key add"), "{error}");
        std::fs::write(&named, "current = \"a\"").unwrap();
        assert!(matches!(
            open(dir.path(), Some(&named)),
            Err(KeyringError::Bad { .. })
        ));
    }

    #[test]
    fn a_change_keeps_what_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let before = open(dir.path(), None).unwrap();
        let file = path(dir.path(), None);
        let rotated = change(&file, |ring| {
            let mut ring = ring.unwrap();
            ring.rotate(FIRST_KEY, new_key())?;
            Ok(ring)
        })
        .unwrap();
        let old = before.current().unwrap().newest().id();
        assert!(rotated.master(old).is_some());
        assert_eq!(read(&file).unwrap(), Some(rotated));
    }
}
