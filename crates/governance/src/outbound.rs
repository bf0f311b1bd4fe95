//! What is still to be sent to each node: answers and pushes, by sequence number.
//!
//! Pure. All nodes share one log, so a node gets some numbers of it and never the others; whose a
//! record is stands in its ordering key, so that it is known again after a restart.
//!
//! What is critical (an emergency halt) goes ahead of everything else; the rest keeps its order.
//!
//! Invariants:
//! - G6: a record is handed out to one session at a time, in the order of its class, until it is
//!   acknowledged or given up; what was handed out goes back in order when the session ends.

use std::collections::{BTreeMap, BTreeSet};

use alys_stream_protocol::message::{Priority, Seq};
use alys_stream_protocol::seq_set::SeqSet;
use alys_stream_transport::exchange::Budget;

/// A batch ends with the record that reaches this many payload bytes.
const BATCH_BYTES_MAX: u64 = alys_stream_protocol::limits::BATCH_BYTES_MAX as u64;

/// In the order in which classes are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Critical,
    Other,
}

impl Class {
    const ALL: [Self; 2] = [Self::Critical, Self::Other];

    const fn of(priority: Priority) -> Self {
        match priority {
            Priority::Critical => Self::Critical,
            Priority::High | Priority::Normal | Priority::Low => Self::Other,
        }
    }
}

#[derive(Debug, Default)]
struct Queue {
    /// To be sent, and its payload bytes.
    queued: BTreeMap<(Class, Seq), u64>,
    in_flight: BTreeMap<(Class, Seq), u64>,
    /// Which session of this node is the current one.
    session: u64,
    is_connected: bool,
    /// The longest payload that its node takes.
    payload_bytes_max: u64,
}

/// The queues of all nodes.
#[derive(Debug, Default)]
pub(crate) struct Outbound {
    nodes: BTreeMap<String, Queue>,
}

impl Outbound {
    /// A record for a node is durable.
    pub(crate) fn handle_durable(
        &mut self,
        node_id: &str,
        seq: Seq,
        priority: Priority,
        bytes: u64,
    ) {
        if !self.nodes.contains_key(node_id) {
            self.nodes.insert(node_id.to_owned(), Queue::default());
        }
        if let Some(queue) = self.nodes.get_mut(node_id) {
            queue.queued.insert((Class::of(priority), seq), bytes);
        }
    }

    /// A node opened a session and has stored `received`; it takes no payload longer than
    /// `payload_bytes_max`. Returns what that settles.
    /// An earlier session of the same node gets nothing any more.
    pub(crate) fn handle_connected(
        &mut self,
        node_id: &str,
        session: u64,
        payload_bytes_max: u32,
        received: &SeqSet,
    ) -> SeqSet {
        let queue = self.nodes.entry(node_id.to_owned()).or_default();
        queue.queued.append(&mut queue.in_flight);
        queue.session = session;
        queue.is_connected = true;
        queue.payload_bytes_max = payload_bytes_max.into();
        let settled: SeqSet =
            queue.queued.keys().map(|(_, seq)| *seq).filter(|s| received.contains(*s)).collect();
        queue.queued.retain(|(_, seq), _| !received.contains(*seq));
        settled
    }

    /// A session ended.
    pub(crate) fn handle_lost(&mut self, node_id: &str, session: u64) {
        if let Some(queue) = self.current(node_id, session) {
            queue.queued.append(&mut queue.in_flight);
            queue.is_connected = false;
        }
    }

    /// What may be sent now, within the budget; and whatever is longer than the node takes at all:
    /// the session reports that as refused, so it stands before nothing.
    pub(crate) fn poll_batch(&mut self, node_id: &str, session: u64, budget: Budget) -> Vec<Seq> {
        let mut batch = Vec::new();
        let Some(queue) = self.current(node_id, session) else {
            return batch;
        };
        let mut batch_bytes = 0_u64;
        while let Some(entry) = queue.queued.first_entry() {
            let (bytes, (class, seq)) = (*entry.get(), *entry.key());
            let (messages_max, bytes_max, large_bytes_max) = match class {
                Class::Critical => {
                    let (messages, bytes) = budget.of(Priority::Critical);
                    (messages, bytes, u64::MAX)
                }
                Class::Other => (budget.messages, budget.bytes, budget.large_bytes_max),
            };
            let is_too_long = bytes > queue.payload_bytes_max;
            let is_full = batch.len() >= usize::try_from(messages_max).unwrap_or(usize::MAX)
                || batch_bytes >= BATCH_BYTES_MAX;
            let fits = batch_bytes.saturating_add(bytes) <= bytes_max && bytes <= large_bytes_max;
            if is_full || !(fits || is_too_long) {
                break;
            }
            entry.remove();
            queue.in_flight.insert((class, seq), bytes);
            if !is_too_long {
                batch_bytes += bytes;
            }
            batch.push(seq);
        }
        batch
    }

    /// A node has stored records. Returns those that were still owed to it.
    pub(crate) fn handle_ack(&mut self, node_id: &str, ranges: &SeqSet) -> SeqSet {
        let Some(queue) = self.nodes.get_mut(node_id) else {
            return SeqSet::new();
        };
        let mut owed = BTreeSet::new();
        for range in ranges.ranges() {
            for class in Class::ALL {
                let range = (class, *range.start())..=(class, *range.end());
                owed.extend(queue.in_flight.range(range.clone()).map(|(key, _)| *key));
                owed.extend(queue.queued.range(range).map(|(key, _)| *key));
            }
        }
        for key in &owed {
            queue.in_flight.remove(key);
            queue.queued.remove(key);
        }
        owed.into_iter().map(|(_, seq)| seq).collect()
    }

