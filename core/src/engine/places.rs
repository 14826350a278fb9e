//! Stand-in until branch engine brings the real one.
#![allow(missing_docs)]
use std::collections::BTreeMap;

use parking_lot::Mutex;

use super::EngineError;
use crate::ids::{StageId, VShard};
use crate::log::{Complete, Item, Liveness, Place, Stream};

#[derive(Default)]
pub struct Places {
    all: Mutex<BTreeMap<Item, Place>>,
    complete: Mutex<Complete>,
}

impl Places {
    pub fn put(&self, places: &[(Item, Place)]) -> Result<(), EngineError> {
        self.all.lock().extend(places.iter().copied());
        Ok(())
    }
    pub fn remove(&self, items: &[Item]) -> Result<(), EngineError> {
        let mut all = self.all.lock();
        for item in items {
            all.remove(item);
        }
        Ok(())
    }
    pub fn get(&self, item: &Item) -> Result<Option<Place>, EngineError> {
        Ok(self.all.lock().get(item).copied())
    }
    pub fn under_stage(&self, vshard: VShard, stage: StageId) -> Result<Vec<Item>, EngineError> {
        let all = self.all.lock();
        let of_stage = |item: &&Item| matches!(item, Item::Frame { chunk, .. } if chunk.vshard == vshard && chunk.stage == stage);
        Ok(all.keys().filter(of_stage).copied().collect())
    }
    pub fn overlay_bytes(&self) -> usize {
        0
    }
    pub async fn checkpoint(&self, complete: Complete) -> Result<(), EngineError> {
        *self.complete.lock() = complete;
        Ok(())
    }
}

impl Liveness for Places {
    fn live_bytes(&self, stream: Stream, segment: u32) -> u64 {
        let all = self.all.lock();
        let here = all.values().filter(|place| place.stream == stream && place.position.segment() == segment);
        here.map(|place| u64::from(place.len)).sum()
    }
    fn live_items(&self, stream: Stream, segment: u32) -> Result<Vec<(Item, Place)>, String> {
        let all = self.all.lock();
        let here = all.iter().filter(|(_, place)| place.stream == stream && place.position.segment() == segment);
        Ok(here.map(|(item, place)| (*item, *place)).collect())
    }
    fn moved(&self, item: &Item, from: Place, to: Place) -> Result<bool, String> {
        let mut all = self.all.lock();
        match all.get_mut(item) {
            Some(place) if *place == from => {
                *place = to;
                Ok(true)
            }
            _ => Ok(false),
        }
    }
}
