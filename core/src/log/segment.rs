//! Segments: the files a stream consists of.
//!
//! ```text
//!   meta-0000000007.seg:  | header page, 4096 bytes: the header twice | batch | batch | ... | sealing batch | never written |
//! ```
//! A segment is made ahead of its use: room reserved, header fsynced, and only then given its name. It grows by batches
//! until one seals it, never changes afterwards, and is deleted whole.
//!
//! Always true:
//! * a file that carries a segment's name has its full length and a durable header (`.new` files are leftovers of a crash);
//! * one flipped bit in a header page is healed from its other half;
//! * a reader that holds a segment keeps its bytes readable, deleted or not.
//!
//! Elsewhere: when the next one is made (`keeper`), when one is sealed (`writer`), when one goes (`compaction`).

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;

use super::checksum::crc32c;
use super::error::LogError;
use super::place::Stream;
use super::record::{u32_at, u64_at};
use crate::env::disk::{Disk, File, Open};

/// Where the first batch of a segment lies; before it is the header page.
pub(super) const FIRST_BATCH: u32 = 4096;
/// Offset of the header's second copy.
const TWIN: usize = 2048;
const HEADER: usize = 48;
const MAGIC: u64 = u64::from_le_bytes(*b"MINIKVLG");
const VERSION: u8 = 1;

/// What the header page says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct SegmentHeader {
    pub stream: Stream,
    pub number: u32,
    /// Length of the file.
    pub length: u32,
    /// Secret of this log, the same in all its segments; see `Stamp`.
    pub log_id: u64,
}

/// How a header page was found.
pub(super) enum HeaderPage {
    Good(SegmentHeader),
    /// One half is damaged, the other is not.
    Half(SegmentHeader),
    Bad,
    Newer {
        version: u8,
    },
}

impl SegmentHeader {
    fn encode(&self) -> [u8; HEADER] {
        let mut out = [0; HEADER];
        out[0..8].copy_from_slice(&MAGIC.to_le_bytes());
        out[8] = VERSION;
        out[9] = self.stream as u8;
        // 10..12 stay zero.
        out[12..16].copy_from_slice(&self.number.to_le_bytes());
        out[16..20].copy_from_slice(&self.length.to_le_bytes());
        // 20..24 stay zero.
        out[24..32].copy_from_slice(&self.log_id.to_le_bytes());
        // 32..44 stay zero.
        let crc = crc32c(&out[..44]);
        out[44..48].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// The whole header page.
    pub(super) fn page(&self) -> Bytes {
        let mut page = vec![0; FIRST_BATCH as usize];
        page[..HEADER].copy_from_slice(&self.encode());
        page[TWIN..TWIN + HEADER].copy_from_slice(&self.encode());
        page.into()
    }

    fn decode(bytes: &[u8]) -> Result<SegmentHeader, Option<u8>> {
        if u64_at(bytes, 0) != MAGIC || u32_at(bytes, 44) != crc32c(&bytes[..44]) {
            return Err(None);
        }
        if bytes[8] != VERSION {
            return Err(Some(bytes[8]));
        }
        Ok(SegmentHeader {
            stream: Stream::of(bytes[9]).ok_or(None)?,
            number: u32_at(bytes, 12),
            length: u32_at(bytes, 16),
            log_id: u64_at(bytes, 24),
        })
    }

    /// Reads a header page.
    pub(super) fn of_page(page: &[u8]) -> HeaderPage {
        let halves = [0, TWIN].map(|at| match page.get(at..at + HEADER) {
            Some(half) => SegmentHeader::decode(half),
            None => Err(None),
        });
        match halves {
            [Ok(first), Ok(second)] if first == second => HeaderPage::Good(first),
            [Err(Some(version)), _] | [_, Err(Some(version))] => HeaderPage::Newer { version },
            [Ok(_), Ok(_)] => HeaderPage::Bad,
            [Ok(half), Err(None)] | [Err(None), Ok(half)] => HeaderPage::Half(half),
            [Err(None), Err(None)] => HeaderPage::Bad,
        }
    }
}

/// An open segment.
pub(super) struct Segment {
    pub stream: Stream,
    pub number: u32,
    pub length: u32,
    pub path: PathBuf,
    pub file: Arc<dyn File>,
}

impl Segment {
    /// Its file name, and the number in one.
    pub(super) fn name(stream: Stream, number: u32) -> String {
        format!("{stream}-{number:010}.seg")
    }

    /// Stream and number of a segment's file name; `None` for other files.
    pub(super) fn parse(path: &Path) -> Option<(Stream, u32)> {
        let name = path.file_name()?.to_str()?.strip_suffix(".seg")?;
        let (stream, number) = name.split_once('-')?;
        let stream = Stream::ALL.into_iter().find(|s| s.to_string() == stream)?;
        let number = number.parse().ok()?;
        (Segment::name(stream, number) == format!("{name}.seg")).then_some((stream, number))
    }

