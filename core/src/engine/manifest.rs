//! The manifest: which runs are the store, at which applied mark; and CURRENT, which names the manifest in force.
//!
//! ```text
//!   runs written, fsynced -> manifest-N written, fsynced -> directory fsynced -> CURRENT.new fsynced, renamed to CURRENT
//!   -> directory fsynced -> only now are files removed that manifest N does not name
//! ```
//! Always true:
//! * whatever is cut where, CURRENT names a manifest whose runs are all durable: the old one or the new one;
//! * CURRENT holds its manifest's generation and checksum, so a left-over of the same generation is not taken for it;
//! * a generation is never used twice.
//!
//! Here are only the bytes (`docs/formats/runs.md`); `run_store` does the switching.

use bytes::Bytes;

use super::EngineError;
use super::block::{RunId, crc32c, u32_at, u64_at};
use super::damage::damaged;
use super::run::RunMeta;

/// The format this version writes, and the newest it reads.
pub const FORMAT: u32 = 1;
/// The file that names the manifest in force.
pub const CURRENT: &str = "CURRENT";
const MANIFEST_MAGIC: &[u8; 8] = b"mkvmanif";
const CURRENT_MAGIC: &[u8; 8] = b"mkvcurnt";
const CURRENT_LEN: usize = 32;
/// Marks an absent applied mark.
const NONE: u32 = u32::MAX;

/// What a store is for. One kind never opens another's files.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum StoreKind {
    /// Rows of a group (native or memory engine: the files are the same).
    Rows = 1,
    /// Places of a node.
    Places = 2,
}

/// A store's files at one moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Manifest {
    /// What it is for.
    pub kind: StoreKind,
    /// Rises with every switch.
    pub generation: u64,
    /// Number of the next run.
    pub next_run: u64,
    /// The applied mark of the rows.
    pub applied: Option<Bytes>,
    /// Sum of the hashes of the live rows.
    pub digest: u128,
    /// Owned by the kind (see `places`).
    pub extra: Bytes,
    /// Newest first.
    pub runs: Vec<RunMeta>,
}

impl Manifest {
    /// Of a store that was just made.
    pub fn empty(kind: StoreKind) -> Manifest {
        Manifest {
            kind,
            generation: 0,
            next_run: 1,
            applied: None,
            digest: 0,
            extra: Bytes::new(),
            runs: Vec::new(),
        }
    }

    /// The name of the file of this generation, or of its second copy.
    pub fn file_name(generation: u64, twin: bool) -> String {
        format!(
            "manifest-{generation:016x}{}",
            if twin { ".twin" } else { "" }
        )
    }

    /// Its bytes.
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(256);
        out.extend_from_slice(MANIFEST_MAGIC);
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&FORMAT.to_le_bytes());
        out.extend_from_slice(&[self.kind as u8, 0, 0, 0, 0, 0, 0, 0]);
        out.extend_from_slice(&self.generation.to_le_bytes());
        out.extend_from_slice(&self.next_run.to_le_bytes());
        out.extend_from_slice(&self.digest.to_le_bytes());
        let mut put = |bytes: &[u8]| {
            out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
            out.extend_from_slice(bytes);
        };
        put(&self.extra);
        match &self.applied {
            Some(applied) => put(applied),
            None => out.extend_from_slice(&NONE.to_le_bytes()),
        }
        out.extend_from_slice(&(self.runs.len() as u32).to_le_bytes());
        for run in &self.runs {
            for number in [
                run.id.number,
                run.id.nonce,
                run.len,
                run.crc64,
                run.rows,
                run.tombstones,
            ] {
                out.extend_from_slice(&number.to_le_bytes());
            }
            for key in [&run.min, &run.max] {
                out.extend_from_slice(&(key.len() as u32).to_le_bytes());
                out.extend_from_slice(key);
            }
        }
        let crc = crc32c(&out[12..]);
        out[8..12].copy_from_slice(&crc.to_le_bytes());
        Bytes::from(out)
    }

    /// Reads them; `file` is the name for errors.
    pub fn decode(file: &str, bytes: &Bytes) -> Result<Manifest, EngineError> {
        check(file, bytes, MANIFEST_MAGIC, 56)?;
        let kind = match bytes[16] {
            1 => StoreKind::Rows,
            2 => StoreKind::Places,
            other => return Err(damaged(file, format!("store of kind {other}"))),
        };
        let mut digest = [0; 16];
        digest.copy_from_slice(&bytes[40..56]);
        let mut reader = Reader { bytes, at: 56 };
        let mut rest = || {
            let extra = reader.part()?.unwrap_or_default();
            let applied = reader.part()?;
            let count = reader.u32()?;
            let mut runs = Vec::new();
            for _ in 0..count {
                let id = RunId {
                    number: reader.u64()?,
                    nonce: reader.u64()?,
                };
                let (len, crc64) = (reader.u64()?, reader.u64()?);
                let (rows, tombstones) = (reader.u64()?, reader.u64()?);
                let (min, max) = (reader.part()??, reader.part()??);
                runs.push(RunMeta {
                    id,
                    len,
                    crc64,
                    rows,
                    tombstones,
                    min,
                    max,
                });
            }
            (reader.at == bytes.len()).then_some((extra, applied, runs))
        };
        let (extra, applied, runs) = rest().ok_or_else(|| damaged(file, "its parts do not fit"))?;
        Ok(Manifest {
            kind,
            generation: u64_at(bytes, 24),
            next_run: u64_at(bytes, 32),
            applied,
            digest: u128::from_le_bytes(digest),
            extra,
            runs,
        })
    }
}

