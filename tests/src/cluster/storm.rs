//! What happens to a cluster: one fault after the other, some at the same time, by the seed.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::time::Duration;

use minikv_core::env::sim::{Choice, Fault as DiskFault, Latency, OpKind, SimNet, Weather};
use minikv_core::env::{clock, task};

use super::aim::{Aim, Target};
use super::ambush::{Ambush, Still};
use super::disks;
use super::moments::{Come, Hold, Moments, Step};
use super::nodes::{Nodes, choice, usual};
use super::trace::{Trace, now};
use crate::dice::Dice;

/// Kinds of faults.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Fault {
    /// A node dies and starts again later; its disk keeps all that was written.
    Kill,
    /// The same, and of what was not synced any part is lost or torn.
    Power,
    /// All nodes die at once.
    PowerAll,
    /// A node stops for a while and goes on.
    Pause,
    /// The nodes are cut in two halves; sometimes one hears both.
    Partition,
    /// Nothing gets from one node to another, in that direction.
    OneWay,
    /// A leader is cut from everybody, or only hears, or is only heard.
    Isolate,
    /// Messages take long and overtake each other.
    Delay,
    /// Messages get lost.
    Lose,
    /// Messages come twice, and some much later.
    Double,
    /// A disk is slow.
    SlowDisk,
    /// Clocks run too fast or too slow from a node's next start on.
    Drift,
    /// A wall clock jumps.
    WallJump,
    /// A node loses power in the moment in which it has voted, stored entries, or dropped some.
    Aimed,
    /// A node's disk is put back to an earlier copy of itself: it must not take part any more.
    Rollback,
    /// A node comes back with an empty disk: the same.
    Wipe,
    /// A disk has no room for a while.
    Full,
    /// Reads, writes and fsyncs of a disk fail now and then.
    Eio,
    /// The fsyncs of a disk do not return for a while.
    Hang,
    /// Bits flip on a disk: on the same one for a whole seed.
    Rot,
    /// Some reads of a disk return the bytes of another place.
    Misdirected,
    /// Nodes join, drain, are removed and replaced all the while (`operator`).
    Membership,
    /// The same, right after an upload through it, of which the others got nothing by then if that can be.
    WipeHolder,
    /// Who drives a transaction dies between two of its steps.
    DriverDeath,
    /// Who drives a transaction stops past the patience of others; `pending` or `commit` come late, or their answers never.
    DriverDelay,
    /// A gateway dies between two steps of an upload.
    GatewayDeath,
    /// A gateway stops in an upload until its stage has ended; a claim comes late, or its answer never.
    GatewayDelay,
    /// In the middle of a transaction or an upload another member leads.
    LeaderMoves,
    /// A node is killed with unsynced entries, starts, and loses power before anything was synced again.
    KillThenPower,
    /// All but frames gets through to a node.
    FramesLost,
    /// The answers to one run of a node reach its next run.
    LateReplies,
    /// A group learns late that a bucket has changed.
    FactsLate,
}

const ALL: [(&str, Fault); 32] = [
    ("kill", Fault::Kill),
    ("power", Fault::Power),
    ("power-all", Fault::PowerAll),
    ("pause", Fault::Pause),
    ("partition", Fault::Partition),
    ("one-way", Fault::OneWay),
    ("isolate", Fault::Isolate),
    ("delay", Fault::Delay),
    ("lose", Fault::Lose),
    ("double", Fault::Double),
    ("slow-disk", Fault::SlowDisk),
    ("drift", Fault::Drift),
    ("wall-jump", Fault::WallJump),
    ("aimed", Fault::Aimed),
    ("rollback", Fault::Rollback),
    ("wipe", Fault::Wipe),
    ("full", Fault::Full),
    ("eio", Fault::Eio),
    ("hang", Fault::Hang),
    ("rot", Fault::Rot),
    ("misdirected", Fault::Misdirected),
    ("membership", Fault::Membership),
    ("wipe-holder", Fault::WipeHolder),
    ("driver-death", Fault::DriverDeath),
    ("driver-delay", Fault::DriverDelay),
    ("gateway-death", Fault::GatewayDeath),
    ("gateway-delay", Fault::GatewayDelay),
    ("leader-moves", Fault::LeaderMoves),
    ("kill-then-power", Fault::KillThenPower),
    ("frames-lost", Fault::FramesLost),
    ("late-replies", Fault::LateReplies),
    ("facts-late", Fault::FactsLate),
];

