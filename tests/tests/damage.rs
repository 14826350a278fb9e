//! The table of docs/damage.md, a test for each row: one flipped bit in one kind of record or file, and exactly what is
//! still served, what is refused and with which words, what `status` says.
//!
//! `bit_flips.rs` holds what is true of all of them.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::LazyLock;

use minikv_core::env::sim::{Choice, SimDisk};
use minikv_core::node::{EngineKind, NodeOptions};
use minikv_tests::client::Ledger;
use minikv_tests::content::Piece;
use minikv_tests::damaged::{Outcome, by_kind, bytes_of, live_with, live_with_options, some};
use minikv_tests::life::{self, Furnished};
use minikv_tests::model::{Name, Op};
use minikv_tests::on_disk::{Kind, Record, Spot};
use minikv_tests::world::{World, small_options};

/// Spots of a kind that are tried; `MINIKV_FLIPS` tries more.
fn most() -> usize {
    std::env::var("MINIKV_FLIPS").map_or(4, |most| most.parse().unwrap())
}

/// A store that has lived on: with every kind of record that a healthy node writes.
static WORN: LazyLock<parking_lot::Mutex<Furnished>> =
    LazyLock::new(|| parking_lot::Mutex::new(Furnished::worn().unwrap()));

fn worn() -> (SimDisk, Ledger) {
    WORN.lock().copy()
}

fn spots(kind: Kind) -> Vec<Spot> {
    by_kind(&worn().0).remove(&kind).unwrap_or_default()
}

fn flip(disk: &SimDisk, path: &Path, byte: u64) {
    disk.flip_bit(path, byte, (byte % 8) as u8).unwrap();
}

/// What becomes of a flipped bit in each of these spots, one at a time.
fn each(spots: Vec<Spot>, check: impl Fn(&Spot, &Outcome)) -> usize {
    let spots = some(spots, most());
    for spot in &spots {
        for byte in bytes_of(spot) {
            let (disk, ledger) = worn();
            flip(&disk, &spot.path, byte);
            let outcome = live_with(&disk, &ledger);
            let outcome = outcome.unwrap_or_else(|what| panic!("{spot:?}, byte {byte}: {what}"));
            check(spot, &outcome);
        }
    }
    assert!(!spots.is_empty(), "there is none of this kind");
    spots.len()
}

/// Everything is read and written; `status` says what was found, in these words or not at all (what nobody looks at any
/// more is not looked at). At least one spot is found.
fn harmless(kind: Kind, words: &str) {
    let found = std::cell::Cell::new(0);
    each(spots(kind), |spot, outcome| {
        assert!(outcome.serves_everything(), "{spot:?}: {outcome:?}");
        for line in &outcome.damage {
            assert!(line.ends_with(words), "{spot:?}: {line}");
            found.set(found.get() + 1);
        }
    });
    assert!(found.get() > 0, "nobody noticed any");
}

/// What is said of an item whose header is bad. If no table of places names it yet, nobody knows where it was.
const HEADER: [&str; 2] = [
    "the record's header does not verify",
    "is missing on this disk",
];
/// What is said of one whose bytes are.
const BYTES: [&str; 1] = ["its bytes do not verify"];

/// One object at most is refused, by a GET alone, with these words; `status` lists it.
fn one_object(kind: Kind, words: &[&str]) {
    let refused = std::cell::Cell::new(0);
    each(live(kind), |spot, outcome| {
        assert_eq!(outcome.stopped, None);
        assert!(
            outcome.troubles.is_empty() && outcome.write.is_none(),
            "{spot:?}: {outcome:?}"
        );
        assert!(outcome.found.refused.len() <= 1, "{spot:?}: {outcome:?}");
        for (question, answer) in &outcome.found.refused {
            assert!(question.starts_with("GET "), "{spot:?}: {question}");
            let what = answer.strip_prefix("damaged: ").unwrap();
            assert!(
                words.iter().any(|words| what.ends_with(words)),
                "{spot:?}: {answer}"
            );
            assert!(
                outcome.damage.contains(&what.to_owned()),
                "{spot:?}: {outcome:?}"
            );
            refused.set(refused.get() + 1);
        }
    });
    assert!(
        refused.get() > 0,
        "nothing was refused: none of these is named by anything"
    );
}

