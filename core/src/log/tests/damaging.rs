//! Damage hurts whom it touches, and nobody else; and wrong bytes are never given out.

use std::time::Duration;

use super::harness::*;
use super::layout::{What, layout, log_id};
use crate::env::clock;
use crate::env::sim::{self, Choice, SimDisk};
use crate::ids::GroupId;
use crate::log::checksum::Stamp;
use crate::log::record::{RecordHeader, Subject};
use crate::log::*;

/// A log with every kind of record in it, all of them covered by a later batch.
fn full_log(rolls: bool) -> SimDisk {
    let disk = disk(1);
    sim::run(1, async {
        let opened = open(&disk).await;
        let log = &opened.log;
        log.voted(G1, b"old vote").await.unwrap();
        log.appended(G1, (0..4).map(|i| entry(1, i, 45, 30)).collect())
            .await
            .unwrap();
        log.appended(G2, vec![entry(1, 0, 9, 0), entry(1, 1, 9, 20)])
            .await
            .unwrap();
        log.truncated(G1, Some(2)).await.unwrap();
        log.appended(G1, (3..6).map(|i| entry(2, i, 41, 70)).collect())
            .await
            .unwrap();
        log.purged(G1, id(1, 0)).await.unwrap();
        log.voted(G1, b"new vote").await.unwrap();
        log.voted(G2, b"other").await.unwrap();
        let place = log.framed(1, 500).await.unwrap();
        log.framed(2, 500).await.unwrap();
        log.empty_segment(Stream::Blob, 1, &Just(place))
            .await
            .unwrap();
        log.appended(GroupId(9), vec![entry(1, 0, 10, 10)])
            .await
            .unwrap();
        let (ack, done) = ack();
        log.remove_group(GroupId(9), ack).unwrap();
        done.await.unwrap().unwrap();
        if rolls {
            for index in 6..16 {
                log.appended(G1, vec![entry(2, index, 100, 5000)])
                    .await
                    .unwrap();
            }
        }
        clock::sleep(Duration::from_secs(1)).await;
    });
    disk
}

/// Only this frame is live.
struct Just(Place);

impl Liveness for Just {
    fn live_in(&self, _: Stream, _: u32) -> (u64, u64) {
        (1, 1)
    }
    fn live_items(&self, _: Stream, _: u32) -> Result<Vec<(Item, Place)>, String> {
        Ok(vec![(frame_item(1), self.0)])
    }
    fn moved(&self, _: &Item, _: Place, _: Place) -> Result<bool, String> {
        Ok(true)
    }
}

/// What one group says of itself.
#[derive(Clone, PartialEq, Debug)]
struct Group {
    state: LogState,
    hurt: Hurt,
    /// Each entry here, or why it cannot be read.
    entries: Vec<Result<LogEntry, LogError>>,
}

#[derive(Clone, PartialEq, Debug)]
struct Found {
    groups: Vec<(GroupId, Group)>,
    /// Everything seen, and whether it could be read.
    items: Vec<(Item, Result<bytes::Bytes, ReadError>)>,
    damage: Vec<Damage>,
}

fn look(disk: &SimDisk) -> Found {
    reopen(disk, async |opened| {
        let log = &opened.log;
        let mut groups = Vec::new();
        for group in [G1, G2, GroupId(9)] {
            let state = log.log_state(group);
            let mut entries = Vec::new();
            let first = state.purged.map_or(0, |id| id.index + 1);
            for index in first..state.last.map_or(0, |id| id.index + 1) {
                let read = log.entries(group, index..index + 1, 1, Want::Whole).await;
                entries.push(read.map(|mut list| list.remove(0)));
            }
            let hurt = log.hurt(group);
            groups.push((
                group,
                Group {
                    state,
                    hurt,
                    entries,
                },
            ));
        }
        let mut items = Vec::new();
        for seen in &opened.seen {
            items.push((seen.item, log.read(seen.place, &seen.item).await));
        }
        Found {
            groups,
            items,
            damage: opened.recovered.damage.clone(),
        }
    })
}

