//! A small file that must not be lost: kept twice, checksummed, replaced whole.
//!
//! ```text
//! magic (8) | format u32 | body length u32 | body | CRC32C of all before u32        big-endian
//! ```
//! Always true:
//! * at every moment of a replacement at least one of `NAME` and `NAME.twin` is whole on the disk: the second is
//!   touched only after the first is durable;
//! * a copy that fails its checksum is never believed; it is written again from the other one at the next `read`.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::env::disk::{Disk, Open};

const HEAD: usize = 16;
/// Bodies are tens of bytes; a longer length is damage.
const MAX_BODY: usize = 64 << 10;

/// One valid copy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Body {
    /// Format number of the file.
    pub format: u32,
    /// What it holds.
    pub bytes: Bytes,
}

/// What the two copies came to.
#[derive(Debug)]
pub(super) enum Found {
    /// Neither exists.
    Absent,
    /// At least one is whole. Both, when they differ (a replacement was cut between them).
    Whole {
        /// The whole copies, one or two.
        bodies: Vec<Body>,
        /// A copy was bad, in words for `status`.
        damage: Option<String>,
        /// A copy is missing: the first replacement was cut between the two, which is no damage.
        lacks_one: bool,
    },
    /// There are copies and none is whole.
    Damaged(String),
}

/// A file of this kind, by name and magic.
pub(super) struct TwinFile {
    dir: PathBuf,
    name: &'static str,
    magic: [u8; 8],
}

impl TwinFile {
    pub(super) fn new(dir: &Path, name: &'static str, magic: [u8; 8]) -> TwinFile {
        TwinFile {
            dir: dir.to_owned(),
            name,
            magic,
        }
    }

    fn paths(&self) -> [PathBuf; 2] {
        [
            self.dir.join(self.name),
            self.dir.join(format!("{}.twin", self.name)),
        ]
    }

    /// Reads both copies.
    pub(super) fn read(&self, disk: &dyn Disk) -> io::Result<Found> {
        let mut bodies: Vec<Body> = Vec::new();
        let mut faults = Vec::new();
        let mut absent = 0;
        for path in self.paths() {
            let bytes = match read_whole(disk, &path) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    absent += 1;
                    continue;
                }
                Err(error) => return Err(error),
            };
            match self.decode(&bytes) {
                Ok(body) => {
                    if !bodies.contains(&body) {
                        bodies.push(body);
                    }
                }
                Err(what) => faults.push(format!("{} {what}", path.display())),
            }
        }
        let faults = (!faults.is_empty()).then(|| faults.join(", "));
        Ok(match (bodies.is_empty(), absent) {
            (true, 2) => Found::Absent,
            (true, _) => Found::Damaged(faults.unwrap_or_default()),
            (false, _) => Found::Whole {
                bodies,
                damage: faults,
                lacks_one: absent > 0,
            },
        })
    }

    /// Replaces both copies, one after the other, durably.
    pub(super) async fn write(&self, disk: &dyn Disk, format: u32, body: &[u8]) -> io::Result<()> {
        assert!(body.len() <= MAX_BODY, "a small file grew large");
        let bytes = self.encode(format, body);
        for path in self.paths() {
            let draft = path.with_extension("new");
            match disk.remove(&draft) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let file = disk.open(&draft, Open::CreateNew)?;
            file.write_at(std::slice::from_ref(&bytes), 0).await?;
            file.sync_data().await?;
            drop(file);
            disk.rename(&draft, &path)?;
            // The second copy may only be touched once this one is there to stay.
            disk.sync_dir(&self.dir).await?;
        }
        Ok(())
    }

    pub(super) fn encode(&self, format: u32, body: &[u8]) -> Bytes {
        let mut out = Vec::with_capacity(HEAD + body.len() + 4);
        out.extend_from_slice(&self.magic);
        out.extend_from_slice(&format.to_be_bytes());
        out.extend_from_slice(&(body.len() as u32).to_be_bytes());
        out.extend_from_slice(body);
        out.extend_from_slice(&crc32c(&out).to_be_bytes());
        out.into()
    }

    pub(super) fn decode(&self, bytes: &[u8]) -> Result<Body, String> {
        let word = |at: usize| {
            bytes
                .get(at..at + 4)
                .and_then(|b| b.try_into().ok())
                .map(u32::from_be_bytes)
        };
        if bytes.get(..8) != Some(&self.magic[..]) {
            return Err("does not begin as it should".to_owned());
        }
        let (Some(format), Some(len)) = (word(8), word(12)) else {
            return Err("is too short".to_owned());
        };
        let end = HEAD + (len as usize).min(MAX_BODY + 1);
        if word(end) != bytes.get(..end).map(crc32c) || bytes.len() != end + 4 {
            return Err("fails its checksum".to_owned());
        }
        Ok(Body {
            format,
            bytes: Bytes::copy_from_slice(&bytes[HEAD..end]),
        })
    }
}

fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

fn read_whole(disk: &dyn Disk, path: &Path) -> io::Result<Vec<u8>> {
    let file = disk.open(path, Open::Read)?;
    let len = file.len()?.min((HEAD + MAX_BODY + 8) as u64) as usize;
    let mut bytes = vec![0; len];
    let mut at = 0;
    while at < len {
        let read = file.read_at(&mut bytes[at..], at as u64)?;
        if read == 0 {
            bytes.truncate(at);
            break;
        }
        at += read;
    }
    Ok(bytes)
}
