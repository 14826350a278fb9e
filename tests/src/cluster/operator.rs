//! Somebody who changes the cluster while it storms: nodes join, drain, are removed; one that lost its disk is given up and
//! another one takes its place.
//!
//! Always true:
//! * it knows what an operator can know: it asks nodes, and believes what the directory says;
//! * a node is given up by force only when its disk is lost;
//! * at the end there are as many nodes as there should be, and every group lies on as many of them as it should.

use std::collections::BTreeSet;
use std::time::Duration;

use minikv_core::env::clock;
use minikv_core::node::{ClusterError, ClusterNode, MemberRole, Membership, Node};

use super::nodes::Nodes;
use super::trace::{Trace, now};
use crate::dice::Dice;

/// How long one question to a node may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// No more nodes than these ever join.
const MOST: u64 = 12;
/// How long it may take until the cluster is as it should be, when everything works.
const SETTLE: Duration = Duration::from_secs(120);

/// See the file's header.
#[derive(Clone)]
pub struct Operator {
    /// What it works on.
    pub nodes: Nodes,
    /// Where it is written down.
    pub trace: Trace,
    /// How many nodes there should be.
    pub target: usize,
}

impl Operator {
    /// Changes one thing after the other until dropped.
    pub async fn work(self, mut dice: Dice) {
        loop {
            clock::sleep(Duration::from_millis(300 + dice.below(2_500))).await;
            self.step(&mut dice, true).await;
        }
    }

    /// Ends what was begun: as many nodes as there should be, and groups on some of them.
    pub async fn finish(&self, dice: &mut Dice) -> Result<(), String> {
        let deadline = now() + SETTLE.as_nanos() as u64;
        loop {
            let present = self.step(dice, false).await;
            if let Some(present) = &present
                && present.len() == self.target
                && self.all_lie_among(present)
            {
                return Ok(());
            }
            if now() > deadline {
                let members: Vec<_> = (1..=self.nodes.count())
                    .filter_map(|node| Some((node, self.nodes.running(node)?.members())))
                    .collect();
                return Err(format!(
                    "groups do not come to lie on {} nodes: {present:?}, {members:?}",
                    self.target
                ));
            }
            clock::sleep(Duration::from_millis(500)).await;
        }
    }

    /// The next change, if it is time for one; the nodes of the cluster, if anybody says and
    /// nobody is about to join. `further`: also what nobody needs.
    async fn step(&self, dice: &mut Dice, further: bool) -> Option<BTreeSet<u64>> {
        let whole = self.nodes.whole();
        let through = whole[dice.below(whole.len() as u64) as usize];
        let all = self
            .ask(through, |node| async move { node.cluster().await })
            .await?
            .ok()?;
        // Also what nobody told us of: an answer may have been lost.
        for gone in all
            .iter()
            .filter(|node| node.membership == Membership::Gone)
        {
            if !self.nodes.is_removed(gone.id) {
                self.nodes.removed(gone.id);
            }
        }
        let with = |membership: Membership| -> Vec<u64> {
            let nodes = all.iter().filter(|node| node.membership == membership);
            nodes.map(|node| node.id).collect()
        };
        // A node that was started to join and is not in the directory yet changes everything when it comes.
        let is_known =
            all.len() as u64 == self.nodes.count() && with(Membership::Joining).is_empty();
        let active = with(Membership::Active);
        let lost = self.nodes.out();
        let is_lost =
            |node: &&ClusterNode| lost.contains(&node.id) && node.membership != Membership::Gone;
        if let Some(lost) = all.iter().find(is_lost) {
            self.remove(through, lost.id, true).await;
        } else if active.len() < self.target && is_known {
            match with(Membership::Draining).first().copied() {
                // Somebody else was lost meanwhile: it is needed.
                Some(node) => {
                    let back = self.ask(through, move |running| async move {
                        running.undrain(node).await
                    });
                    let back = back.await;
                    self.trace
                        .say(format!("node {node} is to stay: {}", said(&back)));
                }
                None => _ = self.nodes.join(),
            }
        } else if let Some(draining) = with(Membership::Draining).first() {
            self.remove(through, *draining, false).await;
        } else if active.len() > self.target {
            let node = active[dice.below(active.len() as u64) as usize];
            let drained = self.ask(
                through,
                move |running| async move { running.drain(node).await },
            );
            let drained = drained.await;
            self.trace
                .say(format!("node {node} is to drain: {}", said(&drained)));
        } else if is_known && further && self.nodes.count() < MOST {
            self.nodes.join();
        }
        let present = all
            .iter()
            .filter(|node| node.membership != Membership::Gone);
        is_known.then(|| present.map(|node| node.id).collect())
    }

    async fn remove(&self, through: u64, node: u64, forced: bool) {
        let removed = self.ask(through, move |running| async move {
            running.remove(node, forced).await
        });
        let removed = removed.await;
        if matches!(removed, Some(Err(ClusterError::StillHolds { .. }))) {
            return;
        }
        self.trace
            .say(format!("node {node} is to be removed: {}", said(&removed)));
        if matches!(removed, Some(Ok(()))) {
            self.nodes.removed(node);
        }
    }

    /// `None`: the node died, or says nothing.
    async fn ask<T, F>(
        &self,
        through: u64,
        what: impl FnOnce(std::sync::Arc<Node>) -> F,
    ) -> Option<T>
    where
        F: Future<Output = T> + Send + 'static,
        T: Send + 'static,
    {
        let running = self.nodes.running(through)?;
        let (_, scope) = self.nodes.door(through)?;
        let asked = scope.enter(what(running));
        clock::timeout(PATIENCE, asked).await.ok()?.ok()
    }

    fn all_lie_among(&self, present: &BTreeSet<u64>) -> bool {
        let running = |node: &u64| self.nodes.running(*node).map(|node| node.members());
        let groups: Option<Vec<_>> = present.iter().map(running).collect();
        let Some(groups) = groups else { return false };
        let copies = self.nodes.copies_of_a_group().min(present.len());
        let all: BTreeSet<u16> = groups.iter().flat_map(|of| of.keys().copied()).collect();
        all.len() == self.nodes.groups()
            && groups.iter().flat_map(|of| of.values()).all(|members| {
                let are_members = members.iter().all(|(_, role)| *role == MemberRole::Member);
                let are_here = members.iter().all(|(node, _)| present.contains(node));
                are_members && are_here && members.len() == copies
            })
    }
}

fn said(answer: &Option<Result<(), ClusterError>>) -> String {
    match answer {
        None => "no answer".to_owned(),
        Some(Ok(())) => "done".to_owned(),
        Some(Err(error)) => error.to_string(),
    }
}