/// What a flip there may do to `sound`.
fn expected(sound: &Found, what: What) -> Vec<Hurt> {
    let mut hurts: Vec<Hurt> = sound
        .groups
        .iter()
        .map(|(_, group)| group.hurt.clone())
        .collect();
    let (subject, only_payload) = match what {
        What::RecordHeader(subject) | What::Head(subject) => (subject, false),
        What::Payload(subject) => (subject, true),
        What::SegmentHeader | What::BatchHeader | What::Table | What::Padding => return hurts,
    };
    for ((group, found), hurt) in sound.groups.iter().zip(&mut hurts) {
        match subject {
            Subject::Entry { group: of, id } if of == *group => {
                // Truncated and purged ones do not matter any more.
                let here = found.entries.iter().flatten().any(|entry| entry.id == id);
                if here && only_payload {
                    hurt.payloads = vec![id.index];
                } else if here {
                    hurt.entries = vec![id.index];
                }
            }
            _ => {}
        }
    }
    hurts
}

/// Flips a bit in every byte of every segment, one at a time.
fn flip_everything(disk: &SimDisk, stream: Stream, rolled: bool) -> usize {
    let sound = look(&disk.after_kill());
    assert!(sound.damage.is_empty());
    let mut flips = 0;
    let mut votes = Vec::new();
    for spot in layout(disk, stream) {
        // Every field of every header is met; one byte of a payload is like another.
        let step = match spot.what {
            What::Payload(_) if spot.bytes.end - spot.bytes.start > 1000 => 499,
            What::Payload(_) | What::Head(_) => 19,
            What::SegmentHeader => 61,
            _ if rolled => 11,
            _ => 3,
        };
        for byte in spot.bytes.clone().step_by(step) {
            let bad = disk.after_kill();
            bad.flip_bit(&spot.path, byte, (byte % 8) as u8).unwrap();
            let found = look(&bad);
            flips += 1;
            let context = format!("{spot:?} byte {byte}: {:?}", found.damage);
            if spot.last && spot.what == What::BatchHeader {
                // The batch that covers the others: nothing is lost with it.
                assert_eq!(found.groups, sound.groups, "{context}");
                continue;
            }
            for (((group, was), (_, is)), may) in sound
                .groups
                .iter()
                .zip(&found.groups)
                .zip(expected(&sound, spot.what))
            {
                let mut hurt = is.hurt.clone();
                if hurt.vote_lost {
                    // Only by the newest vote of this very group.
                    let of = Subject::Vote { group: *group };
                    let vote = spot.what == What::RecordHeader(of) || spot.what == What::Head(of);
                    assert!(vote, "{context}");
                    votes.push(spot.position);
                    hurt.vote_lost = false;
                } else {
                    assert_eq!(is.state.vote, was.state.vote, "{context}");
                }
                assert_eq!(hurt, may, "{group} {context}");
                assert_eq!(is.state.last, was.state.last, "{group} {context}");
                assert_eq!(is.state.purged, was.state.purged, "{group} {context}");
                for (is, was) in is.entries.iter().zip(&was.entries) {
                    match is {
                        Ok(entry) => assert_eq!(Ok(entry), was.as_ref(), "{context}"),
                        Err(error) => {
                            assert!(matches!(error, LogError::EntryDamaged { .. }), "{context}");
                        }
                    }
                }
            }
            for (item, read) in &found.items {
                let right = sound.items.iter().filter(|(of, _)| of == item);
                match read {
                    Ok(bytes) => assert!(right.clone().any(|(_, read)| read == &Ok(bytes.clone()))),
                    Err(error) => assert!(matches!(error, ReadError::Damaged(_)), "{context}"),
                }
            }
            // Payloads in the blob stream are looked at by whoever reads them.
            let unseen = stream == Stream::Blob && matches!(spot.what, What::Payload(_));
            let harmless = unseen
                || spot.what == What::Padding
                || (spot.what == What::SegmentHeader && byte % 2048 >= 48);
            assert_eq!(
                found.damage.is_empty(),
                harmless,
                "damage is told: {context}"
            );
            // It is still so after another start; what was healed may be forgotten.
            let again = look(&bad);
            assert_eq!(again.groups, found.groups, "{context}");
        }
    }
    if stream == Stream::Meta {
        votes.dedup();
        // A standing record in a later segment says it again.
        let spots = if rolled { 0 } else { 4 };
        assert_eq!(
            votes.len(),
            spots,
            "header and bytes of two votes, not of older ones"
        );
    }
    flips
}

