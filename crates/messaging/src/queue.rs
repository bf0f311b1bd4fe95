//! The priority queue: references to durable records, in deficit round robin by bytes.
//!
//! Every round gives each class a quantum of bytes, 16 : 8 : 4 : 1; within a round the most urgent
//! class that has some left goes first. So an urgent message that arrives behind any backlog leaves
//! next, and with every class saturated the least urgent one still gets 1 of 29 bytes. A class
//! whose head waits long gains weight, up to that of `Critical`: nothing waits without bound.
//!
//! Whoever takes entries may pass classes over for now, because their heads do not fit. Such a class
//! is not charged, and the rounds that others begin meanwhile give it what it would have had, at most
//! one round's worth: it takes its turn as soon as it is not passed over any more, and no more than
//! its turn.
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

/// Classes that are passed over for now: a bit for each, by its index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Passed(u8);

impl Passed {
    /// None is.
    pub const NONE: Self = Self(0);

    /// All but one, and `Critical`.
    #[must_use]
    pub const fn all_below_critical_but(priority: Priority) -> Self {
        Self(0b1111 & !(bit(priority) | bit(Priority::Critical)))
    }

    /// Those of both.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// This one is, too.
    pub const fn insert(&mut self, priority: Priority) {
        self.0 |= bit(priority);
    }

    /// Whether a class is.
    #[must_use]
    pub const fn contains(self, priority: Priority) -> bool {
        self.0 & bit(priority) != 0
    }
}

const fn bit(priority: Priority) -> u8 {
    1 << priority.index()
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

    /// What [`PriorityQueue::pop`] would take if these classes were empty.
    pub fn peek(&mut self, now: UnixMillis, passed: Passed) -> Option<(Priority, Entry)> {
        let priority = self.turn(now, passed)?;
        let class = self.classes.get(priority.index())?;
        class.entries.front().map(|entry| (priority, *entry))
    }

    /// Takes the entry whose turn it is.
    pub fn pop(&mut self, now: UnixMillis) -> Option<(Priority, Entry)> {
        let priority = self.turn(now, Passed::NONE)?;
        self.take(priority).map(|entry| (priority, entry))
    }

    /// Takes the head of a class, and charges it.
    pub fn take(&mut self, priority: Priority) -> Option<Entry> {
        let class = self.classes.get_mut(priority.index())?;
        let entry = class.entries.pop_front()?;
        // An empty payload costs something too.
        class.deficit -= i64::from(entry.bytes.max(1));
        Some(entry)
    }

    /// Takes the head of a class without charging it: it is not sent.
    pub fn discard(&mut self, priority: Priority) -> Option<Entry> {
        self.classes.get_mut(priority.index())?.entries.pop_front()
    }

    /// The class whose head goes next; begins new rounds as needed.
    fn turn(&mut self, now: UnixMillis, passed: Passed) -> Option<Priority> {
        if let Some(priority) = self.credited(passed) {
            return Some(priority);
        }
        // No class that may go has bytes left. As many rounds as it takes until one has: the same
        // as beginning them one by one, but O(1).
        let rounds = Priority::ALL
            .into_iter()
            .filter(|priority| !passed.contains(*priority))
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
        self.credited(passed)
    }

    fn credited(&self, passed: Passed) -> Option<Priority> {
        Priority::ALL.into_iter().find(|priority| {
            self.classes
                .get(priority.index())
                .is_some_and(|class| !class.entries.is_empty() && class.deficit > 0)
                && !passed.contains(*priority)
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
mod tests;