    /// The pause is over after which a refused record may be sent again.
    pub(crate) fn handle_retry(&mut self, node_id: &str, session: u64, seq: Seq) {
        if let Some(queue) = self.current(node_id, session) {
            for class in Class::ALL {
                if let Some(bytes) = queue.in_flight.remove(&(class, seq)) {
                    queue.queued.insert((class, seq), bytes);
                }
            }
        }
    }

    /// A record is given up: refused for good, or unreadable.
    pub(crate) fn handle_given_up(&mut self, node_id: &str, seq: Seq) {
        if let Some(queue) = self.nodes.get_mut(node_id) {
            for class in Class::ALL {
                queue.in_flight.remove(&(class, seq));
                queue.queued.remove(&(class, seq));
            }
        }
    }

    /// Records owed to each node, and whether it has a session.
    pub(crate) fn owed(&self) -> impl Iterator<Item = (&str, usize, bool)> {
        self.nodes.iter().map(|(node_id, queue)| {
            (node_id.as_str(), queue.queued.len() + queue.in_flight.len(), queue.is_connected)
        })
    }

    fn current(&mut self, node_id: &str, session: u64) -> Option<&mut Queue> {
        self.nodes.get_mut(node_id).filter(|queue| queue.session == session)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(messages: u32, bytes: u64) -> Budget {
        Budget::new(messages, bytes)
    }

    fn with_three() -> Outbound {
        let mut outbound = Outbound::default();
        for seq in [1, 3, 4] {
            outbound.handle_durable("a", Seq(seq), Priority::Normal, 10);
        }
        outbound.handle_durable("b", Seq(2), Priority::Normal, 10);
        outbound
    }

    fn set(seqs: &[u64]) -> SeqSet {
        seqs.iter().copied().map(Seq).collect()
    }

    #[test]
    fn a_node_gets_its_own_in_order_and_within_the_budget() {
        let mut outbound = with_three();
        assert_eq!(outbound.handle_connected("a", 1, u32::MAX, &SeqSet::new()), SeqSet::new());
        assert_eq!(outbound.poll_batch("a", 1, budget(2, 1000)), [Seq(1), Seq(3)]);
        assert_eq!(outbound.poll_batch("a", 1, budget(9, 5)), []);
        assert_eq!(outbound.poll_batch("a", 1, budget(9, 10)), [Seq(4)]);
        assert_eq!(outbound.poll_batch("b", 1, budget(9, 10)), [], "b has no session");
    }

    #[test]
    fn what_was_in_flight_goes_back_in_order() {
        let mut outbound = with_three();
        outbound.handle_connected("a", 1, u32::MAX, &SeqSet::new());
        outbound.poll_batch("a", 1, budget(9, 1000));
        assert_eq!(outbound.handle_ack("a", &set(&[3, 2])), set(&[3]));
        outbound.handle_lost("a", 1);
        assert_eq!(outbound.handle_connected("a", 2, u32::MAX, &set(&[1])), set(&[1]));
        assert_eq!(
            outbound.poll_batch("a", 1, budget(9, 1000)),
            [],
            "the old session gets nothing"
        );
        assert_eq!(outbound.poll_batch("a", 2, budget(9, 1000)), [Seq(4)]);
    }

    #[test]
    fn refused_for_now_and_for_good() {
        let mut outbound = with_three();
        outbound.handle_connected("a", 1, u32::MAX, &SeqSet::new());
        outbound.poll_batch("a", 1, budget(9, 1000));
        outbound.handle_retry("a", 1, Seq(3));
        outbound.handle_given_up("a", Seq(1));
        assert_eq!(outbound.poll_batch("a", 1, budget(9, 1000)), [Seq(3)]);
        assert_eq!(outbound.owed().next(), Some(("a", 2, true)));
    }

    #[test]
    fn what_is_critical_goes_first_and_has_room_of_its_own() {
        let mut outbound = with_three();
        outbound.handle_connected("a", 1, u32::MAX, &SeqSet::new());
        outbound.handle_durable("a", Seq(9), Priority::Critical, 1000);
        outbound.handle_durable("a", Seq(11), Priority::Critical, 1000);
        let none = budget(0, 0);
        let reserve = Budget { critical_messages: 1, critical_bytes: 1000, ..none };
        assert_eq!(outbound.poll_batch("a", 1, none), []);
        assert_eq!(outbound.poll_batch("a", 1, reserve), [Seq(9)]);
        let small = Budget { large_bytes_max: 9, ..budget(9, 5000) };
        assert_eq!(outbound.poll_batch("a", 1, small), [Seq(11)], "the others are too long");
        assert_eq!(outbound.handle_ack("a", &set(&[9])), set(&[9]));
        outbound.handle_lost("a", 1);
        outbound.handle_connected("a", 2, u32::MAX, &SeqSet::new());
        let all = outbound.poll_batch("a", 2, budget(9, 5000));
        assert_eq!(all, [Seq(11), Seq(1), Seq(3), Seq(4)]);
    }

    #[test]
    fn a_record_longer_than_the_node_takes_is_handed_over_and_stands_before_nothing() {
        let mut outbound = Outbound::default();
        for (seq, bytes) in [(1, 10), (2, 5_000), (3, 10)] {
            outbound.handle_durable("a", Seq(seq), Priority::Normal, bytes);
        }
        outbound.handle_connected("a", 1, 1_000, &SeqSet::new());
        assert_eq!(outbound.poll_batch("a", 1, budget(10, 1_000)), [Seq(1), Seq(2), Seq(3)]);
    }
}