/// Those that wait for their moment.
const AMBUSHES: [Fault; 9] = [
    Fault::DriverDeath,
    Fault::DriverDelay,
    Fault::GatewayDeath,
    Fault::GatewayDelay,
    Fault::LeaderMoves,
    Fault::KillThenPower,
    Fault::FramesLost,
    Fault::LateReplies,
    Fault::FactsLate,
];

/// Disks that go bad: `disks`.
const DISKS: [Fault; 5] = [
    Fault::Full,
    Fault::Eio,
    Fault::Hang,
    Fault::Rot,
    Fault::Misdirected,
];

/// How far from true time a clock may run, in millionths.
const DRIFT: u32 = 100_000;
/// In so long every node has told every other one of its last start, and one that is not welcome hears it.
const CALM: Duration = Duration::from_millis(2_500);

/// Which faults may happen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Faults(BTreeSet<Fault>);

impl Faults {
    /// All of them.
    pub fn all() -> Faults {
        Faults(ALL.iter().map(|(_, fault)| *fault).collect())
    }

    /// None.
    pub fn none() -> Faults {
        Faults(BTreeSet::new())
    }

    /// Whether this one may happen.
    pub fn has(&self, fault: Fault) -> bool {
        self.0.contains(&fault)
    }

    /// Nothing happens.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromStr for Faults {
    type Err = String;

    /// `none`, or names with commas between them; `all` and `disks` are names of several.
    fn from_str(names: &str) -> Result<Faults, String> {
        let mut faults = Faults::none();
        for name in names.split(',').filter(|name| *name != "none") {
            match name {
                "all" => faults.0.extend(Faults::all().0),
                "disks" => faults.0.extend(DISKS),
                name => {
                    let known = ALL.iter().find(|(known, _)| *known == name);
                    let (_, fault) = known.ok_or_else(|| {
                        let names: Vec<&str> = ALL.iter().map(|(name, _)| *name).collect();
                        let names = names.join(", ");
                        format!("{name} is no fault; there are all, disks, none, {names}")
                    })?;
                    faults.0.insert(*fault);
                }
            }
        }
        Ok(faults)
    }
}

/// Brings faults until the storm is over.
pub struct Storm {
    /// Whom they happen to.
    pub nodes: Nodes,
    /// And between whom.
    pub net: SimNet,
    /// Where it is written down.
    pub trace: Trace,
    /// Which.
    pub faults: Faults,
    /// When.
    pub seed: u64,
    /// How, for the fault that is being brought.
    pub dice: Dice,
    /// What some faults wait for.
    pub aim: Aim,
    /// Whose disk rots.
    pub rotten: Option<u64>,
    /// What happens to all messages.
    pub weather: Weather,
    /// And some others.
    pub moments: Moments,
    /// Whether those have to keep still.
    pub still: Still,
}

impl Storm {
    /// Rages for so long; heals nothing.
    pub async fn rage(&mut self, how_long: Duration) {
        // Changes of members are another one's affair.
        let all = self.faults.0.iter();
        if all.filter(|kind| **kind != Fault::Membership).count() == 0 {
            clock::sleep(how_long).await;
            return;
        }
        let until = now() + how_long.as_nanos() as u64;
        for turn in 0.. {
            if now() >= until {
                return;
            }
            let mut dice = Dice::of(self.seed, &format!("storm, turn {turn}"));
            let pause = match dice.percent(30) {
                true => dice.below(100),
                false => 200 + dice.below(2_500),
            };
            clock::sleep(Duration::from_millis(pause)).await;
            // An ambush waits in the background: it takes nobody's turn.
            if dice.percent(50) {
                self.brings(turn, true).await;
            }
            self.brings(turn, false).await;
            // Who died comes back sooner or later.
            for node in 1..=self.nodes.count() {
                if !self.nodes.is_alive(node) && dice.percent(50) {
                    self.nodes.start(node);
                }
            }
            if dice.percent(35) {
                self.clear_up();
            }
        }
    }

    /// Brings the fault whose turn it is, an ambush or another one: each kind draws, the highest number wins. So a kind that
    /// is added takes its own turns from the others, and nothing else changes.
    async fn brings(&mut self, turn: u32, ambush: bool) {
        let takes_part = ALL.iter().filter(|(_, fault)| {
            let others_affair = *fault == Fault::Membership;
            let takes_part = self.faults.0.contains(fault) && !others_affair;
            takes_part && AMBUSHES.contains(fault) == ambush
        });
        let draw = |name: &str| Dice::of(self.seed, &format!("storm, turn {turn}: {name}")).roll();
        if let Some((name, fault)) = takes_part.max_by_key(|(name, _)| draw(name)) {
            self.dice = Dice::of(self.seed, &format!("storm, turn {turn}: how {name}"));
            self.bring(*fault).await;
        }
    }

