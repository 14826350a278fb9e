//! The boot number: raised on disk at every start, before anything else is done.
//!
//! Peers keep durably the highest (number, nonce) they saw of each node and refuse a lower one, or the same number with
//! another nonce: an old copy of a disk that comes back cannot vote twice.
//!
//! Always true:
//! * a number is used by one start only: it is durable in both copies before the start goes on;
//! * a disk without room for it gets it out of the ballast;
//! * when the copies differ (a raise was cut between them) the higher one counts.

use std::io;
use std::path::Path;

use prost::Message;

use super::StartError;
use super::twin_file::{Found, TwinFile};
use crate::env::disk::Disk;
use crate::env::random;
use crate::log::give_up_ballast;

const FORMAT: u32 = 1;
const MAGIC: [u8; 8] = *b"minikvBT";

/// A start of a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Boot {
    /// Rises with every start.
    pub number: u64,
    /// Drawn at every start.
    pub nonce: u128,
}

#[derive(Clone, PartialEq, Message)]
struct BootRow {
    #[prost(uint64, tag = "1")]
    number: u64,
    #[prost(bytes = "vec", tag = "2")]
    nonce: Vec<u8>,
}

/// Raises the number. `is_new`: the directory was just made, so there may be no file yet. Also says which copy was bad;
/// both are whole afterwards.
pub(super) async fn raise(
    disk: &dyn Disk,
    dir: &Path,
    is_new: bool,
) -> Result<(Boot, Option<String>), StartError> {
    let file = TwinFile::new(dir, "boot", MAGIC);
    let mut healed = None;
    let last = match file
        .read(disk)
        .map_err(StartError::io("read boot number", dir))?
    {
        // Also when a first start was cut between identity and boot number: nothing was done under that identity.
        Found::Absent if is_new || !disk_has_log(disk, dir) => 0,
        Found::Absent => {
            return Err(StartError::damaged(
                dir,
                "boot",
                "both are missing".to_owned(),
            ));
        }
        Found::Damaged(what) => return Err(StartError::damaged(dir, "boot", what)),
        Found::Whole { bodies, damage, .. } => {
            healed = damage;
            bodies
                .iter()
                .filter_map(|body| BootRow::decode(body.bytes.clone()).ok())
                .map(|row| row.number)
                .max()
                .unwrap_or(0)
        }
    };
    let mut nonce = [0; 16];
    random::fill(&mut nonce);
    let boot = Boot {
        number: last + 1,
        nonce: u128::from_be_bytes(nonce),
    };
    let row = BootRow {
        number: boot.number,
        nonce: nonce.to_vec(),
    };
    let body = row.encode_to_vec();
    let mut written = file.write(disk, FORMAT, &body).await;
    // A full disk must not keep the node from starting: nobody could delete anything then.
    if let Err(error) = &written
        && error.kind() == io::ErrorKind::StorageFull
        && give_up_ballast(disk, &dir.join("log"))
    {
        written = file.write(disk, FORMAT, &body).await;
    }
    written.map_err(StartError::io("write boot number", dir))?;
    Ok((boot, healed))
}

fn disk_has_log(disk: &dyn Disk, dir: &Path) -> bool {
    disk.list(&dir.join("log"))
        .is_ok_and(|entries| !entries.is_empty())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The bytes of docs/formats/data-dir.md. A format that changes gets another one beside it; this stays readable.
    const GOLDEN: &str =
        "6d696e696b764254000000010000001508ac021210101112131415161718191a1b1c1d1e1f918e347e";

    #[test]
    fn a_boot_number_of_the_first_version_is_written_and_read_byte_for_byte() {
        let row = BootRow {
            number: 300,
            nonce: (0x10..0x20).collect(),
        };
        let file = TwinFile::new(Path::new("/data"), "boot", MAGIC);
        let bytes = file.encode(FORMAT, &row.encode_to_vec());
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, GOLDEN);
        let body = file.decode(&bytes).unwrap();
        assert_eq!(BootRow::decode(body.bytes).unwrap(), row);
        // Not a boot number, and one that was cut.
        let identity = TwinFile::new(Path::new("/data"), "identity", *b"minikvID");
        assert!(identity.decode(&bytes).is_err());
        assert!(file.decode(&bytes[..bytes.len() - 1]).is_err());
    }
}
