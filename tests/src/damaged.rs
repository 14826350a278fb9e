//! What a node makes of a damaged disk: what it serves, what it refuses and how, what its status says.
//!
//! Always true: an answer that is wrong, a panic and a hang are errors here already; the tests say what else must hold.

use std::collections::BTreeMap;
use std::time::Duration;

use minikv_core::env::clock;
use minikv_core::env::sim::SimDisk;
use minikv_core::node::NodeOptions;

use crate::client::Ledger;
use crate::content::Piece;
use crate::life;
use crate::model::{Name, Op};
use crate::observe::{self, Careful};
use crate::on_disk::{Kind, Spot, spots};
use crate::world::{World, small_options};

/// What came of a damaged disk.
#[derive(Clone, Default, Debug)]
pub struct Outcome {
    /// Why the node did not start.
    pub stopped: Option<String>,
    /// What it served and refused.
    pub found: Careful,
    /// What a write is refused with.
    pub write: Option<String>,
    /// What `status` says is damaged.
    pub damage: Vec<String>,
    /// What `status` says was mended.
    pub healed: Vec<String>,
    /// What `status` says of groups that do not read and write.
    pub troubles: Vec<String>,
    /// The newest checkpoint of each group when the node had started.
    pub checkpoints: BTreeMap<u16, u64>,
    /// Entries that the start applied from the log.
    pub replayed: u64,
}

impl Outcome {
    /// Whether everything was served.
    pub fn serves_everything(&self) -> bool {
        self.stopped.is_none()
            && self.found.refused.is_empty()
            && self.troubles.is_empty()
            && self.write.is_none()
    }
}

/// Starts on this disk, asks for everything, writes something, and gives it a minute to mend itself.
pub fn live_with(disk: &SimDisk, ledger: &Ledger) -> Result<Outcome, String> {
    live_with_options(disk, ledger, &small_options())
}

/// The same with other options.
pub fn live_with_options(
    disk: &SimDisk,
    ledger: &Ledger,
    options: &NodeOptions,
) -> Result<Outcome, String> {
    let mut outcome = Outcome::default();
    life::stage(5, async {
        let world = match World::start(disk, options, ledger.clone()).await {
            Ok(world) => world,
            Err(error) => {
                outcome.stopped = Some(error.to_string());
                return Ok(());
            }
        };
        let status = world.node.status().await;
        let groups = status.groups.iter();
        outcome.checkpoints = groups.map(|group| (group.id.0, group.checkpoint)).collect();
        outcome.replayed = status.replayed;
        let known = ledger.lock().clone();
        let found = observe::carefully(world.client.kv(), &known).await;
        outcome.found = found.map_err(|broken| broken.to_string())?;
        clock::sleep(Duration::from_secs(60)).await;
        let write = Op::Put(Piece::new(88_001, 200).into());
        let written = world.client.run(&Name::new("b", "written"), write).await;
        outcome.write = written.err().map(|error| error.to_string());
        let status = world.node.status().await;
        outcome.damage = status.damage;
        outcome.healed = status.healed;
        let troubles = status.groups.into_iter().filter_map(|group| group.trouble);
        outcome.troubles = troubles.collect();
        Ok(())
    })?;
    Ok(outcome)
}

/// First byte, last byte and one between, of a spot.
pub fn bytes_of(spot: &Spot) -> Vec<u64> {
    let mut bytes = vec![spot.at, spot.at + spot.len / 2, spot.at + spot.len - 1];
    bytes.dedup();
    bytes
}

/// At most so many of them, spread over all.
pub fn some(spots: Vec<Spot>, most: usize) -> Vec<Spot> {
    let stride = spots.len().div_ceil(most).max(1);
    spots.into_iter().step_by(stride).collect()
}

/// Everything on a disk, by what it means.
pub fn by_kind(disk: &SimDisk) -> BTreeMap<Kind, Vec<Spot>> {
    let mut kinds: BTreeMap<Kind, Vec<Spot>> = BTreeMap::new();
    for spot in spots(disk).into_iter().filter(|spot| spot.len > 0) {
        kinds.entry(spot.kind).or_default().push(spot);
    }
    kinds
}