#[test]
fn one_flipped_bit_in_the_meta_stream_hurts_only_whom_it_touches() {
    let flips = flip_everything(&full_log(false), Stream::Meta, false);
    assert!(flips > 600, "{flips}");
}

#[test]
fn one_flipped_bit_in_the_blob_stream_hurts_only_whom_it_touches() {
    let flips = flip_everything(&full_log(false), Stream::Blob, false);
    assert!(flips > 200, "{flips}");
}

/// Later segments say again, in standing records, what earlier ones said of votes.
#[test]
fn one_flipped_bit_in_any_of_several_segments_hurts_only_whom_it_touches() {
    let flips = flip_everything(&full_log(true), Stream::Meta, true);
    assert!(flips > 400, "{flips}");
}

fn flip(disk: &SimDisk, wanted: impl Fn(What) -> bool) {
    let spots = layout(disk, Stream::Meta);
    let spot = spots.iter().rfind(|spot| wanted(spot.what)).unwrap();
    disk.flip_bit(
        &spot.path,
        (spot.bytes.start + 9).min(spot.bytes.end - 1),
        3,
    )
    .unwrap();
}

async fn mended(log: &Log, group: GroupId) {
    let (ack, done) = ack();
    log.mend(group, ack).unwrap();
    done.await.unwrap().unwrap();
}

/// A vote that was lost must not be forgotten as lost when the segment it lay in goes.
#[test]
fn a_lost_vote_stays_lost_until_the_group_is_mended() {
    let disk = full_log(false);
    flip(&disk, |what| {
        what == What::RecordHeader(Subject::Vote { group: G1 })
    });
    let lost = |log: &Log| [G1, G2].map(|group| log.hurt(group).vote_lost);
    reopen(&disk, async |opened| {
        let log = &opened.log;
        assert_eq!(lost(log), [true, false]);
        assert_eq!(log.log_state(G1).vote.unwrap(), "old vote");
        for index in 6..20 {
            log.appended(G1, vec![entry(2, index, 100, 3000)])
                .await
                .unwrap();
        }
        log.purged(G1, id(2, 19)).await.unwrap();
        log.purged(G2, id(1, 1)).await.unwrap();
        assert!(log.unlink(Stream::Meta, 1).await.unwrap());
    });
    reopen(&disk, async |opened| {
        assert_eq!(lost(&opened.log), [true, false]);
        mended(&opened.log, G1).await;
        assert_eq!(lost(&opened.log), [false, false]);
    });
    reopen(&disk, async |opened| {
        assert_eq!(lost(&opened.log), [false, false])
    });
}

/// A later vote is as good as the lost one, and better.
#[test]
fn a_new_vote_makes_a_lost_one_good() {
    let disk = full_log(false);
    flip(&disk, |what| {
        what == What::Head(Subject::Vote { group: G2 })
    });
    reopen(&disk, async |opened| {
        assert!(opened.log.hurt(G2).vote_lost);
        opened.log.voted(G2, b"third").await.unwrap();
        assert!(opened.log.hurt(G2).is_whole());
    });
    reopen(&disk, async |opened| {
        assert!(opened.log.hurt(G2).is_whole());
        assert_eq!(opened.log.log_state(G2).vote.unwrap(), "third");
    });
}

/// Damaged entries are mended by a checkpoint that covers them, or by giving them up.
#[test]
fn a_damaged_entry_is_gone_once_it_is_purged_or_truncated() {
    let of = |index| Subject::Entry {
        group: G1,
        id: id(2, index),
    };
    for (index, purge) in [(3, true), (5, false)] {
        let disk = full_log(false);
        flip(&disk, |what| what == What::Head(of(index)));
        reopen(&disk, async |opened| {
            let log = &opened.log;
            assert_eq!(log.hurt(G1).entries, [index]);
            let before = log
                .entries(G1, 0..index, usize::MAX, Want::Heads)
                .await
                .unwrap();
            assert_eq!(
                before.len() as u64,
                index - 1,
                "what lies before it is fine"
            );
            match purge {
                true => log.purged(G1, id(2, index)).await.unwrap(),
                false => log.truncated(G1, Some(index - 1)).await.unwrap(),
            }
            assert!(log.hurt(G1).is_whole());
        });
        reopen(&disk, async |opened| {
            assert!(opened.log.hurt(G1).is_whole())
        });
    }
}

