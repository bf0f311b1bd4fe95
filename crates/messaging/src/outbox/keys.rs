//! Ordering keys of the messages in memory: where they are pinned, and who waits for a retry.

use std::collections::{BTreeMap, BTreeSet};

use alys_stream_protocol::message::{OrderingKey, Priority, Seq};

use super::EndpointId;

#[derive(Debug, Default)]
struct Key {
    /// Messages in memory.
    count: usize,
    /// Those of them under `any`.
    any: BTreeSet<Seq>,
    /// Where messages under `any` go while one of them is in memory.
    pin: Option<EndpointId>,
    /// Refused there and waiting for a retry.
    waiting: BTreeSet<(EndpointId, Seq)>,
}

/// A key and a priority: the order is kept within both.
pub(super) type Name = (OrderingKey, Priority);

/// Keys of messages in memory.
#[derive(Debug, Default)]
pub(super) struct Keys {
    keys: BTreeMap<Name, Key>,
}

impl Keys {
    fn find(&mut self, key: &OrderingKey, priority: Priority) -> Option<&mut Key> {
        self.keys.get_mut(&(key.clone(), priority))
    }

    /// A message of the key is in memory.
    pub(super) fn handle_entered(&mut self, name: Name, seq: Seq, is_any: bool) {
        let key = self.keys.entry(name).or_default();
        key.count += 1;
        if is_any {
            key.any.insert(seq);
        }
    }

    /// Messages of the key under `any` in memory, before `seq`.
    pub(super) fn any_before(&self, name: &Name, seq: Seq) -> impl Iterator<Item = Seq> {
        self.keys.get(name).into_iter().flat_map(move |key| key.any.range(..seq)).copied()
    }

    /// A message of the key is not in memory any more; returns whether it was the last.
    pub(super) fn handle_left(&mut self, key: &OrderingKey, priority: Priority, seq: Seq) -> bool {
        let Some(found) = self.find(key, priority) else {
            return false;
        };
        found.count -= 1;
        found.any.remove(&seq);
        let is_last = found.count == 0;
        if is_last {
            debug_assert!(found.waiting.is_empty(), "invariant M24: what waits is in memory");
            self.keys.remove(&(key.clone(), priority));
        }
        is_last
    }

    pub(super) fn pin(&mut self, key: &OrderingKey, priority: Priority) -> Option<EndpointId> {
        self.find(key, priority)?.pin
    }

    pub(super) fn set_pin(&mut self, key: &OrderingKey, priority: Priority, id: EndpointId) {
        if let Some(key) = self.find(key, priority) {
            key.pin = Some(id);
        }
    }

    /// Whether an earlier message of the key waits for a retry at the endpoint.
    pub(super) fn is_held(
        &self,
        key: &OrderingKey,
        priority: Priority,
        seq: Seq,
        id: EndpointId,
    ) -> bool {
        self.keys
            .get(&(key.clone(), priority))
            .is_some_and(|key| key.waiting.range((id, Seq(0))..(id, seq)).next().is_some())
    }

    pub(super) fn wait(&mut self, key: &OrderingKey, priority: Priority, seq: Seq, id: EndpointId) {
        if let Some(key) = self.find(key, priority) {
            key.waiting.insert((id, seq));
        }
    }

    /// A message does not wait for a retry any more.
    pub(super) fn stop_waiting(
        &mut self,
        key: &OrderingKey,
        priority: Priority,
        seq: Seq,
        id: EndpointId,
    ) {
        if let Some(key) = self.find(key, priority) {
            key.waiting.remove(&(id, seq));
        }
    }

    /// Only these keys stay pinned to the endpoint; returns those that are free now.
    pub(super) fn keep_pins(&mut self, id: EndpointId, kept: &BTreeSet<Name>) -> Vec<Name> {
        let mut freed = Vec::new();
        for (name, key) in &mut self.keys {
            if key.pin == Some(id) && !kept.contains(name) {
                key.pin = None;
                freed.push(name.clone());
            }
        }
        freed
    }

    /// Messages under `any` leave the endpoint: they are chosen again.
    pub(super) fn handle_endpoint_lost(&mut self, id: EndpointId) {
        for key in self.keys.values_mut() {
            if key.pin == Some(id) {
                key.pin = None;
            }
        }
    }
}
