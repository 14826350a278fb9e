//! Starting a node: from a directory to groups that answer.
//!
//! ```text
//!   lock ─ identity ─ boot number ─ peers hear of it ─ places (complete up to C) ─ log (recovered; payloads and frames from C on recorded)
//!     ─ engines (newest checkpoints) ─ groups (replay, elect) ─ founded, if new ─ ready
//! ```
//! Always true:
//! * nothing is written before the directory is locked and known to be ours;
//! * a store that was there before and is gone is damage, never taken for new: a group whose log was purged must have
//!   its checkpoint;
//! * a group whose vote, tail or unapplied entries are damaged does not campaign: alone, it turns read-only and says so; with
//!   peers, it takes part again when they have brought it back;
//! * which groups are opened is what the disk lists (`hosted_file`); one that was leaving is gone before the others open;
//! * a node with peers waits for none of them: it takes part at once, and is founded, if new, in the background.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use futures::future::join_all;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::boot_exchange::BootExchange;
use super::boot_number::{self, Boot};
use super::founding;
use super::hosted_file::{HostedGroups, Hosting};
use super::hosting::{self, Hosts};
use super::housekeeping;
use super::identity::{self, Identity};
use super::running::{Node, Parts};
use super::transport::Transport;
use super::{Cluster, EngineKind, NodeOptions, StartError};
use crate::chunk::store::{Store, Unjudged};
use crate::engine::block_cache::BlockCache;
use crate::engine::budget::OverlayBudget;
use crate::engine::hosted::{Host, Hosted};
use crate::engine::memory::Memory;
use crate::engine::merge::Merger;
use crate::engine::native::Native;
use crate::engine::places::Places;
#[cfg(feature = "rocksdb")]
use crate::engine::rocksdb_table::RocksDb;
use crate::engine::run_store::{Birth, StoreOptions};
use crate::engine::sled_table::Sled;
use crate::engine::table::Database;
use crate::engine::{Engine, EngineError};
use crate::env::disk::{DirLock, Disk};
use crate::env::{Env, task};
use crate::group::checkpoint::{CheckpointLimits, Checkpoints, Pressure};
use crate::group::install::Arrivals;
use crate::group::lifecycle::Walker;
use crate::group::peers::Peers;
use crate::group::registry::Registry;
use crate::group::replay;
use crate::group::replica::{Mark, Replica};
use crate::group::roster::Roster;
use crate::group::{Group, Standing};
use crate::ids::{GroupId, NodeId};
use crate::kv::{Inner, Kv};
use crate::log::{Complete, Damage, Item, Log, LogOptions, Position, Recovered, Scope, Stream};
use crate::shard::router::Router;

/// Merges read and write at most so many bytes a second.
const MERGE_BYTES_PER_SECOND: u64 = 64 << 20;

/// Starts a node. Everything that may block runs on a thread of its own.
pub(super) async fn start(env: Env, options: NodeOptions) -> Result<Arc<Node>, StartError> {
    let started = task::spawn_thread("node-start", open(env, options)).await;
    started.unwrap_or_else(|error| {
        Err(StartError::Io {
            what: "the start was cut short".to_owned(),
            cause: io::Error::other(error),
        })
    })
}

/// Makes the data directory with a durable name: also when an earlier start made it and was cut before it could see to
/// that, which nobody can tell. Without it a power cut takes the whole directory, fsynced files and all.
async fn make_directory(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    disk.create_dir_all(dir)?;
    for above in dir.ancestors().skip(1) {
        let above = match above.as_os_str().is_empty() {
            true => Path::new("."),
            false => above,
        };
        match disk.sync_dir(above).await {
            // Somebody else's directory: what lies in it was there before us.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => break,
            synced => synced?,
        }
    }
    Ok(())
}

/// The same for the directories in it; they come after the identity, which must be the first thing there.
async fn make_inner_directories(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    for inner in ["log", "groups", "places"] {
        disk.create_dir_all(&dir.join(inner))?;
    }
    disk.sync_dir(dir).await
}

/// Takes the directory for this process.
pub(super) fn lock(disk: &dyn Disk, dir: &Path) -> Result<Box<dyn DirLock>, StartError> {
    disk.lock(&dir.join("lock"))
        .map_err(|cause| match cause.kind() {
            io::ErrorKind::WouldBlock => StartError::InUse {
                dir: dir.display().to_string(),
            },
            _ => StartError::io("lock", dir)(cause),
        })
}