/// One object is damaged, not the group: applying an entry does not need its payload, sending it does.
#[test]
fn an_entry_with_a_damaged_payload_is_applied_but_never_sent() {
    let disk = full_log(false);
    let subject = Subject::Entry {
        group: G1,
        id: id(2, 4),
    };
    flip(&disk, |what| what == What::Payload(subject));
    reopen(&disk, async |opened| {
        let log = &opened.log;
        assert_eq!(log.hurt(G1).payloads, [4]);
        let applied = log
            .entries(G1, 4..6, usize::MAX, Want::Heads)
            .await
            .unwrap();
        assert!(applied[0].payload_damaged && !applied[1].payload_damaged);
        assert_eq!(applied[0].head(), entry(2, 4, 41, 70).head());
        let sent = log.entries(G1, 4..6, usize::MAX, Want::Whole).await;
        assert!(matches!(sent, Err(LogError::EntryDamaged { index: 4, .. })));
        let place = opened
            .seen
            .iter()
            .map(|seen| seen.place)
            .find(|place| place.position == layout_position(&disk, subject));
        let item = Item::Payload(crate::ids::PayloadId {
            group: G1,
            index: 4,
            term: 2,
        });
        assert!(matches!(
            log.read(place.unwrap(), &item).await,
            Err(ReadError::Damaged(_))
        ));
    });
}

fn layout_position(disk: &SimDisk, subject: Subject) -> Position {
    let spots = layout(disk, Stream::Meta);
    spots
        .iter()
        .find(|spot| spot.what == What::RecordHeader(subject))
        .unwrap()
        .position
}

/// Header of a batch and header of a record in it: nothing tells any more what was there, so no group trusts its tail.
#[test]
fn what_nobody_can_name_hurts_every_group_until_a_standing_record() {
    for rolls in [false, true] {
        let disk = full_log(rolls);
        let spots = layout(&disk, Stream::Meta);
        let first = Subject::Entry {
            group: G2,
            id: id(1, 0),
        };
        let at = spots
            .iter()
            .position(|spot| spot.what == What::RecordHeader(first))
            .unwrap();
        let batch = spots[..at]
            .iter()
            .rfind(|spot| spot.what == What::BatchHeader)
            .unwrap();
        disk.flip_bit(&batch.path, batch.bytes.start + 20, 0)
            .unwrap();
        disk.flip_bit(&batch.path, spots[at].bytes.start + 20, 0)
            .unwrap();
        reopen(&disk, async |opened| {
            let scopes = opened
                .recovered
                .damage
                .iter()
                .map(|damage| damage.scope.clone());
            assert!(scopes.clone().any(|scope| scope == Scope::AllGroups));
            // Entry 0 of G2 is nowhere in either case, and everybody can tell by its neighbours or the standing record.
            assert!(opened.log.hurt(G2).tail_lost || opened.log.hurt(G2).entries == [0]);
            let g1 = opened.log.hurt(G1);
            assert_eq!(
                (g1.tail_lost, g1.vote_lost),
                (!rolls, false),
                "a later vote is there"
            );
        });
    }
}

/// The unsynced batch behind the last acknowledged one is no damage, whatever is left of it.
#[test]
fn the_torn_tail_is_cut_and_not_called_damage() {
    let disk = full_log(false);
    sim::run(1, async {
        let opened = open(&disk).await;
        disk.fail_next(sim::OpKind::Sync, sim::Fault::Hang);
        let (ack, _) = ack();
        opened
            .log
            .append(G1, vec![entry(2, 6, 30, 3000), entry(2, 7, 30, 3000)], ack)
            .unwrap();
        clock::sleep(Duration::from_millis(10)).await;
    });
    for page in 0..3 {
        for keep in [512, 1024, 3584] {
            let disk = disk.after_power_cut(&Choice::Torn { page, keep });
            let found = look(&disk);
            assert!(found.damage.is_empty(), "{:?}", found.damage);
            let last = found.groups[0].1.state.last.unwrap().index;
            assert!((5..=6).contains(&last), "{last}");
        }
    }
}

