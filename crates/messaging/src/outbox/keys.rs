//! Ordering keys: which unsettled messages share one, where they are pinned, who holds back whom.

use std::collections::{BTreeMap, BTreeSet};

use alys_stream_protocol::message::{OrderingKey, Priority, Seq};

use super::EndpointId;

#[derive(Debug, Default)]
struct Key {
    unsettled: BTreeSet<Seq>,
    /// Where messages under `any` go while one of them is unsettled.
    pin: Option<EndpointId>,
    /// Refused there and waiting for a retry.
    waiting: BTreeSet<(EndpointId, Seq)>,
    /// Behind one of those.
    held: BTreeSet<(EndpointId, Seq)>,
}

/// Keys of unsettled messages, each with its priority: the order is kept within both.
#[derive(Debug, Default)]
pub(super) struct Keys {
    keys: BTreeMap<(OrderingKey, Priority), Key>,
}

impl Keys {
    fn find(&mut self, key: &OrderingKey, priority: Priority) -> Option<&mut Key> {
        self.keys.get_mut(&(key.clone(), priority))
    }

    pub(super) fn handle_accepted(&mut self, key: &OrderingKey, priority: Priority, seq: Seq) {
        self.keys.entry((key.clone(), priority)).or_default().unsettled.insert(seq);
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
        &mut self,
        key: &OrderingKey,
        priority: Priority,
        seq: Seq,
        id: EndpointId,
    ) -> bool {
        self.find(key, priority)
            .is_some_and(|key| key.waiting.range((id, Seq(0))..(id, seq)).next().is_some())
    }

    pub(super) fn hold(&mut self, key: &OrderingKey, priority: Priority, seq: Seq, id: EndpointId) {
        if let Some(key) = self.find(key, priority) {
            key.held.insert((id, seq));
        }
    }

    pub(super) fn wait(&mut self, key: &OrderingKey, priority: Priority, seq: Seq, id: EndpointId) {
        if let Some(key) = self.find(key, priority) {
            key.waiting.insert((id, seq));
        }
    }

    /// A message does not wait for a retry any more; returns what it held back, in order.
    pub(super) fn stop_waiting(
        &mut self,
        key: &OrderingKey,
        priority: Priority,
        seq: Seq,
        id: EndpointId,
    ) -> Vec<Seq> {
        self.find(key, priority).map_or_else(Vec::new, |key| {
            if key.waiting.remove(&(id, seq)) { key.release(id) } else { Vec::new() }
        })
    }

    /// A message is not to be sent any more, wherever it was held back.
    pub(super) fn unhold(&mut self, key: &OrderingKey, priority: Priority, seq: Seq) {
        if let Some(key) = self.find(key, priority) {
            key.held.retain(|(_, held)| *held != seq);
        }
    }

    /// A message ended; returns what it held back, per endpoint.
    pub(super) fn remove(
        &mut self,
        key: &OrderingKey,
        priority: Priority,
        seq: Seq,
    ) -> Vec<(EndpointId, Vec<Seq>)> {
        let Some(found) = self.find(key, priority) else {
            return Vec::new();
        };
        found.unsettled.remove(&seq);
        found.held.retain(|(_, held)| *held != seq);
        let waited: Vec<EndpointId> = found
            .waiting
            .iter()
            .filter(|(_, waiting)| *waiting == seq)
            .map(|(id, _)| *id)
            .collect();
        found.waiting.retain(|(_, waiting)| *waiting != seq);
        let released = waited.into_iter().map(|id| (id, found.release(id))).collect();
        if found.unsettled.is_empty() {
            self.keys.remove(&(key.clone(), priority));
        }
        released
    }

    /// Messages under `any` leave the endpoint: they are chosen again. Those of other policies
    /// stay, and keep waiting.
    pub(super) fn handle_endpoint_lost(&mut self, id: EndpointId) {
        for key in self.keys.values_mut() {
            if key.pin == Some(id) {
                key.pin = None;
            }
        }
    }

    /// A message under `any` left the endpoint; returns what it held back there.
    pub(super) fn unassign(
        &mut self,
        key: &OrderingKey,
        priority: Priority,
        seq: Seq,
        id: EndpointId,
    ) -> Vec<Seq> {
        if let Some(key) = self.find(key, priority) {
            key.held.remove(&(id, seq));
        }
        self.stop_waiting(key, priority, seq, id)
    }

    pub(super) fn handle_endpoint_removed(&mut self, id: EndpointId) {
        for key in self.keys.values_mut() {
            key.waiting.retain(|(other, _)| *other != id);
            key.held.retain(|(other, _)| *other != id);
        }
    }
}

impl Key {
    fn release(&mut self, id: EndpointId) -> Vec<Seq> {
        let released: Vec<Seq> =
            self.held.iter().filter(|(held, _)| *held == id).map(|(_, seq)| *seq).collect();
        self.held.retain(|(held, _)| *held != id);
        released
    }
}