async fn open(env: Env, options: NodeOptions) -> Result<Arc<Node>, StartError> {
    let disk = &*env.disk;
    let dir = &options.data_dir;
    make_directory(disk, dir)
        .await
        .map_err(StartError::io("make the data directory", dir))?;
    let lock = lock(disk, dir)?;
    let opened = identity::open(disk, dir, options.data_groups, options.cluster.as_ref()).await?;
    let identity = opened.identity;
    let made = make_inner_directories(disk, dir).await;
    made.map_err(StartError::io("make the directories", dir))?;
    let (lineage, boot_healed) = boot_number::raise(disk, dir, opened.is_new).await?;
    let boot = lineage.boot;
    // Before anything that takes long: who else starts needs this node's word.
    let roster = Arc::new(Roster::default());
    let transport = match &options.cluster {
        Some(cluster) => {
            let first: Vec<NodeId> = cluster.first_known().iter().copied().map(NodeId).collect();
            let founders = first.iter().copied().collect();
            let boots =
                BootExchange::open(env.disk.clone(), dir, identity.node, lineage, founders)?;
            let (net, cluster, node) = (env.net.clone(), identity.cluster, identity.node);
            let roster = roster.clone();
            let begun = Transport::begin(net, cluster, node, boots, roster, first);
            Some(Arc::new(begun))
        }
        None => None,
    };
    let storage = Arc::new(Storage::open(&env, &options).await?);
    for (file, healed) in [("identity", opened.healed), ("boot", boot_healed)] {
        if let Some(what) = healed {
            let what = format!("{file}: {what}; written again from its twin");
            storage.store.note_healed(what);
        }
    }

    let grown = Arc::new(Notify::new());
    let pressure = Arc::new(Pressure::new(storage.budget.clone()));
    let peers = transport.as_ref().map(|transport| transport.peers());
    let (listed, is_new) = listed(&storage, &identity, &options).await?;
    let mut groups = Vec::new();
    for (id, hosting) in &listed.0 {
        let Hosting::Hosted { floor, .. } = hosting else {
            continue;
        };
        let group = storage.group(*id, &identity, &options, &grown, &pressure, peers.clone());
        let group = group.await?;
        group.set_floor(*floor);
        groups.push(group);
    }
    let registry = Arc::new(Registry::new(groups));
    // What was still to be fetched when the last run ended is known to nobody; and of what the log lost, frames that cannot be
    // named any more may be a part.
    registry
        .data()
        .for_each(|group| group.replica.wants.add_everything());
    for damage in &storage.recovered.damage {
        if let Scope::Item(item) = damage.scope
            && is_there(&storage.store, &item, damage)
            && let Some(group) = registry.find(item.group())
        {
            group.replica.wants.add_bad_item(item);
        }
    }
    // Where members have come and gone since, nothing is formed: that was done long ago.
    let voters = match is_new {
        true => options.voters(identity.node),
        false => Vec::new(),
    };
    let replayed = bring_up(&registry, &storage, &voters).await?;
    let router = Arc::new(Router::new(registry.clone(), roster, identity.data_groups));
    let hosts = Arc::new(Hosts {
        storage: storage.clone(),
        identity: identity.clone(),
        options: options.clone(),
        grown: grown.clone(),
        pressure,
        peers,
        router: router.clone(),
        listed: tokio::sync::Mutex::new(listed),
        tasks: Mutex::default(),
        closed: AtomicBool::new(false),
    });
    if let Some(transport) = &transport {
        let steward = Arc::new(Arc::downgrade(&hosts));
        let first = options.cluster.iter();
        let first = first.flat_map(|cluster| cluster.first_known().iter().copied().map(NodeId));
        let (weak, first) = (Arc::downgrade(&hosts), first.collect::<Vec<_>>());
        registry.reach(Box::new(move |id| {
            weak.upgrade()?.way_to(id, first.clone())
        }));
        transport.serve(registry.clone(), steward);
    } else {
        founding::found(&router, &identity, &options).await?;
    }
    let kv = Kv::new(Inner {
        router: router.clone(),
        store: storage.store.clone(),
        chunk_bytes: options.limits.chunk_bytes,
        inline_bytes: options.limits.inline_bytes,
    });
    let checkpoints = Arc::new(Checkpoints {
        registry,
        store: storage.store.clone(),
        budget: storage.budget.clone(),
        limits: limits(&options),
        grown,
    });
    let walker = options.lifecycle.clone().map(Walker::new);
    let node = Node::new(Parts {
        env,
        options,
        identity,
        boot,
        lock,
        log: storage.log.clone(),
        store: storage.store.clone(),
        merger: storage.merger.clone(),
        router,
        hosts,
        checkpoints,
        kv,
        replayed,
        walker,
        transport,
    });
    housekeeping::begin(&node);
    Ok(node)
}