/// Behind a cut, old records lie at old places, whole. A torn batch written over them must not bring one back.
#[test]
fn a_record_of_an_earlier_opening_is_not_taken_for_one_of_a_torn_batch() {
    let disk = full_log(false);
    let subject = Subject::Entry {
        group: G1,
        id: id(2, 6),
    };
    sim::run(1, async {
        let opened = open(&disk).await;
        disk.fail_next(sim::OpKind::Sync, sim::Fault::Hang);
        let (ack, _) = ack();
        opened
            .log
            .append(G1, vec![entry(2, 6, 30, 100), entry(2, 7, 30, 100)], ack)
            .unwrap();
        clock::sleep(Duration::from_millis(10)).await;
    });
    let written = disk.after_kill();
    let spots = layout(&written, Stream::Meta);
    let spot = spots
        .iter()
        .find(|spot| spot.what == What::RecordHeader(subject))
        .unwrap();
    let bytes = written.contents(&spot.path).unwrap();
    let start = spot.bytes.start as usize;
    let header = RecordHeader::decode(&bytes[start..], spot.position).unwrap();
    let older = RecordHeader {
        stamp: Stamp::of(log_id(&disk), 1),
        ..header
    };
    assert_ne!(older.stamp, header.stamp);
    written
        .overwrite(&spot.path, spot.bytes.start, &older.encode())
        .unwrap();
    let found = look(&written);
    assert!(found.damage.is_empty());
    assert_eq!(found.groups[0].1.state.last, Some(id(2, 5)));
}

/// Users choose the bytes that recovery has to look through. This one knows everything but the log's secret.
#[test]
fn bytes_of_a_user_are_not_taken_for_a_batch() {
    use crate::log::batch::{Chain, lay_out};
    let forged = |position, log_id| {
        let incarnation = 9;
        let chain = Chain {
            stream: Stream::Meta,
            stamp: Stamp::of(log_id, incarnation),
            incarnation,
            number: 1 << 40,
        };
        let flags = 0;
        lay_out(&chain, flags, position, Position::new(1, 30_000), [].iter())
            .parts
            .concat()
    };
    let subject = Subject::Entry {
        group: G1,
        id: id(1, 0),
    };
    let torn = |payload: Vec<u8>| {
        let disk = disk(1);
        sim::run(1, async {
            let opened = open(&disk).await;
            disk.fail_next(sim::OpKind::Sync, sim::Fault::Hang);
            let payload_len = payload.len() as u32;
            let entry = LogEntry {
                bytes: payload.into(),
                payload_len,
                ..entry(1, 0, 0, 0)
            };
            opened.log.append(G1, vec![entry], ack().0).unwrap();
            clock::sleep(Duration::from_millis(10)).await;
        });
        disk.after_kill()
    };
    let first = torn(vec![0; 2048]);
    let spots = layout(&first, Stream::Meta);
    let payload = spots
        .iter()
        .find(|spot| spot.what == What::Payload(subject))
        .unwrap();
    let header = spots
        .iter()
        .rfind(|spot| spot.what == What::BatchHeader)
        .unwrap();
    for (secret, believed) in [(12345, false), (log_id(&first), true)] {
        let bytes = (0..2048 / 64)
            .flat_map(|n| forged(payload.position.plus(64 * n), secret))
            .collect::<Vec<u8>>();
        let disk = torn(bytes);
        assert_eq!(
            log_id(&disk),
            log_id(&first),
            "the same seed draws the same secret"
        );
        disk.flip_bit(&header.path, header.bytes.start + 3, 0)
            .unwrap();
        let found = look(&disk);
        assert_eq!(!found.damage.is_empty(), believed, "{:?}", found.damage);
        assert_eq!(found.groups[0].1.state.last, None);
    }
}

