//! Counts that the store keeps, held against what is there.

use crate::oracle::Seen;
use crate::world::World;

/// The groups' counts of objects and bytes must be those of what was seen.
pub async fn check(world: &World, seen: &Seen) -> Result<(), String> {
    let status = world.node.status().await;
    let objects: u64 = status.groups.iter().map(|group| group.objects).sum();
    let bytes: u64 = status.groups.iter().map(|group| group.bytes).sum();
    if (objects, bytes) != (seen.versions(), seen.bytes()) {
        return Err(format!(
            "the groups count {objects} objects with {bytes} bytes; there are {} with {}",
            seen.versions(),
            seen.bytes()
        ));
    }
    Ok(())
}