/// The groups that this node has members of, and whether they are those that it began with. What one that was leaving left
/// is removed.
async fn listed(
    storage: &Storage,
    identity: &Identity,
    options: &NodeOptions,
) -> Result<(HostedGroups, bool), StartError> {
    let dir = &options.data_dir;
    let read = HostedGroups::read(&*storage.disk, dir).await?;
    let Some(mut listed) = read else {
        let begun_with = match &options.cluster {
            Some(Cluster::Join(_)) => HostedGroups::default(),
            _ => HostedGroups::founders(identity.data_groups),
        };
        return Ok((begun_with, true));
    };
    let mut any_left = false;
    for (id, hosting) in &mut listed.0 {
        if let Hosting::Leaving { vote, reach } = hosting {
            hosting::forget(storage, dir, *id, vote.clone()).await?;
            *hosting = Hosting::Left(*reach);
            any_left = true;
        }
    }
    if any_left {
        let written = listed.write(&*storage.disk, dir).await;
        written.map_err(StartError::io("write hosted groups", dir))?;
    }
    Ok((listed, false))
}

pub(super) fn limits(options: &NodeOptions) -> CheckpointLimits {
    CheckpointLimits {
        log_bytes: options.limits.checkpoint_log_bytes,
        entries: options.limits.checkpoint_entries,
        keep_bytes: options.limits.keep_log_bytes,
    }
}

/// What groups share.
pub(super) struct Storage {
    pub log: Arc<Log>,
    pub store: Arc<Store>,
    cache: Arc<BlockCache>,
    pub budget: Arc<OverlayBudget>,
    merger: Arc<Merger>,
    recovered: Recovered,
    pub disk: Arc<dyn Disk>,
}

fn engine_error(what: &str) -> impl Fn(EngineError) -> StartError + '_ {
    move |error| StartError::Engine(format!("{what}: {error}"))
}

