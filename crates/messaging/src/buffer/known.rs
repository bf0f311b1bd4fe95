//! The cache of what is known of single unsettled messages: whole pages, up to a number of bytes;
//! the one used longest ago goes first. Pure.
//!
//! Not here: whether a message is unsettled; pages say that.

use std::collections::BTreeMap;

use super::page::number_of;
use crate::log::Location;
use crate::record::RecordMeta;

/// A durable message.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) meta: RecordMeta,
    pub(super) location: Location,
}

#[derive(Debug, Default)]
struct KnownPage {
    /// In order of seq.
    known: Vec<Known>,
    used_at: u64,
    bytes: u64,
}

#[derive(Debug)]
pub(super) struct KnownPages {
    pages: BTreeMap<u64, KnownPage>,
    /// When each page was used last → which.
    by_use: BTreeMap<u64, u64>,
    uses: u64,
    bytes: u64,
    bytes_max: u64,
    /// The room of a page that went, for the next one.
    spare: Vec<Known>,
}

/// How many messages the vector of a page has room for from the start.
const PAGE_LENGTH: usize = 128;

/// Bytes of a page besides its messages.
const PAGE_OVERHEAD_BYTES: usize = 128;

impl KnownPages {
    pub(super) const fn new(bytes_max: u64) -> Self {
        Self {
            pages: BTreeMap::new(),
            by_use: BTreeMap::new(),
            uses: 0,
            bytes: 0,
            bytes_max,
            spare: Vec::new(),
        }
    }

    /// Bytes of memory.
    #[cfg(test)]
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What is known of a message, without counting as a use.
    pub(super) fn peek(&self, seq: u64) -> Option<&Known> {
        self.pages.get(&number_of(seq))?.find(seq)
    }

    /// What is known of a message.
    pub(super) fn get(&mut self, seq: u64) -> Option<&Known> {
        let number = number_of(seq);
        self.touch(number);
        self.pages.get(&number)?.find(seq)
    }

    /// Adds a message that became durable. Messages of a page come in order; one that does not fit
    /// that order is left out, to be read back when it is needed.
    pub(super) fn push(&mut self, known: Known) {
        let number = number_of(known.meta.seq.0);
        if !self.pages.contains_key(&number) {
            let mut spare = std::mem::take(&mut self.spare);
            spare.clear();
            spare.reserve(PAGE_LENGTH);
            self.insert(number, spare);
        }
        self.touch(number);
        if let Some(page) = self.pages.get_mut(&number)
            && page.known.last().is_none_or(|last| last.meta.seq < known.meta.seq)
        {
            self.bytes -= page.bytes;
            let key = key_bytes(&known);
            page.known.push(known);
            page.bytes = page.bytes.max(bytes_of(page.known.capacity())) + key;
            self.bytes += page.bytes;
        }
        self.trim();
    }

    /// Puts a page that was read back; `known` is in order of seq.
    pub(super) fn put(&mut self, number: u64, known: Vec<Known>) {
        self.remove(number);
        if !known.is_empty() {
            self.insert(number, known);
            self.trim();
        }
    }

    /// Forgets a page: nothing of it is unsettled any more.
    pub(super) fn remove(&mut self, number: u64) {
        if let Some(mut page) = self.pages.remove(&number) {
            self.by_use.remove(&page.used_at);
            self.bytes -= page.bytes;
            page.known.clear();
            self.spare = page.known;
        }
    }

    fn insert(&mut self, number: u64, known: Vec<Known>) {
        self.uses += 1;
        let used_at = self.uses;
        let bytes = bytes_of(known.capacity()) + known.iter().map(key_bytes).sum::<u64>();
        self.bytes += bytes;
        self.by_use.insert(used_at, number);
        self.pages.insert(number, KnownPage { known, used_at, bytes });
    }

    fn touch(&mut self, number: u64) {
        if let Some(page) = self.pages.get_mut(&number)
            && page.used_at != self.uses
        {
            self.uses += 1;
            self.by_use.remove(&page.used_at);
            page.used_at = self.uses;
            self.by_use.insert(self.uses, number);
        }
    }

    /// Keeps the bound. The page in use stays, whatever it takes.
    fn trim(&mut self) {
        while self.bytes > self.bytes_max && self.pages.len() > 1 {
            let Some((_, number)) = self.by_use.first_key_value() else {
                return;
            };
            self.remove(*number);
        }
    }
}

impl KnownPage {
    fn find(&self, seq: u64) -> Option<&Known> {
        let at = self.known.binary_search_by_key(&seq, |known| known.meta.seq.0).ok()?;
        self.known.get(at)
    }
}

fn bytes_of(length: usize) -> u64 {
    u64::try_from(length * size_of::<Known>() + PAGE_OVERHEAD_BYTES).unwrap_or(u64::MAX)
}

fn key_bytes(known: &Known) -> u64 {
    let key = known.meta.ordering_key.as_ref();
    key.map_or(0, |key| u64::try_from(key.as_bytes().len() + 64).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use alys_stream_protocol::message::{MessageId, MessageKind, Priority, Seq};
    use alys_stream_protocol::time::UnixMillis;

    use super::*;

    fn known(seq: u64) -> Known {
        let meta = RecordMeta {
            seq: Seq(seq),
            id: MessageId::new([0; 16]),
            kind: MessageKind(1000),
            priority: Priority::Low,
            deadline: None,
            ordering_key: None,
            payload_bytes: 1,
            accepted_at: UnixMillis(seq),
        };
        Known { meta, location: Location::default() }
    }

    #[test]
    fn the_page_used_longest_ago_goes_first_and_the_one_in_use_never() {
        let page = bytes_of(PAGE_LENGTH);
        let mut pages = KnownPages::new(2 * page);
        for seq in [1, 2, 130, 260] {
            pages.push(known(seq));
        }
        assert!(pages.bytes() <= 2 * page);
        assert!(pages.peek(2).is_none() && pages.peek(130).is_some());
        assert_eq!(pages.get(130).map(|known| known.meta.accepted_at.0), Some(130));
        pages.put(0, vec![known(1), known(2)]);
        assert!(pages.peek(260).is_none() && pages.peek(130).is_some() && pages.peek(2).is_some());
        let mut tiny = KnownPages::new(0);
        tiny.push(known(5));
        tiny.push(known(4));
        assert!(tiny.peek(5).is_some() && tiny.peek(4).is_none(), "out of order is left out");
        tiny.push(known(300));
        assert!(tiny.peek(5).is_none() && tiny.peek(300).is_some());
        tiny.remove(2);
        assert_eq!(tiny.bytes(), 0);
    }
}
