//! A batch: what a writer wrote with one call and made durable with one fsync.
//!
//! ```text
//!   | header, 64 bytes | table, 32 bytes per record | record | record | ...
//!       durable_end: everything before it was fsynced before this batch was written
//! ```
//! The table tells what each record is about and how long it is once more, under a checksum of its own: when a
//! record's header is damaged, it still says whom that hurts, and where the next record starts.
//!
//! Always true:
//! * batches follow each other without gaps; their numbers rise by one within a segment;
//! * `durable_end` never goes back;
//! * a batch is cut short only by recovery, which writes a batch with a higher incarnation where the cut is.

use bytes::{BufMut, Bytes, BytesMut};

use super::checksum::{Stamp, crc32c};
use super::place::{Position, Stream};
use super::record::{self, Draft, Fields, Subject, u32_at, u64_at};

/// Length of a batch header.
pub(super) const HEADER: usize = 64;
/// Length of a row of its table.
pub(super) const ROW: usize = 32;
/// Version this program writes; it reads this one.
pub(super) const VERSION: u8 = 1;
const MAGIC: u32 = 0x424C_4B4D; // "MKLB"

/// Parts of a record up to this length are copied next to their header: cheaper than one more entry of a vectored write.
const COPY_UP_TO: usize = 1024;

/// The segment ends here; the stream goes on in the next one.
pub(super) const SEALED: u16 = 1;
/// It holds one standing record for every group there is, and nothing else.
pub(super) const STANDING: u16 = 2;
/// The first batch after the log was opened: recovery ended here.
pub(super) const OPENING: u16 = 4;

/// The first bytes of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct BatchHeader {
    pub stream: Stream,
    pub flags: u16,
    pub position: Position,
    pub stamp: Stamp,
    pub number: u64,
    pub durable_end: Position,
    pub incarnation: u32,
    pub count: u32,
    /// From the start of the header to the end of the last record.
    pub length: u32,
    table_crc: u32,
}

/// Why bytes are not a batch header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum NotABatch {
    /// They do not verify, or belong to another stream or position.
    Bad,
    /// They verify, and a newer program wrote them: of this version, or with flags that are not known here.
    Newer { version: u8 },
}

/// What is the same for all batches of one opening, and the counters that go on from batch to batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chain {
    pub stream: Stream,
    pub stamp: Stamp,
    pub incarnation: u32,
    /// Number of the next batch.
    pub number: u64,
}

/// What a batch's table says of one record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Row {
    pub kind: u8,
    pub vshard: u8,
    pub group: u16,
    pub length: u32,
    pub index: u64,
    pub term: u64,
    pub node: u64,
}

impl Row {
    /// The subject, but for what a truncation keeps.
    pub(super) fn subject(&self) -> Option<Subject> {
        Subject::of(&Fields {
            kind: self.kind,
            group: self.group,
            vshard: self.vshard,
            index: self.index,
            term: self.term,
            node: self.node,
            flags: 0,
        })
    }

    /// Whether the two speak of the same record.
    pub(super) fn agrees(&self, header: &record::RecordHeader) -> bool {
        *self == Row::new(&header.subject.fields(), header.len())
    }

    fn new(fields: &Fields, length: usize) -> Row {
        Row {
            kind: fields.kind,
            vshard: fields.vshard,
            group: fields.group,
            length: length as u32,
            index: fields.index,
            term: fields.term,
            node: fields.node,
        }
    }

