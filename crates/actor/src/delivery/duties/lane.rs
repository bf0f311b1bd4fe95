//! What waits to be dealt with by an actor, in the order in which it came, with retries.
//!
//! Pure. One lane never holds up another, and one endpoint takes no room from another. What failed
//! for now is tried again after a backoff, and given up after [`ATTEMPTS_MAX`]; what is kept is
//! looked at again whenever something else was dealt with, and every [`KEPT_LOOK`]: it may have
//! lost its meaning.
//!
//! Invariants:
//! - A18: an item leaves a lane exactly once: done, or given up.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use alys_stream_messaging::outbox::EndpointId;

/// Attempts before something is given up: with the backoff below that is a quarter of an hour.
/// More bears a longer outage of an actor; fewer show it as dead letters sooner.
pub(super) const ATTEMPTS_MAX: u32 = 20;

/// The first wait before something is tried again; it doubles with each failure.
pub(super) const BACKOFF_MIN: Duration = Duration::from_millis(200);

/// The longest wait before something is tried again.
pub(super) const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// How often what is kept is looked at when nothing else happens.
pub(super) const KEPT_LOOK: Duration = Duration::from_secs(60);

/// Items of one endpoint in one lane from which on it is asked to come again later: one batch, and
/// the batch that it is in the middle of. Higher bears more pushes at once while an actor is away;
/// lower takes less memory.
pub(crate) const ITEMS_MAX: usize = 128;

/// The same in bytes of payload: a proposal has at most 1 MiB.
pub(super) const BYTES_MAX: usize = 4 * 1024 * 1024;

/// Who brought something; `None` when that is not known yet.
pub(super) type Owner = Option<EndpointId>;

/// What waits.
#[derive(Debug)]
pub(super) struct Lane<T> {
    ready: VecDeque<Waiting<T>>,
    later: BTreeMap<(Instant, u64), Waiting<T>>,
    kept: Vec<Waiting<T>>,
    /// When those are looked at again.
    look_at: Option<Instant>,
    /// Tells apart what is due at the same moment.
    next: u64,
    /// Items and bytes of each owner, the one that is being dealt with included.
    held: BTreeMap<Owner, (usize, usize)>,
}

/// Something that waits.
#[derive(Debug)]
pub(super) struct Waiting<T> {
    pub(super) item: T,
    /// Failed attempts.
    pub(super) failures: u32,
    owner: Owner,
    bytes: usize,
}

/// What is to be done next.
#[derive(Debug)]
pub(super) enum Next<T> {
    /// Deal with this one.
    Item(Waiting<T>),
    /// Nothing before this moment.
    At(Instant),
    /// Nothing until something arrives.
    Idle,
}

impl<T> Default for Lane<T> {
    fn default() -> Self {
        Self {
            ready: VecDeque::new(),
            later: BTreeMap::new(),
            kept: Vec::new(),
            look_at: None,
            next: 0,
            held: BTreeMap::new(),
        }
    }
}

impl<T> Lane<T> {
    /// Whether another one of this owner may come.
    pub(super) fn has_room(&self, owner: Owner) -> bool {
        let (items, bytes) = self.held.get(&owner).copied().unwrap_or_default();
        items < ITEMS_MAX && bytes < BYTES_MAX
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.held.values().map(|(items, _)| items).sum()
    }

    /// Something arrived. Its room was looked for before.
    pub(super) fn handle_arrived(&mut self, item: T, owner: Owner, bytes: usize) {
        let held = self.held.entry(owner).or_default();
        *held = (held.0 + 1, held.1 + bytes);
        self.ready.push_back(Waiting { item, failures: 0, owner, bytes });
    }

    /// What is due. It comes back with one of the methods below.
    pub(super) fn poll(&mut self, now: Instant) -> Next<T> {
        if self.look_at.is_some_and(|at| at <= now) {
            self.look_at_kept();
        }
        if self.later.first_key_value().is_some_and(|((due, _), _)| *due <= now)
            && let Some((_, waiting)) = self.later.pop_first()
        {
            return Next::Item(waiting);
        }
        if let Some(waiting) = self.ready.pop_front() {
            return Next::Item(waiting);
        }
        let due = self.later.first_key_value().map(|((due, _), _)| *due);
        due.into_iter().chain(self.look_at).min().map_or(Next::Idle, Next::At)
    }