    fn clear_up(&mut self) {
        self.net.mend();
        self.weather = Weather::default();
        self.net.set_weather(self.weather);
        self.trace.say("the network is whole");
    }

    /// Everything works again.
    pub fn heal(&mut self) {
        self.be_still();
        self.clear_up();
        self.nodes.resume_all();
        self.nodes.heal_disks();
        for node in 1..=self.nodes.count() {
            self.nodes.start(node);
        }
        self.trace.say("everything has healed");
    }

    /// No ambush strikes from now on, and nothing is held back.
    fn be_still(&self) {
        self.still.set(true);
        self.moments.release_all();
    }

    fn any_node(&mut self) -> u64 {
        1 + self.dice.below(self.nodes.count())
    }

    /// Often a leader: most of what can go wrong goes wrong there.
    fn victim(&mut self) -> u64 {
        let any = self.any_node();
        match self.dice.percent(50) {
            true => self.nodes.leader(self.dice.below(3) as u16).unwrap_or(any),
            false => any,
        }
    }

    async fn bring(&mut self, fault: Fault) {
        match fault {
            Fault::Kill => {
                let node = self.victim();
                self.die(node, false).await;
            }
            Fault::Power => {
                let node = self.victim();
                self.die(node, true).await;
            }
            Fault::PowerAll => {
                for node in 1..=self.nodes.count() {
                    let keeps = choice(&mut self.dice);
                    if self.nodes.is_alive(node) {
                        self.nodes.crash(node, keeps.as_ref());
                    }
                }
            }
            Fault::Pause => {
                let node = self.victim();
                let how_long = match self.dice.percent(70) {
                    true => 100 + self.dice.below(2_000),
                    false => 3_000 + self.dice.below(5_000),
                };
                self.nodes.pause(node, Duration::from_millis(how_long));
            }
            Fault::Partition => {
                let side: Vec<u64> = (1..=self.nodes.count())
                    .filter(|_| self.dice.percent(50))
                    .collect();
                // Who hears both sides may elect on the one and serve on the other.
                let bridge = self.any_node();
                let bridge = Some(bridge).filter(|_| self.dice.percent(35));
                self.trace.say(format!(
                    "the network is cut around {side:?}, but for {bridge:?}"
                ));
                for one in 1..=self.nodes.count() {
                    for other in 1..=self.nodes.count() {
                        let is_bridge = bridge == Some(one) || bridge == Some(other);
                        if side.contains(&one) != side.contains(&other) && !is_bridge {
                            self.net.cut(one, other);
                        }
                    }
                }
            }
            Fault::OneWay => {
                let (from, to) = (self.any_node(), self.any_node());
                self.trace
                    .say(format!("nothing gets from node {from} to node {to}"));
                self.net.cut(from, to);
            }
            Fault::Isolate => {
                let node = self.victim();
                let (out, into) = match self.dice.below(3) {
                    0 => (true, true),
                    1 => (true, false),
                    _ => (false, true),
                };
                self.trace
                    .say(format!("node {node} is cut off (out {out}, in {into})"));
                for other in 1..=self.nodes.count() {
                    if out {
                        self.net.cut(node, other);
                    }
                    if into {
                        self.net.cut(other, node);
                    }
                }
            }
            Fault::Delay => {
                let longest = Duration::from_millis(1 + self.dice.below(400));
                self.trace.say(format!("messages take up to {longest:?}"));
                self.weather.delay = (Duration::from_micros(50), longest);
                self.net.set_weather(self.weather);
            }
            Fault::Lose => {
                let lost = (1 + self.dice.below(200_000)) as u32;
                self.trace
                    .say(format!("{lost} of a million messages get lost"));
                self.weather.lost = lost;
                self.net.set_weather(self.weather);
            }
            Fault::Double => {
                let doubled = (1 + self.dice.below(300_000)) as u32;
                let strays = (1 + self.dice.below(50_000)) as u32;
                self.trace.say(format!(
                    "{doubled} of a million messages come twice, {strays} late"
                ));
                let delay = self.weather.delay.1.max(Duration::from_millis(20));
                self.weather.delay = (Duration::from_micros(50), delay);
                (self.weather.doubled, self.weather.strays) = (doubled, strays);
                self.net.set_weather(self.weather);
            }
            Fault::SlowDisk => {
                let node = self.victim();
                let slowest = Duration::from_millis(1 + self.dice.below(700));
                let (latency, what) = match self.dice.percent(60) {
                    true => {
                        let latency = Latency {
                            write: usual().write,
                            sync: (Duration::from_millis(1), slowest),
                        };
                        (latency, format!("takes up to {slowest:?} for an fsync"))
                    }
                    false => (usual(), "is as fast as usual".to_owned()),
                };
                self.trace.say(format!("node {node}'s disk {what}"));
                self.nodes.set_latency(node, latency);
            }
            Fault::Drift => {
                let node = self.any_node();
                let drift = self.dice.below(2 * u64::from(DRIFT)) as i32 - DRIFT as i32;
                self.trace.say(format!(
                    "node {node}'s clocks will drift by {drift} millionths"
                ));
                self.nodes.set_drift(node, drift);
            }
            Fault::Rollback | Fault::Wipe | Fault::WipeHolder => self.lose_a_disk(fault).await,
            Fault::WallJump => {
                let node = self.any_node();
                let jump = self.dice.below(7_200_000) as i64 - 3_600_000;
                self.trace
                    .say(format!("node {node}'s wall clock is off by {jump} ms"));
                self.nodes.set_wall_offset_ms(node, jump);
            }
            Fault::Aimed => self.die_in_the_act().await,
            Fault::Full => {
                let node = self.victim();
                let (left, how_long) = (self.dice.below(3 << 20), self.some_seconds());
                self.trace.say(format!(
                    "node {node}'s disk has {left} bytes left for {how_long:?}"
                ));
                self.nodes.fill(node, left, how_long);
            }
            Fault::Eio => {
                let node = self.victim();
                let mut rate = || self.dice.below(20_000) as u32;
                let faults = [OpKind::Read, OpKind::Write, OpKind::Sync, OpKind::SyncDir]
                    .map(|kind| (kind, rate(), DiskFault::Eio));
                self.ail(node, &faults, "fails now and then");
            }
            Fault::Hang => {
                let node = self.victim();
                let hangs = [(OpKind::Sync, 1_000_000, DiskFault::Hang)];
                self.ail(node, &hangs, "does not finish its fsyncs");
            }
            Fault::Rot => self.rot(),
            Fault::Membership => {}
            Fault::Misdirected => {
                let node = self.victim();
                let Some(by) = disks::astray(&self.nodes.disk(node), &mut self.dice) else {
                    return;
                };
                let rate = (1 + self.dice.below(30_000)) as u32;
                let faults = [(OpKind::Read, rate, DiskFault::Misdirect(by))];
                self.ail(node, &faults, "reads from elsewhere");
            }
            Fault::DriverDeath
            | Fault::DriverDelay
            | Fault::GatewayDeath
            | Fault::GatewayDelay
            | Fault::LeaderMoves
            | Fault::KillThenPower
            | Fault::FramesLost
            | Fault::LateReplies
            | Fault::FactsLate => {
                let ambush = Ambush {
                    nodes: self.nodes.clone(),
                    net: self.net.clone(),
                    trace: self.trace.clone(),
                    moments: self.moments.clone(),
                    dice: self.dice.fork(),
                    still: self.still.clone(),
                };
                task::spawn(ambush.lie(fault));
            }
        }
    }