/// The spots of a kind that matter to somebody: flipped all at once, they refuse something.
fn live(kind: Kind) -> Vec<Spot> {
    let all = spots(kind);
    let (disk, ledger) = worn();
    let baseline = live_with(&disk, &ledger).unwrap().found.refused.len();
    let matters = |spot: &Spot| {
        let (disk, ledger) = worn();
        flip(&disk, &spot.path, spot.at + spot.len / 2);
        let outcome = live_with(&disk, &ledger).unwrap();
        outcome.found.refused.len() > baseline
    };
    let mut some = some(all, 24);
    some.retain(matters);
    some
}

// ---- the log's frame ----

/// The header page holds its header twice: it is served and mended.
#[test]
fn a_segment_header_is_read_from_its_other_half_and_mended() {
    each(spots(Kind::SegmentHeader), |spot, outcome| {
        assert!(outcome.serves_everything(), "{spot:?}: {outcome:?}");
        let [line] = &outcome.damage[..] else {
            panic!("{outcome:?}")
        };
        assert!(line.ends_with(": the header page of a segment"), "{line}");
    });
    let (disk, ledger) = worn();
    let spot = &spots(Kind::SegmentHeader)[0];
    flip(&disk, &spot.path, spot.at);
    live_with(&disk, &ledger).unwrap();
    let next = live_with(&disk.after_power_cut(&Choice::None), &ledger).unwrap();
    assert_eq!(next.damage, Vec::<String>::new(), "it was not mended");
}

#[test]
fn a_batch_header_hides_no_record() {
    harmless(Kind::BatchHeader, ": a batch header");
}

#[test]
fn a_batch_table_hides_no_record() {
    harmless(Kind::BatchTable, ": the table of a batch");
}

// ---- records of groups ----

#[test]
fn a_standing_record_says_nothing_that_is_not_known_from_elsewhere() {
    harmless(Kind::RecordHeader(Record::Standing), ": a standing record");
    harmless(Kind::RecordHead(Record::Standing), ": a standing record");
}

#[test]
fn a_purge_is_told_by_the_table_of_its_batch() {
    harmless(Kind::RecordHeader(Record::Purge), ": a purge");
}

/// Which of two votes counts is the newest: an older one is no loss.
#[test]
fn an_old_vote_is_no_loss_and_without_the_newest_a_group_only_reads() {
    for kind in [
        Kind::RecordHeader(Record::Vote),
        Kind::RecordHead(Record::Vote),
    ] {
        let votes = spots(kind);
        let newest = |group| votes.iter().rposition(|spot| spot.group == group).unwrap();
        let newest = [newest(0), newest(1)];
        for (at, vote) in votes.iter().enumerate() {
            let (disk, ledger) = worn();
            flip(&disk, &vote.path, vote.at + vote.len / 2);
            let outcome = live_with(&disk, &ledger).unwrap();
            assert!(outcome.found.refused.is_empty(), "{vote:?}: {outcome:?}");
            let of_group = newest.iter().position(|newest| *newest == at);
            let Some(group) = of_group else {
                assert!(outcome.serves_everything(), "{vote:?}: {outcome:?}");
                continue;
            };
            let says = format!(
                "read-only: its vote is lost; stop the server, and `minikv recover --group {group}` says what would be lost"
            );
            assert_eq!(outcome.troubles, std::slice::from_ref(&says));
            assert!(
                outcome.damage.contains(&format!("g{group}: {says}")),
                "{outcome:?}"
            );
            assert!(outcome.damage.iter().any(|line| line.ends_with(": a vote")));
            if group == 1 {
                assert_eq!(outcome.write, Some(format!("damaged: {says}")));
            }
        }
    }
}

