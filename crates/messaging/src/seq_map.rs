//! Values by sequence number, for numbers that mostly are neighbours and mostly leave in order.
//!
//! The values lie in a slab; pages of 64 numbers say where. So a look costs one step through a
//! small tree whatever the size of a value, an insertion moves no other value, and scattered
//! numbers cost a page each, not a page of values.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use alys_stream_protocol::message::Seq;

/// Numbers of one page.
const PAGE_SEQS: u64 = 64;
const PAGE_LENGTH: usize = 64;

/// A place in the slab that is none.
const NONE: u32 = u32::MAX;

#[derive(Debug)]
struct Page {
    places: [u32; PAGE_LENGTH],
    count: u32,
}

#[derive(Debug)]
pub(crate) struct SeqMap<T> {
    pages: BTreeMap<u64, Page>,
    slab: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for SeqMap<T> {
    fn default() -> Self {
        Self { pages: BTreeMap::new(), slab: Vec::new(), free: Vec::new() }
    }
}

impl<T> SeqMap<T> {
    pub(crate) fn len(&self) -> usize {
        self.slab.len() - self.free.len()
    }

    pub(crate) fn contains_key(&self, seq: &Seq) -> bool {
        self.place(*seq).is_some()
    }

    pub(crate) fn get(&self, seq: &Seq) -> Option<&T> {
        self.slab.get(self.place(*seq)?)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, seq: &Seq) -> Option<&mut T> {
        let place = self.place(*seq)?;
        self.slab.get_mut(place)?.as_mut()
    }

    /// Puts a value; gives back the one that was there.
    pub(crate) fn insert(&mut self, seq: Seq, value: T) -> Option<T> {
        if let Some(present) = self.get_mut(&seq) {
            return Some(std::mem::replace(present, value));
        }
        let place = self.take_place(value);
        let (number, index) = address(seq);
        let page = self.pages.entry(number).or_insert_with(Page::new);
        if let Some(free) = page.places.get_mut(index) {
            *free = place;
            page.count += 1;
        }
        None
    }

    pub(crate) fn remove(&mut self, seq: &Seq) -> Option<T> {
        let (number, index) = address(*seq);
        let page = self.pages.get_mut(&number)?;
        let place = std::mem::replace(page.places.get_mut(index)?, NONE);
        let at = usize::try_from(place).ok().filter(|_| place != NONE)?;
        page.count -= 1;
        if page.count == 0 {
            self.pages.remove(&number);
        }
        let value = self.slab.get_mut(at).and_then(Option::take);
        self.free.push(place);
        if self.pages.is_empty() {
            // What a long backlog took is given back.
            *self = Self::default();
        }
        value
    }

    /// The numbers, lowest first.
    pub(crate) fn keys(&self) -> impl Iterator<Item = Seq> + '_ {
        self.pages.iter().flat_map(|(number, page)| page.seqs(*number))
    }

    /// The numbers within a range, lowest first.
    pub(crate) fn keys_in(&self, range: RangeInclusive<Seq>) -> impl Iterator<Item = Seq> + '_ {
        let pages =
            address(*range.start()).0..=address(*range.end()).0.max(address(*range.start()).0);
        let pages = self.pages.range(pages);
        pages.flat_map(|(number, page)| page.seqs(*number)).filter(move |seq| range.contains(seq))
    }

    /// The values, in no order.
    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.slab.iter_mut().flatten()
    }

    fn place(&self, seq: Seq) -> Option<usize> {
        let (number, index) = address(seq);
        let place = *self.pages.get(&number)?.places.get(index)?;
        usize::try_from(place).ok().filter(|_| place != NONE)
    }

    fn take_place(&mut self, value: T) -> u32 {
        if let Some(place) = self.free.pop()
            && let Some(slot) = usize::try_from(place).ok().and_then(|at| self.slab.get_mut(at))
        {
            *slot = Some(value);
            return place;
        }
        self.slab.push(Some(value));
        u32::try_from(self.slab.len() - 1).unwrap_or(NONE)
    }
}

impl Page {
    const fn new() -> Self {
        Self { places: [NONE; PAGE_LENGTH], count: 0 }
    }

    fn seqs(&self, number: u64) -> impl Iterator<Item = Seq> + '_ {
        let places = (number * PAGE_SEQS..).zip(&self.places);
        places.filter(|(_, place)| **place != NONE).map(|(seq, _)| Seq(seq))
    }
}

/// The page of a number, and where in it.
fn address(seq: Seq) -> (u64, usize) {
    (seq.0 / PAGE_SEQS, usize::try_from(seq.0 % PAGE_SEQS).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn behaves_like_an_ordered_map(
            actions in prop::collection::vec((0..4_u8, 1..400_u64, 0..300_u64), 0..300),
        ) {
            let (mut map, mut model) = (SeqMap::default(), BTreeMap::new());
            for (action, seq, more) in actions {
                let seq = Seq(seq);
                match action {
                    0 | 1 => prop_assert_eq!(map.insert(seq, more), model.insert(seq, more)),
                    2 => prop_assert_eq!(map.remove(&seq), model.remove(&seq)),
                    _ => {
                        if let Some(value) = map.get_mut(&seq) {
                            *value += 1;
                        }
                        model.entry(seq).and_modify(|value| *value += 1);
                    }
                }
                prop_assert_eq!(map.len(), model.len());
                prop_assert_eq!(map.get(&seq), model.get(&seq));
                prop_assert_eq!(map.contains_key(&seq), model.contains_key(&seq));
                prop_assert!(map.keys().eq(model.keys().copied()));
                let range = seq..=Seq(seq.0 + more);
                let expected = model.range(range.clone()).map(|(seq, _)| *seq);
                prop_assert!(map.keys_in(range).eq(expected));
                let mut values: Vec<u64> = map.values_mut().map(|value| *value).collect();
                let mut expected: Vec<u64> = model.values().copied().collect();
                values.sort_unstable();
                expected.sort_unstable();
                prop_assert_eq!(values, expected);
            }
        }
    }
}