impl Storage {
    pub(super) async fn open(env: &Env, options: &NodeOptions) -> Result<Storage, StartError> {
        let dir = &options.data_dir;
        let limits = &options.limits;
        let space = env
            .disk
            .space(dir)
            .map_err(StartError::io("look at the room", dir))?;
        // On a small disk two budgets must not be most of it.
        let overlay = (limits.overlay_bytes as u64)
            .min(space.capacity / 64)
            .max(1 << 20);
        let cache = Arc::new(BlockCache::new(limits.block_cache_bytes));
        let budget = OverlayBudget::new(overlay as usize);
        let merger = Merger::new(MERGE_BYTES_PER_SECOND);
        let log_dir = dir.join("log");
        let places = StoreOptions {
            disk: env.disk.clone(),
            dir: dir.join("places"),
            twins: true,
            // Places are made before the log: a log without them has lost them.
            birth: match has_segments(&*env.disk, &log_dir) {
                true => Birth::MustExist,
                false => Birth::MayCreate,
            },
            cache: cache.clone(),
        };
        let places = Places::open(places, budget.clone(), merger.clone());
        let places = places.await.map_err(engine_error("places"))?;
        let log_options = LogOptions {
            fsync: options.fsync,
            segment_bytes: limits.segment_bytes,
            overlay_budget: overlay,
            cover_after: limits.cover_after,
            sick_after: limits.sick_after,
            meta_queue_bytes: limits.propose_window_bytes,
            blob_queue_bytes: limits.frame_window_bytes,
            ..LogOptions::default()
        };
        // Of a group that left, what lies behind the table's mark would be told again.
        let here = HostedGroups::read(&*env.disk, dir).await?;
        let is_here = |group| here.as_ref().is_none_or(|here| here.is_here(group));
        let mut fault = None;
        let mut unknown = Unjudged::default();
        let mut seen = |seen: crate::log::Seen| {
            if !is_here(seen.item.group()) {
                return;
            }
            match (places.tell_again(&seen.item, seen.place), seen.item) {
                (Ok(_), Item::Frame { chunk, .. }) => {
                    unknown.stages.insert((chunk.vshard, chunk.stage));
                }
                (Ok(true), Item::Payload(payload)) if seen.place.stream == Stream::Blob => {
                    unknown.payloads.insert(payload);
                }
                (Ok(_), Item::Payload(_)) => {}
                (Err(error), _) => _ = fault.get_or_insert(error),
            }
        };
        let opened = Log::open(env, &log_dir, log_options, places.complete(), &mut seen).await;
        let (log, recovered) = opened.map_err(|error| StartError::Log(error.to_string()))?;
        if let Some(error) = fault {
            return Err(engine_error("places")(error));
        }
        for truncated in &recovered.truncated {
            let removed = places.remove_if(&truncated.item, truncated.place);
            removed.map_err(engine_error("places"))?;
        }
        let end_of = |stream| {
            let cut = recovered.cuts.iter().find(|cut| cut.stream == stream);
            cut.map_or(Position::ZERO, |cut| cut.position)
        };
        let ends = Complete {
            meta: end_of(Stream::Meta),
            blob: end_of(Stream::Blob),
        };
        let kept = places.fall_back(ends).await;
        kept.map_err(engine_error("places"))?;
        let store = Arc::new(Store::new(log.clone(), places));
        store.note_recovered(unknown);
        for damage in &recovered.damage {
            match damage.scope {
                // Of an item that lies elsewhere by now, or nowhere, it is only a spot.
                Scope::Item(item) if is_there(&store, &item, damage) => {
                    store.note_bad(item, damage.to_string());
                }
                _ => store.note_bad_spot(damage.to_string()),
            }
        }
        Ok(Storage {
            log,
            store,
            cache,
            budget,
            merger,
            recovered,
            disk: env.disk.clone(),
        })
    }

    async fn hosted<D: Database>(
        &self,
        store: StoreOptions,
        id: GroupId,
        options: &NodeOptions,
        identity: &Identity,
    ) -> Result<Arc<dyn Engine>, StartError> {
        let name = id.to_string();
        let host = Host {
            dir: options.data_dir.join(D::NAME).join(&name),
            cache_bytes: options.limits.block_cache_bytes / (usize::from(identity.data_groups) + 1),
        };
        let hosted = Hosted::<D>::open(store, self.budget.clone(), self.merger.clone(), host);
        Ok(Arc::new(hosted.await.map_err(engine_error(&name))?))
    }

    /// Opens a group's engine; its Raft is started later.
    pub(super) async fn group(
        &self,
        id: GroupId,
        identity: &Identity,
        options: &NodeOptions,
        grown: &Arc<Notify>,
        pressure: &Arc<Pressure>,
        peers: Option<Arc<dyn Peers>>,
    ) -> Result<Arc<Group>, StartError> {
        let purged = self.log.log_state(id).purged;
        let store = StoreOptions {
            disk: self.disk.clone(),
            dir: options.data_dir.join("groups").join(id.to_string()),
            twins: true,
            birth: match purged {
                Some(_) => Birth::MustExist,
                None => Birth::MayCreate,
            },
            cache: self.cache.clone(),
        };
        let name = id.to_string();
        let engine: Arc<dyn Engine> = match options.engine {
            EngineKind::Native => {
                let native = Native::open(store, self.budget.clone(), self.merger.clone());
                Arc::new(native.await.map_err(engine_error(&name))?)
            }
            EngineKind::Memory => {
                let memory = Memory::open(store);
                Arc::new(memory.await.map_err(engine_error(&name))?)
            }
            EngineKind::Sled => self.hosted::<Sled>(store, id, options, identity).await?,
            #[cfg(feature = "rocksdb")]
            EngineKind::Rocksdb => self.hosted::<RocksDb>(store, id, options, identity).await?,
            #[cfg(not(feature = "rocksdb"))]
            EngineKind::Rocksdb => return Err(StartError::NotBuilt),
        };
        let mark = Mark::decode(engine.applied().as_ref())
            .map_err(|error| StartError::Engine(format!("{name}: the applied mark: {error}")))?;
        let applied = mark.at.map(|at| at.index);
        if purged.map(|at| at.index) > applied {
            return Err(StartError::Engine(format!(
                "{name}: the newest checkpoint is older than what the log has forgotten; a run or manifest is missing"
            )));
        }
        let replica = Replica::new(
            id,
            identity.node,
            engine,
            self.store.clone(),
            Arrivals {
                disk: self.disk.clone(),
                dir: options.data_dir.join("incoming").join(&name),
            },
            limits(options),
            grown.clone(),
        );
        let replica = Arc::new(replica.map_err(|error| StartError::Engine(error.to_string()))?);
        self.store.watch(&replica);
        let group = Group::new(replica, self.log.clone(), pressure.clone(), peers);
        // A crash may have come between the switch to another member's checkpoint and the end of what it replaced.
        group.clear_up().await;
        Ok(Arc::new(group))
    }
}