/// An applied entry is in the checkpoint; at most the bytes that it carried are gone with its header.
fn entry(kind: Kind, words: &str) {
    let checkpoints = live_with(&worn().0, &worn().1).unwrap().checkpoints;
    let (applied, unapplied): (Vec<Spot>, Vec<Spot>) = spots(kind)
        .into_iter()
        .partition(|spot| spot.index <= checkpoints[&spot.group]);
    each(applied, |spot, outcome| {
        assert!(
            outcome.troubles.is_empty() && outcome.write.is_none(),
            "{spot:?}: {outcome:?}"
        );
        for (question, answer) in &outcome.found.refused {
            assert!(question.starts_with("GET "), "{question}");
            assert!(
                answer.ends_with("the record's header does not verify"),
                "{answer}"
            );
        }
    });
    let data: Vec<Spot> = unapplied
        .into_iter()
        .filter(|spot| spot.group == 1)
        .collect();
    each(data, |spot, outcome| {
        let says = format!(
            "neither reads nor writes: entry {}, which was not applied, is damaged; stop the server, and `minikv recover --group 1` says what would be lost",
            spot.index
        );
        assert_eq!(outcome.troubles, std::slice::from_ref(&says), "{spot:?}");
        assert_eq!(outcome.found.right, 0, "it answered something: {outcome:?}");
        assert!(!outcome.found.refused.is_empty());
        for (question, answer) in &outcome.found.refused {
            assert_eq!(*answer, format!("damaged: {says}"), "{question}");
        }
        assert_eq!(outcome.write, Some(format!("damaged: {says}")));
        assert!(
            outcome.damage.contains(&format!("g1: {says}")),
            "{outcome:?}"
        );
        assert!(
            outcome.damage.iter().any(|line| line.ends_with(words)),
            "{outcome:?}"
        );
    });
}

#[test]
fn an_entry_header_costs_its_payload_and_unapplied_the_whole_group_until_recovered() {
    entry(
        Kind::RecordHeader(Record::Entry),
        ": the header of an entry",
    );
}

#[test]
fn a_command_costs_nothing_once_applied_and_else_the_whole_group_until_recovered() {
    entry(Kind::RecordHead(Record::Entry), ": the command of an entry");
}

#[test]
fn an_inline_payload_costs_one_object() {
    one_object(Kind::RecordPayload(Record::Entry), &BYTES);
}

/// A truncation comes only from a loss that was accepted here; its batch's table says all that it says.
#[test]
fn a_truncation_is_told_by_the_table_of_its_batch() {
    let (disk, _) = worn();
    let heads = spots(Kind::RecordHead(Record::Entry));
    let last = heads.iter().rfind(|spot| spot.group == 1).unwrap();
    flip(&disk, &last.path, last.at);
    life::stage(9, async {
        let group = minikv_core::ids::GroupId(1);
        let done = minikv_core::node::recover(disk.env(), small_options(), group, true).await;
        assert!(done.unwrap().accepted);
        Ok(())
    })
    .unwrap();
    let before = live_with(&disk.after_kill(), &Ledger::default()).unwrap();
    assert_eq!((before.troubles.len(), before.stopped.clone()), (0, None));
    let truncations = by_kind(&disk)
        .remove(&Kind::RecordHeader(Record::Truncate))
        .unwrap();
    for spot in &truncations {
        for byte in bytes_of(spot) {
            let disk = disk.after_kill();
            flip(&disk, &spot.path, byte);
            let outcome = live_with(&disk, &Ledger::default()).unwrap();
            assert_eq!(outcome.troubles, before.troubles);
            assert_eq!(outcome.checkpoints, before.checkpoints);
            assert!(
                outcome
                    .damage
                    .iter()
                    .any(|line| line.ends_with(": a truncation")),
                "{outcome:?}"
            );
        }
    }
}

