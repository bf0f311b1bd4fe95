//! The priority queue: references to durable records, in deficit round robin by bytes.
//!
//! Every round gives each class a quantum of bytes, 16 : 8 : 4 : 1; within a round the most urgent
//! class that has some left goes first. So an urgent message that arrives behind any backlog leaves
//! next, and with every class saturated the least urgent one still gets 1 of 29 bytes. A class
//! whose head waits long gains weight, up to that of `Critical`: nothing waits without bound.
//!
//! Not here: payloads, deadlines, ordering keys. Within a class the order is that of seq.
//!
//! Pushing in order, popping and putting back what was popped last are O(1).

use std::collections::VecDeque;

use alys_stream_protocol::message::{Priority, Seq};
use alys_stream_protocol::time::UnixMillis;

/// Bytes that weight 1 gets in one round. Small enough that one round of all but `Critical` fits
/// into one batch.
pub const QUANTUM_BYTES: i64 = 4 * 1024;

/// Weights by [`Priority::index`].
pub const WEIGHTS: [i64; 4] = [1, 4, 8, 16];

/// A head that has waited this long doubles the weight of its class, and again after as long.
pub const AGEING_MILLIS: u64 = 10_000;

/// A reference to a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Which record.
    pub seq: Seq,
    /// Bytes of its payload.
    pub bytes: u32,
    /// Since when it waits.
    pub since: UnixMillis,
}

#[derive(Debug, Default)]
struct Class {
    entries: VecDeque<Entry>,
    /// Bytes left in this round; negative after a large record.
    deficit: i64,
}

/// Four queues and whose turn it is.
#[derive(Debug)]
pub struct PriorityQueue {
    classes: [Class; 4],
}

impl Default for PriorityQueue {
    fn default() -> Self {
        let mut this = Self { classes: Default::default() };
        for (class, weight) in this.classes.iter_mut().zip(WEIGHTS) {
            class.deficit = weight * QUANTUM_BYTES;
        }
        this
    }
}

impl PriorityQueue {
    /// Nothing in it, a new round.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many entries are in it.
    #[must_use]
    pub fn count(&self) -> usize {
        self.classes.iter().map(|class| class.entries.len()).sum()
    }

    /// How many entries of one priority are in it.
    #[must_use]
    pub fn count_of(&self, priority: Priority) -> usize {
        self.classes.get(priority.index()).map_or(0, |class| class.entries.len())
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.classes.iter().all(|class| class.entries.is_empty())
    }

    /// Puts an entry where its seq belongs. One that is there already is not put twice.
    pub fn push(&mut self, priority: Priority, entry: Entry) {
        if let Some(class) = self.classes.get_mut(priority.index()) {
            insert_ordered(&mut class.entries, entry);
        }
    }

    /// What [`PriorityQueue::pop`] would take.
    pub fn peek(&mut self, now: UnixMillis) -> Option<(Priority, Entry)> {
        let priority = self.turn(now)?;
        let class = self.classes.get(priority.index())?;
        class.entries.front().map(|entry| (priority, *entry))
    }

    /// Takes the entry whose turn it is.
    pub fn pop(&mut self, now: UnixMillis) -> Option<(Priority, Entry)> {
        let priority = self.turn(now)?;
        let class = self.classes.get_mut(priority.index())?;
        let entry = class.entries.pop_front()?;
        // An empty payload costs something too.
        class.deficit -= i64::from(entry.bytes.max(1));
        Some((priority, entry))
    }

    /// Takes the entry whose turn it is without charging its class: it is not sent.
    pub fn discard(&mut self, now: UnixMillis) -> Option<(Priority, Entry)> {
        let priority = self.turn(now)?;
        let entry = self.classes.get_mut(priority.index())?.entries.pop_front()?;
        Some((priority, entry))
    }

    /// Keeps the entries for which `keep` says so.
    pub fn retain(&mut self, mut keep: impl FnMut(&Entry) -> bool) {
        for class in &mut self.classes {
            class.entries.retain(&mut keep);
        }
    }

    /// The class whose head goes next; begins new rounds as needed.
    fn turn(&mut self, now: UnixMillis) -> Option<Priority> {
        if let Some(priority) = self.credited() {
            return Some(priority);
        }
        // No class with entries has bytes left. As many rounds as it takes until one has: the
        // same as beginning them one by one, but O(1).
        let rounds = Priority::ALL
            .into_iter()
            .filter_map(|priority| {
                let class = self.classes.get(priority.index())?;
                let head = class.entries.front()?;
                let quantum = quantum(priority, head, now);
                Some((-class.deficit).div_euclid(quantum) + 1)
            })
            .min()?;
        for priority in Priority::ALL {
            if let Some(class) = self.classes.get_mut(priority.index()) {
                class.deficit = match class.entries.front() {
                    Some(head) => {
                        let quantum = quantum(priority, head, now);
                        (class.deficit + rounds * quantum).min(quantum)
                    }
                    // What was not used is not saved up; what was overdrawn is paid off.
                    None => {
                        let quantum = base_weight(priority) * QUANTUM_BYTES;
                        (class.deficit + rounds.saturating_mul(quantum)).min(quantum)
                    }
                };
            }
        }
        self.credited()
    }