/// Magic, checksum and format, which both files begin with.
fn check(file: &str, bytes: &[u8], magic: &[u8; 8], at_least: usize) -> Result<(), EngineError> {
    if bytes.len() < at_least {
        return Err(damaged(file, format!("only {} bytes long", bytes.len())));
    }
    if &bytes[..8] != magic || crc32c(&bytes[12..]) != u32_at(bytes, 8) {
        return Err(damaged(file, "checksum differs"));
    }
    match u32_at(bytes, 12) {
        FORMAT => Ok(()),
        found => Err(EngineError::Newer {
            file: file.into(),
            found,
            known: FORMAT,
        }),
    }
}

struct Reader<'a> {
    bytes: &'a Bytes,
    at: usize,
}

impl Reader<'_> {
    fn take(&mut self, len: usize) -> Option<Bytes> {
        let end = self
            .at
            .checked_add(len)
            .filter(|end| *end <= self.bytes.len())?;
        let taken = self.bytes.slice(self.at..end);
        self.at = end;
        Some(taken)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take(4).map(|bytes| u32_at(&bytes, 0))
    }

    fn u64(&mut self) -> Option<u64> {
        self.take(8).map(|bytes| u64_at(&bytes, 0))
    }

    /// A length and that many bytes; `Some(None)` where none were written.
    fn part(&mut self) -> Option<Option<Bytes>> {
        match self.u32()? {
            NONE => Some(None),
            len => Some(Some(Bytes::copy_from_slice(&self.take(len as usize)?))),
        }
    }
}

/// The content of CURRENT.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Current {
    /// Generation in force.
    pub generation: u64,
    /// CRC-32C of the manifest's whole file.
    pub manifest_crc: u32,
}

impl Current {
    /// Names this encoded manifest.
    pub fn of(generation: u64, manifest: &[u8]) -> Current {
        Current {
            generation,
            manifest_crc: crc32c(manifest),
        }
    }

    /// Its bytes.
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(CURRENT_LEN);
        out.extend_from_slice(CURRENT_MAGIC);
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&FORMAT.to_le_bytes());
        out.extend_from_slice(&self.generation.to_le_bytes());
        out.extend_from_slice(&self.manifest_crc.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        let crc = crc32c(&out[12..]);
        out[8..12].copy_from_slice(&crc.to_le_bytes());
        Bytes::from(out)
    }

    /// Reads them.
    pub fn decode(file: &str, bytes: &[u8]) -> Result<Current, EngineError> {
        check(file, bytes, CURRENT_MAGIC, CURRENT_LEN)?;
        if bytes.len() != CURRENT_LEN {
            return Err(damaged(file, format!("{} bytes long", bytes.len())));
        }
        Ok(Current {
            generation: u64_at(bytes, 16),
            manifest_crc: u32_at(bytes, 24),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn manifest() -> Manifest {
        let run = |number| RunMeta {
            id: RunId { number, nonce: 9 },
            len: 1000,
            crc64: 77,
            rows: 5,
            tombstones: 1,
            min: Bytes::from_static(b""),
            max: Bytes::from_static(b"zebra"),
        };
        Manifest {
            generation: 12,
            next_run: 4,
            applied: Some(Bytes::from_static(b"at 99")),
            digest: u128::MAX - 5,
            extra: Bytes::from_static(b"more"),
            runs: vec![run(3), run(1)],
            ..Manifest::empty(StoreKind::Places)
        }
    }

    #[test]
    fn manifest_reads_back_and_every_flipped_bit_is_noticed() {
        for manifest in [manifest(), Manifest::empty(StoreKind::Rows)] {
            let bytes = manifest.encode();
            assert_eq!(Manifest::decode("m", &bytes).unwrap(), manifest);
            for bit in 0..bytes.len() * 8 {
                let mut bad = bytes.to_vec();
                bad[bit / 8] ^= 1 << (bit % 8);
                assert!(
                    Manifest::decode("m", &Bytes::from(bad)).is_err(),
                    "bit {bit}"
                );
            }
            for cut in 0..bytes.len() {
                assert!(Manifest::decode("m", &bytes.slice(..cut)).is_err());
            }
        }
        let current = Current::of(12, b"manifest");
        let bytes = current.encode();
        assert_eq!(Current::decode("CURRENT", &bytes).unwrap(), current);
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Current::decode("CURRENT", &bad).is_err(), "bit {bit}");
        }
    }

    /// A store of a later version is left alone with a clear word, not called damaged.
    #[test]
    fn later_format_is_named() {
        let mut bytes = manifest().encode().to_vec();
        bytes[12] = 2;
        let crc = crc32c(&bytes[12..]);
        bytes[8..12].copy_from_slice(&crc.to_le_bytes());
        let error = Manifest::decode("m", &Bytes::from(bytes)).unwrap_err();
        assert!(
            matches!(
                error,
                EngineError::Newer {
                    found: 2,
                    known: 1,
                    ..
                }
            ),
            "{error}"
        );
    }
}
