//! How much there is: for metrics, status output and drivers.

use alys_stream_protocol::message::{Priority, Seq};

use super::{EndpointId, Outbox};

impl Outbox {
    /// Messages that wait to be sent to an endpoint, in memory or not. Of those that were not in
    /// memory yet since the start, it counts each.
    #[must_use]
    pub fn queued(&self, id: EndpointId) -> usize {
        let Some(endpoint) = self.endpoints.get(&id) else {
            return 0;
        };
        let behind =
            Priority::ALL.into_iter().rev().zip(&endpoint.lanes).map(|(priority, lane)| {
                let Some(at) = lane.at else {
                    return 0;
                };
                let there = self.pages.count_for_endpoint(endpoint.slot, priority, at);
                there.saturating_sub(lane.taken.range(at..).count())
            });
        endpoint.queued_count() + behind.sum::<usize>()
    }

    /// Whether messages are being read back because their turn has come.
    #[must_use]
    pub fn is_loading(&self) -> bool {
        !self.loading.is_empty()
    }

    /// Messages sent to an endpoint and not acknowledged.
    #[must_use]
    pub fn in_flight(&self, id: EndpointId) -> usize {
        self.endpoints.get(&id).map_or(0, super::endpoint::Endpoint::in_flight_count)
    }

    /// Messages that are neither settled nor dead, by the index of their priority (0 low to 3 critical).
    #[must_use]
    pub const fn unsettled(&self) -> [usize; 4] {
        self.pages.live()
    }

    /// Messages in memory that are under `any` and wait for an endpoint with room, by the index of
    /// their priority (0 low to 3 critical).
    #[must_use]
    pub fn unassigned(&self) -> [usize; 4] {
        let by_index = [Priority::Low, Priority::Normal, Priority::High, Priority::Critical];
        by_index.map(|priority| self.waiting(priority))
    }

    /// Refused messages in memory that wait for their next attempt.
    #[must_use]
    pub fn retrying(&self) -> usize {
        self.retries.count()
    }

    /// Messages in memory; the others are a few bits each.
    #[must_use]
    pub fn resident(&self) -> usize {
        self.items.len()
    }

    /// Whether a message is in memory. One that is live and is not comes back with
    /// [`Outbox::handle_loaded`] when its turn comes.
    #[must_use]
    pub fn is_resident(&self, seq: Seq) -> bool {
        self.items.contains_key(&seq)
    }

    /// Bytes that the bits of all live messages take, nearly.
    #[must_use]
    pub fn bits_bytes(&self) -> usize {
        self.pages.bytes()
    }

    /// Whether a message is neither settled nor dead.
    #[must_use]
    pub fn contains(&self, seq: Seq) -> bool {
        self.pages.is_live(seq)
    }
}