// ---- items ----

#[test]
fn a_frame_costs_one_object() {
    one_object(Kind::RecordHeader(Record::Frame), &HEADER);
    one_object(Kind::RecordPayload(Record::Frame), &BYTES);
}

#[test]
fn what_compaction_moved_costs_one_object() {
    one_object(Kind::RecordHeader(Record::MovedPayload), &HEADER);
    one_object(Kind::RecordPayload(Record::MovedPayload), &BYTES);
    one_object(Kind::RecordHeader(Record::MovedFrame), &HEADER);
    one_object(Kind::RecordPayload(Record::MovedFrame), &BYTES);
}

// ---- runs, manifests, CURRENT ----

/// A read takes the block from the twin, and a few seconds later the bad file has been written anew. The next flipped bit
/// in that very block of the twin finds a whole first copy.
#[test]
fn a_run_is_served_from_its_twin_and_written_anew() {
    let healed = std::cell::Cell::new(0);
    for spot in spots(Kind::Run) {
        for byte in bytes_of(&spot) {
            let (disk, ledger) = worn();
            flip(&disk, &spot.path, byte);
            let outcome = live_with(&disk, &ledger).unwrap();
            assert!(outcome.serves_everything(), "{spot:?}: {outcome:?}");
            assert_eq!(
                outcome.damage,
                Vec::<String>::new(),
                "{spot:?}, byte {byte}"
            );
            let name = spot
                .path
                .file_name()
                .unwrap()
                .to_string_lossy()
                .into_owned();
            let [line] = &outcome.healed[..] else {
                // Nobody read that block.
                assert_eq!(outcome.healed, Vec::<String>::new());
                continue;
            };
            assert!(
                line.contains(&name) && line.ends_with("; written again from its twin"),
                "{line}"
            );
            healed.set(healed.get() + 1);
            let disk = disk.after_power_cut(&Choice::None);
            let twin = spot.path.with_file_name(format!("{name}.twin"));
            // A merge or a checkpoint may have replaced the run meanwhile.
            if disk
                .contents(&twin)
                .is_ok_and(|bytes| bytes.len() as u64 == spot.len)
            {
                flip(&disk, &twin, byte);
                let next = live_with(&disk, &ledger).unwrap();
                assert!(
                    next.serves_everything() && next.damage.is_empty(),
                    "{spot:?}: {next:?}"
                );
            }
        }
    }
    assert!(healed.get() > 0, "nothing was healed");
}

/// The twin is read when the first copy fails: until then nobody notices.
#[test]
fn a_twin_of_a_run_is_not_missed() {
    each(spots(Kind::RunTwin), |spot, outcome| {
        assert!(outcome.serves_everything(), "{spot:?}: {outcome:?}");
        assert_eq!(outcome.damage, Vec::<String>::new());
    });
}

#[test]
fn a_manifest_or_current_is_written_anew_at_the_start() {
    for kind in [
        Kind::Manifest,
        Kind::ManifestTwin,
        Kind::Current,
        Kind::CurrentTwin,
    ] {
        each(spots(kind), |spot, outcome| {
            assert!(outcome.serves_everything(), "{spot:?}: {outcome:?}");
            assert_eq!(outcome.damage, Vec::<String>::new());
            let [line] = &outcome.healed[..] else {
                panic!("{spot:?}: {outcome:?}")
            };
            let name = spot
                .path
                .file_name()
                .unwrap()
                .to_string_lossy()
                .into_owned();
            assert!(line.contains(&name), "{line}");
        });
    }
}

