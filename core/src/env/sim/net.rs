//! The simulated network: every message is a flight of its own, through weather.
//!
//! ```text
//!   node 1 ── send ──> cut? lost? ── delay, perhaps twice, perhaps much later ──> inbox of node 2, by time ── receive
//! ```
//! Always true:
//! * the same seed and the same sends give the same flights: it draws from a stream of its own;
//! * a cut holds for one direction, and also keeps back what is in the air when it arrives;
//! * what is in the air survives its sender, and reaches whoever listens when it arrives: also the next run of that node.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use openraft_rt::AsyncRuntime;
use openraft_rt_sim::{SimInstant, SimRuntime};
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::sync::Notify;

use crate::env::net::{Net, NotSent};

/// What happens to messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Weather {
    /// Each takes so long, evenly between the two.
    pub delay: (Duration, Duration),
    /// So many of a million get lost.
    pub lost: u32,
    /// So many of a million arrive a second time.
    pub doubled: u32,
    /// So many of a million take up to `stray_for`, alone or as the second copy: later than anybody still waits.
    pub strays: u32,
    /// See `strays`.
    pub stray_for: Duration,
}

impl Default for Weather {
    /// A quiet network in one room.
    fn default() -> Weather {
        Weather {
            delay: (Duration::from_micros(50), Duration::from_micros(300)),
            lost: 0,
            doubled: 0,
            strays: 0,
            stray_for: Duration::from_secs(20),
        }
    }
}

/// A message on its way, as a watcher sees it when it is sent.
#[derive(Clone, Copy, Debug)]
pub struct Flight<'a> {
    /// Who sends.
    pub from: u64,
    /// To whom.
    pub to: u64,
    /// What.
    pub message: &'a Bytes,
}

/// What becomes of one message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Course {
    /// As the weather has it.
    AsItComes,
    /// Whoever looks on has it now: it is lost, or goes on when they say so (`bring`).
    Kept,
}

type Tap = Box<dyn FnMut(Flight<'_>) -> Course + Send>;

/// The network between all nodes of a simulation.
#[derive(Clone)]
pub struct SimNet {
    shared: Arc<Shared>,
}

struct Shared {
    air: Mutex<Air>,
    tap: Mutex<Option<Tap>>,
}

struct Air {
    rng: SmallRng,
    weather: Weather,
    /// From, to.
    cuts: BTreeSet<(u64, u64)>,
    listeners: BTreeMap<u64, Arc<Inbox>>,
    next: u64,
    sent: u64,
}

/// What is on its way to one node.
#[derive(Default)]
struct Inbox {
    /// By time of arrival in virtual nanoseconds, and number.
    arriving: Mutex<BTreeMap<(u64, u64), (u64, Bytes)>>,
    sooner: Notify,
}

fn now() -> u64 {
    let since_start = SimInstant::try_now().map(SimInstant::elapsed_since_start);
    since_start.map_or(0, |time| time.as_nanos() as u64)
}

impl SimNet {
    /// A network without cuts in good weather.
    pub fn new(seed: u64) -> SimNet {
        let air = Air {
            rng: SmallRng::seed_from_u64(seed ^ 0x6e65_7477_6f72_6b00),
            weather: Weather::default(),
            cuts: BTreeSet::new(),
            listeners: BTreeMap::new(),
            next: 0,
            sent: 0,
        };
        SimNet {
            shared: Arc::new(Shared {
                air: Mutex::new(air),
                tap: Mutex::default(),
            }),
        }
    }

    /// The network as node `node` sees it. Whoever asks last receives what is sent there.
    pub fn of(&self, node: u64) -> Arc<dyn Net> {
        let mut air = self.shared.air.lock();
        let inbox = air.listeners.entry(node).or_default().clone();
        Arc::new(Port {
            node,
            shared: self.shared.clone(),
            inbox,
        })
    }

    /// Changes the weather for what is sent from now on.
    pub fn set_weather(&self, weather: Weather) {
        self.shared.air.lock().weather = weather;
    }

    /// Nothing gets from `from` to `to` any more.
    pub fn cut(&self, from: u64, to: u64) {
        self.shared.air.lock().cuts.insert((from, to));
    }

    /// All cuts are mended.
    pub fn mend(&self) {
        self.shared.air.lock().cuts.clear();
    }

    /// A message that was kept goes on.
    pub fn bring(&self, from: u64, to: u64, message: Bytes) {
        self.shared.air.lock().fly(from, to, message);
    }

    /// Messages sent so far.
    pub fn sent(&self) -> u64 {
        self.shared.air.lock().sent
    }

    /// Shows every message to `tap` when it is sent; it decides what becomes of it.
    pub fn tap(&self, tap: impl FnMut(Flight<'_>) -> Course + Send + 'static) {
        *self.shared.tap.lock() = Some(Box::new(tap));
    }
}

impl Air {
    fn happens(&mut self, of_a_million: u32) -> bool {
        of_a_million > 0 && self.rng.next_u32() % 1_000_000 < of_a_million
    }

    fn between(&mut self, from: Duration, to: Duration) -> u64 {
        let (from, to) = (from.as_nanos() as u64, to.as_nanos() as u64);
        from + self.rng.next_u64() % (to.saturating_sub(from) + 1)
    }

    fn fly(&mut self, from: u64, to: u64, message: Bytes) {
        let Weather {
            delay,
            stray_for,
            strays,
            ..
        } = self.weather;
        let takes = match self.happens(strays) {
            true => self.between(Duration::from_secs(1), stray_for),
            false => self.between(delay.0, delay.1),
        };
        self.next += 1;
        let arrival = (now() + takes, self.next);
        let inbox = self.listeners.entry(to).or_default();
        inbox.arriving.lock().insert(arrival, (from, message));
        inbox.sooner.notify_one();
    }
}

/// One node's end.
struct Port {
    node: u64,
    shared: Arc<Shared>,
    inbox: Arc<Inbox>,
}

impl Net for Port {
    fn send(&self, to: u64, message: Bytes) -> Result<(), NotSent> {
        let course = match &mut *self.shared.tap.lock() {
            Some(tap) => tap(Flight {
                from: self.node,
                to,
                message: &message,
            }),
            None => Course::AsItComes,
        };
        let mut air = self.shared.air.lock();
        air.sent += 1;
        if course == Course::Kept {
            return Ok(());
        }
        let weather = air.weather;
        if air.happens(weather.doubled) {
            air.fly(self.node, to, message.clone());
        }
        if !air.happens(weather.lost) {
            air.fly(self.node, to, message);
        }
        Ok(())
    }

    fn receive(&self) -> BoxFuture<'_, (u64, Bytes)> {
        Box::pin(async move {
            loop {
                let sooner = self.inbox.sooner.notified();
                let next = {
                    let mut arriving = self.inbox.arriving.lock();
                    match arriving.first_entry() {
                        Some(first) if first.key().0 <= now() => Ok(first.remove()),
                        Some(first) => Err(Some(first.key().0)),
                        None => Err(None),
                    }
                };
                match next {
                    Ok((from, message)) => {
                        let is_cut = self.shared.air.lock().cuts.contains(&(from, self.node));
                        if !is_cut {
                            return (from, message);
                        }
                    }
                    Err(Some(at)) => {
                        // By the world's clock: a node's own may drift.
                        let wait = Duration::from_nanos(at - now().min(at));
                        let arrived = SimRuntime::sleep(wait);
                        let arrived = std::pin::pin!(arrived);
                        futures::future::select(std::pin::pin!(sooner), arrived).await;
                    }
                    Err(None) => sooner.await,
                }
            }
        })
    }
}
