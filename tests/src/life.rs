//! The stages of a node's life in a simulation: its first start, its work, its recovery with everything read and judged.
//!
//! Each is a function on a disk and a history; it runs a simulation of its own and says in words what went wrong.
//!
//! Always true: a stage ends with the node killed (never shut down in order, unless that is the point), and neither a
//! panic nor a node that waits for ever gets past it unnoticed.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use minikv_core::env::clock;
use minikv_core::env::sim::{Choice, Sim, SimDisk};
use parking_lot::Mutex;

use crate::client::{Client, Ledger};
use crate::content::Piece;
use crate::model::{Name, Op};
use crate::observe;
use crate::oracle::Oracle;
use crate::steps::{self, Shape, Step};
use crate::world::{World, small_options, small_options_of};

/// A transaction whose driver is gone is over by then.
const STUCK: Duration = Duration::from_secs(60);

/// No stage of a small world takes this long, in virtual time.
const PATIENCE: Duration = Duration::from_secs(3600);

/// A store with something in it, and its history.
pub struct Furnished {
    disk: SimDisk,
    known: Oracle,
    shape: Shape,
}

impl Furnished {
    /// Makes one of one group for sequences of two steps.
    pub fn new() -> Result<Furnished, String> {
        Furnished::shaped(Shape::ONE_GROUP)
    }

    /// Makes one: see [`steps::furnish`]. Everything in it is durable.
    pub fn shaped(shape: Shape) -> Result<Furnished, String> {
        let (disk, ledger) = (SimDisk::new(1), Ledger::default());
        disk.set_capacity(1 << 30);
        stage(1, async {
            let options = small_options_of(shape.groups);
            let world = World::start(&disk, &options, ledger.clone()).await;
            let world = world.map_err(|error| format!("a new node does not start: {error}"))?;
            let furnished = steps::furnish(&world, shape).await;
            furnished.map_err(|error| format!("a new node refuses to work: {error}"))?;
            honest(&world.client)
        })?;
        Ok(Furnished {
            shape,
            ..Furnished::of(&disk, &ledger)
        })
    }

    /// One that has lived on: compacted, checkpointed, restarted, with entries behind the checkpoint. It holds every kind of
    /// record that a healthy node writes.
    pub fn worn() -> Result<Furnished, String> {
        let (mut disk, ledger) = Furnished::new()?.copy();
        for life in 0..2 {
            stage(6 + life, async {
                let world = World::start(&disk, &small_options(), ledger.clone()).await;
                let world = world.map_err(|error| format!("it does not start: {error}"))?;
                // The last start leaves votes that nothing later repeats.
                let worn = match life {
                    0 => steps::wear(&world).await,
                    _ => steps::add_behind(&world, 900).await,
                };
                worn.map_err(|error| format!("it refuses to work: {error}"))?;
                honest(&world.client)
            })?;
            disk = disk.after_kill();
        }
        Ok(Furnished::of(&disk, &ledger))
    }

    /// What is on a disk of one group now, all of it durable.
    pub fn of(disk: &SimDisk, ledger: &Ledger) -> Furnished {
        Furnished {
            disk: disk.after_power_cut(&Choice::All),
            known: ledger.lock().clone(),
            shape: Shape::ONE_GROUP,
        }
    }

    /// What it was made for.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// One of one's own.
    pub fn copy(&self) -> (SimDisk, Ledger) {
        let ledger = Arc::new(Mutex::new(self.known.clone()));
        (self.disk.after_kill(), ledger)
    }
}

/// The first start on an empty disk, and the first bucket and object.
pub fn begin(disk: &SimDisk, ledger: &Ledger) -> Result<(), String> {
    stage(1, async {
        let world = World::start(disk, &small_options(), ledger.clone()).await;
        let world = world.map_err(|error| format!("a new node does not start: {error}"))?;
        use_it(&world).await
    })
}

