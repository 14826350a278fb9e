//! Counts that the store keeps, held against what is there.

use crate::oracle::Seen;
use crate::world::World;

/// The groups' counts must be those of what was seen, once freed uploads have been worked off.
pub async fn check(world: &World, seen: &Seen) -> Result<(), String> {
    world
        .node
        .sweep_now()
        .await
        .map_err(|error| format!("a sweep is refused: {error}"))?;
    let status = world.node.status().await;
    let mut counted = [0; 5];
    for usage in status.groups.iter().map(|group| &group.usage) {
        let of_group = [
            usage.bytes,
            usage.objects,
            usage.versions,
            usage.markers,
            usage.uploads,
        ];
        counted
            .iter_mut()
            .zip(of_group)
            .for_each(|(sum, count)| *sum += count);
    }
    let keys = || seen.buckets.values().flat_map(|keys| keys.values());
    let there = [
        seen.bytes(),
        keys().filter(|key| key.current().is_some()).count() as u64,
        keys()
            .flat_map(|key| &key.versions)
            .filter(|version| version.is_some())
            .count() as u64,
        keys()
            .flat_map(|key| &key.versions)
            .filter(|version| version.is_none())
            .count() as u64,
        keys().map(|key| key.uploads.len() as u64).sum(),
    ];
    if counted != there {
        return Err(format!(
            "the groups count {counted:?} bytes, objects, versions, markers, uploads; there are {there:?}"
        ));
    }
    Ok(())
}
