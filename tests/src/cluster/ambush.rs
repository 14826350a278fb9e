//! Faults that wait for their moment while the storm goes on: a driver dies between two steps of its transaction, a gateway
//! between two frames, a message comes when nobody waits for it any more.
//!
//! Always true:
//! * an ambush aims by what passes on the wire (`moments`), and does what could happen at any time;
//! * it does nothing while the storm needs quiet, and nothing after everything has healed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use minikv_core::env::clock;
use minikv_core::env::sim::{Choice, Latency, SimNet};

use super::moments::{Come, Hold, HoldId, Moment, Moments, Step};
use super::nodes::{Nodes, choice, usual};
use super::storm::Fault;
use super::trace::Trace;
use crate::dice::Dice;

/// How long a moment is waited for.
const PATIENCE: Duration = Duration::from_secs(4);

/// How a transaction goes on, step by step.
const OF_A_TRANSACTION: [Moment; 11] = [
    (Step::Pending, Come::Sent),
    (Step::Prepare, Come::Sent),
    (Step::Prepare, Come::Stored),
    (Step::Pending, Come::Stored),
    (Step::Commit, Come::Sent),
    (Step::Commit, Come::Stored),
    (Step::Commit, Come::Answered),
    (Step::Finish, Come::Sent),
    (Step::Finish, Come::Stored),
    (Step::Drop, Come::Sent),
    (Step::Drop, Come::Stored),
];

/// How an upload does.
const OF_AN_UPLOAD: [Moment; 7] = [
    (Step::OpenStage, Come::Sent),
    (Step::OpenStage, Come::Stored),
    (Step::Frame, Come::Sent),
    (Step::Frame, Come::Stored),
    (Step::Claim, Come::Sent),
    (Step::Claim, Come::Stored),
    (Step::Claim, Come::Answered),
];

/// Whether ambushes have to keep still.
#[derive(Clone, Default)]
pub struct Still(Arc<AtomicBool>);

impl Still {
    /// From now on, or no more.
    pub fn set(&self, still: bool) {
        self.0.store(still, Ordering::Relaxed);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// One of them.
pub struct Ambush {
    /// Whom it happens to.
    pub nodes: Nodes,
    /// And between whom.
    pub net: SimNet,
    /// Where it is written down.
    pub trace: Trace,
    /// What it waits for.
    pub moments: Moments,
    /// How.
    pub dice: Dice,
    /// When not.
    pub still: Still,
}

impl Ambush {
    /// Waits, strikes, and is over.
    pub async fn lie(mut self, fault: Fault) {
        match fault {
            Fault::DriverDeath => self.death(&OF_A_TRANSACTION).await,
            Fault::GatewayDeath => self.death(&OF_AN_UPLOAD).await,
            Fault::DriverDelay => self.driver_delay().await,
            Fault::GatewayDelay => self.gateway_delay().await,
            Fault::LeaderMoves => self.leader_moves().await,
            Fault::KillThenPower => self.kill_then_power().await,
            Fault::FramesLost => self.frames_lost().await,
            Fault::LateReplies => self.late_replies().await,
            Fault::FactsLate => {
                let how_long = self.millis(200, 4_000);
                self.late(Step::Facts, how_long).await;
            }
            _ => {}
        }
    }

    fn any<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.dice.below(of.len() as u64) as usize]
    }

    fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.dice.below(to - from))
    }

    /// A node dies, if it may. False: it lives on, or was dead.
    fn dies(&mut self, node: u64, keeps: Option<&Choice>) -> bool {
        let dies = !self.still.is_set() && self.nodes.is_alive(node);
        if dies {
            self.nodes.crash(node, keeps);
        }
        dies
    }

    fn starts(&self, node: u64) {
        if !self.still.is_set() {
            self.nodes.start(node);
        }
    }

    /// Who drives it dies in the middle of it, or who leads the group that is asked.
    async fn death(&mut self, moments: &[Moment]) {
        let moment = self.any(moments);
        let Some(sight) = self.moments.next(moment, PATIENCE).await else {
            return;
        };
        let leader = self.nodes.leader(sight.group as u16);
        let victim = match self.dice.below(10) {
            0..7 => sight.driver,
            7..9 => leader,
            _ => Some(sight.to),
        };
        let Some(victim) = victim else { return };
        let keeps = choice(&mut self.dice);
        if !self.dies(victim, keeps.as_ref()) {
            return;
        }
        self.trace.say(format!(
            "{moment:?} in group {}, driven by {:?}, led by {leader:?}: that was node {victim}",
            sight.group, sight.driver
        ));
        if self.dice.percent(50) {
            let soon = self.millis(0, 600);
            clock::sleep(soon).await;
            self.starts(victim);
        }
    }

    /// A driver stops past the patience of others, or its words come late, or the answers to it get lost.
    async fn driver_delay(&mut self) {
        match self.dice.below(5) {
            0 => {
                let moment = self.any(&OF_A_TRANSACTION[..5]);
                let how_long = match self.dice.percent(70) {
                    true => self.millis(2_100, 4_000),
                    false => self.millis(10_200, 12_000),
                };
                self.pause_driver(moment, how_long).await;
            }
            1 | 2 => {
                let how_long = self.millis(200, 2_900);
                self.late(Step::Pending, how_long).await;
            }
            3 => {
                let how_long = self.millis(2_000, 7_000);
                self.late(Step::Commit, how_long).await;
            }
            _ => {
                let step = self.any(&[Step::Commit, Step::Commit, Step::Prepare, Step::Pending]);
                self.unanswered(step).await;
            }
        }
    }

    /// The same for uploads: claims come late, or when their stage has ended.
    async fn gateway_delay(&mut self) {
        match self.dice.below(3) {
            0 => {
                let moment = self.any(&OF_AN_UPLOAD[1..5]);
                let how_long = self.millis(10_500, 15_000);
                self.pause_driver(moment, how_long).await;
            }
            1 => {
                let step = self.any(&[Step::Claim, Step::Claim, Step::OpenStage]);
                let how_long = self.millis(500, 5_500);
                self.late(step, how_long).await;
            }
            _ => self.unanswered(Step::Claim).await,
        }
    }

    async fn pause_driver(&mut self, moment: Moment, how_long: Duration) {
        let sight = self.moments.next(moment, PATIENCE).await;
        let Some(driver) = sight.and_then(|sight| sight.driver) else {
            return;
        };
        if self.still.is_set() || !self.nodes.is_alive(driver) {
            return;
        }
        self.trace.say(format!("{moment:?} by node {driver}"));
        self.nodes.pause(driver, how_long);
    }

    /// The next proposal of this step, and whatever repeats it, comes so much later.
    async fn late(&mut self, step: Step, how_long: Duration) {
        let Some(hold) = self.holds(Hold::Next(step)).await else {
            return;
        };
        self.trace
            .say(format!("{step:?} comes late, by {how_long:?}"));
        clock::sleep(how_long).await;
        let kept = self.moments.release(hold);
        if self.still.is_set() {
            return;
        }
        self.trace
            .say(format!("{step:?} comes now, {} times", kept.len()));
        for (from, to, message) in kept {
            self.net.bring(from, to, message);
        }
    }

    /// The answers to the next proposal of this step get lost, for as long as anybody asks.
    async fn unanswered(&mut self, step: Step) {
        let Some(hold) = self.holds(Hold::AnswersToNext(step)).await else {
            return;
        };
        self.trace
            .say(format!("the answers to a {step:?} get lost"));
        let how_long = self.millis(5_500, 8_500);
        clock::sleep(how_long).await;
        self.moments.release(hold);
    }

    /// Holds, and waits until something was kept.
    async fn holds(&mut self, what: Hold) -> Option<HoldId> {
        let hold = self.moments.hold(what);
        for _ in 0..PATIENCE.as_millis() / 10 {
            if self.moments.kept(hold) > 0 {
                return Some(hold);
            }
            clock::sleep(Duration::from_millis(10)).await;
        }
        self.moments.release(hold);
        None
    }

    /// In the middle of a transaction or an upload the group that is asked gets another leader.
    async fn leader_moves(&mut self) {
        let moment = match self.dice.percent(60) {
            true => self.any(&OF_A_TRANSACTION),
            false => self.any(&OF_AN_UPLOAD),
        };
        let Some(sight) = self.moments.next(moment, PATIENCE).await else {
            return;
        };
        let Some(leader) = self.nodes.leader(sight.group as u16) else {
            return;
        };
        if self.still.is_set() || !self.nodes.is_alive(leader) {
            return;
        }
        self.trace.say(format!(
            "{moment:?} in group {}, led by node {leader}",
            sight.group
        ));
        let how_long = self.millis(700, 2_000);
        self.nodes.pause(leader, how_long);
    }

    /// A member is killed with entries in the cache of its disk, starts again, says that it has them, and loses power. Whom
    /// it told so is not heard any more, and nobody else had them.
    async fn kill_then_power(&mut self) {
        let steps = [Step::Commit, Step::Prepare, Step::Finish, Step::OpenStage];
        let moment = (self.any(&steps), Come::Sent);
        let Some(sight) = self.moments.next(moment, PATIENCE).await else {
            return;
        };
        let (leader, member) = (sight.from, sight.to);
        if self.still.is_set() || self.nodes.leader(sight.group as u16) != Some(leader) {
            return;
        }
        for other in (1..=self.nodes.count()).filter(|node| ![leader, member].contains(node)) {
            self.net.cut(leader, other);
            self.net.cut(other, leader);
        }
        // Written by then, and hardly fsynced.
        self.nodes.set_latency(
            member,
            Latency {
                write: usual().write,
                sync: (Duration::from_millis(20), Duration::from_millis(60)),
            },
        );
        let soon = Duration::from_micros(600 + self.dice.below(4_000));
        clock::sleep(soon).await;
        if !self.dies(member, None) {
            return;
        }
        self.starts(member);
        self.until_it_runs(member).await;
        // It has to be believed before it says anything that counts.
        let soon = self.millis(1, 700);
        clock::sleep(soon).await;
        if !self.dies(member, Some(&Choice::None)) {
            return;
        }
        self.trace.say(format!(
            "node {member} was killed before that, and node {leader} is cut off now"
        ));
        self.net.mend();
        for other in (1..=self.nodes.count()).filter(|other| *other != leader) {
            self.net.cut(leader, other);
            self.net.cut(other, leader);
        }
        self.starts(member);
    }

    async fn until_it_runs(&self, node: u64) {
        for _ in 0..300 {
            if self.nodes.running(node).is_some() {
                return;
            }
            clock::sleep(Duration::from_millis(10)).await;
        }
    }

    /// All but frames gets through to a node, and its own questions for frames do not get out.
    async fn frames_lost(&mut self) {
        let node = 1 + self.dice.below(self.nodes.count());
        if self.still.is_set() {
            return;
        }
        let how_long = self.millis(300, 4_000);
        self.trace
            .say(format!("frames for node {node} get lost, for {how_long:?}"));
        let hold = self.moments.hold(Hold::Frames(node));
        clock::sleep(how_long).await;
        self.moments.release(hold);
    }

    /// What one run of a node asked is answered in its next one, before anything that the next one asks.
    async fn late_replies(&mut self) {
        let node = 1 + self.dice.below(self.nodes.count());
        if !self.dies(node, None) {
            return;
        }
        let hold = self.moments.hold(Hold::Replies(node));
        self.starts(node);
        self.until_it_runs(node).await;
        let soon = self.millis(0, 500);
        clock::sleep(soon).await;
        let died = self.dies(node, None);
        let kept = self.moments.release(hold);
        if !died {
            return;
        }
        self.trace.say(format!(
            "{} answers to its last life reach node {node} in its next one",
            kept.len()
        ));
        let later = self.moments.hold(Hold::Replies(node));
        self.starts(node);
        for wait in [80, 80, 400] {
            let soon = self.millis(0, wait);
            clock::sleep(soon).await;
            for (from, to, message) in &kept {
                self.net.bring(*from, *to, message.clone());
            }
        }
        for (from, to, message) in self.moments.release(later) {
            self.net.bring(from, to, message);
        }
    }
}