/// Both copies of a file that says what there is: nothing is guessed, the node does not start.
#[test]
fn both_manifests_or_both_currents_stop_the_start() {
    for (kind, twin) in [
        (Kind::Manifest, Kind::ManifestTwin),
        (Kind::Current, Kind::CurrentTwin),
    ] {
        for (spot, twin) in spots(kind).iter().zip(spots(twin)) {
            let (disk, ledger) = worn();
            flip(&disk, &spot.path, spot.len / 2);
            flip(&disk, &twin.path, spot.len / 2);
            let stopped = live_with(&disk, &ledger).unwrap().stopped.unwrap();
            assert!(
                stopped.starts_with("the state cannot be read: "),
                "{stopped}"
            );
            assert!(stopped.contains("is damaged"), "{stopped}");
        }
    }
}

/// A group with enough rows for several blocks, all of them in a checkpoint.
fn many_rows() -> Furnished {
    let (disk, ledger) = Furnished::new().unwrap().copy();
    life::stage(7, async {
        let world = World::start(&disk, &small_options(), ledger.clone())
            .await
            .unwrap();
        for number in 0..400u64 {
            let name = Name::new("b", format!("row-{number:03}"));
            let put = Op::Put(Piece::new(70_000 + number, 40).into());
            world.client.run(&name, put).await.unwrap();
        }
        world.node.checkpoint_now().await.unwrap();
        world
            .node
            .shutdown(std::time::Duration::from_secs(30))
            .await;
        Ok(())
    })
    .unwrap();
    Furnished::of(&disk, &ledger)
}

/// The same block in both copies of a group's run: reads of its keys and lists across them are refused with the name of
/// the run, and never answered with "not there". The rest of the group reads on.
#[test]
fn a_run_damaged_in_both_copies_refuses_its_range_by_name() {
    let whole = many_rows();
    let kinds = by_kind(&whole.copy().0);
    let of_group = |spot: &&Spot| spot.path.to_string_lossy().contains("/g1/");
    let run = kinds[&Kind::Run]
        .iter()
        .filter(of_group)
        .max_by_key(|spot| spot.len)
        .unwrap();
    let name = run.path.file_name().unwrap().to_string_lossy().into_owned();
    let (mut some_refused, mut some_served) = (0, 0);
    for part in 1..8 {
        let (disk, ledger) = whole.copy();
        let byte = run.len * part / 8;
        flip(&disk, &run.path, byte);
        flip(
            &disk,
            &run.path.with_file_name(format!("{name}.twin")),
            byte,
        );
        let outcome = live_with(&disk, &ledger).unwrap();
        assert_eq!(outcome.stopped, None);
        let refused = &outcome.found.refused;
        if refused.is_empty() {
            continue; // Rows that nobody asked for: of releases, sessions.
        }
        some_refused += 1;
        some_served += usize::from(outcome.found.right > 0);
        for (question, answer) in refused {
            assert!(
                answer.starts_with("damaged: ") && answer.contains(&name),
                "{question}: {answer}"
            );
        }
        let gets = refused
            .keys()
            .filter(|question| question.starts_with("GET row-"))
            .count();
        if gets > 0 {
            assert!(gets < 400, "one block is not the whole run");
            assert!(
                refused.contains_key("LIST b"),
                "a list across the hole: {refused:?}"
            );
        }
        assert!(
            outcome.damage.iter().any(|line| line.contains(&name)),
            "{outcome:?}"
        );
        assert!(outcome.healed.is_empty());
    }
    assert!(
        some_refused > 1 && some_served > 0,
        "{some_refused} refused, {some_served} served"
    );
}