    fn encode(&self) -> [u8; ROW] {
        let mut out = [0; ROW];
        out[0] = self.kind;
        out[1] = self.vshard;
        out[2..4].copy_from_slice(&self.group.to_le_bytes());
        out[4..8].copy_from_slice(&self.length.to_le_bytes());
        out[8..16].copy_from_slice(&self.index.to_le_bytes());
        out[16..24].copy_from_slice(&self.term.to_le_bytes());
        out[24..32].copy_from_slice(&self.node.to_le_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Row {
        Row {
            kind: bytes[0],
            vshard: bytes[1],
            group: u16::from_le_bytes([bytes[2], bytes[3]]),
            length: u32_at(bytes, 4),
            index: u64_at(bytes, 8),
            term: u64_at(bytes, 16),
            node: u64_at(bytes, 24),
        }
    }
}

impl BatchHeader {
    fn encode(&self) -> [u8; HEADER] {
        let mut out = [0; HEADER];
        out[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        out[4] = VERSION;
        out[5] = self.stream as u8;
        out[6..8].copy_from_slice(&self.flags.to_le_bytes());
        out[8..16].copy_from_slice(&self.position.0.to_le_bytes());
        out[16..24].copy_from_slice(&self.stamp.0.to_le_bytes());
        out[24..32].copy_from_slice(&self.number.to_le_bytes());
        out[32..40].copy_from_slice(&self.durable_end.0.to_le_bytes());
        out[40..44].copy_from_slice(&self.incarnation.to_le_bytes());
        out[44..48].copy_from_slice(&self.count.to_le_bytes());
        out[48..52].copy_from_slice(&self.length.to_le_bytes());
        out[52..56].copy_from_slice(&self.table_crc.to_le_bytes());
        // 56..60 stay zero.
        let crc = crc32c(&out[..60]);
        out[60..64].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads the header of the batch that is said to lie at `position` of `stream`. Its stamp must fit its incarnation.
    pub(super) fn decode(
        bytes: &[u8],
        stream: Stream,
        position: Position,
        log_id: u64,
    ) -> Result<BatchHeader, NotABatch> {
        let Some(bytes) = bytes.first_chunk::<HEADER>() else {
            return Err(NotABatch::Bad);
        };
        if !could_be_a_batch(bytes)
            || bytes[5] != stream as u8
            || u64_at(bytes, 8) != position.0
            || u32_at(bytes, 60) != crc32c(&bytes[..60])
        {
            return Err(NotABatch::Bad);
        }
        if bytes[4] != VERSION {
            return Err(NotABatch::Newer { version: bytes[4] });
        }
        let flags = u16::from_le_bytes([bytes[6], bytes[7]]);
        if flags & !(SEALED | STANDING | OPENING) != 0 {
            return Err(NotABatch::Newer { version: bytes[4] });
        }
        let header = BatchHeader {
            stream,
            flags,
            position,
            stamp: Stamp(u64_at(bytes, 16)),
            number: u64_at(bytes, 24),
            durable_end: Position(u64_at(bytes, 32)),
            incarnation: u32_at(bytes, 40),
            count: u32_at(bytes, 44),
            length: u32_at(bytes, 48),
            table_crc: u32_at(bytes, 52),
        };
        let least = HEADER as u64 + u64::from(header.count) * (ROW + record::HEADER) as u64;
        if header.stamp != Stamp::of(log_id, header.incarnation) || u64::from(header.length) < least
        {
            return Err(NotABatch::Bad);
        }
        Ok(header)
    }

    /// Where its first record starts.
    pub(super) fn records(&self) -> Position {
        self.position
            .plus((HEADER + ROW * self.count as usize) as u32)
    }

    /// Where the next batch starts, if this one was not cut short.
    pub(super) fn end(&self) -> Position {
        self.position.plus(self.length)
    }

    /// The rows in these bytes, if they are the table this header was written with.
    pub(super) fn table(&self, bytes: &[u8]) -> Option<Vec<Row>> {
        let whole = bytes.len() == ROW * self.count as usize && crc32c(bytes) == self.table_crc;
        whole.then(|| bytes.chunks_exact(ROW).map(Row::decode).collect())
    }
}

/// A quick look, before the checksum is worth computing.
pub(super) fn could_be_a_batch(bytes: &[u8]) -> bool {
    bytes.len() >= 4 && bytes[..4] == MAGIC.to_le_bytes()
}

/// Bytes of a batch that holds nothing.
pub(super) const EMPTY: usize = HEADER;

/// A batch ready to be written.
pub(super) struct Batch {
    /// What to hand to one vectored write.
    pub parts: Vec<Bytes>,
    /// Length of them all.
    pub length: u32,
    /// Where each record will lie.
    pub positions: Vec<Position>,
}

/// Lays out `drafts` as the batch at `position`.
pub(super) fn lay_out<'a>(
    chain: &Chain,
    flags: u16,
    position: Position,
    durable_end: Position,
    drafts: impl ExactSizeIterator<Item = &'a Draft>,
) -> Batch {
    let count = drafts.len();
    let table = HEADER + ROW * count;
    // Everything small goes into one buffer; `outside` tells where in it a long part of a record belongs.
    let mut small = BytesMut::with_capacity(table + count * (record::HEADER + 256));
    let mut outside: Vec<(usize, Bytes)> = Vec::with_capacity(count);
    let mut positions = Vec::with_capacity(count);
    let mut rows = Vec::with_capacity(ROW * count);
    small.put_bytes(0, table);
    let mut length = table;
    for draft in drafts {
        let at = position.plus(length as u32);
        let header = draft.header(at, chain.stamp);
        rows.extend_from_slice(&Row::new(&draft.subject.fields(), draft.len()).encode());
        small.extend_from_slice(&header.encode());
        for part in [&draft.payload, &draft.head] {
            if part.len() <= COPY_UP_TO {
                small.extend_from_slice(part);
            } else {
                outside.push((small.len(), part.clone()));
            }
        }
        let bare = record::HEADER + draft.payload.len() + draft.head.len();
        small.put_bytes(0, draft.len() - bare);
        positions.push(at);
        length += draft.len();
    }
    let header = BatchHeader {
        stream: chain.stream,
        flags,
        position,
        stamp: chain.stamp,
        number: chain.number,
        durable_end,
        incarnation: chain.incarnation,
        count: count as u32,
        length: length as u32,
        table_crc: crc32c(&rows),
    };
    small[..HEADER].copy_from_slice(&header.encode());
    small[HEADER..table].copy_from_slice(&rows);

    let small = small.freeze();
    let mut parts = Vec::with_capacity(2 * outside.len() + 1);
    let mut done = 0;
    for (at, part) in outside {
        // Empty when two long parts follow each other.
        if at > done {
            parts.push(small.slice(done..at));
        }
        parts.push(part);
        done = at;
    }
    if done < small.len() {
        parts.push(small.slice(done..));
    }
    Batch {
        parts,
        length: length as u32,
        positions,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::ids::GroupId;
    use crate::log::record::{LogId, RecordHeader};

    const LOG: u64 = 99;

    fn chain() -> Chain {
        Chain {
            stream: Stream::Meta,
            stamp: Stamp::of(LOG, 3),
            incarnation: 3,
            number: 12,
        }
    }

    fn entry(index: u64, payload: usize, head: usize) -> Draft {
        let id = LogId {
            term: 1,
            node: 1,
            index,
        };
        Draft::new(
            Subject::Entry {
                group: GroupId(1),
                id,
            },
            Bytes::from(vec![1; head]),
            Bytes::from(vec![2; payload]),
        )
    }

    /// Small and large parts take different ways into the write; the bytes are the same.
    #[test]
    fn a_batch_reads_back_as_it_was_laid_out() {
        let drafts = [
            entry(1, 0, 10),
            entry(2, 5000, 3000),
            entry(3, 5000, 7),
            entry(4, 1, 3000),
        ];
        let position = Position::new(2, 4096);
        let batch = lay_out(
            &chain(),
            OPENING,
            position,
            Position::new(1, 77),
            drafts.iter(),
        );
        let bytes = batch.parts.concat();
        assert_eq!(bytes.len(), batch.length as usize);
        assert_eq!(bytes.len() % 8, 0);

        let header = BatchHeader::decode(&bytes, Stream::Meta, position, LOG).unwrap();
        assert_eq!(
            (header.number, header.count, header.flags),
            (12, 4, OPENING)
        );
        assert_eq!(header.durable_end, Position::new(1, 77));
        assert_eq!(header.end(), position.plus(batch.length));
        let table = header.table(&bytes[HEADER..HEADER + 4 * ROW]).unwrap();
        let mut at = header.records();
        for ((draft, row), place) in drafts.iter().zip(&table).zip(&batch.positions) {
            assert_eq!(at, *place);
            let from = (at.offset() - position.offset()) as usize;
            let record = RecordHeader::decode(&bytes[from..], at).unwrap();
            assert!(row.agrees(&record));
            let payload = from + record::HEADER;
            let head = payload + record.payload_len as usize;
            assert_eq!(bytes[payload..head], draft.payload);
            assert_eq!(bytes[head..head + record.head_len as usize], draft.head);
            at = at.plus(row.length);
        }
        assert_eq!(at, header.end());
    }

    #[test]
    fn any_flipped_bit_of_header_or_table_is_noticed() {
        let position = Position::new(2, 4096);
        let batch = lay_out(
            &chain(),
            0,
            position,
            Position::ZERO,
            [entry(1, 0, 0)].iter(),
        );
        let good = batch.parts.concat();
        let header = BatchHeader::decode(&good, Stream::Meta, position, LOG).unwrap();
        for bit in 0..(HEADER + ROW) * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            if bit < HEADER * 8 {
                assert!(BatchHeader::decode(&bad, Stream::Meta, position, LOG).is_err());
            } else {
                assert_eq!(header.table(&bad[HEADER..HEADER + ROW]), None);
            }
        }
    }

    /// Users fill segments with bytes of their own; those must not pass for a batch of ours.
    #[test]
    fn a_batch_of_another_log_stream_or_position_is_not_believed() {
        let position = Position::new(2, 4096);
        let batch = lay_out(&chain(), 0, position, Position::ZERO, [].iter());
        let bytes = batch.parts.concat();
        assert_eq!(bytes.len(), EMPTY);
        assert!(BatchHeader::decode(&bytes, Stream::Meta, position, LOG).is_ok());
        assert!(BatchHeader::decode(&bytes, Stream::Meta, position, LOG + 1).is_err());
        assert!(BatchHeader::decode(&bytes, Stream::Blob, position, LOG).is_err());
        assert!(BatchHeader::decode(&bytes, Stream::Meta, position.plus(8), LOG).is_err());
    }
}
