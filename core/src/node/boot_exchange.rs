//! Telling peers of this run, hearing of theirs, and keeping what was heard on the disk.
//!
//! ```text
//!   start ── Boot (number, nonce, all that is known) ──> peer: judged, written down, fsynced ── Booted ──> counted
//!            to every peer, again and again: there is no moment at which "connected" could be missed
//!
//!   the peer knows another run of this node: it says which, and this node looks whether that was one of its own.
//!   Yes: it asks again and says so. No: this disk is not the one that ran then, and the node takes part no more
//! ```
//! Always true:
//! * a run of a peer is on the disk, twice, before it is confirmed to that peer;
//! * questions are answered from the node's first moment on: before its groups are open, and before it is confirmed itself
//!   (after a power cut of all, somebody must begin);
//! * who was refused once, by anybody, takes part no more, and confirms nobody.
//!
//! Elsewhere: the rule (`boots`), who is let through (`transport`).

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use minikv_proto::peer::{self, ask, reply};
use parking_lot::Mutex;
use prost::Message;
use tokio::sync::Notify;

use super::StartError;
use super::boot_number::{Boot, Lineage};
use super::boots::{Boots, Verdict, enough};
use super::twin_file::{Found, TwinFile};
use crate::env::disk::Disk;
use crate::env::{clock, task};
use crate::group::peers::Peers;
use crate::ids::{GroupId, NodeId};

const FORMAT: u32 = 1;
const MAGIC: [u8; 8] = *b"minikvBK";
/// How long a peer may take: it fsyncs four times.
const PATIENCE: Duration = Duration::from_secs(2);
/// Until the next question to a peer that did not answer.
const AGAIN: Duration = Duration::from_millis(100);
/// And to one that did: its table may know more by now.
const EVERY: Duration = Duration::from_secs(1);

/// Body of the file `boots`.
#[derive(Clone, PartialEq, Message)]
struct BootsRow {
    #[prost(message, repeated, tag = "1")]
    nodes: Vec<peer::KnownBoot>,
}

/// See the file's header.
pub(super) struct BootExchange {
    node: NodeId,
    own: Lineage,
    /// Everybody this node was founded with: the voters of a group that does not know its members yet.
    founders: BTreeSet<NodeId>,
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    known: Mutex<Boots>,
    standing: Mutex<Standing>,
    refused: Arc<Refused>,
    /// One change of the file at a time.
    writing: tokio::sync::Mutex<()>,
}

/// Whether this node was refused, for the one who waits for it.
#[derive(Default)]
struct Refused {
    why: Mutex<Option<String>>,
    is_so: Notify,
}

#[derive(Default)]
struct Standing {
    confirmed: BTreeSet<NodeId>,
    /// Groups among whose voters enough have confirmed: that is so for the rest of this run.
    open: BTreeSet<GroupId>,
}

fn nonce_of(boot: Boot) -> Bytes {
    Bytes::copy_from_slice(&boot.nonce.to_be_bytes())
}

fn row_of(node: NodeId, boot: Boot) -> peer::KnownBoot {
    peer::KnownBoot {
        node: node.0,
        number: boot.number,
        nonce: nonce_of(boot),
    }
}

fn boot_of(number: u64, nonce: &[u8]) -> Option<Boot> {
    let nonce = u128::from_be_bytes(nonce.try_into().ok()?);
    Some(Boot { number, nonce })
}

/// `None`: it cannot be read, and nothing of it is believed.
fn boots_of(rows: &[peer::KnownBoot]) -> Option<Boots> {
    let one = |row: &peer::KnownBoot| Some((NodeId(row.node), boot_of(row.number, &row.nonce)?));
    rows.iter().map(one).collect()
}

fn rows_of(boots: &Boots) -> Vec<peer::KnownBoot> {
    boots
        .iter()
        .map(|(node, boot)| row_of(node, boot))
        .collect()
}

fn file_in(dir: &Path) -> TwinFile {
    TwinFile::new(dir, "boots", MAGIC)
}