    /// Mostly a few; up to 30.
    fn some_seconds(&mut self) -> Duration {
        Duration::from_millis(match self.dice.percent(75) {
            true => 500 + self.dice.below(5_000),
            false => 5_000 + self.dice.below(25_000),
        })
    }

    fn ail(&mut self, node: u64, faults: &[(OpKind, u32, DiskFault)], what: &str) {
        // One that starts reads its log as it is: what it took a bad read for would be lost.
        if self.nodes.running(node).is_none() {
            return;
        }
        let how_long = self.some_seconds();
        self.trace
            .say(format!("node {node}'s disk {what} for {how_long:?}"));
        self.nodes.ail(node, faults, how_long);
    }

    /// Which damage a cluster must survive: see `disks`.
    fn rot(&mut self) {
        if !self.nodes.out().is_empty() || self.nodes.count() < 3 {
            return;
        }
        let any = self.any_node();
        let node = *self.rotten.get_or_insert(any);
        let rot = disks::ROTS[self.dice.below(disks::ROTS.len() as u64) as usize];
        let twin = node.is_multiple_of(2);
        let Some(what) = disks::rot(&self.nodes.disk(node), rot, twin, &mut self.dice) else {
            return;
        };
        self.nodes.is_rotten_now(node);
        self.trace.say(format!("node {node}'s disk rots: {what}"));
        // Its log it reads when it starts.
        let dies = match rot {
            disks::Rot::Log => 70,
            _ => 20,
        };
        if self.dice.percent(dies) && self.nodes.is_alive(node) {
            self.nodes.crash(node, None);
        }
    }