    /// It was not dealt with for now. Gives it back when it was tried often enough.
    pub(super) fn handle_failed(&mut self, now: Instant, mut waiting: Waiting<T>) -> Option<T> {
        waiting.failures += 1;
        if waiting.failures >= ATTEMPTS_MAX {
            return Some(self.handle_done(waiting));
        }
        let doublings = (waiting.failures - 1).min(16);
        let wait = BACKOFF_MIN.saturating_mul(1 << doublings).min(BACKOFF_MAX);
        self.next += 1;
        self.later.insert((now + wait, self.next), waiting);
        None
    }

    /// It needs something that others bring.
    pub(super) fn handle_kept(&mut self, now: Instant, waiting: Waiting<T>) {
        self.look_at.get_or_insert(now + KEPT_LOOK);
        self.kept.push(waiting);
    }

    /// It is over. What is kept may be over with it.
    pub(super) fn handle_done(&mut self, waiting: Waiting<T>) -> T {
        let Waiting { item, owner, bytes, .. } = waiting;
        if let Some(held) = self.held.get_mut(&owner) {
            *held = (held.0.saturating_sub(1), held.1.saturating_sub(bytes));
            if held.0 == 0 {
                self.held.remove(&owner);
            }
        }
        self.look_at_kept();
        item
    }

    fn look_at_kept(&mut self) {
        self.look_at = None;
        self.ready.extend(self.kept.drain(..));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Owner = Some(EndpointId(0));

    fn item(next: Next<u32>) -> Waiting<u32> {
        match next {
            Next::Item(waiting) => waiting,
            Next::At(_) | Next::Idle => panic!("nothing is due"),
        }
    }

    #[test]
    fn what_fails_comes_again_later_and_is_given_up_in_the_end() {
        let mut lane = Lane::default();
        let mut now = tokio::time::Instant::now().into_std();
        lane.handle_arrived(1, ONE, 10);
        lane.handle_arrived(2, ONE, 10);
        let mut first = item(lane.poll(now));
        let mut waited = Duration::ZERO;
        let given_up = loop {
            if let Some(given_up) = lane.handle_failed(now, first) {
                break given_up;
            }
            let second = lane.poll(now);
            if let Next::Item(second) = second {
                assert_eq!(lane.handle_done(second), 2, "it is not held up");
            }
            let Next::At(due) = lane.poll(now) else { panic!("it waits") };
            waited += due - now;
            now = due;
            first = item(lane.poll(now));
        };
        assert_eq!((given_up, lane.len()), (1, 0));
        assert!(waited > Duration::from_secs(600), "{waited:?}");
        assert!(matches!(lane.poll(now), Next::Idle));
    }

    #[test]
    fn what_is_kept_is_looked_at_again_after_each_other() {
        let mut lane = Lane::default();
        let now = tokio::time::Instant::now().into_std();
        lane.handle_arrived(1, ONE, 10);
        let kept = item(lane.poll(now));
        lane.handle_kept(now, kept);
        assert!(matches!(lane.poll(now), Next::At(due) if due == now + KEPT_LOOK));
        lane.handle_arrived(2, ONE, 10);
        let other = item(lane.poll(now));
        assert_eq!(lane.handle_done(other), 2);
        let kept = item(lane.poll(now));
        assert_eq!(kept.item, 1);
        // And every minute, since it may have lost its meaning.
        lane.handle_kept(now, kept);
        assert_eq!(item(lane.poll(now + KEPT_LOOK)).item, 1);
    }

    #[test]
    fn the_room_of_each_endpoint_is_bounded_in_items_and_bytes() {
        let mut lane = Lane::default();
        let now = tokio::time::Instant::now().into_std();
        for number in 0..u32::try_from(ITEMS_MAX).unwrap() {
            assert!(lane.has_room(ONE));
            lane.handle_arrived(number, ONE, 1);
        }
        assert!(!lane.has_room(ONE));
        assert!(lane.has_room(Some(EndpointId(1))), "one takes no room from another");
        let first = item(lane.poll(now));
        lane.handle_done(first);
        assert!(lane.has_room(ONE));
        lane.handle_arrived(0, ONE, BYTES_MAX);
        assert!(!lane.has_room(ONE));
        while let Next::Item(waiting) = lane.poll(now) {
            lane.handle_done(waiting);
        }
        assert!(lane.has_room(ONE) && lane.held.is_empty());
    }
}
