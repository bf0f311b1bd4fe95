//! The newest of something, with a bound.

use std::collections::VecDeque;

/// Keeps the newest values; the oldest give way. Counts all.
#[derive(Debug, Clone)]
pub(crate) struct Ring<T> {
    values: VecDeque<T>,
    most: usize,
    total: u64,
}

impl<T> Ring<T> {
    /// For at most so many values.
    pub(crate) const fn new(most: usize) -> Self {
        Self { values: VecDeque::new(), most, total: 0 }
    }

    /// Adds the newest.
    pub(crate) fn push(&mut self, value: T) {
        self.total = self.total.saturating_add(1);
        self.values.push_back(value);
        while self.values.len() > self.most {
            self.values.pop_front();
        }
    }

    /// Oldest first.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &T> {
        self.values.iter()
    }

    /// Oldest first, to be changed.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.values.iter_mut()
    }

    /// How many there ever were.
    pub(crate) const fn total(&self) -> u64 {
        self.total
    }
}

impl<T: Clone> Ring<T> {
    /// A copy, oldest first.
    pub(crate) fn to_vec(&self) -> Vec<T> {
        self.values.iter().cloned().collect()
    }
}
