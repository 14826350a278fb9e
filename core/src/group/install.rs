//! Taking over a checkpoint of the leader: the side of the member that lags.
//!
//! ```text
//!   Install ──> room? ── files pulled, fsynced, read back ── payloads that its rows name and that are not here: pulled, fsynced
//!     ── openraft: one switch of rows and applied mark ── what no row names any more is forgotten ── "done"
//! ```
//! Always true:
//! * until the switch everything is as it was: reads answer from the old rows, and a cut leaves files that the next start
//!   removes. After it everything the rows name is here and durable;
//! * what can fail for lack of room, or because the leader went away, fails before openraft hears of it: an I/O error there
//!   would end the group on this node;
//! * a payload of an entry that this copy has not applied is pulled, also if the entry lies in the log: openraft may
//!   truncate and purges the log, and its places with it;
//! * a truncation that openraft asked for is durable before the switch: a log with other entries than the state's at the
//!   same index could not be opened again;
//! * the group's directory under `incoming` is there from before the first byte until everything that the new rows do not name
//!   was forgotten, durably: a start that finds it does that again.
//!
//! Elsewhere: the leader's side (`shipping`), the switch (`engine::incoming`). Chunks that the new rows name are fetched
//! afterwards, as those of a claim are.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use minikv_proto::peer::{self, ask, payload, reply};
use parking_lot::Mutex;

use super::Group;
use super::peers::Peers;
use super::replica::{Mark, Replica};
use super::shipping::Source;
use crate::engine::incoming::{Incoming, Prepared};
use crate::engine::manifest::Manifest;
use crate::engine::{EngineError, View};
use crate::env::clock::Instant;
use crate::env::disk::Disk;
use crate::env::task::JoinHandle;
use crate::env::{clock, task};
use crate::ids::{GroupId, NodeId, PayloadId, StageId, VShard};
use crate::log::{Hold, Item, OverlayLoan, Place};
use crate::state::read::{self, Named};

/// How long one piece may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// Until it is asked for again.
const AGAIN: Duration = Duration::from_millis(50);
/// Without a piece for so long the pull is given up.
const SILENCE: Duration = Duration::from_secs(10);
/// Payloads asked for in one message.
const NAMES: usize = 256;
/// Items of the table of places looked at together.
const PAGE: usize = 4096;
/// Who has just read an old row still finds its bytes.
const GRACE: Duration = Duration::from_secs(2);
/// Between two tries to clear up: rows or places could not be read.
const SWEEP_AGAIN: Duration = Duration::from_secs(5);

/// Where a group's checkpoints from elsewhere arrive: on the engine's disk.
#[derive(Clone)]
pub(crate) struct Arrivals {
    pub disk: Arc<dyn Disk>,
    pub dir: PathBuf,
}

/// A checkpoint that is here and durable, with everything it names.
pub(crate) struct Arrived {
    pub prepared: Prepared,
    /// Payloads that were pulled. Recorded right before the switch: an entry of the log may still be dropped, and its place.
    pub payloads: Vec<(Item, Option<Place>)>,
    /// The blob stream is not called complete past them before.
    pub _holds: Vec<Hold>,
    /// Room for the new manifest.
    pub _loan: Option<OverlayLoan>,
}

/// What a member of a group takes over now.
#[derive(Default)]
pub(crate) struct Installer {
    current: Mutex<Option<Pull>>,
    /// Who uses the directory of arrivals.
    arriving: tokio::sync::Mutex<()>,
    /// When the last switch was whose left-overs are still there.
    unswept: Mutex<Option<Instant>>,
    /// The member leaves: nothing arrives any more.
    is_closed: AtomicBool,
}

impl Group {
    /// The member leaves: what arrives is given up, and nobody uses the directory of arrivals before this is dropped.
    pub(crate) async fn no_more_arrivals(&self) -> tokio::sync::MutexGuard<'_, ()> {
        let installer = &self.installer;
        installer.is_closed.store(true, Ordering::Release);
        if let Some(pull) = &*installer.current.lock() {
            let mut progress = pull.progress.lock();
            if matches!(*progress, Progress::Pulling) {
                pull.task.abort();
                *progress = Progress::Ended(Err("the member leaves".to_owned()));
            }
        }
        installer.arriving().await
    }

    /// Clears up behind the last switch; what cannot be read now is tried again while the group runs.
    pub(crate) async fn clear_up(&self) {
        if let Err(error) = clear_up(&self.replica).await {
            tracing::warn!(group = %self.id, %error, "what a taken-over state left stays for now");
            sweep(&self.replica, self.installer.clone());
        }
    }
}

impl Installer {
    fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// Keeps the directory of arrivals for the caller.
    pub(super) async fn arriving(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.arriving.lock().await
    }
}