/// The batch that says "cut here" may itself be damaged later: what follows it must still be found.
#[test]
fn a_damaged_opening_batch_in_the_middle_of_a_cut_one_hides_nothing() {
    let disk = full_log(false);
    sim::run(1, async {
        let opened = open(&disk).await;
        disk.fail_next(sim::OpKind::Sync, sim::Fault::Hang);
        let entries = (6..22).map(|index| entry(2, index, 30, 100)).collect();
        opened.log.append(G1, entries, ack().0).unwrap();
        clock::sleep(Duration::from_millis(10)).await;
    });
    // Some of its bytes came, so some records did.
    let part = |sectors: usize| {
        let (page, keep) = (sectors / 8, sectors % 8 * 512);
        let disk = disk.after_power_cut(&Choice::Torn { page, keep });
        let last = look(&disk.after_kill()).groups[0]
            .1
            .state
            .last
            .unwrap()
            .index;
        (6..21).contains(&last).then_some((disk, last))
    };
    let (disk, last) = (0..32).find_map(part).unwrap();
    reopen(&disk, async |opened| {
        let log = &opened.log;
        log.appended(G1, vec![entry(3, last + 1, 30, 30)])
            .await
            .unwrap();
        log.voted(G2, b"after the cut").await.unwrap();
        clock::sleep(Duration::from_secs(1)).await;
    });
    let bytes = disk.contents(dir().join("meta-0000000001.seg")).unwrap();
    let opening = (0..bytes.len()).step_by(8).rev().find_map(|at| {
        let position = Position::new(1, at as u32);
        let header = crate::log::batch::BatchHeader::decode(
            &bytes[at..],
            Stream::Meta,
            position,
            log_id(&disk),
        );
        header
            .ok()
            .filter(|header| header.flags & crate::log::batch::OPENING != 0)
    });
    let opening = opening.unwrap();
    for byte in [0, 30, 50] {
        let disk = disk.after_kill();
        let at = u64::from(opening.position.offset()) + byte;
        disk.flip_bit(dir().join("meta-0000000001.seg"), at, 1)
            .unwrap();
        let found = look(&disk);
        let scopes: Vec<&Scope> = found.damage.iter().map(|damage| &damage.scope).collect();
        assert_eq!(scopes, [&Scope::Nobody], "{:?}", found.damage);
        let groups: Vec<&Group> = found.groups.iter().map(|(_, group)| group).collect();
        assert_eq!(groups[0].state.last, Some(id(3, last + 1)));
        assert!(groups[0].hurt.is_whole() && groups[1].hurt.is_whole());
        assert_eq!(groups[1].state.vote.as_deref(), Some(&b"after the cut"[..]));
    }
}

/// Nobody can read that the group was removed, but the next segment's standing records do not name it.
#[test]
fn a_group_whose_removal_was_lost_does_not_come_back() {
    let disk = full_log(true);
    let gone = GroupId(9);
    assert_eq!(
        look(&disk.after_kill()).groups[2].1.state,
        LogState::default()
    );
    let spots = layout(&disk, Stream::Meta);
    let removal = What::RecordHeader(Subject::Remove { group: gone });
    let at = spots.iter().position(|spot| spot.what == removal).unwrap();
    let batch = spots[..at]
        .iter()
        .rfind(|spot| spot.what == What::BatchHeader)
        .unwrap();
    disk.flip_bit(&batch.path, batch.bytes.start + 20, 0)
        .unwrap();
    disk.flip_bit(&batch.path, spots[at].bytes.start + 20, 0)
        .unwrap();
    let found = look(&disk);
    assert!(
        found
            .damage
            .iter()
            .any(|damage| damage.scope == Scope::AllGroups)
    );
    assert_eq!(found.groups[2].1.state, LogState::default());
}

/// Whole and well, but of a kind this version does not know: it stops, and changes nothing.
#[test]
fn a_record_from_the_future_stops_the_reader() {
    let disk = full_log(false);
    let spots = layout(&disk, Stream::Meta);
    let vote = What::RecordHeader(Subject::Vote { group: G1 });
    let spot = spots.iter().find(|spot| spot.what == vote).unwrap();
    let mut header = disk.contents(&spot.path).unwrap();
    header = header[spot.bytes.start as usize..spot.bytes.end as usize].to_vec();
    header[3] = 99;
    let crc = crate::log::checksum::crc32c(&header[..68]).to_le_bytes();
    header[68..].copy_from_slice(&crc);
    disk.overwrite(&spot.path, spot.bytes.start, &header)
        .unwrap();
    let before = disk.digest();
    let error = sim::run(1, async {
        open_with(&disk, small(), Complete::default())
            .await
            .err()
            .unwrap()
    });
    assert!(matches!(error, LogError::Newer { .. }), "{error}");
    assert_eq!(disk.digest(), before);
}

