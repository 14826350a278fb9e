//! Reads bytes back from their places, and believes nothing that it did not check.
//!
//! Always true:
//! * what is returned verified against its checksum, at its own position, as the item that was asked for;
//! * a socket's thread never waits for the device here: what is not in the page cache is read elsewhere;
//! * a segment stays readable while someone reads from it, deleted or not.

use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::checksum::crc32c;
use super::entry::{LogEntry, Want};
use super::error::{LogError, ReadError};
use super::group_log::OnDisk;
use super::place::{Item, Place, Position, Stream};
use super::record::{HEADER, RecordHeader, Subject};
use super::segment::Segment;
use super::shared::Shared;
use crate::env::task;
use crate::ids::GroupId;

/// Adjacent entries are read with one call, up to this length.
const SPAN: u32 = 256 << 10;

/// Reads `len` bytes at `position` without holding up the thread.
async fn bytes_at(segment: &Arc<Segment>, at: u32, len: usize) -> io::Result<BytesMut> {
    let mut buf = BytesMut::zeroed(len);
    match segment.file.try_read_at(&mut buf, u64::from(at)) {
        Some(Ok(read)) if read == len => return Ok(buf),
        Some(Err(error)) => return Err(error),
        // Not cached, or less than all of it.
        _ => {}
    }
    let file = Arc::clone(&segment.file);
    task::blocking(move || {
        let read = file.read_at(&mut buf, u64::from(at))?;
        buf.truncate(read);
        Ok(buf)
    })
    .await
}

#[cfg(feature = "planted")]
pub(super) async fn read_unverified(shared: &Shared, place: Place) -> Result<Bytes, ReadError> {
    let (segment, len) = find(shared, place)?;
    let bytes = bytes_at(&segment, place.position.offset(), len).await;
    let bytes = bytes.map_err(|error| ReadError::Io(error.to_string().into()))?;
    Ok(bytes.freeze().slice(HEADER..))
}

/// Whether `bytes` are those that were written for `item` at `place`, as far as the record's header still tells. `None`: it
/// does not.
pub(super) async fn vouches(
    shared: &Shared,
    place: Place,
    item: &Item,
    bytes: &Bytes,
) -> Option<bool> {
    let (segment, _) = find(shared, place).ok()?;
    let head = bytes_at(&segment, place.position.offset(), HEADER)
        .await
        .ok()?;
    let header = RecordHeader::decode(&head, place.position).ok()?;
    if header.subject.item() != Some(*item) {
        return None;
    }
    Some(header.payload_len as usize == bytes.len() && crc32c(bytes) == header.payload_crc)
}

/// The payload in these bytes, if they are the record of `item` at `place`.
fn verify(bytes: Bytes, place: Place, item: &Item) -> Result<Bytes, ReadError> {
    let damaged = |what: &str| ReadError::Damaged(format!("{item} at {place}: {what}").into());
    #[cfg(feature = "planted")]
    if crate::planted!("misdirected-read-not-noticed") {
        return verify_without_address(bytes, place);
    }
    let header = RecordHeader::decode(&bytes, place.position)
        .map_err(|_| damaged("the record's header does not verify"))?;
    if header.subject.item() != Some(*item) {
        return Err(damaged("another item lies there"));
    }
    if header.payload_len != place.len || bytes.len() != HEADER + place.len as usize {
        return Err(damaged("its length is another"));
    }
    let payload = bytes.slice(HEADER..);
    if crc32c(&payload) != header.payload_crc {
        return Err(damaged("its bytes do not verify"));
    }
    Ok(payload)
}

/// As if checksums covered bytes and not what they are and where they belong.
#[cfg(feature = "planted")]
fn verify_without_address(bytes: Bytes, place: Place) -> Result<Bytes, ReadError> {
    let bad = || ReadError::Damaged(format!("{place}: a record does not verify").into());
    let position = super::record::claimed_position(&bytes).ok_or_else(bad)?;
    let header = RecordHeader::decode(&bytes, position).map_err(|_| bad())?;
    let payload = bytes.slice(HEADER..);
    match header.payload_len == place.len && crc32c(&payload) == header.payload_crc {
        true => Ok(payload),
        false => Err(bad()),
    }
}

fn find(shared: &Shared, place: Place) -> Result<(Arc<Segment>, usize), ReadError> {
    let segment = shared.segments.get(place.stream, place.position.segment());
    let segment = segment.ok_or(ReadError::Gone)?;
    let len = HEADER + place.len as usize;
    // A place is only as good as the table it came from.
    if u64::from(place.position.offset()) + len as u64 > u64::from(segment.length) {
        return Err(ReadError::Damaged(
            format!("{place} ends behind its segment").into(),
        ));
    }
    Ok((segment, len))
}

pub(super) async fn read(shared: &Shared, place: Place, item: &Item) -> Result<Bytes, ReadError> {
    let (segment, len) = find(shared, place)?;
    let bytes = bytes_at(&segment, place.position.offset(), len).await;
    let bytes = bytes.map_err(|error| ReadError::Io(error.to_string().into()))?;
    verify(bytes.freeze(), place, item)
}