struct Pull {
    from: NodeId,
    checkpoint: u64,
    term: u64,
    progress: Arc<Mutex<Progress>>,
    task: JoinHandle<()>,
}

enum Progress {
    Pulling,
    /// openraft has it: it can neither be stopped nor be begun again.
    Switching,
    Ended(Result<peer::RaftVote, String>),
}

impl Group {
    /// Takes over a leader's checkpoint, or says how far that is. Asked again and again; begins once.
    pub(crate) fn install_for_peer(
        self: &Arc<Self>,
        from: NodeId,
        asked: peer::Install,
    ) -> Result<peer::Installed, String> {
        let vote = asked.vote.ok_or("a checkpoint without a vote")?;
        if self.installer.is_closed() {
            return Err("the member leaves".to_owned());
        }
        let mut current = self.installer.current.lock();
        if let Some(pull) = &*current {
            // What a leader offered in another term came to an end in that term.
            let same =
                (pull.from, pull.checkpoint, pull.term) == (from, asked.checkpoint, vote.term);
            let mut progress = pull.progress.lock();
            match &*progress {
                Progress::Ended(ended) if same => {
                    let ended = ended.clone();
                    drop(progress);
                    if ended.is_err() {
                        // The next question begins again.
                        *current = None;
                    }
                    return Ok(match ended {
                        Ok(vote) => peer::Installed {
                            vote: Some(vote),
                            ..peer::Installed::default()
                        },
                        Err(failed) => peer::Installed { vote: None, failed },
                    });
                }
                Progress::Ended(_) => {}
                Progress::Switching => return Ok(peer::Installed::default()),
                Progress::Pulling if same || pull.term > vote.term => {
                    return Ok(peer::Installed::default());
                }
                // A newer checkpoint, or a newer leader.
                Progress::Pulling => {
                    pull.task.abort();
                    *progress = Progress::Ended(Err("overtaken".to_owned()));
                }
            }
        }
        let progress = Arc::new(Mutex::new(Progress::Pulling));
        let (group, told) = (self.clone(), progress.clone());
        let work = async move {
            let installer = group.installer.clone();
            let alone = installer.arriving.lock().await;
            if installer.is_closed() {
                return;
            }
            let ended = group.pull(from, asked.checkpoint, asked.manifest, vote, &told);
            let ended = ended.await;
            let why = ended.as_ref().err().cloned();
            let was = std::mem::replace(&mut *told.lock(), Progress::Ended(ended));
            let Some(why) = why else {
                // The next checkpoint need not wait for that.
                drop(alone);
                return sweep(&group.replica, installer);
            };
            tracing::warn!(group = %group.id, why, "a checkpoint was not installed");
            match was {
                // Nothing of it is recorded: only its room is to be given back.
                Progress::Pulling | Progress::Ended(_) if installer.unswept.lock().is_none() => {
                    if let Err(error) = remove_arrivals(&group.replica) {
                        tracing::warn!(group = %group.id, %error, "what came of it stays for now");
                    }
                }
                // openraft may have begun with it, or somebody is to sweep: the directory says so.
                _ => {}
            }
        };
        *current = Some(Pull {
            from,
            checkpoint: asked.checkpoint,
            term: vote.term,
            progress,
            task: task::spawn_thread("install", work),
        });
        Ok(peer::Installed::default())
    }

    async fn pull(
        &self,
        from: NodeId,
        checkpoint: u64,
        manifest: Bytes,
        vote: peer::RaftVote,
        progress: &Mutex<Progress>,
    ) -> Result<peer::RaftVote, String> {
        let (Some(raft), Some(peers)) = (self.raft(), self.peers.clone()) else {
            return Err("the group does not run here".to_owned());
        };
        let source = Remote {
            peers,
            from,
            group: self.id,
            checkpoint,
        };
        let arrived = receive(&self.replica, &source, &manifest).await?;
        {
            // From here on nobody may empty the directory.
            let mut progress = progress.lock();
            if !matches!(*progress, Progress::Pulling) {
                return Err("overtaken".to_owned());
            }
            *progress = Progress::Switching;
        }
        let at = mark_of(&arrived).map_err(|error| error.to_string())?.at;
        let vote = raft.install(vote, arrived).await?;
        // openraft passes over what it knows to be agreed on already; the leader takes "done" for "applied".
        let applied = self.until_applied(at.map_or(0, |at| at.index), PATIENCE);
        applied.await.map_err(|error| error.to_string())?;
        Ok(vote)
    }
}

