//! The boot number: raised on disk at every start, before anything else is done.
//!
//! Peers keep durably the highest (number, nonce) they saw of each node, and take another run of it only if that one came
//! before it: an old copy of a disk that comes back cannot vote twice. A higher number alone says nothing: a disk that was
//! put back counts on, and passes the known number after a few starts. So the nonces of earlier starts are kept here, too.
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

/// So many earlier starts are remembered. A peer that heard of none of them for longer refuses.
const REMEMBERED: usize = 2_000;

/// A start, and the ones before it on this disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Lineage {
    pub boot: Boot,
    /// Nonces of the starts before, newest first.
    earlier: Vec<u128>,
}

impl Lineage {
    /// Whether this is the start itself, or one that this disk remembers.
    pub(super) fn contains(&self, boot: Boot) -> bool {
        if boot.number == self.boot.number {
            return boot == self.boot;
        }
        let back = self.boot.number.checked_sub(boot.number + 1);
        let nonce = back.and_then(|back| self.earlier.get(usize::try_from(back).ok()?));
        nonce == Some(&boot.nonce)
    }

    #[cfg(test)]
    pub(super) fn of(number: u64, nonces: &[u128]) -> Lineage {
        let (nonce, earlier) = nonces.split_first().expect("a start has a nonce");
        Lineage {
            boot: Boot {
                number,
                nonce: *nonce,
            },
            earlier: earlier.to_vec(),
        }
    }
}

#[derive(Clone, PartialEq, Message)]
struct BootRow {
    #[prost(uint64, tag = "1")]
    number: u64,
    #[prost(bytes = "vec", tag = "2")]
    nonce: Vec<u8>,
    /// Nonces of the starts before, newest first, 16 bytes each.
    #[prost(bytes = "vec", tag = "3")]
    earlier: Vec<u8>,
}

/// Raises the number. `is_new`: the directory was just made, so there may be no file yet. Also says which copy was bad;
/// both are whole afterwards.
pub(super) async fn raise(
    disk: &dyn Disk,
    dir: &Path,
    is_new: bool,
) -> Result<(Lineage, Option<String>), StartError> {
    let file = TwinFile::new(dir, "boot", MAGIC);
    let mut healed = None;
    let last = match file
        .read(disk)
        .map_err(StartError::io("read boot number", dir))?
    {
        // Also when a first start was cut between identity and boot number: nothing was done under that identity.
        Found::Absent if is_new || !disk_has_log(disk, dir) => BootRow::default(),
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
                .max_by_key(|row| row.number)
                .unwrap_or_default()
        }
    };
    let mut nonce = [0; 16];
    random::fill(&mut nonce);
    let boot = Boot {
        number: last.number + 1,
        nonce: u128::from_be_bytes(nonce),
    };
    let mut earlier = [last.nonce, last.earlier].concat();
    earlier.truncate(16 * REMEMBERED);
    let row = BootRow {
        number: boot.number,
        nonce: nonce.to_vec(),
        earlier,
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
    let nonce = |bytes: &[u8]| bytes.try_into().map(u128::from_be_bytes).unwrap_or(0);
    let earlier = row.earlier.chunks(16).map(nonce).collect();
    Ok((Lineage { boot, earlier }, healed))
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
            earlier: Vec::new(),
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

    /// Also over a file as the first version wrote it, which knew of no earlier start.
    #[test]
    fn a_start_remembers_the_ones_before_it() {
        crate::env::sim::run(1, async {
            let disk = crate::env::sim::SimDisk::new(1);
            disk.plant_dir("/data").unwrap();
            let dir = Path::new("/data");
            let golden: Vec<u8> = (0..GOLDEN.len() / 2)
                .map(|at| u8::from_str_radix(&GOLDEN[2 * at..2 * at + 2], 16).unwrap())
                .collect();
            disk.plant("/data/boot", &golden).unwrap();
            let on = disk.env().disk;
            let (one, _) = raise(&*on, dir, false).await.unwrap();
            let (two, _) = raise(&*on, dir, false).await.unwrap();
            assert_eq!((one.boot.number, two.boot.number), (301, 302));
            let of_golden = Boot {
                number: 300,
                nonce: 0x1011_1213_1415_1617_1819_1a1b_1c1d_1e1f,
            };
            for known in [of_golden, one.boot, two.boot] {
                assert!(two.contains(known));
                let other = Boot { nonce: 7, ..known };
                assert!(!two.contains(other));
            }
            assert!(!one.contains(two.boot));
        });
    }
}