impl BootExchange {
    /// Reads what is known. A node that has not heard of anybody has no file.
    pub(super) fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        node: NodeId,
        own: Lineage,
        founders: BTreeSet<NodeId>,
    ) -> Result<BootExchange, StartError> {
        let found = file_in(dir).read(&*disk);
        let known = match found.map_err(StartError::io("read boots", dir))? {
            Found::Absent => Boots::default(),
            Found::Damaged(what) => return Err(StartError::damaged(dir, "boots", what)),
            // Two that differ: a change was cut between them, and what is known only rises.
            Found::Whole { bodies, .. } => {
                let read = |bytes: Bytes| boots_of(&BootsRow::decode(bytes).ok()?.nodes);
                let read = bodies.into_iter().map(|body| read(body.bytes));
                let whole: Option<Vec<Boots>> = read.collect();
                let whole = whole
                    .ok_or_else(|| StartError::damaged(dir, "boots", "unreadable".to_owned()))?;
                whole.iter().flat_map(Boots::iter).collect()
            }
        };
        Ok(BootExchange {
            node,
            own,
            founders,
            disk,
            dir: dir.to_owned(),
            known: Mutex::new(known),
            standing: Mutex::default(),
            refused: Arc::default(),
            writing: tokio::sync::Mutex::new(()),
        })
    }

    pub(super) fn own(&self) -> Boot {
        self.own.boot
    }

    /// Whether a newer run of its sender is known.
    pub(super) fn is_outdated(&self, from: NodeId, number: u64) -> bool {
        self.known.lock().is_outdated(from, number)
    }

    /// Everybody that this node has heard of, in this run and before.
    pub(super) fn heard_of(&self) -> Vec<NodeId> {
        self.known.lock().iter().map(|(node, _)| node).collect()
    }

    /// Everybody this node was founded with.
    pub(super) fn founders(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.founders.iter().copied()
    }

    /// Whether this run of a peer was confirmed here: nothing of an earlier one is heard any more.
    pub(super) fn is_newest(&self, from: NodeId, number: u64) -> bool {
        self.known.lock().is_newest(from, number)
    }

    /// Whether this node may vote, campaign and acknowledge in a group with these voters, as its log has them. `coming`: it was
    /// asked to be a member and has not yet what was agreed on then. Its log names old voters, or none: those that the leader
    /// told are asked, once it has told any.
    pub(super) fn lets(
        &self,
        group: GroupId,
        coming: Option<BTreeSet<NodeId>>,
        voters: impl FnOnce() -> Vec<BTreeSet<NodeId>>,
    ) -> bool {
        if self.refusal().is_some() {
            return false;
        }
        let mut standing = self.standing.lock();
        if standing.open.contains(&group) || crate::planted!("boot-not-confirmed-before-vote") {
            return true;
        }
        let is_coming = coming.is_some();
        let told = coming.filter(|told| !told.is_empty());
        let mut voters = told.map_or_else(voters, |told| vec![told]);
        if voters.iter().all(BTreeSet::is_empty) {
            if is_coming {
                return false;
            }
            voters = vec![self.founders.clone()];
        }
        let opens = enough(&voters, self.node, &standing.confirmed);
        // Once it has caught up its log says who votes by then.
        if opens && !is_coming {
            standing.open.insert(group);
        }
        opens
    }

    /// Why this node must not take part any more; waits until that is so. For one who waits.
    pub(super) fn refused(&self) -> impl Future<Output = String> + Send + 'static {
        let refused = self.refused.clone();
        async move {
            loop {
                if let Some(why) = refused.why.lock().clone() {
                    return why;
                }
                refused.is_so.notified().await;
            }
        }
    }

    /// Why this node must not take part any more, if that is so.
    pub(super) fn refusal(&self) -> Option<String> {
        self.refused.why.lock().clone()
    }

    fn refuse_this(&self, by: NodeId, known: Boot) {
        let why = format!(
            "node {} is refused: node {} knows a start number {} of it that this disk does not remember (this one is \
             number {}). It is an old copy of the disk, or another one under the same name; what the node acknowledged \
             may be lost here. Empty the data directory and let it join as a new node: \
             `minikv server --join TOKEN@HOST:9002`",
            self.node.0, by.0, known.number, self.own.boot.number
        );
        let mut refused = self.refused.why.lock();
        if refused.is_none() {
            tracing::error!("{why}");
            *refused = Some(why);
            self.refused.is_so.notify_one();
        }
    }

    /// Believes what `from` knows; on the disk before this returns.
    async fn learn(&self, from: NodeId, theirs: Boots) -> io::Result<()> {
        if let Some((_, known)) = theirs.iter().find(|(node, _)| *node == self.node)
            && !self.own.contains(known)
            && !crate::planted!("boot-number-ignored")
        {
            self.refuse_this(from, known);
        }
        let _alone = self.writing.lock().await;
        let mut all = self.known.lock().clone();
        let others = theirs.iter().filter(|(node, _)| *node != self.node);
        others.for_each(|(node, boot)| all.learn(node, boot));
        if all == *self.known.lock() {
            return Ok(());
        }
        let body = BootsRow {
            nodes: rows_of(&all),
        }
        .encode_to_vec();
        let (disk, file) = (self.disk.clone(), file_in(&self.dir));
        let write = async move { file.write(&*disk, FORMAT, &body).await };
        let written = task::spawn_thread("boots", write).await;
        written.map_err(io::Error::other)??;
        *self.known.lock() = all;
        Ok(())
    }

    fn table(&self) -> Vec<peer::KnownBoot> {
        rows_of(&self.known.lock())
    }

    /// What a peer is told that says which run it is. An error: nothing; it asks again.
    pub(super) async fn answer(
        &self,
        from: NodeId,
        asked: peer::Boot,
    ) -> Result<peer::Booted, String> {
        if let Some(why) = self.refusal() {
            return Err(why);
        }
        let theirs = boot_of(asked.number, &asked.nonce).ok_or("a boot that cannot be read")?;
        let mut table = boots_of(&asked.table).ok_or("a table of boots that cannot be read")?;
        let after = asked.after.and_then(|row| boot_of(row.number, &row.nonce));
        let verdict = self.known.lock().judge(from, theirs, after);
        if verdict == Verdict::Fine {
            table.learn(from, theirs);
            let learned = self.learn(from, table).await;
            learned.map_err(|error| format!("the table of boots was not written: {error}"))?;
        }
        // Judged again: two runs of one node may have asked at the same time.
        let verdict = self.known.lock().judge(from, theirs, after);
        Ok(peer::Booted {
            number: self.own().number,
            nonce: nonce_of(self.own()),
            instead: match verdict {
                Verdict::Fine => None,
                Verdict::Instead(known) => Some(row_of(from, known)),
            },
            table: self.table(),
        })
    }

    /// Hears what a peer says to this node's own question: which earlier run of this node it knows, if it did not confirm.
    async fn hear(&self, from: NodeId, said: peer::Booted) -> Result<Option<Boot>, String> {
        let theirs = boot_of(said.number, &said.nonce).ok_or("a boot that cannot be read")?;
        let table = boots_of(&said.table).ok_or("a table of boots that cannot be read")?;
        if self.is_outdated(from, theirs.number) {
            return Err("an older run of it answered".to_owned());
        }
        if let Some(instead) = said.instead {
            let known = boot_of(instead.number, &instead.nonce);
            let known = known.ok_or("a boot that cannot be read")?;
            if !self.own.contains(known) {
                self.refuse_this(from, known);
            }
            return Ok(Some(known));
        }
        // Which run of its own it is, it proves to who answers it, in its own question.
        let others = table.iter().filter(|(node, _)| *node != from);
        let table: Boots = others.collect();
        let learned = self.learn(from, table).await;
        learned.map_err(|error| format!("the table of boots was not written: {error}"))?;
        self.standing.lock().confirmed.insert(from);
        Ok(None)
    }

    /// Tells one peer of this run, for as long as it lasts.
    pub(super) async fn tell(self: Arc<Self>, to: NodeId, peers: Arc<dyn Peers>) {
        let mut after = None;
        loop {
            let what = ask::What::Boot(peer::Boot {
                number: self.own().number,
                nonce: nonce_of(self.own()),
                table: self.table(),
                after: after.map(|known| row_of(self.node, known)),
            });
            // Of no group: the first one stands for the node.
            let said = peers.ask(to, GroupId::DIRECTORY, what, PATIENCE).await;
            let heard = match said {
                Ok(reply::What::Booted(said)) => self.hear(to, said).await,
                Ok(_) => Err("no answer to a boot".to_owned()),
                Err(error) => Err(error.to_string()),
            };
            if self.refusal().is_some() {
                return;
            }
            match heard {
                Ok(None) => clock::sleep(EVERY).await,
                // It is told that this run came after that one.
                Ok(Some(known)) if after != Some(known) => after = Some(known),
                Ok(Some(_)) => clock::sleep(AGAIN).await,
                Err(why) => {
                    tracing::debug!(to = to.0, why, "this boot is not confirmed");
                    clock::sleep(AGAIN).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::env::sim::{SimDisk, run};

    /// The bytes of docs/formats/data-dir.md. A format that changes gets another one beside it; this stays readable.
    const GOLDEN: &str = "6d696e696b76424b00000001000000190a17080210ac021a10101112131415161718191a1b1c1d1e1fb586a0a0";

    fn boot(number: u64, nonce: u128) -> Boot {
        Boot { number, nonce }
    }

    fn exchange(disk: &SimDisk, node: u64, own: Lineage) -> BootExchange {
        let founders = [1, 2, 3].map(NodeId).into();
        let dir = Path::new("/data");
        BootExchange::open(disk.env().disk, dir, NodeId(node), own, founders).unwrap()
    }

    fn disk() -> SimDisk {
        let disk = SimDisk::new(1);
        disk.plant_dir("/data").unwrap();
        disk
    }

    fn asks(own: Boot, table: &Boots) -> peer::Boot {
        peer::Boot {
            number: own.number,
            nonce: nonce_of(own),
            table: rows_of(table),
            after: None,
        }
    }

    #[test]
    fn a_table_of_boots_of_the_first_version_is_written_and_read_byte_for_byte() {
        let row = BootsRow {
            nodes: vec![row_of(
                NodeId(2),
                boot(300, 0x1011_1213_1415_1617_1819_1a1b_1c1d_1e1f),
            )],
        };
        let file = file_in(Path::new("/data"));
        let bytes = file.encode(FORMAT, &row.encode_to_vec());
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, GOLDEN);
        let body = file.decode(&bytes).unwrap();
        assert_eq!(BootsRow::decode(body.bytes).unwrap(), row);
    }

    /// The confirmation is a promise: a power cut right after it must not make the peer forget which run it confirmed.
    #[test]
    fn a_confirmed_boot_is_known_after_a_power_cut() {
        run(1, async {
            let disk = disk();
            let this = exchange(&disk, 2, Lineage::of(1, &[1]));
            let said = this.answer(NodeId(1), asks(boot(5, 50), &Boots::default()));
            assert!(said.await.unwrap().instead.is_none());
            for choice in disk.power_cuts() {
                let after = disk.after_power_cut(&choice);
                let this = exchange(&after, 2, Lineage::of(2, &[2, 1]));
                let again = this.answer(NodeId(1), asks(boot(5, 51), &Boots::default()));
                let instead = again.await.unwrap().instead.unwrap();
                assert_eq!(boot_of(instead.number, &instead.nonce), Some(boot(5, 50)));
                assert!(this.is_outdated(NodeId(1), 4));
            }
        });
    }

    /// Seed 568: a node that founded the cluster came back to a group, and its founders had been removed. It asked them to
    /// confirm it for ever.
    #[test]
    fn who_comes_back_to_a_group_does_not_wait_for_its_founders() {
        run(1, async {
            let this = exchange(&disk(), 1, Lineage::of(1, &[1]));
            let unknown = || vec![BTreeSet::new()];
            let first_entry = || vec![[NodeId(1)].into()];
            let now: BTreeSet<NodeId> = [1, 4, 6].map(NodeId).into();
            let confirms = |node| _ = this.standing.lock().confirmed.insert(NodeId(node));
            assert!(!this.lets(GroupId(1), None, unknown), "it founds");
            assert!(!this.lets(GroupId(1), Some(BTreeSet::new()), unknown));
            assert!(!this.lets(GroupId(1), Some(now.clone()), first_entry));
            confirms(2);
            assert!(!this.lets(GroupId(1), Some(now.clone()), first_entry));
            confirms(6);
            assert!(this.lets(GroupId(1), Some(now.clone()), first_entry));
            // That says nothing about who votes once it has caught up.
            assert!(!this.lets(GroupId(1), None, || vec![[1, 7, 8].map(NodeId).into()]));
            assert!(this.lets(GroupId(1), None, || vec![now.clone()]));
        });
    }

    /// A peer may have confirmed an old copy because it never heard of the newer run; another one that has tells it, and
    /// then the old copy itself learns of it.
    #[test]
    fn a_run_that_somebody_else_knows_better_is_refused() {
        run(1, async {
            let disk = disk();
            // It counted on after it was put back.
            let this = exchange(&disk, 1, Lineage::of(7, &[71, 61, 51, 40]));
            let table: Boots = [(NodeId(1), boot(5, 50))].into_iter().collect();
            let heard = this.answer(NodeId(3), asks(boot(1, 3), &table)).await;
            assert!(heard.is_ok());
            let why = this.refusal().unwrap();
            assert!(why.contains("--join"), "{why}");
            assert!(!this.lets(GroupId(1), None, || vec![[NodeId(1)].into()]));
            // It says nothing to anybody any more.
            assert!(
                this.answer(NodeId(3), asks(boot(1, 3), &table))
                    .await
                    .is_err()
            );
        });
    }
}