/// Pulls a checkpoint and what it names; durable when this returns, and nothing has changed.
pub(super) async fn receive(
    replica: &Replica,
    source: &dyn Source,
    manifest: &Bytes,
) -> Result<Arrived, String> {
    let said = |error: EngineError| error.to_string();
    let loan = replica.store.room_for_checkpoint().map_err(said)?;
    let Arrivals { disk, dir } = &replica.arrivals;
    let bytes: u64 = {
        let manifest = Manifest::decode("received manifest", manifest).map_err(said)?;
        manifest.runs.iter().map(|run| run.len).sum()
    };
    let above = dir.parent().unwrap_or(dir);
    disk.create_dir_all(above)
        .map_err(|error| error.to_string())?;
    let free = disk.space(above).map_err(|error| error.to_string())?.free;
    // Twins, and as much again for what it names and for whoever else writes.
    if free < 3 * bytes {
        return Err(format!("{free} bytes of room for a checkpoint of {bytes}"));
    }
    let begun = Incoming::begin(disk.clone(), dir.clone(), manifest).await;
    let incoming = begun.map_err(said)?;
    for dir in above.ancestors().take(2) {
        let synced = disk.sync_dir(dir).await;
        synced.map_err(|error| error.to_string())?;
    }
    for (file, len) in incoming.files().collect::<Vec<_>>().into_iter().enumerate() {
        let mut at = 0;
        while at < len {
            let piece = source.piece(file, at).await?;
            if piece.is_empty() {
                return Err(format!("file {file} ends at {at} instead of {len}"));
            }
            let got = piece.len() as u64;
            incoming.write(file, at, piece).await.map_err(said)?;
            at += got;
        }
    }
    let prepared = incoming.finish(true).await.map_err(said)?;
    let (mut payloads, mut holds) = (Vec::new(), Vec::new());
    let missing = missing(replica, &prepared.rows()).map_err(said)?;
    let mut rest = &missing[..];
    while !rest.is_empty() && !crate::planted!("half-installed-snapshot") {
        let names = &rest[..rest.len().min(NAMES)];
        let asked = names.iter().map(|id| peer::PayloadName {
            index: id.index,
            term: id.term,
        });
        let found = source.payloads(asked.collect()).await?;
        if found.is_empty() || found.len() > names.len() {
            return Err("payloads were asked for and others came".to_owned());
        }
        rest = &rest[found.len()..];
        let mut batch = Vec::new();
        for (id, found) in names.iter().zip(found) {
            match found.what {
                Some(payload::What::Bytes(bytes)) => batch.push((*id, bytes)),
                Some(payload::What::Damaged(what)) => {
                    let item = Item::Payload(*id);
                    // Others may have it whole: it is looked for once the rows are here.
                    replica
                        .store
                        .note_missing(item, format!("{item}: at its leader: {what}"));
                }
                // A later entry dropped it: nobody reads it here before that entry is applied.
                None => {}
            }
        }
        let ids: Vec<PayloadId> = batch.iter().map(|(id, _)| *id).collect();
        let written = replica.store.log.append_payloads(batch).await;
        let written = written.map_err(|error| error.to_string())?;
        let items = ids.into_iter().map(Item::Payload);
        payloads.extend(items.zip(written.places.into_iter().map(Some)));
        holds.extend(written.hold);
    }
    Ok(Arrived {
        prepared,
        payloads,
        _holds: holds,
        _loan: loan,
    })
}

/// Payloads that rows name and that this copy does not hold for good.
fn missing(replica: &Replica, rows: &dyn View) -> Result<Vec<PayloadId>, EngineError> {
    let applied = replica.applied();
    let mut missing = Vec::new();
    for id in named(rows, false)?.payloads {
        let here = id.index <= applied && replica.store.places.get(&Item::Payload(id))?.is_some();
        if !here {
            missing.push(id);
        }
    }
    Ok(missing)
}

/// What rows name.
struct AllNamed {
    payloads: BTreeSet<PayloadId>,
    /// With how many chunks of each.
    stages: BTreeMap<(VShard, StageId), u32>,
}

/// `freed`: with what is on the free list, too.
fn named(rows: &dyn View, freed: bool) -> Result<AllNamed, EngineError> {
    let mut all = AllNamed {
        payloads: BTreeSet::new(),
        stages: BTreeMap::new(),
    };
    let mut tell = |named: Named| {
        let (stage, chunks) = match named {
            Named::Payload(id) | Named::FreePayload(id) => {
                all.payloads.insert(id);
                return;
            }
            Named::Stage(vshard, stage) => ((vshard, stage), u32::MAX),
            Named::Chunks(run) | Named::Free(run) => ((run.vshard, run.stage), run.count),
        };
        let known = all.stages.entry(stage).or_default();
        *known = chunks.max(*known);
    };
    for vshard in 0..=u8::MAX {
        read::named_by_vshard(rows, VShard(vshard), &mut tell)?;
    }
    if freed {
        read::named_by_free_list(rows, &mut tell)?;
    }
    Ok(all)
}