/// The places: what lies where cannot be told. The start is refused if it has to look there, else the objects are.
#[test]
fn places_damaged_in_both_copies_are_refused_by_name() {
    let whole = many_rows();
    let kinds = by_kind(&whole.copy().0);
    let of_places = |spot: &&Spot| spot.path.to_string_lossy().contains("/places/");
    let run = kinds[&Kind::Run]
        .iter()
        .filter(of_places)
        .max_by_key(|spot| spot.len)
        .unwrap();
    let name = run.path.file_name().unwrap().to_string_lossy().into_owned();
    for part in 1..4 {
        let (disk, ledger) = whole.copy();
        let byte = run.len * part / 4;
        flip(&disk, &run.path, byte);
        flip(
            &disk,
            &run.path.with_file_name(format!("{name}.twin")),
            byte,
        );
        let outcome = live_with(&disk, &ledger).unwrap();
        match &outcome.stopped {
            Some(stopped) => assert!(stopped.contains(&name), "{stopped}"),
            None => {
                assert!(!outcome.found.refused.is_empty());
                for (question, answer) in &outcome.found.refused {
                    assert!(question.starts_with("GET "), "{question}: {answer}");
                    assert!(answer.contains(&name), "{question}: {answer}");
                }
                assert!(
                    outcome.damage.iter().any(|line| line.contains(&name)),
                    "{outcome:?}"
                );
            }
        }
    }
}

// ---- small files ----

#[test]
fn identity_and_boot_number_are_written_anew_from_their_twins() {
    for (kind, file) in [
        (Kind::Identity, "identity"),
        (Kind::IdentityTwin, "identity"),
        (Kind::Boot, "boot"),
        (Kind::BootTwin, "boot"),
    ] {
        each(spots(kind), |spot, outcome| {
            assert!(outcome.serves_everything(), "{spot:?}: {outcome:?}");
            assert_eq!(outcome.damage, Vec::<String>::new());
            let [line] = &outcome.healed[..] else {
                panic!("{spot:?}: {outcome:?}")
            };
            assert!(line.starts_with(&format!("{file}: /data/{file}")), "{line}");
            assert!(line.ends_with("; written again from its twin"), "{line}");
        });
    }
}

#[test]
fn both_copies_of_a_small_file_stop_the_start() {
    for file in ["identity", "boot"] {
        let (disk, ledger) = worn();
        flip(&disk, Path::new(&format!("/data/{file}")), 20);
        flip(&disk, Path::new(&format!("/data/{file}.twin")), 20);
        let stopped = live_with(&disk, &ledger).unwrap().stopped.unwrap();
        assert!(
            stopped.starts_with(&format!("/data: both copies of `{file}` are damaged")),
            "{stopped}"
        );
        assert!(stopped.contains("restore"), "{stopped}");
    }
}

// ---- what lies in memory ----

/// Overlay and block cache go with every process: the log and the runs have all of it.
#[test]
fn overlay_and_block_cache_are_rebuilt_from_the_log_and_the_runs() {
    let (disk, ledger) = worn();
    let outcome = live_with(&disk.after_power_cut(&Choice::None), &ledger).unwrap();
    assert!(outcome.serves_everything(), "{outcome:?}");
    assert!(outcome.replayed > 0, "there was an overlay");
    assert_eq!((outcome.damage.len(), outcome.healed.len()), (0, 0));
}

fn in_memory() -> NodeOptions {
    NodeOptions {
        engine: EngineKind::Memory,
        ..small_options()
    }
}

/// The memory engine has nothing of its own: it is rebuilt from checkpoint and log, and takes over from the other engine.
#[test]
fn the_memory_engine_is_rebuilt() {
    let (disk, ledger) = worn();
    let outcome = live_with_options(&disk, &ledger, &in_memory()).unwrap();
    assert!(outcome.serves_everything(), "{outcome:?}");
    assert_eq!((outcome.damage.len(), outcome.healed.len()), (0, 0));
    let disk = disk.after_power_cut(&Choice::None);
    let again = live_with_options(&disk, &ledger, &in_memory()).unwrap();
    assert!(again.serves_everything(), "{again:?}");
    let back = live_with(&disk.after_kill(), &ledger).unwrap();
    assert!(back.serves_everything(), "{back:?}");
}