/// Both copies of a header are gone: the file's name and the other segments say all that they said.
#[test]
fn a_lost_header_page_is_written_again() {
    let disk = full_log(true);
    let sound = look(&disk.after_kill());
    let path = dir().join("meta-0000000002.seg");
    let page = disk.contents(&path).unwrap()[..4096].to_vec();
    disk.overwrite(&path, 0, &vec![0xFF; 4096]).unwrap();
    let found = look(&disk);
    assert_eq!(found.groups, sound.groups);
    assert_eq!(found.damage.len(), 1);
    assert_eq!(disk.contents(&path).unwrap()[..4096], page);
    assert!(look(&disk).damage.is_empty());
}

/// A file of another log, or under another's name, is a mistake of somebody, not damage.
#[test]
fn a_foreign_segment_stops_the_start() {
    let disk = full_log(true);
    let other = {
        let other = super::harness::disk(2);
        sim::run(77, async { drop(open(&other).await) });
        other.contents(dir().join("meta-0000000001.seg")).unwrap()
    };
    let second = disk.contents(dir().join("meta-0000000002.seg")).unwrap();
    for wrong in [other, second] {
        let disk = disk.after_kill();
        disk.overwrite(dir().join("meta-0000000001.seg"), 0, &wrong)
            .unwrap();
        let before = disk.digest();
        let opened = sim::run(1, async {
            open_with(&disk, small(), Complete::default()).await.err()
        });
        assert!(matches!(opened, Some(LogError::Io { .. })), "{opened:?}");
        assert_eq!(disk.digest(), before);
    }
}

/// A read that fails once is read again, page by page; a disk that reads nothing stops the start. Neither is a torn tail.
#[test]
fn reads_that_fail_during_recovery_lose_nothing() {
    let disk = full_log(true);
    let sound = look(&disk.after_kill());
    let reads = {
        let disk = disk.after_kill();
        disk.count_reads(true);
        look(&disk);
        disk.history()
    };
    let mut survived = 0;
    for read in reads.iter().filter(|op| op.kind == sim::OpKind::Read) {
        let disk = disk.after_kill();
        disk.count_reads(true);
        disk.fail_at(read.number, sim::Fault::Eio);
        let opened = sim::run(1, async {
            open_with(&disk, small(), Complete::default()).await.is_ok()
        });
        survived += usize::from(opened);
        disk.clear_faults();
        assert_eq!(look(&disk).groups, sound.groups);
    }
    assert!(survived > 3, "{survived}");
    let before = disk.digest();
    disk.fail_rate(sim::OpKind::Read, 1_000_000, sim::Fault::Eio);
    let opened = sim::run(1, async {
        open_with(&disk, small(), Complete::default()).await.err()
    });
    assert!(matches!(opened, Some(LogError::Io { .. })), "{opened:?}");
    assert_eq!(disk.digest(), before);
}

/// What lies before a damaged entry is given, in one go with what was asked for behind it.
#[test]
fn entries_before_a_damaged_one_are_given() {
    let disk = full_log(false);
    let subject = Subject::Entry {
        group: G1,
        id: id(2, 4),
    };
    flip(&disk, |what| what == What::Head(subject));
    reopen(&disk, async |opened| {
        let log = &opened.log;
        log.appended(G1, vec![entry(2, 6, 30, 30)]).await.unwrap();
        let given = log.all(G1).await.unwrap();
        let indexes: Vec<u64> = given.iter().map(|entry| entry.id.index).collect();
        assert_eq!(indexes, [1, 2, 3]);
        let first = log.entries(G1, 4..7, usize::MAX, Want::Heads).await;
        assert!(matches!(
            first,
            Err(LogError::EntryDamaged { index: 4, .. })
        ));
    });
}