    /// Makes a segment: room, header, name, each durable before the next.
    pub(super) async fn create(
        disk: &dyn Disk,
        dir: &Path,
        header: SegmentHeader,
    ) -> Result<Segment, CreateError> {
        let path = dir.join(Segment::name(header.stream, header.number));
        let new = path.with_extension("new");
        // A name that is taken may be in use: never put another file in its place.
        match disk.open(&path, Open::Read) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(CreateError::Failed(error)),
            Ok(_) => return Err(CreateError::Failed(io::ErrorKind::AlreadyExists.into())),
        }
        let written = async {
            let file = disk.open(&new, Open::CreateNew)?;
            file.expect_random_reads();
            file.allocate(u64::from(header.length))?;
            file.write_at(&[header.page()], 0).await?;
            Ok(file)
        };
        let file = match written.await {
            Ok(file) => file,
            Err(error) => {
                // Give the room back, or a full disk stays full. If that fails too, the next start removes it.
                let _ = disk.remove(&new);
                return Err(if is_full(&error) {
                    CreateError::Full(error)
                } else {
                    CreateError::Failed(error)
                });
            }
        };
        // From here on, "full" is as bad as any other failure: nothing is known of what an fsync did that failed.
        file.sync_data().await.map_err(CreateError::Failed)?;
        disk.rename(&new, &path).map_err(CreateError::Failed)?;
        disk.sync_dir(dir).await.map_err(CreateError::Failed)?;
        Ok(Segment {
            stream: header.stream,
            number: header.number,
            length: header.length,
            path,
            file,
        })
    }
}

/// Why a segment could not be made.
#[derive(Debug)]
pub(super) enum CreateError {
    /// There is no room for it. Try again when there is.
    Full(io::Error),
    /// The disk failed.
    Failed(io::Error),
}

impl CreateError {
    pub(super) fn cause(&self) -> &io::Error {
        let (CreateError::Full(cause) | CreateError::Failed(cause)) = self;
        cause
    }
}

/// Whether the disk is only full.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// The segments there are, for readers.
#[derive(Default)]
pub(super) struct Segments {
    streams: [RwLock<BTreeMap<u32, Arc<Segment>>>; 2],
}

impl Segments {
    pub(super) fn insert(&self, segment: Arc<Segment>) {
        self.streams[segment.stream.at()]
            .write()
            .insert(segment.number, segment);
    }

    pub(super) fn get(&self, stream: Stream, number: u32) -> Option<Arc<Segment>> {
        self.streams[stream.at()].read().get(&number).cloned()
    }

    pub(super) fn remove(&self, stream: Stream, number: u32) -> Option<Arc<Segment>> {
        self.streams[stream.at()].write().remove(&number)
    }

    /// Numbers of all segments of a stream, ascending.
    pub(super) fn numbers(&self, stream: Stream) -> Vec<u32> {
        self.streams[stream.at()].read().keys().copied().collect()
    }
}

/// Turns a disk error into ours, naming the file.
pub(super) fn io_error(step: &str, path: &Path, cause: &io::Error) -> LogError {
    LogError::io(format!("{step} {}", path.display()), cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER_OF_SEVEN: SegmentHeader = SegmentHeader {
        stream: Stream::Blob,
        number: 7,
        length: 1 << 20,
        log_id: 0xFEED,
    };

    #[test]
    fn any_flipped_bit_of_a_header_page_is_harmless() {
        let good = HEADER_OF_SEVEN.page();
        assert!(matches!(
            SegmentHeader::of_page(&good),
            HeaderPage::Good(HEADER_OF_SEVEN)
        ));
        for bit in 0..good.len() * 8 {
            let mut bad = good.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            let (HeaderPage::Good(found) | HeaderPage::Half(found)) = SegmentHeader::of_page(&bad)
            else {
                panic!("bit {bit} made the page unreadable")
            };
            assert_eq!(found, HEADER_OF_SEVEN);
        }
        assert!(matches!(
            SegmentHeader::of_page(&[0; 4096]),
            HeaderPage::Bad
        ));
        assert!(matches!(SegmentHeader::of_page(&[0; 7]), HeaderPage::Bad));
    }

    #[test]
    fn only_segments_have_segment_names() {
        let name = Segment::name(Stream::Meta, 12);
        assert_eq!(name, "meta-0000000012.seg");
        assert_eq!(Segment::parse(Path::new(&name)), Some((Stream::Meta, 12)));
        for other in [
            "meta-12.seg",
            "meta-0000000012.new",
            "log-0000000012.seg",
            "ballast",
            "meta-x.seg",
        ] {
            assert_eq!(Segment::parse(Path::new(other)), None, "{other}");
        }
    }
}