/// Whether the table of places names this very spot.
fn is_there(store: &Store, item: &Item, damage: &Damage) -> bool {
    let place = store.places.get(item);
    let at = (damage.stream, damage.position);
    place.is_ok_and(|place| place.is_some_and(|place| (place.stream, place.position) == at))
}

fn has_segments(disk: &dyn Disk, log: &Path) -> bool {
    disk.list(log).is_ok_and(|entries| !entries.is_empty())
}

/// Replays every group and has it elect (alone) or take part. Answers how many entries are applied from the log.
async fn bring_up(
    registry: &Registry,
    storage: &Storage,
    voters: &[NodeId],
) -> Result<u64, StartError> {
    let mut replayed = 0;
    for group in registry.all() {
        let last = storage
            .log
            .log_state(group.id)
            .last
            .map_or(0, |at| at.index);
        replayed += last.saturating_sub(group.replica.applied());
    }
    let groups: Vec<_> = registry.all().collect();
    let groups = groups.iter().map(|group| one_up(group, voters));
    let up: Result<Vec<()>, StartError> = join_all(groups).await.into_iter().collect();
    up?;
    tracing::debug!(
        replayed,
        scanned = storage.recovered.scanned,
        "groups are up"
    );
    Ok(replayed)
}

/// Replays a group and has it elect (alone) or take part. `voters`: of a group that has never had any.
pub(super) async fn one_up(group: &Arc<Group>, voters: &[NodeId]) -> Result<(), StartError> {
    let failed = |what: String| StartError::Group {
        group: group.id,
        what,
    };
    if let Some(why) = replay::refuses_to_vote(group) {
        if group.peers.is_some() {
            // Nothing here is needed: all of it comes from those who lead (`group::bring_back`).
            group.stand(group.hurt(&why));
            return Ok(());
        }
        // What stopped it before the damage shows in how far it came, and `hurt` looks at that.
        let _ = replay::as_far_as_possible(group).await;
        let stop = format!(
            "{why}; stop the server, and `minikv recover --group {}` says what would be lost",
            group.id.0
        );
        group.stand(group.hurt(&stop));
        return Ok(());
    }
    let raft = match group.start_raft().await {
        // The other groups of this node go on, and this one is brought back.
        Err(why) if group.peers.is_some() => {
            group.stand(group.hurt(&why));
            return Ok(());
        }
        raft => raft.map_err(failed)?,
    };
    if voters.first() == Some(&group.replica.node) {
        raft.form(voters).await.map_err(failed)?;
    }
    group.set_raft(Some(raft.clone()));
    if group.peers.is_some() {
        // Whoever leads, leads when it has a majority; nobody waits for that here.
        group.stand(Standing::Serving {
            single_voter: false,
        });
        return Ok(());
    }
    raft.campaign().await.map_err(failed)?;
    if let Err(why) = raft.leading(replay::PATIENCE).await {
        // An entry that cannot be applied (a damaged run below it, say) leaves the group readable.
        let why = group.replica.stop_reason().unwrap_or(why);
        raft.stop().await;
        group.set_raft(None);
        group.stand(group.hurt(&why));
        return Ok(());
    }
    let term = raft.standing().term;
    group.memory.begin_term(term, group.replica.applied());
    group.stand(Standing::Serving {
        single_voter: raft.standing().voters == 1,
    });
    Ok(())
}

impl Boot {
    pub(super) fn number(&self) -> u64 {
        self.number
    }
}