/// Starts, and does the steps; `ready` is called between the two.
pub fn work(
    disk: &SimDisk,
    ledger: &Ledger,
    steps: &[Step],
    shape: Shape,
    ready: impl FnOnce(),
) -> Result<(), String> {
    stage(2, async {
        let options = small_options_of(shape.groups);
        let world = World::start(disk, &options, ledger.clone()).await;
        let world = world.map_err(|error| format!("it does not start: {error}"))?;
        ready();
        for (place, step) in steps.iter().enumerate() {
            let done = step.run(&world, place, shape).await;
            done.map_err(|error| format!("{step:?} is refused: {error}"))?;
        }
        // What goes on in the background after the last answer is cut, too.
        clock::sleep(Duration::from_secs(2)).await;
        honest(&world.client)
    })
}

/// Starts on what a crash left, reads everything, judges it, and uses the store.
pub fn recover(disk: &SimDisk, ledger: &Ledger, shape: Shape) -> Result<(), String> {
    stage(3, async {
        let options = small_options_of(shape.groups);
        let world = World::start(disk, &options, ledger.clone()).await;
        let world = world.map_err(|error| format!("it does not start: {error}"))?;
        judge(&world).await?;
        if shape.groups > 1 {
            end_in_time(&world).await?;
        }
        let damage = world.node.status().await.damage;
        if !damage.is_empty() {
            return Err(format!("nothing was damaged, and status says {damage:?}"));
        }
        use_it(&world).await
    })
}

/// Reads everything and judges it; what was seen is settled from then on.
pub async fn judge(world: &World) -> Result<(), String> {
    let seen = observe::all(world.client.kv())
        .await
        .map_err(|error| error.to_string())?;
    {
        let mut oracle = world.client.ledger().lock();
        oracle.check(&seen).map_err(|broken| broken.to_string())?;
        oracle.settle(&seen);
    }
    crate::counts::check(world, &seen).await
}

/// Transactions that the crash cut short end, and nothing that was seen changes by that.
async fn end_in_time(world: &World) -> Result<(), String> {
    let open = || world.node.loose_ends().map_err(|error| error.to_string());
    let mut waited = false;
    let deadline = clock::now() + STUCK;
    while !open()?.is_empty() {
        if clock::now() > deadline {
            return Err(format!("{:?} are stuck after {STUCK:?}", open()?));
        }
        waited = true;
        clock::sleep(Duration::from_secs(5)).await;
        let swept = world.node.sweep_now().await;
        swept.map_err(|error| format!("a sweep is refused: {error}"))?;
    }
    match waited {
        true => judge(world).await,
        false => Ok(()),
    }
}

/// A recovered store must work, too: a bucket, an object, another one over it.
async fn use_it(world: &World) -> Result<(), String> {
    let client = &world.client;
    let refused = |error| format!("it refuses to work: {error}");
    client
        .create_bucket("probe", false)
        .await
        .map_err(refused)?;
    let name = Name::new("probe", "p");
    for piece in [Piece::new(77_001, 40), Piece::new(77_002, 70_000)] {
        client
            .run(&name, Op::Put(piece.into()))
            .await
            .map_err(refused)?;
    }
    honest(client)
}

/// No answer was impossible.
fn honest(client: &Client) -> Result<(), String> {
    match client.wrong_answers().first() {
        Some(broken) => Err(broken.to_string()),
        None => Ok(()),
    }
}

/// Runs one stage in a simulation of its own.
pub fn stage(seed: u64, life: impl Future<Output = Result<(), String>>) -> Result<(), String> {
    stage_in(Sim::new(seed), life)
}

/// Runs one stage in this simulation.
pub fn stage_in(sim: Sim, life: impl Future<Output = Result<(), String>>) -> Result<(), String> {
    let lived = catch_unwind(AssertUnwindSafe(|| {
        let timely = async {
            let timely = clock::timeout(PATIENCE, life).await;
            timely.unwrap_or_else(|_| Err("it hangs".to_owned()))
        };
        sim.run(timely).0
    }));
    lived.unwrap_or_else(|panic| Err(format!("it panics: {}", message(panic.as_ref()))))
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or(panic.downcast_ref::<&str>().copied())
        .unwrap_or("without words")
}