/// Without its checkpoint it is refused, never begun anew; with a run that no copy has, too.
#[test]
fn the_memory_engine_never_begins_empty() {
    for engine in [small_options(), in_memory()] {
        let (disk, ledger) = worn();
        for (path, _) in disk.files() {
            if path.to_string_lossy().contains("/groups/g1/") {
                disk.env().disk.remove(&path).unwrap();
            }
        }
        let stopped = live_with_options(&disk, &ledger, &engine)
            .unwrap()
            .stopped
            .unwrap();
        assert_eq!(
            stopped,
            "the state cannot be read: g1: CURRENT is damaged: is missing: the store is lost"
        );
    }
    let (disk, ledger) = worn();
    for kind in [Kind::Run, Kind::RunTwin] {
        for spot in spots(kind) {
            if spot.path.to_string_lossy().contains("/groups/g1/") {
                flip(&disk, &spot.path, 40);
            }
        }
    }
    let stopped = live_with_options(&disk, &ledger, &in_memory())
        .unwrap()
        .stopped
        .unwrap();
    assert!(
        stopped.starts_with("the state cannot be read: g1: ")
            && stopped.contains(".run is damaged"),
        "{stopped}"
    );
}

// ---- the end of a stream ----

/// Damage that swallows the end of the blob stream, which a durable table of places knew. What was there is refused; what
/// is written over it afterwards is found again after a crash, although it lies before the point up to which the table
/// once was complete.
#[test]
fn what_follows_a_lost_tail_survives_the_next_crash() {
    let (disk, ledger) = worn();
    life::stage(6, async {
        let world = World::start(&disk, &small_options(), ledger.clone())
            .await
            .unwrap();
        for number in 0..3 {
            let put = Op::Put(Piece::new(91_000 + number, 60_000).into());
            world
                .client
                .run(&Name::new("b", format!("lost-{number}")), put)
                .await
                .unwrap();
        }
        world.node.checkpoint_now().await.unwrap();
        Ok(())
    })
    .unwrap();
    let disk = disk.after_kill();
    // The batches from the first of the three objects on.
    let blob = |spot: &&Spot| spot.path.to_string_lossy().contains("/blob-");
    let kinds = by_kind(&disk);
    let frames: Vec<&Spot> = kinds[&Kind::RecordHeader(Record::Frame)]
        .iter()
        .filter(blob)
        .collect();
    let first = frames[frames.len() - 3];
    let behind = |spot: &&Spot| (&spot.path, spot.at) > (&first.path, first.at.saturating_sub(200));
    for kind in [Kind::BatchHeader, Kind::RecordHeader(Record::Frame)] {
        for spot in kinds[&kind].iter().filter(blob).filter(behind) {
            flip(&disk, &spot.path, spot.at);
        }
    }
    life::stage(7, async {
        let world = World::start(&disk, &small_options(), Ledger::default())
            .await
            .unwrap();
        let damage = world.node.status().await.damage;
        assert!(
            damage
                .iter()
                .any(|line| line.contains("the stream ends before")),
            "{damage:?}"
        );
        let bucket = world.client.kv().bucket("b").await.unwrap().unwrap();
        let lost = minikv_tests::observe::key(world.client.kv(), &bucket, "lost-2").await;
        assert!(lost.is_err(), "{lost:?}");
        let put = Op::Put(Piece::new(92_000, 40_000).into());
        world
            .client
            .run(&Name::new("b", "fresh"), put)
            .await
            .unwrap();
        Ok(())
    })
    .unwrap();
    for disk in [disk.after_kill(), disk.after_power_cut(&Choice::None)] {
        life::stage(8, async {
            let world = World::start(&disk, &small_options(), Ledger::default())
                .await
                .unwrap();
            let bucket = world.client.kv().bucket("b").await.unwrap().unwrap();
            let fresh = minikv_tests::observe::key(world.client.kv(), &bucket, "fresh").await;
            assert_eq!(fresh.unwrap(), Some(Piece::new(92_000, 40_000).into()));
            Ok(())
        })
        .unwrap();
    }
}
