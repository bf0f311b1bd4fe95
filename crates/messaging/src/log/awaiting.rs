//! Callers that wait until a position is reached; a commit wakes those alone that it is about.
//!
//! Names nothing but the primitives of `sync`, as the hand-off does, and is walked through every
//! interleaving by the same test. Not here: what wakes a caller ([`super::shared`]).
//!
//! Invariants:
//! - M39: whoever waits is woken once its position is reached or the log has ended, whichever comes
//!   first, and by nothing else.

use std::collections::VecDeque;
use std::sync::PoisonError;

use super::sync::{Mutex, MutexGuard};

/// Where a caller stands in line: by position, and among equals by arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    position: u64,
    arrival: u64,
}

/// What a caller that asks is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    Reached,
    /// The log ended before.
    Over,
    /// It is in line.
    Waits,
}

#[derive(Debug)]
struct Line<W> {
    reached: u64,
    is_over: bool,
    arrivals: u64,
    /// In order. Of those that left the places stay until they are the first or the last one.
    waiting: VecDeque<(Place, Option<W>)>,
}

#[derive(Debug)]
pub(super) struct Awaiting<W> {
    line: Mutex<Line<W>>,
}

impl<W> Awaiting<W> {
    pub(super) fn new(reached: u64) -> Self {
        let waiting = VecDeque::new();
        Self { line: Mutex::new(Line { reached, is_over: false, arrivals: 0, waiting }) }
    }

    /// Looks whether a position is reached; if not, whoever asks waits in line with `who`, in the
    /// place that it has already if it has one.
    pub(super) fn ask(
        &self,
        position: u64,
        place: &mut Option<Place>,
        who: impl FnOnce() -> W,
    ) -> Standing {
        let mut line = self.lock();
        let standing = line.standing(position);
        if standing != Standing::Waits {
            // It was taken out of the line by what made it so.
            *place = None;
            return standing;
        }
        match place.and_then(|place| line.find(place)) {
            Some(at) => {
                if let Some((_, waiting)) = line.waiting.get_mut(at) {
                    *waiting = Some(who());
                }
            }
            None => *place = Some(line.join(position, who())),
        }
        Standing::Waits
    }

    /// Whoever has this place waits no more.
    pub(super) fn leave(&self, place: Place) {
        let mut line = self.lock();
        if let Some(at) = line.find(place)
            && let Some((_, waiting)) = line.waiting.get_mut(at)
        {
            *waiting = None;
        }
        while line.waiting.front().is_some_and(|(_, waiting)| waiting.is_none()) {
            line.waiting.pop_front();
        }
        while line.waiting.back().is_some_and(|(_, waiting)| waiting.is_none()) {
            line.waiting.pop_back();
        }
    }

    /// Everything up to `position` is reached. Adds whom that is to be told.
    pub(super) fn reach(&self, position: u64, told: &mut Vec<W>) {
        let mut line = self.lock();
        line.reached = line.reached.max(position);
        let reached = line.waiting.partition_point(|(place, _)| place.position <= position);
        told.extend(line.waiting.drain(..reached).filter_map(|(_, waiting)| waiting));
    }

    /// Nothing more is ever reached. Adds whom that is to be told.
    pub(super) fn end(&self, told: &mut Vec<W>) {
        let mut line = self.lock();
        line.is_over = true;
        told.extend(line.waiting.drain(..).filter_map(|(_, waiting)| waiting));
    }

    /// A panic while it is held would be a bug of this crate; what it guards is changed in steps
    /// that leave it whole, so going on is right.
    fn lock(&self) -> MutexGuard<'_, Line<W>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<W> Line<W> {
    const fn standing(&self, position: u64) -> Standing {
        if position <= self.reached {
            Standing::Reached
        } else if self.is_over {
            Standing::Over
        } else {
            Standing::Waits
        }
    }

    fn find(&self, place: Place) -> Option<usize> {
        self.waiting.binary_search_by_key(&place, |(place, _)| *place).ok()
    }

    /// Callers come almost in the order of their positions: the place is looked for from the end.
    fn join(&mut self, position: u64, who: W) -> Place {
        self.arrivals += 1;
        let place = Place { position, arrival: self.arrivals };
        let behind = self.waiting.iter().rev().take_while(|(other, _)| *other > place).count();
        self.waiting.insert(self.waiting.len() - behind, (place, Some(who)));
        place
    }
}
