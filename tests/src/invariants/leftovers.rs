//! A minute after the clients' last call nothing is stuck: no transaction, no intent, no push of facts, and no session of a run
//! that is over (one that nobody uses ends after some seconds).

use std::collections::BTreeSet;
use std::sync::Arc;

use minikv_core::kv::KvError;
use minikv_core::node::Node;

/// What is left on these nodes' copies.
pub fn check(nodes: &[Arc<Node>]) -> Vec<String> {
    let left = nodes.iter().map(|node| node.loose_ends());
    let left = left.collect::<Result<Vec<_>, KvError>>();
    match left.and_then(|left| Ok((left.concat(), sessions(nodes)?))) {
        Ok((ends, sessions)) => {
            let left = ends.into_iter().chain(sessions);
            left.map(|what| format!("left behind: {what}")).collect()
        }
        Err(error) => vec![format!("a copy cannot be read: {error}")],
    }
}

fn sessions(nodes: &[Arc<Node>]) -> Result<Vec<String>, KvError> {
    let (mut there, mut own) = (BTreeSet::new(), BTreeSet::new());
    for node in nodes {
        for of in node.sessions()? {
            there.extend(of.all.into_iter().map(|id| (of.group.0, id)));
            own.extend(of.own.map(|id| (of.group.0, id)));
        }
    }
    let left = there.difference(&own);
    Ok(left
        .map(|(group, id)| format!("g{group}: session {id} of nobody"))
        .collect())
}