    async fn die_in_the_act(&mut self) {
        let targets = [
            Target::Vote,
            Target::Vote,
            Target::Append,
            Target::Truncation,
        ];
        let target = targets[self.dice.below(targets.len() as u64) as usize];
        if target != Target::Append {
            // Somebody else has to lead first. A pause, so that the old leader comes back believing that it still does.
            let leader = self.victim();
            let how_long = 500 + self.dice.below(2_000);
            self.nodes.pause(leader, Duration::from_millis(how_long));
        }
        let Some(hit) = self.aim.next(target, Duration::from_secs(4)).await else {
            return;
        };
        if !self.nodes.is_alive(hit.by) {
            return;
        }
        self.trace
            .say(format!("{target:?} of node {} for node {}", hit.by, hit.to));
        let keeps = match self.dice.percent(70) {
            true => Choice::None,
            false => Choice::Random(self.dice.roll()),
        };
        self.nodes.crash(hit.by, Some(&keeps));
        // Whoever was told believes it, and is not heard until the others have gone on without.
        if self.dice.percent(50) {
            for other in 1..=self.nodes.count() {
                self.net.cut(hit.to, other);
                self.net.cut(other, hit.to);
            }
            self.trace.say(format!("node {} is cut off", hit.to));
            self.nodes.start(hit.by);
            clock::sleep(Duration::from_millis(200 + self.dice.below(1_500))).await;
        }
    }

    /// One node loses what it knew. A group of three survives that in calm weather only: what the node acknowledged must be
    /// on another one that runs, and those that run must have heard of its last start.
    async fn lose_a_disk(&mut self, fault: Fault) {
        let present = |node: &u64| !self.nodes.is_removed(*node);
        let whole = self.nodes.whole();
        let all_run = whole.iter().all(|node| self.nodes.running(*node).is_some());
        // What one lost the others must have: one that rots may have lost the same.
        let one_is_out = self.nodes.out().iter().any(present) || self.rotten.is_some();
        if whole.len() < 3 || !all_run || one_is_out || self.dice.percent(60) {
            return;
        }
        self.be_still();
        self.clear_up();
        self.nodes.resume_all();
        clock::sleep(CALM).await;
        // While members change, fewer copies than usual are certain.
        if !self.nodes.is_settled() {
            return;
        }
        let node = self.victim();
        if self.nodes.is_removed(node) {
            return;
        }
        if fault == Fault::WipeHolder {
            self.until_it_holds_something(node).await;
        }
        if self.nodes.is_alive(node) {
            self.nodes.crash(node, None);
        }
        match fault {
            Fault::Rollback => _ = self.nodes.put_back(node),
            _ => self.nodes.wipe(node),
        }
        self.nodes.start(node);
        // The others must be there to refuse it.
        let until = now() + CALM.as_nanos() as u64;
        while now() < until && !self.nodes.is_refused(node) {
            clock::sleep(Duration::from_millis(10)).await;
        }
        self.still.set(false);
    }

    /// An object was uploaded through this node while the others got no frames. (They do, else it is not acknowledged.)
    async fn until_it_holds_something(&mut self, node: u64) {
        let others = (1..=self.nodes.count()).filter(|other| *other != node);
        let holds: Vec<_> = others
            .map(|other| self.moments.hold(Hold::Frames(other)))
            .collect();
        let until = now() + CALM.as_nanos() as u64;
        while now() < until {
            let soon = Duration::from_millis(200);
            let claimed = self.moments.next((Step::Claim, Come::Stored), soon).await;
            if claimed.is_some_and(|claimed| claimed.driver == Some(node)) {
                break;
            }
        }
        for hold in holds {
            self.moments.release(hold);
        }
    }

    async fn die(&mut self, node: u64, power: bool) {
        if !self.nodes.is_alive(node) {
            return;
        }
        match (power, self.dice.percent(50)) {
            (true, true) => {
                let mut dice = self.dice.fork();
                self.nodes.crash_at_an_operation(node, &mut dice).await;
            }
            (true, false) => {
                let keeps = choice(&mut self.dice);
                self.nodes.crash(node, keeps.as_ref());
            }
            (false, _) => self.nodes.crash(node, None),
        }
    }
}
