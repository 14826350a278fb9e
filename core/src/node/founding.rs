//! The first entries of a new cluster.

use bytes::Bytes;
use minikv_proto::{entry as wire, row};

use super::identity::Identity;
use super::{NodeOptions, StartError};
use crate::env::{clock, random};
use crate::group::{Group, Standing};
use crate::ids::{GroupId, NodeId};
use crate::kv::{Credentials, KvError};
use crate::shard::router::Router;
use crate::state::answer::Answer;
use crate::state::entry::Body;
use crate::state::read;
use std::sync::Arc;
use std::time::Duration;

/// How often a node that is not settled looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Forms groups that are not formed yet and founds the cluster if it is not; takes over other root credentials.
/// A start that was cut anywhere in here goes on at the next one: every step is looked for first.
pub(super) async fn found(
    router: &Arc<Router>,
    identity: &Identity,
    options: &NodeOptions,
) -> Result<(), StartError> {
    let voters = options.voters(identity.node);
    let map = router.map();
    let groups: Vec<Arc<Group>> = router.groups.all().collect();
    let formed = groups.iter().map(|group| {
        let vshards = map
            .of_group(group.id)
            .map(|vshard| u32::from(vshard.0))
            .collect();
        form(group, &voters, vshards)
    });
    let formed: Result<Vec<()>, StartError> = futures::future::join_all(formed)
        .await
        .into_iter()
        .collect();
    formed?;
    let failed = |error: KvError| StartError::Group {
        group: GroupId::DIRECTORY,
        what: error.to_string(),
    };
    let directory = router.directory().map_err(failed)?;
    if matches!(
        directory.standing(),
        Standing::ReadOnly(_) | Standing::Behind(_) | Standing::Refused(_)
    ) {
        return Ok(());
    }
    let view = directory.read().await.map_err(failed)?;
    let cluster = read::cluster(&*view).map_err(|error| StartError::Engine(error.to_string()))?;
    drop(view);
    if cluster.is_none() {
        let root = options.root.clone().unwrap_or_else(draw_credentials);
        let answer = directory
            .own(founding(identity, &voters, &root))
            .await
            .map_err(failed)?;
        if !matches!(answer, Answer::Done(_)) {
            return Err(failed(KvError::Unavailable(format!("{answer:?}"))));
        }
    } else if let Some(root) = &options.root {
        router.set_root(root).await.map_err(failed)?;
    }
    router.reload().await.map_err(failed)
}

async fn form(group: &Group, voters: &[NodeId], vshards: Vec<u32>) -> Result<(), StartError> {
    let failed = |what: String| StartError::Group {
        group: group.id,
        what,
    };
    if matches!(
        group.standing(),
        Standing::ReadOnly(_) | Standing::Behind(_) | Standing::Refused(_)
    ) {
        return Ok(());
    }
    let view = group
        .read()
        .await
        .map_err(|error| failed(error.to_string()))?;
    let incarnation = read::incarnation(&*view).map_err(|error| failed(error.to_string()))?;
    drop(view);
    if incarnation.is_some() {
        return Ok(());
    }
    let body = Body::FormGroup(wire::FormGroup {
        members: voters.iter().map(|node| node.0).collect(),
        vshards,
        vshard_epoch: 1,
        incarnation: 1,
    });
    match group.own(body).await {
        Ok(Answer::Done(_)) => Ok(()),
        Ok(other) => Err(failed(format!("{other:?}"))),
        Err(error) => Err(failed(error.to_string())),
    }
}

/// In a cluster: the first of its founders founds it, the others wait until it has, and both as long as it takes a majority
/// to be there.
pub(super) async fn settle(router: Arc<Router>, identity: Identity, options: NodeOptions) {
    let founds = options.voters(identity.node).first() == Some(&identity.node);
    loop {
        // It was founded long ago, and this node has no member of group 0 any more.
        if router.groups.find(GroupId::DIRECTORY).is_none() && router.deal_as_known().is_some() {
            return;
        }
        let settled = match founds {
            true => found(&router, &identity, &options).await,
            false => founded_by_another(&router).await,
        };
        match settled {
            Ok(()) => return,
            Err(error) => tracing::debug!(%error, "the cluster is not founded yet"),
        }
        clock::sleep(LOOK_AGAIN).await;
    }
}

async fn founded_by_another(router: &Router) -> Result<(), StartError> {
    let failed = |error: KvError| StartError::Group {
        group: GroupId::DIRECTORY,
        what: error.to_string(),
    };
    let directory = router.directory().map_err(failed)?;
    let view = directory.read().await.map_err(failed)?;
    let cluster = read::cluster(&*view).map_err(|error| StartError::Engine(error.to_string()))?;
    drop(view);
    match cluster {
        Some(_) => router.reload().await.map_err(failed),
        None => Err(failed(KvError::Unavailable("not founded".to_owned()))),
    }
}

fn founding(identity: &Identity, voters: &[NodeId], root: &Credentials) -> Body {
    let mut nodes = voters.iter().map(|node| row::Node {
        id: node.0,
        weight: 1,
        incarnation: 1,
        joined_ms: clock::wall_ms(),
        ..row::Node::default()
    });
    Body::FoundCluster(wire::FoundCluster {
        id: Bytes::copy_from_slice(&identity.cluster.to_be_bytes()),
        data_groups: u32::from(identity.data_groups),
        region: "us-east-1".to_owned(),
        root_access_key: root.access_key.clone(),
        root: Some(row::Credential {
            secret: root.secret_key.clone(),
            root: true,
            tenant: 1,
            created_ms: clock::wall_ms(),
            settings: Bytes::new(),
        }),
        first_node: nodes.next(),
        other_nodes: nodes.collect(),
    })
}

/// Root credentials of a new cluster: 20 and 40 characters, as AWS's look.
fn draw_credentials() -> Credentials {
    const KEY: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    const SECRET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let draw = |alphabet: &[u8], len: usize| -> String {
        let mut bytes = vec![0; len];
        random::fill(&mut bytes);
        // The alphabets have 32 and 64 letters: no letter is likelier than another.
        bytes
            .iter()
            .map(|byte| char::from(alphabet[usize::from(*byte) % alphabet.len()]))
            .collect()
    };
    Credentials {
        access_key: draw(KEY, 20),
        secret_key: draw(SECRET, 40),
    }
}
