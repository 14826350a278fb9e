//! At every moment that anybody looks, a chunk that a node's state names lies there, or the short list says that it does not.
//! After healing and some quiet, every chunk that the state names lies on every node, whole, and nothing else lies there:
//! the short list is empty, abandoned stages and freed chunks are gone. The same of inline contents.

use std::time::Duration;

use minikv_core::node::Node;

/// How long that may take: an idle stage is given up after a minute, chunks are released 15 s after they were freed.
pub const BOUND: Duration = Duration::from_secs(180);

/// Lines that a failure shows.
const SHOWN: usize = 20;

/// What is not so yet on one node. `gone`: nodes that lost their disks for good.
pub fn check(node: u64, running: &Node, gone: &[u64]) -> Vec<String> {
    let loose = match running.loose_bytes(gone) {
        Ok(loose) => loose,
        Err(error) => vec![format!("a copy cannot be read: {error}")],
    };
    let lines = loose.into_iter().take(SHOWN);
    lines.map(|what| format!("node {node}: {what}")).collect()
}

/// Chunks that one node lacks without anybody's knowledge.
pub fn gaps(node: u64, running: &Node) -> Vec<String> {
    let gaps = running.unknown_gaps().unwrap_or_default();
    let lines = gaps.into_iter().take(SHOWN);
    lines
        .map(|what| format!("node {node}: {what} is missing, and not on the short list"))
        .collect()
}

/// Reads every chunk from this node's own disk.
pub async fn read(node: u64, running: &Node) -> Vec<String> {
    match running.bad_chunks().await {
        Ok(bad) => {
            let lines = bad.into_iter().take(SHOWN);
            lines.map(|what| format!("node {node}: {what}")).collect()
        }
        Err(error) => vec![format!("node {node}: a copy cannot be read: {error}")],
    }
}