/// After a switch, by and by: clears up behind it, again and again until that succeeds, unless a later switch came, which does
/// it for both, or the member is gone.
pub(super) fn sweep(replica: &Arc<Replica>, installer: Arc<Installer>) {
    let replica = Arc::downgrade(replica);
    let switched = clock::now();
    *installer.unswept.lock() = Some(switched);
    drop(task::spawn_thread("sweep", async move {
        let mut pause = GRACE;
        loop {
            clock::sleep(pause).await;
            let _alone = installer.arriving.lock().await;
            if installer.is_closed() || *installer.unswept.lock() != Some(switched) {
                return;
            }
            let Some(replica) = replica.upgrade() else {
                return;
            };
            match clear_up(&replica).await {
                Ok(()) => {
                    *installer.unswept.lock() = None;
                    return;
                }
                Err(error) => {
                    tracing::warn!(group = %replica.id, %error, "what a taken-over state left stays for now");
                }
            }
            pause = SWEEP_AGAIN;
        }
    }));
}

/// Forgets what the rows do not name any more, and removes what is left of a checkpoint that arrived. Also after a crash.
async fn clear_up(replica: &Replica) -> io::Result<()> {
    let Arrivals { disk, dir } = &replica.arrivals;
    if let Err(error) = disk.list(dir) {
        return match error.kind() {
            io::ErrorKind::NotFound => Ok(()),
            _ => Err(error),
        };
    }
    // The mark first: rows of a later moment name no more of what was written up to it.
    let upto = replica.applied();
    forget_unnamed(replica, upto).map_err(io::Error::other)?;
    let recorded = replica.store.checkpoint_places().await;
    recorded.map_err(io::Error::other)?;
    remove_arrivals(replica)
}

fn remove_arrivals(replica: &Replica) -> io::Result<()> {
    let Arrivals { disk, dir } = &replica.arrivals;
    for file in disk.list(dir)? {
        disk.remove(&file.path)?;
    }
    disk.remove(dir)
}

fn forget_unnamed(replica: &Replica, upto: u64) -> Result<(), EngineError> {
    let named = named(&*replica.view(), true)?;
    let places = &replica.store.places;
    let mut after = None;
    loop {
        let page = places.items(after.as_ref(), PAGE)?;
        for item in &page {
            let garbage = match item {
                Item::Payload(id) => {
                    id.group == replica.id && id.index <= upto && !named.payloads.contains(id)
                }
                Item::Frame { chunk, .. } => {
                    chunk.stage.group == replica.id
                        && chunk.stage.index <= upto
                        && named
                            .stages
                            .get(&(chunk.vshard, chunk.stage))
                            .is_none_or(|chunks| chunk.ordinal >= *chunks)
                }
            };
            if garbage {
                places.remove(item)?;
            }
        }
        match page.last() {
            Some(last) if page.len() == PAGE => after = Some(*last),
            _ => return Ok(()),
        }
    }
}

/// A checkpoint at the leader, asked for piece by piece.
pub(super) struct Remote {
    pub peers: Arc<dyn Peers>,
    pub from: NodeId,
    pub group: GroupId,
    pub checkpoint: u64,
}

impl Remote {
    async fn ask<T>(
        &self,
        what: ask::What,
        understand: impl Fn(reply::What) -> Option<T>,
    ) -> Result<T, String> {
        let until = clock::now() + SILENCE;
        loop {
            let asked = self
                .peers
                .ask(self.from, self.group, what.clone(), PATIENCE);
            let why = match asked.await {
                Ok(said) => match understand(said) {
                    Some(said) => return Ok(said),
                    None => "no answer to the question".to_owned(),
                },
                Err(error) => error.to_string(),
            };
            if clock::now() >= until {
                return Err(why);
            }
            clock::sleep(AGAIN).await;
        }
    }
}

impl Source for Remote {
    fn piece(&self, file: usize, at: u64) -> BoxFuture<'_, Result<Bytes, String>> {
        let what = ask::What::Piece(peer::Piece {
            checkpoint: self.checkpoint,
            file: file as u32,
            at,
        });
        Box::pin(self.ask(what, |said| match said {
            reply::What::Piece(piece) => Some(piece.bytes),
            _ => None,
        }))
    }

    fn payloads(
        &self,
        names: Vec<peer::PayloadName>,
    ) -> BoxFuture<'_, Result<Vec<peer::Payload>, String>> {
        let what = ask::What::Payloads(peer::Payloads {
            checkpoint: self.checkpoint,
            names,
        });
        Box::pin(self.ask(what, |said| match said {
            reply::What::Payloads(said) => Some(said.payloads),
            _ => None,
        }))
    }
}

/// The applied mark that a checkpoint brings.
pub(super) fn mark_of(arrived: &Arrived) -> io::Result<Mark> {
    Mark::decode(arrived.prepared.applied())
}
