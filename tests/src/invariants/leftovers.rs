//! A minute after healing nothing is stuck: no transaction, no intent, no push of facts.

use minikv_core::node::Node;

/// What is left on one node's copies.
pub fn check(node: &Node) -> Vec<String> {
    match node.loose_ends() {
        Ok(left) => left
            .into_iter()
            .map(|what| format!("left behind: {what}"))
            .collect(),
        Err(error) => vec![format!("a copy cannot be read: {error}")],
    }
}