    fn credited(&self) -> Option<Priority> {
        Priority::ALL.into_iter().find(|priority| {
            self.classes
                .get(priority.index())
                .is_some_and(|class| !class.entries.is_empty() && class.deficit > 0)
        })
    }
}

fn base_weight(priority: Priority) -> i64 {
    WEIGHTS.get(priority.index()).copied().unwrap_or(1)
}

fn quantum(priority: Priority, head: &Entry, now: UnixMillis) -> i64 {
    let waited = now.0.saturating_sub(head.since.0) / AGEING_MILLIS;
    let doublings = u32::try_from(waited.min(4)).unwrap_or(4);
    (base_weight(priority) << doublings).min(base_weight(Priority::Critical)) * QUANTUM_BYTES
}

/// Inserts by seq: O(1) at either end. An equal seq is not inserted twice.
pub(crate) fn insert_ordered(entries: &mut VecDeque<Entry>, entry: Entry) {
    if entries.back().is_none_or(|back| back.seq < entry.seq) {
        entries.push_back(entry);
    } else if entries.front().is_some_and(|front| entry.seq < front.seq) {
        entries.push_front(entry);
    } else if let Err(at) = entries.binary_search_by_key(&entry.seq, |entry| entry.seq) {
        entries.insert(at, entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_000_000);

    fn entry(seq: u64, bytes: u32) -> Entry {
        Entry { seq: Seq(seq), bytes, since: NOW }
    }

    #[test]
    fn a_critical_message_behind_saturating_low_leaves_next() {
        let mut queue = PriorityQueue::new();
        for seq in 1..=10_000 {
            queue.push(Priority::Low, entry(seq, 256));
        }
        for _ in 0..777 {
            assert_eq!(queue.pop(NOW).unwrap().0, Priority::Low);
        }
        queue.push(Priority::Critical, entry(10_001, 256));
        assert_eq!(queue.pop(NOW).unwrap().1.seq, Seq(10_001));
        assert_eq!(queue.pop(NOW).unwrap().1.seq, Seq(778));
    }

    #[test]
    fn shares_are_16_to_8_to_4_to_1_and_low_gets_at_least_3_percent() {
        let mut queue = PriorityQueue::new();
        let mut sent = [0_u64; 4];
        let mut seq = 0;
        for _ in 0..100_000 {
            for priority in Priority::ALL {
                while queue.count_of(priority) < 4 {
                    seq += 1;
                    queue.push(priority, entry(seq, 256));
                }
            }
            let (priority, entry) = queue.pop(NOW).unwrap();
            sent[priority.index()] += u64::from(entry.bytes);
        }
        let total: u64 = sent.iter().sum();
        let shares = sent.map(|bytes| bytes * 1000 / total);
        assert_eq!(shares, [34, 137, 275, 552]);
    }

    #[test]
    fn a_large_low_record_is_paid_off_before_the_next_one() {
        let mut queue = PriorityQueue::new();
        queue.push(Priority::Low, entry(1, 1024 * 1024));
        queue.push(Priority::Low, entry(2, 1024 * 1024));
        assert_eq!(queue.pop(NOW).unwrap().1.seq, Seq(1));
        for seq in 3..100 {
            queue.push(Priority::Normal, entry(seq, 16 * 1024));
        }
        // 1 MiB of Low is worth 4 MiB of Normal.
        for seq in 3..100 {
            assert_eq!(queue.pop(NOW).unwrap().1.seq, Seq(seq));
        }
        assert_eq!(queue.pop(NOW).unwrap().1.seq, Seq(2), "alone, it need not wait");
    }

    #[test]
    fn waiting_gains_weight() {
        let later = UnixMillis(NOW.0 + 4 * AGEING_MILLIS);
        let mut queue = PriorityQueue::new();
        let mut low = 0;
        for round in 0..10_000_u64 {
            queue.push(Priority::Low, entry(2 * round + 1, 1024));
            queue.push(Priority::Critical, Entry { since: later, ..entry(2 * round + 2, 1024) });
        }
        for _ in 0..10_000 {
            low += u32::from(queue.pop(later).unwrap().0 == Priority::Low);
        }
        assert!((4_900..5_100).contains(&low), "{low}");
    }

    #[test]
    fn order_within_a_class_is_that_of_seq_however_it_came() {
        let mut queue = PriorityQueue::new();
        for seq in [5, 6, 3, 9, 4, 6, 1] {
            queue.push(Priority::Normal, entry(seq, 1));
        }
        let order: Vec<u64> = std::iter::from_fn(|| queue.pop(NOW)).map(|(_, e)| e.seq.0).collect();
        assert_eq!(order, [1, 3, 4, 5, 6, 9]);
    }
}