pub(super) fn read_blocking(
    shared: &Shared,
    place: Place,
    item: &Item,
) -> Result<Bytes, ReadError> {
    let (segment, len) = find(shared, place)?;
    let mut buf = BytesMut::zeroed(len);
    let read = segment
        .file
        .read_at(&mut buf, u64::from(place.position.offset()));
    buf.truncate(read.map_err(|error| ReadError::Io(error.to_string().into()))?);
    verify(buf.freeze(), place, item)
}

/// Reads entries of a group whose slots are given, ascending: those before the first that cannot be read. An error only
/// if that is the very first.
pub(super) async fn entries(
    shared: &Shared,
    group: GroupId,
    wanted: &[OnDisk],
    want: Want,
) -> Result<Vec<LogEntry>, LogError> {
    let mut entries = Vec::with_capacity(wanted.len());
    for is_last in [false, true] {
        match read_entries(shared, group, wanted, want, &mut entries).await {
            // Once more: a bad read is not yet a bad disk.
            Err(_) if entries.is_empty() && !is_last => {}
            Err(error) if entries.is_empty() => return Err(error),
            _ => break,
        }
    }
    Ok(entries)
}

async fn read_entries(
    shared: &Shared,
    group: GroupId,
    wanted: &[OnDisk],
    want: Want,
    entries: &mut Vec<LogEntry>,
) -> Result<(), LogError> {
    let mut rest = wanted;
    while let Some(first) = rest.first() {
        let count = spanned(rest);
        let (now, later) = rest.split_at(count);
        rest = later;
        let damaged = |index, what: &str| LogError::EntryDamaged {
            group,
            index,
            what: what.into(),
        };
        if first.slot.position == Position::ZERO {
            return Err(damaged(first.id.index, "its record is lost"));
        }
        let start = first.slot.position;
        let Some(segment) = shared.segments.get(Stream::Meta, start.segment()) else {
            // Purged meanwhile, or the file is missing.
            let index = first.id.index;
            return Err(
                match shared
                    .find(group)
                    .and_then(|cell| cell.with(|log| log.id(index)))
                {
                    Some(_) => damaged(index, "its segment is missing"),
                    None => LogError::NoEntry { group, index },
                },
            );
        };
        let end = now.last().map_or(start.offset(), |last| {
            last.slot.position.offset() + len(last)
        });
        let length = (end - start.offset()) as usize;
        let bytes = bytes_at(&segment, start.offset(), length).await;
        let bytes = bytes
            .map_err(|error| LogError::io(format!("reading {}", segment.path.display()), &error))?;
        for one in now {
            let from = (one.slot.position.offset() - start.offset()) as usize;
            let record = bytes
                .get(from..from + len(one) as usize)
                .unwrap_or_default();
            let entry = verify_entry(record, group, one, want);
            entries.push(entry.map_err(|what| damaged(one.id.index, what))?);
        }
    }
    Ok(())
}

fn len(one: &OnDisk) -> u32 {
    HEADER as u32 + one.slot.payload + one.slot.head
}

/// How many of these lie so close together that one read is cheaper than several.
fn spanned(wanted: &[OnDisk]) -> usize {
    let Some(first) = wanted.first().map(|one| one.slot.position) else {
        return 0;
    };
    let mut useful = 0;
    let near = wanted.iter().take_while(|one| {
        let at = one.slot.position;
        if at.segment() != first.segment() || at < first {
            return false;
        }
        let span = at.offset() - first.offset() + len(one);
        useful += len(one);
        // At least a quarter of what is read must be wanted.
        useful == len(one) || (span <= SPAN && useful >= span / 4)
    });
    near.count().max(1)
}

/// Whether an entry lies where it should, whole. Read from the disk, whatever memory has of it.
pub(super) async fn is_whole(
    shared: &Shared,
    group: GroupId,
    one: &OnDisk,
) -> Result<bool, LogError> {
    let start = one.slot.position;
    if start == Position::ZERO {
        return Ok(false);
    }
    let Some(segment) = shared.segments.get(Stream::Meta, start.segment()) else {
        return Ok(false);
    };
    let record = bytes_at(&segment, start.offset(), len(one) as usize).await;
    let record = record
        .map_err(|error| LogError::io(format!("reading {}", segment.path.display()), &error))?;
    Ok(verify_entry(&record, group, one, Want::Whole).is_ok())
}

fn verify_entry(
    record: &[u8],
    group: GroupId,
    one: &OnDisk,
    want: Want,
) -> Result<LogEntry, &'static str> {
    let header = RecordHeader::decode(record, one.slot.position)
        .map_err(|_| "its header does not verify")?;
    let subject = Subject::Entry { group, id: one.id };
    if header.subject != subject
        || (header.payload_len, header.head_len) != (one.slot.payload, one.slot.head)
    {
        return Err("another record lies there");
    }
    let (payload, head) = record[HEADER..].split_at(header.payload_len as usize);
    if crc32c(head) != header.head_crc {
        return Err("its command does not verify");
    }
    let payload_damaged = crc32c(payload) != header.payload_crc;
    if payload_damaged && want == Want::Whole {
        return Err("its payload does not verify");
    }
    Ok(LogEntry {
        id: one.id,
        bytes: [head, payload].concat().into(),
        payload_len: header.payload_len,
        payload_damaged,
    })
}
